"""Calibration and comparisons for `eval` and `train`, as fields for JSON and as tables on a terminal."""

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rich.table import Table

from metalearn_cli.cli import tables
from metalearn_cli.errors import MetalearnError

if TYPE_CHECKING:
    from metalearn_cli.cli.stopping import Stopper
    from metalearn_cli.report.sections import Titled
    from metalearn_cli.runtime.run.promises import Calibration, Promise
    from metalearn_cli.runtime.run.session import Session
    from metalearn_cli.runtime.run.state import State
    from metalearn_cli.runtime.use.measurement import Result
    from metalearn_cli.runtime.use.simpler_learners import Compared


def promise_fields(promises: "Sequence[Promise]") -> list[dict[str, Any]]:
    """Fields for JSON: the reliability of answers without and with temperature, sets and strangers, as fractions."""
    return [
        {
            "ways": one.calibration.ways, "shots": one.calibration.shots, "queries": one.calibration.queries,
            "episodes": one.episodes, "calibrated_on": one.calibration.episodes,
            "temperature": one.calibration.temperature, "before": one.raw._asdict(), "after": one.tempered._asdict(),
            "sets": [row._asdict() for row in one.sets],
            "strangers": None if one.strangers is None else one.strangers._asdict(),
        }
        for one in promises
    ]  # fmt: skip


def print_tables(titled: "Sequence[Titled]") -> None:
    """Print tables on stdout, with right-aligned cells."""
    out = tables.console(stderr=False)
    for title, names, rows in titled:
        table = Table(title=title, title_justify="left", title_style="bold")
        for name in names:
            table.add_column(name, justify="right")
        for row in rows:
            table.add_row(*row)
        out.print(table)


def worth_of_run(session: "Session", state: "State", stopper: "Stopper", quiet: bool) -> "list[Compared]":
    """The accuracy of a finished run's best checkpoint beside simpler learners, on validation tasks; empty for lack of
    time.

    An error is a warning here, because a finished run must not fail for this comparison.
    """
    from metalearn_cli.runtime.use import simpler_learners

    if state.reported < session.experiment.outer.iterations or stopper():
        return []
    try:
        with suppress(KeyboardInterrupt), stopper.within_time(), tables.bar(quiet) as progress:
            return simpler_learners.of_best(session, tables.Stages(progress))
    except MetalearnError as error:
        tables.warn(f"the run was not compared with simpler learners: {error}")
    return []


def calibration_line(found: "Sequence[Calibration]", seconds: float) -> str:
    """A line on the sizes of tasks for which a checkpoint was calibrated."""
    shots = ", ".join(str(one.shots) for one in found)
    tasks = f"{found[0].episodes} tasks of {found[0].classes} val classes"
    return f"{found[0].ways}-way, {shots} shots; {tasks}; {seconds:.1f} s"


def worth_fields(worth: "Sequence[Compared]") -> list[dict[str, Any]]:
    """Fields for JSON: the comparison with other learners; accuracies and differences are fractions."""
    return [one._asdict() | {"rows": [row._asdict() for row in one.rows]} for one in worth]


Cells = list[list[str]]


def promise_tables(tested: "Result") -> "list[Titled]":
    """Title, header and rows of each table that has rows: of calibration errors, of the coverage of sets, of the
    rejection of other classes, and of the comparison with other learners.
    """
    promises, sign = tested.promises, tables.plus_minus()
    episodes = promises[0].episodes if promises else 0
    table = tested.subject.table
    of = table.task if table is not None and table.kind == "labelled" else "classes"
    found = [
        ("probabilities without and with temperature, each answer by itself",
         ["tasks", "temperature", "ECE %", "then", "Brier", "then", "log loss", "then"], _reliability(promises)),
        (f"sets that hold the right class, {episodes} tasks",
         ["tasks", "target %", "held %", f"{sign} tasks", f"{sign} {of}", "set size", "empty %"], _sets(promises)),
        ("queries of other classes, answered none of these",
         ["tasks", "turned away %", f"{sign} 95 %", "members kept %", "AUROC", "by"], _strangers(promises)),
    ]  # fmt: skip
    return [one for one in [*found, *worth_tables(tested.worth)] if one[2]]


def worth_tables(worth: "Sequence[Compared]") -> "list[Titled]":
    """Title, header and rows of each comparison with simpler learners."""
    sign = tables.plus_minus()
    return [
        (f"what it is worth, {one.ways}-way {one.shots}-shot, {one.episodes} same {one.part} tasks, each answer alone",
         ["learner", "accuracy %", f"{sign} 95 %", "this run has more", f"{sign} 95 %"], _worth(one))
        for one in worth
    ]  # fmt: skip


def _worth(compared: "Compared") -> Cells:
    *others, last = compared.rows
    rows = [
        [one.name, f"{100 * one.accuracy:.1f}", f"{100 * one.ci95:.1f}", f"{100 * one.difference:+.1f}",
         f"{100 * one.difference_ci95:.1f}"]
        for one in others
    ]  # fmt: skip
    return [*rows, [last.name, f"{100 * last.accuracy:.1f}", f"{100 * last.ci95:.1f}", "", ""]]


def _reliability(promises: "Sequence[Promise]") -> Cells:
    return [
        [
            one.calibration.size, f"{one.calibration.temperature:.3g}", f"{100 * one.raw.ece:.1f}",
            f"{100 * one.tempered.ece:.1f}", f"{one.raw.brier:.3f}", f"{one.tempered.brier:.3f}",
            f"{one.raw.nll:.3f}", f"{one.tempered.nll:.3f}",
        ]
        for one in promises
    ]  # fmt: skip


def _sets(promises: "Sequence[Promise]") -> Cells:
    return [
        [
            one.calibration.size, f"{100 * row.target:.0f}", f"{100 * row.coverage:.1f}", f"{100 * row.ci95:.1f}",
            "" if row.ci95_classes is None else f"{100 * row.ci95_classes:.1f}", f"{row.size:.2f}",
            f"{100 * row.empty:.1f}",
        ]
        for one in promises
        for row in one.sets
    ]  # fmt: skip


def _strangers(promises: "Sequence[Promise]") -> Cells:
    return [
        [
            one.calibration.size, f"{100 * row.turned_away:.1f}", f"{100 * row.ci95:.1f}", f"{100 * row.kept:.1f}",
            f"{row.auroc:.3f}", row.score,
        ]
        for one in promises
        if (row := one.strangers) is not None
    ]  # fmt: skip
