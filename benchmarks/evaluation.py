"""How fast episodes are measured, and where a command's seconds go: `python -m benchmarks.evaluation`.

Three tables. On Omniglot 5-way 1-shot (METALEARN_DATA has it prepared; conv4-64, 15 queries, learners of a few
iterations in a temporary folder): episodes a second of what `eval` measures, beside a plain loop over the same 200
episodes that also scores the queries before and after every inner step; and the whole command
`metalearn eval --episodes 1000` by its parts. Then what the page report.html adds to a training of `quickstart`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.conditions import Conditions
from benchmarks.rivals import plain_conv4
from benchmarks.step import SHAPES, as_torch_comes
from metalearn_cli.core.tasks import Task
from metalearn_cli.runtime.machine.execution import running, usable_cores
from metalearn_cli.runtime.machine.matrix_products import products_in
from metalearn_cli.runtime.run.evaluation import scores_of
from metalearn_cli.runtime.use.episode_answers import Subject
from metalearn_cli.runtime.use.measurement import evaluate

LEARNERS = {
    "maml": ("--set", "outer.iterations=3"),
    "protonet": (
        "--set",
        "outer.iterations=3",
        "--set",
        "algorithm={name: protonet}",
        "--set",
        "eval.inner_steps=null",
    ),
}
RATE = 2.0
"""The inner rate of omniglot/5way1shot."""
PARTS = {
    "start, up to torch and the checkpoint": lambda s: s["started"],
    "drawing episodes": lambda s: s["drawing"],
    "adapting, answering": lambda s: s["scores_of"] - s["drawing"],
    "promises, on 2 x 200 tasks": lambda s: s["answered_alone"],
    "opening data and learner, summing up": lambda s: s["evaluate"] - s["scores_of"] - s["answered_alone"],
    "tables, end of the process": lambda s: s["all"] - s["started"] - s["evaluate"],
}


def trained(folder: Path, learner: str) -> Path:
    """A checkpoint of a few iterations."""
    command = ["train", "omniglot/5way1shot", "--run-dir", str(folder / learner), *LEARNERS[learner]]
    command = [sys.executable, "-m", "metalearn_cli", *command, "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # errors are said
    return folder / learner / "checkpoints" / "best.pt"


def plain_maml(module: torch.nn.Module, task: Task, steps: int) -> list[float]:
    """The accuracy before and after every inner step of one task; no graph is kept."""
    (x_s, y_s), (x_q, y_q) = ([values[0] for values in half[:2]] for half in task)
    params = {name: value.detach().requires_grad_() for name, value in module.named_parameters()}
    scores = []
    for step in range(steps + 1):
        with torch.no_grad():
            right = torch.func.functional_call(module, params, (x_q,)).argmax(1) == y_q
        scores.append(float(right.float().mean()))
        if step < steps:
            loss = F.cross_entropy(torch.func.functional_call(module, params, (x_s,)), y_s)
            grads = torch.autograd.grad(loss, list(params.values()))
            params = {
                name: (value - RATE * grad).detach().requires_grad_()
                for (name, value), grad in zip(params.items(), grads, strict=True)
            }
    return scores


@torch.no_grad()
def plain_protonet(module: torch.nn.Module, task: Task, _steps: int) -> list[float]:
    """The accuracy in one task."""
    (x_s, y_s), (x_q, y_q) = ([values[0] for values in half[:2]] for half in task)
    features, asked = module[:-1](x_s), module[:-1](x_q)
    prototypes = torch.stack([features[y_s == way].mean(0) for way in range(int(y_s.max()) + 1)])
    return [float((torch.cdist(asked, prototypes).argmin(1) == y_q).float().mean())]


PLAIN: dict[str, Callable[[torch.nn.Module, Task, int], list[float]]] = {"maml": plain_maml, "protonet": plain_protonet}


def both(learner: str, subject: Subject, episodes: int) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """The plain loop and ours: functions that return the scores [episodes, steps + 1]."""
    shape = SHAPES["omniglot 5w1s"]
    module = plain_conv4(shape.size, shape.channels, shape.pool, shape.ways)
    module.load_state_dict(dict(zip(module.state_dict(), subject.meta.params.values(), strict=True)))

    def plain() -> Tensor:
        torch.set_num_threads(usable_cores())
        return torch.tensor(
            [PLAIN[learner](module, subject.sampler(0, [number]), subject.steps) for number in range(episodes)]
        )

    def ours() -> Tensor:
        with running(subject.plan) as runner, products_in("float32"):
            found = scores_of(subject.learner, runner, subject.meta, subject.sampler, subject.steps, episodes)
        return found.score

    return as_torch_comes(plain), ours


def measure_episodes(checkpoints: dict[str, Path], episodes: int, rounds: int) -> None:
    """Print the table of episodes a second."""
    conditions = Conditions()
    print("| learner | plain loop, episodes/s | metalearn, episodes/s | times (quartiles) |\n|---|---|---|---|")
    for learner, path in checkpoints.items():
        subject = evaluate(path, ["eval.val_episodes=2"], episodes=2).subject
        rows = both(learner, subject, episodes)
        few = [row().mean(0) for row in both(learner, subject, 32)]
        if float((few[0] - few[1]).abs().max()) > 0.01:
            print(f"{learner}: the accuracies differ, {few[0].tolist()} and {few[1].tolist()}", file=sys.stderr)
        taken = []
        for _ in range(rounds):
            conditions.look()
            taken.append([seconds_of(row) for row in rows])
        plain, ours = (episodes / statistics.median(column) for column in zip(*taken, strict=True))
        low, middle, high = statistics.quantiles([theirs / own for theirs, own in taken], n=4)
        print(f"| {learner} | {plain:,.0f} | {ours:,.0f} | {middle:.2f} ({low:.2f} to {high:.2f}) |", flush=True)
    conditions.look()
    print(f"\n{conditions.line()}\n", flush=True)


def seconds_of(call: Callable[[], object]) -> float:
    """The seconds that a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def watched(arguments: Sequence[str], folder: Path) -> dict[str, float]:
    """The seconds of a metalearn command by its parts (benchmarks/watched.py), and of `all`."""
    path, started = folder / "seconds.json", time.time()
    command = [sys.executable, "-m", "benchmarks.watched", str(path), str(started), *arguments]
    subprocess.run(command, check=True, capture_output=True)
    return {**json.loads(path.read_text()), "all": time.time() - started}


def measure_command(path: Path, folder: Path, episodes: int, rounds: int) -> None:
    """Print the table of the command's parts."""
    conditions = Conditions()
    command = ["eval", "--checkpoint", str(path), "--episodes", str(episodes)]
    plain, taken = [], []
    for _ in range(rounds):
        conditions.look()
        call = [sys.executable, "-m", "metalearn_cli", *command]
        plain.append(seconds_of(lambda call=call: subprocess.run(call, check=True, capture_output=True)))
        taken.append(watched(command, folder))
    conditions.look()
    print(f"| `metalearn eval --episodes {episodes}`, maml | seconds (smallest to largest) |\n|---|---|")
    rows = {name: [of(seconds) for seconds in taken] for name, of in PARTS.items()}
    for name, column in {"from Enter to its end": plain, **rows}.items():
        print(f"| {name} | {statistics.median(column):.2f} ({min(column):.2f} to {max(column):.2f}) |")
    print(f"\n{conditions.line()}\n", flush=True)


def measure_report(folder: Path) -> None:
    """Print what the page of a training costs."""
    seconds = watched(["train", "quickstart", "--run-dir", str(folder / "quickstart")], folder)
    page = seconds["write_training_page"]
    share = page / seconds["all"]
    print(f"report.html of `metalearn train quickstart`: {page:.2f} of {seconds['all']:.1f} s, {share:.1%}.")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=("episodes", "command", "report"))
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    asked = arguments.only or ("episodes", "command", "report")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        needed = LEARNERS if "episodes" in asked else ["maml"] if "command" in asked else []
        checkpoints = {learner: trained(folder, learner) for learner in needed}
        if "episodes" in asked:
            measure_episodes(checkpoints, min(arguments.episodes, 200), arguments.rounds)
        if "command" in asked:
            measure_command(checkpoints["maml"], folder, arguments.episodes, arguments.rounds)
        if "report" in asked:
            measure_report(folder)


if __name__ == "__main__":
    main()
