"""Checks of a file of one's own: what the tests of this package ask of its own algorithms, backbones and datasets.

    from metalearn_cli.testing import check_algorithm

    check_algorithm("mine.tensor_rates", inner_steps=2)

or, for a file of one's own as it stands,

    pytest --pyargs metalearn_cli.testing --algorithm mine.tensor_rates --set algorithm.inner_steps=2

Each check takes a module, its name or the path of its file, and the keys of its `Config`. It returns nothing where all
holds, and raises AssertionError with what was found and what was expected where something does not.
"""

from metalearn_cli.testing.algorithms import NotChecked, check_algorithm
from metalearn_cli.testing.backbones import check_backbone
from metalearn_cli.testing.datasets import check_dataset

__all__ = ["NotChecked", "check_algorithm", "check_backbone", "check_dataset"]
