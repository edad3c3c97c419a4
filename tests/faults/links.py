"""Links, pipes and second names that a stranger left in a run or data folder, where something is written by its name.

A fault is one to three of them planted at names that an undisturbed run or `prepare` writes, and a command that works
there. It does its work, or is refused in one line, and what the links lead to is as it was.
"""

import json
import os
import shutil
from pathlib import Path
from random import Random

from tests.faults import Totals
from tests.faults._ledger import Ledger, Lost, command
from tests.faults._runs import PICTURES

SHORT, LONG = 4, 150
_PRECIOUS = "the only copy\n"
_KINDS = ("link", "link", "dangling", "hard link", "pipe", "to a folder", "to itself")


def campaign(count: int, seed: int, scratch: Path) -> Totals:
    """`count` plantings."""
    ledger, data = Ledger("links", seed), scratch / "data"
    experiment = scratch / "small.yaml"
    experiment.write_text(json.dumps(PICTURES))
    command(data, "train", experiment, "--run-dir", scratch / "run", "--quiet").require_answered()
    names = {"run": _names(scratch / "run"), "data": _names(data)}
    for number in range(count):
        random, told, folder = ledger.random(), list[str](), scratch / str(number)
        where = ("run", "data")[number % 2]
        with ledger.fault(lambda told=told: " + ".join(told)):
            (folder / "elsewhere").mkdir(parents=True)
            (folder / "elsewhere/precious").write_text(_PRECIOUS)
            for origin in ("run", "data"):
                if random.random() < 0.6:  # else the folder is new but for what was planted
                    shutil.copytree(scratch / origin, folder / origin, symlinks=True)
            for _one in range(random.choice((1, 1, 2, 3))):
                _plant(random, folder, folder / where / random.choice(names[where]), told)
            line = random.choice(_LINES[where])
            told.append(" ".join(line))
            ended = command(folder / "data", *line, folder=folder)
            ended.require_answered()
            _require_unharmed(folder / "elsewhere")
            ledger.count("refused" if ended.code else "did its work")
    return ledger.totals()


_TRAIN = ("train", "../small.yaml", "--run-dir", "run", "--quiet")
_PREPARE = ("prepare", "glyphs", "--data-dir", "data", "--quiet", "--set", "dataset.classes=36")
_PREPARE += ("--set", "dataset.drawings=6")
_LINES = {
    "run": [(*_TRAIN, "--resume"), (*_TRAIN, "--resume", "--set", "outer.iterations=4"), _TRAIN],
    "data": [_TRAIN, (*_PREPARE, "--force"), (*_PREPARE, "--verify"), _PREPARE],
}


def _names(folder: Path) -> list[str]:
    """All that was written there, by its name, and what is there only for a while."""
    found = {file.relative_to(folder).as_posix() for file in folder.rglob("*")}
    stores = {name for name in found if "/" not in name and not name.startswith(".")}
    passing = {".lock", "checkpoints/.probe", "checkpoints/last.pt.damaged", "hparams"}
    for store in stores:
        passing |= {f".{store}.lock", f"{store}/.checked", f".{store}.unfinished", f".{store}.unfinished/images.npy"}
        passing |= {f".{store}.unfinished/finished.jsonl"}
    return sorted(name for name in found | passing if "tfevents" not in name)


def _plant(random: Random, folder: Path, place: Path, told: list[str]) -> None:
    """One of the kinds at a place, unless another already leads elsewhere above it, or a file is above it."""
    if any(above.is_symlink() or (above.exists() and not above.is_dir()) for above in place.parents):
        return
    kind = random.choice(_KINDS)
    told.append(f"{kind} at {place.relative_to(folder)}")
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    precious = folder / "elsewhere/precious"
    match kind:
        case "link":
            place.symlink_to(precious)
        case "dangling":
            place.symlink_to(precious.with_name("not there yet"))
        case "hard link":
            place.hardlink_to(precious)
        case "pipe":
            os.mkfifo(place)
        case "to a folder":
            place.symlink_to(precious.parent)
        case "to itself":
            place.symlink_to(place)


def _require_unharmed(elsewhere: Path) -> None:
    """What the links lead to is as it was."""
    there = sorted(path.name for path in elsewhere.iterdir())
    if there != ["precious"] or (elsewhere / "precious").read_text() != _PRECIOUS:
        raise Lost(f"{there} elsewhere, precious is {(elsewhere / 'precious').read_bytes()[:40]!r}")
