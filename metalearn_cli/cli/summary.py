"""The result of a training: a table and a few lines for people, one JSON object for scripts."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from metalearn_cli.cli import tables
from metalearn_cli.cli.promising import calibration_line, print_tables, worth_fields, worth_tables
from metalearn_cli.cli.rows import score_cell, score_digits, speed_cell
from metalearn_cli.cli.signs import clock, digits, sparkline, writes_unicode
from metalearn_cli.runtime.machine.memory import peak_bytes
from metalearn_cli.runtime.run.evaluation import Step
from metalearn_cli.runtime.run.forecast import Forecast
from metalearn_cli.runtime.run.promises import Calibration
from metalearn_cli.runtime.run.reports import Report
from metalearn_cli.runtime.run.session import Session
from metalearn_cli.storage.runs.run_folder import RunFolder

if TYPE_CHECKING:
    from metalearn_cli.runtime.use.simpler_learners import Compared

_SPARKS = 40


class Validation(NamedTuple):
    """A row of metrics.jsonl: its iteration, the scores after each inner step, and whether it was the best so far."""

    iteration: int
    steps: list[Step]
    best: bool


class Outcome(NamedTuple):
    """The result of a call of `train`: its last iteration, its Reports, its duration in seconds, its page and figures.

    `left_out`: the parts for which there was no time. `promised`: the calibrations of the best checkpoint, with the
    seconds that they took. `worth`: the comparison with simpler learners (only for your own pictures).
    """

    session: Session
    iteration: int
    reports: Sequence[Report]
    seconds: float
    page: Path | None
    figures: Path | None = None
    left_out: Sequence[str] = ()
    promised: Sequence[Calibration] = ()
    calibrating_took: float = 0.0
    worth: "Sequence[Compared]" = ()

    @property
    def last(self) -> Report | None:
        """The last Report of this call."""
        return self.reports[-1] if self.reports else None

    @property
    def accuracy(self) -> bool:
        """Whether the scores are accuracies; otherwise they are squared errors."""
        return self.session.data.interface.tells_classes_apart

    @property
    def checkpoint(self) -> Path:
        """The best checkpoint, or the last one if no validation was finite."""
        folder = self.session.folder
        return folder.best if folder.best.exists() else folder.last


def validations(session: Session) -> list[Validation]:
    """All validations of the run so far, also of the calls before this one."""
    return [
        Validation(row["iteration"], [_step(step) for step in row["val"]], row["best"]) for row in session.folder.rows()
    ]


def outcome_fields(outcome: Outcome) -> dict[str, Any]:
    """Fields for JSON that describe the outcome."""
    session, last, val = outcome.session, outcome.last, None
    if last is not None:
        steps = tables.steps_fields(last.val, outcome.accuracy)
        val = {"per_step": steps} | _score(steps[-1])
    best = _best(validations(session))
    return {
        "run_dir": str(session.folder.path),
        "checkpoint": str(session.folder.best) if session.folder.best.exists() else None,
        "last_checkpoint": str(session.folder.last),
        "kept_checkpoints": [str(path) for path in session.folder.all_kept],
        "iterations": outcome.iteration,
        "algorithm": session.experiment.algorithm.name,
        "second_order": session.learner.traits.second_order,
        "device": str(session.device),
        "val": val,
        "protocol": session.measured.fields(),
        "best": best and {"iteration": best.iteration} | _score(tables.steps_fields(best.steps, outcome.accuracy)[-1]),
        "tasks_per_second": last.tasks_per_second if last else None,
        "peak_memory_bytes": peak_bytes(session.device),
        "seconds": outcome.seconds,
        "report": None if outcome.page is None else str(outcome.page),
        "figures": None if outcome.figures is None else str(outcome.figures),
        "left_out": list(outcome.left_out),
        "calibration": [one.model_dump(mode="json") for one in outcome.promised],
        "worth": worth_fields(outcome.worth),
    }


def show(outcome: Outcome) -> None:
    """Print the best validation after each inner step, and the result of the run, on stdout."""
    out, found = tables.console(stderr=False), validations(outcome.session)
    best = _best(found)
    if shown := best or (found[-1] if found else None):
        title = f"{_protocol(outcome.session)}, iteration {shown.iteration:,}"
        out.print(tables.steps_table(title, shown.steps, outcome.accuracy))
    print_tables(worth_tables(outcome.worth))
    told = _scores(outcome, found) + _facts(outcome)
    width = max(len(name) for name, _ in told) + 2
    out.print("\n".join(f"{name:<{width}}{value}" for name, value in told))


def forecast_lines(expected: Forecast) -> list[str]:
    """The lines of a dry run on time and memory."""
    peak = [] if expected.peak is None else [f"memory         {expected.peak / 1e6:,.0f} MB at the most so far"]
    return [
        f"time           {digits(expected.per_iteration, 2)} s an iteration, "
        f"{digits(expected.per_validation, 2)} s a validation, measured here on a few of each",
        f"               first validation after {clock(expected.to_validation)}, end after {clock(expected.to_end)}",
        *peak,
    ]


def forecast_fields(expected: Forecast) -> dict[str, Any]:
    """Fields for JSON on the time and memory that the run will need."""
    return {
        "seconds_per_iteration": expected.per_iteration,
        "seconds_per_validation": expected.per_validation,
        "seconds_to_first_validation": expected.to_validation,
        "seconds": expected.to_end,
        "peak_memory_bytes": expected.peak,
    }


def _scores(outcome: Outcome, found: list[Validation]) -> list[tuple[str, str]]:
    out, best, unit = tables.console(stderr=False), _best(found), " %" if outcome.accuracy else " mse"
    told, episodes = [], outcome.session.measured.episodes
    for name, row in (("best", best), ("last", found[-1] if found else None)):
        # If the last validation is the best one, it is not printed twice.
        if row is not None and (name, row) != ("last", best):
            score = f"{score_cell(row.steps[-1], outcome.accuracy, out)}{unit}"
            told.append((f"{name} val", f"{score}, {episodes} episodes, at iteration {row.iteration:,}"))
    scores = [row.steps[-1].score for row in found]
    if len(scores) > 1:
        first, last = (score_digits(score, outcome.accuracy) for score in (scores[0], scores[-1]))
        sparks = sparkline(scores, _SPARKS, writes_unicode(out))
        told.append(("course", f"{first} {sparks} {last}{unit}"))
    return told


def _facts(outcome: Outcome) -> list[tuple[str, str]]:
    outer, last = outcome.session.experiment.outer, outcome.last
    cost = [clock(outcome.seconds), *([f"{speed_cell(last.tasks_per_second)} tasks/s"] if last else [])]
    peak = peak_bytes(outcome.session.device)
    cost += [f"peak memory {peak / 1e6:,.0f} MB"] if peak else []
    return [
        ("trained", f"{outcome.iteration:,} of {outer.iterations:,} iterations of {outer.meta_batch_size} tasks"),
        ("cost", ", ".join(cost)),
        *([("calibrated", calibration_line(outcome.promised, outcome.calibrating_took))] if outcome.promised else []),
        ("checkpoint", str(outcome.checkpoint)),
        *_kept(outcome.session.folder),
        *([] if outcome.page is None else [("report", str(outcome.page))]),
        *([] if outcome.figures is None else [("figures", str(outcome.figures))]),
    ]


def _kept(folder: RunFolder) -> list[tuple[str, str]]:
    count = len(folder.all_kept)
    return [("kept", f"the best {count}; their ensemble is {folder.path}, for eval --checkpoint")] if count else []


def _best(found: list[Validation]) -> Validation | None:
    """The validation in which best.pt was written; None if none was finite."""
    return next((row for row in reversed(found) if row.best), None)


def _score(step: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in step.items() if key in ("accuracy", "mse", "ci95")}


def _step(found: Mapping[str, Any]) -> Step:
    # metrics.jsonl has null for a number that is not finite.
    numbers = (math.nan if found[name] is None else float(found[name]) for name in Step._fields[1:])
    return Step(found["step"], *numbers)


def _protocol(session: Session) -> str:
    return tables.headed(session.experiment.algorithm.name, session.validator.traits.second_order, session.measured)
