"""From a checkpoint and a few rows to answers, in Python and in files, saved and exported."""

import numpy as np
import pytest
import torch

from metalearn_cli import load, load_classifier
from metalearn_cli.datasets.table import Config
from metalearn_cli.errors import ConfigError, DataError
from metalearn_cli.runtime.use import table_finetuning
from metalearn_cli.runtime.use.regressor import Regressor
from tests.tables import kinds, machines, people, prepared, written
from tests.untrained import checkpoint_of

MLP = {"backbone": {"name": "mlp", "hidden": [8]}, "task": {"ways": 2, "shots": 2, "queries": 3}}
MAML = {"algorithm": {"name": "maml", "inner_lr": 0.1, "inner_steps": 3}}


def learner_of(tmp_path, columns, settings, **blocks):
    """A checkpoint, before its first iteration, of a table with these columns."""
    config = Config(title="t", **settings)
    prepared(config, tmp_path / "data", written(tmp_path / "t.csv", columns))
    dataset = {"dataset": {"name": "table", "title": "t"} | settings}
    path = checkpoint_of(tmp_path / "t.pt", tmp_path / "data", **MLP | dataset | MAML | blocks)
    return load(path)


def forces(tmp_path, **settings):
    settings = {"task": "machine", "target": ["force"]} | settings
    return learner_of(tmp_path, machines(), settings, task={"ways": 1, "shots": 2, "queries": 3})


def arrays(columns, *names):
    return np.array([columns[name] for name in names]).T


def test_a_regressor_answers_in_the_unit_of_its_target_and_alike_by_array_mapping_and_file(tmp_path):
    learner, columns = forces(tmp_path), machines(1, 12, seed=5)
    rows, force = arrays(columns, "speed", "hours"), np.array(columns["force"])
    regressor = learner.adapt(rows[:8], force[:8])
    assert isinstance(regressor, Regressor)
    found = regressor.predict(rows[8:])
    assert found.shape == (4,)
    assert 0 < abs(found.mean() - 100) < 50
    by_name = regressor.predict({name: columns[name][8:] for name in ("hours", "speed")})
    np.testing.assert_array_equal(found, by_name)
    few = written(tmp_path / "few.csv", {name: cells[:8] for name, cells in columns.items()})
    new = written(tmp_path / "new.csv", {name: columns[name][8:] for name in ("hours", "speed")})
    support = table_finetuning.valued_rows([few], learner.interface, support=True)
    queries = table_finetuning.valued_rows([new], learner.interface, support=False)
    from_files = table_finetuning.regressors(learner, support)[-1].values(queries.inputs)
    np.testing.assert_allclose(found, from_files[:, 0], rtol=1e-6)


@pytest.mark.parametrize("standardise", ["training", "task", "none"])
def test_the_outputs_of_a_regressor_are_the_networks_own_undone(tmp_path, standardise):
    learner, columns = forces(tmp_path, standardise=standardise), machines(1, 9, seed=5)
    rows, force = arrays(columns, "speed", "hours"), np.array(columns["force"])
    regressor = learner.adapt(rows, force)
    seen, own = learner.interface.table, np.array(columns["speed"])
    if standardise == "task":
        own_moments = regressor.interface.table
        assert own_moments.mean[0] == pytest.approx(own.mean(), rel=1e-4)
        assert own_moments.std[0] == pytest.approx(own.std(), rel=1e-4)
    outputs = regressor.module()(regressor.support)[:, 0].detach().numpy()
    expected = outputs * seen.target_std[0] + seen.target_mean[0]
    np.testing.assert_allclose(regressor.predict(rows), expected, rtol=1e-4)


@pytest.mark.parametrize("standardise", ["training", "task"])
def test_a_saved_regressor_answers_as_before_also_without_metalearn(tmp_path, standardise):
    learner, columns = forces(tmp_path, standardise=standardise), machines(1, 9, seed=5)
    rows = arrays(columns, "speed", "hours")
    regressor = learner.adapt(rows, columns["force"])
    expected = regressor.predict(rows)
    for name in ("mine.pt", "mine.pt2"):
        regressor.save(tmp_path / name)
    again = load_classifier(tmp_path / "mine.pt")
    assert isinstance(again, Regressor)
    np.testing.assert_array_equal(again.predict(rows), expected)
    program = torch.export.load(tmp_path / "mine.pt2").module()
    np.testing.assert_allclose(program(torch.tensor(rows).float())[:, 0].detach(), expected, rtol=1e-4)


def test_leaving_one_out_judges_every_row_by_a_regressor_that_has_not_seen_it(tmp_path):
    learner, columns = forces(tmp_path), machines(1, 4, seed=5)
    few = written(tmp_path / "few.csv", columns)
    support = table_finetuning.valued_rows([few], learner.interface, support=True)
    steps = table_finetuning.regressors(learner, support)
    judged = table_finetuning.judged(steps, None, learner, support)
    rows, force = arrays(columns, "speed", "hours"), np.array(columns["force"])
    answers = [
        learner.adapt(np.delete(rows, place, 0), np.delete(force, place)).predict(rows[place])[0] for place in range(4)
    ]
    assert judged.on == "support, leaving one out"
    assert judged.mse.shape == (3, 1)
    assert judged.mse[-1, 0] == pytest.approx(np.square(answers - force).mean(), rel=1e-4)
    assert judged.explained(2) == pytest.approx(1 - judged.mse[-1, 0] / force.var(), rel=1e-6)


@pytest.mark.parametrize("algorithm", ["maml", "protonet"])
def test_a_classifier_of_rows_is_saved_exported_and_read_again(tmp_path, algorithm):
    columns = kinds()
    learner = learner_of(tmp_path, columns, {}, algorithm={"name": algorithm})
    rows, labels = arrays(columns, "x", "y")[:16], columns["label"][:16]
    classifier = learner.adapt(rows, labels)
    expected = classifier.predict_proba(rows)
    assert expected.shape == (16, 2)
    for name in ("mine.pt", "mine.pt2"):
        classifier.save(tmp_path / name)
    np.testing.assert_array_equal(load_classifier(tmp_path / "mine.pt").predict_proba(rows), expected)
    program = torch.export.load(tmp_path / "mine.pt2").module()
    found = program(torch.tensor(rows).float()).softmax(-1).detach()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_classes_that_every_task_has_are_known_without_being_shown(tmp_path):
    columns = people()
    learner = learner_of(tmp_path, columns, {"task": "person", "label": "activity"})
    rows, labels = arrays(columns, "level")[:6], columns["activity"][:6]
    assert learner.adapt(rows, labels).classes == ["rest", "walk"]
    with pytest.raises(DataError, match=r"label 'run': expected one of the classes of all tasks: rest, walk"):
        learner.adapt(rows, ["run", *labels[1:]])


def test_words_are_given_by_the_names_of_their_columns(tmp_path):
    columns = kinds()
    columns["colour"] = ["red", "blue"] * 40
    learner = learner_of(tmp_path, columns, {"categorical": ["colour"]})
    given = {name: cells[:16] for name, cells in columns.items() if name != "label"}
    classifier = learner.adapt(given, columns["label"][:16])
    assert set(classifier.predict({"x": [0.0], "y": [1.0], "colour": ["green"]})) <= {"k00", "k01"}
    with pytest.raises(DataError, match="columns of words have names; give a mapping with x, y, colour"):
        classifier.predict(np.zeros((2, 3)))
    with pytest.raises(DataError, match="rows: have no column 'colour'"):
        classifier.predict({"x": [0.0], "y": [1.0]})


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (np.zeros((2, 3)), r"shape \(2, 3\); expected numbers \[N, 2\]: speed, hours"),
        (np.array([["a", "b"]]), "rows of type <U1"),
        (np.array([[1.0, np.nan]]), "row 0 has a number that is missing or infinite"),
    ],
)
def test_rows_that_are_not_the_tables_are_refused(tmp_path, rows, told):
    with pytest.raises(DataError, match=told):
        forces(tmp_path).adapt(rows, [1.0] * len(rows))


def test_targets_that_do_not_fit_are_refused_and_a_regressor_has_no_probabilities(tmp_path):
    learner = forces(tmp_path)
    for targets in ([1.0], ["a", "b"], [1.0, np.inf], [[1.0, 2.0]] * 2):
        with pytest.raises(DataError, match="targets"):
            learner.adapt(np.zeros((2, 2)), targets)
    with pytest.raises(ConfigError, match="a regressor has values and no probabilities"):
        learner.adapt(np.eye(2), [1.0, 2.0]).predict_proba(np.eye(2))


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"speed": [1], "force": [2]}, r"has no column 'hours', which the checkpoint was trained with"),
        ({"speed": [1], "hours": [2]}, r"few\.csv:2: column 'force' is empty or missing, expected the value to learn"),
        ({"speed": [1, 1], "hours": [2, 2], "force": [1, ""]}, r"few\.csv:3: column 'force' is empty or missing"),
        ({"speed": [1e90], "hours": [2], "force": [1]}, r"few\.csv:2: has a number that is far larger than those of"),
        (
            {"speed": [1, 1], "hours": [2, 2], "force": [1, 2], "machine": ["a", "b"]},
            r"has rows of 2 tasks \('a', 'b', \.\.\.\); give the rows of one to learn it",
        ),
    ],
)
def test_a_support_file_that_lacks_something_is_refused_by_name(tmp_path, columns, told):
    with pytest.raises(DataError, match=told):
        table_finetuning.valued_rows([written(tmp_path / "few.csv", columns)], forces(tmp_path).interface, support=True)
