"""Several `metalearn prepare` of one dataset at once, killed: then it is whole or absent, and can be made.

A fault is a round: four processes start on one data folder, half of the time one that is prepared already, with or
without --force; each is killed (SIGKILL) at a random moment, or once unfinished work has appeared, or not at all. Then
the dataset verifies or is not there; one more preparation (with --force where one was there before) gives the same
bytes as one that nobody disturbed, and leaves nothing else in the data folder.
"""

import subprocess
import sys
import time
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from metalearn_cli.datasets import folder as pictures
from metalearn_cli.storage.prepared.dataset import verify
from metalearn_cli.storage.prepared.preparation import prepare
from metalearn_cli.storage.prepared.writing import unfinished
from tests.faults import Totals
from tests.faults._ledger import Ledger, Lost, environment

SHORT, LONG = 2, 30
_AT_ONCE = 4
_CLASSES, _EACH, _SIDE = 20, 40, 96
_LONGEST_SECONDS = 120.0
_DATASET = pictures.build(pictures.Config())


def campaign(count: int, seed: int, scratch: Path) -> Totals:
    """`count` rounds."""
    ledger = Ledger("preparing", seed)
    source = _pictures(scratch / "source")
    started = time.monotonic()
    expected = _prepared(scratch / "undisturbed", source, False)
    usual = time.monotonic() - started + 1.0
    for number in range(count):
        random, data, told = ledger.random(), scratch / str(number), list[str]()
        with ledger.fault(lambda told=told: " + ".join(told)):
            if before := random.random() < 0.5:
                told.append("prepared before")
                _prepared(data, source, False)
            killed = _round(random, data, source, usual, told)
            ledger.count(f"rounds left {_left(data)}")
            _verify_if_there(data)
            if _prepared(data, source, before) != expected:
                raise Lost("prepared again, it has other bytes")
            if (names := sorted(path.name for path in data.iterdir())) != [_DATASET.store]:
                raise Lost(f"piled up: {names}")
        for _kill in range(killed):
            ledger.count("processes killed")
    return ledger.totals()


def _round(random: Random, data: Path, source: Path, usual: float, told: list[str]) -> int:
    """Four processes at once, each killed or done; how many were killed."""
    data.mkdir(exist_ok=True)
    running = [_started(data, source, random.random() < 0.5) for _process in range(_AT_ONCE)]
    waits = random.random() < 0.5
    told.append("killed when writing" if waits else "killed at any moment")
    deadline = time.monotonic() + _LONGEST_SECONDS
    if waits:
        while not unfinished(data / _DATASET.store).exists() and any(one.poll() is None for one in running):
            time.sleep(0.001)
        usual = 0.1
    # One in five is left alone, and has to get its turn after all the others.
    moments = [(time.monotonic() + random.uniform(0, usual), one) for one in running if random.random() < 0.8]
    for moment, one in sorted(moments, key=lambda pair: pair[0]):
        time.sleep(max(0.0, moment - time.monotonic()))
        one.kill()
    killed = 0
    for one in running:
        try:
            code = one.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired as error:
            one.kill()
            raise Lost("a process that was left alone does not end") from error
        if code not in (0, -9):
            raise Lost(f"a process ended with {code}")
        killed += code == -9
    return killed


def _started(data: Path, source: Path, force: bool) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "metalearn_cli", "prepare", "folder", "--source", source, "--data-dir", data]
    return subprocess.Popen(
        [*map(str, command), *(["--force"] if force else []), "--quiet"],
        stdout=subprocess.DEVNULL,
        env=environment(data),
    )


def _prepared(data: Path, source: Path, force: bool) -> str:
    manifest, folder = prepare("folder", _DATASET, data, source, force, lambda *_moved: None)
    verify(folder)
    return manifest.sha256


def _verify_if_there(data: Path) -> None:
    if (data / _DATASET.store).exists():
        verify(data / _DATASET.store)


def _left(data: Path) -> str:
    if unfinished(data / _DATASET.store).exists():
        return "half-done work"
    return "a dataset" if (data / _DATASET.store).exists() else "nothing"


def _pictures(folder: Path) -> Path:
    generator = np.random.default_rng(0)
    for name in range(_CLASSES):
        (folder / f"class{name:02}").mkdir(parents=True)
        for number in range(_EACH):
            pixels = generator.integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"class{name:02}" / f"{number:02}.png", compress_level=1)
    return folder
