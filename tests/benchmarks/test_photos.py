"""PHOTOS.md says what the result files say, and every row is a command that metalearn understands."""

import json
from itertools import pairwise

import pytest

from benchmarks.photos.page import PAGE, results, written
from benchmarks.photos.rows import rows
from metalearn_cli.experiment import read_experiment


def test_the_page_is_written_from_the_result_files():
    assert PAGE.read_text() == written(rows(), results())


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)
def test_every_row_is_an_experiment(row):
    config, *given = row.trained("runs/one")[1:]
    assert config == row.config
    sets = [value for word, value in pairwise(given) if word == "--set"]
    assert read_experiment(config, sets).dataset.title == f"grocery{row.size}"


def test_a_row_that_was_measured_is_not_listed_as_missing(tmp_path):
    found = next(iter(results().values()))
    (tmp_path / "one.json").write_text(json.dumps(found))
    [measured] = results(tmp_path).values()
    page = written(rows(), {measured["name"]: measured})
    assert f"- {measured['name']}:" not in page
    assert f"{100 * measured['eval']['worth'][-1]['rows'][-1]['accuracy']:.1f} ±" in page
