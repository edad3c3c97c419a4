"""Shell lines in the docs are run, so that they cannot rot."""

import json
import os
import re
import subprocess
import sys

import pytest
import yaml

from metalearn_cli.experiment import read_experiment
from tests.commands import ROOT, TINY, environment

CI = (ROOT / "docs/ci.md").read_text()


def block(name):
    [text] = re.findall(rf"<!-- {name} -->\n```yaml\n(.*?)```", CI, re.DOTALL)
    return text


def test_the_gates_experiment_is_one(tmp_path):
    (tmp_path / "gate.yaml").write_text(block("gate.yaml"))
    assert read_experiment(str(tmp_path / "gate.yaml")).name == "gate"


@pytest.mark.parametrize(("least", "code"), [pytest.param("0.3", 0, marks=pytest.mark.slow), ("0.999", 3)])
def test_the_gate_lets_a_good_learner_pass_and_no_other(tmp_path, data_dir, tiny_run, least, code):
    """The workflow's own lines, on an experiment that is trained already; only the installation is left out."""
    job = yaml.safe_load(block("few-shot.yaml"))["jobs"]["gate"]
    steps = [step for step in job["steps"] if "run" in step and not step["run"].startswith("pip install")]
    assert len(steps) == 4
    (tmp_path / "gate.yaml").write_text(json.dumps(TINY))
    (tmp_path / "run").symlink_to(tiny_run)
    (tmp_path / "metalearn").write_text(f'#!/bin/sh\nexec {sys.executable} -m metalearn_cli "$@"\n')
    (tmp_path / "metalearn").chmod(0o755)
    env = job["env"] | environment(data_dir) | {"LEAST": least, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    found = 0
    for step in steps if code == 0 else steps[2:]:
        if found == 0 or step.get("if") == "always()":
            shell = ["bash", "-euo", "pipefail", "-c", step["run"]]
            done = subprocess.run(shell, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
            found = found or done.returncode
    assert found == code, done.stderr
    assert re.fullmatch(r"accuracy 0\.\d+ \+/- 0\.\d+", done.stdout.splitlines()[-1])
