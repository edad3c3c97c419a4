"""The parts that pages about training and about testing have in common.

Legend: K inner steps.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from metalearn_cli.report import charts
from metalearn_cli.report.charts import Axis, Chart, Line
from metalearn_cli.report.drawing import inline
from metalearn_cli.report.fitting import Fitted, examples_chart, fit_chart
from metalearn_cli.report.page import Html, element, join, number, paragraph, section, table, verbatim
from metalearn_cli.report.pictures import Episode, sheet

_MOST_CLASSES, _MOST_PAIRS = 10, 15
_SIGNS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

Step = Mapping[str, float]
"""One of 0..K: `step`, `score` (accuracy as a fraction, or squared error), `ci95`, `loss`, and over episodes the
`median` and the `diverged` share.
"""

Titled = tuple[str, Sequence[str], Sequence[Sequence[str]]]
"""A table with its title and its header; its first column is of words."""


class ScoreKind(NamedTuple):
    """What a score is: its name, the factor to what people read, its unit, and how many digits are read."""

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
    """How one learner does after 0..K inner steps, under the name that the page gives it."""

    name: str
    steps: Sequence[Step]


class Looked(NamedTuple):
    """What was seen query by query; `extent` says in which episodes.

    Classes are (name, episodes, queries, right), the hardest first; confusions (shown, taken for, times, queries), the
    most often first. `by_examples` is of a regression the step after learning from so many examples.
    """

    extent: str
    classes: Sequence[tuple[str, int, int, int]] = ()
    confusions: Sequence[tuple[str, str, int, int]] = ()
    episodes: Sequence[Episode] = ()
    fits: Sequence[Fitted] = ()
    by_examples: Sequence[tuple[int, Step]] = ()


class Origin(NamedTuple):
    """Where the numbers come from: the resolved experiments by name, the environment, and the command."""

    settings: Sequence[tuple[str, str]]
    environment: Sequence[tuple[str, str]]
    command: str


def facts(rows: Sequence[tuple[str, "str | Html"]]) -> Html:
    """What is what, a line each."""
    return table(["", ""], [[element("b", name), value] for name, value in rows])


def result(name: str, step: Step, kind: ScoreKind) -> Html:
    """A score with its interval and unit, in a line."""
    return Html(f"{escape(name)} {kind.value(step['score'])} ± {kind.value(step['ci95'])} {kind.unit}")


def titled(shown: Titled) -> Html:
    """A table under its title."""
    title, header, rows = shown
    return section(title[0].upper() + title[1:], table(header, rows, range(1, len(header))))


def signs(count: int) -> list[str]:
    """A letter for each of several curves; numbers where letters run out."""
    return [_SIGNS[place] if count <= len(_SIGNS) else str(place + 1) for place in range(count)]


def adaptation_charts(curves: Sequence[Curve], kind: ScoreKind, extent: str) -> list[Chart]:
    """Score and loss against the inner step."""
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


def adaptation(curves: Sequence[Curve], kind: ScoreKind, extent: str, what: str = "checkpoint") -> Html:
    """The same charts, and their numbers as a table; `what` heads the names of several curves."""
    named = len(curves) > 1
    shares = ["R2, median"] if all("explained" in step for curve in curves for step in curve.steps) else []
    extra = ["loss"] if kind is ACCURACY else ["median", *shares, "diverged %"]
    header = [*([what] if named else []), "inner step", kind.label, "± 95 %", *extra]
    rows = [
        [*([curve.name] if named else []), str(step["step"]), *_cells(step, kind)]
        for curve in curves
        for step in curve.steps
    ]
    drawn = side_by_side(adaptation_charts(curves, kind, extent))
    return section("Adaptation", drawn, table(header, rows, range(int(named), len(header))))


def side_by_side(drawn: Sequence[Chart]) -> Html:
    """Charts, beside each other where there is room."""
    return element("div", join(map(inline, drawn)), "charts")


def distribution_chart(scores: Sequence[float], kind: ScoreKind, extent: str) -> Chart:
    """How the scores of single episodes are spread."""
    axis = Axis(f"{kind.label} of an episode", "episodes", whole=False)
    caption = f"How many episodes had which {kind.name} after the last inner step, {extent}."
    words = ("episodes", f"distribution of {kind.name} over episodes", caption)
    return charts.histogram(words, axis, kind.scaled(scores))


def fit_charts(looked: Looked) -> list[Chart]:
    """What a learner of regression makes of some tasks, and of fewer examples."""
    return [*(fit_chart(fit, place) for place, fit in enumerate(looked.fits)), *examples_chart(looked.by_examples)]


def seen(looked: Looked) -> list[Html]:
    """The classes, what they were taken for, and some episodes: whatever there is of them."""
    parts = []
    if looked.classes:
        parts.append(_classes(looked))
        parts.append(_confusions(looked))
    if looked.episodes:
        note = paragraph(f"Those with the lowest, the middle and the highest accuracy, {looked.extent}. The pictures "
                         "are what the network sees; episodes are counted from 0.")  # fmt: skip
        parts.append(section("Sample episodes", note, *map(sheet, looked.episodes)))
    if looked.fits:
        drawn = [fit_chart(fit, place) for place, fit in enumerate(looked.fits)]
        parts.append(section("Fitted functions", side_by_side(drawn)))
    if looked.by_examples:
        rows = [[str(count), *_cells(step, SQUARED_ERROR)[:3]] for count, step in looked.by_examples]
        header = ["examples", SQUARED_ERROR.label, "± 95 %", "median"]
        drawn = examples_chart(looked.by_examples)
        parts.append(section("Error by number of examples", side_by_side(drawn), table(header, rows, range(4))))
    return parts


def origin(found: Origin) -> Html:
    """Settings, environment and command: all that it takes to get these numbers again."""
    settings = [join([*([element("h3", name)] if name else []), verbatim(text)]) for name, text in found.settings]
    return join([
        section("Command", verbatim(found.command)),
        section("Settings", *settings),
        section("Environment", facts(found.environment)),
    ])  # fmt: skip


def _classes(looked: Looked) -> Html:
    header = ["class", "accuracy %", "right", "queries", "episodes"]

    def rows(found: Sequence[tuple[str, int, int, int]]) -> Html:
        cells = [
            [name, ACCURACY.value(right / queries), str(right), str(queries), str(episodes)]
            for name, episodes, queries, right in found
        ]
        return table(header, cells, range(1, 5))

    note = paragraph(f"{len(looked.classes)} classes were drawn, {looked.extent}.")
    if len(looked.classes) <= 2 * _MOST_CLASSES:
        return section("Classes, the hardest first", note, rows(looked.classes))
    easiest = rows(looked.classes[: -_MOST_CLASSES - 1 : -1])
    hardest = rows(looked.classes[:_MOST_CLASSES])
    return section("Classes", note, element("h3", "The hardest"), hardest, element("h3", "The easiest"), easiest)


def _confusions(looked: Looked) -> Html:
    pairs = looked.confusions[:_MOST_PAIRS]
    if not pairs:
        return section("Most confused", paragraph(f"No query was taken for another class, {looked.extent}."))
    note = paragraph(
        f"The {len(pairs)} most frequent of {len(looked.confusions)} confused pairs, {looked.extent}; of the queries "
        "shown while the other class was among those to choose from."
    )
    rows = [
        [shown, taken_for, str(times), str(queries), number(times / queries, f"{100 * times / queries:.1f}")]
        for shown, taken_for, times, queries in pairs
    ]
    return section("Most confused", note, table(["shown", "taken for", "times", "of queries", "%"], rows, range(2, 5)))


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
