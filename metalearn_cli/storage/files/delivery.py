"""Writes to paths that a user named: a plain file is replaced as a whole, a pipe or a terminal gets the bytes."""

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from metalearn_cli.storage.files.atomic import disk_errors, write_file

_OPEN_ALREADY = re.compile(r"/(?:dev|proc/self)/fd/(\d{1,9})")


def deliver(path: Path, content: bytes) -> None:
    """Replace the plain file `path` by one with `content`, or write `content` into a pipe, a terminal or a device.

    Raises RunError if the system refuses.
    """
    if not is_stream(path):
        write_file(path, content)
        return
    with disk_errors(path):
        descriptor = _opened(path)
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(descriptor, left) :]
        finally:
            os.close(descriptor)


def is_stream(path: Path) -> bool:
    """Whether `path`, after following links, is a pipe, a terminal or a device, into which bytes are written in order.

    It is true for /dev/stdout in any case, even if the shell has redirected it to a plain file.
    """
    if _own_descriptor(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


def _opened(path: Path) -> int:
    own = _own_descriptor(path)
    return os.open(path, os.O_WRONLY | getattr(os, "O_NOCTTY", 0)) if own is None else os.dup(own)


def _own_descriptor(path: Path) -> int | None:
    """The descriptor of this process that the path names (such as /dev/stdout), or None.

    It must be used itself: a file that is opened again by that path would have a position of its own.
    """
    named = _OPEN_ALREADY.fullmatch(str(path))
    for number in (int(named[1]),) if named else (1, 2):
        with suppress(OSError, ValueError):
            if (named or path.is_symlink()) and os.path.samestat(path.stat(), os.fstat(number)):
                return number
    return None
