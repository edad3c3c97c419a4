"""Reads the files of a folder on disk."""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from metalearn_cli.errors import DataError, printable
from metalearn_cli.omissions import Omissions
from metalearn_cli.storage.inputs.holders import Member, is_leftover, read_all, require_name

_DEEPEST = 100  # levels; each is a level of recursion in Python
_LEADS_OUT = "it leads out of the folder; copy what it leads to (cp -rL follows links)"


def is_file(path: Path) -> bool:
    """Whether `path` is a plain file or a link to one; false for pipes, devices and impossible names."""
    return os.path.isfile(path)  # noqa: PTH113 (Path.is_file raises OSError for such a name)


def mode_of(path: Path) -> int:
    """The mode of a file or folder (`st_mode`), which tells its kind. Raises DataError if there is none."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError) as error:  # missing, an impossible name, or a link that leads to itself
        missing = isinstance(error, FileNotFoundError)
        told = "no such file or folder" if missing else getattr(error, "strerror", None) or error
        raise DataError(f"{path}: {told}") from error


class _Place(NamedTuple):
    """A folder during the search: its path, the path of its members, its real path, and whether a link led to it."""

    folder: str
    prefix: str
    real: str
    linked: bool


class Folder:
    """The files in a folder on disk and in all folders below it.

    Links that stay inside the folder are followed, but links inside a linked folder are not, because n folders with
    links to each other would give n! folders. Links that lead out of the folder are left out: with them, somebody
    else's folder could include any picture of its user.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def members(self, omissions: Omissions) -> Iterator[Member]:
        """Yield each file, with its path on disk as key, and each folder."""
        return self._below(_Place(str(self._path), "", os.path.realpath(self._path), False), omissions)

    def _below(self, place: "_Place", omissions: Omissions) -> Iterator[Member]:
        # This runs for millions of files; making a Path object for each would take longer than reading the names.
        try:
            entries = [*os.scandir(place.folder)]
        except OSError as error:
            raise DataError(f"{place.folder}: cannot be read: {error.strerror}") from error
        if place.prefix.count("/") > _DEEPEST:
            raise DataError(f"{self._path}: has folders that are nested more than {_DEEPEST} levels deep")
        for entry in entries:
            path = place.prefix + unicodedata.normalize("NFC", entry.name)
            if is_leftover(path, omissions):
                continue
            if entry.is_symlink() and (why := self._trouble_with(entry, place)):
                omissions.add("link", why, printable(path))
                if why == _LEADS_OUT and entry.is_dir():
                    yield Member(path + "/", None)
            elif entry.is_dir():
                require_name(f"{self._path}:", path)
                yield Member(path + "/", None)
                linked = entry.is_symlink()
                real = os.path.realpath(entry.path) if linked else f"{place.real}{os.sep}{entry.name}"
                yield from self._below(_Place(entry.path, path + "/", real, place.linked or linked), omissions)
            elif entry.is_file():
                require_name(f"{self._path}:", path)
                yield Member(path, entry.path)
            else:
                omissions.add("pipe, socket or device", "only files are read", printable(path))

    def _trouble_with(self, link: os.DirEntry[str], place: "_Place") -> str:
        """The reason why a link is not followed; "" if it is followed."""
        try:
            target = os.path.realpath(link.path, strict=True)
        except OSError:
            return "it leads nowhere or to itself"
        root = os.path.realpath(self._path)
        if target != root and not target.startswith(root.rstrip(os.sep) + os.sep):
            return _LEADS_OUT
        if link.is_dir():
            if (place.real + os.sep).startswith(target.rstrip(os.sep) + os.sep):
                return "it leads back to a folder that it lies in"
            if place.linked:
                return "it lies in a linked folder and leads to another"
        return ""

    def read(self, key: str) -> bytes:
        """The content of the file `key`."""
        with self.file(key) as file:
            return read_all(file, f"{key}:")

    def head(self, key: str, size: int) -> bytes:
        """The first `size` bytes of the file `key`."""
        with self.file(key) as file:
            return file.read(size)

    def size(self, key: str) -> int:
        """The number of bytes of the file `key`."""
        try:
            return os.stat(key).st_size  # noqa: PTH116 (a Path for each of a million files takes longer)
        except OSError as error:
            raise DataError(f"{key}: cannot be read: {error.strerror}") from error

    def file(self, key: str) -> BinaryIO:
        """The file `key`, opened for reading."""
        try:
            return open(key, "rb")  # noqa: PTH123 (a Path for each of a million files takes longer)
        except OSError as error:
            raise DataError(f"{key}: cannot be read: {error.strerror}") from error

    def close(self) -> None:
        """Do nothing: a folder needs no closing."""
