import json

import pytest

from tests.report.reading import Page, loads

pytest.importorskip("matplotlib", reason="matplotlib is not installed (the extra metalearn-cli[report])")


@pytest.fixture(scope="module")
def training_page(tiny_run) -> Page:
    return Page((tiny_run / "report.html").read_bytes())


@pytest.fixture(scope="module")
def rows(tiny_run) -> list[dict]:
    return [json.loads(row) for row in (tiny_run / "metrics.jsonl").read_text().splitlines()]


def test_the_page_of_a_run_has_the_numbers_of_its_metrics(training_page, rows):
    told = training_page.table("iteration", "training loss")
    assert [row[:5] for row in told] == [
        [
            row["iteration"],
            row["loss"],
            row["val"][-1]["score"],
            row["val"][-1]["ci95"],
            row["tasks_per_second"],
        ]
        for row in rows
    ]
    best = [row for row in rows if row["best"]][-1]
    assert training_page.table("inner step", "accuracy %") == [
        [str(step["step"]), step["score"], step["ci95"], step["loss"]] for step in best["val"]
    ]


def test_the_classes_on_the_page_add_up_to_the_measured_accuracy(training_page, rows):
    best = [row for row in rows if row["best"]][-1]
    classes = training_page.table("class", "accuracy %")
    right, queries = (sum(int(row[column]) for row in classes) for column in (2, 3))
    assert right / queries == pytest.approx(best["val"][-1]["score"])
    wrong = sum(int(row[2]) for row in training_page.table("shown", "taken for"))
    assert wrong == queries - right
    assert "in all 10 validation episodes" in training_page.text


def test_the_page_of_a_run_loads_nothing_and_says_how_to_repeat_it(training_page, tiny_run, tiny_config):
    assert loads(training_page) == []
    assert f"metalearn train {tiny_config} --run-dir {tiny_run}" in training_page.text
    assert (tiny_run / "config.yaml").read_text() in training_page.text
    assert len([tag for tag, _ in training_page.tags if tag == "svg"]) == 5
    assert all(attributes.get("alt") for tag, attributes in training_page.tags if tag == "img")
