"""What a disk may hold after a crash: a recorder of everything that is done to it, and a model of what it keeps.

The model: a file's content is safe once the file was flushed, before that any beginning of it may be there; what a
folder's entries say is safe once the folder was flushed, before that any beginning of the changes since may have
reached the disk, in their order. So do the journals of ext4, XFS and APFS. A killed process loses nothing that it had
handed to the system; a power loss may lose all that was not flushed.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock


class Call(NamedTuple):
    """One change of the disk: create, write, flush, replace, link, unlink or flush folder; `to` a name or content."""

    kind: str
    path: str
    to: Any = None


@contextmanager
def recorded(folder: Path) -> Iterator[list[Call]]:
    """The changes below the folder that this process makes in the block, in order; they are made all the same."""
    calls: list[Call] = []
    names: dict[int, str] = {}
    real = {name: getattr(os, name) for name in ("open", "write", "fsync", "close", "replace", "link", "unlink")}

    def below(path: Any) -> str | None:
        path = os.fspath(path)
        return os.path.relpath(path, folder) if Path(path).is_relative_to(folder) else None

    def opened(path: Any, flags: int, *more: Any, **options: Any) -> int:
        new = not os.path.lexists(path)
        descriptor: int = real["open"](path, flags, *more, **options)
        if (name := below(path)) is not None:
            names[descriptor] = name
            if new and flags & os.O_CREAT:
                calls.append(Call("create", name))
        return descriptor

    def write(descriptor: int, content: Any) -> int:
        done: int = real["write"](descriptor, content)
        if descriptor in names:
            calls.append(Call("write", names[descriptor], bytes(content)[:done]))
        return done

    def fsync(descriptor: int) -> None:
        real["fsync"](descriptor)
        if descriptor in names:
            kind = "flush folder" if (folder / names[descriptor]).is_dir() else "flush"
            calls.append(Call(kind, names[descriptor]))

    def close(descriptor: int) -> None:
        real["close"](descriptor)
        names.pop(descriptor, None)

    def renaming(kind: str) -> Callable[..., None]:
        def change(source: Any, target: Any, **options: Any) -> None:
            real[kind](source, target, **options)
            if (name := below(source)) is not None:
                calls.append(Call(kind, name, below(target)))

        return change

    def unlink(path: Any, **options: Any) -> None:
        real["unlink"](path, **options)
        if (name := below(path)) is not None:
            calls.append(Call("unlink", name))

    patches = {"open": opened, "write": write, "fsync": fsync, "close": close, "unlink": unlink}
    patches |= {kind: renaming(kind) for kind in ("replace", "link")}
    with mock.patch.multiple(os, **patches):
        yield calls


@dataclass
class _File:
    content: bytes = b""
    safe: int = 0  # so many bytes of it are on the disk for certain
    beginning: bool = False  # whether a part of the rest is there without the whole


Entries = dict[str, _File]


@dataclass
class Disk:
    """What a folder holds: what the system believes, and what has reached the disk."""

    now: Entries = field(default_factory=dict)
    safe: Entries = field(default_factory=dict)
    pending: dict[str, list[Call]] = field(default_factory=dict)
    files: dict[str, _File] = field(default_factory=dict)

    def do(self, call: Call) -> None:
        """The system has done the call."""
        if call.kind == "write":
            self.now[call.path].content += call.to
        elif call.kind == "flush":
            self.now[call.path].safe = len(self.now[call.path].content)
        elif call.kind == "flush folder":
            for change, file in self.pending.pop(call.path, []):
                _change(self.safe, change, file)
        else:
            file = _File() if call.kind == "create" else self.now[call.path]
            _change(self.now, call, file)
            self.pending.setdefault(str(Path(call.path).parent), []).append((call, file))

    def after_a_kill(self) -> dict[str, bytes]:
        """What is there when the process has been killed now."""
        return {name: file.content for name, file in self.now.items()}

    def after_a_power_loss(self) -> Iterator[dict[str, bytes]]:
        """Everything that may be there when the power has gone now."""
        folders = list(self.pending)
        for lengths in product(*(range(len(self.pending[folder]) + 1) for folder in folders)):
            entries = dict(self.safe)
            for folder, length in zip(folders, lengths, strict=True):
                for change, file in self.pending[folder][:length]:
                    _change(entries, change, file)
            for share in (0.0, 0.5, 1.0):
                yield {name: _beginning(file, share) for name, file in entries.items()}


def _beginning(file: _File, share: float) -> bytes:
    return file.content[: file.safe + int(share * (len(file.content) - file.safe))]


def _change(entries: Entries, call: Call, file: _File) -> None:
    if call.kind == "create":
        entries[call.path] = file
    elif call.kind == "link":
        entries[call.to] = file
    elif call.kind == "replace":
        entries.pop(call.path, None)
        entries[call.to] = file
    elif call.kind == "unlink":
        entries.pop(call.path, None)
