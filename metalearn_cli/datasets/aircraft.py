"""FGVC-Aircraft: 100 variants of aircraft with 100 photos each.

Maji et al. 2013 (https://arxiv.org/abs/1306.5151); split of Meta-Dataset (Triantafillou et al. 2020).
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
)
from metalearn_cli.datasets.layouts import is_picture, kept, photos, require_complete, split_list
from metalearn_cli.datasets.layouts.agreement import parts_of_members, require_agreement
from metalearn_cli.errors import DataError

PICTURES = 100

_CREDIT_ROWS = 20
_OFFICIAL = Download(
    "fgvc-aircraft-2013b.tar.gz",
    ("https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",),
    "md5:d4acdd33327262359767eeaa97a4f732",
)
_LIST = re.compile(r"(^|/)images_variant_(train|val|test)\.txt$")


class Config(Official):
    """The photos without their credit line.

    `image_size` (pixels): the side of the stored pictures.
    `resize`: the filter with which pictures are made smaller.
    `fit`: "crop" keeps a centred square, "squash" the whole picture.
    """

    name: Literal["aircraft"] = "aircraft"
    image_size: int = Field(default=84, ge=8, le=512)
    resize: Resize = "bilinear"
    fit: Literal["crop", "squash"] = "squash"


def build(config: Config) -> Archive:
    """FGVC-Aircraft, from its official archive or its folder; the 20 rows that credit the photographer are cut off."""
    size = config.image_size
    return Archive(
        store=f"aircraft-{size}",
        settings=config.model_dump(mode="json", include={"image_size", "resize", "fit"}),
        preprocessing=photos(size, config.resize, config.fit),
        sampling=Sampling("default", augmentation=config.augmentation, normalisation=config.normalisation),
        arrange=lambda source: arrange(config, source),
        offers=((_OFFICIAL,),),
        licence="research",
        terms="FGVC-Aircraft photos are for non-commercial research only, with credit to their photographers.",
        cut_bottom=_CREDIT_ROWS,
    )


def arrange(config: Config, source: Source) -> Arrangement:
    """The 100 variants; the official lists say which picture shows which variant.

    Raises DataError if the source holds no FGVC-Aircraft, or less of it than `config` allows.
    """
    lists = [member for member in source.members if _LIST.search(member)]
    if not lists:
        raise DataError(
            "aircraft: not found there; expected fgvc-aircraft-2013b.tar.gz, or its folder data/ with images/ and "
            "images_variant_{train,val,test}.txt"
        )
    pictures = {member.rpartition("/")[2].rpartition(".")[0]: member for member in source.members if is_picture(member)}
    classes: dict[str, list[str]] = {}
    for line in (line for member in lists for line in source.text(member).splitlines() if line.strip()):
        number, _, variant = line.strip().partition(" ")
        if number in pictures:
            classes.setdefault(variant, []).append(pictures[number])
    split = split_list("aircraft")
    expected = {name: PICTURES for part in PARTS for name in split[part]}
    partial = require_complete("aircraft", classes, dict.fromkeys(expected, PICTURES), config.allow_partial)
    ordered = {name: sorted(classes[name]) for name in sorted(classes)}
    require_agreement("aircraft", parts_of_members(ordered), "default", {"default": split})
    return Arrangement(ordered, {"default": kept(split, ordered, "aircraft")}, "", partial)
