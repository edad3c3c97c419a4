"""One run of the table: train, measure every column, and keep the figures in a small JSON file."""

import json
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.accuracy.rows import Row, Table
from metalearn_cli.version import own_version


def run(table: Table, row: Row, work: Path, core: int) -> dict[str, Any]:
    """Train `row` on one core, or go on where it was interrupted, then measure it; the result is on disk afterwards.

    `work` keeps the run folders, so that an interrupted run is resumed. Seconds of the processor add up over the calls
    that one run took.
    """
    folder, spent = work / row.name, work / f"{row.name}.seconds"
    work.mkdir(parents=True, exist_ok=True)
    file = work / f"{row.name}.yaml"
    file.write_text(yaml.safe_dump(table.experiment(row), sort_keys=False))
    before = _child_seconds()
    try:
        trained = _metalearn(core, "train", str(file), "--run-dir", str(folder), "--resume", "--json", "--quiet")
    finally:
        seconds = float(spent.read_text()) if spent.exists() else 0.0
        spent.write_text(str(seconds + _child_seconds() - before))
    best = trained["best"]
    columns = {column: _measured(table, row, column, folder, core) for column in table.columns}
    experiment = table.experiment(row)
    result = {
        **row._asdict(),
        "experiment": experiment,
        "iterations": trained["iterations"],
        "tasks": trained["iterations"] * experiment["outer"]["meta_batch_size"],
        "best_iteration": best["iteration"] if best else None,
        "core_seconds": round(float(spent.read_text())),
        "curve": _curve(folder),
        "columns": columns,
        "versions": {"metalearn": own_version(), "torch": torch.__version__, "python": platform.python_version()},
        "processor": _processor(),
    }
    row.result.parent.mkdir(parents=True, exist_ok=True)
    row.result.write_text(json.dumps(result, indent=1) + "\n")
    return result


def _curve(folder: Path) -> list[list[float]]:
    """Iteration and validation accuracy after the last inner step, one pair a validation."""
    reports = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [[report["iteration"], round(report["val"][-1]["score"], 4)] for report in reports]


def _measured(table: Table, row: Row, column: str, folder: Path, core: int) -> dict[str, Any]:
    sets = [word for override in table.measure(row, column) for word in ("--set", override)]
    best, episodes = str(folder / "checkpoints/best.pt"), str(table.source["episodes"])
    found = _metalearn(core, "eval", "--checkpoint", best, "--episodes", episodes, "--json", "--quiet", *sets)
    kept = ("accuracy", "ci95", "ways", "shots", "queries", "episodes", "statistics", "inner_steps", "fingerprint")
    return {key: round(found[key], 6) if isinstance(found[key], float) else found[key] for key in kept}


def _metalearn(core: int, *arguments: str) -> dict[str, Any]:
    """What `metalearn ... --json` prints; the process has one core and one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "metalearn_cli", *arguments]
    done = subprocess.run(
        words,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def _child_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
