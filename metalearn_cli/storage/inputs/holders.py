"""What holds files: a folder, a zip or a tar; and which of their files are welcome.

A file has a relative name and is nothing but a file. Anything that would leave the folder or stand for something else
(`..`, absolute names, links, devices) makes the whole archive unwelcome.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple, Protocol

from metalearn_cli.errors import DataError, can_be_a_name, printable
from metalearn_cli.omissions import Omissions
from metalearn_cli.storage.inputs import leftovers

MOST_BYTES = 64 << 20
"""No picture and no list is larger."""

_ALWAYS_FINE = 1 << 30
_HIGHEST_RATIO = 100
_MOST_MEMBERS = 5_000_000


class Member(NamedTuple):
    """A file of a Holder: its path there, and the key by which the holder reads it; or a folder, "a/b/", without."""

    path: str
    key: Any


class Holder(Protocol):
    """A folder or an archive."""

    def members(self, omissions: Omissions) -> Iterator[Member]:
        """Its files and folders, in any order, but for those that it adds to `omissions`.

        Raises DataError for one that no archive of pictures has.
        """
        ...

    def read(self, key: Any) -> bytes:
        """The content of a file of at most MOST_BYTES, from any thread. Raises DataError if it cannot be read."""
        ...

    def head(self, key: Any, size: int) -> bytes:
        """The first bytes of a file of any size, at most so many. Raises DataError if it cannot be read."""
        ...

    def size(self, key: Any) -> int:
        """How many bytes a file has. Raises DataError if that cannot be found out."""
        ...

    def file(self, key: Any) -> BinaryIO:
        """A file of any size, opened for reading anywhere in it. Raises DataError if it cannot be opened."""
        ...

    def close(self) -> None:
        """Nothing of it is open any more."""
        ...


def is_leftover(path: str, omissions: Omissions) -> bool:
    """Whether a tool left it there; if so, that is added to `omissions`."""
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
    """To how many bytes a file of `size` bytes may unpack: pictures are compressed already."""
    return max(_ALWAYS_FINE, _HIGHEST_RATIO * size)


def require_modest(what: str, unpacked: int, most: int) -> None:
    """Raise DataError, with `what`, for a bomb."""
    if unpacked > most:
        raise DataError(f"{what}: unpacks to {unpacked >> 20:,} MB or more, far more than pictures would")


def decoded(raw: bytes, fallback: str, what: str, omissions: Omissions) -> str:
    """A member's name, which archives keep as bytes in whatever encoding their maker's computer had.

    What is no UTF-8 is read as `fallback`, else as cp437, in which all bytes mean something; and a remark says so.
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
    # A colon may be in a class's name; the first folder's name is a drive if it is a letter and a colon.
    if path.startswith("/") or ".." in parts or re.fullmatch("[A-Za-z]:", parts[0]):
        raise DataError(f"{what}: member {name!r} would leave the folder; unpack it by hand if you trust it")
    if leftovers.leftover(path) is None:
        require_name(f"{what}: member", path)
    return "/".join(part for part in parts if part not in ("", "."))
