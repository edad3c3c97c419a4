"""A person's own pictures: one folder per class."""

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from metalearn_cli.datasets import PARTS, Archive, Arrangement, Part, Preprocessing, Sampling, Split
from metalearn_cli.errors import DataError
from metalearn_cli.settings import Choice

_SUFFIX = re.compile(r"\.(png|jpe?g|webp|bmp)$", re.IGNORECASE)
_PARTS: Mapping[str, Part] = {
    "train": "train", "base": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "novel": "test",
}  # fmt: skip


class Config(Choice):
    """`title` tells several collections apart. Pictures become `image_size` squares of `channels` (1 grey, 3 colour).

    `fit: crop` keeps a centred square, `squash` keeps everything. Without train/, val/ and test/ folders, classes
    are split by `split_seed` into `val_fraction`, `test_fraction` and the rest.
    """

    name: Literal["folder"] = "folder"
    title: str = Field(default="pictures")
    image_size: int = Field(default=84, ge=8, le=512)
    channels: Literal[1, 3] = 3
    resize: Literal["nearest", "box", "bilinear", "bicubic", "lanczos"] = "bilinear"
    fit: Literal["crop", "squash"] = "crop"
    split_seed: int = Field(default=0, ge=0, le=2**63 - 1)
    val_fraction: float = Field(default=0.2, gt=0, lt=1)
    test_fraction: float = Field(default=0.2, gt=0, lt=1)
    rotations: Literal["none", "classes", "task"] = "none"

    @field_validator("title")
    @classmethod
    def _can_name_a_folder(cls, title: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,60}", title):
            raise ValueError(f"found {title!r}, expected letters, digits, '_' and '-'")
        return title


def build(config: Config) -> Archive:
    """The collection called `config.title`."""
    size = config.image_size
    return Archive(
        store=f"folder-{config.title}-{size}x{size}x{config.channels}",
        settings=config.model_dump(mode="json", exclude={"name", "rotations"}),
        preprocessing=Preprocessing(
            channels=config.channels, height=size, width=size, resize=config.resize, fit=config.fit, mean=(), std=()
        ),
        sampling=Sampling("classes", config.rotations),
        arrange=lambda members: arrange(config, members),
        licence="your own",
    )


def arrange(config: Config, members: Sequence[str]) -> Arrangement:
    """Classes by the folder their pictures lie in (below a group: "group/class"), and one split, "classes".

    Raises DataError if there are no pictures, a picture lies outside any class, a class is in two parts, or there
    are too few classes to split.
    """
    pictures = sorted(member for member in members if _SUFFIX.search(member))
    if not pictures:
        raise DataError("no pictures there (png, jpg, webp, bmp)")
    paths = _unwrapped([member.split("/") for member in pictures])
    # Beside folders of classes a picture is loose too: taken for a class, it would undo train/, val/ and test/.
    above = {tuple(path[:depth]) for path in paths for depth in range(len(path) - 1)}
    loose = [m for m, path in zip(pictures, paths, strict=True) if len(path) < 2 or tuple(path[:-1]) in above]
    if loose:
        raise DataError(f"{loose[0]!r} lies outside a class; expected CLASS/picture.jpg")
    given = {path[0].lower() for path in paths} <= _PARTS.keys() and all(len(path) > 2 for path in paths)
    classes: dict[str, list[str]] = {}
    part_of: dict[str, Part] = {}
    for member, path in zip(pictures, paths, strict=True):
        name = "/".join(path[1:-1] if given else path[:-1])
        classes.setdefault(name, []).append(member)
        if given and part_of.setdefault(name, _PARTS[path[0].lower()]) != _PARTS[path[0].lower()]:
            raise DataError(f"class {name!r} is in two of the folders train, val and test")
    split = _given(part_of) if given else _by_seed(config, classes)
    empty = [part for part in PARTS if not split[part]]
    if empty:
        raise DataError(
            f"no classes for {' and '.join(empty)}; expected folders train, val and test with classes in each"
        )
    return Arrangement(classes, {"classes": split})


def _unwrapped(paths: list[list[str]]) -> list[list[str]]:
    """The same paths below the folders that hold all of them, but for the class's own."""
    while min(len(path) for path in paths) > 2 and len({path[0] for path in paths}) == 1:
        paths = [path[1:] for path in paths]
    return paths


def _given(part_of: Mapping[str, Part]) -> Split:
    return {part: [name for name, found in part_of.items() if found == part] for part in PARTS}


def _by_seed(config: Config, classes: Mapping[str, Sequence[str]]) -> Split:
    names = sorted(classes)
    if len(names) < len(PARTS):
        raise DataError(f"{len(names)} classes; {len(PARTS)} or more are needed, one each for train, val and test")
    order = np.random.Generator(np.random.Philox(key=[config.split_seed, 0])).permutation(len(names))
    shuffled = [names[place] for place in order]
    val = max(1, round(config.val_fraction * len(names)))
    test = max(1, min(round(config.test_fraction * len(names)), len(names) - val - 1))
    return {
        "train": sorted(shuffled[val + test :]),
        "val": sorted(shuffled[:val]),
        "test": sorted(shuffled[val : val + test]),
    }
