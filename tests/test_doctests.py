"""The examples in docstrings run, and those that need a checkpoint have one."""

import doctest
import importlib
import pkgutil
import shutil

import pytest

import metalearn_cli

MODULES = [m.name for m in pkgutil.walk_packages(metalearn_cli.__path__, "metalearn_cli.") if "__main__" not in m.name]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name, tiny_run, tmp_path, monkeypatch):
    target = tmp_path / "runs/cats/checkpoints/best.pt"
    target.parent.mkdir(parents=True)
    shutil.copy(tiny_run / "checkpoints/best.pt", target)
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_there_is_an_example_of_the_public_way_in():
    module = importlib.import_module("metalearn_cli.runtime.use.adaptation")
    assert any(test.examples for test in doctest.DocTestFinder().find(module.load))
