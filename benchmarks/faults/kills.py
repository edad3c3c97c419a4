"""`kill -9` at a random moment of a training that writes a checkpoint at every step; then `--resume`, to the end.

Every time the weights must be those, bit for bit, of a run that was never disturbed, and each report be there once.
"""

import random
import subprocess
import time
from pathlib import Path

from benchmarks.faults import Totals
from benchmarks.faults._runs import command, config, environment, rows, same, train, whole
from metalearn_cli.storage.checkpoints import Checkpoint
from metalearn_cli.storage.runs import RunFolder

SHORT, LONG = 2, 100

_MOST_SECONDS = 60.0


def campaign(count: int, seed: int, scratch: Path) -> Totals:
    """Kill `count` times. A run that comes to its end before it is killed is started anew and not counted."""
    experiment, generator = config(scratch), random.Random(seed)
    undisturbed = RunFolder(scratch / "undisturbed")
    first = train(experiment, undisturbed.path)
    expected, reports = whole(undisturbed.last), rows(undisturbed.path)
    assert expected is not None, first.stderr
    tried = survived = tracebacks = inside = 0
    for number in range(3 * count):
        if tried == count:
            break
        folder = RunFolder(scratch / f"run{number}")
        if not _killed(experiment, folder, generator.uniform(0, 0.4)):
            continue
        tried += 1
        inside += any(file.name.startswith(".") for file in folder.last.parent.iterdir())
        resumed = train(experiment, folder.path, "--resume")
        tracebacks += "Traceback" in resumed.stderr
        survived += _ended_like(expected, reports, folder)
    return Totals(tried, survived, tried - survived, tracebacks, f"{inside} kills inside a save")


def _killed(experiment: Path, folder: RunFolder, seconds: float) -> bool:
    """Train until the first checkpoint is there and so many seconds longer, then kill; False if it had ended."""
    line = command("train", experiment, "--run-dir", folder.path, "--quiet")
    process = subprocess.Popen(line, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + _MOST_SECONDS
    while not folder.last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(seconds)
    process.kill()
    return process.wait() < 0


def _ended_like(expected: Checkpoint, reports: list[int], folder: RunFolder) -> bool:
    return same(whole(folder.last), expected) and rows(folder.path) == reports and whole(folder.best) is not None
