"""VGG Flower: 8,189 photos of 102 kinds of flowers.

Nilsback & Zisserman 2008 (https://www.robots.ox.ac.uk/~vgg/data/flowers/102/); split of Meta-Dataset.
"""

import re
import struct
import zlib
from collections.abc import Sequence
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
from metalearn_cli.datasets.layouts import kept, photos, require_complete, require_total, split_list
from metalearn_cli.datasets.layouts.agreement import parts_of_members, require_agreement
from metalearn_cli.errors import DataError

PICTURES = 8189

_SITE = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
_FILES = (
    ("102flowers.tgz", 344_862_509, "2d01ecc807db462958cfe3d92f57a8c252b4abd240eb955770201e45f783b246"),
    ("imagelabels.mat", 502, "4903e94206bac23bf772aadf06451916df56b58fc483a62db32a97b82656651d"),
)
_PICTURE = re.compile(r"(^|/)image_(\d{5})\.jpg$", re.IGNORECASE)
_MAT_HEADER = 128  # bytes
_COMPRESSED, _MATRIX, _BYTES = 15, 14, 2  # the format's type numbers miCOMPRESSED, miMATRIX and miUINT8
_MOST_LABELS = 1 << 20  # bytes; the file has 8,189 labels, and a damaged one could unpack to any size


class Config(Official):
    """This dataset has one split.

    `image_size` (pixels): the side of the stored pictures.
    `resize`: the filter with which pictures are made smaller.
    `fit`: "crop" keeps a centred square, "squash" the whole picture.
    """

    name: Literal["vgg_flowers"] = "vgg_flowers"
    image_size: int = Field(default=84, ge=8, le=512)
    resize: Resize = "bilinear"
    fit: Literal["crop", "squash"] = "crop"


def build(config: Config) -> Archive:
    """VGG Flower, from 102flowers.tgz (or its folder jpg/) and imagelabels.mat beside it."""
    size = config.image_size
    return Archive(
        store=f"vgg_flowers-{size}",
        settings=config.model_dump(mode="json", include={"image_size", "resize", "fit"}),
        preprocessing=photos(size, config.resize, config.fit),
        sampling=Sampling("default", augmentation=config.augmentation, normalisation=config.normalisation),
        arrange=lambda source: arrange(config, source),
        offers=(tuple(Download(f, (_SITE + f,), f"sha256:{sha}", n) for f, n, sha in _FILES),),
        licence="not stated",
    )


def arrange(config: Config, source: Source) -> Arrangement:
    """The 102 classes "NNN.name", NNN being the label in imagelabels.mat.

    Raises DataError if the source holds no VGG Flower, or less of it than `config` allows.
    """
    pictures = {int(match[2]): match.string for member in source.members if (match := _PICTURE.search(member))}
    labels = next((member for member in source.members if member.rpartition("/")[2] == "imagelabels.mat"), None)
    if not pictures or labels is None:
        raise DataError("vgg_flowers: not found there; expected 102flowers.tgz (or jpg/) and imagelabels.mat")
    split = split_list("vgg_flowers")
    names = {int(name[:3]): name for part in PARTS for name in split[part]}
    classes: dict[str, list[str]] = {}
    for number, label in enumerate(mat_bytes(source.content(labels)), start=1):
        if number in pictures and label in names:
            classes.setdefault(names[label], []).append(pictures[number])
    partial = require_complete("vgg_flowers", classes, dict.fromkeys(names.values()), config.allow_partial)
    partial = partial or require_total("vgg_flowers", classes, PICTURES, config.allow_partial)
    ordered = {name: classes[name] for name in sorted(classes)}
    require_agreement("vgg_flowers", parts_of_members(ordered), "default", {"default": split})
    return Arrangement(ordered, {"default": kept(split, ordered, "vgg_flowers")}, "", partial)


def mat_bytes(content: bytes) -> Sequence[int]:
    """The values of the only matrix in a MATLAB 5 file, which stores numbers below 256 as bytes.

    "MAT-File Format" (The MathWorks), chapter 1. Raises DataError for any other file.
    """
    try:
        kind, size = struct.unpack_from("<II", content, _MAT_HEADER)
        element = content[_MAT_HEADER + 8 : _MAT_HEADER + 8 + size]
        if kind == _COMPRESSED:
            stream = zlib.decompressobj()
            element = stream.decompress(element, _MOST_LABELS)
            if not stream.eof:
                raise ValueError("it is cut short")
            kind, size = struct.unpack_from("<II", element)
            element = element[8 : 8 + size]
        if kind != _MATRIX:
            raise ValueError("it holds no matrix")
        # Array flags, dimensions and the name come first; the values are the last of four elements.
        for _skipped in range(3):
            _kind, _value, element = _element(element)
        kind, values, _rest = _element(element)
        if kind != _BYTES:
            raise ValueError("its values are no bytes")
    except (struct.error, zlib.error, ValueError) as error:
        raise DataError(f"imagelabels.mat is damaged: {error}") from error
    return values


def _element(content: bytes) -> tuple[int, bytes, bytes]:
    """The type and value of the first element, and the bytes behind it; a value of up to four bytes is in the tag."""
    kind, size = struct.unpack_from("<II", content)
    if kind >> 16:  # the packed form: the upper half of the first word is the size
        return kind & 0xFFFF, content[4 : 4 + (kind >> 16)], content[8:]
    end = 8 + size
    if end > len(content):
        raise ValueError("it is cut short")
    return kind, content[8:end], content[end + -end % 8 :]  # elements begin at multiples of eight bytes
