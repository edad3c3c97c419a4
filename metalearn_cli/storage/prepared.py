"""A prepared dataset: one folder with one array of all pictures, class after class, and a manifest.

Legend: N pictures, H height, W width, C channels.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from metalearn_cli.datasets import Preprocessing, Split
from metalearn_cli.errors import DataError
from metalearn_cli.settings import Settings
from metalearn_cli.storage.atomic import disk_errors, new_folder, write_file

FORMAT = 1
_HEADER_BYTES = 128


class ClassEntry(Settings):
    """One class: its name and how many pictures it has."""

    name: str
    count: int = Field(ge=1)


class Manifest(Settings):
    """What a prepared dataset holds. Class c starts after the pictures of the classes before it.

    `settings` are what the pixels and splits depend on, `source` says where the pictures came from, `sha256` and
    `bytes` are those of images.npy.
    """

    format: int
    dataset: str
    classes: list[ClassEntry]
    image_shape: tuple[int, int, int]
    splits: dict[str, dict[str, list[str]]]
    preprocessing: Preprocessing
    settings: dict[str, Any]
    source: str
    sha256: str
    bytes: int
    made_by: str


class Prepared(NamedTuple):
    """An opened dataset: its manifest and its pictures, uint8 [N, H, W, C], read on demand."""

    manifest: Manifest
    images: NDArray[np.uint8]


class Contents(NamedTuple):
    """What `write` is given besides the pictures."""

    dataset: str
    splits: Mapping[str, Split]
    preprocessing: Preprocessing
    settings: Mapping[str, object]
    source: str


def write(folder: Path, contents: Contents, classes: Iterator[tuple[str, NDArray[np.uint8]]]) -> Manifest:
    """`folder` is a prepared dataset of `classes` (name, uint8 [n, H, W, C]); it was not there a moment before.

    Where the preprocessing has no mean, it gets the mean and standard deviation of the train classes, per channel.

    Raises DataError for an empty class or a split that does not fit the classes, RunError if the disk refuses.
    """
    with new_folder(folder) as aside, disk_errors(folder):
        path = aside / "images.npy"
        with path.open("w+b") as file:
            file.write(bytes(_HEADER_BYTES))
            entries, shape, moments = _stream(file, classes)
            _check_splits(entries, contents.splits)
            file.seek(0)
            file.write(_header((sum(entry.count for entry in entries), *shape)))
            file.flush()
            os.fsync(file.fileno())
        manifest = Manifest(
            format=FORMAT,
            dataset=contents.dataset,
            classes=entries,
            image_shape=shape,
            splits={n: {p: list(c) for p, c in split.items()} for n, split in contents.splits.items()},
            preprocessing=_with_moments(contents, moments),
            settings=dict(contents.settings),
            source=contents.source,
            sha256=_sha256(path),
            bytes=path.stat().st_size,
            made_by=_own_version(),
        )
        write_file(aside / "manifest.json", manifest.model_dump_json(indent=1).encode())
    return manifest


def open_prepared(folder: Path) -> Prepared:
    """The dataset in `folder`, in milliseconds whatever its size.

    Raises DataError if there is none, if it is of a newer format, or if it was edited or cut.
    """
    path = folder / "manifest.json"
    try:
        fields = json.loads(path.read_bytes())
    except OSError:
        raise DataError(f"{folder}: no prepared dataset there") from None
    except (ValueError, RecursionError):
        raise DataError(f"{path}: damaged; prepare the dataset again with --force") from None
    found = fields.get("format") if isinstance(fields, dict) else None
    if found != FORMAT:
        raise DataError(f"{path}: has format {found!r}, this metalearn reads {FORMAT}; prepare again with --force")
    try:
        manifest = Manifest.model_validate_json(json.dumps(fields))
        _check_splits(manifest.classes, manifest.splits)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise DataError(f"{path}: {where} was edited or cut; prepare the dataset again with --force") from None
    except DataError as error:
        raise DataError(f"{path}: {error}; prepare the dataset again with --force") from None
    return Prepared(manifest, _mapped(folder / "images.npy", manifest))


def verify(folder: Path) -> Manifest:
    """The manifest of `folder`, after reading every byte and finding it as it was written.

    Raises DataError otherwise.
    """
    manifest = open_prepared(folder).manifest
    if _sha256(folder / "images.npy") != manifest.sha256:
        raise DataError(f"{folder / 'images.npy'}: is not as it was written; prepare the dataset again with --force")
    return manifest


def _stream(
    file: BinaryIO, classes: Iterator[tuple[str, NDArray[np.uint8]]]
) -> tuple[list[ClassEntry], tuple[int, int, int], dict[str, NDArray[np.float64]]]:
    """Write class after class; return the entries, the shape of a picture, and (n, sum, sum of squares) by class."""
    entries: list[ClassEntry] = []
    moments: dict[str, NDArray[np.float64]] = {}
    shape: tuple[int, int, int] | None = None
    for name, pictures in classes:
        if len(pictures) == 0:
            raise DataError(f"class {name!r} has no pictures")
        height, width, channels = pictures.shape[1:]
        shape = shape or (height, width, channels)
        assert pictures.dtype == np.uint8
        assert pictures.shape[1:] == shape
        file.write(np.ascontiguousarray(pictures).data)
        entries.append(ClassEntry(name=name, count=len(pictures)))
        values = pictures.reshape(-1, channels).astype(np.float64) / 255
        moments[name] = np.stack([np.full(channels, len(values)), values.sum(0), np.square(values).sum(0)])
    if shape is None:
        raise DataError("there are no classes")
    return entries, shape, moments


def _check_splits(entries: list[ClassEntry], splits: Mapping[str, Split]) -> None:
    names = {entry.name for entry in entries}
    if len(names) < len(entries):
        raise DataError("two classes have the same name")
    for split, parts in splits.items():
        listed = [name for part in parts.values() for name in part]
        unknown, twice = set(listed) - names, len(listed) - len(set(listed))
        if unknown:
            raise DataError(f"split {split!r} names class {min(unknown)!r}, which has no pictures")
        if twice:
            raise DataError(f"split {split!r} has {twice} classes in two parts")


def _with_moments(contents: Contents, moments: Mapping[str, NDArray[np.float64]]) -> Preprocessing:
    if contents.preprocessing.mean:
        return contents.preprocessing
    train = next(iter(contents.splits.values()))["train"]
    number, total, squares = np.sum([moments[name] for name in train], axis=0)
    mean = total / number
    std = np.sqrt(np.maximum(squares / number - mean**2, 1e-6))
    update = {"mean": tuple(mean.round(4).tolist()), "std": tuple(std.round(4).tolist())}
    return contents.preprocessing.model_copy(update=update)


def _mapped(path: Path, manifest: Manifest) -> NDArray[np.uint8]:
    expected = (sum(entry.count for entry in manifest.classes), *manifest.image_shape)
    try:
        images: NDArray[np.uint8] = open_memmap(path, mode="r")
    except Exception as error:  # numpy raises ValueError, EOFError, OSError and tokenizer errors here
        raise DataError(f"{path}: damaged ({error}); prepare the dataset again with --force") from error
    if images.shape != expected or images.dtype != np.uint8 or path.stat().st_size != manifest.bytes:
        raise DataError(
            f"{path}: holds {images.dtype} {images.shape}, the manifest says uint8 {expected}; "
            "prepare the dataset again with --force"
        )
    return images


def _header(shape: tuple[int, ...]) -> bytes:
    """The header of a .npy file (format 1.0), padded to a fixed size, as the number of pictures is known last."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    return (
        b"\x93NUMPY\x01\x00"
        + (_HEADER_BYTES - 10).to_bytes(2, "little")
        + text.ljust(_HEADER_BYTES - 11).encode()
        + b"\n"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _own_version() -> str:
    try:
        return f"metalearn {version('metalearn-cli')}"
    except PackageNotFoundError:
        return "metalearn, not installed"
