"""`metalearn eval` of a folder: an ensemble of checkpoints that belong together, and it says so by every figure."""

import json
import shutil

import pytest
import torch

from metalearn_cli.core.objectives import accuracy
from metalearn_cli.runtime.run import assembly
from metalearn_cli.runtime.run.evaluation import on_device
from metalearn_cli.runtime.run.stored_tensors import meta_of
from metalearn_cli.runtime.use import ensemble_members, measurement
from metalearn_cli.storage.runs.checkpoints import Checkpoint, read_checkpoint, save
from tests.commands import TINY
from tests.report.reading import Page
from tests.untrained import SINES, checkpoint_of

LABEL = "ensemble of 3 checkpoints"


@pytest.fixture(scope="module")
def run(run_cli, tiny_config, tmp_path_factory):
    """A run of five validations that kept the three best."""
    folder = tmp_path_factory.mktemp("kept") / "run"
    settings = ("checkpoint.keep_best=3", "outer.iterations=10", "outer.lr=0.02")
    options = [part for setting in settings for part in ("--set", setting)]
    outcome = run_cli("train", tiny_config, *options, "--run-dir", folder)
    assert outcome.code == 0, outcome.err
    return folder


def files(run):
    return sorted((run / "checkpoints").glob("best-*.pt"))


def folder_of(path, *checkpoints):
    path.mkdir()
    for number, checkpoint in enumerate(checkpoints):
        shutil.copy(checkpoint, path / f"{number}.pt")
    return path


def measured(cli, *paths):
    outcome = cli("eval", *(part for path in paths for part in ("--checkpoint", path)), "--json")
    assert outcome.code == 0, outcome.err
    return outcome.fields


def test_a_run_folder_is_the_ensemble_of_what_it_kept(cli, run):
    fields = measured(cli, run)
    assert fields["ensemble"] == {"label": LABEL, "averaged": "logits", "checkpoints": list(map(str, files(run)))}
    assert fields["checkpoint"] == str(run)
    assert measured(cli, run / "checkpoints")["per_step"] == fields["per_step"]


def test_train_says_what_it_kept(cli, run, tiny_config):
    again = cli("train", tiny_config, "--set", "checkpoint.keep_best=2", "--run-dir", "again")
    assert "kept        the best 2; their ensemble is again, for eval --checkpoint" in again.out
    assert cli("eval", "--checkpoint", "again").code == 0


def test_the_table_says_that_it_is_an_ensemble_and_fits_80_columns(cli, run):
    outcome = cli("eval", "--checkpoint", run)
    assert f"{LABEL}, mean of their logits" in outcome.out.splitlines()[0]
    assert max(len(line) for line in outcome.out.splitlines()) <= 80
    assert "ensemble" not in cli("eval", "--checkpoint", files(run)[0]).out


def test_an_ensemble_cannot_be_fine_tuned_so_that_is_not_the_next_command(cli, run):
    assert "finetune" not in cli("eval", "--checkpoint", run).err
    assert (
        f"finetune --checkpoint {files(run)[0]}" in cli("eval", "--checkpoint", run, "--checkpoint", files(run)[0]).err
    )


def test_fine_tuning_a_folder_says_what_would_be_right(cli, run, support):
    outcome = cli("finetune", "--checkpoint", run, "--support", support)
    assert outcome.code == 2
    assert f"error: {run}: is a folder, expected a file, such as checkpoints/best.pt" in outcome.err


def test_of_one_checkpoint_it_is_that_checkpoint(cli, run, tmp_path):
    one = measured(cli, folder_of(tmp_path / "one", files(run)[0]))
    assert one["ensemble"]["label"] == "ensemble of 1 checkpoint"
    alone = measured(cli, files(run)[0])
    assert one["per_step"] == alone["per_step"]
    assert one["fingerprint"] == alone["fingerprint"]


def test_of_two_copies_it_is_the_one(cli, run, tmp_path):
    two = measured(cli, folder_of(tmp_path / "two", files(run)[0], files(run)[0]))
    assert two["ensemble"]["label"] == "ensemble of 2 checkpoints"
    assert two["per_step"] == measured(cli, files(run)[0])["per_step"]


def test_its_accuracy_is_that_of_the_mean_of_the_members_logits(run, data_dir, monkeypatch):
    monkeypatch.setenv("METALEARN_DATA", str(data_dir))
    found = measurement.evaluate(run, episodes=16, device="cpu")
    assert found.members == files(run)
    logits = []
    tasks = on_device(found.subject.sampler(0, range(16)), torch.device("cpu"))
    for one in (ensemble_members.members(path, [])[0] for path in files(run)):
        learner = assembly.learner_for(one.asked, one.interface, "transductive")
        meta = meta_of(one.checkpoint, one.path, learner, torch.device("cpu"))
        with torch.no_grad():
            logits.append(learner.predict([learner.adapt(meta, tasks.support, 2)[-1]], tasks.query.inputs)[0].double())
    assert not torch.allclose(logits[0], logits[1])
    expected = accuracy(sum(logits) / 3, tasks.query.targets)
    assert torch.allclose(found.scores.double(), expected, atol=1e-6)


def test_an_ensemble_and_a_checkpoint_are_compared_on_the_same_episodes(cli, run):
    best = run / "checkpoints/best.pt"
    fields = measured(cli, best, run)
    single, ensemble = fields["checkpoints"]
    assert single["ensemble"] is None
    assert ensemble["ensemble"]["label"] == LABEL
    assert fields["paired"][0]["difference"] == pytest.approx(ensemble["accuracy"] - single["accuracy"], abs=1e-6)
    shown = cli("eval", "--checkpoint", best, "--checkpoint", run).out
    assert f"{run} ({LABEL}) against {best}, 20 same episodes" in shown


def test_seeds_of_a_checkpoint_and_of_an_ensemble_are_no_spread(cli, run, tmp_path, data_dir):
    other = checkpoint_of(tmp_path / "other.pt", data_dir, seed=1)
    one = folder_of(tmp_path / "one", checkpoint_of(tmp_path / "zero.pt", data_dir))
    assert measured(cli, one, other)["over_seeds"] is None
    assert measured(cli, one, folder_of(tmp_path / "two", other))["over_seeds"]["seeds"] == [0, 1]


def test_of_several_seeds_it_has_no_seed_of_its_own(cli, tmp_path, data_dir):
    seeds = [checkpoint_of(tmp_path / f"{seed}.pt", data_dir, seed=seed) for seed in range(4)]
    left, right = folder_of(tmp_path / "left", *seeds[:2]), folder_of(tmp_path / "right", *seeds[2:])
    assert measured(cli, left, right)["over_seeds"] is None


def test_what_fell_out_and_a_crash_left_behind_is_no_member(cli, run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    shutil.copy(copy / "checkpoints/previous.pt", copy / "checkpoints/best-0000000001.pt")
    assert measured(cli, copy)["per_step"] == measured(cli, run)["per_step"]
    assert len(files(copy)) == 4


def test_a_member_that_is_gone_is_named(cli, run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    gone, *_, newest = files(copy)
    gone.unlink()
    assert refusal(cli, copy) == (
        f"error: {gone}: is not there, but {newest.name} names it as one of the best of its run"
    )


def refusal(cli, path, *options):
    outcome = cli("eval", "--checkpoint", path, *options)
    assert outcome.code == 2, outcome.err
    assert outcome.out == ""
    [line] = outcome.err.splitlines()
    return line


def test_a_run_that_kept_none_says_how_to(cli, tiny_run):
    line = refusal(cli, tiny_run)
    assert "this run kept no checkpoints for an ensemble, which checkpoint.keep_best=5 does in training" in line
    assert f"measure {tiny_run / 'checkpoints/best.pt'} by itself" in line


def test_a_folder_without_checkpoints_is_refused(cli, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "holds no checkpoints, expected the folder of a run, or *.pt files in it" in refusal(cli, tmp_path / "empty")


GLYPHS = TINY["dataset"]


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ({"task": TINY["task"] | {"ways": 3}}, "found task.ways: 3, expected 2"),
        ({"dataset": GLYPHS | {"classes": 50}}, "found dataset.classes: 50, expected 40"),
        ({"backbone": TINY["backbone"] | {"channels": 8}}, "found backbone.channels: 8, expected 4"),
        ({"algorithm": {"name": "protonet"}}, "found algorithm.name: 'protonet', expected 'maml'"),
        ({"algorithm": {"name": "maml", "second_order": False}}, "found algorithm.second_order: False, expected True"),
        ({"eval": TINY["eval"] | {"inner_steps": 1}}, "found eval.inner_steps: 1, expected 2"),
        (SINES, "found dataset.name: 'sinusoid', expected 'glyphs'"),
    ],
    ids=["ways", "dataset", "backbone", "algorithm", "order", "measured otherwise", "a regression"],
)
def test_checkpoints_that_do_not_belong_together_are_refused(cli, tmp_path, data_dir, blocks, message):
    first, other = (
        checkpoint_of(tmp_path / "first.pt", data_dir),
        checkpoint_of(tmp_path / "other.pt", data_dir, **blocks),
    )
    folder = folder_of(tmp_path / "both", first, other)
    line = refusal(cli, folder)
    assert line.startswith(f"error: {folder / '1.pt'}: no ensemble with {folder / '0.pt'}: found ")
    assert message in line


def changed(path, **header):
    checkpoint = read_checkpoint(path)
    save(path, Checkpoint({**checkpoint.header, **header}, checkpoint.tensors))


def test_other_data_of_the_same_name_is_refused(cli, tmp_path, data_dir):
    one = checkpoint_of(tmp_path / "first.pt", data_dir)
    folder = folder_of(tmp_path / "both", one, one)
    changed(folder / "1.pt", data_sha256="0" * 64)
    assert "found trained on other data, expected the same" in refusal(cli, folder)


def test_a_network_that_sees_something_else_is_refused(cli, tmp_path, data_dir):
    one = checkpoint_of(tmp_path / "first.pt", data_dir)
    folder = folder_of(tmp_path / "both", one, one)
    interface = read_checkpoint(one).header["interface"]
    changed(folder / "1.pt", interface=interface | {"preprocessing": interface["preprocessing"] | {"invert": False}})
    assert "found a network with other inputs or outputs, expected the same" in refusal(cli, folder)


def test_an_adapted_classifier_is_no_member(cli, support, tmp_path, tiny_run):
    folder = folder_of(tmp_path / "both", tiny_run / "checkpoints/best.pt")
    made = cli("finetune", "--checkpoint", folder / "0.pt", "--support", support, "--output", folder / "1.pt")
    assert made.code == 0, made.err
    assert "holds an adapted classifier, a training checkpoint is needed" in refusal(cli, folder)


def test_a_damaged_member_is_named(cli, tmp_path, tiny_run):
    folder = folder_of(tmp_path / "both", *[tiny_run / "checkpoints/best.pt"] * 2)
    (folder / "1.pt").write_bytes((folder / "1.pt").read_bytes()[:-5])
    assert f"{folder / '1.pt'}: damaged" in refusal(cli, folder)


@pytest.mark.parametrize("setting", ["backbone.channels=8", "dataset.seed=1"])
def test_what_was_trained_cannot_be_renamed_afterwards(cli, run, setting):
    assert "was trained with" in refusal(cli, run, "--set", setting)


def test_the_measurement_can_be_set_for_all_of_them(cli, run):
    outcome = cli("eval", "--checkpoint", run, "--set", "eval.inner_steps=4", "--set", "eval.queries=5", "--json")
    assert [row["step"] for row in outcome.fields["per_step"]] == [0, 1, 2, 3, 4]
    assert outcome.fields["queries"] == 5


def test_a_regression_averages_the_outputs(cli, tmp_path):
    (tmp_path / "sines.yaml").write_text(json.dumps(TINY | SINES | {"checkpoint": {"keep_best": 2}}))
    assert cli("train", "sines.yaml", "--run-dir", "sines").code == 0
    fields = measured(cli, "sines")
    assert fields["ensemble"]["averaged"] == "outputs"
    each = [measured(cli, path)["per_step"] for path in fields["ensemble"]["checkpoints"]]
    for row, *single in zip(fields["per_step"], *each, strict=True):
        assert row["mse"] <= sum(one["mse"] for one in single) / 2 + 1e-6  # a square is convex
    assert "ensemble of 2 checkpoints, mean of their outputs" in cli("eval", "--checkpoint", "sines").out


def test_the_page_of_an_ensemble_says_so(cli, run, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (the extra metalearn-cli[report])")
    outcome = cli("eval", "--checkpoint", run, "--report", "page.html")
    assert outcome.code == 0, outcome.err
    page = Page((tmp_path / "page.html").read_bytes())
    assert f"{run} ({LABEL}): test" in page.text
    assert f"{LABEL}, mean of their logits; maml, second order" in page.text
    for file in files(run):
        assert str(file) in page.text


def test_the_page_of_a_comparison_says_which_is_the_ensemble(cli, run, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (the extra metalearn-cli[report])")
    best = run / "checkpoints/best.pt"
    outcome = cli("eval", "--checkpoint", best, "--checkpoint", run, "--report", "page.html")
    assert outcome.code == 0, outcome.err
    rows = Page((tmp_path / "page.html").read_bytes()).table("", "checkpoint")
    assert [row[1] for row in rows] == [str(best), f"{run} ({LABEL})"]
