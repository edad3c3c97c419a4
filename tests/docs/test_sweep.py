"""The sweep of docs/sweep.md runs as it stands, goes on with its study, and each trial is a run that can be used."""

import json
import re
import subprocess
import sys

import pytest

from tests.commands import ROOT, environment

SCRIPTS = dict(re.findall(r"<!-- (\S+\.py) -->\n```python\n(.*?)```", (ROOT / "docs/sweep.md").read_text(), re.DOTALL))


def swept(folder, data_dir, config, trials):
    (folder / "sweep_optuna.py").write_text(SCRIPTS["sweep_optuna.py"])
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    (programs / "metalearn").write_text(f'#!/bin/sh\nexec {sys.executable} -m metalearn_cli "$@"\n')
    (programs / "metalearn").chmod(0o755)
    env = environment(data_dir)
    env["PATH"] = f"{programs}:{env['PATH']}"
    command = [sys.executable, "sweep_optuna.py", str(config), "--trials", str(trials)]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_two_trials_are_two_runs_and_the_best_is_printed_as_options(tmp_path, data_dir, tiny_config):
    pytest.importorskip("optuna", reason="optuna is not installed: pip install 'metalearn-cli[sweep]'")
    out = swept(tmp_path, data_dir, tiny_config, 2)
    best, place = re.search(r"^best: (\S+) in (\S+)$", out, re.MULTILINE).groups()
    rows = [json.loads(line) for line in (tmp_path / place / "metrics.jsonl").read_text().splitlines()]
    assert float(best) == pytest.approx(max(row["val"][-1]["score"] for row in rows), abs=1e-4)
    assert all((tmp_path / f"sweep/{trial:04}/checkpoints/best.pt").exists() for trial in range(2))
    assert len(re.findall(r"^  --set (?:algorithm|outer)\.\w+=\S+$", out, re.MULTILINE)) == 3


@pytest.mark.slow
def test_the_same_line_again_goes_on_with_the_study(tmp_path, data_dir, tiny_config):
    pytest.importorskip("optuna", reason="optuna is not installed: pip install 'metalearn-cli[sweep]'")
    swept(tmp_path, data_dir, tiny_config, 1)
    swept(tmp_path, data_dir, tiny_config, 2)
    assert sorted(path.name for path in (tmp_path / "sweep").glob("0*")) == ["0000", "0001", "0002"]


@pytest.mark.parametrize("name", ["sweep_optuna.py", "sweep_ray.py"])
def test_the_scripts_are_python(name):
    compile(SCRIPTS[name], name, "exec")
