"""How long a command takes from its start, beside torch's bare import: `python -m benchmarks.startup`.

Every row is a process of its own, and the rows take turns, round after round; the table has medians and quartiles.
`train` is measured to its first line, and to the first that needs torch, which names the learner. Pictures and the
checkpoint that `finetune` reads are made first, in a temporary folder, from a dataset that needs no download.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.conditions import Conditions

METALEARN = [sys.executable, "-m", "metalearn_cli"]
TRAIN = [*METALEARN, "train", "quickstart", "--set", "outer.iterations=2", "--set", "eval.val_episodes=4"]
_DRAW = """
import sys; from pathlib import Path; from PIL import Image, ImageDraw
for part in ("support", "query"):
    for number in range(5):
        folder = Path(sys.argv[1], part, f"class{number}"); folder.mkdir(parents=True)
        for place in range(5):
            picture = Image.new("L", (28, 28), 255)
            ImageDraw.Draw(picture).rectangle((2 + place, 3 + 4 * number, 14 + place, 6 + 4 * number), 0)
            picture.save(folder / f"{place}.png")
"""


class Row(NamedTuple):
    """A command; `aim` in seconds, `until` a text in the line at which the clock stops (None: at the end)."""

    name: str
    command: Sequence[str]
    aim: str = "-"
    until: str | None = None
    code: int = 0


def rows_in(folder: Path) -> list[Row]:
    """All rows; `folder` has the pictures, a trained checkpoint and a saved classifier."""
    best = folder / "run" / "checkpoints" / "best.pt"
    tuned = [*METALEARN, "finetune", "--checkpoint"]
    given = ["--support", str(folder / "support"), "--query", str(folder / "query")]
    wrong = [*METALEARN, "train", "quickstart", "--set"]
    return [
        Row("Python alone", [sys.executable, "-c", ""]),
        Row("`import torch` alone", [sys.executable, "-c", "import torch"]),
        Row("`metalearn --version`", [*METALEARN, "--version"], "0.2"),
        Row("`metalearn --help`", [*METALEARN, "--help"], "0.2"),
        Row("an unknown `--set` key", [*wrong, "outer.lrr=1"], "0.5", code=2),
        Row("`eval` of a file that is missing", [*METALEARN, "eval", "--checkpoint", "none.pt"], "0.5", code=2),
        Row("`metalearn info`", [*METALEARN, "info"], "1.5"),
        Row("`train` to its first line", [*TRAIN, "--run-dir", str(folder / "other")], "1.0", ": train quickstart"),
        Row("`train` to the line that names the learner", [*TRAIN, "--run-dir", str(folder / "other")],
            "torch's import + 1.0", "maml, second order"),
        Row("`finetune`, 25 pictures shown, 25 asked", [*tuned, str(best), *given], "2.0"),
        Row("a prediction by a saved classifier", [*tuned, str(folder / "mine.pt"), "--query",
            str(folder / "query" / "class0" / "0.png")], "1.5"),
    ]  # fmt: skip


def seconds_of(row: Row, folder: Path) -> float:
    """Seconds from the start of a row's process to its end, or to the line that the row waits for."""
    streams: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    started, said = time.perf_counter(), ""
    with subprocess.Popen(row.command, cwd=folder, **streams) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said += line
            if row.until is not None and row.until in line:
                taken = time.perf_counter() - started
                process.kill()
                return taken
        code = process.wait()
    if code != row.code or row.until is not None:
        raise RuntimeError(f"{row.name} ended with {code}: {said}")
    return time.perf_counter() - started


def made_ready(folder: Path) -> None:
    """Draw the pictures, train a learner for two steps, and save a classifier."""
    best = folder / "run" / "checkpoints" / "best.pt"
    for command in (
        [sys.executable, "-c", _DRAW, str(folder)],
        [*TRAIN, "--run-dir", str(folder / "run")],
        [*METALEARN, "finetune", "--checkpoint", str(best), "--support", str(folder / "support"),
         "--output", str(folder / "mine.pt")],
    ):  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, cwd=folder)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    conditions = Conditions()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made_ready(folder)
        rows = rows_in(folder)
        taken: dict[str, list[float]] = {row.name: [] for row in rows}
        for _ in range(rounds):
            conditions.look(peak=False)
            for row in rows:
                taken[row.name].append(seconds_of(row, folder))
    print("| command | seconds (quartiles) | aim |\n|---|---|---|")
    for row in rows:
        low, middle, high = statistics.quantiles(taken[row.name], n=4)
        print(f"| {row.name} | {middle:.2f} ({low:.2f} to {high:.2f}) | {row.aim} |")
    print(f"\n{conditions.line()}")


if __name__ == "__main__":
    main()
