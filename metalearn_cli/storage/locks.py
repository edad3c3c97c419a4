"""One writer at a time: a lock file that the kernel drops with its process, so there is no stale one."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from metalearn_cli.storage.atomic import disk_errors

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)

_held: set[TextIO] = set()


@contextmanager
def locked(path: Path, held: Callable[[str], None]) -> Iterator[None]:
    """This process alone is in the block. While another is, `held(who)` is called over and over; it waits or raises.

    The lock file goes with the lock. Where the system or the file system has no such locks, there is none: files are
    whole all the same, as each gets its name only then.

    Raises RunError if the disk refuses.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    while True:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held(_holder(file))
                continue
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
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
                path.unlink(missing_ok=True)
            return


def _holder(file: TextIO) -> str:
    file.seek(0)
    return file.read().strip() or "unknown"


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
