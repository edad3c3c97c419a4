"""Training on features, 1,280 of a picture: `python -m benchmarks.features`.

Tasks a second of the meta-gradient alone, without the drawing of tasks, of one thread, in seconds of the processor:
what other programs do on the machine hardly counts. One process; 5-way 5-shot with `--queries` queries of each class.
"""

import argparse
import time

import torch

from metalearn_cli.core.objectives import classification
from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.experiment import from_mapping
from metalearn_cli.runtime.data.interface import Interface
from metalearn_cli.runtime.data.sampling import TaskSpec
from metalearn_cli.runtime.machine.execution import plan_for, running
from metalearn_cli.runtime.run.assembly import learner_for

FEATURES, WAYS, SHOTS = 1280, 5, 5
LEARNERS = {
    "prototypes, identity": ("prototypes", {"name": "identity"}),
    "protonet, linear": ("protonet", {"name": "linear"}),
    "protonet, mlp of 256": ("protonet", {"name": "mlp", "hidden": [256]}),
    "protonet, mlp of 64": ("protonet", {"name": "mlp", "hidden": [64]}),
    "anil, mlp of 64": ("anil", {"name": "mlp", "hidden": [64]}),
}


def main() -> None:
    """Print a line for each learner."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.features", description=__doc__)
    parser.add_argument("--queries", type=int, default=15)
    parser.add_argument("--tasks", type=int, default=64, help="of a meta-batch")
    parser.add_argument("--seconds", type=float, default=3.0, help="of the processor, for each learner")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, (algorithm, backbone) in LEARNERS.items():
        rate = tasks_per_second(algorithm, backbone, options.queries, options.tasks, seconds=options.seconds)
        print(f"{name:24} {rate:8,.0f} tasks a second of one core", flush=True)


def tasks_per_second(algorithm: str, backbone: object, queries: int, tasks: int, *, seconds: float) -> float:
    """How many tasks one core learns from in a second."""
    blocks = {"dataset": {"name": "glyphs"}, "backbone": backbone, "algorithm": {"name": algorithm}}
    experiment = from_mapping({"name": "features", **blocks, "execution": {"threads": 1}}, "benchmark")
    learner = learner_for(experiment, Interface((FEATURES,), WAYS, classification, None), "support")
    meta, spec = learner.init(), TaskSpec(WAYS, SHOTS, queries)
    drawn = Task(_examples(tasks, SHOTS), _examples(tasks, queries))
    plan = plan_for(torch.device("cpu"), experiment.execution, spec.values((FEATURES,)), tasks)
    with running(plan) as runner:
        runner.total(learner.meta_gradient, meta, drawn)
        begun, batches = time.process_time(), 0
        while time.process_time() - begun < seconds:
            runner.total(learner.meta_gradient, meta, drawn)
            batches += 1
        return batches * tasks / (time.process_time() - begun)


def _examples(tasks: int, each: int) -> Examples:
    generator = torch.Generator().manual_seed(each)
    targets = torch.arange(WAYS).repeat_interleave(each).expand(tasks, -1)
    return Examples(torch.randn(tasks, WAYS * each, FEATURES, generator=generator), targets, WAYS)


if __name__ == "__main__":
    main()
