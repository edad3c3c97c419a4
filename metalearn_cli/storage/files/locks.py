"""Locks for one writer at a time. The kernel releases a lock when its process ends, so no stale lock remains."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from metalearn_cli.storage.files.atomic import disk_errors, open_to_write, warn_once

_LONGEST_NAME = 200  # characters of the holder's own description that a message shows
_held: set[TextIO] = set()  # read only by a forked child, see `_let_go`


@contextmanager
def locked(path: Path, held: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock `path` inside the block. While another process holds it, `held(who)` is called again and again.

    `held` waits or raises. The lock file is deleted with the lock. If the system or the file system has no locks, the
    block runs without one, and a line on stderr says so; files are still written whole, because each gets its name only
    at the end.

    Raises RunError if the disk refuses the file, or if something other than a plain file has its name.
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
                # flock and not lockf: a lock of lockf ends when this process closes any descriptor of the file.
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
                # The file is deleted while it is still locked; otherwise the next holder's file could be deleted.
                _held.discard(file)
                with suppress(OSError):
                    path.unlink(missing_ok=True)
            return


def _holder(file: TextIO) -> str:
    file.seek(0)
    return file.read(_LONGEST_NAME).strip() or "unknown"


def _still_there(path: Path, file: TextIO) -> bool:
    """Whether the locked file is still the one at the path; the last holder may have deleted it meanwhile."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _let_go() -> None:
    """Close the locks in a forked child; it shares its parent's locks and would hold them after the parent's end."""
    for file in _held:
        file.close()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
