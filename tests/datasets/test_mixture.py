import numpy as np
import pytest
import torch

from metalearn_cli.datasets import glyphs
from metalearn_cli.errors import ConfigError, DataError
from metalearn_cli.experiment import from_mapping, read_experiment, to_yaml
from metalearn_cli.runtime.data import opening
from metalearn_cli.runtime.data.sampling import TaskSpec
from tests.commands import TINY

SPEC = TaskSpec(ways=2, shots=1, queries=2)
FIRST = {"name": "glyphs", "classes": 40}
SECOND = {"name": "glyphs", "classes": 60, "seed": 1, "rotations": "classes"}


def silent(_label, _done, _total):
    pass


def mixed(of=(FIRST, SECOND), **settings):
    dataset = {"name": "mixture", "of": list(of), "image_size": 28, "channels": 1, **settings}
    return from_mapping({**TINY, "dataset": dataset}, "x.yaml")


def refusal(**settings) -> str:
    with pytest.raises(ConfigError) as caught:
        mixed(**settings)
    return str(caught.value)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def tasks_of(experiment, store, numbers, seed=0):
    return opening.open_data(experiment, store, silent).sampler("train", SPEC, seed)(3, numbers)


def alone(block, store, number):
    experiment = from_mapping({**TINY, "dataset": {**block, "normalisation": "none"}}, "x.yaml")
    return tasks_of(experiment, store, [number]).support.inputs[0]


def test_each_task_is_one_that_a_dataset_alone_would_have_given(store):
    found = tasks_of(mixed(normalisation="none"), store, range(20)).support.inputs
    chosen = [[torch.equal(one, alone(block, store, n)) for block in (FIRST, SECOND)] for n, one in enumerate(found)]
    assert all(sum(which) == 1 for which in chosen)
    assert {which.index(True) for which in chosen} == {0, 1}


def test_tasks_come_by_weight(store):
    few = mixed(weights=[1, 9], normalisation="none")
    found = tasks_of(few, store, range(200)).support.inputs
    first = sum(torch.equal(one, alone(FIRST, store, n)) for n, one in enumerate(found))
    assert 8 <= first <= 35


def test_a_task_does_not_depend_on_the_others_that_are_drawn_with_it(store):
    whole = tasks_of(mixed(), store, range(6))
    for number in range(6):
        one = tasks_of(mixed(), store, [number])
        assert torch.equal(one.query.inputs[0], whole.query.inputs[number])
        assert torch.equal(one.support.keys, whole.support.keys[number : number + 1])
    assert len(set(whole.support.keys.tolist())) == 6


@pytest.mark.parametrize(("channels", "size"), [(3, 20), (1, 40)])
def test_pictures_of_all_datasets_get_one_shape(store, channels, size):
    experiment = mixed(channels=channels, image_size=size)
    data = opening.open_data(experiment, store, silent)
    assert data.interface.input_shape == (channels, size, size)
    assert data.sampler("val", SPEC, 0)(0, range(3)).query.inputs.shape == (3, 4, channels, size, size)


def test_the_mean_and_spread_are_those_of_a_picture_drawn_from_the_mixture(tmp_path):
    from metalearn_cli.datasets import folder
    from metalearn_cli.storage.prepared.preparation import prepare
    from tests.lookalikes import in_folder, picture, pixels

    blocks, images = [], {}
    for title in ("x", "y"):
        members = {f"{part}/{part}{c}/{n}.jpg": picture(f"{title}{part}{c}{n}", 28)
                   for part in ("train", "val", "test") for c in range(2) for n in range(4)}  # fmt: skip
        config = folder.Config(title=title, image_size=28)
        prepare("folder", folder.build(config), tmp_path, in_folder(tmp_path / title, members), False, silent)
        blocks.append({"name": "folder", "title": title, "image_size": 28})
        images[title] = np.stack([pixels(one) for name, one in members.items() if name.startswith("train")]) / 255
    found = opening.open_data(mixed(blocks, channels=3), tmp_path, silent).interface.preprocessing
    both = np.concatenate([*images.values()])
    assert found.mean == pytest.approx(both.mean((0, 1, 2)), abs=2e-4)
    assert found.std == pytest.approx(both.std((0, 1, 2)), abs=2e-4)


def test_a_member_that_is_not_prepared_is_named_with_its_command(store):
    with pytest.raises(DataError, match=r"dataset omniglot is not prepared .* metalearn prepare omniglot"):
        opening.open_data(mixed([FIRST, {"name": "omniglot"}]), store, silent)


@pytest.mark.parametrize("inner", [{"name": "sinusoid"}, {"name": "mixture", "of": [FIRST]}])
def test_a_dataset_without_pictures_of_its_own_cannot_be_mixed(store, inner):
    with pytest.raises(ConfigError, match=rf"dataset\.of: {inner['name']} holds no pictures of its own"):
        opening.open_data(mixed([FIRST, inner]), store, silent)


def test_an_experiment_with_a_mixture_survives_its_own_yaml(tmp_path):
    experiment = mixed(weights=[1, 2])
    (tmp_path / "x.yaml").write_text(to_yaml(experiment))
    assert read_experiment(str(tmp_path / "x.yaml")) == experiment
    assert from_mapping(experiment.model_dump(mode="json"), "again") == experiment
    assert isinstance(experiment.dataset.of[1], glyphs.Config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"of": []}, "dataset.of: found [] (list), expected a list of at least 1"),
        ({"of": [{"name": "glyfs"}]}, "dataset.of[0].name: found 'glyfs' (str), expected one of"),
        ({"of": [FIRST, {"classes": 3}]}, "dataset.of[1].name: missing; expected one of"),
        ({"of": [FIRST, "glyphs"]}, "dataset.of[1]: found 'glyphs' (str), expected a block with a name"),
        ({"of": [FIRST, {**SECOND, "clases": 3}]}, "dataset.of[1].clases: unknown key; did you mean classes?"),
        ({"of": [FIRST, {**SECOND, "seed": -1}]}, "dataset.of[1].seed: found -1 (int), expected an integer from 0"),
        ({"weights": [1]}, "weights: found [1.0], expected 2 numbers greater than 0"),
        ({"weights": [1, 0]}, "weights: found [1.0, 0.0], expected 2 numbers greater than 0"),
    ],
)
def test_a_mistake_names_the_member_and_its_key(settings, message):
    assert message in refusal(**settings)
