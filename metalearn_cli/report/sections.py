"""The sections that the pages of training and of testing share.

Legend: K inner steps.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from metalearn_cli.report import charts
from metalearn_cli.report.charts import Axis, Chart, Line
from metalearn_cli.report.fitting import Fitted, examples_chart, fit_chart
from metalearn_cli.report.page import Html, element, number, paragraph, table
from metalearn_cli.report.pictures import Episode, episode_sheet
from metalearn_cli.report.web_page import Section

_MOST_CLASSES, _MOST_PAIRS = 10, 15
_SIGNS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

Step = Mapping[str, float]
"""The result after one of 0..K inner steps: `step`, `score` (accuracy as a fraction, or squared error), `ci95`, `loss`,
the `median` over episodes, and `diverged`, the share of episodes that diverged.
"""

Titled = tuple[str, Sequence[str], Sequence[Sequence[str]]]
"""A table with its title and its header; its first column is of words."""


class ScoreKind(NamedTuple):
    """A kind of score: its name, the factor from a score to the number that people read, its unit and its format."""

    name: str
    scale: float
    unit: str
    form: str

    @property
    def file(self) -> str:
        """The score in the name of a file."""
        return self.name.replace(" ", "-")

    @property
    def label(self) -> str:
        """The score with its unit, for an axis or a column."""
        return f"{self.name} {self.unit}".strip()

    def value(self, score: float) -> Html:
        """A score as a cell of a table."""
        return number(score, format(self.scale * score, self.form))

    def scaled(self, scores: Sequence[float]) -> list[float]:
        """Scores for a chart."""
        return [self.scale * score for score in scores]


ACCURACY = ScoreKind("accuracy", 100, "%", ".2f")
SQUARED_ERROR = ScoreKind("mean squared error", 1, "", ".4g")


class Curve(NamedTuple):
    """The scores of one learner after 0..K inner steps. `name` is its name on the page."""

    name: str
    steps: Sequence[Step]


class Looked(NamedTuple):
    """A close look at the answers in the episodes that `extent` names.

    `classes`: (name, episodes, queries, right answers), the lowest accuracy first. `confusions`: (class, answer, times,
    queries of the class in episodes with both), the most frequent first. `fits` and `by_examples` are of regressions:
    `by_examples` has (number of support examples, the last inner step).
    """

    extent: str
    classes: Sequence[tuple[str, int, int, int]] = ()
    confusions: Sequence[tuple[str, str, int, int]] = ()
    episodes: Sequence[Episode] = ()
    fits: Sequence[Fitted] = ()
    by_examples: Sequence[tuple[int, Step]] = ()


def result(name: str, step: Step, kind: ScoreKind) -> Html:
    """A line with the score of a step, its 95 % interval and its unit."""
    return Html(f"{escape(name)} {kind.value(step['score'])} ± {kind.value(step['ci95'])} {kind.unit}")


def titled(shown: Titled) -> Section:
    """A section with one table under its title."""
    title, header, rows = shown
    return Section(title[0].upper() + title[1:], [table(header, rows, range(1, len(header)))])


def signs(count: int) -> list[str]:
    """The letters A, B, ... as short names of `count` curves; the numbers 1, 2, ... for more than 26."""
    return [_SIGNS[place] if count <= len(_SIGNS) else str(place + 1) for place in range(count)]


def _adaptation_charts(curves: Sequence[Curve], kind: ScoreKind, extent: str) -> list[Chart]:
    drawn = [_line(curve, "score", kind.scale) for curve in curves]
    bands = "Bands: 95 % intervals over episodes."
    scores = charts.lines(
        (f"adaptation-{kind.file}", f"{kind.name} after each inner step",
         f"{kind.label.capitalize()} after each inner step, {extent}. {bands}"),
        Axis("inner step", kind.label), drawn,
    )  # fmt: skip
    if kind is not ACCURACY:
        return [scores]
    caption = "Query loss (cross-entropy) after each inner step, the mean over episodes."
    losses = [Line(curve.name, *_columns(curve, "loss")) for curve in curves]
    words = ("adaptation-loss", "query loss after each inner step", caption)
    return [scores, charts.lines(words, Axis("inner step", "loss"), losses)]


def adaptation(curves: Sequence[Curve], kind: ScoreKind, extent: str, what: str = "checkpoint") -> Section:
    """Score and loss against the inner step, as charts and as a table; `what` heads the names of several curves."""
    named = len(curves) > 1
    shares = ["R2, median"] if all("explained" in step for curve in curves for step in curve.steps) else []
    extra = ["loss"] if kind is ACCURACY else ["median", *shares, "diverged %"]
    header = [*([what] if named else []), "inner step", kind.label, "± 95 %", *extra]
    rows = [
        [*([curve.name] if named else []), str(step["step"]), *_cells(step, kind)]
        for curve in curves
        for step in curve.steps
    ]
    numbers = table(header, rows, range(int(named), len(header)))
    return Section("Adaptation", [_adaptation_charts(curves, kind, extent), numbers])


def distribution_chart(scores: Sequence[float], kind: ScoreKind, extent: str) -> Chart:
    """A histogram of the scores of single episodes."""
    axis = Axis(f"{kind.label} of an episode", "episodes", whole=False)
    caption = f"How many episodes had which {kind.name} after the last inner step, {extent}."
    words = ("episodes", f"distribution of {kind.name} over episodes", caption)
    return charts.histogram(words, axis, kind.scaled(scores))


def seen(looked: Looked) -> list[Section]:
    """Sections of the classes, of their confusions and of some episodes; a section without contents is left out."""
    parts = []
    if looked.classes:
        parts.append(_classes(looked))
        parts.append(_confusions(looked))
    if looked.episodes:
        note = paragraph(f"Those with the lowest, the middle and the highest accuracy, {looked.extent}. The pictures "
                         "are what the network sees; episodes are counted from 0.")  # fmt: skip
        parts.append(Section("Sample episodes", [note, *map(episode_sheet, looked.episodes)]))
    if looked.fits:
        drawn = [fit_chart(fit, place) for place, fit in enumerate(looked.fits)]
        parts.append(Section("Fitted functions", [drawn]))
    if looked.by_examples:
        rows = [[str(count), *_cells(step, SQUARED_ERROR)[:3]] for count, step in looked.by_examples]
        header = ["examples", SQUARED_ERROR.label, "± 95 %", "median"]
        numbers = table(header, rows, range(4))
        parts.append(Section("Error by number of examples", [examples_chart(looked.by_examples), numbers]))
    return parts


def _classes(looked: Looked) -> Section:
    header = ["class", "accuracy %", "right", "queries", "episodes"]

    def rows(found: Sequence[tuple[str, int, int, int]]) -> Html:
        cells = [
            [name, ACCURACY.value(right / queries), str(right), str(queries), str(episodes)]
            for name, episodes, queries, right in found
        ]
        return table(header, cells, range(1, 5))

    note = paragraph(f"{len(looked.classes)} classes were drawn, {looked.extent}.")
    if len(looked.classes) <= 2 * _MOST_CLASSES:
        return Section("Classes, the hardest first", [note, rows(looked.classes)])
    # From the end of the list backwards, so that the easiest class is the first.
    easiest = rows(looked.classes[: -_MOST_CLASSES - 1 : -1])
    hardest = rows(looked.classes[:_MOST_CLASSES])
    return Section("Classes", [note, element("h3", "The hardest"), hardest, element("h3", "The easiest"), easiest])


def _confusions(looked: Looked) -> Section:
    pairs = looked.confusions[:_MOST_PAIRS]
    if not pairs:
        return Section("Most confused", [paragraph(f"No query was taken for another class, {looked.extent}.")])
    note = paragraph(
        f"The {len(pairs)} most frequent of {len(looked.confusions)} confused pairs, {looked.extent}; of the queries "
        "shown while the other class was among those to choose from."
    )
    rows = [
        [shown, taken_for, str(times), str(queries), number(times / queries, f"{100 * times / queries:.1f}")]
        for shown, taken_for, times, queries in pairs
    ]
    header = ["shown", "taken for", "times", "of queries", "%"]
    return Section("Most confused", [note, table(header, rows, range(2, 5))])


def _line(curve: Curve, key: str, scale: float) -> Line:
    x, y = _columns(curve, key)
    return Line(curve.name, x, [scale * value for value in y], [scale * step["ci95"] for step in curve.steps])


def _columns(curve: Curve, key: str) -> tuple[list[float], list[float]]:
    return [step["step"] for step in curve.steps], [step[key] for step in curve.steps]


def _cells(step: Step, kind: ScoreKind) -> list[Html]:
    first = [kind.value(step["score"]), kind.value(step["ci95"])]
    if kind is ACCURACY:
        return [*first, number(step["loss"], f"{step['loss']:.4f}")]
    shares = [number(step["explained"], f"{step['explained']:.3f}")] if "explained" in step else []
    return [*first, kind.value(step["median"]), *shares, number(step["diverged"], f"{100 * step['diverged']:.1f}")]
