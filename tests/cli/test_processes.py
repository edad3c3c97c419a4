"""A run that starts its other processes itself (execution.processes), against one process."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from metalearn_cli.errors import ConfigError, RunError
from metalearn_cli.runtime.machine.processes import beside
from metalearn_cli.storage.runs.checkpoints import read_checkpoint
from tests.commands import SECONDS, environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="gloo is tried on Linux alone")
TWO = ["--set", "execution.processes=2"]


@pytest.fixture
def started(data_dir, tiny_config, tmp_path):
    """A run of two processes that would go on for long, after its first iterations; and its other process."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    endless = [*TWO, "--set", "outer.iterations=1000000", "--set", "checkpoint.every=1"]
    command = [sys.executable, "-m", "metalearn_cli", "train", tiny_config, *endless]
    env = environment(data_dir) | {"TMPDIR": str(temporary)}
    run = subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: (tmp_path / "runs/tiny/checkpoints/previous.pt").exists())
    (other,) = children_of(run.pid)
    yield run, other
    run.kill()
    run.wait()
    run.stderr.close()
    wait_for(lambda: not alive(other))


def wait_for(condition) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children_of(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def alive(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def iteration(run: Path) -> int:
    return read_checkpoint(run / "checkpoints/last.pt").header["iteration"]


def test_two_processes_end_in_the_weights_of_one_and_one_prints(cli, tiny_config, tmp_path):
    assert cli("train", tiny_config, "--run-dir", "one").code == 0
    outcome = cli("train", tiny_config, *TWO, "--run-dir", "two", "--json", TMPDIR=str(tmp_path))
    assert outcome.code == 0, outcome.err
    assert outcome.fields["iterations"] == 4
    assert outcome.err.count("conv4 on cpu in 2 processes") == 1
    one, two = (read_checkpoint(tmp_path / name / "checkpoints/last.pt").tensors for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-5)
    assert not list(tmp_path.glob("metalearn-run-*"))


def test_a_run_of_two_processes_goes_on_in_one(cli, tiny_config, tmp_path):
    stopped = cli("train", tiny_config, *TWO, "--max-time", "0s", "--json")
    assert stopped.fields["iterations"] == 1, stopped.err
    resumed = cli("train", tiny_config, "--resume", "--json")
    assert (resumed.fields["resumed_from"], resumed.fields["iterations"]) == (1, 4)
    assert "processes: 2 before, 1 now" in resumed.err


def test_a_signal_to_the_first_stops_all_with_a_checkpoint(started, tmp_path):
    run, other = started
    run.send_signal(signal.SIGTERM)
    _, errors = run.communicate(timeout=SECONDS)
    assert run.returncode == 128 + signal.SIGTERM
    assert "--resume" in errors
    assert "Traceback" not in errors
    assert iteration(tmp_path / "runs/tiny") > 0
    wait_for(lambda: not alive(other))
    assert not list((tmp_path / "temporary").glob("metalearn-run-*"))


def test_a_second_interrupt_ends_all_at_once_though_the_other_hangs(started, tmp_path):
    run, other = started
    os.kill(other, signal.SIGSTOP)
    time.sleep(0.5)
    run.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert run.poll() is None  # it waits for the other, inside a library
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=10)
    assert run.returncode == 128 + signal.SIGINT
    wait_for(lambda: not alive(other))
    assert not list((tmp_path / "temporary").glob("metalearn-run-*"))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_wait_for_ranks_that_never_come_is_said_and_ends_with_a_signal(data_dir, tiny_config, tmp_path, name):
    ranks = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29571"}
    command = [sys.executable, "-m", "metalearn_cli", "train", tiny_config, "--run-dir", tmp_path / "run"]
    env = environment(data_dir) | ranks
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as run:
        for line in run.stderr:
            if "process 1 of 2 (WORLD_SIZE) waits for the others at 127.0.0.1:29571" in line:
                break
        run.send_signal(getattr(signal, name))
        _, errors = run.communicate(timeout=10)
    assert run.returncode == 128 + getattr(signal, name)
    assert "Traceback" not in errors


def test_variables_that_were_left_over_do_not_make_it_one_process(cli, tiny_config, tmp_path):
    for number, variables in enumerate([{"WORLD_SIZE": ""}, {"WORLD_SIZE": "1"}, {"RANK": "1", "LOCAL_RANK": "7"}]):
        outcome = cli("train", tiny_config, *TWO, "--run-dir", str(number), TMPDIR=str(tmp_path), **variables)
        assert outcome.code == 0, outcome.err
        assert "conv4 on cpu in 2 processes" in outcome.err


def test_when_the_other_is_killed_the_first_says_so_and_the_run_goes_on_later(started, cli, tiny_config, tmp_path):
    run, other = started
    os.kill(other, signal.SIGKILL)
    _, errors = run.communicate(timeout=SECONDS)
    assert run.returncode == 2
    assert "error: process 0: another process of this run has ended" in errors
    assert "go on with --resume" in errors
    assert "Traceback" not in errors
    reached = iteration(tmp_path / "runs/tiny")
    settings = ["--set", f"outer.iterations={reached + 2}", "--set", "checkpoint.every=1"]
    resumed = cli("train", tiny_config, *settings, "--resume", "--json")
    assert resumed.fields["iterations"] == reached + 2, resumed.err


def test_when_the_first_is_killed_the_other_ends_and_nothing_stays(started, tmp_path):
    run, other = started
    assert list((tmp_path / "temporary").glob("metalearn-run-*"))
    run.kill()
    wait_for(lambda: not alive(other))
    assert not list((tmp_path / "temporary").glob("metalearn-run-*"))


def test_one_that_does_not_start_ends_the_run_with_its_own_words(capfd, monkeypatch):
    surroundings = dict(os.environ)
    monkeypatch.setattr(os, "environ", surroundings)
    with (
        pytest.raises(RunError, match="process 1 of this run ended with 2 before it had begun"),
        beside(2, lambda _shared: ["train", "no-such-file.yaml"], torch.device("cpu")),
    ):
        pytest.fail("the block was entered")
    assert "no-such-file.yaml" in capfd.readouterr().err


def test_gpus_are_left_to_torchrun(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(ConfigError, match=r"execution\.processes: found 2"), beside(2, list, torch.device("cuda")):
        pytest.fail("the block was entered")


def test_more_processes_than_tasks_are_refused_once(cli, tiny_config):
    outcome = cli("train", tiny_config, "--set", "execution.processes=3")
    assert outcome.code == 2
    assert outcome.err.count("expected a task or more for each of 3 processes") == 1


def test_the_plan_says_so(cli, tiny_config):
    outcome = cli("train", tiny_config, *TWO, "--dry-run")
    assert json.dumps(outcome.out).count("processes: 2") == 1
