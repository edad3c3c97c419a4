"""The examples in docstrings run, and those that need a checkpoint have one."""

import doctest
import importlib
import pkgutil
import shutil

import pytest

import metalearn_cli

MODULES = [m.name for m in pkgutil.walk_packages(metalearn_cli.__path__, "metalearn_cli.") if "__main__" not in m.name]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name, tiny_run, data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("METALEARN_DATA", str(data_dir))
    target = tmp_path / "runs/cats/checkpoints/best.pt"
    target.parent.mkdir(parents=True)
    shutil.copy(tiny_run / "checkpoints/best.pt", target)
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


@pytest.mark.parametrize("name", ["load", "train", "evaluate", "load_experiment"])
def test_there_is_an_example_of_the_public_way_in(name):
    assert any(test.examples for test in doctest.DocTestFinder().find(getattr(metalearn_cli, name)))
