"""The commands on a table of one's own: prepare, finetune, and what they refuse."""

import csv

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
    ],
    ids=["empty", "NUL", "10 MB line", "100,000 columns", "formula", "latin-1", "UTF-16", "open quote"],
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


def test_a_page_of_pictures_is_refused_for_a_table(cli, tmp_path, checkpoint):
    written(tmp_path / "few.csv", machines(1, 6, seed=5))
    given = ("--support", "few.csv", "--query", "few.csv", "--report", "page.html")
    outcome = cli("finetune", "--checkpoint", checkpoint, *given)
    assert outcome.code == 2
    assert "--report: shows pictures" in outcome.err


def test_new_classes_are_learned_from_rows_with_probabilities(cli, tmp_path):
    prepared(Config(title="k"), tmp_path / "data", written(tmp_path / "k.csv", kinds()))
    path = checkpoint_of(
        tmp_path / "k.pt", tmp_path / "data", dataset={"name": "table", "title": "k"},
        task={"ways": 2, "shots": 2, "queries": 3}, backbone={"name": "mlp", "hidden": [8]},
        algorithm={"name": "protonet"},
    )  # fmt: skip
    some = {name: cells[:24] for name, cells in kinds().items()}
    written(tmp_path / "few.csv", some)
    given = ("--support", "few.csv", "--query", "few.csv", "--csv", "answers.csv", "--json")
    outcome = cli("finetune", "--checkpoint", path, *given)
    assert outcome.code == 0, outcome.err
    assert outcome.fields["classes"] == ["k00", "k01", "k02"]
    header = (tmp_path / "answers.csv").read_text().splitlines()[0]
    assert header == "file,predicted,probability,probability of k00,probability of k01,probability of k02,known"
    assert cli("finetune", "--checkpoint", path, "--support", "few.csv", "--json").fields["folds"] == 8
