"""The page about tables is what its result files say, and every planned row can be run."""

import numpy as np
import pytest

from benchmarks.tables import series
from benchmarks.tables.page import PAGE, clustered, results, written
from benchmarks.tables.rows import Row, load
from metalearn_cli.experiment import read_experiment

TABLE = load()


def test_the_page_is_what_the_result_files_say():
    assert PAGE.read_text() == written(TABLE, results())


@pytest.mark.parametrize("row", [row for row in TABLE.rows if row.seed == 0], ids=lambda row: row.name)
def test_every_row_is_an_experiment_that_loads(row):
    experiment = read_experiment(TABLE.source[row.part]["config"], TABLE.overrides(row))
    assert (experiment.name, experiment.seed) == (row.name, 0)


def test_margins_are_paired_and_their_intervals_count_machines_and_not_tasks():
    learner, rival = Row("oscillators", "", "maml", 0), Row("oscillators", "", "mean", 0)
    steps = [{"step": 0, "explained": 0.5}]
    own = {"scores": [1.0, 2.0, 3.0, 4.0], "machines": [0, 0, 1, 1], "iterations": 9, "steps": steps}
    page = written(TABLE, {learner: own, rival: {"scores": [6.0, 7.0, 12.0, 13.0], "told": ""}})
    assert "| the mean of the 5 rows | 9.50 | 9.50 |  | 1 | +7.00 ± 3.92 |" in page
    assert "excludes zero: the mean of the 5 rows." in page
    same = written(TABLE, {learner: own, rival: {"scores": [0.0, 1.0, 4.0, 5.0], "told": ""}})
    assert "Not so: the mean of the 5 rows." in same


def test_ten_tasks_of_each_machine_say_no_more_than_one():
    values, groups = np.random.default_rng(0).normal(size=20), range(20)
    _, once = clustered(values.tolist(), list(groups))
    _, repeated = clustered(np.repeat(values, 10).tolist(), np.repeat(list(groups), 10).tolist())
    assert repeated == pytest.approx(once)


def test_warping_finds_a_series_that_is_late_and_euclidean_distance_does_not():
    late = np.array([0.0, 0.0, 0.0, 1.0, 4.0, 1.0, 0.0, 0.0])
    query, support = np.roll(late, 2), np.stack([late, np.full(8, 0.9)])
    given = query[None, None, None, None], support[None, None, :, None]
    assert series.warped(*given).argmin() == 0
    assert series.euclidean(*given).argmin() == 1


def test_warping_is_the_cheapest_path_through_all_costs():
    generator = np.random.default_rng(1)
    one, two = generator.normal(size=(2, 3, 6))

    def cost(row, column):
        here = float(np.square(one[:, row] - two[:, column]).sum())
        before = [(row - 1, column), (row, column - 1), (row - 1, column - 1)]
        ways = [cost(*place) for place in before if min(place) >= 0]
        return here + (min(ways) if ways else 0.0)

    assert series.warped(one[None, None, None], two[None, None, None]).item() == pytest.approx(cost(5, 5))
