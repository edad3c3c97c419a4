import numpy as np
import pytest

from metalearn_cli.storage.prepared import brightness
from metalearn_cli.storage.prepared.dataset import ClassEntry

OMNIGLOT = (0.0779, 0.0277)


def stored(*levels, each=4):
    """Classes named by their places, of pictures of one level each."""
    images = np.concatenate([np.full((each, 2, 2, 1), level, np.uint8) for level in levels])
    return images, [ClassEntry(name=str(place), count=each) for place in range(len(levels))]


def test_the_ink_is_the_mean_and_spread_of_the_named_classes_pictures():
    images, entries = stored(0, 255, 51)
    assert brightness.ink(images.__getitem__, entries, ["0", "2"]) == (0.1, 0.1)
    assert brightness.ink(images.__getitem__, entries, ["1"]) == (1.0, 0.0)
    assert brightness.ink(images.__getitem__, entries, []) is None


def test_of_many_pictures_a_few_are_read_evenly_spread(monkeypatch):
    images, entries = stored(0, 51, each=6)
    monkeypatch.setattr(brightness, "_MOST", 4)
    assert brightness.ink(images.__getitem__, entries, ["0", "1"]) == (0.1, 0.1)


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
    images, entries = stored(20, 25, 30, 230)
    parts = {"train": ["0", "1"], "val": ["2"], "test": ["3"]}
    (told,) = brightness.alien_parts(images, entries, {"a": parts, "b": parts})
    assert told.startswith("the pictures of part 'test': far brighter than the training pictures, mean pixel 0.90")
