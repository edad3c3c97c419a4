"""Every command of the tutorial is run as it stands; what makes its virtual environment, in the slow test alone."""

import os
import re
import shutil
import subprocess
import sys
import time

import pytest

from tests.commands import ROOT, environment

COMMANDS = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs/tutorial.md").read_text(), re.DOTALL | re.MULTILINE)
SHORTER = {
    "metalearn train": " --set outer.iterations=4 --set eval.every=4 --set eval.val_episodes=10",
    "metalearn eval": " --episodes 20",
}
"""What makes a command short enough for every run of the tests."""


def typed(command, folder, env, seconds):
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_fewer_than_eight_commands_of_which_the_first_installs():
    assert 1 < len(COMMANDS) < 8
    assert "pip install" in COMMANDS[0]
    assert all(command.startswith(".venv/bin/") for command in COMMANDS[1:])
    assert all("\n" not in command.strip() or "<<'END'" in command for command in COMMANDS)


def test_all_but_the_installation_runs_with_a_short_training(tmp_path, data_dir):
    programs = tmp_path / ".venv/bin"
    programs.mkdir(parents=True)
    for name, arguments in (("metalearn", "-m metalearn_cli "), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {arguments}"$@"\n')
        (programs / name).chmod(0o755)
    out = ""
    for command in COMMANDS[1:]:
        more = next((options for name, options in SHORTER.items() if name in command), "")
        out = typed(command.rstrip("\n") + more, tmp_path, environment(data_dir), 120)
    assert "0.png" in out
    assert (tmp_path / "letters.pt").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_way_from_nothing_takes_less_than_ten_minutes_and_ends_in_right_answers(tmp_path):
    for name in ("README.md", "pyproject.toml", "constraints.txt", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("configs", "metalearn_cli"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "OMP_NUM_THREADS")}
    env = kept | {"METALEARN_DATA": str(tmp_path / "data"), "NO_COLOR": "1", "COLUMNS": "80"}
    started, out, took = time.monotonic(), [], []
    for command in COMMANDS:
        out.append(typed(command, tmp_path, env, 600))
        took.append(time.monotonic() - started - sum(took))
    print("seconds:", ", ".join(f"{seconds:.0f}" for seconds in took), f"= {sum(took):.0f}")  # noqa: T201
    assert sum(took) < 600
    steps = dict(re.findall(r"^│ +(\d) │ +(\d+\.\d) │$", out[4], re.MULTILINE))
    assert float(steps["3"]) > 75
    assert re.search(r"0\.png +│ S ", out[5])
