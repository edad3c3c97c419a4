"""A person's own pictures: one folder per class, or a list that says what each picture shows."""

import re
from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from metalearn_cli.datasets import (
    PARTS,
    Archive,
    Arrangement,
    Files,
    Part,
    Pictures,
    Preprocessing,
    Resize,
    Rotations,
    Sampling,
    Source,
    Split,
)
from metalearn_cli.datasets.layouts.classes import Classes, grouped, named_split, split_by_seed
from metalearn_cli.datasets.layouts.labelling import labelled, require_split_read
from metalearn_cli.datasets.layouts.lists import read_lists
from metalearn_cli.datasets.layouts.parts import PARTS_EXPECTED
from metalearn_cli.errors import DataError
from metalearn_cli.settings import Title

_UNWANTED = re.compile(r"\.(pkl|pickle|npz)$", re.IGNORECASE)


class Config(Files):
    """Pictures of any size become squares of one size.

    If folders or lists name parts, these are the split. Otherwise a seed splits the classes, or you name them here.

    `title`: the name of this collection, if you prepare several.
    `image_size` (pixels): the side of the stored pictures.
    `channels` (channels): 1 stores grey pictures, 3 colour pictures.
    `resize`: the filter with which pictures are made smaller.
    `fit`: "crop" keeps a centred square, "squash" the whole picture.
    `parts`: "use" takes the parts that folders, files and lists name, train, val and test by any of their names, and
        refuses what looks like a split and is none; "ignore" puts the pictures of all parts together.
    `split_seed`: the seed that splits the classes if no parts are named.
    `val_fraction` (fraction): the share of the classes that is for validation.
    `test_fraction` (fraction): the share that is for the test; the rest is for training.
    `val_classes`: names the classes for validation, instead of the seed; of classes in parts, only those for training.
    `test_classes`: names the classes for the test in the same way.
    `rotations`: turns by quarters, in training: each class is four ("classes"), one of four drawn for each task
        ("task"), or none.
    """

    name: Literal["folder"] = "folder"
    title: Title = Field(default="pictures")
    image_size: int = Field(default=84, ge=8, le=512)
    channels: Literal[1, 3] = 3
    resize: Resize = "bilinear"
    fit: Literal["crop", "squash"] = "crop"
    parts: Literal["use", "ignore"] = "use"
    split_seed: int = Field(default=0, ge=0, le=2**63 - 1)
    val_fraction: float = Field(default=0.2, gt=0, lt=1)
    test_fraction: float = Field(default=0.2, gt=0, lt=1)
    val_classes: list[str] = Field(default=[])
    test_classes: list[str] = Field(default=[])
    rotations: Rotations = "none"


def build(config: Config) -> Archive:
    """The description of the collection called `config.title`; no file is read."""
    size = config.image_size
    elsewhere = {*Pictures.model_fields, "rotations", "skip_damaged"}
    if config.parts == "use":
        elsewhere.add("parts")  # collections from before there was a choice used them too
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
        each_once=True,
    )


def arrange(config: Config, source: Source) -> Arrangement:
    """Classes by the folder their pictures lie in (below a group: "group/class"), or by a list; one split, "classes".

    Raises DataError if there are no pictures, a picture lies outside any class or in two, a class is in two parts, what
    looks like a split cannot be read as one, or there are too few classes to split.
    """
    pictures = source.pictures()
    if not pictures:
        raise DataError("no pictures there (png, jpg, webp, gif, tif, bmp and others)")
    lists = read_lists(source, pictures, given := config.parts == "use")
    classes, part_of = grouped(labelled(source, pictures, lists, given), source.omissions)
    named: dict[Part, list[str]] = {"val": config.val_classes, "test": config.test_classes}
    if given and not part_of and not any(named.values()):
        require_split_read(source, lists)
    if any(named.values()):
        split = named_split(named, classes, part_of)
    else:
        split = _given(part_of) if part_of else _by_seed(config, classes)
    empty = [part for part in PARTS if not split[part]]
    if empty:
        raise DataError(f"no classes for {' and '.join(empty)}; expected {PARTS_EXPECTED}, with classes in each")
    return Arrangement(classes, {"classes": split})


def _given(part_of: Mapping[str, Part]) -> Split:
    return {part: [name for name, found in part_of.items() if found == part] for part in PARTS}


def _by_seed(config: Config, classes: Classes) -> Split:
    if len(classes) < len(PARTS):
        raise DataError(
            f"{len(classes)} classes; {len(PARTS)} or more are needed, one each for train, val and test: a folder for "
            "each class, or a list of the pictures that ends in .csv or .tsv"
        )
    parts = split_by_seed([*classes], config.split_seed, config.val_fraction, config.test_fraction)
    return {part: parts[part] for part in PARTS}
