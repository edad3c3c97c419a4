"""Folders, zips and tars as lists of members, read in place; nothing is ever extracted by name.

What an archive may hold is decided here: plain files with relative names. Anything that would leave the folder or
stand for something else (`..`, absolute names, links, devices) makes the whole archive unwelcome.
"""

import bz2
import gzip
import io
import lzma
import os
import re
import tarfile
import threading
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

from metalearn_cli.errors import DataError
from metalearn_cli.storage.spool import copied

MOST_BYTES = 64 << 20
"""No picture and no list is larger."""

_MOST_MEMBERS = 5_000_000
_ALWAYS_FINE = 1 << 30
_HIGHEST_RATIO = 100
_ARCHIVE = re.compile(r"\.(zip|tar|tgz|tbz2?|txz|tar\.(gz|bz2|xz))$", re.IGNORECASE)
_JUNK = re.compile(r"(^|/)(\._[^/]*|\.DS_Store|Thumbs\.db|__MACOSX(/.*)?|desktop\.ini|Icon\r)$", re.IGNORECASE)
_COMPRESSED: dict[bytes, Callable[[BinaryIO], Any]] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}


class Member(NamedTuple):
    """A file of a Holder: its path there, and the key by which the holder reads it."""

    path: str
    key: Any


class Holder(Protocol):
    """A folder or an archive."""

    def members(self) -> Iterator[Member]:
        """Its files, in any order. Raises DataError for one that no archive of pictures has."""
        ...

    def read(self, key: Any) -> bytes:
        """The content of a file of at most MOST_BYTES, from any thread. Raises DataError if it cannot be read."""
        ...

    def file(self, key: Any) -> BinaryIO:
        """A file of any size, opened for reading anywhere in it. Raises DataError if it cannot be opened."""
        ...

    def close(self) -> None:
        """Nothing of it is open any more."""
        ...


def is_archive(path: str) -> bool:
    """Whether the name is that of a zip or tar."""
    return _ARCHIVE.search(path) is not None


def archive(what: str, file: BinaryIO, scratch: Path | None) -> Holder:
    """The zip or tar in `file`, which is its from now on; a compressed tar is unpacked into `scratch`, as one file.

    Raises DataError, with `what`, if it is damaged, cut short or a bomb.
    """
    try:
        return _opened(what, file, scratch)
    except DataError:
        file.close()
        raise
    except Exception as error:  # zipfile, tarfile and the decompressors raise many types for a damaged file
        file.close()
        raise DataError(f"{what}: is damaged or cut short: {error}") from error


def _opened(what: str, file: BinaryIO, scratch: Path | None) -> Holder:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if what.lower().endswith(".zip"):
        return Zip(what, file, size, scratch)
    start = file.read(2)
    file.seek(0)
    if start in _COMPRESSED:
        with file, _COMPRESSED[start](file) as stream:
            file = copied(stream, scratch, max(_ALWAYS_FINE, _HIGHEST_RATIO * size), what)
    return Tar(what, file)


class Folder:
    """The files of a folder on disk, in it and below; links that lead out of it are passed over."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def members(self) -> Iterator[Member]:
        """Each file, with its path on disk as key."""
        return self._below(str(self._path), "", self._path.resolve())

    def _below(self, folder: str, prefix: str, root: Path) -> Iterator[Member]:
        # Millions of files go through here: a Path for each would take longer than reading their names.
        try:
            entries = [*os.scandir(folder)]
        except OSError as error:
            raise DataError(f"{folder}: cannot be read: {error.strerror}") from error
        for entry in entries:
            path = prefix + unicodedata.normalize("NFC", entry.name)
            if entry.is_dir(follow_symlinks=False):
                yield from self._below(entry.path, path + "/", root)
                continue
            if _JUNK.search(path) or not entry.is_file():
                continue
            if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(root):
                continue
            if not path.isprintable():  # a line break, or bytes that are not UTF-8: no manifest could hold it
                raise DataError(f"{self._path}: {path!r} has a name that cannot be printed; rename it")
            yield Member(path, entry.path)

    def read(self, key: str) -> bytes:
        """Its content."""
        with self.file(key) as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise DataError(f"{key}: is larger than {MOST_BYTES >> 20} MB")
        return content

    def file(self, key: str) -> BinaryIO:
        """The file itself."""
        try:
            return open(key, "rb")  # noqa: PTH123 (a Path for each of a million files takes longer)
        except OSError as error:
            raise DataError(f"{key}: cannot be read: {error.strerror}") from error

    def close(self) -> None:
        """There is nothing to close."""


class Zip:
    """The files of a zip."""

    def __init__(self, what: str, file: BinaryIO, size: int, scratch: Path | None) -> None:
        self._what, self._scratch = what, scratch
        self._zip = zipfile.ZipFile(file)
        self._file = file
        self._lock = threading.Lock()
        unpacked = sum(entry.file_size for entry in self._zip.infolist())
        if unpacked > max(_ALWAYS_FINE, _HIGHEST_RATIO * size):
            raise DataError(f"{what}: unpacks to {unpacked >> 20:,} MB, far more than pictures would")

    def members(self) -> Iterator[Member]:
        """Each file, with its ZipInfo as key."""
        entries = self._zip.infolist()
        _require_few(self._what, len(entries))
        for entry in entries:
            kind = entry.external_attr >> 16 & 0o170000
            if entry.is_dir():
                continue
            if kind not in (0, 0o100000):
                raise DataError(f"{self._what}: member {entry.filename!r} is a link or a device; unpack it by hand")
            path = _plain(self._what, entry.filename.replace("\\", "/"))
            if not _JUNK.search(path):
                yield Member(path, entry)

    def read(self, key: zipfile.ZipInfo) -> bytes:
        """Its content."""
        try:
            with self._lock, self._zip.open(key) as file:
                content = file.read(MOST_BYTES + 1)
        except Exception as error:  # BadZipFile, RuntimeError (encrypted), zlib.error, EOFError, ...
            raise DataError(f"{self._what}: member {key.filename!r} cannot be read: {error}") from error
        if len(content) > MOST_BYTES:
            raise DataError(f"{self._what}: member {key.filename!r} is larger than {MOST_BYTES >> 20} MB")
        return content

    def file(self, key: zipfile.ZipInfo) -> BinaryIO:
        """A copy of it."""
        what = f"{self._what}: member {key.filename!r}"
        most = max(_ALWAYS_FINE, _HIGHEST_RATIO * key.compress_size)
        try:
            with self._lock, self._zip.open(key) as stream:
                return copied(stream, self._scratch, most, what)  # type: ignore[arg-type]
        except (DataError, OSError):
            raise
        except Exception as error:
            raise DataError(f"{what} cannot be read: {error}") from error

    def close(self) -> None:
        """The zip is closed."""
        self._zip.close()
        self._file.close()


class Tar:
    """The files of an uncompressed tar."""

    def __init__(self, what: str, file: BinaryIO) -> None:
        self._what, self._file = what, file
        self._lock = threading.Lock()
        self._tar = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115

    def members(self) -> Iterator[Member]:
        """Each file, with where its bytes lie as key."""
        count = 0
        while (entry := self._next()) is not None:
            count += 1
            _require_few(self._what, count)
            if entry.isdir():
                continue
            if not entry.isreg() or entry.issparse():
                raise DataError(f"{self._what}: member {entry.name!r} is a link or a device; unpack it by hand")
            path = _plain(self._what, entry.name)
            if not _JUNK.search(path):
                yield Member(path, (entry.offset_data, entry.size))
        with self._lock:
            self._file.seek(self._tar.offset)
            if self._file.read(512) != bytes(512):
                raise DataError(f"{self._what}: is damaged or cut short: it has no end")

    def read(self, key: tuple[int, int]) -> bytes:
        """Its content."""
        offset, size = key
        if size > MOST_BYTES:
            raise DataError(f"{self._what}: a member is larger than {MOST_BYTES >> 20} MB")
        with self._lock:
            self._file.seek(offset)
            return self._file.read(size)

    def file(self, key: tuple[int, int]) -> BinaryIO:
        """A window on it."""
        return io.BufferedReader(_Window(self._file, self._lock, *key))

    def close(self) -> None:
        """The tar is closed."""
        self._tar.close()
        self._file.close()

    def _next(self) -> tarfile.TarInfo | None:
        self._tar.members.clear()  # type: ignore[attr-defined] # it would keep a kilobyte for each of a million members
        try:
            with self._lock:
                return self._tar.next()
        except Exception as error:  # tarfile raises many types for a damaged file
            raise DataError(f"{self._what}: is damaged or cut short: {error}") from error


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


def _plain(what: str, name: str) -> str:
    """The member's path without "." and empty parts. Raises DataError if it could mean a place outside the archive."""
    path = unicodedata.normalize("NFC", name)
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or ":" in parts[0]:
        raise DataError(f"{what}: member {name!r} would leave the folder; unpack it by hand if you trust it")
    if not path.isprintable() and not _JUNK.search(path):
        raise DataError(f"{what}: member {name!r} has a name that cannot be printed")
    return "/".join(part for part in parts if part not in ("", "."))


def _require_few(what: str, count: int) -> None:
    if count > _MOST_MEMBERS:
        raise DataError(f"{what}: has more than {_MOST_MEMBERS:,} members")
