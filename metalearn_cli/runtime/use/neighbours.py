"""Finds the support pictures that are nearest to a query for an adapted classifier.

Legend: N pictures, S support pictures, F features, M neighbours.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from metalearn_cli.errors import ConfigError
from metalearn_cli.runtime.use.classifier import Classifier

_AT_ONCE = 256  # pictures


class Neighbours(NamedTuple):
    """The numbers of the M support pictures nearest to each query, the nearest first, `places` [N, M].

    `in_features` is true if features that the head reads were compared, false if raw pixels were.
    """

    places: NDArray[np.int64]
    in_features: bool


def neighbours(classifier: Classifier, inputs: Tensor, most: int) -> Neighbours:
    """The nearest support pictures of each query [N, C, H, W], at most `most`, by Euclidean distance of features.

    If the learner uses no network (only `nearest`), or its network has no form in plain layers (docs/export.md), raw
    pixels are compared.
    """
    body = _body(classifier)
    known = _features(body, classifier.support)
    parts = []
    for start in range(0, len(inputs), _AT_ONCE):
        distances = torch.cdist(_features(body, inputs[start : start + _AT_ONCE]), known)
        # A stable sort puts the first of equally near pictures first, on every machine.
        parts.append(distances.sort(dim=1, stable=True).indices[:, :most].numpy())
    return Neighbours(np.concatenate(parts), body is not None or classifier.interface.view is not None)


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
