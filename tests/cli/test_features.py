"""The commands on features: prepared, trained on, measured, used and grown."""

import json
import shutil

import pytest

from metalearn_cli.references import Call
from tests.tiny_extractor import features, write_pictures, write_program


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    path = tmp_path_factory.mktemp("features")
    write_program(path / "look.pt2")
    write_pictures(path / "birds", classes=15)
    dataset = {"name": "folder", "title": "birds", "image_size": 16, "features": features(path / "look.pt2")}
    experiment = {
        "name": "birds",
        "dataset": dataset,
        "task": {"ways": 3, "shots": 2, "queries": 3},
        "backbone": {"name": "identity"},
        "algorithm": {"name": "prototypes"},
        "outer": {"meta_batch_size": 2, "iterations": 1},
        "eval": {"queries": 3, "episodes": 10, "val_episodes": 4, "every": 1},
    }
    (path / "birds.yaml").write_text(json.dumps(experiment))
    return path


def settings_of(place):
    block = json.dumps(features(place / "look.pt2"))
    return ["--set", "dataset.title=birds", "--set", "dataset.image_size=16", "--set", f"dataset.features={block}"]


def trusted(place):
    return {"METALEARN_TRUST": Call("torch.export.load", {"f": str(place / "look.pt2")}).approval()}


def test_features_are_prepared_verified_trained_on_measured_and_grown(cli, place, tmp_path):
    prepared = cli("prepare", "folder", "--source", place / "birds", *settings_of(place))
    assert prepared.code == 0, prepared.err
    assert "features: 12 of 120 pictures by look.pt2, from the original pictures, without augmentation" in prepared.out
    verified = cli("prepare", "folder", *settings_of(place), "--verify", "--json")
    assert [one["read_from"] for one in verified.fields["features"]] == ["originals"]

    trained = cli("train", place / "birds.yaml", "--run-dir", tmp_path / "run")
    assert trained.code == 0, trained.err
    assert "features    12, look.pt2, from the original pictures" in trained.err
    for shots in (1, 5):
        assert f"what it is worth, 3-way {shots}-shot, 4 same val tasks, each answer alone" in trained.out
    for learner in ("nearest pixels", "features, nothing learned", "this run"):
        assert trained.out.count(f"{learner} │") == 2, learner
    best = tmp_path / "run/checkpoints/best.pt"
    measured = cli("eval", "--checkpoint", best, "--json", **trusted(place))
    assert measured.code == 0, measured.err
    assert measured.fields["accuracy"] > 0.6
    compared = {one["shots"]: [row["name"] for row in one["rows"]] for one in measured.fields["worth"]}
    learners = ["nearest pixels", "features, nothing learned", "this run"]
    assert compared == {1: learners, 5: learners}

    for number in range(3):
        shutil.copytree(place / f"birds/kind{number}", tmp_path / f"support/kind{number}")
    shutil.copytree(place / "birds/kind3", tmp_path / "more/kind3")
    used = cli("finetune", "--config", place / "birds.yaml", "--support", tmp_path / "support", "--output", "m.pt")
    assert used.code == 0, used.err
    grown = cli(
        "finetune", "--checkpoint", "m.pt", "--support", tmp_path / "more", "--output", "m.pt", **trusted(place)
    )
    assert grown.code == 0, grown.err
    assert "3 classes of 24 pictures; 1 classes added (kind3), with 8 pictures" in grown.err
    asked = cli("finetune", "--checkpoint", "m.pt", "--query", place / "birds/kind3", "--json", **trusted(place))
    assert {row["label"] for row in asked.fields["predictions"]} == {"kind3"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "give either --checkpoint FILE, or --config photos"),
        (["--config", "photos", "--checkpoint", "best.pt"], "give either --checkpoint FILE, or --config photos"),
        (["--config", "photos", "--query", "x.jpg"], "--config: needs --support"),
        (["--config", "quickstart", "--support", "birds"], "has to be trained first: metalearn train quickstart"),
    ],
)
def test_what_cannot_be_is_one_line(cli, place, given, said):
    outcome = cli("finetune", *given, cwd=place)
    assert outcome.code == 2
    assert said in outcome.err
    assert "Traceback" not in outcome.err
