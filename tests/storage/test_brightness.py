import numpy as np
import pytest

from metalearn_cli.storage import brightness

OMNIGLOT = (0.0779, 0.0277)


def test_the_sums_of_parts_add_up_to_the_mean_and_spread_of_all():
    pictures = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), dtype=np.uint8)
    means = pictures.mean((1, 2, 3)) / 255
    added = brightness.sums(pictures[:20]) + brightness.sums(pictures[20:])
    assert brightness.ink(added) == pytest.approx((means.mean(), means.std()), abs=1e-4)


@pytest.mark.parametrize("mean", [0.0, 0.0064, 0.2062])
def test_the_thinnest_and_boldest_of_omniglots_test_drawings_are_near(mean):
    assert brightness.far(mean, OMNIGLOT) == 0


def test_inverted_drawings_are_far():
    assert brightness.far(1 - 0.2062, OMNIGLOT) == 1
    assert brightness.far(0.08, (0.92, 0.0277)) == -1


def test_a_training_set_of_equal_pictures_does_not_make_all_others_far():
    assert brightness.far(0.6, (0.5, 0.0)) == 0


def test_nothing_is_far_where_nothing_is_known():
    assert brightness.remark("x", 1.0, None) == ""


def test_a_part_that_is_inverted_is_remarked_once():
    parts = {"train": (0.1, 0.02), "val": (0.1, 0.02), "test": (0.9, 0.02)}
    (told,) = brightness.alien_parts({"a": parts, "b": parts})
    assert told.startswith("the pictures of part 'test': far brighter than the training pictures, mean pixel 0.90")
