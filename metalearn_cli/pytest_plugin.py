"""Options of `pytest --pyargs metalearn_cli.testing`, which checks your own files (testing/test_own.py).

Pytest loads this file in every run where metalearn is installed, so it imports nothing else, and in any other run it
adds no option.
"""

import pytest

KINDS = ("algorithm", "backbone", "dataset")
_PACKAGE = "metalearn_cli.testing"


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add an option for each kind of file, which may be repeated, and one for the keys of their `Config`."""
    config = pluginmanager.get_plugin("pytestconfig")
    if config is None or _PACKAGE not in config.invocation_params.args:
        return
    group = parser.getgroup("metalearn")
    for kind in KINDS:
        text = f"check this {kind}: package.module, or the path of its file"
        group.addoption(f"--{kind}", action="append", default=[], metavar="MODULE", help=text)
    text = "a key of its Config, as algorithm.inner_steps=2"
    group.addoption("--set", action="append", default=[], metavar="KEY=VALUE", help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Raise UsageError if no file is named: a run without a check would look like one that passed."""
    if _PACKAGE in config.invocation_params.args and not any(config.getoption(kind) for kind in KINDS):
        options = ", ".join(f"--{kind}" for kind in KINDS)
        raise pytest.UsageError(f"nothing to check; name a package.module by {options}")
