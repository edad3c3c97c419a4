"""The memory that training and validation need on photos: `python -m benchmarks.memory`.

Each row is a process of its own: Conv4-32 with max-pools on photos of 84 x 84 (random pixels), 5-way with 15 queries,
second order, 5 inner steps. The figure is the peak of the process (VmHWM) less that of one that only imports. Kernels
are used where an earlier training has compiled them.
"""

import argparse
import statistics
import subprocess
import sys
from functools import partial

import torch

from benchmarks.conditions import Conditions
from benchmarks.step import SHAPES, most_used
from metalearn_cli.algorithms import maml
from metalearn_cli.backbones import conv4
from metalearn_cli.core.meta import Problem
from metalearn_cli.core.objectives import classification
from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.experiment.blocks import Execution
from metalearn_cli.layers.network import Network
from metalearn_cli.runtime.machine.compiled import loaded
from metalearn_cli.runtime.machine.execution import plan_for, running
from metalearn_cli.runtime.run.evaluation import EPISODES_AT_ONCE, scores_of

WORK = ("training, 4 tasks", "validation, 32 episodes")
ROWS = {f"{work}, {shots} shot{'s' * (shots > 1)}": (work, shots) for shots in (1, 5) for work in WORK}
_SHAPE = SHAPES["miniimagenet 5w1s"]


def tasks_of(shots: int, _iteration: int, numbers: range) -> Task:
    """The tasks with these numbers, of random pixels."""

    def examples(each: int) -> Examples:
        targets = torch.arange(_SHAPE.ways).repeat_interleave(each).expand(len(numbers), -1)
        return Examples(torch.rand(len(numbers), _SHAPE.ways * each, *_SHAPE.size), targets, _SHAPE.ways)

    return Task(examples(shots), examples(_SHAPE.queries))


def peak_of(row: str) -> float:
    """MB of a row in this process."""
    (work, shots), before = ROWS[row], most_used()
    shape, sampler = _SHAPE._replace(shots=shots), partial(tasks_of, shots)
    module = conv4.build(conv4.Config(channels=shape.channels, pool=True), shape.size, shape.ways)
    config, kernels = maml.Config(inner_lr=0.1, inner_steps=shape.steps), loaded()
    network = Network(module, kernels=kernels)
    learner = maml.build(config, Problem(network, classification, "transductive", shape.ways))
    training = work == WORK[0]
    tasks = shape.tasks if training else EPISODES_AT_ONCE
    plan = plan_for(torch.device("cpu"), Execution(), shape.values, tasks, kernels is not None)
    with running(plan) as runner:
        meta = learner.init()
        if training:
            for _ in range(2):
                runner.total(learner.meta_gradient, meta, sampler(0, range(tasks)))
        else:
            scores_of(learner, runner, meta, sampler, steps=shape.steps, episodes=EPISODES_AT_ONCE)
    return most_used() - before


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(peak_of(arguments.only))
        return
    conditions = Conditions()
    print("| work | peak, MB (smallest to largest) |\n|---|---|")
    for row in ROWS:
        conditions.look(peak=False)
        command = [sys.executable, "-m", "benchmarks.memory", "--only", row]
        found = [float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
                 for _ in range(arguments.rounds)]  # fmt: skip
        print(f"| {row} | {statistics.median(found):,.0f} ({min(found):,.0f} to {max(found):,.0f}) |", flush=True)
    print(f"\n{conditions.line()}")


if __name__ == "__main__":
    main()
