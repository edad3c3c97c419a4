"""The pages of `eval`: one checkpoint looked at closely, or several compared on the same episodes."""

from collections.abc import Sequence
from math import isfinite
from typing import NamedTuple

from metalearn_cli.report import charts
from metalearn_cli.report.charts import Axis, Chart
from metalearn_cli.report.drawing import inline
from metalearn_cli.report.page import Html, element, number, page, paragraph, section, table
from metalearn_cli.report.sections import (
    Curve,
    Looked,
    Origin,
    ScoreKind,
    Step,
    Titled,
    adaptation,
    adaptation_charts,
    distribution_chart,
    facts,
    fit_charts,
    origin,
    result,
    seen,
    signs,
    titled,
)


class MeasuredCheckpoint(NamedTuple):
    """One checkpoint: its file, how it was measured in a line, on how many episodes, and what came out.

    `scores` are those of the single episodes after the last step. Of an ensemble the name says that it is one, and
    `members` are its files. `promised` are tables of what it promises and is worth: title, header and rows.
    """

    checkpoint: str
    protocol: str
    extent: str
    steps: Sequence[Step]
    scores: Sequence[float]
    fingerprint: str
    members: Sequence[str] = ()
    promised: Sequence[Titled] = ()


class Difference(NamedTuple):
    """The mean over common episodes of what one checkpoint scored more than the first, and its 95 % interval."""

    difference: float
    ci95: float
    episodes: int


def testing_page(one: MeasuredCheckpoint, kind: ScoreKind, looked: Looked, came_from: Origin) -> bytes:
    """The page of one checkpoint."""
    last = one.steps[-1]
    rows = [("checkpoint", one.checkpoint), ("episodes", f"{one.extent}, fingerprint {one.fingerprint}")]
    rows += [(f"member {number}", file) for number, file in enumerate(one.members, 1)]
    parts = [
        element("p", result(kind.name.capitalize(), last, kind), "big"),
        paragraph(f"{one.protocol}. ± is a 95 % interval over episodes."),
        facts(rows),
        adaptation([Curve("", one.steps)], kind, one.extent),
        section("Episodes", inline(distribution_chart(one.scores, kind, one.extent))),
        *map(titled, one.promised),
        *seen(looked),
        origin(came_from),
    ]
    return page(f"{one.checkpoint}: test", one.protocol, parts)


def testing_charts(one: MeasuredCheckpoint, kind: ScoreKind, looked: Looked) -> list[Chart]:
    """All charts of the page."""
    adapted = adaptation_charts([Curve("", one.steps)], kind, one.extent)
    return [*adapted, distribution_chart(one.scores, kind, one.extent), *fit_charts(looked)]


def comparison_page(
    several: Sequence[MeasuredCheckpoint],
    kind: ScoreKind,
    differences: Sequence[Difference],
    notes: Sequence[str],
    came_from: Origin,
) -> bytes:
    """The page of several checkpoints; a letter stands for each, and the first is what the others are held against."""
    letters = signs(len(several))
    unlike = len({one.protocol for one in several}) > 1
    header = ["", "checkpoint", *(["protocol"] if unlike else []), "episodes", "inner step", kind.label, "± 95 %"]
    rows = [
        [letter, one.checkpoint, *([one.protocol] if unlike else []), str(len(one.scores)), str(one.steps[-1]["step"]),
         *(kind.value(one.steps[-1][key]) for key in ("score", "ci95"))]
        for letter, one in zip(letters, several, strict=True)
    ]  # fmt: skip
    protocol = "" if unlike else f"{several[0].protocol}; "
    scores, differing, *_ = comparison_charts(several, kind, differences)
    parts = [
        table(header, rows, range(len(header) - 4, len(header))),
        *map(paragraph, notes),
        section("Scores", inline(scores)),
        _differences(letters, kind, differences, differing),
        adaptation(_curves(several), kind, several[0].extent),
        origin(came_from),
    ]
    return page(f"{len(several)} checkpoints compared", f"{protocol}all on the same episodes.", parts)


def comparison_charts(
    several: Sequence[MeasuredCheckpoint], kind: ScoreKind, differences: Sequence[Difference]
) -> list[Chart]:
    """All charts of that page: the scores, the differences to the first, and how each adapts."""
    names = list(
        map(" ".join, zip(signs(len(several)), telling_parts([one.checkpoint for one in several]), strict=True))
    )
    scores = [(name, *_last(one, kind)) for name, one in zip(names, several, strict=True)]
    points = [
        (f"{name} − {signs(len(several))[0]}", kind.scale * one.difference, kind.scale * one.ci95)
        for name, one in zip(names[1:], differences, strict=True)
    ]
    caption = "The score of each after the last inner step, with its 95 % interval over episodes. Intervals that "
    caption += "overlap say nothing of the difference, which the next chart shows: the episodes are the same."
    return [
        charts.forest(("scores", f"{kind.name} of each checkpoint", caption), Axis(kind.label, ""), scores),
        charts.forest(
            ("differences", "differences to the first checkpoint", "The paired differences, with 95 % intervals."),
            Axis(f"difference, {_unit(kind)}", ""), points, zero=True,
        ),
        *adaptation_charts(_curves(several), kind, several[0].extent),
    ]  # fmt: skip


def _last(one: MeasuredCheckpoint, kind: ScoreKind) -> tuple[float, float]:
    return kind.scale * one.steps[-1]["score"], kind.scale * one.steps[-1]["ci95"]


def _curves(several: Sequence[MeasuredCheckpoint]) -> list[Curve]:
    return [Curve(name, one.steps) for name, one in zip(_names(several), several, strict=True)]


def _names(several: Sequence[MeasuredCheckpoint]) -> list[str]:
    """A letter for each, and what tells its file from the others."""
    telling = telling_parts([one.checkpoint for one in several])
    return [f"{letter} {name}" for letter, name in zip(signs(len(several)), telling, strict=True)]


def telling_parts(names: Sequence[str]) -> list[str]:
    """Of several paths what tells them apart: without the folders, and the end, that all have in common.

    >>> telling_parts(["runs/maml/checkpoints/best.pt", "runs/protonet/checkpoints/best.pt"])
    ['maml', 'protonet']
    >>> telling_parts(["a/best.pt", "a/last.pt"]), telling_parts(["best.pt", "best.pt"])
    (['best.pt', 'last.pt'], ['best.pt', 'best.pt'])
    """
    split = [name.split("/") for name in names]
    shortest = min(map(len, split))
    before = next((n for n in range(shortest) if len({parts[n] for parts in split}) > 1), shortest - 1)
    after = next((n for n in range(shortest - before) if len({parts[-1 - n] for parts in split}) > 1), 0)
    return ["/".join(parts[before : len(parts) - after]) for parts in split]


def _unit(kind: ScoreKind) -> str:
    return "points" if kind.unit else kind.name


def _differences(letters: Sequence[str], kind: ScoreKind, differences: Sequence[Difference], chart: Chart) -> Html:
    unit = _unit(kind)
    header = ["compared", f"difference, {unit}", "± 95 %", "same episodes", "interval"]
    rows = [
        [
            f"{letter} − {letters[0]}",
            number(one.difference, f"{kind.scale * one.difference:+{kind.form}}"),
            kind.value(one.ci95),
            str(one.episodes),
            "none" if not isfinite(one.ci95) else "excludes 0" if abs(one.difference) > one.ci95 else "includes 0",
        ]
        for letter, one in zip(letters[1:], differences, strict=True)
    ]
    note = paragraph("Paired: the mean over episodes of the difference in the same episode, after the last inner step.")
    return section("Differences", note, inline(chart), table(header, rows, range(1, 4)))
