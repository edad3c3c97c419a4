import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from metalearn_cli.datasets import Preprocessing, glyphs
from metalearn_cli.datasets.glyphs import Config

SMALL = Config(classes=12, drawings=4)


def drawn(config: Config) -> dict[str, NDArray[np.uint8]]:
    dataset = glyphs.build(config)
    return {name: dataset.draw(index) for index, name in enumerate(dataset.classes)}


def neighbour_accuracy(images: NDArray[np.uint8], episodes: int, ways: int = 5, queries: int = 15) -> float:
    """The 1-shot accuracy of the nearest support drawing by Euclidean distance; images [classes, drawings, ...]."""
    generator = np.random.default_rng(0)
    pixels = images.reshape(*images.shape[:2], -1).astype(np.float32)
    right = 0
    for _ in range(episodes):
        classes = generator.choice(len(pixels), ways, replace=False)
        chosen = np.stack([pixels[c, generator.permutation(pixels.shape[1])[: queries + 1]] for c in classes])
        support, query = chosen[:, 0], chosen[:, 1:]
        distances = np.square(query[:, :, None] - support).sum(-1)
        right += (distances.argmin(-1) == np.arange(ways)[:, None]).sum()
    return float(right / (episodes * ways * queries))


@pytest.fixture(scope="module")
def small():
    return drawn(SMALL)


@pytest.fixture(scope="module")
def default():
    return drawn(Config())


@pytest.fixture(scope="module")
def test_classes(default):
    names = glyphs.build(Config()).splits(list(default))["default"]["test"]
    return np.stack([default[name] for name in names])


def test_the_same_seed_gives_the_same_bytes_whatever_the_global_generator_does(small):
    np.random.seed(5)
    again = drawn(SMALL)
    assert list(again) == list(small)
    assert all(np.array_equal(again[name], small[name]) for name in small)


def test_another_seed_draws_every_class_anew(small):
    other = drawn(Config(classes=12, drawings=4, seed=1))
    assert not any(np.array_equal(other[name], small[name]) for name in small)


def test_a_class_does_not_depend_on_how_many_are_asked_for(small):
    more = drawn(Config(classes=15, drawings=4))
    assert len(more) == 15
    assert all(np.array_equal(more[name], small[name]) for name in small)


def test_each_class_is_a_batch_of_grey_28_by_28_bytes(small):
    assert len(small) == 12
    assert {(images.shape, images.dtype.name) for images in small.values()} == {((4, 28, 28, 1), "uint8")}


def test_by_default_there_are_1200_classes_of_20_drawings(default):
    assert len(default) == 1200
    assert {len(images) for images in default.values()} == {20}


def test_all_drawings_differ_within_a_class_and_between_classes(default):
    every = np.concatenate(list(default.values())).reshape(24_000, -1)
    assert len({drawing.tobytes() for drawing in every}) == 24_000


def test_ink_is_bright_on_black_paper_and_every_drawing_has_some(default):
    every = np.stack(list(default.values())) / 255
    share = every.mean((2, 3, 4))
    assert share.min() > 0.01
    assert share.max() < 0.35
    assert 0.06 < share.mean() < 0.13
    assert (every.max((2, 3, 4)) > 0.5).all()


def test_edges_are_smooth(small):
    assert all(len(np.unique(images)) > 5 for images in small.values())


@pytest.mark.parametrize("size", [4, 8, 12])
def test_a_loop_of_any_size_lays_at_least_its_length_times_the_pens_width_in_ink(size):
    angles = np.linspace(0, 2 * np.pi, glyphs._POINTS)
    circle = size * np.stack([np.cos(angles), np.sin(angles)], -1)[None]
    ink = glyphs._inked(circle + glyphs.SIZE / 2, np.array([0.5])).sum() / 255
    assert ink > 0.98 * 2 * np.pi * size


def test_the_paper_holds_nearly_all_the_ink(default):
    every = np.stack(list(default.values())).astype(np.int64)
    assert every[:, :, 1:-1, 1:-1].sum() > 0.98 * every.sum()


def test_comparing_pixels_does_not_solve_the_test_classes_but_beats_chance(test_classes):
    assert 0.35 < neighbour_accuracy(test_classes, episodes=400) < 0.65


def test_the_default_parts_have_1000_100_and_100_classes():
    names = [f"glyph{index:05}" for index in range(1200)]
    split = glyphs.splits(names)["default"]
    assert {part: len(members) for part, members in split.items()} == {"train": 1000, "val": 100, "test": 100}


@pytest.mark.parametrize("classes", [12, 13, 23, 40, 1199])
def test_each_class_is_in_one_part_and_no_part_is_empty(classes):
    names = [str(index) for index in range(classes)]
    split = glyphs.splits(names)["default"]
    assert sorted(name for members in split.values() for name in members) == sorted(names)
    assert all(split[part] for part in ("train", "val", "test"))


def test_a_persons_dark_ink_on_white_paper_becomes_what_the_network_saw():
    wanted = Preprocessing(channels=1, height=28, width=28, resize="bilinear", fit="squash", invert=True)
    assert glyphs.build(Config()).preprocessing == wanted


@pytest.mark.parametrize("change", [{"classes": 13}, {"drawings": 5}, {"seed": 1}])
def test_what_changes_the_pixels_changes_the_store_and_its_settings(change):
    before, after = glyphs.build(SMALL), glyphs.build(SMALL.model_copy(update=change))
    assert before.store != after.store
    assert before.settings != after.settings


def test_rotations_change_how_tasks_are_drawn_but_not_the_store():
    plain, turned = glyphs.build(Config()), glyphs.build(Config(rotations="classes"))
    assert (plain.sampling.rotations, turned.sampling.rotations) == ("none", "classes")
    assert (plain.store, plain.settings) == (turned.store, turned.settings)


def test_the_largest_seed_draws():
    assert len(drawn(Config(classes=12, drawings=2, seed=2**63 - 1))) == 12


@pytest.mark.parametrize("key", [{"classes": 11}, {"drawings": 1}, {"seed": -1}, {"rotations": "all"}, {"pen": 2}])
def test_settings_that_cannot_be_are_refused(key):
    with pytest.raises(ValidationError, match=next(iter(key))):
        Config(**key)
