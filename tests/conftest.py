"""Fixtures: the real command, real data where there is some, and one tiny run that many tests read."""

import json
import os
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from metalearn_cli.runtime.machine.compiled import CompileError, compile_kernels, loaded
from tests import commands
from tests.commands import ROOT, TINY, Cli


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Every test draws the same weights, whichever tests its worker ran before."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def run_cli(data_dir) -> Cli:
    return lambda *arguments, cwd=ROOT, **variables: commands.run(data_dir, cwd, *arguments, **variables)


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


def pytest_configure() -> None:
    """Workers side by side take a core each: two that want all cores get in each other's way.

    Kernels are compiled before they begin, so that no command of a test does it. Python's bytecode is kept, also where
    the environment forbids it: without it every command compiles the package, in a third of a small training's time.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)
    elif loaded() is None:
        with suppress(CompileError):
            compile_kernels()
