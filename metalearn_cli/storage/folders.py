"""A folder as a holder of files."""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from metalearn_cli.errors import DataError
from metalearn_cli.storage.holders import Member, is_junk, read_all

_DEEPEST = 100


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
        if prefix.count("/") > _DEEPEST:
            raise DataError(f"{self._path}: has folders in folders more than {_DEEPEST} levels deep")
        for entry in entries:
            path = prefix + unicodedata.normalize("NFC", entry.name)
            if entry.is_dir(follow_symlinks=False):
                yield from self._below(entry.path, path + "/", root)
                continue
            if is_junk(path) or not _is_file(entry):
                continue
            if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(root):
                continue
            if not path.isprintable():  # a line break, or bytes that are not UTF-8: no manifest could hold it
                raise DataError(f"{self._path}: {path!r} has a name that cannot be printed; rename it")
            yield Member(path, entry.path)

    def read(self, key: str) -> bytes:
        """Its content."""
        with self.file(key) as file:
            return read_all(file, f"{key}:")

    def file(self, key: str) -> BinaryIO:
        """The file itself."""
        try:
            return open(key, "rb")  # noqa: PTH123 (a Path for each of a million files takes longer)
        except OSError as error:
            raise DataError(f"{key}: cannot be read: {error.strerror}") from error

    def close(self) -> None:
        """There is nothing to close."""


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file or a link to one, and not a link that leads to itself."""
    try:
        return entry.is_file()
    except OSError:
        return False
