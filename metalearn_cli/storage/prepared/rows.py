"""Reads pictures by number from an open file, which is never mapped into memory.

If a mapped file is cut, the process dies by a signal without a message; if it is written to, the training data change
silently. Here both are a DataError, because size and time of the file are compared at every read. `prepare --force`
replaces the file by a new one, and readers keep the old one. A read costs about 5 microseconds for a picture of 28 x 28
and 20 for one of 84 x 84 in colour. This is 4 and 10 microseconds more than a map whose pages are in memory, and a
third of a map whose pages are not (two cores, 2026).
"""

import hashlib
import os
import stat
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from metalearn_cli.errors import DataError

_BLOCK = 1 << 22  # bytes


class Rows:
    """The rows of an open .npy file with an array [N, ...] of one `dtype`.

    `shape` and `nbytes` are those of the array, `bytes` is the size of the file. Raises OSError if it is not a plain
    file; ValueError or another error of numpy if it is not a single array of this `dtype` in C order.
    """

    def __init__(self, path: Path, dtype: type[np.generic] = np.uint8) -> None:
        self._path = path
        # O_NONBLOCK: opening a pipe in place of the file must not wait for a writer.
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, file)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(None, "is no plain file")
        self._file, self._lock = file, threading.Lock()
        self._stamp = self._stamp_now()
        with open(file, "rb", closefd=False) as header:
            version = npy.read_magic(header)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            self.shape, in_order_of_fortran, self.dtype = read(header)
            self._start = header.tell()
        self.bytes = self._stamp[0]
        self._size = int(np.prod(self.shape[1:], dtype=object)) * self.dtype.itemsize
        self.nbytes = self._size * self.shape[0] if self.shape else 1
        if self.dtype != dtype or in_order_of_fortran or self._start + self.nbytes != self.bytes:
            raise ValueError(f"its header says {self.dtype} {self.shape}, which its {self.bytes:,} bytes are not")

    @property
    def stamp(self) -> str:
        """A text that changes if the file is replaced or written to."""
        return " ".join(map(str, (*os.fstat(self._file)[1:2], self._stamp[1])))

    def picture(self, number: int) -> NDArray[Any]:
        """Row `number` [...]. Raises DataError as `taken` does."""
        row: NDArray[Any] = self.taken(np.array([number]))[0]
        return row

    def taken(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """A new array of the rows with these `numbers` [n]: [n, ...].

        Raises DataError if the file has changed since it was opened, or cannot be read any more.
        """
        rows = np.empty((len(numbers), self._size), dtype=np.uint8)
        for row, number in zip(rows, numbers.tolist(), strict=True):
            if not 0 <= number < self.shape[0]:
                raise IndexError(f"{self._path}: has {self.shape[0]} pictures, number {number} was asked for")
            self._read(row, self._start + number * self._size)
        self._require_unchanged()
        return rows.view(self.dtype).reshape(len(numbers), *self.shape[1:])

    def whole(self) -> NDArray[Any]:
        """All rows [N, ...], in memory. Raises DataError as `taken` does."""
        return self.taken(np.arange(self.shape[0]))

    def sha256(self, moved: Callable[[int], None]) -> str:
        """The SHA-256 of the whole file; `moved` gets the number of bytes read so far. Raises DataError as `taken`."""
        digest, block = hashlib.sha256(), np.empty(min(_BLOCK, self.bytes), dtype=np.uint8)
        for start in range(0, self.bytes, _BLOCK):
            part = block[: self.bytes - start]
            self._read(part, start)
            digest.update(part.data)
            moved(start + len(part))
        self._require_unchanged()
        return digest.hexdigest()

    def __array__(self, dtype: object = None, copy: object = None) -> NDArray[Any]:
        """All rows, for numpy."""
        return self.whole()

    def _read(self, into: NDArray[np.uint8], start: int) -> None:
        try:
            done = self._read_at(into, start)
        except OSError as error:
            raise DataError(f"{self._path}: cannot be read any more: {error.strerror or error}") from error
        if done != len(into):
            raise self._changed()

    def _read_at(self, into: NDArray[np.uint8], start: int) -> int:
        if hasattr(os, "preadv"):  # it has no position that threads would share, and needs no copy
            return os.preadv(self._file, [into.data], start)
        with self._lock:  # Windows
            os.lseek(self._file, start, os.SEEK_SET)
            content = os.read(self._file, len(into))
        into[: len(content)] = np.frombuffer(content, dtype=np.uint8)
        return len(content)

    def _stamp_now(self) -> tuple[int, int]:
        status = os.fstat(self._file)
        return status.st_size, status.st_mtime_ns

    def _require_unchanged(self) -> None:
        if self._stamp_now() != self._stamp:
            raise self._changed()

    def _changed(self) -> DataError:
        return DataError(
            f"{self._path}: was cut or written to while it was being read; prepare the dataset again with --force, "
            "which never touches the file that a run reads, and go on from the last checkpoint with --resume"
        )
