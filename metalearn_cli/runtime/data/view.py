"""The features that a learner reads instead of pixels, and how far those of other pictures are from the usual ones.

Legend: N pictures, F features.
"""

import math
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from metalearn_cli.datasets import Preprocessing
from metalearn_cli.errors import CheckpointError
from metalearn_cli.extractors import Extractor
from metalearn_cli.runtime.data.extraction import asked_features, extractor_for
from metalearn_cli.settings import Choice, Settings
from metalearn_cli.storage.prepared.dataset import Prepared
from metalearn_cli.storage.prepared.features import Stored

_MOST = 1000  # pictures; their features give the mean and its usual distance
_LEAST_DEVIATION = 0.05


class Typical(Settings):
    """The place of some pictures in feature space: their mean [F], the mean of their distances from it, and the
    distances' standard deviation.

    The distance is 1 - cos(features, mean), which separates kinds of pictures better than a Euclidean one.
    """

    mean: tuple[float, ...] = Field(max_length=65_536)
    distance: float = Field(ge=0)
    deviation: float = Field(ge=0)

    def distances(self, features: Tensor) -> Tensor:
        """For features [N, F]: (distance from the mean - usual distance) / deviation, [N]."""
        distance = 1 - torch.cosine_similarity(features.cpu(), torch.tensor(self.mean).unsqueeze(0))
        return (distance - self.distance) / max(self.deviation, _LEAST_DEVIATION)


class View(NamedTuple):
    """The features of an extractor: its `settings`, and its identity when the features were computed.

    `first`: the preprocessing of stored pictures, if the extractor reads those; None if it reads the originals.
    `typical` describes the training pictures; None for a learner without training.
    """

    settings: Choice
    identity: str
    about: str
    first: Preprocessing | None = None
    typical: Typical | None = None

    def extractor(self) -> Extractor:
        """The extractor. Raises ConfigError if it is missing, CheckpointError if its identity is another one now."""
        extractor = extractor_for(self.settings)
        if extractor.identity != self.identity:
            raise CheckpointError(
                f"dataset.features: learned from features of {self.about} with identity {self.identity[:16]}; "
                f"{self.settings.name} has other weights here, or sees pictures otherwise ({extractor.identity[:16]})"
            )
        return extractor

    def require_same(self, other: "View | None", path: Path) -> None:
        """Raise CheckpointError unless the features that are stored now are of the same extractor."""
        if other is None or other.identity != self.identity:
            found = "none" if other is None else f"{other.about} ({other.identity[:16]})"
            raise CheckpointError(
                f"{path}: was trained on features of {self.about} with identity {self.identity[:16]}; found {found}"
            )

    @property
    def told(self) -> str:
        """The features and the pictures from which they are computed, in words."""
        if self.first is None:
            return f"{self.about}, from the original pictures"
        return f"{self.about}, from pictures of {self.first.width} x {self.first.height}"


def view_of(settings: Choice, stored: Stored, prepared: Prepared, split: str) -> View:
    """The View of stored features, with the Typical of the split's training pictures."""
    chosen, manifest = asked_features(settings), stored.manifest
    assert chosen is not None
    first = prepared.manifest.preprocessing if manifest.read_from == "stored" else None
    return View(chosen, manifest.identity, manifest.about, first, _typical(stored, prepared, split))


def _typical(stored: Stored, prepared: Prepared, split: str) -> Typical | None:
    entries, trained_on = prepared.manifest.classes, prepared.manifest.class_names(split, "train")
    ends = list(accumulate(entry.count for entry in entries))
    own = {entry.name: range(end - entry.count, end) for entry, end in zip(entries, ends, strict=True)}
    numbers = [number for name in trained_on for number in own[name]]
    if not numbers:
        return None
    few = np.array(numbers[:: math.ceil(len(numbers) / _MOST)]) * stored.manifest.views
    return typical_of(torch.from_numpy(stored.rows.taken(few).astype(np.float32)))


def typical_of(features: Tensor) -> Typical:
    """The Typical of some features [N, F]."""
    mean = features.mean(0)
    distances = 1 - torch.cosine_similarity(features, mean.unsqueeze(0))
    deviation = float(distances.std()) if len(distances) > 1 else 0.0
    rounded = tuple(round(value, 4) for value in mean.tolist())
    return Typical(mean=rounded, distance=round(float(distances.mean()), 4), deviation=round(deviation, 4))
