"""A run on a table ends with a calibration of its best checkpoint if it tells classes apart, whatever its kind."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch

from metalearn_cli import evaluate, load, train
from metalearn_cli.core.calibration import half_width_over_groups
from metalearn_cli.datasets.table import Config
from metalearn_cli.experiment import from_mapping
from metalearn_cli.runtime.data.opening import open_data
from metalearn_cli.runtime.data.sampling import TaskSpec
from metalearn_cli.runtime.run.promises import Observed, TaskSize, calibrated, measured_promise
from metalearn_cli.storage.runs.checkpoints import read_checkpoint
from tests.commands import TINY
from tests.tables import kinds, machines, people, prepared, written

SMALL = {"backbone": {"name": "mlp", "hidden": [8]}, "algorithm": {"name": "maml", "inner_steps": 1}}
PEOPLE = {"title": "t", "task": "person", "label": "activity"}
TABLES = {
    "classes": ({"title": "t"}, kinds(20), 2),
    "labelled": (PEOPLE, people(20), 2),
    "regression": ({"title": "t", "task": "machine", "target": ["force"]}, machines(), 1),
}


class Ended(NamedTuple):
    """A run that has ended, on a table of a kind."""

    kind: str
    best: object
    experiment: object
    data_dir: object


@pytest.fixture(params=[*TABLES])
def ended(request, tmp_path, monkeypatch):
    settings, columns, ways = TABLES[request.param]
    monkeypatch.setenv("METALEARN_DATA", str(tmp_path / "data"))
    prepared(Config(**settings), tmp_path / "data", written(tmp_path / "t.csv", columns))
    task = {"ways": ways, "shots": 2, "queries": 3}
    values = TINY | SMALL | {"dataset": {"name": "table"} | settings, "task": task}
    experiment = from_mapping(values | {"eval": TINY["eval"] | {"val_episodes": 20}}, "test")
    assert list(train(experiment, tmp_path / "run"))
    return Ended(request.param, tmp_path / "run" / "checkpoints" / "best.pt", experiment, tmp_path / "data")


def test_the_best_checkpoint_has_promises_that_eval_measures_and_a_classifier_gives(ended):
    found = read_checkpoint(ended.best).header.get("calibration", [])
    if ended.kind == "regression":
        assert found == []
        return
    assert [(one["shots"], one["classes"], one["episodes"]) for one in found] == [
        (shots, 4 if ended.kind == "classes" else 2, 20) for shots in (1, 2, 5)
    ]
    result = evaluate(ended.best, episodes=20)
    assert [promise.calibration.shots for promise in result.promises] == [1, 2, 5]
    assert all(math.isfinite(sets.ci95_classes) for promise in result.promises for sets in promise.sets)
    rows, labels = np.random.default_rng(0).normal(size=(4, len(result.subject.table.numeric))), ["rest", "walk"] * 2
    learned = load(ended.best).adapt(rows, labels)
    assert all(set(sets) <= {"rest", "walk"} for sets in learned.predict_sets(rows, 0.9))


def test_a_promise_for_new_people_is_as_certain_as_the_number_of_people_allows(tmp_path):
    prepared(Config(**PEOPLE), tmp_path / "data", written(tmp_path / "t.csv", people(20)))
    task = {"ways": 2, "shots": 2, "queries": 3}
    values = TINY | SMALL | {"dataset": {"name": "table"} | PEOPLE, "task": task}
    data = open_data(from_mapping(values, "test"), tmp_path / "data", lambda *_: None)
    names = data.groups("val", TaskSpec(2, 2, 3), 0)
    groups = [names(0, task) for task in range(30)]
    assert {tuple(sorted(set(pair))) for pair in groups} == {(name,) for name in data_people(data)}
    # Person 0 is answered rightly with both classes in each set, all others wrongly: coverage depends on the person.
    number = {name: place for place, name in enumerate(data_people(data))}
    of_task = torch.tensor([[number[name] for name in pair] for pair in groups])
    targets = torch.tensor([[0, 1]]).expand(30, 2)
    right = torch.nn.functional.one_hot(targets, 2) * 8.0
    outputs = torch.where((of_task[:, :1] == 0).unsqueeze(-1), right, 8.0 - right)
    promise = measured_promise(
        calibrated(Observed(right, targets, None, of_task), TaskSize(2, 2, 1, 1, 2)),
        Observed(outputs, targets, None, of_task),
    )
    held = (of_task == 0).double().flatten()
    assert promise.sets[0].coverage == pytest.approx(held.mean().item())
    assert promise.sets[0].ci95_classes == pytest.approx(half_width_over_groups(held, of_task.flatten()))
    assert promise.sets[0].ci95_classes > 1.5 * promise.sets[0].ci95


def data_people(data):
    """The people of the validation part, by drawing many tasks."""
    names = data.groups("val", TaskSpec(2, 2, 3), 0)
    return sorted({names(0, task)[0] for task in range(200)})
