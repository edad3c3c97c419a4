"""A preparation of a table that is killed at any moment leaves a whole table or none, and the next is undisturbed."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from metalearn_cli.datasets import table
from metalearn_cli.storage.tabular import stored
from metalearn_cli.storage.tabular.preparing import prepare_table
from tests.commands import ROOT, environment
from tests.tables import kinds, machines, written

_TOUCHES_THE_DISK = ("open", "os.")


def _prepare(data, source, force, at=0):
    """Prepare, and with `at` kill this very process before the `at`-th thing that it does below `data`; its number."""
    roles = {} if source.name == "k.csv" else {"task": "machine", "target": ["force"]}
    config = table.Config(title="k", **roles)
    count = 0

    def moment():
        nonlocal count
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event, arguments):
        if event.startswith(_TOUCHES_THE_DISK) and any(str(data) in str(one) for one in arguments[:2]):
            moment()

    if at >= 0:
        sys.addaudithook(hook)
    manifest, folder = prepare_table("table", table.build(config), data, source, force, lambda *_moved: moment())
    stored.verify_table(folder)
    return manifest.sha256, count


def _in_a_child(*given):
    """What `_prepare` gives in a process of its own, and whether it was killed."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            os.write(writing, json.dumps(_prepare(*given)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        content = pipe.read()
    return (json.loads(content) if content else None), os.WIFSIGNALED(status)


def main(scratch, step):
    """Kill at every `step`-th moment, of a first preparation and of one that replaces a table, and print."""
    first, other = written(scratch / "k.csv", kinds()), written(scratch / "m.csv", machines())
    (expected, moments), _ = _in_a_child(scratch / "whole", other, False)
    (before, _), _ = _in_a_child(scratch / "before", first, False)
    shutil.copytree(scratch / "before", scratch / "replaced")
    (_, replacing), _ = _in_a_child(scratch / "replaced", other, True)
    found = {"moments": moments // step + replacing // step, "killed": 0, "left": [], "wrong": []}
    for replaces in (False, True):
        for at in range(step, 1 + (replacing if replaces else moments), step):
            data = scratch / f"{at}{replaces}"
            if replaces:
                shutil.copytree(scratch / "before", data)
            _, killed = _in_a_child(data, other, replaces, at)
            found["killed"] += killed
            stores = [data / "table-k", *data.glob(".table-k.*.old")]  # the old one, until the new one has its name
            there = next((stored.verify_table(one).sha256 for one in stores if one.exists()), None)
            if there not in ((before, expected) if replaces else (None, expected)):
                found["wrong"].append([at, replaces, there])
            (again, _), _ = _in_a_child(data, other, replaces)
            names = sorted(path.name for path in data.iterdir() if path.name != ".table-k.lock")
            if again != expected or names != ["table-k"]:
                found["left"].append([at, replaces, names])
    sys.stdout.write(json.dumps(found))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked here")
@pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_a_table_killed_at_any_moment_is_whole_or_absent_and_the_next_call_gives_the_same_bytes(tmp_path, step):
    # A process without torch's threads forks the children that are killed.
    command = [sys.executable, "-m", "tests.storage.tabular.test_kills", str(tmp_path), str(step)]
    given = {"cwd": ROOT, "env": environment(tmp_path), "capture_output": True, "text": True, "timeout": 600}
    done = subprocess.run(command, **given)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["killed"] == found["moments"] >= 20 // step
    assert (found["wrong"], found["left"]) == ([], [])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
