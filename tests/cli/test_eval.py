import math
import re
from types import SimpleNamespace

import pytest

from metalearn_cli.errors import CheckpointError
from metalearn_cli.runtime.run.evaluation import Step
from metalearn_cli.runtime.use import measurement, seeds
from metalearn_cli.storage.runs.checkpoints import Checkpoint, read_checkpoint, save
from tests.report.reading import Page
from tests.untrained import SINES, checkpoint_of


def test_json_is_one_object_with_the_promised_fields(cli, tiny_run):
    outcome = cli("eval", "--checkpoint", tiny_run / "checkpoints/best.pt", "--json", "--quiet")
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    promised = (
        "schema checkpoint ensemble dataset split ways shots queries episodes statistics inner_steps second_order "
        "fingerprint chance per_step accuracy ci95 seconds algorithm report figures not_finite promises worth"
    )
    assert set(outcome.fields) == set(promised.split())
    assert [row["step"] for row in outcome.fields["per_step"]] == [0, 1, 2]
    assert outcome.fields["accuracy"] == outcome.fields["per_step"][-1]["accuracy"]
    assert outcome.fields["chance"] == 0.5
    assert outcome.fields["split"] == "test"
    assert outcome.fields["ensemble"] is None


def test_the_same_checkpoint_scores_the_same_twice(cli, tiny_run):
    first, second = (cli("eval", "--checkpoint", tiny_run / "checkpoints/best.pt", "--json") for _ in range(2))
    assert first.fields["per_step"] == second.fields["per_step"]
    assert first.fields["fingerprint"] == second.fields["fingerprint"]


def test_statistics_and_queries_can_be_overridden_and_are_named(cli, tiny_run):
    options = ["--set", "eval.statistics=support", "--set", "eval.queries=5"]
    outcome = cli("eval", "--checkpoint", tiny_run / "checkpoints/best.pt", *options, "--json")
    assert outcome.fields["statistics"] == "support"
    assert outcome.fields["queries"] == 5


def test_more_inner_steps_than_in_training_can_be_asked(cli, tiny_run):
    outcome = cli("eval", "--checkpoint", tiny_run / "checkpoints/best.pt", "--set", "eval.inner_steps=5", "--json")
    assert len(outcome.fields["per_step"]) == 6


def test_val_can_be_asked_and_train_cannot(cli, tiny_run):
    assert cli("eval", "--checkpoint", tiny_run / "checkpoints/best.pt", "--split", "val").code == 0
    assert cli("eval", "--checkpoint", tiny_run / "checkpoints/best.pt", "--split", "train").code == 2


def test_until_ci_draws_more_episodes_only_while_the_interval_is_wide(cli, tiny_run):
    options = ["--episodes", "400", "--json"]
    wide = cli("eval", "--checkpoint", tiny_run / "checkpoints/best.pt", "--until-ci", "0.9", *options)
    narrow = cli("eval", "--checkpoint", tiny_run / "checkpoints/best.pt", "--until-ci", "0.0001", *options)
    assert wide.fields["episodes"] < 400
    assert narrow.fields["episodes"] == 400


def test_two_checkpoints_are_compared_on_the_same_episodes(cli, tiny_run):
    best, last = tiny_run / "checkpoints/best.pt", tiny_run / "checkpoints/last.pt"
    outcome = cli("eval", "--checkpoint", best, "--checkpoint", last, "--checkpoint", best, "--json")
    left, right, again = outcome.fields["checkpoints"]
    assert left["fingerprint"] == right["fingerprint"]
    difference = outcome.fields["paired"][0]["difference"]
    assert abs(difference - (right["accuracy"] - left["accuracy"])) < 1e-6
    assert outcome.fields["paired"][1] == {"difference": 0.0, "ci95": 0.0, "episodes": 20, "unlike": []}
    assert again["accuracy"] == left["accuracy"]


def test_the_table_fits_80_columns_and_names_protocol_and_order(cli, tiny_run):
    outcome = cli("eval", "--checkpoint", tiny_run / "checkpoints/best.pt")
    assert max(len(line) for line in outcome.out.splitlines()) <= 80
    for words in ("second order", "transductive", "chance 50.0 %", "20 episodes"):
        assert words in outcome.out


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("backbone.channels=8", "backbone.channels: {path} was trained with 4"),
        ("algorithm.second_order=false", "algorithm.second_order: {path} was trained with True"),
        ("dataset.seed=1", "dataset.seed: {path} was trained with 0; with 1 it may have been trained on the classes"),
    ],
)
def test_what_was_trained_cannot_be_renamed_afterwards(cli, tiny_run, setting, message):
    path = tiny_run / "checkpoints/best.pt"
    outcome = cli("eval", "--checkpoint", path, "--set", setting)
    assert outcome.code == 2
    assert message.format(path=path) in outcome.err
    assert "Traceback" not in outcome.err


def test_a_dataset_that_was_prepared_otherwise_since_is_refused(tiny_run, tmp_path, data_dir, monkeypatch):
    monkeypatch.setenv("METALEARN_DATA", str(data_dir))
    checkpoint = read_checkpoint(tiny_run / "checkpoints/best.pt")
    save(tmp_path / "other.pt", Checkpoint({**checkpoint.header, "data_sha256": "0" * 64}, checkpoint.tensors))
    with pytest.raises(CheckpointError, match="trained on other data than the prepared glyphs holds now"):
        measurement.evaluate(tmp_path / "other.pt", episodes=4, device="cpu")


def test_checkpoints_that_need_unlike_numbers_of_episodes_are_compared_on_the_common_ones(cli, tiny_run):
    both = [part for name in ("last.pt", "best.pt") for part in ("--checkpoint", tiny_run / "checkpoints" / name)]
    outcome = cli("eval", *both, "--set", "eval.episodes=400", "--until-ci", "0.025", "--json")
    assert outcome.code == 0, outcome.err
    counts = [one["episodes"] for one in outcome.fields["checkpoints"]]
    assert outcome.fields["paired"][0]["episodes"] == min(counts)


@pytest.mark.parametrize("remedy", ["learned_rates", "per_step_norm"])
def test_steps_that_were_never_learned_are_refused_with_how_many_there_are(cli, tiny_config, remedy):
    given = [
        "--set",
        "algorithm.name=maml_plus_plus",
        "--set",
        "algorithm.inner_steps=2",
        "--set",
        "eval.inner_steps=3",
    ]
    for one in ("learned_rates", "per_step_norm"):
        given += ["--set", f"algorithm.{one}={'true' if one == remedy else 'false'}"]
    outcome = cli("train", tiny_config, *given)
    assert outcome.code == 2
    assert "eval.inner_steps: found 3, expected at most 2: maml_plus_plus learns rates or norms" in outcome.err


def test_no_inner_step_can_be_asked(cli, tiny_run):
    outcome = cli("eval", "--checkpoint", tiny_run / "checkpoints/best.pt", "--set", "eval.inner_steps=0", "--json")
    assert [row["step"] for row in outcome.fields["per_step"]] == [0]


def test_seeds_of_one_experiment_are_summarised(cli, tiny_run, tiny_config, tmp_path):
    other = tmp_path / "seed1"
    assert cli("train", tiny_config, "--set", "seed=1", "--run-dir", other).code == 0
    options = [option for folder in (tiny_run, other) for option in ("--checkpoint", folder / "checkpoints/last.pt")]
    fields = cli("eval", *options, "--json").fields
    first, second = (one["accuracy"] for one in fields["checkpoints"])
    spread = fields["over_seeds"]
    assert spread["seeds"] == [0, 1]
    assert spread["mean"] == pytest.approx((first + second) / 2)
    assert spread["std"] == pytest.approx(abs(first - second) / 2**0.5)
    shown = cli("eval", *options).out
    assert "over seeds 0, 1:" in shown
    assert "standard deviation over seeds" in shown


@pytest.mark.parametrize("diverged", [math.inf, math.nan])
def test_a_seed_whose_error_is_not_finite_has_no_spread_and_is_no_fault(diverged):
    results = [
        SimpleNamespace(seed=seed, recipe="", steps=[Step(0, score, 0.1, score, score, 0.0)])
        for seed, score in enumerate((0.5, 0.7, diverged))
    ]
    found = seeds.over_seeds(results)
    assert found.seeds == [0, 1, 2]
    assert math.isnan(found.std)
    assert not math.isfinite(found.mean)


def test_checkpoints_of_one_seed_have_no_spread_over_seeds(cli, tiny_run):
    best, last = tiny_run / "checkpoints/best.pt", tiny_run / "checkpoints/last.pt"
    assert cli("eval", "--checkpoint", best, "--checkpoint", last, "--json").fields["over_seeds"] is None


def diverging(path, data_dir, inner_lr: float, **blocks):
    algorithm = {"name": "maml", "inner_lr": inner_lr}
    return checkpoint_of(path / "diverging.pt", data_dir, **({"algorithm": algorithm} | blocks))


STEPS = {"queries": 3, "episodes": 40, "inner_steps": 4}


def test_episodes_that_diverge_count_as_wrong_and_are_said(cli, data_dir, tmp_path):
    checkpoint = diverging(tmp_path, data_dir, 1e12, eval=STEPS)
    outcome = cli("eval", "--checkpoint", checkpoint, "--report", "page.html", "--json")
    assert outcome.code == 0, outcome.err
    fields = outcome.fields
    lost = fields["not_finite"]
    assert 0 < lost < 40
    said = f"in {lost} of 40 episodes answers after the last inner step are not finite; such answers count as wrong"
    assert said in outcome.err
    assert fields["accuracy"] <= 1 - lost / 40 + 1e-9
    assert fields["per_step"][-1]["loss"] is None
    shown = cli("eval", "--checkpoint", checkpoint).out
    page = (tmp_path / "page.html").read_text()
    assert f"{lost} of them with answers that are not finite" in page
    assert "no class, as no output is finite" in page
    for text in (shown, page.partition("Settings")[0]):
        assert not re.search(r"\bnan\b|\binf\b", text)


def test_the_classes_on_the_page_add_up_also_where_episodes_diverge(cli, data_dir, tmp_path):
    checkpoint = diverging(tmp_path, data_dir, 1e12, eval=STEPS)
    fields = cli("eval", "--checkpoint", checkpoint, "--report", "page.html", "--json").fields
    classes = Page((tmp_path / "page.html").read_bytes()).table("class", "accuracy %")
    right, queries = (sum(int(row[column]) for row in classes) for column in (2, 3))
    assert right / queries == pytest.approx(fields["accuracy"])


def test_a_test_in_which_every_episode_diverges_ends_with_4_and_names_the_step(cli, data_dir, tmp_path):
    outcome = cli("eval", "--checkpoint", diverging(tmp_path, data_dir, 1e20, eval=STEPS))
    assert outcome.code == 4
    assert outcome.out == ""
    assert re.search(r"^error: .*diverging.pt: inner step 1: no answer of 40 episodes is finite$", outcome.err)


def test_a_regression_of_which_some_diverge_has_a_median_and_no_mean(cli, data_dir, tmp_path):
    blocks = SINES | {"algorithm": {"name": "maml", "inner_lr": 0.1}, "eval": STEPS | {"inner_steps": 8}}
    checkpoint = checkpoint_of(tmp_path / "sines.pt", data_dir, **blocks)
    outcome = cli("eval", "--checkpoint", checkpoint, "--json")
    assert outcome.code == 0, outcome.err
    assert 0 < outcome.fields["not_finite"] < 20
    assert outcome.fields["mse"] is None
    assert outcome.fields["per_step"][-1]["median"] > 0
    assert "their mean is no number; see the median" in outcome.err
    both = cli("eval", "--checkpoint", checkpoint, "--checkpoint", checkpoint)
    assert both.code == 0, both.err
    assert "the difference is no number, as answers are not finite" in both.out
    assert not re.search(r"\bnan\b|\binf\b", both.out)


def test_functions_of_several_families_have_a_result_for_each(cli, tmp_path, data_dir):
    dataset = {"name": "functions", "of": ["tanh", "line"]}
    checkpoint_of(tmp_path / "functions.pt", data_dir, **SINES | {"dataset": dataset})
    line = ("eval", "--checkpoint", "functions.pt", "--episodes", "12")
    shown = cli(*line, "--report", "page.html")
    assert shown.code == 0, shown.err
    found = cli(*line, "--json", "--quiet").fields
    names = [one["name"] for one in found["families"]]
    assert names == ["line", "tanh"]
    for step, row in enumerate(found["per_step"]):
        of_family = [(one["episodes"], one["per_step"][step]["mse"]) for one in found["families"]]
        assert sum(count for count, _ in of_family) == 12
        assert sum(count * mse for count, mse in of_family) / 12 == pytest.approx(row["mse"])
    assert "mean squared error of each family, after 2 inner steps" in shown.out
    [rows] = [rows for rows in Page((tmp_path / "page.html").read_bytes()).tables if rows[0][0] == "family"]
    assert [row[:2] for row in rows[1:]] == [[one["name"], str(one["episodes"])] for one in found["families"]]
    last = [one["per_step"][-1]["mse"] for one in found["families"]]
    assert [float(row[3]) for row in rows[1:]] == pytest.approx(last, rel=1e-3)
