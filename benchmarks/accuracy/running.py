"""One run of the table: train, measure every column, and keep the figures in a small JSON file."""

import json
import os
import platform
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.accuracy.rows import Line, Row, Table
from benchmarks.photos.rows import rows as photo_rows
from metalearn_cli.runtime.machine.inventory import describe_machine
from metalearn_cli.version import own_version

UNDER_WAY: set[subprocess.Popen[str]] = set()
"""The processes that compute at the moment."""


def run(table: Table, row: Row, work: Path, core: int) -> dict[str, Any]:
    """Train `row` on one core, or go on where it was interrupted, then measure it; the result is on disk afterwards.

    `work` keeps the run folders, so that an interrupted run is resumed. Seconds of the processor add up over the calls
    that one run took.
    """
    commit = _commit()  # of the training, also if this checkout moves on during it
    _prepare(table, row, core)
    folder, spent = work / row.name, work / f"{row.name}.seconds"
    work.mkdir(parents=True, exist_ok=True)
    file = work / f"{row.name}.yaml"
    file.write_text(yaml.safe_dump(table.experiment(row), sort_keys=False))
    trained = _metalearn(
        core, "train", str(file), "--run-dir", str(folder), "--resume", "--json", "--quiet", spent=spent
    )
    best = trained["best"]
    own, *also = table.lines(row)
    experiment = table.experiment(row)
    result = {
        **{key: value for key, value in row._asdict().items() if value != ""},
        "experiment": experiment,
        "iterations": trained["iterations"],
        "tasks": trained["iterations"] * experiment["outer"]["meta_batch_size"],
        "best_iteration": best["iteration"] if best else None,
        "core_seconds": round(float(spent.read_text())),
        "curve": _curve(folder),
        "columns": _columns(table, row, own, folder, core),
        **({"also": {line.also: _columns(table, row, line, folder, core) for line in also}} if also else {}),
        "versions": {
            "metalearn": own_version(),
            "commit": commit,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "processor": _processor(),
    }
    row.result.parent.mkdir(parents=True, exist_ok=True)
    row.result.write_text(json.dumps(result, indent=1) + "\n")
    return result


def _curve(folder: Path) -> list[list[float]]:
    """Iteration and validation accuracy after the last inner step, one pair a validation."""
    reports = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [[report["iteration"], round(report["val"][-1]["score"], 4)] for report in reports]


def _prepare(table: Table, row: Row, core: int) -> None:
    """Store the photos of a domain of photos, as benchmarks.photos does for its row that learns from scratch."""
    if source := table.domain(row.setting).get("prepare"):
        scratch = next(photos for photos in photo_rows() if photos.name == "scratch-84")
        command = scratch.prepare(str(Path(os.environ["METALEARN_TEST_DATA"]) / source))
        _metalearn(core, *command)


def _columns(table: Table, row: Row, line: Line, folder: Path, core: int) -> dict[str, Any]:
    return {column: _measured(table, row, column, line, folder, core) for column in table.columns(row.setting, line)}


def _measured(table: Table, row: Row, column: str, line: Line, folder: Path, core: int) -> dict[str, Any]:
    sets = [word for override in table.measure(row, column, line) for word in ("--set", override)]
    every = table.said(line, row.setting).get("checkpoint") == "all"
    checkpoint, episodes = folder if every else folder / "checkpoints/best.pt", table.domain(row.setting)["episodes"]
    words = ["eval", "--checkpoint", str(checkpoint), "--episodes", str(episodes), *sets]
    found = _metalearn(core, *words)
    kept = ("accuracy", "ci95", "ways", "shots", "queries", "episodes", "statistics", "inner_steps", "fingerprint")
    return {key: round(found[key], 6) if isinstance(found[key], float) else found[key] for key in kept}


def _metalearn(core: int, *arguments: str, spent: Path | None = None) -> dict[str, Any]:
    """What `metalearn ... --json` prints; the process has one core and one thread.

    The seconds of the processor that it took are added to those in the file `spent`, also if it fails.
    """
    words = [sys.executable, "-m", "metalearn_cli", *arguments, "--json", "--quiet"]
    environment, alone = os.environ | {"OMP_NUM_THREADS": "1"}, partial(os.sched_setaffinity, 0, {core})
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment, preexec_fn=alone) as process:
        assert process.stdout is not None
        UNDER_WAY.add(process)
        try:
            output = process.stdout.read()
        finally:
            # The time of this process alone; getrusage adds that of other rows, which other threads wait for.
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            UNDER_WAY.discard(process)
            if spent is not None:
                before = float(spent.read_text()) if spent.exists() else 0.0
                spent.write_text(str(before + used.ru_utime + used.ru_stime))
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words)
    printed: dict[str, Any] = json.loads(output)
    return printed


def _commit() -> str:
    """The commit of this checkout, as core-hours differ between versions."""
    words = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()


def _processor() -> str:
    """Its name and its widest vectors: processors of one name can differ by more than twice in speed."""
    processor = describe_machine()["cpu"]
    return f"{processor['name']}, {processor['capability']}"
