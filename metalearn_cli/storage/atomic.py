"""Files and folders that are whole or not there: written aside, flushed to disk, renamed."""

import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
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
}


_ASIDE = re.compile(r"\..+\.[0-9a-f]{32}")


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns what the disk refuses inside the block into a RunError with the path, the reason and a cure."""
    try:
        yield
    except OSError as error:
        reason = _CURES.get(error.errno or 0, error.strerror or str(error))
        raise RunError(f"{error.filename or path}: cannot be written: {reason}") from error


def write_file(path: Path, content: bytes, predecessor: Path | None = None) -> None:
    """`path` holds `content`, also after a power loss; until then it holds what it held before.

    With a `predecessor`, that file then holds what `path` held before, and one of the two is whole at any moment. The
    bytes are read back from the disk before they get their name.

    Raises RunError if the disk refuses or gives back something else; nothing half-written stays.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with disk_errors(path):
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
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o666)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_back(path: Path) -> bytes:
    with path.open("rb") as file:
        if hasattr(os, "posix_fadvise"):  # from the disk, not from what the system remembers of it
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return file.read()


def _give_name(path: Path, name: Path) -> None:
    """`name` is what `path` is, and `path` stays."""
    aside = name.with_name(f".{name.name}.{uuid.uuid4().hex}")
    try:
        aside.hardlink_to(path)
    except OSError:  # a file system without links
        write_file(name, path.read_bytes())
    else:
        aside.replace(name)


def put_in_place(aside: Path, target: Path) -> None:
    """The folder `aside` becomes `target`, beside which it lies.

    An old `target` is moved away before and removed after, so there is always one whole folder or the other.

    Raises RunError if the disk refuses.
    """
    old = target.with_name(f".{target.name}.{uuid.uuid4().hex}.old")
    replaced = target.exists()
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
    shutil.rmtree(old, ignore_errors=True)


def _flush_folder(path: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
