"""A dataset that changes while a run reads it: an error, or the pictures that the run began with; never others."""

import os

import pytest
import torch

from metalearn_cli.errors import DataError
from metalearn_cli.experiment import from_mapping
from metalearn_cli.runtime.data import opening, pixels
from metalearn_cli.runtime.run import assembly
from metalearn_cli.storage.prepared.preparation import prepare
from tests.commands import TINY


@pytest.fixture(params=["in memory", "read from the disk"])
def held(request, monkeypatch):
    if request.param != "in memory":
        monkeypatch.setattr(pixels, "_SMALL", 0)
    return request.param


@pytest.fixture
def experiment():
    return from_mapping(TINY | {"dataset": {"name": "glyphs", "classes": 36, "drawings": 6}}, "test")


def sampler_of(experiment, data_dir):
    data = opening.open_data(experiment, data_dir, lambda *_moved: None)
    return data.sampler("train", assembly.training_spec(experiment), 0)


def images_in(data_dir):
    [images] = data_dir.glob("*/images.npy")
    return images


def require_told_or_unchanged(held, sampler, before):
    if held == "in memory":
        assert torch.equal(sampler(0, [0, 1]).support.inputs, before.support.inputs)
    else:
        with pytest.raises(DataError, match="was cut or written to while it was being read"):
            sampler(0, [0, 1])


def test_a_cut_array_is_an_error_or_has_no_effect(held, experiment, tmp_path):
    sampler = sampler_of(experiment, tmp_path)
    before = sampler(0, [0, 1])
    os.truncate(images_in(tmp_path), 1000)
    require_told_or_unchanged(held, sampler, before)


def test_an_array_that_is_written_to_is_an_error_or_has_no_effect(held, experiment, tmp_path):
    sampler = sampler_of(experiment, tmp_path)
    before = sampler(0, [0, 1])
    path = images_in(tmp_path)
    os.utime(path, ns=(0, 0))  # as a write at another time would set it
    with path.open("r+b") as file:
        file.seek(128)
        file.write(bytes(path.stat().st_size - 128))
    require_told_or_unchanged(held, sampler, before)


def test_preparing_by_force_leaves_a_run_the_pictures_that_it_reads(held, experiment, tmp_path):
    sampler = sampler_of(experiment, tmp_path)
    before, inode = sampler(0, [0, 1]), images_in(tmp_path).stat().st_ino
    prepare("glyphs", opening.dataset_of(experiment.dataset), tmp_path, None, True, lambda *_moved: None)
    assert images_in(tmp_path).stat().st_ino != inode
    assert torch.equal(sampler(0, [0, 1]).support.inputs, before.support.inputs)


def test_both_ways_give_the_same_tasks(experiment, tmp_path, monkeypatch):
    small = sampler_of(experiment, tmp_path)(3, [0, 1])
    monkeypatch.setattr(pixels, "_SMALL", 0)
    large = sampler_of(experiment, tmp_path)(3, [0, 1])
    for one, other in zip(small, large, strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.targets, other.targets)
