"""A crash after every single thing that a training does to the disk, with and without what a power loss would drop.

From every state that the disk may then be in, the run must go on from the newest checkpoint that was finished, or
from the one that was being written; with the very tensors of that iteration, and each report before it once.
"""

import json
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from metalearn_cli.experiment import read_experiment as load_experiment
from metalearn_cli.runtime.machine.execution import running
from metalearn_cli.runtime.run import session as sessions
from metalearn_cli.runtime.run import training
from metalearn_cli.storage.runs import run_folder
from metalearn_cli.storage.runs.checkpoints import Checkpoint, read_checkpoint
from tests.faults import Totals
from tests.faults._disk import Call, Disk, recorded
from tests.faults._runs import EXPERIMENT, rows, same

SHORT, LONG = 40, 100_000

_CHANGES = ["outer.iterations=6", "eval.every=2", "eval.val_episodes=4"]


class State(NamedTuple):
    """What a disk may hold after `call` calls, and the iteration whose checkpoint was finished by then."""

    call: int
    finished: int
    content: dict[str, bytes]


def campaign(count: int, seed: int, scratch: Path) -> Totals:
    """Try the states after a crash: all of them, or so many of them drawn at random."""
    session, calls, kept = training_recorded(scratch)
    states = distinct(calls)
    chosen = states if count >= len(states) else random.Random(seed).sample(states, count)
    survived = tracebacks = 0
    for state in chosen:
        try:
            survived += recovers(session, kept, state, scratch / "crashed")
        except Exception:
            tracebacks += 1
    lost = len(chosen) - survived - tracebacks
    return Totals(len(chosen), survived, lost, tracebacks, f"of {len(states)} states after {len(calls)} calls")


def training_recorded(scratch: Path) -> tuple[sessions.Session, list[Call], dict[int, Checkpoint]]:
    """A training with a checkpoint at every step: its session, its calls, and every checkpoint that it wrote."""
    path = scratch / "sines.yaml"
    path.write_text(json.dumps(EXPERIMENT | {"backbone": {"name": "mlp", "hidden": [8]}}))
    experiment = load_experiment(str(path), _CHANGES)
    kept: dict[int, Checkpoint] = {}
    with run_folder.open_run(scratch / "run", resume=False) as folder:
        session = sessions.session_for(experiment, folder.path, data_dir=scratch)
        with recorded(scratch / "run") as calls, running(session.plan) as runner:
            state = sessions.start(session, resume=False)

            def tick(iteration: int) -> None:
                """Before a checkpoint is written, that of the iteration before is finished."""
                calls.append(Call("finished", "", iteration - 1))
                _remember(folder, kept)

            list(training.loop(session, runner, state, training.Watch(tick=tick)))
            calls.append(Call("finished", "", state.iteration))
        _remember(folder, kept)
    return session, calls, kept


def _remember(folder: run_folder.RunFolder, kept: dict[int, Checkpoint]) -> None:
    if folder.last.exists():
        found = read_checkpoint(folder.last)
        kept[found.header["iteration"]] = found


def distinct(calls: Sequence[Call]) -> list[State]:
    """Every different state that the disk may be in after a crash behind one of the calls."""
    found = {}
    for state in _states(calls):
        found.setdefault((state.finished, frozenset(state.content.items())), state)
    return list(found.values())


def _states(calls: Sequence[Call]) -> Iterator[State]:
    disk, finished = Disk(), 0
    for number, call in enumerate(calls):
        if call.kind == "finished":
            finished = call.to
        else:
            disk.do(call)
        for content in (disk.after_a_kill(), *disk.after_a_power_loss()):
            yield State(number, finished, content)


def recovers(session: sessions.Session, kept: dict[int, Checkpoint], state: State, place: Path) -> bool:
    """Whether the run goes on from that state of the disk, and has lost nothing that was finished."""
    shutil.rmtree(place, ignore_errors=True)
    (place / "checkpoints").mkdir(parents=True)
    for name, content in state.content.items():
        (place / name).write_bytes(content)
    with run_folder.open_run(place, resume=True) as folder:
        found = sessions.start(session._replace(folder=folder), resume=True)
        reported = rows(place) if folder.metrics.exists() else []
        untidy = [file.name for file in folder.last.parent.iterdir() if file.name.startswith(".")]
    if found.iteration not in (state.finished, state.finished + 1) or untidy:
        return False
    if reported != [iteration for iteration in (2, 4, 6) if iteration <= found.reported]:
        return False
    if found.iteration == 0:
        return True
    sessions.keep_last(session._replace(folder=folder), found)
    return same(read_checkpoint(folder.last), kept[found.iteration])
