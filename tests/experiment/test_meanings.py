"""Every key of an experiment says what it means."""

from importlib import import_module
from typing import get_args

import pytest

from metalearn_cli import datasets
from metalearn_cli.backbones.layers import AnyLayer
from metalearn_cli.experiment import Experiment
from metalearn_cli.experiment.blocks import Eval, Execution, Keeping, Outer, Task
from metalearn_cli.experiment.meanings import description_of, meanings
from metalearn_cli.experiment.registry import ROOMS, names_in
from metalearn_cli.settings import Settings

CONFIGS = [import_module(f"metalearn_cli.{room}.{name}").Config for room in ROOMS.values() for name in names_in(room)]
SHARED = [datasets.Pictures, datasets.Files, datasets.Official]
BLOCKS = [Experiment, Task, Outer, Eval, Keeping, Execution, *SHARED, *CONFIGS, *get_args(AnyLayer)]


def name_of(block):
    return f"{block.__module__.removeprefix('metalearn_cli.')}.{block.__name__}"


@pytest.mark.parametrize("block", BLOCKS, ids=name_of)
def test_every_key_has_an_entry_and_every_entry_a_key(block):
    wanted = set(block.model_fields) - {"name", "kind"}
    found = {key: meaning for key, meaning in meanings(block).items() if key != "name"}
    assert set(found) == wanted
    assert all(meaning.text.endswith(".") for meaning in found.values())
    assert description_of(block)


class Parent(Settings):
    """What it is.

    `inherited`: as the parent says.
    `told_again`: as the parent says.
    """

    inherited: int = 0
    told_again: int = 0


class Child(Parent):
    """What it is,
    on two lines.

    And more, with `told_again: 1` in it.

    `told_again` (pixels): as the child says: in
        two lines.
    """


def test_an_entry_is_its_unit_and_its_text_and_is_inherited():
    assert meanings(Child) == {
        "inherited": ("as the parent says.", ""),
        "told_again": ("as the child says: in two lines.", "pixels"),
    }
    assert description_of(Child) == "What it is, on two lines.\n\nAnd more, with `told_again: 1` in it."
