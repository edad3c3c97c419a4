"""More processes for a run on this machine. The first one starts them, prints and writes; they end when it ends.

They find each other as those of torchrun do (runtime/machine/distributed.py).
"""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from metalearn_cli.errors import ConfigError, RunError
from metalearn_cli.runtime.machine import ranks
from metalearn_cli.runtime.machine.ranks import MEETING_POINT, Rank

_FOLDER = "metalearn-run-"
# It finds modules where this process does, and not in the folder where it runs.
_COMMAND = "import sys; sys.path[:] = {!r}; from metalearn_cli.__main__ import main; main()"
_SECONDS_TO_END, _SECONDS_BETWEEN_LOOKS = 10, 0.02


Arguments = Callable[[Path], Sequence[str]]


@contextmanager
def beside(
    size: int | None, arguments: Arguments, device: torch.device, stop: Callable[[], bool] = lambda: False
) -> Iterator[Callable[[], None] | None]:
    """Inside the block this process is the first of `size`; the others run `metalearn` with `arguments(shared folder)`.

    With a size of None, or under torchrun, nothing is started. The block gets a function that kills the others at once
    and deletes their folder; any thread may call it. It is None if no process was started.

    Raises ConfigError for another device than a CPU, RunError if one of the others does not start, and
    KeyboardInterrupt if `stop()` is true before they have.
    """
    rank = ranks.own()
    if rank is not None and rank.meeting_point:
        with _one_of_the_others(rank):
            yield None
        return
    if size in (None, 1) or rank is not None:
        yield None
        return
    assert size
    if device.type != "cpu":
        raise ConfigError(f"execution.processes: found {size}, but on GPUs it is torchrun that starts them")
    with (
        TemporaryDirectory(prefix=_FOLDER, ignore_cleanup_errors=True) as folder,
        _first_of(size, arguments, Path(folder), stop) as end,
    ):
        yield end


@contextmanager
def _first_of(size: int, arguments: Arguments, folder: Path, stop: Callable[[], bool]) -> Iterator[Callable[[], None]]:
    # These variables stay set after the block, because the process group is not destroyed either.
    os.environ.update(_surroundings(size, folder))
    given = arguments(folder)
    others = [_started(rank, given, folder) for rank in range(1, size)]

    def end() -> None:
        for other in others:
            other.kill()
        shutil.rmtree(folder, ignore_errors=True)

    try:
        _meet(others, folder, stop)
        yield end
        with suppress(subprocess.TimeoutExpired):
            for other in others:
                other.wait(_SECONDS_TO_END)
    except RunError:
        sys.stderr.write("".join(_errors(rank, folder).read_text() for rank in range(1, size)))
        raise
    finally:
        for other in others:
            other.kill()
            with other:  # which waits for it
                pass


def _surroundings(size: int, folder: Path) -> dict[str, str]:
    """The environment variables that tell a process of the run; gloo uses the loopback interface only."""
    return {
        "RANK": "0",
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "TORCHELASTIC_RESTART_COUNT": "0",
        "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0"),
        MEETING_POINT: str(folder / "store"),
    }


def _started(rank: int, arguments: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    with _errors(rank, folder).open("wb") as errors:
        # -P: nothing is imported from the current folder, where a file may have the name of a module.
        return subprocess.Popen(
            [sys.executable, "-P", "-c", _COMMAND.format(sys.path), *arguments],
            env=os.environ | {"RANK": str(rank)},
            stdin=subprocess.PIPE,  # it closes when this process ends, however that comes about
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )


def _meet(others: list[subprocess.Popen[bytes]], folder: Path, stop: Callable[[], bool]) -> None:
    """Wait until every process has come as far as this one.

    Raises RunError if one of them ends before.
    """
    for rank, other in enumerate(others, 1):
        while not _here(rank, folder).exists():
            if other.poll() is not None:
                raise RunError(f"process {rank} of this run ended with {other.returncode} before it had begun")
            if stop():
                raise KeyboardInterrupt
            time.sleep(_SECONDS_BETWEEN_LOOKS)


def _here(rank: int, folder: Path) -> Path:
    return folder / f"{rank}.here"


def _errors(rank: int, folder: Path) -> Path:
    return folder / f"{rank}.err"


@contextmanager
def _one_of_the_others(rank: Rank) -> Iterator[None]:
    """Inside the block this process ends as soon as the first one has ended, and deletes their shared folder."""
    folder = Path(rank.meeting_point).parent
    _here(rank.number, folder).touch()

    def wait() -> None:
        # stdin is a pipe from the first process, so read() returns when that process has ended, even by SIGKILL.
        sys.stdin.buffer.read()
        if folder.name.startswith(_FOLDER):
            shutil.rmtree(folder, ignore_errors=True)
        # The main thread may hang in an all-reduce with the dead process, where no exception reaches it.
        os._exit(1)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    try:
        yield
    except RunError:  # whichever process is gone, the first one knows it, too
        waiting.join(_SECONDS_TO_END)
        raise
