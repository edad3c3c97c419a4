"""Pictures are taken, turned, normalised and augmented on the device, and nothing there waits for it.

The meta device computes shapes alone: whatever asked it for a value would raise.
"""

import numpy as np
import pytest
import torch

from metalearn_cli.runtime.data import pixels, sampling
from metalearn_cli.runtime.data.pixels import CPU, Pixels, pixels_on
from metalearn_cli.runtime.data.sampling import Pool, TaskSpec
from metalearn_cli.storage.prepared.rows import Rows

META = torch.device("meta")
GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"))
SPEC = TaskSpec(ways=3, shots=2, queries=3)
IMAGES = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 3), dtype=np.uint8)


def pool(images: Pixels, shape=(3, 6, 6), augmentation=("crop", "flip", "affine", "jitter")) -> Pool:
    starts = np.tile(np.arange(4) * 5, 4)
    turns = np.repeat(np.arange(4), 4)
    return Pool("train", images, starts, np.full(16, 5), turns, False, augmentation, shape, (0.4,) * 3, (0.2,) * 3)


def test_pictures_come_by_number_in_any_shape():
    numbers = torch.tensor([[3, 0], [19, 3]])
    assert np.array_equal(Pixels(torch.from_numpy(IMAGES), CPU).taken(numbers).numpy(), IMAGES[numbers.numpy()])


def test_what_is_taken_can_be_written_to_and_the_store_stays():
    found = Pixels(torch.from_numpy(IMAGES.copy()), CPU)
    found.taken(torch.tensor([0]))[:] = 0
    assert np.array_equal(found.taken(torch.tensor([0]))[0].numpy(), IMAGES[0])
    assert IMAGES[0].any()


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("augmentation", [(), ("crop", "flip", "affine", "jitter")])
@pytest.mark.parametrize("shape", [(3, 6, 6), (1, 4, 4)])
def test_a_task_is_made_on_the_device_and_nothing_waits_for_it(resident, augmentation, shape):
    stored = torch.from_numpy(IMAGES)
    images = Pixels(stored.to(META) if resident else stored, META)
    assert images.resident == resident
    made_for = pool(images, shape, augmentation)._replace(mean=(0.4,) * shape[0], std=(0.2,) * shape[0])
    tasks = sampling.picture_sampler(made_for, SPEC, 0)(0, range(4))
    assert {tensor.device for half in tasks for tensor in half[:2]} == {META}
    assert tasks.support.inputs.shape == (4, 6, *shape)
    numbered = sampling.numbered_sampler(made_for, SPEC, 0, 16)(0, range(4))
    assert numbered.query.targets.device == META


@pytest.mark.parametrize("device", [GPU])
@pytest.mark.parametrize("share", [0.5, 0.0])
def test_the_tasks_of_a_gpu_are_those_of_a_cpu(device, share, monkeypatch, tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    rows = Rows(tmp_path / "images.npy")
    monkeypatch.setattr(pixels, "_SHARE", share)
    there = pixels_on(rows, torch.device(device))
    assert there.resident == (share > 0)
    found, known = (sampling.picture_sampler(pool(one), SPEC, 0)(0, range(8)) for one in (there, pixels_on(rows)))
    for half, other in zip(found, known, strict=True):
        assert half.inputs.device.type == device
        torch.testing.assert_close(half.inputs.cpu(), other.inputs)
        assert torch.equal(half.targets.cpu(), other.targets)


@pytest.mark.parametrize(("free", "expected"), [(2000, True), (1999, False)])
def test_a_dataset_goes_to_the_memory_of_a_gpu_only_where_it_leaves_half_of_it_free(free, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (free, 10**9))
    assert pixels.fits_gpu(1000, torch.device("cuda")) == expected
