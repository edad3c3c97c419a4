"""The disk is full in the middle of a checkpoint: by a limit on a file's size, and by a small file system filled up.

The command must end with one line and exit code 2 (a sink that could not write may warn before it), the checkpoint
before must load, and the run must go on from it to the very weights of a run that was never disturbed.
"""

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from metalearn_cli.storage.runs.run_folder import RunFolder
from tests.faults import Totals
from tests.faults._runs import command, config, environment, same, train, whole

SHORT, LONG = 2, 20

_LIMITED = (
    "import resource, signal, sys\n"
    "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)\n"
    "sys.argv = ['metalearn', *sys.argv[2:]]\n"
    "from metalearn_cli.__main__ import main\nmain()"
)
_BYTES = 48 << 20


def campaign(count: int, seed: int, scratch: Path) -> Totals:
    """Fill `count` disks: every other one a small file system where one can be mounted, else by a limit."""
    experiment, generator = config(scratch), random.Random(seed)
    undisturbed = RunFolder(scratch / "undisturbed")
    first = train(experiment, undisturbed.path)
    expected = whole(undisturbed.last)
    assert expected is not None, first.stderr
    begun = RunFolder(scratch / "begun")
    train(experiment, begun.path, "--set", "outer.iterations=5")
    survived = tracebacks = mounted = 0
    for number in range(count):
        folder = RunFolder(scratch / f"run{number}")
        with _small_disk(folder.path) if number % 2 else _no_disk() as small:
            shutil.copytree(begun.path, folder.path, dirs_exist_ok=True)
            mounted += small
            ended = _filled(experiment, folder) if small else _limited(experiment, folder, generator)
            tracebacks += "Traceback" in ended.stderr
            errors = [line for line in ended.stderr.splitlines() if not line.startswith("warning: sink ")]
            told = ended.returncode == 2 and len(errors) == 1 and "--resume" in errors[0]
            kept = whole(folder.last) is not None
            train(experiment, folder.path, "--resume")
            survived += told and kept and same(whole(folder.last), expected)
    return Totals(
        count, survived, count - survived, tracebacks, f"{mounted} on a full file system, the rest by a limit"
    )


def _limited(experiment: Path, folder: RunFolder, generator: random.Random) -> subprocess.CompletedProcess[str]:
    """Resume with less room for a file than a checkpoint takes, but enough for the small files."""
    size = folder.last.stat().st_size
    line = ["train", str(experiment), "--run-dir", str(folder.path), "--quiet", "--resume"]
    return subprocess.run(
        [sys.executable, "-c", _LIMITED, str(generator.randrange(4000, size)), *line],
        env=environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def _filled(experiment: Path, folder: RunFolder) -> subprocess.CompletedProcess[str]:
    """Resume, and fill the disk with another file as soon as the run writes; it stands still meanwhile."""
    before = folder.last.stat().st_mtime_ns
    line = command("train", experiment, "--run-dir", folder.path, "--quiet", "--resume")
    process = subprocess.Popen(line, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while folder.last.stat().st_mtime_ns == before and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGSTOP)
    filler = folder.path / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    process.send_signal(signal.SIGCONT)
    _, text = process.communicate(timeout=120)
    filler.unlink()
    return subprocess.CompletedProcess(line, process.returncode, "", text)


@contextmanager
def _small_disk(path: Path) -> Iterator[bool]:
    """A small file system at the path, if one may be mounted."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_BYTES}", "tmpfs", str(path)]
    small = shutil.which("mount") is not None and subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield small
    finally:
        if small:
            subprocess.run(["umount", str(path)], check=True)


@contextmanager
def _no_disk() -> Iterator[bool]:
    yield False
