"""The real command in a subprocess, and an experiment that trains in about a second."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.zygote import Zygote

ROOT = Path(__file__).parent.parent
SECONDS = 120
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


def run(data: Path, cwd: Path, *arguments: object, **variables: str) -> Outcome:
    """`metalearn ARGUMENTS`, forked from one process where that can be; what Python reads at its start prevents it."""
    line, env = [*map(str, arguments)], environment(data)
    if sys.platform == "linux" and not any(name.startswith(("PYTHON", "OMP")) for name in variables):
        return Outcome(*_zygote().run(line, cwd, env | variables, SECONDS))
    command = [sys.executable, "-m", "metalearn_cli", *line]
    result = subprocess.run(command, cwd=cwd, env=env | variables, capture_output=True, text=True, timeout=SECONDS)
    return Outcome(result.returncode, result.stdout, result.stderr)


@cache
def _zygote() -> Zygote:
    return Zygote(environment(Path()))
