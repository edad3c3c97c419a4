"""Omniglot: 1,623 hand-written characters of 50 alphabets, drawn once by each of 20 people.

Lake, Salakhutdinov & Tenenbaum 2015, Science 350 (https://github.com/brendenlake/omniglot).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from metalearn_cli.datasets import (
    PARTS,
    Archive,
    Arrangement,
    Download,
    Files,
    Preprocessing,
    Resize,
    Rotations,
    Sampling,
    Split,
)
from metalearn_cli.datasets.layouts import json_list
from metalearn_cli.datasets.layouts.agreement import parts_of_members, require_agreement
from metalearn_cli.errors import DataError

CHARACTERS, DRAWINGS = 1623, 20

_MIRRORS = (
    "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/",
    "https://github.com/brendenlake/omniglot/raw/master/python/",
)
_ARCHIVES = (
    ("images_background.zip", 9_464_212, "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640"),
    ("images_evaluation.zip", 6_462_886, "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee"),
)
_SETS = ("images_background", "images_evaluation")


class Config(Files):
    """Grey drawings, ink = 1 on paper = 0.

    `split`: the split of the classes; docs/data.md says which papers use which.
    `resize`: the filter with which pictures are made smaller; "nearest" gives the pixels of the MAML paper's code.
    `image_size` (pixels): the side of the stored pictures.
    `rotations`: "classes" lets each character stand for four, turned by quarters, "task" turns each class of a task by
        a random quarter; in training.
    `rotate_eval`: rotations in validation and test too.
    """

    name: Literal["omniglot"] = "omniglot"
    split: Literal["vinyals", "official", "maml1200"] = "vinyals"
    resize: Resize = "bilinear"
    image_size: int = Field(default=28, ge=8, le=105)
    rotations: Rotations = "classes"
    rotate_eval: bool = False


def build(config: Config) -> Archive:
    """Omniglot with ink = 1 on paper = 0, from the two official archives."""
    size = config.image_size
    return Archive(
        store=f"omniglot-{size}-{config.resize}",
        settings={"image_size": size, "resize": config.resize},
        preprocessing=Preprocessing(channels=1, height=size, width=size, resize=config.resize, invert=True),
        sampling=Sampling(
            config.split,
            config.rotations,
            PARTS if config.rotate_eval else ("train",),
            config.augmentation,
            config.normalisation,
        ),
        arrange=lambda source: _agreed(config, arrange(source.members)),
        offers=(tuple(Download(f, tuple(m + f for m in _MIRRORS), f"sha256:{sha}", n) for f, n, sha in _ARCHIVES),),
        licence="MIT",
    )


def arrange(members: Sequence[str]) -> Arrangement:
    """Characters "Alphabet/characterNN" with their drawings, and the three splits.

    The layout is [any folders/]Alphabet/characterNN/NNNN_DD.png, whether or not the alphabets are in two sets.

    Raises DataError unless there are 1,623 characters of 20 drawings each.
    """
    drawings = [member for member in members if member.lower().endswith(".png") and member.count("/") >= 2]
    # Beside the two sets people keep images_background_small1 and the like, which repeat some of their alphabets.
    official = [member for member in drawings if any(part in _SETS for part in member.split("/")[:-3])]
    classes: dict[str, list[str]] = {}
    for member in sorted(official or drawings):
        classes.setdefault("/".join(member.split("/")[-3:-1]), []).append(member)
    short = [f"{name} has {len(found)}" for name, found in classes.items() if len(found) != DRAWINGS]
    if len(classes) != CHARACTERS or short:
        odd = f"; of {DRAWINGS} drawings each, {', '.join(short[:5])}" if short else ""
        raise DataError(
            f"omniglot: found {len(classes):,} characters, expected {CHARACTERS:,} "
            f"(both images_background and images_evaluation){odd}"
        )
    return Arrangement(
        classes, {"vinyals": _vinyals(classes), "official": _official(classes), "maml1200": _maml(classes)}
    )


def _agreed(config: Config, arrangement: Arrangement) -> Arrangement:
    """The arrangement, after a check that folders train, val and test around the alphabets do not contradict it."""
    require_agreement("omniglot", parts_of_members(arrangement.classes), config.split, arrangement.splits)
    return arrangement


def _vinyals(classes: Mapping[str, Any]) -> Split:
    lists = json_list("omniglot_vinyals")
    return {part: _named(classes, lists[part]) for part in PARTS}


def _official(classes: Mapping[str, Any]) -> Split:
    """Lake's background set without the five val alphabets of "vinyals", and his evaluation set as test."""
    evaluation = set(json_list("omniglot_evaluation")["alphabets"])
    val = set(json_list("omniglot_vinyals")["val"])
    alphabets = {name: name.split("/")[0] for name in classes}
    return {
        "train": [name for name, alphabet in alphabets.items() if alphabet not in evaluation | val],
        "val": [name for name, alphabet in alphabets.items() if alphabet in val],
        "test": [name for name, alphabet in alphabets.items() if alphabet in evaluation],
    }


def _maml(classes: Mapping[str, Any]) -> Split:
    lists = json_list("omniglot_maml1200")
    val, test = _named(classes, lists["val"]), _named(classes, lists["test"])
    return {"train": sorted(classes.keys() - set(val) - set(test)), "val": val, "test": test}


def _named(classes: Mapping[str, Any], alphabets: Mapping[str, int | list[int]]) -> list[str]:
    """The characters that a list names by alphabet: the count of all its characters, or their numbers."""
    numbers = {name: range(1, n + 1) if isinstance(n, int) else n for name, n in alphabets.items()}
    names = [f"{alphabet}/character{n:02}" for alphabet, found in numbers.items() for n in found]
    missing = [name for name in names if name not in classes]
    if missing:
        raise DataError(f"omniglot: {missing[0]} is missing")
    return names
