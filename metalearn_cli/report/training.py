"""The page of a training run: how it went, how its best checkpoint adapts, and on what it fails."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from metalearn_cli.report import charts
from metalearn_cli.report.charts import Axis, Line
from metalearn_cli.report.page import Html, element, join, number, page, paragraph, section, table
from metalearn_cli.report.sections import (
    Curve,
    Kind,
    Looked,
    Origin,
    Step,
    adaptation,
    distribution,
    facts,
    origin,
    result,
    seen,
)


class Run(NamedTuple):
    """A run: its name and what it trains, the rows of metrics.jsonl, how losses and validations were measured, `facts`.

    `scores` are those of single episodes of the best checkpoint, `looked` what else was seen in them; None where
    nobody looked. `known` is how it was measured on tasks of the training part besides, and its steps there.
    """

    name: str
    title: str
    kind: Kind
    rows: Sequence[Mapping[str, Any]]
    trained: str
    measured: str
    facts: Sequence[tuple[str, str]]
    looked: Looked | None
    scores: Sequence[float]
    known: tuple[str, Sequence[Step]] | None


def training_page(run: Run, came_from: Origin) -> bytes:
    """The page as a file."""
    rows = [_finite(row) for row in run.rows]
    best = next((row for row in reversed(rows) if row["best"]), None)
    parts = [_summary(run, best), _course(run, rows)]
    if best is not None:
        curves = [Curve("validation", best["val"])] + ([Curve("training", run.known[1])] if run.known else [])
        extent = f"best checkpoint. Validation: {run.measured}"
        extent += f". Training: {run.known[0]}" if run.known else ""
        parts.append(adaptation(curves, run.kind, extent, "tasks of"))
    if run.looked is not None:
        parts += [distribution(run.scores, run.kind, run.looked.extent)] if run.scores else []
        parts += seen(run.looked)
    return page(f"{run.name}: training", run.title, [*parts, origin(came_from)])


def _summary(run: Run, best: Mapping[str, Any] | None) -> Html:
    if best is None:
        return join([paragraph("No validation was made, or none was finite."), facts(run.facts)])
    last, kind = best["val"][-1], run.kind
    told = (
        f"Best checkpoint: at iteration {best['iteration']:,}, on {run.measured}. It was chosen by these episodes, so "
        "expect somewhat worse on others: metalearn eval measures that."
    )
    big = element("p", result(f"Validation {kind.name}", last, kind), "big")
    return join([big, paragraph(told), facts([*run.facts, ("trained on", run.trained)])])


def _course(run: Run, rows: Sequence[Mapping[str, Any]]) -> Html:
    if not rows:
        return section("Learning", paragraph("There is no report yet."))
    kind, iterations, last = run.kind, [row["iteration"] for row in rows], [row["val"][-1] for row in rows]
    steps = f"after {last[-1]['step']} inner steps"
    val = Line(
        steps, iterations, kind.scaled([one["score"] for one in last]), kind.scaled([one["ci95"] for one in last])
    )
    before = Line("before the first", iterations, kind.scaled([row["val"][0]["score"] for row in rows]))
    drawn = element("div", join([
        charts.lines(
            f"validation {kind.name} against iteration", f"Validation {kind.label}: {run.measured}. Band: "
            "95 % interval.", Axis("iteration", kind.label), [val, before] if last[-1]["step"] else [val],
        ),
        charts.lines(
            "training loss against iteration", "Training loss on queries, the mean since the report "
            f"before: {run.trained}.",
            Axis("iteration", "loss"), [Line("loss", iterations, [row["loss"] for row in rows])],
        ),
    ]), "charts")  # fmt: skip
    return section("Learning", drawn, _numbers(kind, rows, steps))


def _numbers(kind: Kind, rows: Sequence[Mapping[str, Any]], steps: str) -> Html:
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
    """JSON has null where there was no finite number."""
    if value is None:
        return math.nan
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list) else value
