"""Files that are read by their name, plain ones alone: a pipe would be waited for, and a device never ends."""

import errno
import stat
from pathlib import Path


def require_plain(path: Path) -> Path:
    """The path. Raises OSError if no plain file is there, nor a link to one."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, "is a folder, expected a file", str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "is a pipe or a device, expected a plain file", str(path))
    return path


def content_of(path: Path) -> bytes:
    """All bytes of a plain file. Raises OSError if there is none, or if it cannot be read."""
    return require_plain(path).read_bytes()
