"""Opens a prepared dataset: a folder with one array of all pictures, class after class, and a manifest.

Legend: N pictures, H height, W width, C channels.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, ValidationError

from metalearn_cli.datasets import Normalisation, Part, Preprocessing, Split
from metalearn_cli.errors import DataError
from metalearn_cli.omissions import Omission
from metalearn_cli.settings import Settings
from metalearn_cli.storage.prepared.checking import AGAIN, manifest_fields, opened_rows, require_checked, require_sum
from metalearn_cli.storage.prepared.rows import Rows

FORMAT = 1
# The fields that the first version of the format did not have; a manifest with none of them needs no checksum.
_NEWER = {"moments", "sample", "partial", "damaged", "left_out", "remarks", "checksum"}
_SINCE_CHECKSUM = ("left_out", "remarks")


class ClassEntry(Settings):
    """A class: its name and its number of pictures."""

    name: str
    count: int = Field(ge=1)


class Moments(Settings):
    """The mean and the standard deviation of pixels, scaled to 0..1, per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


_IMAGENET = Moments(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
_NONE = Moments(mean=(0.0,), std=(1.0,))


class Manifest(Settings):
    """The description of a prepared dataset. In the array, class c starts after the pictures of the classes before it.

    `settings`: the settings that pixels and splits depend on. `source`: the origin of the pictures, in words.
    `sha256`, `bytes`: checksum and size of images.npy.
    `moments`: mean and standard deviation of each split's training classes, if the preprocessing has none.
    `sample`: the collection, if several have this name (miniImageNet). `partial`: the missing parts, in words.
    `damaged`: the unreadable pictures that were left out. `left_out`: other files that were left out.
    `remarks`: lines about the rest for the user. `checksum`: the checksum of all other fields.
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
    moments: dict[str, Moments] = Field(default={})
    sample: str = ""
    partial: str = ""
    damaged: list[str] = Field(default=[])
    left_out: list[Omission] = Field(default=[])
    remarks: list[str] = Field(default=[])
    checksum: str = ""

    def sealed(self) -> "Manifest":
        """The same manifest with the checksum of all its other fields."""
        return self.model_copy(update={"checksum": self._sum()})

    def is_as_written(self) -> bool:
        """Whether the checksum is right, so the manifest was not edited; the first version of the format has none."""
        return self.checksum == self._sum() or not self.model_fields_set & _NEWER

    def _sum(self) -> str:
        # Older manifests were summed before these fields existed, so empty ones are left out of the sum.
        without: dict[str, Any] = {field: True for field in _SINCE_CHECKSUM if not getattr(self, field)}
        without |= {"checksum": True, "preprocessing": {"ink"}}
        return hashlib.sha256(self.model_dump_json(exclude=without).encode()).hexdigest()

    def class_names(self, split: str, part: Part) -> Sequence[str]:
        """The names of the classes in a part of a split; empty if there is no such split."""
        return self.splits.get(split, {}).get(part, ())

    def with_trainval(self, split: str) -> "Manifest":
        """The same manifest with the classes of the part val of a split in its part train too."""
        both = [*self.class_names(split, "train"), *self.class_names(split, "val")]
        return self.model_copy(update={"splits": {**self.splits, split: {**self.splits.get(split, {}), "train": both}}})

    def preprocessing_for(self, split: str, normalisation: Normalisation, channels: int | None = None) -> Preprocessing:
        """The preprocessing with the moments that `normalisation` names, for `channels` (default: its own)."""
        named = {"imagenet": _IMAGENET, "none": _NONE}.get(normalisation)
        chosen = named or self.moments.get(split) or Moments(mean=self.preprocessing.mean, std=self.preprocessing.std)
        channels = channels or self.preprocessing.channels
        if len(chosen.mean) != channels:
            chosen = Moments(mean=_over(chosen.mean, channels), std=_over(chosen.std, channels))
        return self.preprocessing.model_copy(update=chosen.model_dump())


class Prepared(NamedTuple):
    """An opened dataset: its manifest, and its pictures, uint8 [N, H, W, C], which are read when they are needed."""

    manifest: Manifest
    images: Rows


def _over(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """One value for each of `channels`: a single value is repeated, and for one grey channel three are averaged."""
    return (round(sum(values) / len(values), 4),) * channels


def open_prepared(folder: Path) -> Prepared:
    """Open the dataset in `folder`; this takes milliseconds, whatever its size.

    Raises DataError if there is none, if it has a newer format, or if a file was edited or cut.
    """
    path = folder / "manifest.json"
    fields = manifest_fields(path, "dataset", FORMAT)
    try:
        manifest = Manifest.model_validate_json(json.dumps(fields))
        check_splits(manifest.classes, manifest.splits)
        if not manifest.is_as_written():
            raise DataError("was edited")
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise DataError(f"{path}: {where} was edited or cut; {AGAIN}") from None
    except DataError as error:
        raise DataError(f"{path}: {error}; {AGAIN}") from None
    shape = (sum(entry.count for entry in manifest.classes), *manifest.image_shape)
    return Prepared(manifest, opened_rows(Rows, folder / "images.npy", shape, manifest.bytes))


def open_checked(folder: Path, progress: Callable[[str, int, int], None]) -> Prepared:
    """Open the dataset in `folder` for training, after a check that its pictures are unchanged since `prepare`.

    An array of up to 64 MiB is compared with its checksum each time. A larger one is compared once, and again if its
    file is another one or was written to. Only `verify` finds bytes that decay on the disk after that.

    Raises DataError as `open_prepared` and `verify` do.
    """
    opened = open_prepared(folder)
    require_checked(folder / "images.npy", opened.images, opened.manifest.sha256, progress)
    return opened


def verify(folder: Path) -> Manifest:
    """The manifest of `folder`, after a comparison of every byte with the checksum.

    Raises DataError if they differ.
    """
    opened = open_prepared(folder)
    require_sum(folder / "images.npy", opened.images, opened.manifest.sha256, lambda *_moved: None)
    return opened.manifest


def check_splits(entries: list[ClassEntry], splits: Mapping[str, Split]) -> None:
    """Raise DataError if a split does not fit the classes, or if two classes have the same name."""
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
