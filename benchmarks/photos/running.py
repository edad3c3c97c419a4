"""One row: trained, measured, and kept as a small JSON file."""

import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.photos.rows import Row
from metalearn_cli.version import own_version

_KEPT = ("accuracy", "ci95", "ways", "shots", "queries", "episodes", "fingerprint", "worth", "promises")


def run(row: Row, work: Path, data: Path) -> dict[str, Any]:
    """The row's result, which is on disk afterwards; `data` has grocery84.zip and grocery224.zip.

    `work` keeps the run folders, so that an interrupted run is resumed.
    """
    folder, before = str(work / row.name), _child_seconds()
    _metalearn(row.prepare(str(data / f"{row.title}.zip")))
    _metalearn([*row.trained(folder), "--resume"])
    found = _metalearn(row.measured(folder))
    return keep(row, found, _child_seconds() - before)


def keep(row: Row, found: Mapping[str, Any], core_seconds: float | None) -> dict[str, Any]:
    """Write what `eval --json` found of a row, with the commands that lead there."""
    commands = [row.prepare(f"{row.title}.zip"), row.trained(f"runs/{row.name}"), row.measured(f"runs/{row.name}")]
    result = {
        "name": row.name, "label": row.label, "size": row.size, "commands": commands,
        "eval": {name: found[name] for name in _KEPT},
        "core_seconds": None if core_seconds is None else round(core_seconds),
        "versions": {"metalearn": own_version(), "torch": torch.__version__, "python": platform.python_version()},
    }  # fmt: skip
    row.result.parent.mkdir(parents=True, exist_ok=True)
    row.result.write_text(json.dumps(result, indent=1) + "\n")
    return result


def _metalearn(arguments: Sequence[str]) -> dict[str, Any]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "metalearn_cli", *arguments, "--json", "--quiet"]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def _child_seconds() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime
