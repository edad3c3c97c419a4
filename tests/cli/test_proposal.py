"""What `prepare` proposes next can be trained on, whatever the size of the dataset."""

import shlex

import numpy as np
import pytest

from metalearn_cli.cli.proposal import Room, missing, training
from metalearn_cli.experiment import read_experiment
from metalearn_cli.runtime.data.sampling import Pool, TaskSpec, check
from tests.lookalikes import in_folder, picture

PARTS = ("train", "val", "test")
COLOUR, GREY = (84, 84, 3), (28, 28, 1)


def room(ways, pictures, image_shape=COLOUR):
    """A dataset whose smallest part and smallest class are these, the others being larger."""
    classes = {part: {f"{part}{n}": pictures + 3 * n for n in range(ways + more)} for more, part in enumerate(PARTS)}
    return Room(classes, image_shape)


def proposed(dataset, settings, found):
    words = shlex.split(training(dataset, settings, found, None))
    assert words[:2] == ["metalearn", "train"]
    assert set(words[3::2]) <= {"--set"}
    return words[2], read_experiment(words[2], words[4::2])


def pool(counts):
    counts, none = np.array([*counts.values()]), np.zeros(0)
    return Pool("train", none, none, counts, none, False, (), (3, 84, 84), (), ())


@pytest.mark.parametrize("ways", [2, 3, 5, 16])
@pytest.mark.parametrize("pictures", [2, 3, 4, 5, 7, 9, 10, 11, 14, 15, 16, 200])
@pytest.mark.parametrize("dataset", ["folder", "glyphs", "omniglot", "miniimagenet", "cub", "cifar_fs", "vgg_flowers"])
def test_every_part_has_room_for_the_tasks_that_are_proposed(dataset, pictures, ways):
    found = room(ways, pictures)
    experiment = proposed(dataset, [], found)[1]
    task, test = experiment.task, experiment.eval
    for counts in found.parts.values():
        check(pool(counts), TaskSpec(task.ways, task.shots, task.queries), dataset)
        check(pool(counts), TaskSpec(test.ways or task.ways, task.shots, test.queries), dataset)
    assert experiment.dataset.name == dataset


def test_a_large_collection_is_given_the_recipe_as_it_is():
    line = training("folder", ["dataset.title=birds"], room(9, 40), None)
    assert line == "metalearn train photos/5way5shot --set name=birds --set dataset.title=birds"


def test_a_small_one_is_given_smaller_tasks():
    line = training("folder", [], room(3, 8), None)
    sizes = "--set task.ways=3 --set task.shots=4 --set task.queries=4 --set eval.queries=4"
    assert line == f"metalearn train photos/5way5shot --set name=folder {sizes}"


def test_grey_pictures_are_not_mirrored_and_tiny_ones_not_pooled_away():
    experiment = proposed("folder", ["dataset.channels=1"], room(5, 20, GREY))[1]
    assert experiment.dataset.augmentation == ["crop"]
    assert not proposed("folder", [], room(5, 20, (8, 8, 3)))[1].backbone.pool


def test_settings_of_the_dataset_are_kept_and_its_photos_get_the_recipe_for_photos():
    config, experiment = proposed("cub", ["dataset.split=feat"], room(50, 40))
    assert config == "photos/5way5shot"
    assert (experiment.name, experiment.dataset.split) == ("cub", "feat")
    assert "flip" in experiment.dataset.augmentation


@pytest.mark.parametrize("title", ["birds", "_odd", "-odd", "a-b_c"])
def test_a_title_that_cannot_name_a_run_does_not(title):
    assert proposed("folder", [f"dataset.title={title}"], room(5, 20))[1].dataset.title == title


@pytest.mark.parametrize(
    ("parts", "sentences"),
    [
        ({"train": 5, "val": 1, "test": 2}, ["part val has 1 class"]),
        ({"train": 1, "val": 1, "test": 1}, ["part train has", "part val has", "part test has"]),
    ],
)
def test_what_is_missing_is_named_part_by_part(parts, sentences):
    found = missing(Room({part: {f"{part}{n}": 9 for n in range(ways)} for part, ways in parts.items()}, COLOUR))
    assert len(found) == len(sentences)
    assert all(line.startswith(start) for line, start in zip(found, sentences, strict=True))


def test_a_class_of_one_picture_is_named():
    [line] = missing(Room({part: {f"{part}a": 1, f"{part}b": 9} for part in PARTS}, COLOUR))
    assert line.startswith("class 'traina' and 2 more: 1 picture")
    assert missing(room(2, 2)) == []


@pytest.mark.parametrize(("classes", "each"), [(2, 2), (3, 7), (5, 10)])
def test_what_prepare_proposes_is_trained_as_it_stands(cli, tmp_path, classes, each):
    kinds = [f"{part}/{part}{number}" for part in PARTS for number in range(classes)]
    members = {f"{kind}/{n}.jpg": picture(f"{kind}{n}", 20) for kind in kinds for n in range(each)}
    source = in_folder(tmp_path / "pets", members)
    small = ("--set", "dataset.image_size=16", "--set", f"dataset.title=pets{classes}")
    outcome = cli("prepare", "folder", "--source", source, *small)
    assert outcome.code == 0, outcome.err
    words = shlex.split(outcome.err.splitlines()[-1].removeprefix("next: "))
    short = ("outer.iterations=1", "eval.every=1", "eval.val_episodes=2", "outer.meta_batch_size=1")
    trained = cli(*words[1:], *(word for one in short for word in ("--set", one)), "--run-dir", tmp_path / "run")
    assert trained.code == 0, trained.err


def test_what_is_too_small_is_told_so_and_what_to_type_when_it_is_larger(cli, tmp_path):
    members = {f"{part}/{part}{n}/{n}.jpg": picture(f"{part}{n}", 20) for part in PARTS for n in range(2)}
    source = in_folder(tmp_path / "pets", members)
    outcome = cli("prepare", "folder", "--source", source, "--data-dir", tmp_path / "data")
    assert outcome.code == 0
    *_, warning, following = outcome.err.splitlines()
    assert "too small to train on: class 'train0' and 5 more: 1 picture" in outcome.err
    assert following.startswith("next: metalearn prepare folder --source"), warning
    assert following.endswith("--force")
