"""Stores the features of pictures: one float16 array in a folder inside the prepared dataset.

They are computed in parts. Each part is a file of its own until all are there, so that an interrupted call continues
with the first missing part.

Legend: N pictures, V views of a picture, F features.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from metalearn_cli.errors import DataError, reason
from metalearn_cli.settings import Settings
from metalearn_cli.storage.files.atomic import disk_errors, put_in_place, remove_folder, write_file
from metalearn_cli.storage.files.reading import content_of, require_plain
from metalearn_cli.storage.inputs.downloads import Progress
from metalearn_cli.storage.prepared.checking import require_checked, sha256_of
from metalearn_cli.storage.prepared.rows import Rows
from metalearn_cli.version import own_version

FORMAT = 1
PART = 128
"""The pictures of a part: an interruption loses at most the few seconds in which a part is computed."""

Floats = NDArray[np.float16]


class Asked(NamedTuple):
    """Everything on which features depend: the SHA-256 of images.npy, the extractor's identity, and the views."""

    pictures: str
    identity: str
    views: int
    augmentation: Sequence[str]

    @property
    def key(self) -> str:
        """Sixteen hexadecimal digits that differ if any of these values differs."""
        return hashlib.sha256(repr(self._replace(augmentation=[*self.augmentation])).encode()).hexdigest()[:16]


class FeatureManifest(Settings):
    """The manifest of features.npy, float16 [N * V, F]: V views of each picture, the first of the picture itself.

    `read_from`: whether the extractor read the original pictures or the stored ones, and `why` not the originals.
    `sha256` and `bytes` belong to features.npy, `checksum` to all other fields.
    """

    format: int
    pictures: str
    identity: str
    about: str
    read_from: Literal["originals", "stored"]
    why: str
    count: int = Field(ge=1)
    views: int = Field(ge=1)
    augmentation: list[str]
    features: int = Field(ge=1)
    sha256: str
    bytes: int
    made_by: str
    checksum: str = ""

    def sealed(self) -> "FeatureManifest":
        """The same manifest with its `checksum` filled in."""
        text = self.model_dump_json(exclude={"checksum"})
        return self.model_copy(update={"checksum": hashlib.sha256(text.encode()).hexdigest()})


class Stored(NamedTuple):
    """Opened features: their manifest, and their rows, which are read on demand."""

    manifest: FeatureManifest
    rows: Rows


def features_folder(folder: Path, asked: Asked) -> Path:
    """The folder of these features inside the `folder` of the prepared dataset."""
    return folder / f"features-{asked.key}"


def open_features(place: Path, asked: Asked, progress: Callable[[str, int, int], None]) -> Stored | None:
    """The features in `place`, after a check of their checksum; None if there are none yet.

    Raises DataError if they are damaged, or belong to other pictures or another extractor than `asked`.
    """
    if not (place / "features.json").exists():
        return None
    stored = _opened(place)
    found = Asked(*(getattr(stored.manifest, name) for name in Asked._fields))
    if found._replace(augmentation=[]) != asked._replace(augmentation=[]):
        raise DataError(f"{place}: holds other features; {_cure(place)}")
    require_checked(place / "features.npy", stored.rows, stored.manifest.sha256, progress, cure=_cure(place))
    return stored


def verify_all(folder: Path, progress: Callable[[str, int, int], None]) -> list[FeatureManifest]:
    """The manifests of all features of the prepared dataset in `folder`, after a check of every byte.

    Raises DataError if a checksum differs.
    """
    manifests = []
    for place in sorted(folder.glob("features-*")):
        stored = _opened(place)
        digest = stored.rows.sha256(lambda done, size=stored.rows.bytes: progress("checking features", done, size))  # type: ignore[misc]
        if digest != stored.manifest.sha256:
            raise DataError(f"{place / 'features.npy'}: is not as it was written; {_cure(place)}")
        manifests.append(stored.manifest)
    return manifests


class Work(NamedTuple):
    """The computation of the features of all `pictures`: `part(numbers)` returns those of n of them, [n * V, F].

    `facts` are the fields of the manifest that `Asked` does not have; `label` names the work in lines of progress.
    """

    pictures: int
    part: Callable[[Sequence[int]], Floats]
    facts: Mapping[str, Any]
    label: str


def write_features(place: Path, asked: Asked, work: Work, progress: Progress) -> Stored:
    """Compute the features and write them to the folder `place`, which gets its name only when it is whole.

    Parts that an interrupted call with the same arguments has written are used and not computed again.

    Raises DataError if a picture cannot be read, RunError if the disk refuses.
    """
    key = hashlib.sha256(f"{asked} {sorted(work.facts.items())} {own_version()}".encode()).hexdigest()[:16]
    aside = place.with_name(f".{place.name}.{key}.unfinished")
    with disk_errors(place):
        for other in place.parent.glob(f".{place.name}.*.unfinished"):
            if other != aside or other.is_symlink():
                remove_folder(other)
        aside.mkdir(exist_ok=True)
    parts = []
    for start in range(0, work.pictures, PART):
        numbers, file = range(start, min(start + PART, work.pictures)), aside / f"{start:09}.npy"
        if _part_in(file, len(numbers) * asked.views, work.facts["features"]) is None:
            progress(work.label, start, work.pictures)
            content = BytesIO()
            np.save(content, work.part(numbers), allow_pickle=False)
            write_file(file, content.getvalue())
        parts.append(file)
        progress(work.label, numbers[-1] + 1, work.pictures)
    manifest = _joined(aside, parts, asked, work)
    write_file(aside / "features.json", manifest.model_dump_json(indent=1).encode())
    with disk_errors(place):
        for file in parts:
            file.unlink()
    put_in_place(aside, place)
    return _opened(place)


def _joined(aside: Path, parts: Sequence[Path], asked: Asked, work: Work) -> FeatureManifest:
    """Join all parts to one file in `aside`, and return its manifest."""
    path, shape = aside / "features.npy", (work.pictures * asked.views, int(work.facts["features"]))
    with disk_errors(path):
        # A map, because the array may be larger than the memory; nobody else has this file, so nobody can cut it.
        joined = np.lib.format.open_memmap(path, "w+", np.float16, shape)
        start = 0
        for file in parts:
            rows = np.load(file, allow_pickle=False)
            joined[start : (start := start + len(rows))] = rows
        joined.flush()
        del joined
        fields = asked._asdict() | {"augmentation": [*asked.augmentation]} | dict(work.facts)
        return FeatureManifest(
            format=FORMAT, count=work.pictures, sha256=sha256_of(path), bytes=path.stat().st_size,
            made_by=f"metalearn {own_version()}", **fields,
        ).sealed()  # fmt: skip


def _part_in(file: Path, rows: int, features: int) -> Floats | None:
    """The part in `file`, if an interrupted call has finished it; else None."""
    if file.is_symlink():
        return None
    with suppress(OSError, ValueError, EOFError):
        part: Floats = np.load(BytesIO(content_of(file)), allow_pickle=False)
        if part.shape == (rows, features) and part.dtype == np.float16:
            return part
    return None


def _opened(place: Path) -> Stored:
    path = place / "features.json"
    try:
        manifest = FeatureManifest.model_validate_json(json.dumps(json.loads(content_of(path))))
    except (OSError, ValueError, RecursionError, ValidationError):
        raise DataError(f"{path}: cannot be read, or was edited; {_cure(place)}") from None
    if manifest.format != FORMAT or manifest.sealed() != manifest:
        raise DataError(f"{path}: was edited, or is of another version; {_cure(place)}")
    try:
        rows = Rows(require_plain(place / "features.npy"), np.float16)
    except Exception as error:  # numpy raises ValueError, EOFError and tokenizer errors here
        raise DataError(f"{place / 'features.npy'}: damaged ({reason(error)}); {_cure(place)}") from error
    if rows.shape != (manifest.count * manifest.views, manifest.features) or rows.bytes != manifest.bytes:
        raise DataError(f"{place / 'features.npy'}: holds {rows.shape}, features.json says otherwise; {_cure(place)}")
    return Stored(manifest, rows)


def _cure(place: Path) -> str:
    return f"remove the folder {place}, and they are computed again when they are needed"
