"""Writes a prepared dataset class after class, so that an interrupted conversion can be continued.

Unfinished work is in a hidden folder beside its destination: the pictures of the finished classes, and a journal of
their names. A line of the journal is written only after the pictures have reached the disk, so all classes in the
journal are on the disk, also after a power loss.

Legend: n pictures, H height, W width, C channels.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metalearn_cli.datasets import Preprocessing, Split
from metalearn_cli.errors import DataError
from metalearn_cli.omissions import Omission
from metalearn_cli.settings import Settings
from metalearn_cli.storage.files.atomic import disk_errors, put_in_place, remove_folder, write_file
from metalearn_cli.storage.prepared import brightness, moments
from metalearn_cli.storage.prepared.checking import sha256_of
from metalearn_cli.storage.prepared.dataset import FORMAT, ClassEntry, Manifest, check_splits
from metalearn_cli.version import own_version

_HEADER_BYTES = 128  # numpy pads the header of a .npy file to a multiple of 64
_SECONDS_BETWEEN_LINES = 1.0  # a line needs two flushes to the disk; one for each of a thousand classes would be slow


class Contents(NamedTuple):
    """The fields of the Manifest that do not depend on the decoded pictures."""

    dataset: str
    splits: Mapping[str, Split]
    preprocessing: Preprocessing
    settings: Mapping[str, object]
    source: str
    sample: str = ""
    partial: str = ""
    left_out: Sequence[Omission] = ()
    remarks: Sequence[str] = ()


class Chunk(NamedTuple):
    """Some pictures of the class `name`, uint8 [n, H, W, C], and the faults of those that were left out."""

    name: str
    pictures: NDArray[np.uint8]
    damaged: Sequence[str] = ()


class _Done(Settings):
    """A journal line: a finished class. `sums` are the number, sum and sum of squares of its pixels per channel."""

    name: str
    count: int
    shape: tuple[int, int, int]
    sums: list[list[float]]
    damaged: list[str]

    @property
    def size(self) -> int:
        """The number of bytes of the class in the array."""
        return self.count * math.prod(self.shape)


def write_dataset(
    folder: Path,
    contents: Contents,
    names: Sequence[str],
    key: str,
    work: Callable[[Sequence[str]], Iterator[Chunk]],
) -> Manifest:
    """Write a prepared dataset with the classes `names` to `folder`, which appears only when it is whole.

    `work(names)` yields the chunks of these classes, in order. It gets the classes that an interrupted call with the
    same `key` did not finish.

    Raises DataError for a class without pictures or a split that does not fit, RunError if the disk refuses; the
    unfinished work is then deleted. An interruption leaves it for the next call.
    """
    aside = unfinished(folder)
    try:
        done = _resumed(aside, key, names)
        with disk_errors(folder), (aside / "images.npy").open("r+b") as file:
            file.seek(_HEADER_BYTES + sum(entry.size for entry in done))
            done += _classes(file, aside / "finished.jsonl", work(names[len(done) :]))
            _finish(file, done)
        manifest = _manifest(aside, contents, done)
        with disk_errors(folder):
            (aside / "finished.jsonl").unlink()
        put_in_place(aside, folder)
    except Exception:
        with suppress(OSError):
            remove_folder(aside)
        raise
    return manifest


def unfinished(folder: Path) -> Path:
    """The hidden folder of unfinished work for `folder`."""
    return folder.with_name(f".{folder.name}.unfinished")


def _resumed(aside: Path, key: str, names: Sequence[str]) -> list[_Done]:
    """The classes that are finished already; afterwards the array exists and holds exactly their pictures."""
    journal, images = aside / "finished.jsonl", aside / "images.npy"
    with disk_errors(aside):
        done = _journalled(journal, images, key, names)
        if done is None:
            remove_folder(aside)
            aside.mkdir(parents=True)
            images.write_bytes(bytes(_HEADER_BYTES))
            done = []
        os.truncate(images, _HEADER_BYTES + sum(entry.size for entry in done))
        lines = [json.dumps(key), *(entry.model_dump_json() for entry in done)]
        write_file(journal, "".join(line + "\n" for line in lines).encode())
    return done


def _journalled(journal: Path, images: Path, key: str, names: Sequence[str]) -> list[_Done] | None:
    """The classes in the journal, up to the first damaged line or missing pictures; None if its key is another one."""
    if journal.parent.is_symlink() or not all(_is_own(path) for path in (journal, images)):
        return None
    first, *lines = journal.read_text("utf-8").split("\n")
    if first != json.dumps(key):
        return None
    done: list[_Done] = []
    room = images.stat().st_size - _HEADER_BYTES
    for line, name in zip(lines, names, strict=False):
        try:
            entry = _Done.model_validate_json(line)
        except ValueError:  # the half-written last line of a killed process
            break
        room -= entry.size
        if entry.name != name or room < 0:
            break
        done.append(entry)
    return done


def _is_own(path: Path) -> bool:  # metalearn makes no links here, so a link belongs to somebody else
    return path.is_file() and not path.is_symlink() and path.stat().st_nlink == 1


def _classes(file: BinaryIO, journal: Path, chunks: Iterator[Chunk]) -> list[_Done]:
    """Write the chunks to the array, and add each class to the journal after its pictures are on the disk."""
    done: list[_Done] = []
    noted, last = 0, time.monotonic()
    for chunk in chunks:
        if not done or done[-1].name != chunk.name:
            if time.monotonic() - last > _SECONDS_BETWEEN_LINES:
                _note(file, journal, done[noted:])
                noted, last = len(done), time.monotonic()
            done.append(_Done(name=chunk.name, count=0, shape=chunk.pictures.shape[1:], sums=[], damaged=[]))
        assert chunk.pictures.dtype == np.uint8
        assert chunk.pictures.shape[1:] == done[0].shape
        file.write(np.ascontiguousarray(chunk.pictures).data)
        done[-1] = _plus(done[-1], chunk)
    return done


def _note(file: BinaryIO, journal: Path, finished: Sequence[_Done]) -> None:
    """Add finished classes to the journal; the flush of their pictures must come first."""
    file.flush()
    os.fsync(file.fileno())
    with journal.open("a") as lines:
        lines.write("".join(entry.model_dump_json() + "\n" for entry in finished))
        lines.flush()
        os.fsync(lines.fileno())


def _plus(done: _Done, chunk: Chunk) -> _Done:
    sums = moments.sums(chunk.pictures)
    before = np.array(done.sums) if done.sums else np.zeros_like(sums)
    update = {
        "count": done.count + len(chunk.pictures),
        "sums": (before + sums).tolist(),
        "damaged": [*done.damaged, *chunk.damaged],
    }
    return done.model_copy(update=update)


def _finish(file: BinaryIO, done: Sequence[_Done]) -> None:
    if not done:
        raise DataError("there are no classes")
    empty = next((entry for entry in done if entry.count == 0), None)
    if empty is not None:
        reason = f": {empty.damaged[0]}" if empty.damaged else ""
        raise DataError(f"class {empty.name!r} has no pictures{reason}")
    file.seek(0)
    file.write(_header((sum(entry.count for entry in done), *done[0].shape)))
    file.flush()
    os.fsync(file.fileno())


def _header(shape: tuple[int, ...]) -> bytes:
    """The header of a .npy file (format 1.0), padded to a fixed size, because it is written last into reserved room."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    length = (_HEADER_BYTES - 10).to_bytes(2, "little")
    return b"\x93NUMPY\x01\x00" + length + text.ljust(_HEADER_BYTES - 11).encode() + b"\n"


def _manifest(aside: Path, contents: Contents, done: Sequence[_Done]) -> Manifest:
    entries = [ClassEntry(name=entry.name, count=entry.count) for entry in done]
    check_splits(entries, contents.splits)
    sums = {entry.name: np.array(entry.sums) for entry in done}
    with disk_errors(aside):
        images = np.load(aside / "images.npy", mmap_mode="r")
        manifest = Manifest(
            format=FORMAT,
            dataset=contents.dataset,
            classes=entries,
            image_shape=done[0].shape,
            splits={n: {p: list(c) for p, c in split.items()} for n, split in contents.splits.items()},
            preprocessing=contents.preprocessing,
            settings=dict(contents.settings),
            source=contents.source,
            sha256=sha256_of(aside / "images.npy"),
            bytes=(aside / "images.npy").stat().st_size,
            made_by=f"metalearn {own_version()}",
            moments={} if contents.preprocessing.mean else moments.of_training(contents.splits, sums),
            sample=contents.sample,
            partial=contents.partial,
            damaged=(damaged := [line for entry in done for line in entry.damaged]),
            left_out=[*contents.left_out, *_damaged(damaged)],
            remarks=[*contents.remarks, *brightness.alien_parts(images, entries, contents.splits)],
        )
        manifest = manifest.sealed()
        write_file(aside / "manifest.json", manifest.model_dump_json(indent=1).encode())
    return manifest


def _damaged(lines: Sequence[str]) -> list[Omission]:
    if not lines:
        return []
    why = "it cannot be read; manifest.json names each"
    return [Omission(kind="damaged picture", why=why, count=len(lines), example=lines[0])]
