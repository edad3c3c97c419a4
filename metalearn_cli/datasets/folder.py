"""A person's own pictures: one folder per class, or a list that says what each picture shows."""

import csv
import json
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from metalearn_cli.datasets import (
    PARTS,
    Archive,
    Arrangement,
    Files,
    Part,
    Preprocessing,
    Resize,
    Rotations,
    Sampling,
    Source,
    Split,
)
from metalearn_cli.datasets.layouts import PART_NAMES, is_row
from metalearn_cli.errors import DataError, can_be_a_name

_UNWANTED = re.compile(r"\.(pkl|pickle|npz)$", re.IGNORECASE)
_FILE_COLUMNS = ("filename", "file_name", "file", "image", "path")
_LABEL_COLUMNS = ("label", "category", "class")
_PART_COLUMNS = ("split", "part")

Classes = Mapping[str, Sequence[str]]


class Config(Files):
    """Pictures of any size become squares of one.

    Without train/, val/ and test/ folders, classes are split by a seed, or as they are named here.

    `title`: tells several collections apart.
    `image_size` (pixels): the side of the stored pictures.
    `channels` (channels): what the stored pictures have, 1 grey, 3 colour.
    `resize`: the filter with which pictures are made smaller.
    `fit`: "crop" keeps a centred square, "squash" the whole picture.
    `split_seed`: splits the classes.
    `val_fraction` (fraction): the share of the classes that is for validation.
    `test_fraction` (fraction): the share that is for the test; the rest is for training.
    `val_classes`: names the classes for validation, instead of the seed.
    `test_classes`: names the classes for the test, instead of the seed.
    `rotations`: turns by quarters, in training: each class is four ("classes"), one of four drawn for each task
        ("task"), or none.
    """

    name: Literal["folder"] = "folder"
    title: str = Field(default="pictures")
    image_size: int = Field(default=84, ge=8, le=512)
    channels: Literal[1, 3] = 3
    resize: Resize = "bilinear"
    fit: Literal["crop", "squash"] = "crop"
    split_seed: int = Field(default=0, ge=0, le=2**63 - 1)
    val_fraction: float = Field(default=0.2, gt=0, lt=1)
    test_fraction: float = Field(default=0.2, gt=0, lt=1)
    val_classes: list[str] = Field(default=[])
    test_classes: list[str] = Field(default=[])
    rotations: Rotations = "none"

    @field_validator("title")
    @classmethod
    def _can_name_a_folder(cls, title: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,60}", title):
            raise ValueError(f"found {title!r}, expected letters, digits, '_' and '-'")
        return title


def build(config: Config) -> Archive:
    """The collection called `config.title`."""
    size = config.image_size
    elsewhere = {"name", "rotations", "normalisation", "augmentation", "skip_damaged"}
    return Archive(
        store=f"folder-{config.title}-{size}x{size}x{config.channels}",
        settings=config.model_dump(mode="json", exclude=elsewhere),
        preprocessing=Preprocessing(
            channels=config.channels, height=size, width=size, resize=config.resize, fit=config.fit, mean=(), std=()
        ),
        sampling=Sampling(
            "classes", config.rotations, augmentation=config.augmentation, normalisation=config.normalisation
        ),
        arrange=lambda source: arrange(config, source),
        licence="your own",
        wants=lambda path: not _UNWANTED.search(path),
    )


def arrange(config: Config, source: Source) -> Arrangement:
    """Classes by the folder their pictures lie in (below a group: "group/class"), or by a list; one split, "classes".

    Raises DataError if there are no pictures, a picture lies outside any class, a class is in two parts, or there
    are too few classes to split.
    """
    pictures = source.pictures()
    if not pictures:
        raise DataError("no pictures there (png, jpg, webp, gif, tif, bmp and others)")
    if (listed := _listed(source, pictures)) is None:
        source.require_filled(pictures)
    classes, part_of = listed or _by_folder(pictures)
    if config.val_classes or config.test_classes:
        split = _named(config, classes)
    else:
        split = _given(part_of) if part_of else _by_seed(config, classes)
    empty = [part for part in PARTS if not split[part]]
    if empty:
        raise DataError(
            f"no classes for {' and '.join(empty)}; expected folders train, val and test with classes in each"
        )
    return Arrangement(classes, {"classes": split})


def _by_folder(pictures: Sequence[str]) -> tuple[Classes, Mapping[str, Part]]:
    """The classes, and the part of each where folders train, val and test give it."""
    paths = _unwrapped([member.split("/")[-2:] if is_row(member) else member.split("/") for member in pictures])
    # Beside folders of classes a picture is loose too: taken for a class, it would undo train/, val/ and test/.
    above = {tuple(path[:depth]) for path in paths for depth in range(len(path) - 1)}
    loose = [m for m, path in zip(pictures, paths, strict=True) if len(path) < 2 or tuple(path[:-1]) in above]
    if loose:
        raise DataError(f"{loose[0]!r} lies outside a class; expected CLASS/picture.jpg")
    given = {path[0].lower() for path in paths} <= PART_NAMES.keys() and all(len(path) > 2 for path in paths)
    labels = ["/".join(path[1:-1] if given else path[:-1]) for path in paths]
    parts = [PART_NAMES[path[0].lower()] if given else None for path in paths]
    return _grouped(zip(pictures, labels, parts, strict=True))


def _listed(source: Source, pictures: Sequence[str]) -> tuple[Classes, Mapping[str, Part]] | None:
    """The same by csv or tsv files with a column for the file and one for its class, as Meta-Album has them.

    A part comes from a third column, or from the list's name ("train.csv"). None if there is no such list, or one
    that does not name the pictures there.
    """
    known = set(pictures)
    rows: list[tuple[str, str, Part | None]] = []
    for member in source.members:
        if member.lower().endswith((".csv", ".tsv")):
            try:
                rows += _rows(source, member, known)
            except csv.Error as error:
                raise DataError(f"{member}: is no list that can be read: {error}") from error
    if not rows:
        return None
    if any(part is None for _picture, _label, part in rows):
        rows = [(picture, label, None) for picture, label, _part in rows]
    return _grouped(sorted(rows))


def _rows(source: Source, member: str, known: set[str]) -> Iterator[tuple[str, str, Part | None]]:
    lines = source.text(member).splitlines()
    found = csv.DictReader(lines, delimiter="\t" if member.lower().endswith(".tsv") else ",")
    columns = {name.strip().lower(): name for name in found.fieldnames or [] if name}
    folder, _, name = member.rpartition("/")
    renamed = _renamed(source, posixpath.join(folder, "info.json"))
    file = next((columns[name] for name in (*renamed[:1], *_FILE_COLUMNS) if name in columns), None)
    label = next((columns[name] for name in (*renamed[1:], *_LABEL_COLUMNS) if name in columns), None)
    part = next((columns[name] for name in _PART_COLUMNS if name in columns), None)
    if file is None or label is None:
        return
    by_name = PART_NAMES.get(name.rpartition(".")[0].lower())
    for row in found:
        places = [posixpath.normpath(posixpath.join(folder, below, row[file] or "")) for below in ("", "images")]
        picture = next((place for place in places if place in known), None)
        if picture is None:
            raise DataError(
                f"{member}:{found.line_num}: {row[file]!r} is not there; expected {places[0]} or {places[1]}"
            )
        if not row[label] or not can_be_a_name(row[label]):
            raise DataError(f"{member}:{found.line_num}: {row[file]!r} has no {label} that can be printed")
        yield picture, row[label], PART_NAMES.get((row[part] or "").lower()) if part else by_name


def _renamed(source: Source, member: str) -> tuple[str, ...]:
    """What Meta-Album's info.json says the columns of file and class are called, if there is one."""
    if member not in source.members:
        return ()
    try:
        about = json.loads(source.text(member))
        return tuple(str(about[key]).lower() for key in ("image_column_name", "category_column_name"))
    except (ValueError, KeyError, TypeError):  # some other info.json
        return ()


def _grouped(
    rows: Iterator[tuple[str, str, Part | None]] | Sequence[tuple[str, str, Part | None]],
) -> tuple[Classes, Mapping[str, Part]]:
    classes: dict[str, list[str]] = {}
    part_of: dict[str, Part] = {}
    for member, name, part in rows:
        classes.setdefault(name, []).append(member)
        if part is not None and part_of.setdefault(name, part) != part:
            raise DataError(f"class {name!r} is in two of the folders train, val and test")
    return classes, part_of


def _unwrapped(paths: list[list[str]]) -> list[list[str]]:
    """The same paths below the folders that hold all of them, but for the class's own."""
    while min(len(path) for path in paths) > 2 and len({path[0] for path in paths}) == 1:
        paths = [path[1:] for path in paths]
    return paths


def _given(part_of: Mapping[str, Part]) -> Split:
    return {part: [name for name, found in part_of.items() if found == part] for part in PARTS}


def _named(config: Config, classes: Classes) -> Split:
    lists: dict[Part, list[str]] = {"val": config.val_classes, "test": config.test_classes}
    for part, names in lists.items():
        unknown = [name for name in names if name not in classes]
        if unknown:
            raise DataError(f"dataset.{part}_classes: {unknown[0]!r} has no pictures; there are {', '.join(classes)}")
    both = sorted({*config.val_classes} & {*config.test_classes})
    if both:
        raise DataError(f"class {both[0]!r} is in both dataset.val_classes and dataset.test_classes")
    rest = [name for name in classes if name not in {*config.val_classes, *config.test_classes}]
    return {"train": rest, "val": sorted({*config.val_classes}), "test": sorted({*config.test_classes})}


def _by_seed(config: Config, classes: Classes) -> Split:
    names = sorted(classes)
    if len(names) < len(PARTS):
        raise DataError(f"{len(names)} classes; {len(PARTS)} or more are needed, one each for train, val and test")
    val = max(1, round(config.val_fraction * len(names)))
    test = max(1, min(round(config.test_fraction * len(names)), len(names) - val - 1))
    if val + test >= len(names):
        raise DataError(
            f"no classes for train: dataset.val_fraction takes {val} of {len(names)} classes and "
            f"dataset.test_fraction {test}; make them smaller"
        )
    order = np.random.Generator(np.random.Philox(key=[config.split_seed, 0])).permutation(len(names))
    shuffled = [names[place] for place in order]
    return {
        "train": sorted(shuffled[val + test :]),
        "val": sorted(shuffled[:val]),
        "test": sorted(shuffled[val : val + test]),
    }
