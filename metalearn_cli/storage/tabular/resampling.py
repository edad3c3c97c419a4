"""Brings series of several lengths to one.

Legend: C channels, L steps.
"""

import numpy as np

from metalearn_cli.datasets.tabular import LengthFit
from metalearn_cli.storage.tabular.blocks import Numbers


def brought_to(series: Numbers, length: int, fit: LengthFit) -> Numbers:
    """A series [C, L] brought to [C, length].

    "resample" interpolates linearly between neighbours; "pad" cuts the end off, or repeats each channel's mean there.

    >>> brought_to(np.array([[0.0, 2.0, 4.0]]), 5, "resample").tolist()
    [[0.0, 1.0, 2.0, 3.0, 4.0]]
    >>> brought_to(np.array([[0.0, 2.0, 4.0]]), 4, "pad").tolist()
    [[0.0, 2.0, 4.0, 2.0]]
    """
    steps = series.shape[1]
    if steps == length:
        return series
    if fit == "pad":
        behind = np.repeat(series.mean(1, keepdims=True), max(0, length - steps), 1)
        return np.concatenate([series[:, :length], behind], 1)
    at = np.linspace(0, steps - 1, length)
    return np.stack([np.interp(at, np.arange(steps), channel) for channel in series])
