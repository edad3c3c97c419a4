"""What a dataset is: one file in this folder, which exports a `Config` and a `build`.

`build(config)` returns one of three descriptions, and nothing is read or written until storage/ acts on it:

Archive      picture files in a folder or in zips (omniglot, folder)
Generated    pictures that a program draws (glyphs)
TaskSource   tasks drawn from a distribution, nothing stored (sinusoid)
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metalearn_cli.settings import Settings

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")
Split = Mapping[str, Sequence[str]]
"""Class names by part ("train", "val", "test"); no class is in two parts."""


class Preprocessing(Settings):
    """What turns any picture into a network's input; stored with the dataset and with every checkpoint.

    In this order: EXIF orientation, grey or RGB, crop to the target's aspect ratio (`fit: crop`) or not
    (`fit: squash`), resize to `height` x `width`, invert; that is stored as uint8. Then (pixel / 255 - mean) / std
    per channel.
    """

    channels: Literal[1, 3]
    height: int
    width: int
    resize: Literal["nearest", "box", "bilinear", "bicubic", "lanczos"] = "bilinear"
    fit: Literal["squash", "crop"] = "squash"
    invert: bool = False
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


class Sampling(NamedTuple):
    """How tasks are drawn from a stored dataset.

    `rotations`: "none"; "classes": each class stands for four, turned by 0, 90, 180 and 270 degrees; "task": each
    class of a task is turned by one of the four, drawn for that task. They apply to the parts in `rotated`.
    """

    split: str
    rotations: Literal["none", "classes", "task"] = "none"
    rotated: tuple[Part, ...] = ("train",)


class Download(NamedTuple):
    """One official file: where it lies (mirrors in order), its size in bytes and its SHA-256."""

    file: str
    urls: tuple[str, ...]
    size: int
    sha256: str


class Arrangement(NamedTuple):
    """Which members of a source make which class (in order), and the named splits of those classes."""

    classes: Mapping[str, Sequence[str]]
    splits: Mapping[str, Split]


class Archive(NamedTuple):
    """A dataset of picture files. `arrange` sees member paths ("a/b/c.png", any order) and raises DataError.

    `store` names the prepared folder: two configs whose pixels differ have two stores. `settings` are the values
    that the stored bytes and splits depend on; a store prepared with others is refused by name.
    """

    store: str
    settings: Mapping[str, object]
    preprocessing: Preprocessing
    sampling: Sampling
    arrange: Callable[[Sequence[str]], Arrangement]
    downloads: tuple[Download, ...] = ()
    licence: str = ""


class Generated(NamedTuple):
    """A dataset that a program draws: `generate` yields (class name, uint8 [n, H, W, C]), always the same."""

    store: str
    settings: Mapping[str, object]
    preprocessing: Preprocessing
    sampling: Sampling
    generate: Callable[[], Iterator[tuple[str, NDArray[np.uint8]]]]
    splits: Callable[[Sequence[str]], Mapping[str, Split]]
    licence: str = ""


Floats = NDArray[np.float32]


class TaskSource(NamedTuple):
    """A distribution over regression tasks. `draw(generator, examples)` gives one task's (inputs, targets).

    Shapes: inputs [examples, *input_shape], targets [examples, outputs].
    """

    input_shape: tuple[int, ...]
    outputs: int
    draw: Callable[[np.random.Generator, int], tuple[Floats, Floats]]


Dataset = Archive | Generated | TaskSource
