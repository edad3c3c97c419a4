"""The table of accuracies is what its result files say, and every planned row can be run."""

import pytest

from benchmarks.accuracy.page import PAGE, results, written
from benchmarks.accuracy.rows import Row, load
from metalearn_cli.experiment import from_mapping, with_overrides

TABLE = load()


def test_the_page_is_what_the_result_files_say():
    assert PAGE.read_text() == written(TABLE, results())


@pytest.mark.parametrize("row", TABLE.rows, ids=lambda row: row.name)
def test_every_row_is_an_experiment_that_loads_with_its_columns(row):
    experiment = from_mapping(TABLE.experiment(row), row.name)
    assert experiment.seed == row.seed
    for column in TABLE.columns:
        measured = with_overrides(experiment, TABLE.measure(row, column))
        assert measured.eval.queries in (experiment.task.shots, 15)


def test_a_row_is_above_its_published_figure_only_with_three_seeds_that_say_so():
    def result(seed: int, accuracy: float) -> dict:
        column = {"accuracy": accuracy, "ci95": 0.001}
        return {
            "learner": "maml", "setting": "20w1s", "seed": seed, "tasks": 160_000, "core_seconds": 3600,
            "processor": "one", "columns": dict.fromkeys(TABLE.columns, column),
        }  # fmt: skip

    def page(*accuracies: float) -> str:
        return written(TABLE, {Row("maml", "20w1s", s): result(s, a) for s, a in enumerate(accuracies)})

    assert "A 95.8: higher" in page(0.97)
    assert "A 95.8: lower" in page(0.95)
    assert "A 95.8: above" in page(0.97, 0.971, 0.969)
    assert "A 95.8: higher" in page(0.99, 0.97, 0.93)
    assert "| 97.00, std 0.10 |" in page(0.97, 0.971, 0.969)
