"""The page of a training run: its curves, the adaptation of its best checkpoint, and the answers that are wrong."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from metalearn_cli.report import charts
from metalearn_cli.report.charts import Axis, Chart, Line
from metalearn_cli.report.page import Html, element, facts, join, number, paragraph, table
from metalearn_cli.report.sections import (
    Curve,
    Looked,
    ScoreKind,
    Step,
    Titled,
    adaptation,
    distribution_chart,
    result,
    seen,
    titled,
)
from metalearn_cli.report.web_page import Origin, Section, WebPage


class TrainedRun(NamedTuple):
    """A run to be shown: its name, a line on what it trains (`title`), and `rows` of metrics.jsonl.

    `trained`, `measured`: the protocols of the training loss and of validations, in words. `facts`: rows of a table.
    `looked`, `scores`: the answers of the best checkpoint in single episodes; None if the run had no time for them.
    `known`: the protocol and the results of the best checkpoint on training tasks; None if it was not measured there.
    `worth`: tables of its accuracy beside that of simpler learners.
    """

    name: str
    title: str
    kind: ScoreKind
    rows: Sequence[Mapping[str, Any]]
    trained: str
    measured: str
    facts: Sequence[tuple[str, str]]
    looked: Looked | None
    scores: Sequence[float]
    known: tuple[str, Sequence[Step]] | None
    worth: Sequence[Titled] = ()


def training_page(run: TrainedRun, came_from: Origin) -> WebPage:
    """The page of a run."""
    rows = [_finite(row) for row in run.rows]
    best = next((row for row in reversed(rows) if row["best"]), None)
    parts = [_summary(run, best), _course(run, rows)]
    if best is not None:
        parts.append(adaptation(*_adapted(run, best), "tasks of"))
    parts += map(titled, run.worth)
    if run.looked is not None:
        spread = distribution_chart(run.scores, run.kind, run.looked.extent)
        parts += [Section("Episodes", [spread])] if run.scores else []
        parts += seen(run.looked)
    return WebPage(f"{run.name}: training", run.title, parts, came_from)


def _adapted(run: TrainedRun, best: Mapping[str, Any]) -> tuple[list[Curve], ScoreKind, str]:
    """The curves of the best checkpoint on validation and training tasks, and a text on which tasks these are."""
    curves = [Curve("validation", best["val"])] + ([Curve("training", run.known[1])] if run.known else [])
    extent = f"best checkpoint. Validation: {run.measured}" + (f". Training: {run.known[0]}" if run.known else "")
    return curves, run.kind, extent


def _summary(run: TrainedRun, best: Mapping[str, Any] | None) -> Section:
    if best is None:
        return Section("", [paragraph("No validation was made, or none was finite."), facts(run.facts)])
    last, kind = best["val"][-1], run.kind
    told = (
        f"Best checkpoint: at iteration {best['iteration']:,}, on {run.measured}. It was chosen by these episodes, so "
        "expect somewhat worse on others: metalearn eval measures that."
    )
    big = element("p", result(f"Validation {kind.name}", last, kind), "big")
    return Section("", [big, paragraph(told), facts([*run.facts, ("trained on", run.trained)])])


def _course(run: TrainedRun, rows: Sequence[Mapping[str, Any]]) -> Section:
    if not rows:
        return Section("Learning", [paragraph("There is no report yet.")])
    return Section("Learning", [_course_charts(run, rows), _numbers(run.kind, rows, _after(rows))])


def _after(rows: Sequence[Mapping[str, Any]]) -> str:
    return f"after {rows[-1]['val'][-1]['step']} inner steps"


def _course_charts(run: TrainedRun, rows: Sequence[Mapping[str, Any]]) -> list[Chart]:
    kind, iterations, last = run.kind, [row["iteration"] for row in rows], [row["val"][-1] for row in rows]
    scores, half = (kind.scaled([step[key] for step in last]) for key in ("score", "ci95"))
    val = [Line(_after(rows), iterations, scores, half)]
    if last[-1]["step"]:
        val.append(Line("before the first", iterations, kind.scaled([row["val"][0]["score"] for row in rows])))
    caption = f"Validation {kind.label}: {run.measured}. Band: 95 % interval."
    of_loss = f"Training loss on queries, the mean since the report before: {run.trained}."
    losses = Line("loss", iterations, [row["loss"] for row in rows])
    return [
        charts.lines(
            ("validation", f"validation {kind.name} against iteration", caption), Axis("iteration", kind.label), val
        ),
        charts.lines(
            ("training-loss", "training loss against iteration", of_loss), Axis("iteration", "loss"), [losses]
        ),
    ]


def _numbers(kind: ScoreKind, rows: Sequence[Mapping[str, Any]], steps: str) -> Html:
    header = ["iteration", "training loss", f"validation {kind.label}, {steps}", "± 95 %", "tasks/s", "best so far"]
    cells = [
        [
            number(row["iteration"], f"{row['iteration']:,}"), number(row["loss"], f"{row['loss']:.4f}"),
            kind.value(row["val"][-1]["score"]), kind.value(row["val"][-1]["ci95"]),
            number(row["tasks_per_second"], f"{row['tasks_per_second']:,.0f}"), "★ best" if row["best"] else "",
        ]
        for row in rows
    ]  # fmt: skip
    shown = join([element("summary", f"All {len(rows)} reports"), table(header, cells, range(5))])
    return element("details", shown)


def _finite(value: Any) -> Any:
    """The values with NaN in the place of None, which JSON has for numbers that are not finite."""
    if value is None:
        return math.nan
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value
