"""Writes files and folders whole or not at all: under another name first, then flushed to disk, then renamed.

If a link lies at the name of a file, nothing is written through it, because that would change a file elsewhere.
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
    errno.EFBIG: "the file would be larger than this system allows",
    errno.EACCES: "no permission to write there; choose another folder",
    errno.EPERM: "no permission to write there; choose another folder",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.ENOTDIR: "a file stands where a folder is needed; choose another folder",
    errno.EEXIST: "a file stands where a folder is needed; choose another folder",
    errno.ENOENT: "the folder does not exist",
    errno.ELOOP: "a symbolic link stands there, and nothing is written through one; remove it",
}
# A disk may report that it is full or broken only when data is flushed; other errors of fsync mean "unsupported".
_DATA_LOST = (errno.EIO, errno.ENOSPC, errno.EDQUOT)
# No link is followed, opening a pipe does not wait for its other end, and Windows does not translate line ends.
_BY_NAME_ALONE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

_ASIDE = re.compile(r"\..+\.[0-9a-f]{32}")  # the names of files that write_file has not finished


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Inside the block, an OSError becomes a RunError with the path, the reason and a cure."""
    try:
        yield
    except OSError as error:
        reason = _CURES.get(error.errno or 0, error.strerror or str(error))
        raise RunError(f"{error.filename or path}: cannot be written: {reason}") from error


@cache
def warn_once(text: str) -> None:
    """Print a line on stderr, once in this process.

    A program that configures the logger `metalearn_cli` gets it as a warning there instead.
    """
    logging.getLogger("metalearn_cli").warning("warning: %s", text)


def open_to_write(path: Path, flags: int) -> int:
    """A descriptor of the plain file at `path`; the file is created if it does not exist.

    Raises OSError if a link, a pipe or a device has that name, or if the file has a second name (a hard link).
    """
    descriptor = os.open(path, flags | os.O_CREAT | _BY_NAME_ALONE, 0o666)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_nlink <= 1:
        return descriptor
    os.close(descriptor)
    found = "a hard link to another file" if stat.S_ISREG(status.st_mode) else "no plain file"
    raise OSError(errno.EINVAL, f"{found} stands there; remove it", str(path))


def make_folder(path: Path, top: Path) -> None:
    """Create the folder `path`, which is `top` or lies below it, and all folders between; `top` may be a link.

    Raises OSError if a link lies in the place of one of the folders below `top`.
    """
    top.mkdir(parents=True, exist_ok=True)
    place = top
    for part in path.relative_to(top).parts:
        place /= part
        if place.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(place))
        place.mkdir(exist_ok=True)


def remove_folder(path: Path) -> None:
    """Delete the folder with its contents; if a link, a pipe or a file has its name, delete only that."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)  # rmtree would open a pipe, and wait for somebody who writes into it
    else:
        shutil.rmtree(path)


def write_file(path: Path, content: bytes, predecessor: Path | None = None) -> None:
    """Write `content` to `path`, so that after a power loss the file has either its old or its new content, whole.

    With a `predecessor`, that file then has the old content of `path`, and at any moment one of the two is whole. The
    bytes are read back from the disk before the file gets its name.

    Raises RunError if the disk refuses or returns other bytes; nothing half-written stays.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with disk_errors(path):
        _require_no_device(path)
        # The order makes this safe: the content is flushed before the file gets its name, and the folder, which holds
        # the name, after it. In the other order a power loss could leave the name on an empty file.
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
    """Append `content` to the file `path` and flush it to the disk; the file is created if it does not exist.

    Raises RunError if the disk refuses; a part of the content may then have been written.
    """
    new = not path.exists()
    with disk_errors(path):
        _write(path, os.O_APPEND, content)
        if new:
            _flush_folder(path.parent)


def sweep(folder: Path) -> None:
    """Delete the half-written files that killed processes left in the folder. No other process may be writing there."""
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
    """Raise OSError if a device, a pipe or a folder has this name, because a rename over it would destroy it."""
    with suppress(FileNotFoundError):
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise OSError(errno.EINVAL, "no plain file has that name", str(path))


def _read_back(path: Path) -> bytes:
    with path.open("rb") as file:
        if hasattr(os, "posix_fadvise"):  # drop the system's cache, so that the bytes come from the disk
            with suppress(OSError):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return file.read()


def _give_name(path: Path, name: Path) -> None:
    """Give the file `path` the second name `name`."""
    aside = name.with_name(f".{name.name}.{uuid.uuid4().hex}")
    try:
        os.link(path, aside, follow_symlinks=False)
    except (OSError, NotImplementedError):  # a file system without links
        write_file(name, path.read_bytes())
    else:
        aside.replace(name)  # a link can only be made under a new name; the rename then replaces an old file at once


def put_in_place(aside: Path, target: Path) -> None:
    """Rename the folder `aside` to `target`, which is in the same folder.

    An old `target` is first renamed and later deleted, so at any moment one of the two is on the disk, whole.

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


def put_right(target: Path) -> None:
    """The folder `target` is whole, or absent, after a process was killed inside `put_in_place`.

    If the new one is not in place, the old one gets its name back; otherwise the old one is deleted.
    """
    for old in target.parent.glob(f".{target.name}.*.old"):
        with disk_errors(old):
            if target.exists():
                remove_folder(old)
            else:
                old.rename(target)


def _flush_folder(path: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened there
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:  # a folder with permission to write but not to list
        _go_on_without_flush(error, path)
        return
    try:
        _flush(descriptor, path)
    finally:
        os.close(descriptor)


def _flush(descriptor: int, folder: Path) -> None:
    """Flush what was written to the disk, if the file system can do so."""
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
