"""The commands on a table of one's own: prepare, finetune, and what they refuse."""

import csv
import html
import re

import numpy as np
import pytest

from metalearn_cli.datasets.table import Config
from tests.tables import kinds, machines, prepared, written
from tests.untrained import checkpoint_of

FORCE = ("--set", "dataset.title=m", "--set", "dataset.task=machine", "--set", "dataset.target=[force]")


@pytest.fixture
def checkpoint(tmp_path):
    """A learner of forces, before its first iteration."""
    settings = {"title": "m", "task": "machine", "target": ["force"]}
    prepared(Config(**settings), tmp_path / "data", written(tmp_path / "m.csv", machines()))
    return checkpoint_of(
        tmp_path / "m.pt", tmp_path / "data", dataset={"name": "table"} | settings,
        task={"ways": 1, "shots": 2, "queries": 3}, backbone={"name": "mlp", "hidden": [8]},
    )  # fmt: skip


@pytest.fixture
def rows_of_kinds(tmp_path):
    """A learner of classes, before its first iteration, and the columns of few.csv: eight rows of three classes."""
    prepared(Config(title="k"), tmp_path / "data", written(tmp_path / "k.csv", kinds()))
    path = checkpoint_of(
        tmp_path / "k.pt", tmp_path / "data", dataset={"name": "table", "title": "k"},
        task={"ways": 2, "shots": 2, "queries": 3}, backbone={"name": "mlp", "hidden": [8]},
        algorithm={"name": "protonet"},
    )  # fmt: skip
    few = {name: cells[:24] for name, cells in kinds().items()}
    written(tmp_path / "few.csv", few)
    return path, few


def tables_of(page):
    """The tables of a page by the name of their first column, rows as mappings; those of one name together."""
    found = {}
    for table in re.findall(r"<table>(.*?)</table>", page, re.DOTALL):
        header = [plain(cell) for cell in re.findall(r"<th[^>]*>(.*?)</th>", table, re.DOTALL)]
        rows = [re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL) for row in re.findall(r"<tr>(.*?)</tr>", table)]
        found.setdefault(header[0], []).extend(
            dict(zip(header, map(plain, row), strict=True)) for row in rows if len(row) == len(header)
        )
    return found


def plain(cell):
    return html.unescape(re.sub(r"<[^>]+>", "", cell)).strip()


def test_a_table_is_prepared_listed_and_verified_and_training_is_proposed(cli, tmp_path):
    written(tmp_path / "m.csv", machines(rows=9))
    data = ("--data-dir", tmp_path / "data")
    made = cli("prepare", "table", "--source", "m.csv", *FORCE, *data, "--json")
    assert made.code == 0, made.err
    assert made.fields["splits"] == {
        "train": {"tasks": 6, "rows": 54}, "val": {"tasks": 2, "rows": 18}, "test": {"tasks": 2, "rows": 18},
    }  # fmt: skip
    assert made.fields["kind"] == "regression"
    assert "metalearn train tables/regression --set name=m --set dataset.title=m" in made.err
    assert "--set task.shots=4 --set task.queries=5 --set eval.queries=5" in made.err
    assert cli("prepare", "table", *FORCE, *data, "--verify", "--json").fields["sha256"] == made.fields["sha256"]
    assert "verified" in cli("prepare", "table", *FORCE, *data, "--verify").out
    listed = cli("prepare", "--list", *data, "--json").fields["datasets"]
    assert [
        (one["name"], one["state"], one["classes"], one["pictures"]) for one in listed if "table" in one["name"]
    ] == [("table m", "prepared", 10, 90)]
    assert {"10 tasks", "90 rows"} <= set(re.split(r" {2,}", cli("prepare", "--list", *data).out))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 100,
        b"machine,speed,force\nm," + b"9" * (10 << 20) + b",1\n",
        ("c," * 100_000 + "d\n").encode(),
        b"\xef\xbb\xbfmachine,speed,force\nm,=cmd|' /C calc'!A0,1\n",
        "machine,speed,force\nm\u00e9,1,2\n".encode("latin-1"),
        "machine,speed,force\nm,1,2\n".encode("utf-16"),
        b'machine,speed,force\n"m,1,2\n',
        b"machine,speed,force\n",
        b"machine,speed,speed,force\nm,1,1,2\n",
        b"machine,speed,force\nm,1,2\nm,1\n",
        b"machine,speed,force\nm,1,2\nm,2,3\n",
        b"machine,speed,force\nm," + b"9" * 400 + b",2\n",
        b"machine,speed,force\na,1e150,2\nb,1,2\nc,1,3\n",
    ],
    ids=[
        "empty",
        "NUL",
        "10 MB line",
        "100,000 columns",
        "formula",
        "latin-1",
        "UTF-16",
        "open quote",
        "header only",
        "a column twice",
        "ragged",
        "one task",
        "400 digits",
        "overflow",
    ],
)
def test_a_hostile_table_is_one_line_and_exit_code_2(cli, tmp_path, content):
    (tmp_path / "m.csv").write_bytes(content)
    outcome = cli("prepare", "table", "--source", "m.csv", *FORCE, "--data-dir", tmp_path / "data", "--quiet")
    assert outcome.code == 2
    assert len(outcome.err.strip().splitlines()) == 1
    assert outcome.err.startswith("error: m.csv")


def test_values_are_answered_judged_saved_and_used_again(cli, tmp_path, checkpoint):
    columns = machines(1, 12, seed=5)
    written(tmp_path / "few.csv", {name: cells[:8] for name, cells in columns.items()})
    written(tmp_path / "new.csv", {name: cells[8:] for name, cells in columns.items()})
    given = ("finetune", "--checkpoint", checkpoint, "--support", "few.csv")
    outcome = cli(*given, "--query", "new.csv", "--csv", "answers.csv", "--output", "mine.pt", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.fields["measured_on"] == "query"
    with (tmp_path / "answers.csv").open() as file:
        answers = [*csv.DictReader(file)]
    assert [row["file"] for row in answers] == ["new.csv:2", "new.csv:3", "new.csv:4", "new.csv:5"]
    found = np.array([float(row["force"]) for row in answers])
    known = np.array([float(row["known force"]) for row in answers])
    np.testing.assert_allclose(known, columns["force"][8:], rtol=1e-5)
    mse = outcome.fields["per_step"][-1]["mse"]
    assert mse == pytest.approx(np.square(found - known).mean(), rel=1e-3)
    again = cli("finetune", "--checkpoint", "mine.pt", "--query", "new.csv", "--json")
    assert again.fields["predictions"] == outcome.fields["predictions"]
    alone = cli(*given, "--json")
    assert alone.fields["measured_on"] == "support, leaving one out"
    assert alone.fields["per_step"][0]["rows"] == 8
    shown = cli(*given, "--query", "new.csv")
    assert "R2" in shown.out


def test_a_column_that_the_query_lacks_is_named(cli, tmp_path, checkpoint):
    written(tmp_path / "few.csv", machines(1, 6, seed=5))
    written(tmp_path / "new.csv", {"speed": [1.0]})
    outcome = cli("finetune", "--checkpoint", checkpoint, "--support", "few.csv", "--query", "new.csv")
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1] == (
        "error: new.csv: has no column 'hours', which the checkpoint was trained with"
    )


def test_a_page_and_figures_show_every_row_with_its_value_and_how_far_it_is_off(cli, tmp_path, checkpoint):
    columns = machines(1, 12, seed=5)
    written(tmp_path / "few.csv", {name: cells[:8] for name, cells in columns.items()})
    written(tmp_path / "new.csv", {name: cells[8:] for name, cells in columns.items()})
    given = ("--support", "few.csv", "--query", "new.csv", "--output", "mine.pt", "--json")
    outcome = cli("finetune", "--checkpoint", checkpoint, *given, "--report", "page.html", "--figures", "figures")
    assert outcome.code == 0, outcome.err
    page = tables_of((tmp_path / "page.html").read_text())
    errors = {row["inner step"]: row["mean squared error"] for row in page["inner step"]}
    assert [*errors] == [str(step["step"]) for step in outcome.fields["per_step"]]
    assert errors["0"] == f"{outcome.fields['per_step'][0]['mse']:.4g}"
    rows, answers = page["row"][:4], {one["file"]: one for one in outcome.fields["predictions"]}
    off = [float(row["off force"]) for row in rows]
    assert sorted(map(abs, off), reverse=True) == list(map(abs, off))
    for row, apart in zip(rows, off, strict=True):
        answer = answers[row["row"]]
        assert row["force"] == f"{answer['values']['force']:.6g}"
        assert apart == pytest.approx(answer["values"]["force"] - answer["known"]["force"], rel=1e-3)
        place = int(row["row"].partition(":")[2]) + 6
        assert float(row["speed"]) == pytest.approx(columns["speed"][place], rel=1e-4)
    drawn = {one.name for one in (tmp_path / "figures").iterdir()}
    assert {"error.svg", "known-0.png", "known-0.csv"} <= drawn
    again = cli("finetune", "--checkpoint", "mine.pt", "--query", "new.csv", "--report", "again.html", "--json")
    assert again.code == 0, again.err
    assert "An adapted file keeps the rows, not their known values." in (tmp_path / "again.html").read_text()


def test_one_input_has_a_fit_before_and_after_the_inner_steps(cli, tmp_path):
    columns = {name: cells for name, cells in machines().items() if name != "hours"}
    settings = {"title": "one", "task": "machine", "target": ["force"]}
    prepared(Config(**settings), tmp_path / "data", written(tmp_path / "one.csv", columns))
    path = checkpoint_of(
        tmp_path / "one.pt", tmp_path / "data", dataset={"name": "table"} | settings,
        task={"ways": 1, "shots": 2, "queries": 3}, backbone={"name": "mlp", "hidden": [8]},
    )  # fmt: skip
    written(tmp_path / "few.csv", {name: cells[:8] for name, cells in columns.items()})
    outcome = cli("finetune", "--checkpoint", path, "--support", "few.csv", "--figures", "figures", "--json")
    assert outcome.code == 0, outcome.err
    with (tmp_path / "figures" / "fit-0.csv").open() as file:
        points = [*csv.DictReader(file)]
    known = [(float(row["speed"]), float(row["force"])) for row in points if row["line"] == "support"]
    expected = list(zip(columns["speed"][:8], columns["force"][:8], strict=True))
    np.testing.assert_allclose(known, expected, rtol=1e-4)
    names = {row["line"] for row in points}
    assert {"before the first step", f"after step {outcome.fields['per_step'][-1]['step']}"} <= names


def test_a_page_of_classified_rows_has_their_classes_and_what_is_wrong_first(cli, tmp_path, rows_of_kinds):
    checkpoint, few = rows_of_kinds
    written(tmp_path / "new.csv", {name: [*cells[:4], *cells[20:24]] for name, cells in few.items()})
    given = ("--support", "few.csv", "--query", "new.csv", "--output", "mine.pt", "--json", "--report", "page.html")
    outcome = cli("finetune", "--checkpoint", checkpoint, *given, "--figures", "figures")
    assert outcome.code == 0, outcome.err
    page = tables_of((tmp_path / "page.html").read_text())
    asked, learned = page["row"][:8], page["row"][8:]
    answers = {one["file"]: one for one in outcome.fields["predictions"]}
    verdicts = [row["verdict"] for row in asked]
    assert verdicts == sorted(verdicts, key=lambda verdict: "wrong" not in verdict)
    for row in asked:
        answer = answers[row["row"]]
        assert (row["class"], row["probability %"]) == (answer["label"], f"{100 * answer['probability']:.1f}")
        assert ("wrong" in row["verdict"]) == (answer["label"] != answer["known"])
    assert [row["class"] for row in learned] == few["label"]
    assert (tmp_path / "figures" / "confusion.svg").exists()
    assert cli("finetune", "--checkpoint", "mine.pt", "--query", "new.csv", "--report", "again.html").code == 0


def test_new_classes_are_learned_from_rows_with_probabilities(cli, tmp_path, rows_of_kinds):
    path, _ = rows_of_kinds
    given = ("--support", "few.csv", "--query", "few.csv", "--csv", "answers.csv", "--json")
    outcome = cli("finetune", "--checkpoint", path, *given)
    assert outcome.code == 0, outcome.err
    assert outcome.fields["classes"] == ["k00", "k01", "k02"]
    header = (tmp_path / "answers.csv").read_text().splitlines()[0]
    assert header == "file,predicted,probability,probability of k00,probability of k01,probability of k02,known"
    assert cli("finetune", "--checkpoint", path, "--support", "few.csv", "--json").fields["folds"] == 8


def test_six_classes_of_which_a_part_has_one_are_no_training_that_is_proposed(cli, tmp_path):
    written(tmp_path / "k.csv", kinds(6))
    made = cli("prepare", "table", "--source", "k.csv", "--set", "dataset.title=k", "--data-dir", tmp_path / "data")
    assert made.code == 0
    assert "too small to train on: part val has 1 class, a task needs 2 or more" in made.err
    assert "next: metalearn train" not in made.err
