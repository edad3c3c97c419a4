"""Reads plain files by name, and refuses all others: a read from a pipe would block, and a device never ends."""

import errno
import stat
from pathlib import Path


def require_plain(path: Path) -> Path:
    """`path` itself, after a check. Raises OSError unless it is a plain file or a link to a plain file."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, "is a folder, expected a file", str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "is a pipe or a device, expected a plain file", str(path))
    return path


def content_of(path: Path) -> bytes:
    """All bytes of a plain file. Raises OSError if it does not exist, is not plain, or cannot be read."""
    return require_plain(path).read_bytes()
