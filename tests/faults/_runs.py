"""The small training that the campaigns about runs break, its real command, and what it ends in undisturbed."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
FORCE = {"name": "table", "title": "m", "task": "machine", "target": ["force"]}
PEOPLE = {"name": "table", "title": "p", "task": "person", "label": "activity"}
_ON_TABLES = EXPERIMENT | {"eval": EXPERIMENT["eval"] | {"queries": 4}}  # type: ignore[operator]
OF_TABLES = (
    _ON_TABLES | {"name": "rows", "dataset": FORCE, "task": {"ways": 1, "shots": 4, "queries": 4}},
    _ON_TABLES | {"name": "people", "dataset": PEOPLE, "task": {"ways": 2, "shots": 2, "queries": 2}},
)
"""The same training on two prepared tables: values, and classes, whose best checkpoint is calibrated in the end."""
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


def environment(data: Path | None = None) -> dict[str, str]:
    """One thread, so that the bits depend on nothing, and this checkout's package; `data` is the folder of datasets."""
    own = {} if data is None else {"METALEARN_DATA": str(data)}
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "TERM": "dumb", **own}


def run(*arguments: object, launcher: Sequence[str] = (), data: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What the real command did."""
    line = command(*arguments, launcher=launcher)
    return subprocess.run(line, env=environment(data), capture_output=True, text=True, timeout=300)


def train(config_path: Path, folder: Path, *more: object, data: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`metalearn train` of the experiment into a folder."""
    return run("train", config_path, "--run-dir", folder, "--quiet", *more, data=data)


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
    return [row["iteration"] for row in RunFolder(folder).rows()]


def losses(folder: Path) -> list[dict[str, Any]]:
    """What metrics.jsonl reports, but for times: iteration, losses and scores of training and validation."""
    timed = ("tasks_per_second", "seconds")
    return [{key: value for key, value in row.items() if key not in timed} for row in RunFolder(folder).rows()]
