"""Holder: the interface of a folder, a zip or a tar; and the checks on the names and sizes of its files.

Members must be plain files with relative names. A member that could lead out of the archive or is no plain file (`..`,
absolute names, links, devices) makes the whole archive an error.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple, Protocol

from metalearn_cli.errors import DataError, can_be_a_name, printable
from metalearn_cli.omissions import Omissions
from metalearn_cli.storage.inputs import leftovers

MOST_BYTES = 64 << 20
"""The largest picture or list that is read, in bytes."""

_ALWAYS_FINE = 1 << 30  # bytes
_HIGHEST_RATIO = 100  # zip bombs reach 1,000 and more
_MOST_MEMBERS = 5_000_000


class Member(NamedTuple):
    """A file of a Holder: its path, and the key by which the holder reads it; or a folder: path "a/b/", key None."""

    path: str
    key: Any


class Holder(Protocol):
    """A folder or an archive."""

    def members(self, omissions: Omissions) -> Iterator[Member]:
        """Yield its files and folders in any order; those that it leaves out are added to `omissions` instead.

        Raises DataError for a member that no honest archive of pictures has.
        """
        ...

    def read(self, key: Any) -> bytes:
        """The content of a file of at most MOST_BYTES; any thread may call it. Raises DataError if it is unreadable."""
        ...

    def head(self, key: Any, size: int) -> bytes:
        """The first `size` bytes of a file of any size, or fewer if it is shorter. Raises DataError if unreadable."""
        ...

    def size(self, key: Any) -> int:
        """The number of bytes of a file. Raises DataError if it is unknown."""
        ...

    def file(self, key: Any) -> BinaryIO:
        """A file of any size, opened for reading at any position. Raises DataError if it cannot be opened."""
        ...

    def close(self) -> None:
        """Close everything that is open."""
        ...


def is_leftover(path: str, omissions: Omissions) -> bool:
    """Whether `path` is a file or folder that a tool left behind; if so, it is added to `omissions`."""
    if (found := leftovers.leftover(path)) is not None:
        omissions.add(leftovers.KIND, leftovers.WHY, printable(found))
    return found is not None


def require_name(what: str, path: str) -> None:
    """Raise DataError, with `what`, for a name that no table, list or manifest can hold."""
    if not can_be_a_name(path):
        raise DataError(f"{what} {path!r} has a name that cannot be printed; rename it")


def read_all(file: BinaryIO, what: str) -> bytes:
    """The rest of a file of at most MOST_BYTES. Raises DataError, with `what`, if it is larger."""
    content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise DataError(f"{what} is larger than {MOST_BYTES >> 20} MB")
    return content


def require_few(what: str, count: int) -> None:
    """Raise DataError, with `what`, for more files than any dataset has."""
    if count > _MOST_MEMBERS:
        raise DataError(f"{what}: has more than {_MOST_MEMBERS:,} members")


def most_unpacked(size: int) -> int:
    """The number of bytes to which an archive of `size` bytes may unpack; pictures hardly compress further."""
    return max(_ALWAYS_FINE, _HIGHEST_RATIO * size)


def require_modest(what: str, unpacked: int, most: int) -> None:
    """Raise DataError, with `what`, if an archive unpacks to more than `most` bytes."""
    if unpacked > most:
        raise DataError(f"{what}: unpacks to {unpacked >> 20:,} MB or more, far more than pictures or numbers would")


def decoded_name(raw: bytes, fallback: str, what: str, omissions: Omissions) -> str:
    """A member's name as text. Archives store names as bytes, in the encoding of the computer that made them.

    Bytes that are not UTF-8 are read as `fallback`, or else as cp437, which has a character for every byte; a remark is
    added to `omissions`.
    """
    for encoding in ("utf-8", fallback, "cp437"):
        try:
            name = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if encoding != "utf-8":
            omissions.remark(
                what,
                f"{what}: its names are in an old encoding and read as {encoding}, such as {name!r}; if that is wrong, "
                "unpack it in its own (7z, unar, or unzip -O cp932) and give the folder",
            )
        return name
    raise AssertionError("cp437 has a character for every byte")


def plain_path(what: str, name: str) -> str:
    """The member's path without "." and empty parts. Raises DataError if it could mean a place outside the archive."""
    path = unicodedata.normalize("NFC", name)
    parts = path.split("/")
    # A colon may be part of a class's name, but a first folder of one letter and a colon is a drive of Windows.
    if path.startswith("/") or ".." in parts or re.fullmatch("[A-Za-z]:", parts[0]):
        raise DataError(f"{what}: member {name!r} would leave the folder; unpack it by hand if you trust it")
    if leftovers.leftover(path) is None:
        require_name(f"{what}: member", path)
    return "/".join(part for part in parts if part not in ("", "."))
