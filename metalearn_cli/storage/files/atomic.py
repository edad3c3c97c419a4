"""Files and folders that are whole or not there: written aside, flushed to disk, renamed.

Nothing is written through a link that somebody left at the name of a file: it would be another file, elsewhere.
"""

import errno
import logging
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from metalearn_cli.errors import RunError

_CURES = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EFBIG: "the file would be larger than is allowed here",
    errno.EACCES: "no permission to write there; choose another folder",
    errno.EPERM: "no permission to write there; choose another folder",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.ENOTDIR: "a file stands where a folder is needed; choose another folder",
    errno.EEXIST: "a file stands where a folder is needed; choose another folder",
    errno.ENOENT: "the folder does not exist",
    errno.ELOOP: "a symbolic link stands there, and nothing is written through one; remove it",
}
_DATA_LOST = (errno.EIO, errno.ENOSPC, errno.EDQUOT)
_BY_NAME_ALONE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

_ASIDE = re.compile(r"\..+\.[0-9a-f]{32}")


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns what the disk refuses inside the block into a RunError with the path, the reason and a cure."""
    try:
        yield
    except OSError as error:
        reason = _CURES.get(error.errno or 0, error.strerror or str(error))
        raise RunError(f"{error.filename or path}: cannot be written: {reason}") from error


@cache
def warn_once(text: str) -> None:
    """A line on stderr, or where the program that uses this package sends the warnings of the logger `metalearn`."""
    logging.getLogger("metalearn").warning("warning: %s", text)


def open_to_write(path: Path, flags: int) -> int:
    """A descriptor of the plain file at `path`, which is made if need be.

    Raises OSError if a link, a pipe or a device has that name, or if the file has a second name elsewhere.
    """
    descriptor = os.open(path, flags | os.O_CREAT | _BY_NAME_ALONE, 0o666)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_nlink <= 1:
        return descriptor
    os.close(descriptor)
    found = "a hard link to another file" if stat.S_ISREG(status.st_mode) else "no plain file"
    raise OSError(errno.EINVAL, f"{found} stands there; remove it", str(path))


def make_folder(path: Path, top: Path) -> None:
    """`path`, which is `top` or lies below it, is a folder, and so is each on the way; `top` itself may be a link.

    Raises OSError if a link stands in the place of one.
    """
    top.mkdir(parents=True, exist_ok=True)
    place = top
    for part in path.relative_to(top).parts:
        place /= part
        if place.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(place))
        place.mkdir(exist_ok=True)


def remove_folder(path: Path) -> None:
    """The folder is gone with all that is in it; of a link in its place, the link alone."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def write_file(path: Path, content: bytes, predecessor: Path | None = None) -> None:
    """`path` holds `content`, also after a power loss; until then it holds what it held before.

    With a `predecessor`, that file then holds what `path` held before, and one of the two is whole at any moment. The
    bytes are read back from the disk before they get their name.

    Raises RunError if the disk refuses or gives back something else; nothing half-written stays.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with disk_errors(path):
        _require_no_device(path)
        try:
            _write(aside, os.O_EXCL, content)
            if _read_back(aside) != content:
                raise RunError(f"{path}: the disk did not keep what was written to it; use another disk")
            if predecessor is not None and path.exists():
                _give_name(path, predecessor)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        _flush_folder(path.parent)


def append(path: Path, content: bytes) -> None:
    """`path` ends with `content`, also after a power loss; it is made if need be.

    Raises RunError if the disk refuses; then a part of it may have been written.
    """
    new = not path.exists()
    with disk_errors(path):
        _write(path, os.O_APPEND, content)
        if new:
            _flush_folder(path.parent)


def sweep(folder: Path) -> None:
    """What killed processes left half-written in the folder is gone. No other process may be writing there."""
    with disk_errors(folder):
        for file in folder.iterdir():
            if _ASIDE.fullmatch(file.name):
                file.unlink()


def _write(path: Path, flags: int, content: bytes) -> None:
    descriptor = open_to_write(path, os.O_WRONLY | flags)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(descriptor, left) :]
        _flush(descriptor, path.parent)
    finally:
        os.close(descriptor)


def _require_no_device(path: Path) -> None:
    """Raises OSError for what is neither a file nor a link, which would be lost if another took its name."""
    with suppress(FileNotFoundError):
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise OSError(errno.EINVAL, "no plain file has that name", str(path))


def _read_back(path: Path) -> bytes:
    with path.open("rb") as file:
        if hasattr(os, "posix_fadvise"):  # from the disk, not from what the system remembers of it
            with suppress(OSError):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return file.read()


def _give_name(path: Path, name: Path) -> None:
    """`name` is what `path` is, and `path` stays."""
    aside = name.with_name(f".{name.name}.{uuid.uuid4().hex}")
    try:
        os.link(path, aside, follow_symlinks=False)
    except (OSError, NotImplementedError):  # a file system without links
        write_file(name, path.read_bytes())
    else:
        aside.replace(name)


def put_in_place(aside: Path, target: Path) -> None:
    """The folder `aside` becomes `target`, beside which it lies.

    An old `target` is moved away before and removed after, so there is always one whole folder or the other.

    Raises RunError if the disk refuses.
    """
    old = target.with_name(f".{target.name}.{uuid.uuid4().hex}.old")
    replaced = target.exists() or target.is_symlink()
    with disk_errors(target):
        if replaced:
            target.rename(old)
        try:
            aside.rename(target)
        except BaseException:
            if replaced and not target.exists():
                old.rename(target)
            raise
        _flush_folder(target.parent)
    with suppress(OSError):
        remove_folder(old)


def _flush_folder(path: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened there
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:  # one that may be written to, but not listed
        _go_on_without_flush(error, path)
        return
    try:
        _flush(descriptor, path)
    finally:
        os.close(descriptor)


def _flush(descriptor: int, folder: Path) -> None:
    """What was written is on the disk, as far as its file system has a way to say so."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        _go_on_without_flush(error, folder)


def _go_on_without_flush(error: OSError, folder: Path) -> None:
    if error.errno in _DATA_LOST:
        raise error
    warn_once(
        f"{folder}: its file system does not flush to the disk ({error.strerror}); after a power loss the newest files "
        "may be missing"
    )
