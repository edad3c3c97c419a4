"""The pages of `eval`: one checkpoint looked at closely, or several compared on the same episodes."""

from collections.abc import Sequence
from typing import NamedTuple

from metalearn_cli.report.page import Html, element, number, page, paragraph, section, table
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
    signs,
)


class Measured(NamedTuple):
    """One checkpoint: its file, how it was measured in a line, on how many episodes, and what came out.

    `scores` are those of the single episodes after the last step. Of an ensemble the name says that it is one, and
    `members` are its files.
    """

    checkpoint: str
    protocol: str
    extent: str
    steps: Sequence[Step]
    scores: Sequence[float]
    fingerprint: str
    members: Sequence[str] = ()


class Difference(NamedTuple):
    """The mean over common episodes of what one checkpoint scored more than the first, and its 95 % interval."""

    difference: float
    ci95: float
    episodes: int


def testing_page(one: Measured, kind: Kind, looked: Looked, came_from: Origin) -> bytes:
    """The page of one checkpoint."""
    last = one.steps[-1]
    rows = [("checkpoint", one.checkpoint), ("episodes", f"{one.extent}, fingerprint {one.fingerprint}")]
    rows += [(f"member {number}", file) for number, file in enumerate(one.members, 1)]
    parts = [
        element("p", result(kind.name.capitalize(), last, kind), "big"),
        paragraph(f"{one.protocol}. ± is a 95 % interval over episodes."),
        facts(rows),
        adaptation([Curve("", one.steps)], kind, one.extent),
        distribution(one.scores, kind, one.extent),
        *seen(looked),
        origin(came_from),
    ]
    return page(f"{one.checkpoint}: test", one.protocol, parts)


def comparison_page(
    several: Sequence[Measured], kind: Kind, differences: Sequence[Difference], notes: Sequence[str], came_from: Origin
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
    curves = [Curve(letter, one.steps) for letter, one in zip(letters, several, strict=True)]
    parts = [
        table(header, rows, range(len(header) - 4, len(header))),
        *map(paragraph, notes),
        _differences(letters, kind, differences),
        adaptation(curves, kind, several[0].extent),
        origin(came_from),
    ]
    return page(f"{len(several)} checkpoints compared", f"{protocol}all on the same episodes.", parts)


def _differences(letters: Sequence[str], kind: Kind, differences: Sequence[Difference]) -> Html:
    unit = "points" if kind.unit else kind.name
    header = ["compared", f"difference, {unit}", "± 95 %", "same episodes", "interval"]
    rows = [
        [
            f"{letter} − {letters[0]}",
            number(one.difference, f"{kind.scale * one.difference:+{kind.form}}"),
            kind.value(one.ci95),
            str(one.episodes),
            "excludes 0" if abs(one.difference) > one.ci95 else "includes 0",
        ]
        for letter, one in zip(letters[1:], differences, strict=True)
    ]
    note = paragraph("Paired: the mean over episodes of the difference in the same episode, after the last inner step.")
    return section("Differences", note, table(header, rows, range(1, 4)))
