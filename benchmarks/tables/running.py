"""One row of the page: train and measure a learner, or let a rival answer the same episodes; kept in a JSON file."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.tables import oscillators, series
from benchmarks.tables.rows import Row, Table
from metalearn_cli import evaluate
from metalearn_cli.experiment import Experiment, read_experiment
from metalearn_cli.runtime.run.evaluation import Step
from metalearn_cli.runtime.use.measurement import Result
from metalearn_cli.version import own_version


def run(table: Table, row: Row, work: Path) -> dict[str, Any]:
    """Train and measure `row`, or go on where its training was interrupted; the result is on disk afterwards."""
    if row.part == "series":
        series.prepared(table, row, work)
    began, before = time.monotonic(), _seconds()
    found = _rival(table, row) if table.is_rival(row) else _learner(table, row, work)
    result = {
        **row._asdict(), "set": table.overrides(row), **found,
        "core_seconds": round(_seconds() - before), "wall_seconds": round(time.monotonic() - began),
        "versions": {"metalearn": own_version(), "torch": torch.__version__, "python": platform.python_version()},
    }  # fmt: skip
    row.result.parent.mkdir(parents=True, exist_ok=True)
    row.result.write_text(json.dumps(result, indent=None) + "\n")
    return result


def _learner(table: Table, row: Row, work: Path) -> dict[str, Any]:
    folder, part = work / row.name, table.source[row.part]
    sets = [word for one in table.overrides(row) for word in ("--set", one)]
    trained = _metalearn("train", part["config"], *sets, "--run-dir", str(folder), "--resume", "--json", "--quiet")
    result = evaluate(folder / "checkpoints/best.pt", episodes=part["episodes"], device="cpu")
    best = trained["best"]
    return {
        "iterations": trained["iterations"],
        "best_iteration": best["iteration"] if best else None,
        "fingerprint": result.fingerprint,
        "steps": _steps(result.steps, result.explained),
        **({"families": _families(result)} if result.families else {}),
        "scores": rounded(result.scores),
        **({"machines": oscillators.machines(_experiment(table, row), len(result.scores))} if _grouped(row) else {}),
    }


def _families(result: Result) -> dict[str, dict[str, Any]]:
    return {one.name: {"episodes": one.episodes, "steps": _steps(one.steps, one.explained)} for one in result.families}


def _steps(steps: Sequence[Step], explained: Sequence[float]) -> list[dict[str, float]]:
    """Each step's score with its interval, and of a regression the median and R2."""
    shares = list(explained) or [None] * len(steps)
    return [
        {
            "step": step.step,
            "score": _rounded(step.score),
            "ci95": _rounded(step.ci95),
            **({} if share is None else {"median": _rounded(step.median), "explained": _rounded(share)}),
        }
        for step, share in zip(steps, shares, strict=True)
    ]


def _rival(table: Table, row: Row) -> dict[str, Any]:
    experiment, episodes = _experiment(table, row), table.source[row.part]["episodes"]
    answered = oscillators.answered if row.part == "oscillators" else series.answered
    scores, told = answered(row.learner, experiment, episodes)
    return {"scores": rounded(scores), "told": told}


def _experiment(table: Table, row: Row) -> Experiment:
    return read_experiment(table.source[row.part]["config"], table.overrides(row))


def _grouped(row: Row) -> bool:
    return row.part == "oscillators"


def rounded(scores: torch.Tensor) -> list[float]:
    """Scores with five digits, which is more than their intervals say."""
    return [_rounded(float(score)) for score in scores]


def _rounded(score: float) -> float:
    return float(f"{score:.5g}")


def _metalearn(*arguments: str) -> dict[str, Any]:
    words = [sys.executable, "-m", "metalearn_cli", *arguments]
    done = subprocess.run(
        words, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True
    )
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def _seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system
