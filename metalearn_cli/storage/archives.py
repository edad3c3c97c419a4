"""Where pictures come from: a folder or a zip, read in place; nothing is ever extracted."""

import hashlib
import re
import threading
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from metalearn_cli.errors import DataError

_MOST_BYTES = 64 << 20
_MOST_MEMBERS = 5_000_000
_JUNK = re.compile(r"(^|/)(\._[^/]*|\.DS_Store|Thumbs\.db|__MACOSX(/.*)?|desktop\.ini|Icon\r)$", re.IGNORECASE)


class Source(NamedTuple):
    """Members by path ("a/b/c.png", sorted), how to read one (from any thread), and what to call it in a manifest."""

    members: list[str]
    read: Callable[[str], bytes]
    description: str


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """The members of a folder or zip; zips in a folder (or one level below) count as unpacked where they lie.

    Hidden junk, links that leave the folder, and members whose name would leave it are passed over.

    Raises DataError if it is not there, damaged, encrypted, has a member twice or a file whose name cannot be printed.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    with ExitStack() as stack:
        readers: dict[str, Callable[[], bytes]] = {}
        archives = [path] if path.is_file() else _zips_in(path)
        if path.is_dir():
            _add(readers, _files_in(path), path)
        for archive in archives:
            _add(readers, _members_of(archive, stack), archive)
        yield Source(sorted(readers), lambda member: readers[member](), _description(path, archives, len(readers)))


def _add(readers: dict[str, Callable[[], bytes]], more: Mapping[str, Callable[[], bytes]], where: Path) -> None:
    twice = readers.keys() & more.keys()
    if twice:
        raise DataError(f"{where}: {min(twice)!r} is there twice, in two archives or beside one")
    readers.update(more)


def _files_in(folder: Path) -> dict[str, Callable[[], bytes]]:
    found: dict[str, Callable[[], bytes]] = {}
    root = folder.resolve()
    for file in folder.rglob("*"):
        name = unicodedata.normalize("NFC", file.relative_to(folder).as_posix())
        if _JUNK.search(name) or file.suffix.lower() == ".zip" or not file.is_file():
            continue
        if file.is_symlink() and not file.resolve().is_relative_to(root):
            continue
        if not name.isprintable():  # a line break, or bytes that are not UTF-8: no manifest could hold it
            raise DataError(f"{folder}: {name!r} has a name that cannot be printed; rename it")
        found[name] = lambda file=file: _read_file(file)  # type: ignore[misc]
    return found


def _zips_in(folder: Path) -> list[Path]:
    found = [file for pattern in ("*.[zZ][iI][pP]", "*/*.[zZ][iI][pP]") for file in folder.glob(pattern)]
    return sorted(file for file in found if file.is_file() and not _JUNK.search(file.name))


def _read_file(file: Path) -> bytes:
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise DataError(f"{file}: is larger than {_MOST_BYTES >> 20} MB")
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error


def _members_of(archive: Path, stack: ExitStack) -> dict[str, Callable[[], bytes]]:
    if archive.suffix.lower() != ".zip":
        raise DataError(f"{archive}: expected a folder or a .zip")
    try:
        opened = stack.enter_context(zipfile.ZipFile(archive))
        entries = opened.infolist()
    except Exception as error:  # zipfile raises many types for a damaged file
        raise DataError(f"{archive}: is not a readable zip: {error}") from error
    if len(entries) > _MOST_MEMBERS:
        raise DataError(f"{archive}: has more than {_MOST_MEMBERS} members")
    lock = threading.Lock()
    found: dict[str, Callable[[], bytes]] = {}
    for entry in entries:
        name = _safe_name(entry)
        if name is None:
            continue
        if name in found:
            raise DataError(f"{archive}: member {name!r} is there twice")
        found[name] = lambda entry=entry: _read_member(archive, opened, entry, lock)  # type: ignore[misc]
    return found


def _safe_name(entry: zipfile.ZipInfo) -> str | None:
    """The member's path, or None for a folder, a link, a device, junk, and a name that points elsewhere."""
    kind = entry.external_attr >> 16 & 0o170000
    if entry.is_dir() or kind not in (0, 0o100000):
        return None
    name = unicodedata.normalize("NFC", entry.filename.replace("\\", "/"))
    parts = name.split("/")
    if _JUNK.search(name) or ".." in parts or "" in parts or ":" in parts[0] or not name.isprintable():
        return None
    return name


def _read_member(archive: Path, opened: zipfile.ZipFile, entry: zipfile.ZipInfo, lock: threading.Lock) -> bytes:
    try:
        with lock, opened.open(entry) as file:
            content = file.read(_MOST_BYTES + 1)
    except Exception as error:  # BadZipFile, RuntimeError (encrypted), zlib.error, EOFError, NotImplementedError, ...
        raise DataError(f"{archive}: member {entry.filename!r} cannot be read: {error}") from error
    if len(content) > _MOST_BYTES:
        raise DataError(f"{archive}: member {entry.filename!r} is larger than {_MOST_BYTES >> 20} MB")
    return content


def _description(path: Path, archives: list[Path], members: int) -> str:
    """Names and checksums of archives, or a folder's name and count: the same source has the same description."""
    if not archives:
        return f"folder {path.name} ({members} files)"
    sums = []
    for archive in archives:
        with archive.open("rb") as file:
            sums.append(f"{archive.name} sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}")
    return ", ".join(sums)
