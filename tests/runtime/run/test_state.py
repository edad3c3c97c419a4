"""Files that are whole, and still not what metalearn wrote."""

import pytest
import torch

from metalearn_cli.errors import CheckpointError
from metalearn_cli.runtime.use.loading import load, load_classifier
from metalearn_cli.storage.runs import checkpoints
from metalearn_cli.storage.runs.checkpoints import Checkpoint


@pytest.fixture
def trained(tiny_run) -> Checkpoint:
    return checkpoints.read_checkpoint(tiny_run / "checkpoints/best.pt")


@pytest.fixture
def adapted(tiny_run, tmp_path) -> Checkpoint:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (4, 28, 28, 1), dtype=torch.uint8, generator=generator).numpy()
    load(tiny_run / "checkpoints/best.pt").adapt(pictures, ["a", "b", "a", "b"]).save(tmp_path / "adapted.pt")
    return checkpoints.read_checkpoint(tmp_path / "adapted.pt")


def refused(opener, checkpoint, tmp_path, message):
    checkpoints.save(tmp_path / "odd.pt", checkpoint)
    with pytest.raises(CheckpointError, match=message):
        opener(tmp_path / "odd.pt")


@pytest.mark.parametrize("field", ["experiment", "interface", "data_sha256", "iteration", "window"])
def test_a_training_checkpoint_without_a_field_is_refused_by_its_name(trained, tmp_path, field):
    header = {name: value for name, value in trained.header.items() if name != field}
    refused(load, Checkpoint(header, trained.tensors), tmp_path, field)


@pytest.mark.parametrize("interface", [{}, {"preprocessing": 3}, {"preprocessing": None, "input_shape": "x"}])
def test_a_strange_interface_is_refused(trained, tmp_path, interface):
    refused(load, Checkpoint({**trained.header, "interface": interface}, trained.tensors), tmp_path, "interface")


@pytest.mark.parametrize("field", ["classes", "inner_steps"])
def test_an_adapted_classifier_without_a_field_is_refused_by_its_name(adapted, tmp_path, field):
    header = {**adapted.header, field: None}
    refused(load_classifier, Checkpoint(header, adapted.tensors), tmp_path, field)


def test_an_adapted_classifier_without_its_support_set_is_refused(adapted, tmp_path):
    tensors = {name: value for name, value in adapted.tensors.items() if name != "support"}
    refused(load_classifier, Checkpoint(adapted.header, tensors), tmp_path, "support set")


def test_an_adapted_classifier_with_parameters_of_another_shape_is_refused(adapted, tmp_path):
    tensors = {**adapted.tensors, "adapted.head.bias": torch.zeros(7)}
    refused(load_classifier, Checkpoint(adapted.header, tensors), tmp_path, r"head.bias is \[7\] in the file")
