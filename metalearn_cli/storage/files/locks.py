"""One writer at a time: a lock file that the kernel drops with its process, so there is no stale one."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from metalearn_cli.storage.files.atomic import disk_errors, open_to_write, warn_once

_LONGEST_NAME = 200
_held: set[TextIO] = set()


@contextmanager
def locked(path: Path, held: Callable[[str], None]) -> Iterator[None]:
    """This process alone is in the block. While another is, `held(who)` is called over and over; it waits or raises.

    The lock file goes with the lock. Where the system or the file system refuses such locks, for whatever reason, there
    is none, and a line says so: files are whole all the same, as each gets its name only then.

    Raises RunError if the disk refuses the file, or if something else than a plain file has its name.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    while True:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.fdopen(open_to_write(path, os.O_RDWR | os.O_APPEND), "r+", errors="replace")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held(_holder(file))
                continue
            except OSError as error:
                told = f"{path.parent}: its file system gives no locks ({error.strerror})"
                warn_once(f"{told}; no other metalearn may write there at the same time")
            if not _still_there(path, file):
                continue
            with disk_errors(path):
                file.truncate(0)
                file.write(f"process {os.getpid()} on {os.uname().nodename}")
                file.flush()
            _held.add(file)
            try:
                yield
            finally:
                _held.discard(file)
                with suppress(OSError):
                    path.unlink(missing_ok=True)
            return


def _holder(file: TextIO) -> str:
    file.seek(0)
    return file.read(_LONGEST_NAME).strip() or "unknown"


def _still_there(path: Path, file: TextIO) -> bool:
    """Whether the file that was locked is the one at the path; its last holder may have taken it away."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _let_go() -> None:
    """A forked child shares its parent's locks, and would keep them when the parent is gone."""
    for file in _held:
        file.close()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
