"""miniImageNet: 100 classes of ImageNet with 600 pictures each, as Ravi & Larochelle 2017 chose them.

Vinyals et al. 2016 (https://arxiv.org/abs/1606.04080) named it, and most papers use the lists of Ravi & Larochelle
(https://openreview.net/forum?id=rJY0-Kcll). Four collections go by this name: that of Ravi & Larochelle; two with other
pictures of the same classes (openai/supervised-reptile; timm/mini-imagenet on the Hugging Face hub); and that of
Vinyals et al., with other classes. The manifest of the store records which one it holds.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Literal

from pydantic import Field

from metalearn_cli.datasets import (
    PARTS,
    Archive,
    Arrangement,
    Download,
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
    is_row,
    kept,
    photos,
    require_complete,
    shipped_rows,
    split_list,
)
from metalearn_cli.datasets.layouts.parts import part_in
from metalearn_cli.errors import DataError

PICTURES = 600

_ZENODO = Listing(
    "zenodo", "https://zenodo.org/api/records/7978538", r"mini-imagenet-cache-(train|validation|val|test)\.pkl"
)
_PANCAKE = Download(
    "mini-imagenet.zip",
    ("https://huggingface.co/datasets/pancake/few_shot_datasets/resolve/main/mini-imagenet.zip",),
    "sha256:fdc1a84b906855d49382fee772675b070354b6d906adfe143c009cbfb9b87a57",
    2_089_692_471,
)
_GATE = Listing(
    "huggingface",
    "https://huggingface.co/api/datasets/GATE-engine/mini_imagenet/tree/main/data",
    r"data/(train|validation|test)-.*\.parquet",
)
_BY_HAND = (
    "fetch mini-imagenet-cache-{train,validation,test}.pkl from https://zenodo.org/record/7978538, or images/ with "
    "train.csv, val.csv and test.csv, or take ILSVRC2012_img_train.tar from https://image-net.org"
)

Ravi = Mapping[str, Sequence[tuple[int, int]]]
"""By class: (rank, number) of its pictures. "n0153282900000005.jpg" is rank 5: the fifth picture of n01532829 in
ILSVRC2012 by number, which there is called "n01532829_<number>.JPEG"."""


class Config(Official):
    """Pictures of another size are resized as a whole, by default as in the MAML paper.

    `split`: "vinyals" is the rare list of 60, 20 and 20 other classes.
    `image_size` (pixels): the side of the stored pictures.
    `resize`: the filter with which pictures are made smaller.
    """

    name: Literal["miniimagenet"] = "miniimagenet"
    split: Literal["ravi", "vinyals"] = "ravi"
    image_size: int = Field(default=84, ge=8, le=512)
    resize: Resize = "lanczos"


def build(config: Config) -> Archive:
    """miniImageNet, from any of its layouts."""
    size, other = config.image_size, "" if config.split == "ravi" else f"-{config.split}"
    return Archive(
        store=f"miniimagenet{other}-{size}",
        settings=config.model_dump(mode="json", include={"image_size", "resize"}),
        preprocessing=photos(size, config.resize),
        sampling=Sampling(config.split, augmentation=config.augmentation, normalisation=config.normalisation),
        arrange=lambda source: arrange(config, source),
        offers=(_ZENODO, (_PANCAKE,), _GATE) if config.split == "ravi" else (),
        licence="research",
        by_hand=_BY_HAND,
        terms=imagenet.TERMS,
        wants=imagenet.only(frozenset(name for names in _split(config).values() for name in names)),
    )


def arrange(config: Config, source: Source) -> Arrangement:
    """The 100 classes with 600 pictures each, in the order of their ranks if these are known.

    Raises DataError if the source holds no miniImageNet, or less of it than `config` allows.
    """
    split = _split(config)
    names = [name for part in PARTS for name in split[part]]
    found = imagenet.by_wnid(source.members, frozenset(names))
    if not found:
        return _anonymous(config, source)
    imagenet.require_same_parts("miniimagenet", source, found, (config.split, split))
    chosen = {name: _chosen(config, name, members) for name, members in found.items()}
    classes = in_order(split, {name: members for name, (members, _sample) in chosen.items()})
    partial = require_complete("miniimagenet", classes, dict.fromkeys(names, PICTURES), config.allow_partial)
    sample = " and ".join(sorted({sample for _members, sample in chosen.values()}))
    return Arrangement(classes, {config.split: kept(split, classes, "miniimagenet")}, sample, partial)


def _chosen(config: Config, wnid: str, members: Sequence[str]) -> tuple[Sequence[str], str]:
    """The pictures of a class, and the name of the sample to which they belong."""
    if is_row(members[0]):
        parts = {part_in(member) for member in members}
        if len(parts) > 1:  # timm's own split is over pictures: every class is in every part
            return [member for member in members if part_in(member) != "test"], "timm"
        return members, config.split
    if config.split != "ravi":
        return members, config.split
    ranks, numbers = _numbered(rf"{wnid}(\d{{8}})\.\w+", members), _numbered(rf"{wnid}_(\d+)\.\w+", members)
    if len(ranks) < len(members) and len(numbers) < len(members):
        return members, "unknown"
    listed = _ravi()[wnid]
    official = [ranks[rank] for rank, _ in listed if rank in ranks] or [numbers[n] for _, n in listed if n in numbers]
    if len(official) == len(members) or (numbers and len(members) > PICTURES):
        return official, "ravi"
    return members, "reptile" if numbers else "unknown"


def _numbered(pattern: str, members: Sequence[str]) -> dict[int, str]:
    """The members with a number in their names, by that number."""
    matches = ((re.fullmatch(pattern, member.rpartition("/")[2], re.IGNORECASE), member) for member in members)
    return {int(match[1]): member for match, member in matches if match}


def _anonymous(config: Config, source: Source) -> Arrangement:
    classes, split = imagenet.anonymous(source.members)
    if not classes:
        raise DataError(
            "miniimagenet: not found there; expected images/ with csv lists, class folders (n01532829), the pickles "
            "mini-imagenet-cache-*.pkl or miniImageNet_category_split_*.pickle, parquet files, or ImageNet's own "
            "folders or tars"
        )
    sizes: dict[Part, int] = {"train": 64, "val": 16, "test": 20}
    expected = {f"{part}-{number:03}": PICTURES for part, size in sizes.items() for number in range(size)}
    renamed = {name: classes[old] for old, name in _renumbered(split).items()}
    partial = require_complete("miniimagenet", renamed, expected, config.allow_partial)
    parts: Split = {part: sorted(name for name in renamed if name.startswith(part)) for part in PARTS}
    return Arrangement(in_order(parts, renamed), {config.split: parts}, "without class names", partial)


def _renumbered(split: Split) -> dict[str, str]:
    """Names that count from 000 in each part; some files number on from part to part."""
    return {name: f"{part}-{place:03}" for part in PARTS for place, name in enumerate(sorted(split[part]))}


def _split(config: Config) -> Split:
    if config.split == "vinyals":
        return split_list("miniimagenet_vinyals")
    names: dict[str, list[str]] = {part: [] for part in PARTS}
    for wnid, part, _pairs in shipped_rows("miniimagenet_ravi.tsv.gz"):
        names[part].append(wnid)
    return names


@cache
def _ravi() -> Ravi:
    pairs = {
        wnid: [pair.split(":") for pair in pairs.split()]
        for wnid, _part, pairs in shipped_rows("miniimagenet_ravi.tsv.gz")
    }
    return {wnid: [(int(rank), int(number)) for rank, number in found] for wnid, found in pairs.items()}
