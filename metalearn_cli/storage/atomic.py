"""Files and folders that are whole or not there: written aside, flushed to disk, renamed."""

import errno
import os
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


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns what the disk refuses inside the block into a RunError with the path, the reason and a cure."""
    try:
        yield
    except OSError as error:
        reason = _CURES.get(error.errno or 0, error.strerror or str(error))
        raise RunError(f"{error.filename or path}: cannot be written: {reason}") from error


def write_file(path: Path, content: bytes) -> None:
    """`path` holds `content`, also after a power loss; until then it holds what it held before.

    Raises RunError if the disk refuses; nothing half-written stays.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with disk_errors(path):
        try:
            with aside.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        _flush_folder(path.parent)


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
