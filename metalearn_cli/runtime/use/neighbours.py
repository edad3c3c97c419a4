"""Which support pictures a query is nearest to, in the eyes of an adapted classifier.

Legend: N pictures, S support pictures, F features, M neighbours.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from metalearn_cli.errors import ConfigError
from metalearn_cli.runtime.use.classifier import Classifier

_AT_ONCE = 256


class Neighbours(NamedTuple):
    """The places in the support set of the M pictures nearest to each query, the nearest first [N, M].

    `in_features` says whether they are near in the features that the network's head reads, or in raw pixels.
    """

    places: NDArray[np.int64]
    in_features: bool


def neighbours(classifier: Classifier, inputs: Tensor, most: int) -> Neighbours:
    """The at most `most` nearest support pictures of each query [N, C, H, W], by Euclidean distance.

    Raw pixels are compared where the learner has no network with a body, or none in plain layers (docs/export.md).
    """
    body = _body(classifier)
    known = _features(body, classifier.support)
    parts = []
    for start in range(0, len(inputs), _AT_ONCE):
        distances = torch.cdist(_features(body, inputs[start : start + _AT_ONCE]), known)
        # Stable, so that of pictures equally near the first is named, whichever machine sorts.
        parts.append(distances.sort(dim=1, stable=True).indices[:, :most].numpy())
    return Neighbours(np.concatenate(parts), body is not None)


def _body(classifier: Classifier) -> nn.Module | None:
    try:
        body = getattr(classifier.module(), "body", None)
    except ConfigError:
        return None
    return body if isinstance(body, nn.Module) and not isinstance(body, nn.Flatten) else None


def _features(body: nn.Module | None, inputs: Tensor) -> Tensor:
    """Features [N, F]."""
    if body is None:
        return inputs.flatten(1)
    with torch.no_grad():
        parts = [body(inputs[start : start + _AT_ONCE]).flatten(1) for start in range(0, len(inputs), _AT_ONCE)]
    return torch.cat(parts)
