import json
import re

import pytest
import torch

from metalearn_cli.experiment import read_experiment as load_experiment
from metalearn_cli.storage.runs.checkpoints import read_checkpoint


def tensors(path):
    return read_checkpoint(path).tensors


def equal(left, right) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], value) for name, value in right.items())


def test_the_same_seed_ends_in_the_same_bits(cli, tiny_config, tiny_run, tmp_path):
    cli("train", tiny_config)
    assert equal(tensors(tmp_path / "runs/tiny/checkpoints/last.pt"), tensors(tiny_run / "checkpoints/last.pt"))


def test_another_seed_ends_in_other_bits(cli, tiny_config, tiny_run, tmp_path):
    cli("train", tiny_config, "--set", "seed=1")
    assert not equal(tensors(tmp_path / "runs/tiny/checkpoints/last.pt"), tensors(tiny_run / "checkpoints/last.pt"))


def test_stopped_and_resumed_ends_in_the_same_bits_as_never_stopped(cli, tiny_config, tiny_run, tmp_path):
    config = [tiny_config, "--run-dir", "stopped"]
    stopped = cli("train", *config, "--max-time", "0s", "--json")
    assert stopped.code == 0
    assert stopped.fields["iterations"] == 1
    resumed = cli("train", *config, "--resume", "--json")
    assert resumed.fields["resumed_from"] == 1
    last = tmp_path / "stopped/checkpoints/last.pt"
    assert equal(tensors(last), tensors(tiny_run / "checkpoints/last.pt"))
    assert read_checkpoint(last).header["window"] == read_checkpoint(tiny_run / "checkpoints/last.pt").header["window"]
    rows = [json.loads(row)["val"] for row in (tmp_path / "stopped/metrics.jsonl").read_text().splitlines()]
    whole = [json.loads(row)["val"] for row in (tiny_run / "metrics.jsonl").read_text().splitlines()]
    assert rows == whole


def test_resuming_with_settings_that_change_the_weights_is_refused_by_name(cli, tiny_config, tiny_run):
    outcome = cli("train", tiny_config, "--run-dir", tiny_run, "--resume", "--set", "algorithm.inner_lr=0.1")
    assert outcome.code == 2
    assert "algorithm.inner_lr: 0.4 before, 0.1 now" in outcome.err


def test_more_iterations_may_be_added(cli, tiny_config, tmp_path):
    cli("train", tiny_config)
    outcome = cli("train", tiny_config, "--resume", "--set", "outer.iterations=6", "--json")
    assert outcome.fields["iterations"] == 6
    cli("train", tiny_config, "--set", "outer.iterations=6", "--run-dir", "whole")
    assert equal(tensors(tmp_path / "runs/tiny/checkpoints/last.pt"), tensors(tmp_path / "whole/checkpoints/last.pt"))


def test_resuming_what_is_finished_changes_nothing(cli, tiny_config, tmp_path):
    cli("train", tiny_config)
    before = (tmp_path / "runs/tiny/checkpoints/last.pt").read_bytes()
    assert cli("train", tiny_config, "--resume").code == 0
    assert (tmp_path / "runs/tiny/checkpoints/last.pt").read_bytes() == before


def test_json_is_one_object_with_the_promised_fields(cli, tiny_config):
    outcome = cli("train", tiny_config, "--json", "--quiet")
    assert outcome.err == ""
    assert next(iter(outcome.fields)) == "schema"
    promised = "run_dir checkpoint last_checkpoint kept_checkpoints iterations algorithm second_order device val best"
    promised += " protocol left_out figures calibration worth"
    others = {"schema", "seconds", "tasks_per_second", "resumed_from", "peak_memory_bytes", "report"}
    assert set(outcome.fields) == others | set(promised.split())
    assert outcome.fields["report"] == "runs/tiny/report.html"
    assert len(outcome.fields["val"]["per_step"]) == 3
    assert outcome.fields["second_order"] is True


def test_metrics_have_one_row_per_report(tiny_run):
    rows = [json.loads(row) for row in (tiny_run / "metrics.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [2, 4]
    assert [step["step"] for step in rows[0]["val"]] == [0, 1, 2]


def test_the_kept_config_is_the_experiment(tiny_run, tiny_config):
    assert load_experiment(str(tiny_run / "config.yaml")) == load_experiment(str(tiny_config))


def test_piped_progress_is_plain_lines_within_80_columns(cli, tiny_config):
    outcome = cli("train", tiny_config)
    assert "\x1b" not in outcome.err + outcome.out
    assert max(len(line) for line in outcome.out.splitlines()) <= 80
    rows = [line for line in outcome.err.splitlines() if line.startswith(("        2 ", "        4 "))]
    assert len(rows) == 2
    assert max(map(len, rows)) <= 80


def test_an_ascii_terminal_gets_no_other_signs(cli, tiny_config):
    outcome = cli("train", tiny_config, PYTHONIOENCODING="ascii")
    assert outcome.code == 0, outcome.err
    assert "+/-" in outcome.out
    assert outcome.out.isascii()


def test_a_dry_run_proves_the_gradient_prints_a_loadable_experiment_and_writes_nothing(cli, tiny_config, tmp_path):
    outcome = cli("train", tiny_config, "--dry-run")
    assert outcome.code == 0, outcome.err
    (tmp_path / "copy.yaml").write_text(outcome.out)
    assert load_experiment(str(tmp_path / "copy.yaml")) == load_experiment(str(tiny_config))
    assert "finite differences agree" in outcome.err
    assert re.search(r"time +[\d.e-]+ s an iteration, [\d.e-]+ s a validation", outcome.err)
    assert re.search(r"first validation after \d+:\d\d:\d\d, end after \d+:\d\d:\d\d", outcome.err)
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_of_first_order_says_how_far_off_it_is(cli, tiny_config):
    outcome = cli("train", tiny_config, "--set", "algorithm.second_order=false", "--dry-run", "--json")
    assert outcome.fields["second_order"] is False
    assert outcome.fields["proof"]["finite_difference_error"] > 1e-3
    assert outcome.fields["proof"]["task_parallel_error"] < 1e-9


def test_list_prints_the_names_of_the_shipped_configs(cli):
    assert {"quickstart", "omniglot/5way1shot", "sinusoid"} <= set(cli("train", "list").out.split())


@pytest.mark.parametrize("text", ["soon", "-3", "5x", ""])
def test_a_wrong_duration_is_refused(cli, tiny_config, text):
    outcome = cli("train", tiny_config, f"--max-time={text}")
    assert outcome.code == 2
    assert "--max-time" in outcome.err


def test_regression_reports_squared_error_with_median_and_diverged_share(cli):
    sizes = ["outer.iterations=4", "eval.every=4", "eval.val_episodes=5", "eval.inner_steps=2"]
    outcome = cli("train", "sinusoid", *(part for size in sizes for part in ("--set", size)))
    assert outcome.code == 0, outcome.err
    for word in ("mse", "median", "diverged %"):
        assert word in outcome.out


def test_a_run_whose_validation_is_never_finite_names_no_best_checkpoint(cli):
    settings = ("algorithm.inner_steps=0", "algorithm.inner_lr=1e30", "outer.iterations=2", "eval.val_episodes=4")
    options = [option for setting in settings for option in ("--set", setting)]
    outcome = cli("train", "sinusoid", *options, "--run-dir", "r", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.fields["checkpoint"] is None
    assert outcome.fields["last_checkpoint"] == "r/checkpoints/last.pt"
    assert "metalearn eval --checkpoint r/checkpoints/last.pt" in outcome.err
    assert "NaN" not in outcome.err


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
@pytest.mark.parametrize("algorithm", ["protonet", "boil", "proto_maml", "unicorn_maml"])
def test_a_linear_network_that_would_learn_nothing_is_refused_in_a_line(cli, tiny_config, algorithm, more, tmp_path):
    network = ["--set", "backbone={name: mlp, hidden: []}", "--set", f"algorithm={{name: {algorithm}}}"]
    outcome = cli("train", tiny_config, *network, *more)
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1].startswith(f"error: algorithm.name: {algorithm} learns what comes before")
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "runs/tiny/checkpoints/last.pt").exists()


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_setting_without_effect_is_said(cli, tiny_config, more):
    outcome = cli("train", tiny_config, "--set", "algorithm={name: protonet}", "--quiet", *more)
    assert outcome.code == 0
    assert "warning: eval.inner_steps: has no effect, protonet takes no inner steps" in outcome.err
