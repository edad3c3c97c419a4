"""What products of rounded numbers cost in accuracy: `python -m benchmarks.precision`.

An experiment is trained and tested three times from one seed, on the same tasks: with products of float32 numbers, and
of the same rounded to the 10 bits of TF32 and to the 7 of bfloat16 before they are multiplied, as a GPU does, or a CPU
with matrix units. Rounding is done here, before each matrix product and convolution and their derivatives, so no such
machine is needed, and nothing is faster. Sums are float32's, as there. The difference to float32 is taken episode by
episode.
"""

import argparse
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from metalearn_cli import Experiment, evaluate, load_experiment, train

aten = torch.ops.aten
FACTORS = {
    aten.mm: (0, 1), aten.bmm: (0, 1), aten.addmm: (1, 2), aten.baddbmm: (1, 2), aten.baddbmm_: (1, 2),
    aten.convolution: (0, 1), aten.convolution_backward: (0, 1, 2),
}  # fmt: skip
"""Which arguments are multiplied with each other."""


def bfloat16(values: Tensor) -> Tensor:
    """Rounded to 7 bits behind the point."""
    return values.bfloat16().float()


def tf32(values: Tensor) -> Tensor:
    """Rounded to 10 bits behind the point; halves away from zero."""
    return ((values.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


class Rounded(TorchDispatchMode):
    """Inside it what is multiplied is rounded."""

    def __init__(self, rounding: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._rounding = rounding

    def __torch_dispatch__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = list(args)
        for place in FACTORS.get(function.overloadpacket, ()):
            if isinstance(given[place], Tensor) and given[place].dtype == torch.float32:
                given[place] = self._rounding(given[place])
        return function(*given, **(kwargs or {}))


def scores(experiment: Experiment, inside: Callable[[], AbstractContextManager[Any]], episodes: int) -> Tensor:
    """The score of each of the first test episodes, after training, both inside the context."""
    with TemporaryDirectory() as folder, inside():
        for _report in train(experiment, folder, device="cpu"):
            pass
        result = evaluate(Path(folder) / "checkpoints/best.pt", episodes=episodes, device="cpu")
    return result.scores.double()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", nargs="?", default="quickstart")
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    asked = [*arguments.set, "execution.mode=vmap"]  # another thread would not round
    experiment = load_experiment(arguments.experiment, *asked)
    ways = {"float32": nullcontext, "tf32": lambda: Rounded(tf32), "bfloat16": lambda: Rounded(bfloat16)}
    print("| products of | score | against float32, same episodes |\n|---|---|---|")
    exact = None
    for name, inside in ways.items():
        found = scores(experiment, inside, arguments.episodes)
        exact = found if exact is None else exact
        away = found - exact
        half, by = (1.96 * float(values.std()) / math.sqrt(len(found)) for values in (found, away))
        print(f"| {name} | {found.mean():.4f} ± {half:.4f} | {away.mean():+.4f} ± {by:.4f} |", flush=True)


if __name__ == "__main__":
    main()
