"""Reads zips and tars in place. No member is extracted under its name, and archives that unpack to far too much (bombs)
are refused.
"""

import bz2
import gzip
import io
import lzma
import re
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from metalearn_cli.errors import DataError, MetalearnError, reason
from metalearn_cli.omissions import Omissions
from metalearn_cli.storage.inputs.holders import (
    Holder,
    Member,
    decoded_name,
    is_leftover,
    most_unpacked,
    plain_path,
    read_all,
    require_few,
    require_modest,
)
from metalearn_cli.storage.inputs.spool import copied
from metalearn_cli.storage.inputs.tars import Tar

_ARCHIVE = re.compile(r"\.(zip|tar|tgz|tbz2?|txz|tar\.(gz|bz2|xz))$", re.IGNORECASE)
_IS_UTF8, _UNICODE_PATH = 0x800, 0x7075  # a flag bit and an extra field of PKWARE's zip specification
_COMPRESSED: dict[bytes, Callable[[BinaryIO], Any]] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}


def is_archive(path: str) -> bool:
    """Whether the suffix of `path` is that of a zip or tar."""
    return _ARCHIVE.search(path) is not None


def open_archive(what: str, file: BinaryIO, scratch: Path | None) -> Holder:
    """A Holder for the zip or tar in `file`, which it closes in the end.

    A compressed tar is unpacked into `scratch`, as one file. Raises DataError, with `what` as its name, if the archive
    is damaged, cut short or a bomb.
    """
    try:
        return _opened(what, file, scratch)
    except DataError:
        file.close()
        raise
    except Exception as error:  # zipfile, tarfile and the decompressors raise many types of errors for damaged files
        file.close()
        raise DataError(f"{what}: is damaged or cut short: {reason(error)}") from error


def _opened(what: str, file: BinaryIO, scratch: Path | None) -> Holder:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if what.lower().endswith(".zip"):
        return Zip(what, file, size, scratch)
    start = file.read(2)  # by content, because people rename archives
    file.seek(0)
    if start in _COMPRESSED:
        with file, _COMPRESSED[start](file) as stream:
            file = copied(stream, scratch, most_unpacked(size), what)
    return Tar(what, file)


def _in_extra(extra: bytes, raw: bytes) -> str:
    """The name in Info-ZIP's Unicode field, if it exists and was made for the raw name `raw`; else ""."""
    while len(extra) >= 4:
        kind, size = struct.unpack("<HH", extra[:4])
        body, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_PATH and body[1:5] == zlib.crc32(raw).to_bytes(4, "little"):
            return body[5:].decode("utf-8", "replace")
    return ""


class Zip:
    """The files of a zip."""

    def __init__(self, what: str, file: BinaryIO, size: int, scratch: Path | None) -> None:
        self._what, self._scratch = what, scratch
        try:
            self._zip = zipfile.ZipFile(file)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{what}: says that its names are UTF-8, and they are not; unpack it (7z or unar) and give the folder"
            ) from error
        self._file = file
        self._lock = threading.Lock()
        unpacked = sum(entry.file_size for entry in self._zip.infolist())
        require_modest(what, unpacked, most_unpacked(size))

    def members(self, omissions: Omissions) -> Iterator[Member]:
        """Yield each file, with its ZipInfo as key, and each folder."""
        entries = self._zip.infolist()
        require_few(self._what, len(entries))
        for entry in entries:
            kind = entry.external_attr >> 16 & 0o170000  # the file type of Unix; 0 if another system made the zip
            if kind not in (0, 0o100000) and not entry.is_dir():
                raise DataError(f"{self._what}: member {entry.filename!r} is a link or a device; unpack it by hand")
            path = plain_path(self._what, self._name(entry, omissions))
            if not is_leftover(path, omissions):
                yield Member(path + "/" if entry.is_dir() else path, entry)

    def _name(self, entry: zipfile.ZipInfo, omissions: Omissions) -> str:
        """The path of a member, with backslashes of Windows turned into slashes."""
        raw = entry.filename.encode("utf-8" if entry.flag_bits & _IS_UTF8 else "cp437")
        name = _in_extra(entry.extra, raw) or decoded_name(raw, "cp437", self._what, omissions)
        # In Japanese and Chinese encodings the byte of a backslash can also be half of a character.
        return name if b"/" in raw and not raw.isascii() else name.replace("\\", "/")

    def read(self, key: zipfile.ZipInfo) -> bytes:
        """The content of the file `key`."""
        with self._opened(key) as (stream, what):
            return read_all(stream, what)

    def head(self, key: zipfile.ZipInfo, size: int) -> bytes:
        """The first `size` bytes of the file `key`."""
        with self._opened(key) as (stream, _what):
            return stream.read(size)

    def size(self, key: zipfile.ZipInfo) -> int:
        """The number of bytes of the file `key`, unpacked."""
        return key.file_size

    def file(self, key: zipfile.ZipInfo) -> BinaryIO:
        """An unpacked copy of the file `key`, opened for reading."""
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
        """Close the zip."""
        self._zip.close()
        self._file.close()
