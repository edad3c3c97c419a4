"""Checkpoints with a right checksum that are not what they say: each is refused in one line, or does what it says.

A fault is a training checkpoint, one of format 1, or an adapted classifier, changed by _forging.py. It goes where its
kind can go: into eval, `load` and adapting, `train --resume` with training to the end, `load_classifier` and
predictions. Nothing may take long, take memory out of proportion to the file, or run code. Every 40th also goes through
the command.
"""

import json
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metalearn_cli.errors import MetalearnError
from metalearn_cli.experiment import from_mapping
from metalearn_cli.runtime.machine.execution import running
from metalearn_cli.runtime.run import session as sessions
from metalearn_cli.runtime.run import training
from metalearn_cli.runtime.use.loading import load, load_classifier
from metalearn_cli.runtime.use.measurement import evaluate
from metalearn_cli.storage.runs import checkpoints, run_folder
from tests.faults import Totals
from tests.faults._forging import forged
from tests.faults._ledger import Ledger, Lost, command, require_one_plain_line
from tests.faults._runs import PICTURES

SHORT, LONG = 60, 1500
_MOST_GROWTH, _SECONDS = 512 << 20, 60
_NUMBERS = PICTURES | {
    "name": "sines",
    "dataset": {"name": "sinusoid"},
    "task": {"ways": 1, "shots": 5, "queries": 5},
    "backbone": {"name": "mlp", "hidden": [4]},
}


class _Base(NamedTuple):
    """A checkpoint to be forged, and the ways that it can go."""

    checkpoint: checkpoints.Checkpoint
    ways: dict[str, Callable[[Path], object]]


def campaign(count: int, seed: int, scratch: Path) -> Totals:
    """`count` forgeries."""
    ledger, data = Ledger("forged", seed), scratch / "data"
    with _data_folder(data):
        bases = _bases(scratch)
        for number in range(count):
            random, told, file = ledger.random(), list[str](), scratch / f"{number}.pt"
            base = random.choice(bases)
            with ledger.fault(lambda told=told: " + ".join(told)):
                file.write_bytes(forged(random, base.checkpoint, told))
                way = random.choice(sorted(base.ways))
                told.append(way)
                ledger.count(f"{way} {_outcome(base.ways[way], file)}")
                if number % 40 == 0:
                    command(data, "eval", "--checkpoint", file, "--episodes", 4, "--quiet").require_answered()
                    ledger.count("through the command")
                if Path("ran").exists():
                    raise Lost("code in the file was run")
    return ledger.totals()


def _outcome(way: Callable[[Path], object], file: Path) -> str:
    """Whether it was refused. Raises Lost if that took long or much memory, or was not said in one line."""
    before = _peak()
    try:
        with _alarm():
            way(file)
        outcome = "accepted"
    except MetalearnError as error:
        require_one_plain_line(error)
        outcome = "refused"
    if (grown := _peak() - before) > _MOST_GROWTH:
        raise Lost(f"took {grown >> 20} MB for a file of {file.stat().st_size >> 10} kB")
    return outcome


def _bases(scratch: Path) -> list[_Base]:
    pictures, numbers = (_session(scratch, blocks) for blocks in (PICTURES, _NUMBERS))
    trained, sines = (checkpoints.read_checkpoint(one.folder.last) for one in (pictures, numbers))
    shown = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1), dtype=np.uint8)

    def adapts(file: Path) -> object:
        return load(file).adapt(shown, ["a", "b", "a", "b"]).predict_proba(shown)

    def measures(file: Path) -> object:
        return evaluate(file, episodes=4, device="cpu")

    load(pictures.folder.last).adapt(shown, ["a", "b", "a", "b"]).save(scratch / "adapted.pt")
    adapted = checkpoints.read_checkpoint(scratch / "adapted.pt")
    old = {name: value for name, value in sines.header.items() if name not in _NEW_IN_2} | {"format": 1}
    resumes, resumes_numbers = (lambda file, one=one: _resumed(one, file) for one in (pictures, numbers))
    return [
        _Base(trained, {"load": adapts, "eval": measures, "resume": resumes}),
        _Base(sines, {"eval": measures, "resume": resumes_numbers}),
        _Base(sines._replace(header=old), {"eval": measures, "resume": resumes_numbers}),
        _Base(adapted, {"classify": lambda file: load_classifier(file).predict_proba(shown), "load": adapts}),
    ]


_NEW_IN_2 = {"plan", "ground", "reported", "skipped", "skipped_in_a_row", "kept"}


def _session(scratch: Path, blocks: dict[str, Any]) -> sessions.Session:
    """A small run that was trained to its end."""
    experiment = from_mapping(json.loads(json.dumps(blocks)), "forged")
    folder = run_folder.RunFolder(scratch / experiment.name)
    folder.last.parent.mkdir(parents=True)
    session = sessions.session_for(experiment, folder.path, data_dir=scratch / "data")
    _trained(session, resume=False)
    return session


def _resumed(session: sessions.Session, file: Path) -> None:
    """The run goes on from the file, as its only checkpoint."""
    for other in session.folder.last.parent.iterdir():
        other.unlink()
    session.folder.last.write_bytes(file.read_bytes())
    _trained(session, resume=True)


def _trained(session: sessions.Session, resume: bool) -> None:
    with running(session.plan) as runner:
        list(training.loop(session, runner, sessions.start(session, resume), training.Watch()))


@contextmanager
def _data_folder(data: Path) -> Iterator[None]:
    before = os.environ.get("METALEARN_DATA")
    os.environ["METALEARN_DATA"] = str(data)
    try:
        yield
    finally:
        os.environ.pop("METALEARN_DATA")
        os.environ |= {} if before is None else {"METALEARN_DATA": before}


@contextmanager
def _alarm() -> Iterator[None]:
    """Lost if the block has not ended after a minute."""

    def late(_signal: int, _frame: object) -> None:
        raise Lost(f"has not ended after {_SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
