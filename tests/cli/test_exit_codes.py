"""Every row of the table of exit codes, through the real command; none shows a traceback."""

import json
import signal
import subprocess
import sys
import time

import pytest
import torch

from metalearn_cli.storage.runs.checkpoints import read_checkpoint
from tests.commands import ROOT, TINY, environment


def fails(outcome, code, *words):
    assert outcome.code == code, outcome
    assert "Traceback" not in outcome.err + outcome.out
    assert any(line.startswith("error: ") for line in outcome.err.splitlines()), outcome.err
    for word in words:
        assert word in outcome.err


def write(path, **changes):
    path.write_text(json.dumps(TINY | changes))
    return path


def test_0_a_training_run_prints_its_table_and_the_next_command(cli, tiny_config, tmp_path):
    outcome = cli("train", tiny_config)
    assert outcome.code == 0, outcome.err
    assert "accuracy %" in outcome.out
    assert "metalearn eval --checkpoint runs/tiny/checkpoints/best.pt" in outcome.err
    assert {"config.yaml", "metrics.jsonl", "checkpoints"} <= {path.name for path in (tmp_path / "runs/tiny").iterdir()}


def test_1_a_fault_shows_a_traceback_and_where_to_report_it():
    code = (
        "import sys, metalearn_cli.cli as cli\nfrom metalearn_cli.__main__ import main\n"
        "def broken(**_): raise RuntimeError('inner')\ncli.app = broken\nmain()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "please report it" in result.stderr


def test_2_usage_errors_are_one_line_that_names_what_is_wrong(cli):
    fails(cli("train", "quickstart", "--epoch", "3"), 2, "--epoch")
    fails(cli("eval"), 2, "--checkpoint")
    fails(cli("frobnicate"), 2, "frobnicate")
    assert len(cli("train").err.splitlines()) == 1


def test_2_without_a_command_the_help_is_shown(cli):
    outcome = cli()
    assert outcome.code == 2
    assert "finetune" in outcome.err


def test_2_a_missing_config_names_near_ones(cli):
    fails(cli("train", "quikstart"), 2, "quikstart", "quickstart")


def test_2_an_unknown_key_names_file_line_and_the_nearest(cli, tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text(
        "name: x\ndataset: {name: glyphs}\nbackbone: {name: conv4}\nalgorithm:\n  name: maml\n  inner_step: 3\n"
    )
    fails(cli("train", "x.yaml"), 2, "x.yaml:6: algorithm.inner_step: unknown key; did you mean inner_steps?")


def test_2_a_wrong_set_names_it(cli, tiny_config):
    fails(cli("train", tiny_config, "--set", "algorithm.inner_lr=fast"), 2, "--set algorithm.inner_lr", "'fast'")


def test_2_a_dataset_that_is_not_prepared_prints_the_command(cli, tmp_path):
    config = write(tmp_path / "x.yaml", dataset={"name": "folder", "title": "mine"})
    fails(cli("train", config), 2, "metalearn prepare folder", "--set dataset.title=mine")


def test_2_too_many_ways_are_found_before_training(cli, tmp_path):
    config = write(tmp_path / "x.yaml", task={"ways": 500})
    fails(cli("train", config), 2, "task.ways: 500")


def test_2_a_device_that_is_not_there(cli, tiny_config):
    fails(cli("train", tiny_config, "--device", "cuda:99"), 2, "cuda:99")


def test_2_a_checkpoint_that_is_none(cli, tmp_path):
    (tmp_path / "x.pt").write_text("<!DOCTYPE html>")
    fails(cli("eval", "--checkpoint", "x.pt"), 2, "x.pt", "is not a metalearn checkpoint")
    fails(cli("eval", "--checkpoint", "none.pt"), 2, "none.pt")


def test_2_a_run_folder_that_is_taken(cli, tiny_config, tiny_run):
    fails(cli("train", tiny_config, "--run-dir", tiny_run), 2, "--resume")


def test_2_a_run_folder_that_cannot_be_made(cli, tiny_config, tmp_path):
    (tmp_path / "file").write_text("")
    fails(cli("train", tiny_config, "--run-dir", "file/run"), 2, "file")


def test_2_a_full_disk_keeps_what_was_there(cli, tiny_config, tmp_path):
    cli("train", tiny_config)
    kept = (tmp_path / "runs/tiny/checkpoints/last.pt").read_bytes()
    code = (
        "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
        "from metalearn_cli.__main__ import main\nmain()"
    )
    more = [str(tiny_config), "--resume", "--set", "outer.iterations=8"]
    result = subprocess.run(
        [sys.executable, "-c", code, "train", *more],
        cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert (tmp_path / "runs/tiny/checkpoints/last.pt").read_bytes() == kept


def test_2_an_output_that_cannot_be_written(cli, tiny_run, support, tmp_path):
    checkpoint = tiny_run / "checkpoints/best.pt"
    fails(cli("finetune", "--checkpoint", checkpoint, "--support", support, "--output", tmp_path / "no/x.pt"), 2, "no")


def test_3_an_accuracy_below_the_gate_still_prints_the_result(cli, tiny_run):
    outcome = cli("eval", "--checkpoint", tiny_run / "checkpoints/best.pt", "--min-accuracy", "0.999", "--json")
    fails(outcome, 3, "99.90 % was asked")
    assert outcome.fields["accuracy"] < 0.999


def test_3_does_not_come_when_the_gate_is_passed(cli, tiny_run):
    assert cli("eval", "--checkpoint", tiny_run / "checkpoints/best.pt", "--min-accuracy", "0.01").code == 0


def test_4_divergence_names_the_iteration_and_keeps_the_last_good_checkpoint(cli, tiny_config, tmp_path):
    cli("train", tiny_config)
    kept = (tmp_path / "runs/tiny/checkpoints/last.pt").read_bytes()
    blow_up = ["--set", "outer.lr=1e30", "--set", "outer.optimizer=sgd"]
    outcome = cli("train", tiny_config, *blow_up, "--run-dir", "other", "--set", "outer.iterations=50")
    fails(outcome, 4, "iteration", "not finite")
    assert (tmp_path / "runs/tiny/checkpoints/last.pt").read_bytes() == kept


@pytest.mark.parametrize("error", ["MemoryError()", 'RuntimeError("DefaultCPUAllocator: can\'t allocate memory")'])
def test_2_too_little_memory_says_what_to_lower(error):
    code = (
        "import metalearn_cli.cli as cli\nfrom metalearn_cli.__main__ import main\n"
        f"def hungry(**_): raise {error}\ncli.app = hungry\nmain()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 2
    assert "execution.chunk" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_130_and_143_leave_a_checkpoint_and_say_how_to_resume(number, code, tiny_config, data_dir, tmp_path):
    command = [sys.executable, "-m", "metalearn_cli", "train", str(tiny_config), "--set", "outer.iterations=100000"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(data_dir), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    metrics = tmp_path / "runs/tiny/metrics.jsonl"
    deadline = time.monotonic() + 60
    while not metrics.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == code, err
    assert "--resume" in err
    assert "Traceback" not in err
    stopped = read_checkpoint(tmp_path / "runs/tiny/checkpoints/last.pt").header["iteration"]
    size = ["--set", f"outer.iterations={stopped + 2}", "--quiet"]
    run = [sys.executable, "-m", "metalearn_cli", "train", str(tiny_config), *size]
    for more in (["--resume"], ["--run-dir", "never-stopped"]):
        assert (
            subprocess.run([*run, *more], cwd=tmp_path, env=environment(data_dir), stdout=subprocess.PIPE).returncode
            == 0
        )
    resumed, whole = (
        read_checkpoint(tmp_path / place / "checkpoints/last.pt") for place in ("runs/tiny", "never-stopped")
    )
    assert resumed.header["iteration"] == whole.header["iteration"] == stopped + 2
    assert all(torch.equal(resumed.tensors[name], value) for name, value in whole.tensors.items())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_starting_shows_no_traceback(number, tiny_run, data_dir, tmp_path):
    command = [sys.executable, "-m", "metalearn_cli", "eval", "--checkpoint", str(tiny_run / "checkpoints/best.pt")]
    process = subprocess.Popen(
        [*command, "--episodes", "100000"], cwd=tmp_path, env=environment(data_dir), stderr=subprocess.PIPE, text=True
    )
    time.sleep(0.6)
    process.send_signal(number)
    try:
        _, err = process.communicate(timeout=40)
    finally:
        process.kill()
    assert process.returncode == (130 if number == signal.SIGINT else 143), err
    assert "Traceback" not in err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_inside_a_callback_that_cannot_raise_still_ends_the_program(number, code):
    script = (
        "import os, time, weakref\nimport metalearn_cli.cli as cli\nfrom metalearn_cli.__main__ import main\n"
        "class Module: pass\n"
        "def app(**_):\n"
        "    it = Module()\n"
        f"    gone = weakref.ref(it, lambda _: os.kill(os.getpid(), {int(number)}))\n"
        "    del it\n"
        "    time.sleep(60)\n"
        "cli.app = app\nmain()"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=30)
    assert (result.returncode, result.stderr) == (code, "error: interrupted\n")


def test_what_a_finaliser_raises_otherwise_is_still_reported():
    script = (
        "import metalearn_cli.cli as cli\nfrom metalearn_cli.__main__ import main\n"
        "class Module:\n"
        "    def __del__(self): raise ValueError('kept')\n"
        "def app(**_): Module()\n"
        "cli.app = app\nmain()"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=30)
    assert result.returncode == 0
    assert "ValueError: kept" in result.stderr
