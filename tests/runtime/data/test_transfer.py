"""A checkpoint tested on another dataset than it was trained on, and what of that is no test at all."""

import json

import pytest
import torch

from metalearn_cli.datasets import folder
from metalearn_cli.errors import ConfigError, DataError
from metalearn_cli.experiment import from_mapping
from metalearn_cli.runtime.data.opening import open_data
from metalearn_cli.runtime.data.sampling import TaskSpec
from metalearn_cli.runtime.use import measurement
from metalearn_cli.storage.prepared.preparation import prepare
from tests.commands import TINY
from tests.lookalikes import in_folder, picture


def silent(*_told):
    pass


def collection(data_dir, path, title, names="abc", size=40):
    """A folder dataset of colour pictures with two classes in each part."""
    members = {
        f"{part}/{name}{c}/{n}.jpg": picture(f"{title}{name}{c}{n}", size)
        for part, name in zip(("train", "val", "test"), names, strict=True)
        for c in range(2)
        for n in range(6)
    }
    config = folder.Config(title=title, image_size=size)
    prepare("folder", folder.build(config), data_dir, in_folder(path / title, members), False, silent)


@pytest.fixture
def tested(tiny_run, data_dir, monkeypatch):
    monkeypatch.setenv("METALEARN_DATA", str(data_dir))

    def run(*overrides, path=tiny_run / "checkpoints" / "best.pt"):
        return measurement.evaluate(path, overrides, episodes=8, device="cpu")

    return run


def test_another_dataset_is_seen_in_the_size_and_colours_that_were_trained_on(tested, data_dir, tmp_path):
    collection(data_dir, tmp_path, "flowers")
    found = tested("dataset.name=folder", "dataset.title=flowers", "dataset.image_size=40")
    assert (found.protocol.dataset, found.protocol.episodes) == ("folder", 8)
    assert 0 <= found.steps[-1].score <= 1


def test_numbers_cannot_stand_for_pictures(tested):
    with pytest.raises(ConfigError, match=r"dataset\.name: .*best\.pt was trained on pictures, and sinusoid has none"):
        tested("dataset.name=sinusoid")


def test_a_dataset_that_is_not_prepared_is_named_with_its_command(tested):
    with pytest.raises(DataError, match="type: metalearn prepare omniglot"):
        tested("dataset.name=omniglot")


def test_too_few_classes_in_the_other_dataset_are_refused(tested, data_dir, tmp_path):
    collection(data_dir, tmp_path, "trees")
    with pytest.raises(ConfigError, match="was trained for 2 classes"):
        tested("dataset.name=folder", "dataset.title=trees", "dataset.image_size=40", "task.ways=3")


def test_classes_that_were_trained_on_cannot_be_tested_on_under_another_name(tested, run_cli, data_dir, tmp_path):
    collection(data_dir, tmp_path, "first")
    collection(data_dir, tmp_path, "second", names="xya")
    collection(data_dir, tmp_path, "third", names="xyz")
    config = TINY | {"dataset": {"name": "folder", "title": "first", "image_size": 40}}
    (tmp_path / "first.yaml").write_text(json.dumps(config))
    outcome = run_cli("train", tmp_path / "first.yaml", "--run-dir", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    with pytest.raises(ConfigError, match=r"was trained on 2 classes of part 'test' of folder, such as 'a0'"):
        tested("dataset.title=second", path=last)
    assert tested("dataset.title=third", path=last).protocol.episodes == 8


def test_a_mixture_trains_and_is_tested_on_itself_and_on_a_member(tested, run_cli, tmp_path, data_dir):
    collection(data_dir, tmp_path, "mixed", names="pqr")
    members = [{"name": "glyphs", "classes": 40}, {"name": "folder", "title": "mixed", "image_size": 40}]
    config = TINY | {"dataset": {"name": "mixture", "of": members, "image_size": 28, "channels": 3}}
    (tmp_path / "mixed.yaml").write_text(json.dumps(config))
    outcome = run_cli("train", tmp_path / "mixed.yaml", "--run-dir", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    assert tested(path=last).protocol.dataset == "mixture"
    assert tested("dataset.name=glyphs", "dataset.classes=40", path=last).protocol.dataset == "glyphs"
    with pytest.raises(ConfigError, match=r"dataset\.classes: .* was trained with 40"):
        tested("dataset.name=glyphs", "dataset.classes=60", path=last)


def test_what_matters_to_prepare_alone_may_differ(tested, data_dir, run_cli, tmp_path):
    collection(data_dir, tmp_path, "shells")
    config = TINY | {"dataset": {"name": "folder", "title": "shells", "image_size": 40, "skip_damaged": True}}
    (tmp_path / "x.yaml").write_text(json.dumps(config))
    assert run_cli("train", tmp_path / "x.yaml", "--run-dir", tmp_path / "run").code == 0
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    assert tested("dataset.skip_damaged=false", path=last).protocol.episodes == 8


TRAINVAL = {"name": "folder", "title": "both", "image_size": 40, "trainval": True}


@pytest.fixture
def trained_on_both(run_cli, data_dir, tmp_path):
    """Two checkpoints of runs on the classes a and b of `both`, alone and in a mixture, and what the commands said."""
    collection(data_dir, tmp_path, "both")
    told = []
    for name, dataset in (("alone", TRAINVAL), ("mixed", {"name": "mixture", "of": [TRAINVAL], "image_size": 40})):
        (tmp_path / f"{name}.yaml").write_text(json.dumps(TINY | {"dataset": dataset}))
        outcome = run_cli("train", tmp_path / f"{name}.yaml", "--run-dir", tmp_path / name, "--json")
        assert outcome.code == 0, outcome.err
        assert outcome.fields["worth"] == []
        told.append(outcome.err)
    return [tmp_path / name / "checkpoints" / "best.pt" for name in ("alone", "mixed")], told


def test_a_run_on_validation_classes_too_says_so_wherever_it_names_a_validation(trained_on_both):
    for path, told in zip(*trained_on_both, strict=True):
        assert "dataset.trainval: validation is on classes that are trained on" in told
        card = path.with_name("MODEL_CARD.md").read_text()
        assert "val (trained on), 2-way 1-shot" in card
        assert "split: 'validation, trained on'" in card
        assert "Training had the validation classes too" in card
        assert "Its probabilities are not calibrated" in card


def test_a_run_on_validation_classes_too_is_tested_on_new_ones_alone(tested, trained_on_both, data_dir, tmp_path):
    for path in trained_on_both[0]:
        found = tested(path=path)
        assert (found.protocol.part, found.promises) == ("test", [])
        with pytest.raises(ConfigError, match=r"dataset\.trainval: .* was trained on the classes of part 'val'"):
            measurement.evaluate(path, (), split="val", episodes=8, device="cpu")
    collection(data_dir, tmp_path, "other", names="xyb")
    with pytest.raises(ConfigError, match=r"was trained on 2 classes of part 'test' of folder, such as 'b0'"):
        tested("dataset.title=other", path=trained_on_both[0][0])
    alone = trained_on_both[0][0]
    assert measurement.evaluate(alone, ["dataset.title=other"], split="val", episodes=8, device="cpu").episodes == 8


def test_training_draws_the_classes_of_both_parts_and_nothing_else_changes(data_dir, tmp_path):
    collection(data_dir, tmp_path, "both")
    both, without = (
        open_data(from_mapping(TINY | {"dataset": TRAINVAL | {"trainval": also}}, "test"), data_dir, silent)
        for also in (True, False)
    )
    spec = TaskSpec(2, 1, 2)
    drawn = [{name for i in range(60) for name in data.names("train", spec, 0)(0, i)} for data in (both, without)]
    assert drawn == [{"a0", "a1", "b0", "b1"}, {"a0", "a1"}]
    for part in ("val", "test"):
        one, other = (data.sampler(part, spec, 3)(0, range(8)) for data in (both, without))
        assert torch.equal(one.query.inputs, other.query.inputs)
