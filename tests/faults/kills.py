"""`kill -9` at a random moment of a training that writes a checkpoint at every step; then `--resume`, to the end.

The trainings are of sines, of rows of a table with values, and of rows of a table with classes, one after the other. Of
every three runs of one kind one is killed once, one twice and one three times before it may come to its end. Every time
the weights and the losses must be those, bit for bit, of a run that was never disturbed, each report be there once, and
the best checkpoint have the same calibration.
"""

import json
import random
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from metalearn_cli.datasets import table
from metalearn_cli.storage.runs.checkpoints import Checkpoint
from metalearn_cli.storage.runs.run_folder import RunFolder
from tests import tables
from tests.faults import Totals
from tests.faults._runs import EXPERIMENT, OF_TABLES, command, environment, losses, same, train, whole

SHORT, LONG = 3, 99

_MOST_SECONDS = 60.0
_COLUMNS = {"m": tables.machines(10, 12), "p": tables.people(10, 8)}


class _Victim(NamedTuple):
    """A training to be killed: its file, its folder of data, and what it ends in undisturbed."""

    experiment: Path
    data: Path
    last: Checkpoint
    best: Checkpoint
    losses: list[dict[str, object]]


def campaign(count: int, seed: int, scratch: Path) -> Totals:
    """Kill `count` runs. A run that comes to its end before it is killed is started anew and not counted."""
    generator = random.Random(seed)
    victims = [_undisturbed(values, scratch) for values in (EXPERIMENT, *OF_TABLES)]
    tried = survived = tracebacks = kills = inside = 0
    for number in range(3 * count):
        if tried == count:
            break
        victim, folder = victims[tried % len(victims)], RunFolder(scratch / f"run{number}")
        if not _killed(victim, folder, generator.uniform(0, 0.4)):
            continue
        times = tried // len(victims) % 3
        again = sum(_killed(victim, folder, generator.uniform(0, 0.1), "--resume") for _ in range(times))
        tried, kills = tried + 1, kills + 1 + again
        inside += any(file.name.startswith(".") for file in folder.last.parent.iterdir())
        resumed = train(victim.experiment, folder.path, "--resume", data=victim.data)
        tracebacks += "Traceback" in resumed.stderr
        survived += _ended_like(victim, folder)
    return Totals(tried, survived, tried - survived, tracebacks, f"{kills} kills, {inside} inside a run's last save")


def _undisturbed(values: dict[str, object], scratch: Path) -> _Victim:
    """The experiment `values`, its table prepared if it has one, trained to its end."""
    name, dataset = str(values["name"]), dict(values["dataset"])  # type: ignore[call-overload]
    data, experiment = scratch / f"{name}-data", scratch / f"{name}.yaml"
    data.mkdir()
    experiment.write_text(json.dumps(values))
    if dataset.pop("name") == "table":
        source = tables.written(scratch / f"{name}.csv", _COLUMNS[dataset["title"]])
        tables.prepared(table.Config(**dataset), data, source)
    folder = RunFolder(scratch / f"{name}-undisturbed")
    ended = train(experiment, folder.path, data=data)
    last, best = whole(folder.last), whole(folder.best)
    assert last is not None, ended.stderr
    assert best is not None, ended.stderr
    return _Victim(experiment, data, last, best, losses(folder.path))


def _killed(victim: _Victim, folder: RunFolder, seconds: float, *more: str) -> bool:
    """Train until a checkpoint has been written and so many seconds longer, then kill; False if it had ended."""
    before = _written(folder)
    line = command("train", victim.experiment, "--run-dir", folder.path, "--quiet", *more)
    process = subprocess.Popen(line, env=environment(victim.data), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
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


def _ended_like(victim: _Victim, folder: RunFolder) -> bool:
    best = whole(folder.best)
    return (
        same(whole(folder.last), victim.last)
        and same(best, victim.best)
        and best is not None
        and best.header.get("calibration") == victim.best.header.get("calibration")
        and losses(folder.path) == victim.losses
    )
