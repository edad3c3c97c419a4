"""CUB-200-2011: 11,788 photos of 200 kinds of birds.

Wah et al. 2011 (https://www.vision.caltech.edu/datasets/cub_200_2011/). Three very different splits are
in use, so a result cannot be compared without the name of its split: "closerlook" (Chen et al. 2019), "feat" (Ye et al.
2020) and "metadataset" (Triantafillou et al. 2020).
"""

import re
from typing import Literal

from pydantic import Field

from metalearn_cli.datasets import (
    PARTS,
    Archive,
    Arrangement,
    Download,
    Official,
    Resize,
    Sampling,
    Source,
    Split,
)
from metalearn_cli.datasets.layouts import is_picture, kept, photos, require_complete, require_total, split_list
from metalearn_cli.datasets.layouts.agreement import parts_of_members, require_agreement
from metalearn_cli.errors import DataError

PICTURES = 11_788

_OFFICIAL = Download(
    "CUB_200_2011.tgz",
    (
        "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz?download=1",
        "https://zenodo.org/record/8000562/files/CUB_200_2011.tgz",
    ),
    "sha256:0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
    1_150_585_339,
)
_CLASS = re.compile(r"\d{3}\.[^/]+")


class Config(Official):
    """The three splits share one store.

    `split`: the split from which tasks are drawn.
    `image_size` (pixels): the side of the stored pictures.
    `resize`: the filter with which pictures are made smaller.
    `fit`: "crop" keeps a centred square, "squash" the whole picture.
    """

    name: Literal["cub"] = "cub"
    split: Literal["closerlook", "feat", "metadataset"] = "closerlook"
    image_size: int = Field(default=84, ge=8, le=512)
    resize: Resize = "bilinear"
    fit: Literal["crop", "squash"] = "crop"


def build(config: Config) -> Archive:
    """CUB, from its official archive or its folder."""
    size = config.image_size
    return Archive(
        store=f"cub-{size}",
        settings=config.model_dump(mode="json", include={"image_size", "resize", "fit"}),
        preprocessing=photos(size, config.resize, config.fit),
        sampling=Sampling(config.split, augmentation=config.augmentation, normalisation=config.normalisation),
        arrange=lambda source: arrange(config, source),
        offers=((_OFFICIAL,),),
        licence="research",
        terms="CUB-200-2011 photos belong to their photographers; they are for non-commercial research and education.",
    )


def arrange(config: Config, source: Source) -> Arrangement:
    """The 200 classes "NNN.Name", and the three splits.

    Raises DataError if the source holds no CUB, or less of it than `config` allows.
    """
    lists: dict[str, Split] = {name: split_list(f"cub_{name}") for name in ("closerlook", "feat", "metadataset")}
    names = sorted(name for part in PARTS for name in lists["closerlook"][part])
    classes: dict[str, list[str]] = {}
    for member in source.members:
        above = member.split("/")[-2] if "/" in member else ""
        if _CLASS.fullmatch(above) and is_picture(member):
            classes.setdefault(above, []).append(member)
    if not classes:
        raise DataError(
            "cub: not found there; expected CUB_200_2011.tgz, or its folder images/001.Black_footed_Albatross/..."
        )
    partial = require_complete("cub", classes, dict.fromkeys(names), config.allow_partial)
    partial = partial or require_total("cub", classes, PICTURES, config.allow_partial)
    splits = {name: kept(split, classes, f"cub, split {name}") for name, split in lists.items()}
    require_agreement("cub", parts_of_members(classes), config.split, splits)
    return Arrangement({name: classes[name] for name in sorted(classes)}, splits, "", partial)
