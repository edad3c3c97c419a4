"""Spool: stores bytes in a nameless temporary file, which the system deletes when the process ends."""

import tempfile
import threading
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metalearn_cli.storage.files.atomic import disk_errors
from metalearn_cli.storage.inputs.holders import require_modest


class Span(NamedTuple):
    """A place in a Spool: `size` bytes from `offset` on; an encoded picture, or pixels of the given `shape`."""

    offset: int
    size: int
    shape: tuple[int, ...] | None = None


class Spool:
    """A nameless file in `folder` (default: the system's temporary folder); any thread may read from it."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()
        self._end = 0

    def add(self, content: bytes, shape: tuple[int, ...] | None = None) -> Span:
        """Store `content` and return its place. Raises RunError if the disk refuses."""
        with self._lock, disk_errors(self._folder or Path(tempfile.gettempdir())):
            self._file = self._file or unnamed(self._folder)
            self._file.seek(self._end)
            self._file.write(content)
            span = Span(self._end, len(content), shape)
            self._end += len(content)
        return span

    def read(self, span: Span) -> bytes | NDArray[np.uint8]:
        """The bytes or the pixels at `span`."""
        with self._lock:  # another thread's seek must not come between this seek and this read
            assert self._file is not None
            self._file.seek(span.offset)
            content = self._file.read(span.size)
        return content if span.shape is None else np.frombuffer(content, np.uint8).reshape(span.shape)

    def size(self, span: Span) -> int:
        """The number of bytes at `span`."""
        return span.size

    def close(self) -> None:
        """Close and delete the file."""
        if self._file is not None:
            self._file.close()


def unnamed(folder: Path | None) -> BinaryIO:
    """An empty file without a name in `folder`."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryFile(dir=folder)


def copied(stream: BinaryIO, folder: Path | None, most: int, what: str) -> BinaryIO:
    """A nameless file in `folder` with the rest of `stream`; it can be read at any position.

    Raises DataError, with `what`, after `most` bytes, because then it is a bomb; RunError if the disk refuses.
    """
    with disk_errors(folder or Path(tempfile.gettempdir())):
        target = unnamed(folder)
    try:
        while piece := stream.read(1 << 20):
            require_modest(what, target.tell() + len(piece), most)
            with disk_errors(folder or Path(tempfile.gettempdir())):
                target.write(piece)
        target.seek(0)
    except BaseException:
        target.close()
        raise
    return target
