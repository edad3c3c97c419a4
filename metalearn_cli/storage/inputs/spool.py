"""Bytes set aside in a file without a name, which the system removes with the process."""

import tempfile
import threading
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metalearn_cli.storage.files.atomic import disk_errors
from metalearn_cli.storage.inputs.holders import require_modest


class Span(NamedTuple):
    """`size` bytes from `offset` on: an encoded picture, or with a `shape` the pixels themselves."""

    offset: int
    size: int
    shape: tuple[int, ...] | None = None


class Spool:
    """Set aside in `folder` (default: the system's temporary folder); any thread may read what was added."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()
        self._end = 0

    def add(self, content: bytes, shape: tuple[int, ...] | None = None) -> Span:
        """Where `content` lies from now on. Raises RunError if the disk refuses."""
        with self._lock, disk_errors(self._folder or Path(tempfile.gettempdir())):
            self._file = self._file or unnamed(self._folder)
            self._file.seek(self._end)
            self._file.write(content)
            span = Span(self._end, len(content), shape)
            self._end += len(content)
        return span

    def read(self, span: Span) -> bytes | NDArray[np.uint8]:
        """What lies at `span`."""
        with self._lock:
            assert self._file is not None
            self._file.seek(span.offset)
            content = self._file.read(span.size)
        return content if span.shape is None else np.frombuffer(content, np.uint8).reshape(span.shape)

    def size(self, span: Span) -> int:
        """The bytes at `span`."""
        return span.size

    def close(self) -> None:
        """Nothing of it is left."""
        if self._file is not None:
            self._file.close()


def unnamed(folder: Path | None) -> BinaryIO:
    """An empty file without a name in `folder`."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryFile(dir=folder)


def copied(stream: BinaryIO, folder: Path | None, most: int, what: str) -> BinaryIO:
    """The rest of `stream` in a file that can be read anywhere.

    Raises DataError, with `what`, after `most` bytes: so much cannot be pictures; RunError if the disk refuses.
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
