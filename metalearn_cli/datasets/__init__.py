"""What a dataset is: one file in this folder, which exports a `Config` and a `build`.

`build(config)` returns one of five descriptions, and nothing is read or written until storage/ acts on it:

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
Augmentation = Literal["crop", "flip", "jitter"]
Normalisation = Literal["dataset", "imagenet", "none"]


class Pictures(Choice):
    """What every dataset of pictures understands.

    `normalisation`: "dataset", as the dataset's file says; "imagenet", the mean and standard deviation of ImageNet;
        "none", pixels from 0 to 1.
    `augmentation`: in training only and anew for every picture of a task: "crop" moves it by up to an eighth, "flip"
        mirrors it left to right half of the time, "jitter" changes brightness, contrast and saturation by up to 40 %.
    `features`: a pretrained network, whose features are learned from in place of pixels and stored beside the
        pictures. `normalisation` and rotations are not for it, `augmentation` only with 2 `views` or more.
    """

    normalisation: Normalisation = "dataset"
    augmentation: list[Augmentation] = Field(default=[])
    features: Choice | None = None

    @model_validator(mode="after")
    def _augmentation_is_stored(self) -> Self:
        views = None if self.features is None else getattr(self.features, "views", 1)
        if views is not None and (views > 1) != bool(self.augmentation):
            found = f"found {views} with augmentation [{', '.join(self.augmentation)}]"
            raise ValueError(f"features.views: {found}; expected 2 or more (copies) with an augmentation, 1 without")
        return self


class Files(Pictures):
    """What every dataset that is prepared from files understands.

    `skip_damaged`: pictures that cannot be read are left out and listed in the manifest, instead of being an error.
    """

    skip_damaged: bool = False


class Official(Files):
    """What a published dataset with terms of use understands.

    `accept_terms`: you accept the terms that `prepare` prints.
    `allow_partial`: fewer classes or pictures than the official counts are prepared and recorded as such, instead of
        being an error.
    """

    accept_terms: bool = False
    allow_partial: bool = False


PREPARATION_ONLY = frozenset({"skip_damaged", "accept_terms", "allow_partial"})
"""Keys that matter to `prepare` alone: a run does not depend on them."""


class Sampling(NamedTuple):
    """How tasks are drawn from a stored dataset.

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
    """One official file: where it lies (mirrors in order), its checksum ("sha256:..." or "md5:...") and its size.

    The size in bytes is None where the publisher gives a checksum alone.
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
"""Files that together are a dataset."""


class Source(Protocol):
    """What a source holds: paths ("a/b/c.png", sorted), and the content of one of them.

    Pictures inside a larger file (pickle, npz, parquet) are members below it: "train.pkl/CLASS/000012". Whoever
    leaves one of them out adds it to `omissions`.
    """

    members: Sequence[str]
    omissions: Omissions

    def pictures(self) -> Sequence[str]:
        """The members that are pictures, recognised by suffix or content."""
        ...

    def require_filled(self, pictures: Iterable[str]) -> None:
        """Raise DataError for a folder beside those of the `pictures` in which there is none."""
        ...

    def text(self, member: str) -> str:
        """A small text file. Raises DataError if it cannot be read."""
        ...

    def content(self, member: str) -> bytes:
        """A small file of any kind. Raises DataError if it cannot be read."""
        ...


class Arrangement(NamedTuple):
    """Which members of a source make which class (in order), and the named splits of those classes.

    `sample` says which of several collections that go by one name this is, `partial` what it lacks.
    """

    classes: Mapping[str, Sequence[str]]
    splits: Mapping[str, Split]
    sample: str = ""
    partial: str = ""


class Archive(NamedTuple):
    """A dataset of picture files. `arrange` sees a source and raises DataError if it is not this dataset.

    `store` names the prepared folder: two configs whose pixels differ have two stores. `settings` are the values
    that the stored bytes and splits depend on; a store prepared with others is refused by name. `offers` are the
    places to download from, in order; `by_hand` says where else to get it. `wants` is false for paths, of files as
    of archives inside archives, that need not be looked at. `terms` are to be accepted once, `cut_bottom` is how many
    pixel rows below each picture are not part of it. `each_once`: a picture that is there twice counts once; published
    datasets are taken as they are.
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
    """A dataset that a program draws: `draw(i)` gives the pictures of `classes[i]`, always the same.

    Shapes: uint8 [n, H, W, C].
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

    Shapes: inputs [examples, *input_shape], targets [examples, outputs].
    """

    input_shape: tuple[int, ...]
    outputs: int
    draw: Callable[[np.random.Generator, int], tuple[Floats, Floats]]


class Mixture(NamedTuple):
    """Other datasets of pictures, by their settings; a task comes from one of them, drawn by `weights`.

    All pictures become `shape` (C, H, W).
    """

    of: tuple[Choice, ...]
    weights: tuple[float, ...]
    shape: tuple[Literal[1, 3], int, int]
    normalisation: Normalisation


Dataset = Archive | Generated | Tabular | TaskSource | Mixture
