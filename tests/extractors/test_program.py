"""Networks of one's own as extractors."""

import os

import pytest
import safetensors.torch
import torch

from metalearn_cli.errors import ConfigError
from metalearn_cli.extractors import program
from tests.tiny_extractor import FEATURES, SIDE, Looking, features, write_program


def test_a_program_and_a_module_with_the_same_weights_say_the_same(tmp_path):
    file = write_program(tmp_path / "look.pt2")
    safetensors.torch.save_file(Looking().state_dict(), tmp_path / "look.safetensors")
    called = {"call": "tests.tiny_extractor:Looking", "weights": str(tmp_path / "look.safetensors"), "image_size": SIDE}
    one, two = program.build(program.Config(**features(file))), program.build(program.Config(**called))
    inputs = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    assert one.features == two.features == FEATURES
    assert torch.allclose(one.module(inputs), two.module(inputs), atol=1e-6)


def test_other_weights_are_another_identity(tmp_path):
    files = [write_program(tmp_path / f"{seed}.pt2", seed) for seed in (0, 1)]
    first, second = (program.build(program.Config(**features(file))).identity for file in files)
    assert first != second


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "expected a .pt2 file, or in its place"),
        ({"program": "x.pt2", "call": "a:b"}, "expected a .pt2 file, or in its place"),
        ({"program": "x.pt2", "std": [1.0]}, "expected 3 numbers each"),
    ],
)
def test_keys_that_name_no_network_are_refused(keys, said):
    with pytest.raises(ValueError, match=said):
        program.Config(**keys)


def test_a_file_that_is_no_program_is_refused(tmp_path):
    (tmp_path / "x.pt2").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"x.pt2 is no program of torch.export"):
        program.build(program.Config(program=str(tmp_path / "x.pt2")))
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        program.build(program.Config(program=str(tmp_path / "y.pt2")))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("key", ["program", "weights"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, key):
    os.mkfifo(tmp_path / "pipe")
    call = {} if key == "program" else {"call": "tests.tiny_extractor:Looking"}
    with pytest.raises(ConfigError, match=rf"{key}: .*pipe is a folder, a pipe or a device; expected a plain file"):
        program.build(program.Config(**{key: str(tmp_path / "pipe")}, **call))
