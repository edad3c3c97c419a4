"""The descriptions of datasets. A dataset is one file in this folder, which exports a `Config` and a `build`.

`build(config)` returns one of five descriptions; only storage/ reads or writes files, by what a description says:

Archive      picture files in a folder or in zips (omniglot, folder)
Generated    pictures that a program draws (glyphs)
Tabular      rows of numbers in a person's files (table)
TaskSource   tasks drawn from a distribution, nothing stored (sinusoid)
Mixture      other datasets, of which each task uses one (mixture)
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from metalearn_cli.datasets.tabular import Tabular
from metalearn_cli.omissions import Omissions
from metalearn_cli.preprocessing import Preprocessing as Preprocessing
from metalearn_cli.preprocessing import Resize as Resize
from metalearn_cli.settings import Choice

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")
Split = Mapping[str, Sequence[str]]
"""Class names by part ("train", "val", "test"); no class is in two parts."""


Rotations = Literal["none", "classes", "task"]
Augmentation = Literal["crop", "flip", "affine", "jitter"]
Normalisation = Literal["dataset", "imagenet", "none"]


class Pictures(Choice):
    """The settings that every dataset of pictures has.

    `normalisation`: "dataset": as the dataset's own file defines it; "imagenet": by the mean and standard deviation of
        ImageNet; "none": pixels from 0 to 1.
    `augmentation`: in training only and anew for every picture of a task: "crop" moves it by up to an eighth, "flip"
        mirrors it left to right half of the time, "affine" turns it by up to 15 degrees, stretches each side by up to
        15 % and slants it by up to a fifth of its height, "jitter" changes brightness, contrast and saturation by up to
        40 %.
    `trainval`: training takes the classes of the part val too, as some papers do for the figures that they publish
        (ProtoNet, MetaOptNet). Validation is then on classes that are trained on, so it says nothing about new ones;
        probabilities are not calibrated, and `folder` is not compared with simpler learners. The test is as ever.
    `features`: a pretrained network. Its features are stored beside the pictures, and learners read them in place of
        pixels. With it `normalisation` and rotations have no effect, and `augmentation` needs 2 `views` or more.
    """

    normalisation: Normalisation = "dataset"
    augmentation: list[Augmentation] = Field(default=[])
    trainval: bool = False
    features: Choice | None = None

    @model_validator(mode="after")
    def _augmentation_is_stored(self) -> Self:
        views = None if self.features is None else getattr(self.features, "views", 1)
        if views is not None and (views > 1) != bool(self.augmentation):
            found = f"found {views} with augmentation [{', '.join(self.augmentation)}]"
            raise ValueError(f"features.views: {found}; expected 2 or more (copies) with an augmentation, 1 without")
        return self


def trains_on_val(settings: Choice) -> bool:
    """Whether training takes the classes of the part val too, in the dataset or in one of a mixture."""
    return getattr(settings, "trainval", False) or any(map(trains_on_val, getattr(settings, "of", ())))


class Files(Pictures):
    """The settings that every dataset of picture files has.

    `skip_damaged`: pictures that cannot be read are left out and listed in the manifest, instead of being an error.
    """

    skip_damaged: bool = False


class Official(Files):
    """The settings that every published dataset with terms of use has.

    `accept_terms`: you accept the terms that `prepare` prints.
    `allow_partial`: fewer classes or pictures than the official counts are prepared and recorded as such, instead of
        being an error.
    """

    accept_terms: bool = False
    allow_partial: bool = False


PREPARATION_ONLY = frozenset({"skip_damaged", "accept_terms", "allow_partial"})
"""Settings that only `prepare` uses; a run does not depend on them."""


class Sampling(NamedTuple):
    """The way in which tasks are drawn from a stored dataset.

    `rotations`: "none"; "classes": each class stands for four, turned by 0, 90, 180 and 270 degrees; "task": each
    class of a task is turned by one of the four, drawn for that task. They apply to the parts in `rotated`,
    `augmentation` to training alone.
    """

    split: str
    rotations: Rotations = "none"
    rotated: tuple[Part, ...] = ("train",)
    augmentation: Sequence[Augmentation] = ()
    normalisation: Normalisation = "dataset"


class Download(NamedTuple):
    """One official file: its URLs (mirrors in order), its checksum ("sha256:..." or "md5:...") and its size in bytes.

    The size is None (only `aircraft`) if the publisher gives a checksum alone.
    """

    file: str
    urls: tuple[str, ...]
    checksum: str
    size: int | None = None


class Listing(NamedTuple):
    """Files whose sizes and checksums their host lists at `url`: a record of Zenodo or a repository of the HF hub.

    `wanted` is a pattern that the names of the files to fetch match in full.
    """

    host: Literal["zenodo", "huggingface"]
    url: str
    wanted: str


Offer = tuple[Download, ...] | Listing
"""The files that together make up a dataset."""


class Source(Protocol):
    """The files of a folder or archive: their paths ("a/b/c.png", sorted), and the content of each.

    Pictures inside a larger file (pickle, npz, parquet) are members below it: "train.pkl/CLASS/000012". Code that
    leaves a member out adds it to `omissions`.
    """

    members: Sequence[str]
    omissions: Omissions

    def pictures(self) -> Sequence[str]:
        """The members that are pictures, recognised by suffix or content."""
        ...

    def require_filled(self, pictures: Iterable[str]) -> None:
        """Raise DataError for a folder without pictures that lies beside the folders of the `pictures`."""
        ...

    def text(self, member: str) -> str:
        """A small text file. Raises DataError if it cannot be read."""
        ...

    def content(self, member: str) -> bytes:
        """A small file of any kind. Raises DataError if it cannot be read."""
        ...


class Arrangement(NamedTuple):
    """The members of a source that belong to each class (in order), and the named splits of the classes.

    `sample` tells apart collections that go by one name; `partial` describes missing classes and pictures.
    """

    classes: Mapping[str, Sequence[str]]
    splits: Mapping[str, Split]
    sample: str = ""
    partial: str = ""


class Archive(NamedTuple):
    """A dataset of picture files. `arrange` groups the files of a source, or raises DataError for another dataset.

    `store` is the name of the prepared folder; two configs with different pixels need two names. `settings` are the
    values that change the stored bytes and splits; a store prepared with other values is refused. `offers` are the
    places to download from, in order; `by_hand` tells a person another way to get the files. `wants(path)` is false
    for files, and archives inside archives, that need not be opened. `terms` must be accepted once. `cut_bottom`:
    pixel rows that are cut off the bottom of each picture. `each_once` (only `folder`): the second copy of a picture is
    left out; published datasets are taken as they are.
    """

    store: str
    settings: Mapping[str, object]
    preprocessing: Preprocessing
    sampling: Sampling
    arrange: Callable[[Source], Arrangement]
    offers: tuple[Offer, ...] = ()
    licence: str = ""
    by_hand: str = ""
    terms: str = ""
    wants: Callable[[str], bool] = lambda _path: True
    cut_bottom: int = 0
    each_once: bool = False


class Generated(NamedTuple):
    """A dataset that a program draws: `draw(i)` returns the pictures of `classes[i]`, uint8 [n, H, W, C].

    It must return the same pictures in every call.
    """

    store: str
    settings: Mapping[str, object]
    preprocessing: Preprocessing
    sampling: Sampling
    classes: Sequence[str]
    draw: Callable[[int], NDArray[np.uint8]]
    splits: Callable[[Sequence[str]], Mapping[str, Split]]
    licence: str = ""


Floats = NDArray[np.float32]


class TaskSource(NamedTuple):
    """A distribution over regression tasks. `draw(generator, examples)` gives one task's (inputs, targets).

    Shapes: inputs [examples, *input_shape], targets [examples, outputs]. `family(generator)`, if tasks are of several
    families with results of their own, is the name of the family of the task that `draw` makes of an equal generator.
    """

    input_shape: tuple[int, ...]
    outputs: int
    draw: Callable[[np.random.Generator, int], tuple[Floats, Floats]]
    family: Callable[[np.random.Generator], str] | None = None


class Mixture(NamedTuple):
    """Several datasets of pictures, given by their settings; each task comes from one of them, drawn by `weights`.

    All pictures are brought to `shape` (C, H, W).
    """

    of: tuple[Choice, ...]
    weights: tuple[float, ...]
    shape: tuple[Literal[1, 3], int, int]
    normalisation: Normalisation


Dataset = Archive | Generated | Tabular | TaskSource | Mixture
