"""Fixtures: the real command in a subprocess, real data where there is some, and one tiny run that many tests read."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
TINY = {
    "name": "tiny",
    "dataset": {"name": "glyphs", "classes": 40},
    "task": {"ways": 2, "shots": 1, "queries": 2},
    "backbone": {"name": "conv4", "channels": 4},
    "algorithm": {"name": "maml"},
    "outer": {"meta_batch_size": 2, "iterations": 4},
    "eval": {"queries": 3, "episodes": 20, "val_episodes": 10, "every": 2, "inner_steps": 2},
}


class Outcome(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def fields(self) -> dict:
        return json.loads(self.out)


Cli = Callable[..., Outcome]


def environment(data: Path) -> dict[str, str]:
    unwanted = {"GITHUB_ACTIONS", "FORCE_COLOR", "PY_COLORS"}
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return {
        **kept,
        "METALEARN_DATA": str(data),
        "PYTHONPATH": str(ROOT),
        "NO_COLOR": "1",
        "TERM": "dumb",
        "COLUMNS": "80",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def run_cli(data_dir) -> Cli:
    def run(*arguments: object, cwd: Path = ROOT, **variables: str) -> Outcome:
        command = [sys.executable, "-m", "metalearn_cli", *map(str, arguments)]
        env = environment(data_dir) | variables
        result = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120)
        return Outcome(result.returncode, result.stdout, result.stderr)

    return run


@pytest.fixture
def cli(run_cli, tmp_path) -> Cli:
    """`cli("train", ...)` runs the real command in the test's own folder."""
    return lambda *arguments, **options: run_cli(*arguments, **({"cwd": tmp_path} | options))


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory) -> Path:
    """An experiment that trains in about a second, as a file (JSON is YAML)."""
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(json.dumps(TINY))
    return path


@pytest.fixture(scope="session")
def tiny_run(run_cli, tiny_config, tmp_path_factory) -> Path:
    """The run folder of the tiny experiment, trained to its end by the real command."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    outcome = run_cli("train", tiny_config, "--run-dir", folder)
    assert outcome.code == 0, outcome.err
    return folder


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data that METALEARN_TEST_DATA names; without it the test is skipped."""
    found = os.environ.get("METALEARN_TEST_DATA")
    if not found:
        pytest.skip("METALEARN_TEST_DATA is not set: no real data to test with")
    return Path(found)
