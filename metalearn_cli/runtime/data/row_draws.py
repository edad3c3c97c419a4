"""Draws the rows of one task from the groups of a part of a table.

Legend: G groups, W classes of a task (1 in a regression), E examples of each.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metalearn_cli.datasets import Part
from metalearn_cli.datasets.tabular import Encoding
from metalearn_cli.runtime.data.sampling import TaskSpec


class Bins(NamedTuple):
    """The rows of a part's G groups: `counts` from number `starts` on, both [G, 1], or [G, classes] if "labelled"."""

    part: Part
    names: list[str]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]


def drawn_classes(bins: Bins, spec: TaskSpec, generator: np.random.Generator) -> NDArray[np.int64]:
    """The W classes of one task, all different (only kind "classes")."""
    return generator.choice(len(bins.names), spec.ways, replace=False)


def drawn_group(bins: Bins, generator: np.random.Generator) -> int:
    """The group of one task, if all of its rows are of one group."""
    return int(generator.integers(len(bins.names)))


def drawn_rows(bins: Bins, encoding: Encoding, spec: TaskSpec, generator: np.random.Generator) -> NDArray[np.int64]:
    """The numbers [W, E] of the rows of one task, all different; they come from W classes, or from one group."""
    if encoding.kind == "classes":
        places = [(group, 0) for group in drawn_classes(bins, spec, generator)]
    else:
        group = drawn_group(bins, generator)
        places = [(group, column) for column in range(bins.counts.shape[1])]
    examples = spec.shots + spec.queries
    return np.stack(
        [bins.starts[place] + generator.choice(bins.counts[place], examples, replace=False) for place in places]
    )
