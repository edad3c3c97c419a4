"""`kill -9` at a random moment of a training that writes a checkpoint at every step; then `--resume`, to the end.

Of every three runs one is killed once, one twice and one three times before it may come to its end. Every time the
weights must be those, bit for bit, of a run that was never disturbed, and each report be there once.
"""

import random
import subprocess
import time
from pathlib import Path

from metalearn_cli.storage.runs.checkpoints import Checkpoint
from metalearn_cli.storage.runs.run_folder import RunFolder
from tests.faults import Totals
from tests.faults._runs import command, config, environment, rows, same, train, whole

SHORT, LONG = 2, 100

_MOST_SECONDS = 60.0


def campaign(count: int, seed: int, scratch: Path) -> Totals:
    """Kill `count` runs. A run that comes to its end before it is killed is started anew and not counted."""
    experiment, generator = config(scratch), random.Random(seed)
    undisturbed = RunFolder(scratch / "undisturbed")
    first = train(experiment, undisturbed.path)
    expected, reports = whole(undisturbed.last), rows(undisturbed.path)
    assert expected is not None, first.stderr
    tried = survived = tracebacks = kills = inside = 0
    for number in range(3 * count):
        if tried == count:
            break
        folder = RunFolder(scratch / f"run{number}")
        if not _killed(experiment, folder, generator.uniform(0, 0.4)):
            continue
        again = sum(_killed(experiment, folder, generator.uniform(0, 0.1), "--resume") for _ in range(tried % 3))
        tried, kills = tried + 1, kills + 1 + again
        inside += any(file.name.startswith(".") for file in folder.last.parent.iterdir())
        resumed = train(experiment, folder.path, "--resume")
        tracebacks += "Traceback" in resumed.stderr
        survived += _ended_like(expected, reports, folder)
    return Totals(tried, survived, tried - survived, tracebacks, f"{kills} kills, {inside} inside a run's last save")


def _killed(experiment: Path, folder: RunFolder, seconds: float, *more: str) -> bool:
    """Train until a checkpoint has been written and so many seconds longer, then kill; False if it had ended."""
    before = _written(folder)
    line = command("train", experiment, "--run-dir", folder.path, "--quiet", *more)
    process = subprocess.Popen(line, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + _MOST_SECONDS
    while _written(folder) == before and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(seconds)
    process.kill()
    return process.wait() < 0


def _written(folder: RunFolder) -> int | None:
    """When the last checkpoint was written."""
    try:
        return folder.last.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _ended_like(expected: Checkpoint, reports: list[int], folder: RunFolder) -> bool:
    return same(whole(folder.last), expected) and rows(folder.path) == reports and whole(folder.best) is not None
