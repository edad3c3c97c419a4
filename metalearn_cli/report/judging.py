"""The measured accuracy of a classifier, by inner step and by class, and its charts."""

from collections.abc import Mapping, Sequence
from math import nan
from typing import Any, NamedTuple

from metalearn_cli.nouns import PICTURE, Noun
from metalearn_cli.report import charts
from metalearn_cli.report.charts import Axis, Chart, Line
from metalearn_cli.report.sections import ACCURACY

_MOST_DRAWN = 40

Counts = Mapping[str, Any]
"""`right` answers of `pictures` (or rows); `accuracy` and its 95 % `interval` as fractions, None if there are none."""


class Judged(NamedTuple):
    """The right answers of a classifier on the examples that `measured_on` names; `noun` is the word for them.

    `steps`: after each of 0..K inner steps. `classes`: for each class, after the last step. `confusion[i][j]`: the
    number of examples of class i that were answered with class j. `confused`: (class, answer, times), the most frequent
    first. `note`: a sentence on the measurement.
    """

    measured_on: str
    note: str
    steps: Sequence[Counts]
    classes: Sequence[Counts]
    confusion: Sequence[Sequence[int]]
    confused: Sequence[tuple[str, str, int]]
    noun: Noun = PICTURE


def judged_charts(classes: Sequence[str], judged: Judged | None, probabilities: Sequence[float]) -> list[Chart]:
    """Charts of the accuracy by inner step and by class, of the confusions, and of the probabilities of the answers."""
    found = []
    if judged is not None:
        steps = [_bounded(row) for row in judged.steps]
        line = Line("", [row["step"] for row in judged.steps], [at for at, _ in steps], [half for _, half in steps])
        caption = f"Accuracy on {judged.measured_on}. {judged.note}"
        found.append(
            charts.lines(("accuracy", "accuracy by inner step", caption), Axis("inner step", ACCURACY.label), [line])
        )
        rows = [(name, *_bounded(row)) for name, row in zip(classes, judged.classes, strict=True) if row["pictures"]]
        words = ("classes", "accuracy of each class", f"{caption} The last inner step, by class.")
        few = len(classes) <= _MOST_DRAWN
        found += [charts.forest(words, Axis(ACCURACY.label, ""), rows)] if few and rows else []
        words = ("confusion", "which class was taken for which", f"{caption} A row for each class.")
        found += [charts.matrix(words, Axis("taken for", ""), classes, judged.confusion)] if few else []
    if probabilities:
        words = (
            "probabilities",
            "probabilities of the answers",
            "How many queries got an answer of which probability.",
        )
        percent = [100 * probability for probability in probabilities]
        found.append(charts.histogram(words, Axis("probability %", "queries", whole=False), percent))
    return found


def _bounded(counts: Counts) -> tuple[float, tuple[float, float]]:
    """The accuracy in percent, and the widths of its interval below and above it; NaN without examples."""
    if counts["accuracy"] is None:
        return nan, (nan, nan)
    at, low, high = (100 * share for share in (counts["accuracy"], *counts["interval"]))
    return at, (at - low, high - at)
