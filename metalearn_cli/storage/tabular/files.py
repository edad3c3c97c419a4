"""Finds the files that hold a table in a file, folder or archive; each is opened only when it is read."""

import hashlib
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from metalearn_cli.datasets.tabular import LengthFit
from metalearn_cli.errors import DataError, printable
from metalearn_cli.omissions import Omissions
from metalearn_cli.storage.files.fingerprints import checksum
from metalearn_cli.storage.inputs.archives import is_archive, open_archive
from metalearn_cli.storage.inputs.folders import Folder, mode_of
from metalearn_cli.storage.inputs.holders import Holder
from metalearn_cli.storage.tabular.arrays import Opener, array_reader, npz_members
from metalearn_cli.storage.tabular.blocks import TableReader
from metalearn_cli.storage.tabular.parquet import parquet_reader
from metalearn_cli.storage.tabular.text import text_reader

_TEXT, _PARQUET, _NPZ, _NPY = (".csv", ".tsv"), ".parquet", ".npz", ".npy"
_KNOWN = "csv, tsv, parquet, npz or npy"


class TableFile(NamedTuple):
    """A table's file: its name for messages, and `read(length, fit)`, which opens it.

    Only files of arrays use `length` and `fit`: they bring every series to that many steps.
    """

    name: str
    read: Callable[[int | None, LengthFit], TableReader]
    of_arrays: bool = False


@contextmanager
def table_files(source: Path, scratch: Path | None, omissions: Omissions) -> Iterator[list[TableFile]]:
    """The files of tables in `source`, sorted by name; other files there are added to the `omissions`.

    `source` is one file, a folder or an archive; all opened files are closed at the end of the block. The npy files of
    a folder together are one table. A stream that must be unpacked goes into `scratch`.

    Raises DataError if the source holds no table, or cannot be read.
    """
    with ExitStack() as stack:
        if _is_folder(source):
            holder: Holder = Folder(source)
        elif is_archive(source.name):
            holder = open_archive(str(source), Folder(source.parent).file(str(source)), scratch)
        else:
            yield [_single(source, stack)]
            return
        stack.callback(holder.close)
        yield _several(source, holder, omissions, stack)


def describe_table(source: Path) -> str:
    """A line with name and SHA-256 of a source; it is the same if and only if no table in the source has changed.

    Raises DataError if the source does not exist.
    """
    if not _is_folder(source):
        return checksum(source)
    folder, omissions = Folder(source), Omissions()
    # Sorted, because a disk lists the files of a folder in any order.
    keys = {member.path: member.key for member in folder.members(omissions) if _suffix(member.path)}
    digest = hashlib.sha256()
    for path in sorted(keys):
        digest.update(f"{path} {checksum(Path(keys[path]))}\n".encode("utf-8", "surrogateescape"))
    return f"{source.name or source.resolve().name}, {len(keys)} files sha256 {digest.hexdigest()}"


def _is_folder(source: Path) -> bool:
    mode = mode_of(source)
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise DataError(f"{source}: is a pipe or a device, expected a file or a folder")
    return stat.S_ISDIR(mode)


def _suffix(path: str) -> str:
    """The suffix of a table's file, in lower case; "" for a file of another kind."""
    suffix = Path(path).suffix.lower()
    return suffix if suffix in (*_TEXT, _PARQUET, _NPZ, _NPY) else ""


def _single(source: Path, stack: ExitStack) -> TableFile:
    suffix = _suffix(source.name)
    if not suffix or suffix == _NPY:
        hint = "; put it into a folder as x.npy, beside label.npy" if suffix else ""
        raise DataError(f"{source}: is no table, expected {_KNOWN}, or a folder or zip of them{hint}")
    return _table(str(source), suffix, lambda: stack.enter_context(Folder(source.parent).file(str(source))), stack)


def _several(source: Path, holder: Holder, omissions: Omissions, stack: ExitStack) -> list[TableFile]:
    tables: list[TableFile] = []
    arrays: dict[str, Opener] = {}
    members = (member for member in holder.members(omissions) if not member.path.endswith("/"))
    for path, key in sorted((member.path, member.key) for member in members):
        suffix, name = _suffix(path), printable(f"{source}/{path}")

        def opened(key: Any = key) -> BinaryIO:  # a default, because a closure would see the last key of the loop
            return stack.enter_context(holder.file(key))

        if suffix == _NPY:
            arrays[Path(path).stem] = opened
        elif suffix:
            tables.append(_table(name, suffix, opened, stack))
        else:
            omissions.add("file", f"it is no table ({_KNOWN})", printable(path))
    if arrays:
        tables.append(TableFile(str(source), lambda *how: array_reader(str(source), arrays, *how), of_arrays=True))
    if not tables:
        raise DataError(f"{source}: holds no table, expected files of {_KNOWN}")
    return tables


def _table(name: str, suffix: str, opened: Opener, stack: ExitStack) -> TableFile:
    if suffix in _TEXT:
        return TableFile(name, lambda *_how: text_reader(name, opened()))
    if suffix == _PARQUET:
        return TableFile(name, lambda *_how: parquet_reader(name, opened()))
    return TableFile(name, lambda *how: array_reader(name, npz_members(name, opened(), stack), *how), of_arrays=True)


def names_of(files: Sequence[TableFile]) -> str:
    """The files as a message names them: the only file, or the first one and the number of the others."""
    return files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"
