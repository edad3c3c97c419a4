"""tieredImageNet: 608 classes of ImageNet, split by 34 categories so that test classes are unlike training classes.

Ren et al. 2018 (https://arxiv.org/abs/1803.00676). Thirteen training classes of miniImageNet are test classes here.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Literal, NamedTuple

from pydantic import Field

from metalearn_cli.datasets import (
    PARTS,
    Archive,
    Arrangement,
    Listing,
    Official,
    Part,
    Resize,
    Sampling,
    Source,
    Split,
)
from metalearn_cli.datasets.layouts import (
    imagenet,
    in_order,
    incomplete,
    is_row,
    kept,
    photos,
    require_complete,
    shipped_rows,
)
from metalearn_cli.errors import DataError

_ZENODO = Listing("zenodo", "https://zenodo.org/api/records/7978538", r"tiered-imagenet-.*")
_BY_HAND = (
    "fetch {train,val,test}_images_png.pkl and _labels.pkl from https://zenodo.org/record/7978538, or take "
    "ILSVRC2012_img_train.tar from https://image-net.org"
)


class Config(Official):
    """Pictures of another size are resized as a whole.

    `image_size` (pixels): the side of the stored pictures.
    `resize`: the filter with which pictures are made smaller.
    """

    name: Literal["tieredimagenet"] = "tieredimagenet"
    image_size: int = Field(default=84, ge=8, le=512)
    resize: Resize = "bicubic"


class Listed(NamedTuple):
    """A class: its part, its number of pictures in ILSVRC2012, all of which belong to it, and its WordNet name."""

    part: Part
    pictures: int
    name: str


def build(config: Config) -> Archive:
    """tieredImageNet, from ImageNet's folders or tars, class folders, or the pickles of its authors."""
    size = config.image_size
    return Archive(
        store=f"tieredimagenet-{size}",
        settings=config.model_dump(mode="json", include={"image_size", "resize"}),
        preprocessing=photos(size, config.resize),
        sampling=Sampling("default", augmentation=config.augmentation, normalisation=config.normalisation),
        arrange=lambda source: arrange(config, source),
        offers=(_ZENODO,),
        licence="research",
        by_hand=_BY_HAND,
        terms=imagenet.TERMS,
        wants=imagenet.only(listed().keys()),
    )


def arrange(config: Config, source: Source) -> Arrangement:
    """The 608 classes with all their pictures.

    Raises DataError if the source holds no tieredImageNet, or less of it than `config` allows.
    """
    split: Split = {part: [wnid for wnid, entry in listed().items() if entry.part == part] for part in PARTS}
    found: Mapping[str, Sequence[str]] = imagenet.by_wnid(source.members, listed().keys()) or _named(source)
    if not found:
        return _anonymous(config, source)
    imagenet.require_same_parts("tieredimagenet", source, found, ("default", split))
    classes = in_order(split, found)
    expected = {wnid: entry.pictures for wnid, entry in listed().items()}
    partial = require_complete("tieredimagenet", classes, expected, config.allow_partial)
    return Arrangement(classes, {"default": kept(split, classes, "tieredimagenet")}, "", partial)


def _named(source: Source) -> Mapping[str, Sequence[str]]:
    """Pickled pictures by the WordNet names of their classes."""
    wnids = {entry.name.replace("/", "-"): wnid for wnid, entry in listed().items()}
    found: dict[str, list[str]] = {}
    for member in source.members:
        name = member.split("/")[-2] if "/" in member else ""
        if is_row(member) and name in wnids:
            found.setdefault(wnids[name], []).append(member)
    return found


def _anonymous(config: Config, source: Source) -> Arrangement:
    """The arrays of MetaOptNet, whose classes are numbers: their counts are checked part by part."""
    classes, split = imagenet.anonymous(source.members)
    if not classes:
        raise DataError(
            "tieredimagenet: not found there; expected class folders (n01530575), ImageNet's own folders or tars, or "
            "{train,val,test}_images_png.pkl (or _images.npz) with _labels.pkl"
        )
    lacking = []
    for part in PARTS:
        entries = [entry for entry in listed().values() if entry.part == part]
        pictures, expected = sum(len(classes[n]) for n in split[part]), sum(entry.pictures for entry in entries)
        if (len(split[part]), pictures) != (len(entries), expected):
            told = f"{len(split[part])} of {len(entries)} classes, {pictures:,} of {expected:,} pictures"
            lacking.append(f"{part} has {told}")
    if lacking and not config.allow_partial:
        raise incomplete("tieredimagenet", "; ".join(lacking))
    splits = {"default": kept(split, classes, "tieredimagenet")}
    return Arrangement(in_order(split, classes), splits, "without class names", "; ".join(lacking))


@cache
def listed() -> Mapping[str, Listed]:
    """The classes by WordNet id."""
    found = {}
    for wnid, part, pictures, name in shipped_rows("tieredimagenet.tsv"):
        if wnid != "wnid":
            found[wnid] = Listed(next(known for known in PARTS if known == part), int(pictures), name)
    return found
