"""A run's last.pt cut at random lengths and with random bytes changed; then it is read, and the run goes on.

Reading gives the same tensors or an error, never others; `--resume` falls back to the checkpoint before it.
"""

import json
import random
from pathlib import Path

from metalearn_cli.errors import DamagedError
from metalearn_cli.experiment import read_experiment as load_experiment
from metalearn_cli.runtime.machine.execution import running
from metalearn_cli.runtime.run import session as sessions
from metalearn_cli.runtime.run import training
from metalearn_cli.storage.runs.checkpoints import read_checkpoint
from tests.faults import Totals
from tests.faults._runs import EXPERIMENT, same

SHORT, LONG = 40, 400


def campaign(count: int, seed: int, scratch: Path) -> Totals:
    """Damage `count` times: every other file is cut, the others have one byte changed."""
    session = _trained(scratch)
    folder, generator = session.folder, random.Random(seed)
    last, before = folder.last.read_bytes(), folder.previous.read_bytes()
    expected, fallback = read_checkpoint(folder.last), read_checkpoint(folder.previous)
    survived = lost = tracebacks = refused = 0
    for number in range(count):
        folder.last.write_bytes(_cut(last, generator) if number % 2 == 0 else _flipped(last, generator))
        folder.previous.write_bytes(before)
        try:
            found, harmless = read_checkpoint(folder.last), True
            lost += not same(found, expected)
        except DamagedError:
            harmless = False
            refused += 1
        except Exception:
            tracebacks += 1
            continue
        state = sessions.start(session, resume=True)
        went_on = state.iteration == (expected if harmless else fallback).header["iteration"]
        survived += went_on and (not harmless or same(found, expected))
    return Totals(count, survived, count - survived - tracebacks, tracebacks, f"{refused} refused, each fell back")


def _trained(scratch: Path) -> sessions.Session:
    path = scratch / "sines.yaml"
    path.write_text(json.dumps(EXPERIMENT | {"backbone": {"name": "mlp", "hidden": [16]}}))
    experiment = load_experiment(str(path), ["outer.iterations=4", "eval.every=2"])
    (scratch / "run/checkpoints").mkdir(parents=True)
    session = sessions.session_for(experiment, scratch / "run", data_dir=scratch)
    with running(session.plan) as runner:
        list(training.loop(session, runner, sessions.start(session, resume=False), training.Watch()))
    session.folder.best.unlink()  # else it is the newest whole one
    return session


def _cut(content: bytes, generator: random.Random) -> bytes:
    return content[: generator.randrange(len(content))]


def _flipped(content: bytes, generator: random.Random) -> bytes:
    changed, place = bytearray(content), generator.randrange(len(content))
    changed[place] ^= 1 << generator.randrange(8)
    return bytes(changed)
