"""The small training that the campaigns about runs break, its real command, and what it ends in undisturbed."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from metalearn_cli.errors import MetalearnError
from metalearn_cli.storage.runs.checkpoints import Checkpoint, read_checkpoint
from metalearn_cli.storage.runs.run_folder import RunFolder

ROOT = Path(__file__).parent.parent.parent
EXPERIMENT = {
    "name": "sines",
    "dataset": {"name": "sinusoid"},
    "task": {"ways": 1, "shots": 5, "queries": 5},
    "backbone": {"name": "mlp", "hidden": [256, 256]},  # large enough that a save takes longer than a step
    "algorithm": {"name": "maml", "inner_lr": 0.01},
    "outer": {"meta_batch_size": 2, "iterations": 40},
    "eval": {"every": 5, "val_episodes": 8, "inner_steps": 1},
    "checkpoint": {"every": 1},
}
PICTURES = {
    "name": "glyphs",
    "dataset": {"name": "glyphs", "classes": 36, "drawings": 6},
    "task": {"ways": 2, "shots": 1, "queries": 2},
    "backbone": {"name": "conv4", "channels": 4},
    "algorithm": {"name": "meta_sgd", "inner_steps": 2},
    "outer": {"meta_batch_size": 2, "iterations": 3},
    "eval": {"queries": 2, "episodes": 4, "val_episodes": 4, "every": 1},
    "execution": {"threads": 1},
}
"""A training on pictures that takes a second."""


def config(scratch: Path) -> Path:
    """The experiment as a file (JSON is YAML)."""
    path = scratch / "sines.yaml"
    path.write_text(json.dumps(EXPERIMENT))
    return path


def command(*arguments: object, launcher: Sequence[str] = ()) -> list[str]:
    """The real command, by itself or under a launcher."""
    return [sys.executable, *launcher, "-m", "metalearn_cli", *map(str, arguments)]


def environment() -> dict[str, str]:
    """One thread, so that the bits depend on nothing, and this checkout's package."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "TERM": "dumb"}


def run(*arguments: object, launcher: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """What the real command did."""
    return subprocess.run(
        command(*arguments, launcher=launcher), env=environment(), capture_output=True, text=True, timeout=300
    )


def train(config_path: Path, folder: Path, *more: object) -> subprocess.CompletedProcess[str]:
    """`metalearn train` of the experiment into a folder."""
    return run("train", config_path, "--run-dir", folder, "--quiet", *more)


def whole(path: Path) -> Checkpoint | None:
    """The checkpoint, if there is a whole one."""
    try:
        return read_checkpoint(path)
    except MetalearnError:
        return None


def same(found: Checkpoint | None, expected: Checkpoint) -> bool:
    """Whether every tensor is the same, bit for bit."""
    return (
        found is not None
        and found.tensors.keys() == expected.tensors.keys()
        and all(torch.equal(found.tensors[name], value) for name, value in expected.tensors.items())
    )


def rows(folder: Path) -> list[int]:
    """The iterations that metrics.jsonl reports."""
    return [json.loads(line)["iteration"] for line in RunFolder(folder).metrics.read_text().splitlines()]
