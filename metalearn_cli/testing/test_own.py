"""Tests of your own algorithm, backbone or dataset:

pytest --pyargs metalearn_cli.testing --algorithm mine.tensor_rates
"""

from typing import Any

import pytest

from metalearn_cli.experiment.overrides import overridden
from metalearn_cli.pytest_plugin import KINDS
from metalearn_cli.testing import check_algorithm, check_backbone, check_dataset

Keys = dict[str, dict[str, Any]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test for every module that the command line names."""
    for kind in KINDS:
        if kind in metafunc.fixturenames:
            metafunc.parametrize(kind, metafunc.config.getoption(kind) or [pytest.param("", marks=_NOT_NAMED)])


_NOT_NAMED = pytest.mark.skip(reason="none was named")


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> Keys:
    """The settings from `--set`, by kind of file."""
    values, _ = overridden({kind: {} for kind in KINDS}, request.config.getoption("--set"))
    return values


@pytest.mark.filterwarnings("default::metalearn_cli.testing.NotChecked")
def test_it_is_an_algorithm(algorithm: str, settings: Keys) -> None:
    """The checks of `check_algorithm`."""
    check_algorithm(algorithm, **settings["algorithm"])


def test_it_is_a_backbone(backbone: str, settings: Keys) -> None:
    """The checks of `check_backbone`."""
    check_backbone(backbone, **settings["backbone"])


def test_it_is_a_dataset(dataset: str, settings: Keys) -> None:
    """The checks of `check_dataset`."""
    check_dataset(dataset, **settings["dataset"])
