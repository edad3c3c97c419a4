"""The pages of `eval`: one checkpoint in detail, or several compared on the same episodes."""

from collections.abc import Sequence
from math import isfinite
from typing import NamedTuple

from metalearn_cli.report import charts
from metalearn_cli.report.charts import Axis, Chart
from metalearn_cli.report.page import element, facts, number, paragraph, table
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
    signs,
    titled,
)
from metalearn_cli.report.web_page import Origin, Section, WebPage


class MeasuredCheckpoint(NamedTuple):
    """A measured checkpoint: its file, its `protocol` in words, and its episodes in words (`extent`).

    `steps`: the means after 0..K inner steps. `scores`: the score of each episode after the last step. `members`: the
    files of an ensemble. `promised`: tables of families of functions, of calibration, and of the comparison with other
    learners.
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
    """The mean of (score of a checkpoint - score of the first one) over the same episodes, and its 95 % half-width."""

    difference: float
    ci95: float
    episodes: int


def testing_page(one: MeasuredCheckpoint, kind: ScoreKind, looked: Looked, came_from: Origin) -> WebPage:
    """The page of one checkpoint."""
    last = one.steps[-1]
    rows = [("checkpoint", one.checkpoint), ("episodes", f"{one.extent}, fingerprint {one.fingerprint}")]
    rows += [(f"member {number}", file) for number, file in enumerate(one.members, 1)]
    big = element("p", result(kind.name.capitalize(), last, kind), "big")
    parts = [
        Section("", [big, paragraph(f"{one.protocol}. ± is a 95 % interval over episodes."), facts(rows)]),
        adaptation([Curve("", one.steps)], kind, one.extent),
        Section("Episodes", [distribution_chart(one.scores, kind, one.extent)]),
        *map(titled, one.promised),
        *seen(looked),
    ]
    return WebPage(f"{one.checkpoint}: test", one.protocol, parts, came_from)


def comparison_page(
    several: Sequence[MeasuredCheckpoint],
    kind: ScoreKind,
    differences: Sequence[Difference],
    notes: Sequence[str],
    came_from: Origin,
) -> WebPage:
    """The page of several checkpoints. A letter stands for each, and the others are compared with the first."""
    letters = signs(len(several))
    unlike = len({one.protocol for one in several}) > 1
    header = ["", "checkpoint", *(["protocol"] if unlike else []), "episodes", "inner step", kind.label, "± 95 %"]
    rows = [
        [letter, one.checkpoint, *([one.protocol] if unlike else []), str(len(one.scores)), str(one.steps[-1]["step"]),
         *(kind.value(one.steps[-1][key]) for key in ("score", "ci95"))]
        for letter, one in zip(letters, several, strict=True)
    ]  # fmt: skip
    protocol = "" if unlike else f"{several[0].protocol}; "
    # A letter for each, and the part of its path that the others do not have.
    telling = telling_parts([one.checkpoint for one in several])
    names = [f"{letter} {name}" for letter, name in zip(letters, telling, strict=True)]
    curves = [Curve(name, one.steps) for name, one in zip(names, several, strict=True)]
    parts = [
        Section("", [table(header, rows, range(len(header) - 4, len(header))), *map(paragraph, notes)]),
        Section("Scores", [_scores_chart(curves, kind)]),
        _differences(names, kind, differences),
        adaptation(curves, kind, several[0].extent),
    ]
    return WebPage(f"{len(several)} checkpoints compared", f"{protocol}all on the same episodes.", parts, came_from)


def _scores_chart(curves: Sequence[Curve], kind: ScoreKind) -> Chart:
    caption = "The score of each after the last inner step, with its 95 % interval over episodes. Intervals that "
    caption += "overlap say nothing of the difference, which the next chart shows: the episodes are the same."
    scores = [(name, kind.scale * steps[-1]["score"], kind.scale * steps[-1]["ci95"]) for name, steps in curves]
    return charts.forest(("scores", f"{kind.name} of each checkpoint", caption), Axis(kind.label, ""), scores)


def telling_parts(names: Sequence[str]) -> list[str]:
    """The part of each path in which it differs: without the first folders and the end that all have in common.

    >>> telling_parts(["runs/maml/checkpoints/best.pt", "runs/protonet/checkpoints/best.pt"])
    ['maml', 'protonet']
    >>> telling_parts(["a/best.pt", "a/last.pt"]), telling_parts(["best.pt", "best.pt"])
    (['best.pt', 'last.pt'], ['best.pt', 'best.pt'])
    """
    split = [name.split("/") for name in names]
    shortest = min(map(len, split))
    # If all paths are equal, `shortest - 1` keeps their last part.
    before = next((n for n in range(shortest) if len({parts[n] for parts in split}) > 1), shortest - 1)
    after = next((n for n in range(shortest - before) if len({parts[-1 - n] for parts in split}) > 1), 0)
    return ["/".join(parts[before : len(parts) - after]) for parts in split]


def _differences(names: Sequence[str], kind: ScoreKind, differences: Sequence[Difference]) -> Section:
    unit, letters = "points" if kind.unit else kind.name, signs(len(names))
    points = [
        (f"{name} − {letters[0]}", kind.scale * one.difference, kind.scale * one.ci95)
        for name, one in zip(names[1:], differences, strict=True)
    ]
    words = ("differences", "differences to the first checkpoint", "The paired differences, with 95 % intervals.")
    chart = charts.forest(words, Axis(f"difference, {unit}", ""), points, zero=True)
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
    return Section("Differences", [note, chart, table(header, rows, range(1, 4))])
