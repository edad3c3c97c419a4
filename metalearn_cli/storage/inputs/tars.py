"""Reads an uncompressed tar in place."""

import io
import tarfile
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO

from metalearn_cli.errors import DataError, reason
from metalearn_cli.omissions import Omissions
from metalearn_cli.storage.inputs.holders import Member, decoded_name, is_leftover, plain_path, read_all, require_few


class Tar:
    """The files of an uncompressed tar."""

    def __init__(self, what: str, file: BinaryIO) -> None:
        self._what, self._file = what, file
        self._lock = threading.Lock()
        self._tar = tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115

    def members(self, omissions: Omissions) -> Iterator[Member]:
        """Yield each file, with the position and number of its bytes as key, and each folder."""
        count = 0
        while (entry := self._next()) is not None:
            count += 1
            require_few(self._what, count)
            if not (entry.isreg() or entry.isdir()) or entry.issparse():
                raise DataError(f"{self._what}: member {entry.name!r} is a link or a device; unpack it by hand")
            raw = entry.name.encode("utf-8", "surrogateescape")
            path = plain_path(self._what, decoded_name(raw, "cp1252", self._what, omissions))
            if not is_leftover(path, omissions):
                yield Member(path + "/" if entry.isdir() else path, (entry.offset_data, entry.size))
        with self._lock:  # a tar ends in blocks of 512 zero bytes; tarfile takes the end of a cut file for the end, too
            self._file.seek(self._tar.offset)
            if self._file.read(512) != bytes(512):
                raise DataError(f"{self._what}: is damaged or cut short: it has no end")

    def read(self, key: tuple[int, int]) -> bytes:
        """The content of the file `key`."""
        offset, size = key
        return read_all(self.file((offset, size)), f"{self._what}: a member")

    def head(self, key: tuple[int, int], size: int) -> bytes:
        """The first `size` bytes of the file `key`."""
        return self.file(key).read(size)

    def size(self, key: tuple[int, int]) -> int:
        """The number of bytes of the file `key`."""
        return key[1]

    def file(self, key: tuple[int, int]) -> BinaryIO:
        """The file `key`, opened for reading as a window of the tar."""
        return io.BufferedReader(_Window(self._file, self._lock, *key))

    def close(self) -> None:
        """Close the tar."""
        self._tar.close()
        self._file.close()

    def _next(self) -> tarfile.TarInfo | None:
        self._tar.members.clear()  # type: ignore[attr-defined] # it would keep a kilobyte for each of a million members
        try:
            with self._lock:
                return self._tar.next()
        except Exception as error:  # tarfile raises many types for a damaged file
            raise DataError(f"{self._what}: is damaged or cut short: {reason(error)}") from error


class _Window(io.RawIOBase):
    """`size` bytes of a file from `offset` on, as a file of its own."""

    def __init__(self, file: BinaryIO, lock: threading.Lock, offset: int, size: int) -> None:
        super().__init__()
        self._file, self._lock, self._offset, self._size, self._at = file, lock, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = max(0, min(len(buffer), self._size - self._at))
        with self._lock:
            self._file.seek(self._offset + self._at)
            content = self._file.read(wanted)
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)
