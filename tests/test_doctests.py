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


HELPERS = [
    "core.gradient.gradient_learner", "core.heads.prototypes", "core.inner_loop.InnerLoop", "core.rules.of_gradient",
    "layers.convolution.TaskConv2d", "layers.network.Network", "layers.norm.TaskNorm", "layers.passing.under_prefix",
    "layers.task_layers.TaskLayer", "testing.check_algorithm", "testing.check_backbone", "testing.check_dataset",
    "testing.problems.picture_tasks",
]  # fmt: skip
"""The names of other modules that an algorithm or a backbone of one's own is made of, and checked by."""


@pytest.mark.parametrize("name", [*metalearn_cli.__all__, *HELPERS])
def test_a_name_of_the_library_has_an_example(name):
    module, _, own = f"metalearn_cli.{name}".rpartition(".")
    documented = getattr(importlib.import_module(module), own)
    assert any(test.examples for test in doctest.DocTestFinder().find(documented))
