import numpy as np
import pytest
import torch

from metalearn_cli.datasets.table import Config
from metalearn_cli.errors import ConfigError, DataError
from metalearn_cli.experiment import from_mapping
from metalearn_cli.runtime.data import opening
from metalearn_cli.runtime.data.sampling import TaskSpec
from metalearn_cli.runtime.run import session as sessions
from metalearn_cli.runtime.run.training import Watch
from metalearn_cli.storage.runs import run_folder
from metalearn_cli.storage.runs.checkpoints import read_checkpoint
from tests.commands import TINY
from tests.runtime.run.test_training import SINES, reports_of
from tests.tables import kinds, machines, people, prepared, written

KINDS = {"dataset": {"name": "table", "title": "k"}}
FORCE = {
    "dataset": {"name": "table", "title": "m", "task": "machine", "target": ["force"]},
    "task": {"ways": 1, "shots": 3, "queries": 5},
}
PEOPLE = {"dataset": {"name": "table", "title": "p", "task": "person", "label": "activity"}}
SMALL = {"backbone": {"name": "mlp", "hidden": [8]}}


@pytest.fixture
def folder(tmp_path):
    """A data folder with a table of each kind."""
    for config, columns in (
        (Config(**KINDS["dataset"]), kinds()),
        (Config(**FORCE["dataset"]), machines()),
        (Config(**PEOPLE["dataset"]), people()),
    ):
        prepared(config, tmp_path / "data", written(tmp_path / f"{config.title}.csv", columns))
    return tmp_path / "data"


def opened(folder, **blocks):
    return opening.open_data(from_mapping(TINY | SMALL | blocks, "test"), folder, lambda *_: None)


def test_a_task_of_classes_holds_distinct_rows_of_distinct_classes(folder):
    data = opened(folder, **KINDS)
    tasks = data.sampler("train", TaskSpec(3, 2, 4), 0)(5, [0, 1])
    assert tasks.support.inputs.shape == (2, 6, 2)
    assert tasks.query.inputs.shape == (2, 12, 2)
    assert tasks.support.targets.tolist() == [[0, 0, 1, 1, 2, 2]] * 2
    for task in range(2):
        rows = torch.cat([tasks.support.inputs[task], tasks.query.inputs[task]])
        assert len({tuple(row) for row in rows.tolist()}) == 18
    again = data.sampler("train", TaskSpec(3, 2, 4), 0)(5, [1])
    assert torch.equal(again.query.inputs[0], tasks.query.inputs[1])


def test_names_are_those_of_the_classes_that_were_drawn(folder):
    data = opened(folder, **KINDS)
    columns, encoding = kinds(), data.interface.table
    spec = TaskSpec(3, 2, 4)
    inputs = data.sampler("train", spec, 0)(0, [7]).support.inputs[0, :, 0].double()
    plain = inputs * encoding.std[0] + encoding.mean[0]
    places = [int(np.abs(np.array(columns["x"]) - float(value)).argmin()) for value in plain]
    found = [columns["label"][place] for place in places]
    assert found[::2] == found[1::2] == data.names("train", spec, 0)(0, 7)


def test_a_regression_draws_the_rows_of_one_task_and_judges_in_its_own_unit(folder):
    data = opened(folder, **FORCE)
    tasks = data.sampler("test", TaskSpec(1, 3, 5), 0)(0, range(4))
    assert tasks.support.inputs.shape == (4, 3, 2)
    assert tasks.query.targets.shape == (4, 5, 1)
    encoding, objective = data.interface.table, data.interface.objective
    speed = tasks.query.inputs[..., 0].double() * encoding.std[0] + encoding.mean[0]
    force = tasks.query.targets[..., 0].double() * encoding.target_std[0] + encoding.target_mean[0]
    slopes = (force - 100.0) / speed
    assert float(slopes.std(1).max()) < 1e-3  # all of one machine
    off = objective.score(tasks.query.targets + 1.0, tasks.query.targets)
    np.testing.assert_allclose(off, encoding.target_std[0] ** 2, rtol=1e-4)


def test_the_same_classes_in_every_task_have_the_same_numbers(folder):
    data = opened(folder, **PEOPLE)
    tasks = data.sampler("train", TaskSpec(2, 2, 3), 0)(0, range(8))
    levels = tasks.query.inputs[..., 0]
    assert bool((levels[:, :3].amax(1) < levels[:, 3:].amin(1)).all())  # class 0 is "rest" for everybody
    assert data.names("train", TaskSpec(2, 2, 3), 0)(0, 0) == ["rest", "walk"]


@pytest.mark.parametrize(
    ("blocks", "told"),
    [
        (FORCE | {"task": {"ways": 2}}, r"task\.ways: found 2, but table has targets and no classes; set it to 1"),
        (PEOPLE | {"task": {"ways": 3}}, r"task\.ways: found 3, but every task of table has the same 2 classes"),
        (KINDS | {"task": {"ways": 1}}, r"task\.ways: found 1, expected 2 or more"),
    ],
)
def test_ways_that_a_table_cannot_have_are_refused(folder, blocks, told):
    with pytest.raises(ConfigError, match=told):
        opened(folder, **blocks)


def test_a_table_that_is_not_prepared_is_an_error_with_the_command(tmp_path):
    told = r"type: metalearn prepare table --source FILE --set dataset\.title=m --set dataset\.task=machine "
    with pytest.raises(DataError, match=told + r"--set 'dataset\.target=\[force\]'"):
        opened(tmp_path, **FORCE)


def test_tasks_with_too_few_rows_are_counted_and_named_or_left_out(tmp_path):
    columns = machines()
    keep = [place for place in range(80) if not 24 <= place < 28]  # machine m03 has 4 rows
    some = {name: [cells[place] for place in keep] for name, cells in columns.items()}
    source = written(tmp_path / "m.csv", some)
    chosen = {"val": ["m00"], "test": ["m01"]}
    prepared(Config(**FORCE["dataset"], **chosen), tmp_path / "data", source)
    dataset = FORCE["dataset"] | chosen
    spec = TaskSpec(1, 3, 5)
    told = r"1 of 8 tasks of part 'train' have fewer than 8 rows \(3 shots \+ 5 queries\); the smallest is 'm03' with 4"
    data = opened(tmp_path / "data", **FORCE | {"dataset": dataset})
    with pytest.raises(DataError, match=told):
        data.sampler("train", spec, 0)
    data = opened(tmp_path / "data", **FORCE | {"dataset": dataset | {"small": "leave_out"}})
    data.sampler("train", spec, 0)(0, range(50))
    line = "left out: 1 of 8 tasks of part 'train' (m03): fewer than 8 rows"
    assert (data.left_out("train", spec), data.left_out("val", spec)) == (line, "")


def test_rows_read_from_the_disk_are_those_held_in_memory(folder, monkeypatch):
    from metalearn_cli.runtime.data import table_tasks

    held = opened(folder, **FORCE).sampler("train", TaskSpec(1, 3, 5), 0)(0, range(3))
    monkeypatch.setattr(table_tasks, "_SMALL", 0)
    read = opened(folder, **FORCE).sampler("train", TaskSpec(1, 3, 5), 0)(0, range(3))
    assert torch.equal(held.query.inputs, read.query.inputs)
    assert torch.equal(held.support.targets, read.support.targets)


def test_standardised_by_its_support_set_a_task_has_no_mean_of_its_own(tmp_path):
    config = Config(title="m", task="machine", target=["force"], standardise="task")
    prepared(config, tmp_path / "data", written(tmp_path / "m.csv", machines()))
    data = opened(tmp_path / "data", **FORCE | {"dataset": FORCE["dataset"] | {"standardise": "task"}})
    support, query = data.sampler("train", TaskSpec(1, 3, 5), 0)(0, range(6))
    np.testing.assert_allclose(support.inputs.mean(1), 0, atol=1e-5)
    np.testing.assert_allclose(support.inputs.std(1, correction=0), 1, atol=1e-4)
    assert float(query.inputs.mean(1).abs().min()) > 1e-4


@pytest.mark.parametrize("blocks", [KINDS, FORCE, PEOPLE], ids=["classes", "regression", "labelled"])
def test_a_run_on_a_table_resumed_at_every_step_ends_in_the_same_bits(folder, blocks):
    task = blocks.get("task", {"ways": 2, "shots": 2, "queries": 3})
    changes = {**blocks, "task": task, "algorithm": {"name": "maml", "inner_lr": 0.01}}
    dataset = changes.pop("dataset")

    def session(path):
        path.mkdir()
        short = {"outer": {"meta_batch_size": 2, "iterations": 4}, "eval": SINES["eval"] | {"queries": 3}}
        values = SINES | {"dataset": dataset} | changes | short
        experiment = from_mapping(values, "test")
        data = opening.open_data(experiment, folder, lambda *_: None)
        (path / "checkpoints").mkdir()
        return sessions.open_session(experiment, run_folder.RunFolder(path), data, torch.device("cpu"))

    whole, parts = session(folder / "whole"), session(folder / "parts")
    reports_of(whole)
    for _ in range(4):
        reports_of(parts, resume=True, watch=Watch(stop=lambda: True))
    expected, found = (read_checkpoint(one.folder.last) for one in (whole, parts))
    assert found.header["iteration"] == 4
    assert found.tensors.keys() == expected.tensors.keys()
    assert all(torch.equal(found.tensors[name], value) for name, value in expected.tensors.items())
