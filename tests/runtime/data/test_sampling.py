import hashlib

import numpy as np
import pytest
import torch

from metalearn_cli.datasets import TaskSource
from metalearn_cli.errors import ConfigError, DataError
from metalearn_cli.runtime.data import function_tasks, sampling
from metalearn_cli.runtime.data.pixels import CPU, Pixels, normalised
from metalearn_cli.runtime.data.sampling import Pool, TaskSpec

SPEC = TaskSpec(ways=5, shots=2, queries=3)


def pool(classes=8, each=6, part="train", turn_per_task=False, copies=1, size=4) -> Pool:
    """A pool whose every pixel tells its image's number, except for one bright corner that shows turns."""
    images = np.empty((classes * each, size, size, 1), np.uint8)
    images[:] = np.arange(classes * each, dtype=np.uint8)[:, None, None, None]
    images[:, 0, 0] = 255
    starts = np.arange(classes) * each
    return Pool(
        part, Pixels(torch.from_numpy(images), CPU), np.tile(starts, copies), np.full(classes * copies, each),
        np.repeat(np.arange(copies), classes), turn_per_task, (), (1, size, size), (0.0,), (1.0,),
    )  # fmt: skip


def image_numbers(inputs: torch.Tensor) -> torch.Tensor:
    return (inputs[..., 0, 1, 1] * 255).round().long()


def test_the_same_arguments_give_the_same_tasks():
    sampler = sampling.picture_sampler(pool(), SPEC, 7)
    for left, right in zip(sampler(3, range(4)).support[:2], sampler(3, range(4)).support[:2], strict=True):
        assert torch.equal(left, right)


def test_by_class_number_the_tasks_are_the_same_and_their_targets_those_of_the_pool():
    plain, numbered = sampling.picture_sampler(pool(), SPEC, 7), sampling.numbered_sampler(pool(), SPEC, 7, 8)
    names = sampling.picture_names(pool()._replace(names=list("abcdefgh")), SPEC, 7)
    own, known = plain(3, range(4)), numbered(3, range(4))
    for half, other in zip(own, known, strict=True):
        assert torch.equal(half.inputs, other.inputs)
        assert torch.equal(other.targets, image_numbers(half.inputs) // 6)
    assert [["abcdefgh"[n] for n in row] for row in known.support.targets[:, ::2].tolist()] == [
        names(3, number) for number in range(4)
    ]


def test_more_classes_than_there_are_numbers_for_are_refused_with_how_many_there_are():
    with pytest.raises(ConfigError, match=r"algorithm\.classes: found 7, but part 'train' has 8 classes; set it to 8"):
        sampling.numbered_sampler(pool(), SPEC, 0, 7)


def test_a_task_does_not_depend_on_the_others_drawn_with_it():
    sampler = sampling.picture_sampler(pool(), SPEC, 0)
    assert torch.equal(sampler(5, range(4)).query.inputs[3], sampler(5, [3]).query.inputs[0])


@pytest.mark.parametrize("other", [(1, "train", 0, 0), (0, "val", 0, 0), (0, "train", 1, 0), (0, "train", 0, 1)])
def test_seed_part_step_and_number_each_change_the_task(other):
    seed, part, step, number = other
    first = sampling.draw(pool(classes=40), SPEC, 0, 0, 0)
    second = sampling.draw(pool(classes=40, part=part), SPEC, seed, step, number)
    assert not np.array_equal(first.images, second.images)


def test_the_episodes_stay_those_of_earlier_versions():
    drawn = [sampling.draw(pool(classes=40), SPEC, 0, step, 3).images for step in range(3)]
    assert hashlib.sha256(np.stack(drawn).tobytes()).hexdigest()[:16] == "3d29b1d6ead05eb3"


def test_classes_are_distinct_and_support_and_query_share_no_image():
    for number in range(50):
        drawn = sampling.draw(pool(), SPEC, 0, 0, number)
        assert len(set(drawn.images.ravel().tolist())) == 25
        owners = drawn.images // 6
        assert (owners == owners[:, :1]).all()
        assert len(set(owners[:, 0].tolist())) == 5


def test_a_class_comes_under_every_label():
    drawn = [sampling.draw(pool(classes=5), SPEC, 0, 0, number).images[:, 0] // 6 for number in range(100)]
    assert all(set(column) == {0, 1, 2, 3, 4} for column in np.array(drawn).T.tolist())


def test_every_class_and_image_is_drawn():
    drawn = [sampling.draw(pool(), SPEC, 0, 0, number).images for number in range(200)]
    assert set(np.array(drawn).ravel().tolist()) == set(range(48))


def test_shapes_are_class_after_class_with_channels_first():
    task = sampling.picture_sampler(pool(), SPEC, 0)(0, range(4))
    assert task.support.inputs.shape == (4, 10, 1, 4, 4)
    assert task.query.inputs.shape == (4, 15, 1, 4, 4)
    assert task.support.targets[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert (
        image_numbers(task.support.inputs)[0].reshape(5, 2) // 6
        == image_numbers(task.query.inputs)[0].reshape(5, 3)[:, :2] // 6
    ).all()


def test_pixels_are_scaled_and_normalised_per_channel():
    pixels = np.array([0, 51, 255], np.uint8).reshape(1, 1, 1, 3)
    found = normalised(torch.from_numpy(pixels), (0.0, 0.1, 0.5), (1.0, 0.5, 0.25))
    torch.testing.assert_close(found.flatten(), torch.tensor([0.0, 0.2, 2.0]))
    assert found.shape == (1, 3, 1, 1)


def corners(inputs: torch.Tensor) -> set[tuple[int, int]]:
    bright = (inputs[..., 0, :, :] == 1).nonzero()[:, -2:]
    return {tuple(place) for place in bright.tolist()}


def test_without_rotations_nothing_turns():
    assert corners(sampling.picture_sampler(pool(), SPEC, 0)(0, range(20)).support.inputs) == {(0, 0)}


def test_rotations_as_classes_make_four_times_as_many_classes_that_can_meet():
    rotated = pool(copies=4)
    task = sampling.picture_sampler(rotated, SPEC, 0)(0, range(200))
    assert corners(task.support.inputs) == {(0, 0), (3, 0), (3, 3), (0, 3)}
    first = image_numbers(task.support.inputs)[:, ::2] // 6
    assert any(len(set(row)) < 5 for row in first.tolist())


@pytest.mark.parametrize("rotated", [pool(copies=4), pool(turn_per_task=True)])
def test_all_images_of_a_class_of_a_task_turn_alike(rotated):
    task = sampling.picture_sampler(rotated, SPEC, 0)(0, range(20))
    for support, query in zip(task.support.inputs, task.query.inputs, strict=True):
        for way in range(5):
            assert len(corners(torch.cat([support[2 * way : 2 * way + 2], query[3 * way : 3 * way + 3]]))) == 1


def test_rotations_per_task_give_one_class_different_turns_in_different_tasks():
    drawn = [sampling.draw(pool(turn_per_task=True, classes=5), SPEC, 0, 0, n) for n in range(50)]
    turns = {int(one.turns[list(one.images[:, 0] // 6).index(0)]) for one in drawn}
    assert turns == {0, 1, 2, 3}


def test_too_few_classes_are_an_error_before_training():
    with pytest.raises(ConfigError, match=r"task.ways: 9 asked, but part 'test' of glyphs has 8 classes"):
        sampling.check(pool(part="test"), TaskSpec(9, 1, 1), "glyphs")


def test_too_few_images_are_an_error_before_training():
    with pytest.raises(DataError, match="has 6 images, 7 are needed"):
        sampling.check(pool(), TaskSpec(5, 2, 5), "glyphs")


def test_equal_episodes_have_equal_fingerprints_and_others_do_not():
    def digest(seed, episodes):
        return sampling.episodes_fingerprint(sampling.picture_sampler(pool(), SPEC, seed), episodes)

    assert digest(0, 100) == digest(0, 100)
    assert len({digest(0, 100), digest(1, 100), digest(0, 200)}) == 3


def test_function_tasks_split_what_the_source_draws():
    def draw(generator, examples):
        inputs = generator.random((examples, 1)).astype(np.float32)
        return inputs, inputs * 2

    task = function_tasks.function_sampler(TaskSource((1,), 1, draw), "train", TaskSpec(1, 4, 6), 0)(0, range(3))
    assert task.support.inputs.shape == (3, 4, 1)
    assert task.query.inputs.shape == (3, 6, 1)
    assert torch.equal(task.query.targets, task.query.inputs * 2)
    assert not torch.equal(task.support.inputs[0], task.support.inputs[1])


def test_sampling_uses_no_global_generator():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    state = np.random.get_state()[1].copy()
    sampling.picture_sampler(pool(), SPEC, 0)(0, range(4))
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.array_equal(state, np.random.get_state()[1])


def augmenting(kinds, part="train"):
    return pool(part=part)._replace(augmentation=kinds)


def test_augmentation_changes_pixels_but_not_which_pictures_are_drawn():
    plain, changed = (sampling.picture_sampler(one, SPEC, 0)(0, range(4)) for one in (pool(), augmenting(("jitter",))))
    for number in range(4):
        plain_draw, changed_draw = (sampling.draw(one, SPEC, 0, 0, number) for one in (pool(), augmenting(("jitter",))))
        assert np.array_equal(plain_draw.images, changed_draw.images)
    assert not torch.allclose(plain.support.inputs, changed.support.inputs)
    assert torch.equal(plain.support.targets, changed.support.targets)


def test_augmented_tasks_are_functions_of_their_numbers_too():
    sampler = sampling.picture_sampler(augmenting(("crop", "flip", "affine", "jitter")), SPEC, 0)
    assert torch.equal(sampler(2, [5]).query.inputs[0], sampler(2, range(8)).query.inputs[5])


def test_every_picture_of_a_task_is_changed_in_its_own_way():
    chances = sampling.draw(augmenting(("flip",)), SPEC, 0, 0, 0).chances
    assert chances.shape == (5, 5, 6)
    assert len(np.unique(chances)) == chances.size


def test_pictures_are_made_to_fit_what_a_network_expects():
    fitted = pool()._replace(shape=(3, 6, 6), mean=(0.5,) * 3, std=(0.25,) * 3)
    inputs = sampling.picture_sampler(fitted, SPEC, 0)(0, range(2)).support.inputs
    assert inputs.shape == (2, 10, 3, 6, 6)
    plain = sampling.picture_sampler(pool(), SPEC, 0)(0, range(2)).support.inputs
    assert torch.allclose(inputs[..., 3, 3], ((plain[..., 2, 2] - 0.5) / 0.25).expand(-1, -1, 3), atol=0.05)


def test_training_tasks_have_keys_that_depend_on_seed_step_and_number_alone():
    sampler = sampling.picture_sampler(pool(), SPEC, 7)
    found = sampler(3, range(4)).support.keys
    assert found.dtype == torch.int64
    assert len({*found.tolist(), *sampler(4, range(4)).support.keys.tolist()}) == 8
    assert torch.equal(found[2:3], sampler(3, [2]).support.keys)
    assert torch.equal(found, sampling.numbered_sampler(pool(), SPEC, 7, 8)(3, range(4)).support.keys)
    assert not torch.equal(found, sampling.picture_sampler(pool(), SPEC, 8)(3, range(4)).support.keys)


@pytest.mark.parametrize("part", ["val", "test"])
def test_tasks_to_measure_by_have_no_keys(part):
    assert sampling.picture_sampler(pool(part=part), SPEC, 7)(3, range(4)).support.keys is None


def test_keys_stay_those_of_earlier_versions():
    assert sampling.picture_sampler(pool(), SPEC, 7)(3, [0, 1]).support.keys.tolist() == [
        4569971202151065882,
        3295557791731980942,
    ]
