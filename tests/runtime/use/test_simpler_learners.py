"""Learners on the same tasks: the differences are those of the single tasks, and pixels are compared as they are."""

import shutil

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from metalearn_cli.core.meta import scores_per_step
from metalearn_cli.experiment import from_mapping, with_overrides
from metalearn_cli.references import Call
from metalearn_cli.runtime.data import opening
from metalearn_cli.runtime.data.opening import open_data
from metalearn_cli.runtime.data.sampling import TaskSpec
from metalearn_cli.runtime.machine.execution import Plan, running
from metalearn_cli.runtime.run.assembly import evaluation_spec, learner_for
from metalearn_cli.runtime.use.simpler_learners import (
    OWN,
    PIXELS,
    PLAIN,
    WHITENED,
    Contender,
    against_others,
    compared,
    nearest_pixels,
    of_features,
)
from metalearn_cli.storage.prepared.preparation import prepare
from tests.commands import TINY
from tests.tiny_extractor import features, write_pictures, write_program


def test_every_row_has_the_difference_to_the_last_on_the_same_tasks(data_dir):
    experiment = from_mapping(TINY, "test")
    data = open_data(experiment, data_dir, lambda *_: None)
    learner, device = learner_for(experiment, data.interface, "support"), torch.device("cpu")
    meta = learner.init()
    every = [
        nearest_pixels(experiment, data, "test", device),
        Contender("this run", learner, meta, 1, lambda spec: data.sampler("test", spec, 0)),
    ]
    with running(Plan("vmap", 8, 1)) as runner:
        found = list(compared(every, runner, evaluation_spec(experiment), "test", 12))
    assert [(one.ways, one.shots, one.episodes) for one in found] == [(2, 1, 12), (2, 5, 12)]
    tasks = data.sampler("test", TaskSpec(2, 1, 3), 0)(0, range(12))
    own = scores_per_step(learner, 1, meta, tasks).score[:, -1].double()
    inputs, queries = (half.inputs.flatten(2) for half in tasks)  # one shot of each class: the support is the centres
    nearest = (torch.cdist(queries, inputs).argmin(-1) == tasks.query.targets).double().mean(1)
    pixels, last = found[0].rows
    assert pixels.accuracy == pytest.approx(float(nearest.mean()), abs=1e-6)
    assert last.accuracy == pytest.approx(float(own.mean()), abs=1e-6)
    assert pixels.difference == pytest.approx(float((own - nearest).mean()), abs=1e-6)
    assert pixels.difference_ci95 == pytest.approx(1.96 * float((own - nearest).std()) / np.sqrt(12), abs=1e-6)
    assert (last.difference, last.difference_ci95) == (0, 0)


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """Pictures of one's own with features beside them, in which the data folder of the commands lies."""
    path = tmp_path_factory.mktemp("mine")
    write_program(path / "look.pt2")
    write_pictures(path / "pictures", classes=15)
    prepare("folder", opening.dataset_of(featured(path).dataset), path / "data", path / "pictures", False, silent)
    return path


def silent(*_moved):
    pass


def featured(path, **more):
    dataset = {"name": "folder", "title": "mine", "image_size": 16, "features": features(path / "look.pt2")}
    blocks = {"backbone": {"name": "mlp", "hidden": [6]}, "algorithm": {"name": "protonet"}} | more
    return from_mapping(TINY | {"dataset": dataset} | blocks, "test")


def contender(experiment, data, part):
    learner = learner_for(experiment, data.interface, "support")
    return Contender(OWN, learner, learner.init(), 0, lambda spec: data.sampler(part, spec, experiment.eval.seed))


def test_a_run_of_features_is_held_against_pixels_class_means_and_whitened_class_means(mine, monkeypatch):
    monkeypatch.setenv("METALEARN_TRUST", Call("torch.export.load", {"f": str(mine / "look.pt2")}).approval())
    experiment = featured(mine)
    data = open_data(experiment, mine / "data", silent)
    with running(Plan("vmap", 8, 1)) as runner:
        found = against_others(experiment, data, contender(experiment, data, "test"), runner, "test", 8)
    assert [row.name for row in found[0].rows] == [PIXELS, PLAIN, WHITENED, OWN]
    tasks = data.pictured.sampler("test", TaskSpec(2, 1, 3), 0)(0, range(8))
    nearest = torch.cdist(tasks.query.inputs.flatten(2), tasks.support.inputs.flatten(2)).argmin(-1)
    assert found[0].rows[0].accuracy == pytest.approx(float((nearest == tasks.query.targets).double().mean()), abs=1e-6)
    tasks = data.sampler("test", TaskSpec(2, 1, 3), 0)(0, range(8))
    angles = normalize(tasks.query.inputs, dim=-1) @ normalize(tasks.support.inputs, dim=-1).mT
    right = (angles.argmax(-1) == tasks.query.targets).double().mean()
    assert found[0].rows[1].accuracy == pytest.approx(float(right), abs=1e-6)


def test_whitened_class_means_are_not_held_against_themselves(mine, monkeypatch):
    monkeypatch.setenv("METALEARN_TRUST", Call("torch.export.load", {"f": str(mine / "look.pt2")}).approval())
    experiment = featured(mine, backbone={"name": "identity"}, algorithm={"name": "prototypes"})
    data = open_data(experiment, mine / "data", silent)
    assert [one.name for one in of_features(experiment, data, "test", torch.device("cpu"))] == [PLAIN]


def test_a_run_of_pixels_is_held_against_features_only_if_they_were_stored_beside_them(mine, monkeypatch):
    from metalearn_cli.runtime.data import stored_features

    monkeypatch.setenv("METALEARN_TRUST", Call("torch.export.load", {"f": str(mine / "look.pt2")}).approval())
    monkeypatch.setenv("METALEARN_DATA", str(mine / "data"))
    block = str(features(mine / "look.pt2")).replace("'", '"')
    monkeypatch.setattr(stored_features, "_USUAL", f"dataset.features={block}")
    pixels = featured(mine, backbone={"name": "conv4", "channels": 2}, algorithm={"name": "protonet"})
    pixels = with_overrides(pixels, ["dataset.features=null"])
    data, folder = open_data(pixels, mine / "data", silent), mine / "data"
    for place in folder.glob("*/features-*"):
        shutil.rmtree(place)
    assert list(of_features(pixels, data, "test", torch.device("cpu"))) == []
    open_data(featured(mine), folder, silent)
    assert [one.name for one in of_features(pixels, data, "test", torch.device("cpu"))] == [PLAIN, WHITENED]
