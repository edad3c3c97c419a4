"""Source: a folder, a zip or a tar of pictures, including the archives and containers inside it."""

import stat
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from metalearn_cli.datasets.layouts import is_row
from metalearn_cli.errors import DataError, some_of
from metalearn_cli.omissions import Omissions
from metalearn_cli.storage.files.fingerprints import checksum, source_fingerprint
from metalearn_cli.storage.inputs.archives import is_archive, open_archive
from metalearn_cli.storage.inputs.containers import is_container, pictures
from metalearn_cli.storage.inputs.folders import Folder, mode_of
from metalearn_cli.storage.inputs.holders import Holder, require_name
from metalearn_cli.storage.inputs.spool import Spool
from metalearn_cli.storage.pictures.recognition import HEAD, PICTURE_SUFFIXES, FileKind, is_text, recognised

_DEEPEST = 2  # levels of archives inside the source
_SHOWN = 10


class OpenedSource:
    """The files of a source, by paths such as "a/b/c.png"; the code in datasets/ reads pictures through it.

    `members`: the paths of all files. `folders`: the paths of all folders, such as "a/b".
    `omissions`: the files that are left out; code that leaves out more files adds them here.
    `description`: the origin of the files in words, the same for equal sources.
    `fingerprint`: a digest that changes when a file changes.
    """

    def __init__(self, description: str, search: "_Search", fingerprint: str) -> None:
        self.description = description
        self.fingerprint = fingerprint
        self.members: Sequence[str] = sorted(search.places)
        self.folders: Set[str] = search.folders
        self.omissions = search.omissions
        self._places = search.places
        self._read: set[str] = set()
        self._kinds: dict[str, FileKind] = {}

    def picture(self, member: str) -> bytes | NDArray[np.uint8]:
        """A picture as the bytes of its file, or as pixels [H, W, C]; any thread may call it."""
        holder, key = self._places[member]
        return holder.read(key)

    def size(self, member: str) -> int:
        """The number of bytes of a picture or file."""
        holder, key = self._places[member]
        return holder.size(key)

    def content(self, member: str) -> bytes:
        """The content of a small file. Raises DataError if it cannot be read."""
        self._read.add(member)
        return bytes(self.picture(member))

    def text(self, member: str) -> str:
        """The text of a small file. Raises DataError if it cannot be read or is not UTF-8."""
        try:
            return self.content(member).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{member}: is no UTF-8 text") from error

    def pictures(self) -> Sequence[str]:
        """The members that are pictures, recognised by their suffix, or by their content if the suffix is unknown."""
        return [member for member in self.members if not self._kind(member).why]

    def require_filled(self, pictures: Iterable[str]) -> None:
        """Raise DataError if a folder beside those of the `pictures` has no picture; a folder of texts is allowed."""
        filled = {folder for member in pictures for folder in _above(member)}
        classes = {member.rpartition("/")[0] for member in pictures}
        beside = {folder.rpartition("/")[0] for folder in classes if folder}
        below: dict[str, list[str]] = {folder: [] for folder in self.folders}
        for member in self.members:
            for folder in _above(member):
                below.setdefault(folder, []).append(member)
        unfilled = (name for name in sorted(below) if name.rpartition("/")[0] in beside and name not in filled)
        emptied = [f"{name!r} ({why})" for name in unfilled if (why := self._emptiness(name, below[name]))]
        if emptied:
            raise DataError(f"no pictures in class folder {some_of(emptied, _SHOWN)}; put some there, or take it away")

    def close_with(self, used: Iterable[str]) -> None:
        """Add all members to `omissions` that are not in `used`, were not read, and were not left out before."""
        for member in sorted({*self.members} - {*used} - self._read):
            if member not in self.omissions:
                name, why = self._kind(member)
                self.omissions.add(name, why or "it is no part of the dataset", member)

    def _kind(self, member: str) -> FileKind:
        if member not in self._kinds:
            holder, key = self._places[member]
            if isinstance(holder, Spool) or is_row(member) or member.lower().endswith(PICTURE_SUFFIXES):
                self._kinds[member] = FileKind("picture")
            else:
                self._kinds[member] = recognised(member, holder.head(key, HEAD))
        return self._kinds[member]

    def _emptiness(self, folder: str, members: Sequence[str]) -> str:
        """The reason why a folder with these members has no pictures; "" if nobody would expect any."""
        found = self.omissions.below(folder)
        for member in members:
            found.add(*self._kind(member), member)
        if members and all(is_text(self._kind(member)) for member in members) and len(found.listed()) == 1:
            return ""
        return "; ".join(map(str, found.listed())) or "it is empty"


def _above(member: str) -> Iterator[str]:
    while "/" in member:
        member = member.rpartition("/")[0]
        yield member


@contextmanager
def open_source(
    path: Path, wants: Callable[[str], bool] = lambda _path: True, scratch: Path | None = None,
    omissions: Omissions | None = None,
) -> Iterator[OpenedSource]:  # fmt: skip
    """Open a folder, zip or tar as a Source with the members for which `wants(path)` is true.

    Members of an archive inside it get paths as if it were unpacked where it lies. Compressed tars and containers are
    unpacked into nameless files in `scratch`. Files that are left out are added to `omissions`.

    Raises DataError if the path does not exist, is damaged, encrypted or unsafe, or has a member twice.
    """
    with ExitStack() as stack:
        search = _searched(path, _Search(wants, scratch, stack, Omissions() if omissions is None else omissions))
        search.read_containers()
        yield OpenedSource(search.description(path), search, search.fingerprint(path))


def describe_source(path: Path, wants: Callable[[str], bool] = lambda _path: True) -> str:
    """The description that `open_source` would give, without reading the pictures in archives and containers.

    Raises DataError as `open_source` does.
    """
    if path.is_file() and is_archive(path.name):
        return checksum(path)
    with ExitStack() as stack:
        return _searched(path, _Search(wants, None, stack, Omissions())).description(path)


def _searched(path: Path, search: "_Search") -> "_Search":
    kind = mode_of(path)
    if stat.S_ISDIR(kind):
        search.look_in(Folder(path), "", path, 0)
    elif stat.S_ISREG(kind) and is_archive(path.name):
        search.opened_on_disk.append(path)
        search.open(str(path), Folder(path.parent).file(str(path)), "", path, 0)
    else:
        raise DataError(f"{path}: expected a folder, a .zip or a .tar")
    return search


class _Search:
    """Collects the members of a source, including those in archives inside it."""

    def __init__(
        self, wants: Callable[[str], bool], scratch: Path | None, stack: ExitStack, omissions: Omissions
    ) -> None:
        self.places: dict[str, tuple[Holder | Spool, Any]] = {}
        self.folders: set[str] = set()
        self.omissions = omissions
        self.opened_on_disk: list[Path] = []
        self._containers: dict[str, Callable[[], BinaryIO]] = {}
        self._wants, self._scratch, self._stack = wants, scratch, stack
        self._spool = Spool(scratch)
        stack.callback(self._spool.close)

    def open(self, what: str, file: BinaryIO, prefix: str, where: Path, depth: int) -> None:
        """Add all members of an archive, as if it were unpacked at `prefix`."""
        holder = open_archive(what, file, self._scratch)
        self._stack.callback(holder.close)
        self.look_in(holder, prefix, where, depth)

    def look_in(self, holder: Holder, prefix: str, where: Path, depth: int) -> None:
        """Add all members of a holder."""
        for path, key in holder.members(self.omissions):
            member = prefix + path
            if member.endswith("/"):
                self.folders.add(member[:-1])
                continue
            if not self._wants(member):
                self.omissions.add("file", "this dataset has no use for files of this name", member)
                continue
            on_disk = Path(key) if isinstance(holder, Folder) and (is_archive(path) or is_container(path)) else None
            if is_archive(path):
                # Only archives in the top folder or one below it are opened: there people keep their downloads.
                if depth < _DEEPEST and path.count("/") <= 1:
                    self._remember(on_disk)
                    above = member.rpartition("/")[0]
                    self.open(str(where / path), holder.file(key), above and above + "/", where / path, depth + 1)
            elif is_container(path):
                self._remember(on_disk)
                self._containers[member] = lambda holder=holder, key=key: holder.file(key)  # type: ignore[misc]
            else:
                self._add(member, holder, key, where)

    def read_containers(self) -> None:
        """Add the pictures inside containers (pickles, arrays, parquet tables) as members."""
        for member, span in pictures(self._containers, self._spool):
            require_name("member", member)
            self._add(member, self._spool, span, Path())

    def description(self, path: Path) -> str:
        """The origin in words: names and checksums of archives and containers, or a folder's name and file count."""
        if self.opened_on_disk:
            return ", ".join(checksum(file) for file in sorted(self.opened_on_disk))
        return f"folder {path.name} ({len(self.places)} files)"

    def fingerprint(self, path: Path) -> str:
        """A digest that changes when a file changes."""
        on_disk = [key for holder, key in self.places.values() if isinstance(holder, Folder)]
        return source_fingerprint(path, [*on_disk, *map(str, self.opened_on_disk)], self.places)

    def _remember(self, file: Path | None) -> None:
        if file is not None:
            self.opened_on_disk.append(file)

    def _add(self, member: str, holder: Holder | Spool, key: Any, where: Path) -> None:
        if member in self.places:
            raise DataError(
                f"{where}: {member!r} is there twice, in two archives or in one and in the folder that it was unpacked "
                "into; move one of them away"
            )
        self.places[member] = (holder, key)
