"""Zips and tars as holders of files, read in place; nothing is ever extracted by name, and no bomb goes off."""

import bz2
import gzip
import io
import lzma
import re
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from metalearn_cli.errors import DataError, MetalearnError, reason
from metalearn_cli.omissions import Omissions
from metalearn_cli.storage.holders import (
    Holder,
    Member,
    is_leftover,
    most_unpacked,
    plain_path,
    read_all,
    require_few,
    require_modest,
)
from metalearn_cli.storage.spool import copied
from metalearn_cli.storage.tars import Tar

_ARCHIVE = re.compile(r"\.(zip|tar|tgz|tbz2?|txz|tar\.(gz|bz2|xz))$", re.IGNORECASE)
_COMPRESSED: dict[bytes, Callable[[BinaryIO], Any]] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}


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
        raise DataError(f"{what}: is damaged or cut short: {reason(error)}") from error


def _opened(what: str, file: BinaryIO, scratch: Path | None) -> Holder:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if what.lower().endswith(".zip"):
        return Zip(what, file, size, scratch)
    start = file.read(2)
    file.seek(0)
    if start in _COMPRESSED:
        with file, _COMPRESSED[start](file) as stream:
            file = copied(stream, scratch, most_unpacked(size), what)
    return Tar(what, file)


class Zip:
    """The files of a zip."""

    def __init__(self, what: str, file: BinaryIO, size: int, scratch: Path | None) -> None:
        self._what, self._scratch = what, scratch
        self._zip = zipfile.ZipFile(file)
        self._file = file
        self._lock = threading.Lock()
        unpacked = sum(entry.file_size for entry in self._zip.infolist())
        require_modest(what, unpacked, most_unpacked(size))

    def members(self, omissions: Omissions) -> Iterator[Member]:
        """Each file, with its ZipInfo as key, and each folder."""
        entries = self._zip.infolist()
        require_few(self._what, len(entries))
        for entry in entries:
            kind = entry.external_attr >> 16 & 0o170000
            if kind not in (0, 0o100000) and not entry.is_dir():
                raise DataError(f"{self._what}: member {entry.filename!r} is a link or a device; unpack it by hand")
            path = plain_path(self._what, entry.filename.replace("\\", "/"))
            if not is_leftover(path, omissions):
                yield Member(path + "/" if entry.is_dir() else path, entry)

    def read(self, key: zipfile.ZipInfo) -> bytes:
        """Its content."""
        with self._opened(key) as (stream, what):
            return read_all(stream, what)

    def head(self, key: zipfile.ZipInfo, size: int) -> bytes:
        """Its beginning."""
        with self._opened(key) as (stream, _what):
            return stream.read(size)

    def file(self, key: zipfile.ZipInfo) -> BinaryIO:
        """A copy of it."""
        with self._opened(key) as (stream, what):
            return copied(stream, self._scratch, most_unpacked(key.compress_size), what)

    @contextmanager
    def _opened(self, key: zipfile.ZipInfo) -> Iterator[tuple[BinaryIO, str]]:
        what = f"{self._what}: member {key.filename!r}"
        try:
            with self._lock, self._zip.open(key) as stream:
                yield stream, what  # type: ignore[misc]
        except MetalearnError:
            raise
        except Exception as error:  # BadZipFile, RuntimeError (encrypted), zlib.error, EOFError, ...
            raise DataError(f"{what} cannot be read: {reason(error)}") from error

    def close(self) -> None:
        """The zip is closed."""
        self._zip.close()
        self._file.close()
