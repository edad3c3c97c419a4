"""Promises from the end of training to a saved classifier: each is in the checkpoint, in `eval` and in `finetune`."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from metalearn_cli import load, load_classifier
from metalearn_cli.errors import CheckpointError, ConfigError
from metalearn_cli.storage.runs import checkpoints
from tests.commands import TINY

VALUES = TINY | {
    "dataset": {"name": "glyphs", "classes": 80},
    "backbone": {"name": "identity"},
    "algorithm": {"name": "prototypes", "shrinkages": [0.3, 3.0]},
    "task": {"ways": 3, "shots": 2, "queries": 2},
    "outer": {"meta_batch_size": 2, "iterations": 2},
    "eval": {"queries": 5, "episodes": 40, "val_episodes": 40, "every": 2},
}


@pytest.fixture(scope="module")
def run(run_cli, tmp_path_factory):
    folder = tmp_path_factory.mktemp("promises")
    (folder / "mine.yaml").write_text(json.dumps(VALUES))
    trained = run_cli("train", folder / "mine.yaml", "--run-dir", folder / "run", "--json", "--quiet")
    assert trained.code == 0, trained.err
    return folder, trained.fields


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Three classes of drawings that differ much, five of each, and three queries."""
    folder, generator = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for place, name in enumerate("abc"):
        (folder / "support" / name).mkdir(parents=True)
        (folder / "query").mkdir(exist_ok=True)
        for number in range(6):
            page = np.full((28, 28), 255, np.uint8)
            page[4 + 8 * place : 7 + 8 * place, 3:25] = generator.integers(0, 60, (3, 22))
            where = folder / "query" if number == 5 else folder / "support" / name
            Image.fromarray(page).save(where / f"{name}{number}.png")
    return folder


def test_training_ends_with_what_the_best_checkpoint_may_promise(run):
    folder, fields = run
    found = fields["calibration"]
    assert [one["shots"] for one in found] == [1, 2, 5]
    assert all(one["ways"] == 3 and one["episodes"] == 40 and one["score"] for one in found)
    assert all(len(one["floors"]) == 50 for one in found)
    header = checkpoints.read_checkpoint(folder / "run" / "checkpoints" / "best.pt").header
    assert header["calibration"] == found
    card = (folder / "run" / "checkpoints" / "MODEL_CARD.md").read_text()
    assert "calibrated on\n40 validation tasks" in card
    assert "3-way 1-shot, 3-way 2-shot, 3-way 5-shot" in card
    assert "not calibrated" not in card


def test_a_finished_run_that_is_resumed_keeps_its_calibration(run, cli):
    folder, fields = run
    again = cli("train", folder / "mine.yaml", "--run-dir", folder / "run", "--resume", "--json", "--quiet")
    assert again.fields["calibration"] == fields["calibration"]


def test_eval_measures_each_promise_on_test_tasks(run, cli):
    folder, _ = run
    found = cli("eval", "--checkpoint", folder / "run" / "checkpoints" / "best.pt", "--json", "--quiet").fields
    assert [(one["ways"], one["shots"]) for one in found["promises"]] == [(3, 1), (3, 2), (3, 5)]
    for one in found["promises"]:
        assert {"ece", "brier", "nll"} == set(one["before"]) == set(one["after"])
        assert [row["target"] for row in one["sets"]] == [0.8, 0.9, 0.95]
        coverages = [row["coverage"] for row in one["sets"]]
        assert coverages == sorted(coverages)
        assert all(row["coverage"] > row["target"] - 0.15 for row in one["sets"])
        assert all(0 < row["ci95_classes"] < 1 for row in one["sets"])
        assert one["strangers"]["auroc"] > 0.5
        assert one["strangers"]["kept"] > 0.8


def test_eval_prints_the_promises_in_tables(run, cli):
    folder, _ = run
    shown = cli("eval", "--checkpoint", folder / "run" / "checkpoints" / "best.pt", "--quiet").out
    for title in ("probabilities without and with temperature", "sets that hold the right class", "none of these"):
        assert title in shown
    assert "± classes" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_finetune_gives_sets_and_says_what_is_none_of_these(run, pictures, cli, tmp_path):
    folder, _ = run
    best = folder / "run" / "checkpoints" / "best.pt"
    asked = ["--support", pictures / "support", "--query", pictures / "query", "--coverage", "0.9"]
    files = ["--csv", tmp_path / "rows.csv", "--output", tmp_path / "mine.pt"]
    found = cli("finetune", "--checkpoint", best, *asked, *files, "--json", "--quiet").fields
    assert found["coverage"] == 0.9
    assert found["calibration"]["shots"] == 5
    assert found["temperature"] == found["calibration"]["temperature"]
    for row in found["predictions"]:
        assert isinstance(row["none_of_these"], bool)
        assert set(row["set"]) <= {"a", "b", "c"}
        assert row["set"][:1] in ([], [row["label"]])
    with (tmp_path / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [json.loads(row["set"]) for row in rows] == [row["set"] for row in found["predictions"]]
    assert {row["none of these"] for row in rows} <= {"yes", "no"}
    again = cli("finetune", "--checkpoint", tmp_path / "mine.pt", *asked[2:], "--json", "--quiet").fields
    assert [row["set"] for row in again["predictions"]] == [row["set"] for row in found["predictions"]]
    printed = cli("finetune", "--checkpoint", best, *asked, "--quiet").out
    assert "calibrated on 40 validation tasks" in printed
    assert "90 % of the sets hold the right class" in printed


def test_python_gives_the_same_sets_and_strangers(run, pictures, tmp_path):
    folder, _ = run
    support = sorted((pictures / "support").rglob("*.png"))
    classifier = load(folder / "run" / "checkpoints" / "best.pt").adapt(support, [file.parent.name for file in support])
    queries = sorted((pictures / "query").glob("*.png"))
    sets = classifier.predict_sets(queries, coverage=0.95)
    rows = classifier.predict_proba(queries)
    floor = classifier.calibration.floor(0.95)
    assert [set(one) for one in sets] == [{"abc"[k] for k in range(3) if row[k] >= floor} for row in rows]
    noise = np.random.default_rng(1).integers(0, 256, (4, 28, 28, 1), dtype=np.uint8)
    assert all(classifier.none_of_these(noise))
    classifier.save(tmp_path / "mine.pt")
    assert load_classifier(tmp_path / "mine.pt").calibration == classifier.calibration


def changed(path, target, **fields):
    checkpoint = checkpoints.read_checkpoint(path)
    checkpoints.save(target, checkpoint._replace(header={**checkpoint.header, **fields}))
    return target


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"floors": [0.5]}, "floors"),
        ({"floors": [0.1 + 0.01 * number for number in range(50)]}, "found some that rise"),
        ({"score": "magic"}, "score"),
        ({"score": None}, "there is no score"),
        ({"ways": 0}, "ways"),
        ({"more": 1}, "more"),
    ],
)
def test_a_calibration_that_cannot_be_true_is_refused(run, change, told, tmp_path):
    path = run[0] / "run" / "checkpoints" / "best.pt"
    known = checkpoints.read_checkpoint(path).header["calibration"]
    forged = changed(path, tmp_path / "forged.pt", calibration=[known[0] | change])
    with pytest.raises(CheckpointError, match=told):
        load(forged)


def test_two_calibrations_of_one_size_are_refused(run, tmp_path):
    path = run[0] / "run" / "checkpoints" / "best.pt"
    known = checkpoints.read_checkpoint(path).header["calibration"]
    with pytest.raises(CheckpointError, match="expected each size once"):
        load(changed(path, tmp_path / "forged.pt", calibration=[known[0], known[0]]))


def test_without_a_calibration_sets_are_refused_in_a_line(run, pictures, cli, tmp_path):
    bare = changed(run[0] / "run" / "checkpoints" / "best.pt", tmp_path / "bare.pt", calibration=[])
    asked = ["--support", pictures / "support", "--query", pictures / "query"]
    refused = cli("finetune", "--checkpoint", bare, *asked, "--coverage", "0.9")
    assert refused.code == 2
    assert "is not calibrated" in refused.err
    assert "not calibrated" in cli("finetune", "--checkpoint", bare, *asked, "--quiet").out
    support = sorted((pictures / "support").rglob("*.png"))
    with pytest.raises(ConfigError, match="not calibrated"):
        load(bare).adapt(support, [file.parent.name for file in support]).predict_sets(support)


def test_a_coverage_that_is_no_share_is_refused(run, pictures, cli):
    best = run[0] / "run" / "checkpoints" / "best.pt"
    asked = ["--support", pictures / "support", "--query", pictures / "query", "--coverage", "90"]
    refused = cli("finetune", "--checkpoint", best, *asked)
    assert (refused.code, "such as 0.9 for 90 %" in refused.err) == (2, True)
