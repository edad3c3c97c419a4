"""Sizes that are valid one by one, and together more than the machine has, are refused before anything is allotted."""

import pytest
import torch

from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment import from_mapping
from metalearn_cli.experiment.blocks import Execution
from metalearn_cli.runtime.data import interface
from metalearn_cli.runtime.machine import memory
from metalearn_cli.runtime.machine.execution import plan_for
from metalearn_cli.runtime.run import assembly
from tests.commands import TINY

PICTURES = interface.Interface((1, 28, 28), 2, assembly.classification, None)
LARGE = {
    "conv4": {"name": "conv4", "channels": 65_536},
    "resnet12": {"name": "resnet12", "channels": [65_536] * 4},
    "layers": {
        "name": "layers",
        "layers": ["flatten", *[{"linear": {"features": 65_536}}] * 9, "linear"],
    },
}


@pytest.mark.parametrize("name", LARGE)
def test_a_network_larger_than_the_memory_is_refused(name, monkeypatch):
    monkeypatch.setattr(memory, "machine_memory", lambda: 32 << 30)
    experiment = from_mapping({**TINY, "backbone": LARGE[name]}, "x")
    message = rf"^backbone {name}: [\d,]+ parameters, .* would take [\d,]+ GB, .* make it smaller$"
    with pytest.raises(ConfigError, match=message):
        assembly.learner_for(experiment, PICTURES, "support")


def test_the_size_of_a_network_is_found_without_drawing_a_random_number(monkeypatch):
    experiment = from_mapping(TINY, "x")
    found = assembly.learner_for(experiment, PICTURES, "support").init().params
    monkeypatch.setattr(assembly, "require_memory_for_network", lambda *_given: None)
    expected = assembly.learner_for(experiment, PICTURES, "support").init().params
    assert all(map(torch.equal, found.values(), expected.values()))


def test_more_tasks_than_the_memory_holds_are_refused(monkeypatch):
    monkeypatch.setattr(memory, "machine_memory", lambda: 1 << 30)
    plan_for(torch.device("cpu"), Execution(), 1000, 1000)
    with pytest.raises(ConfigError, match=r"^65,536 tasks at once of 60,000 input values .* 31 GB, .* 1; make"):
        plan_for(torch.device("cpu"), Execution(), 60_000, 65_536)


def test_the_memory_is_that_of_the_container_where_that_has_less(monkeypatch, tmp_path):
    whole = memory.machine_memory()
    (tmp_path / "memory.max").write_text("123456789\n")
    monkeypatch.setattr(memory, "_CONTAINERS", (tmp_path / "memory.max", tmp_path / "missing"))
    assert memory.machine_memory() == 123_456_789 < whole
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.machine_memory() >= whole
