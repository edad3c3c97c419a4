"""Two processes on one machine, started by torchrun, against one."""

import json
import subprocess
import sys

import pytest
import torch

from metalearn_cli.storage.runs.checkpoints import read_checkpoint
from tests.commands import ROOT, Outcome, environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="gloo is tried on Linux alone")


@pytest.fixture
def torchrun(data_dir, tmp_path):
    def run(processes: int, *arguments: object) -> Outcome:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        command = [*launcher, "-m", "metalearn_cli", *map(str, arguments)]
        env = environment(data_dir) | {"TMPDIR": str(tmp_path)}  # torchrun leaves its folder of logs behind
        result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
        return Outcome(result.returncode, result.stdout, result.stderr)

    assert ROOT.exists()
    return run


def rows(folder):
    return [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]


SLOW = pytest.mark.slow
DROPPING = "backbone={name: resnet12, channels: [2, 2, 3, 3], drop_rate: 0.3}"


# 3 cannot be shared evenly
@pytest.mark.parametrize(
    ("tasks", "more"), [pytest.param(2, [], marks=SLOW), pytest.param(3, [], marks=SLOW), (3, ["--set", DROPPING])]
)
def test_two_processes_end_in_the_weights_of_one(cli, torchrun, tiny_config, tmp_path, tasks, more):
    config = [tiny_config, "--set", f"outer.meta_batch_size={tasks}", "--set", "eval.val_episodes=7", *more]
    assert cli("train", *config, "--run-dir", "one").code == 0
    outcome = torchrun(2, "train", *config, "--run-dir", "two", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.fields["iterations"] == 4  # one process prints, and nothing but JSON
    one, two = (read_checkpoint(tmp_path / name / "checkpoints/last.pt").tensors for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-5)
    for alone, together in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], rel=1e-4)
        assert [step["loss"] for step in together["val"]] == pytest.approx(
            [step["loss"] for step in alone["val"]], rel=1e-4
        )


@SLOW
def test_all_processes_stop_at_one_step_and_go_on_from_it(torchrun, tiny_config, tmp_path):
    stopped = torchrun(2, "train", tiny_config, "--max-time", "0s", "--json")
    assert stopped.code == 0, stopped.err
    assert stopped.fields["iterations"] == 1
    resumed = torchrun(2, "train", tiny_config, "--resume", "--json")
    assert (resumed.fields["resumed_from"], resumed.fields["iterations"]) == (1, 4)
    whole = torchrun(2, "train", tiny_config, "--run-dir", "whole")
    assert whole.code == 0
    one, two = (read_checkpoint(tmp_path / name / "checkpoints/last.pt").tensors for name in ("runs/tiny", "whole"))
    assert all(torch.equal(one[name], value) for name, value in two.items())


def test_more_processes_than_tasks_are_refused(torchrun, tiny_config):
    outcome = torchrun(3, "train", tiny_config)
    assert outcome.code != 0
    assert "outer.meta_batch_size: found 2, expected a task or more for each of 3 processes" in outcome.err
