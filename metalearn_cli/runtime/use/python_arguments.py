"""Reads the arguments of the Python interface: pictures in any usual form, and their labels.

Legend: N pictures, H height, W width, C channels.
"""

import os
import reprlib
from collections.abc import Hashable, Iterable, Mapping, Set
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from metalearn_cli.datasets.tabular import Encoding
from metalearn_cli.datasets.tabular.encoding import encoded_targets
from metalearn_cli.errors import DataError
from metalearn_cli.storage.inputs.folders import Folder

Picture = Image | NDArray[np.uint8] | Tensor | str | os.PathLike[str] | bytes
"""A PIL picture of any size and mode, uint8 values [H, W, C] or [H, W] (grey), a picture's file or its content."""

Pictures = Picture | Iterable[Picture]
"""One picture, several of them, or uint8 values [N, H, W, C] or [N, H, W] (grey)."""

_CHANNELS = (1, 3, 4)
_LONGEST_NUMBER = 1000  # digits; Python itself refuses to print a number of more than 4,300
_EXPECTED = "expected uint8 [N, H, W, C], PIL pictures, or paths of picture files"


class GivenPicture(NamedTuple):
    """A picture as the caller gave it, and its name in messages."""

    content: bytes | Image | NDArray[np.uint8]
    name: str


def pictures_in(images: Pictures, channels: int) -> list[GivenPicture]:
    """A list of the pictures, for a network with `channels` input channels; a single picture gives a list of one.

    An array with three axes is one picture [H, W, C] if its last axis has 1, 3 or 4 entries; otherwise it is N grey
    pictures [N, H, W].

    Raises DataError for any other value; the message names it and the forms that are accepted.
    """
    if isinstance(images, np.ndarray | Tensor):
        several: list[Any] = _in_array(_values(images, "pictures"), channels)
    elif isinstance(images, Image | str | bytes | os.PathLike):
        return [_given(images, "the picture")]
    elif isinstance(images, Mapping | Set) or not isinstance(images, Iterable):
        raise DataError(f"pictures: found {_kind(images)}, {_EXPECTED}")
    else:
        several = list(images)
    if not several:
        raise DataError("no pictures given")
    return [_given(picture, f"picture {number}") for number, picture in enumerate(several)]


def _in_array(values: NDArray[np.uint8], channels: int) -> list[NDArray[np.uint8]]:
    shape = values.shape
    if len(shape) == 4 and shape[3] in _CHANNELS:
        return list(values)
    if len(shape) == 2 or (len(shape) == 3 and shape[2] in _CHANNELS):
        return [values]
    if len(shape) == 3 and channels > 1 and shape[0] in _CHANNELS:
        raise DataError(
            f"pictures of shape {shape}: may be {shape[0]} grey pictures or a single one [C, H, W]; give [N, H, W, C], "
            "or [H, W, C] for a single one"
        )
    if len(shape) == 3:
        return list(values)
    first = len(shape) == 4 and shape[1] in _CHANNELS
    how = "; its channels come second: move them last, numpy.moveaxis(pictures, 1, -1)" if first else ""
    raise DataError(f"pictures of type {values.dtype} and shape {shape}; {_EXPECTED}{how}")


def _given(picture: Picture, name: str) -> GivenPicture:
    """The picture called `name`."""
    if isinstance(picture, Image | bytes):
        return GivenPicture(picture, name)
    if isinstance(picture, str | os.PathLike):
        path = Path(picture)
        if not path.is_file():
            found = "is a folder, expected the file of a picture" if path.is_dir() else "there is no such file"
            raise DataError(f"{path}: {found}")
        return GivenPicture(Folder(path.parent).read(str(path)), str(path))
    if not isinstance(picture, np.ndarray | Tensor):
        raise DataError(f"{name}: found {_kind(picture)}, expected uint8 [H, W, C], a PIL picture, or a file's path")
    values = _values(picture, name)
    if not (values.ndim == 2 or (values.ndim == 3 and values.shape[2] in _CHANNELS)) or 0 in values.shape:
        raise DataError(f"{name}: has shape {values.shape}, expected [H, W, C] with C of 1, 3 or 4, or [H, W] for grey")
    return GivenPicture(values, name)


def _values(array: "NDArray[Any] | Tensor", name: str) -> NDArray[np.uint8]:
    kind, shape = str(array.dtype).removeprefix("torch."), tuple(array.shape)
    if kind == "uint8":
        return array.detach().cpu().numpy() if isinstance(array, Tensor) else np.asarray(array)
    how = ""
    if "float" in kind:
        how = "; of pictures in 0 to 1: (255 * pictures).round(), as uint8"
    elif "int" in kind:
        how = ", values 0 to 255"
    raise DataError(f"{name} of type {kind} and shape {shape}; {_EXPECTED}{how}")


def labels_in(labels: Iterable[Hashable]) -> list[Hashable]:
    """A list of the labels, with numbers as Python numbers; arrays and tensors [N] are accepted too.

    Raises DataError if `labels` is not a list of labels, or for a label such as NaN, a tensor or a huge number.
    """
    if isinstance(labels, str | bytes | Mapping | Set) or not isinstance(labels, Iterable):
        raise DataError(f"labels: found {_kind(labels)}, expected a list with a label for each example")
    if len(shape := getattr(labels, "shape", (0,))) != 1:
        raise DataError(f"labels of shape {tuple(shape)}; expected one label for each example, [N]")
    return [_label(label) for label in labels]


def targets_in(values: object, count: int, encoding: Encoding) -> Tensor:
    """Targets [N] or [N, P] in their own units, standardised as a network learns them, float32 [N, P].

    Raises DataError unless `values` are `count` rows of P finite numbers.
    """
    names = encoding.targets
    try:
        given = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
        numbers = given.astype(np.float64).reshape(len(given), -1)
    except (TypeError, ValueError):
        raise DataError(f"targets: found {_kind(values)}, expected numbers [N, {len(names)}]") from None
    if numbers.shape != (count, len(names)) or not np.isfinite(numbers).all():
        expected = f"finite numbers [{count}, {len(names)}]: {', '.join(names)}"
        raise DataError(f"targets of shape {given.shape}; expected {expected}")
    return torch.from_numpy(encoded_targets(numbers, encoding))


def _label(label: Any) -> Hashable:
    if isinstance(label, np.generic) or (isinstance(label, Tensor) and label.dim() == 0):
        label = label.item()
    if isinstance(label, float) and not isfinite(label):
        raise DataError(f"a label is {label}; expected a name or a finite number")
    if isinstance(label, int) and abs(label) >= 10**_LONGEST_NUMBER:
        raise DataError(f"a label is a number of more than {_LONGEST_NUMBER} digits; use a shorter one, or a name")
    try:
        hash(label)
    except TypeError:
        raise DataError(f"a label is {reprlib.repr(label)}; expected a name or a number") from None
    if isinstance(label, Tensor):  # tensors hash by identity, so equal tensors would count as several classes
        raise DataError(f"a label is a tensor of shape {tuple(label.shape)}; expected a name or a number")
    hashable: Hashable = label
    return hashable


def classes_in(labels: Iterable[Hashable]) -> list[Hashable]:
    """The different labels, in the order of their first appearance.

    Raises DataError if two of them are equal in Python but not the same (1 and True), or look the same in print (1 and
    "1").
    """
    classes: dict[Hashable, Hashable] = {}
    texts: dict[str, Hashable] = {}
    for label in labels:
        known = classes.setdefault(label, label)
        other = texts.setdefault(str(label), label)
        if type(known) is not type(label):
            raise DataError(f"labels {known!r} and {label!r} are equal in Python; give each class one label")
        if other != label:
            raise DataError(f"labels {other!r} and {label!r} read the same; give each class a label of its own")
    return list(classes)


def _kind(value: object) -> str:
    return f"a value of type {type(value).__name__}"
