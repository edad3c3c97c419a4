"""Checks for an algorithm, backbone or dataset of your own. This package's tests make the same checks of its own.

    from metalearn_cli.testing import check_algorithm

    check_algorithm("mine.tensor_rates", inner_steps=2)

or on the command line,

    pytest --pyargs metalearn_cli.testing --algorithm mine.tensor_rates --set algorithm.inner_steps=2

Each check takes a module, its name or the path of its file, and the keys of its `Config`. It returns nothing if all is
right, and otherwise raises AssertionError with what was found and what was expected.
"""

from metalearn_cli.testing.algorithms import NotChecked, check_algorithm
from metalearn_cli.testing.backbones import check_backbone
from metalearn_cli.testing.datasets import check_dataset

__all__ = ["NotChecked", "check_algorithm", "check_backbone", "check_dataset"]
