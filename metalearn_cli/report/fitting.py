"""Charts of regressions: fitted functions of one input, errors, and the error for each number of examples."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from metalearn_cli.report import charts
from metalearn_cli.report.charts import Axis, Chart, Line


class Fitted(NamedTuple):
    """A regression task: its support points (x, y), its query points, and the learner's outputs at the places `grid`.

    `outputs[i]` are those after inner step `steps[i]`. `axes` are the names of its input and its output.
    """

    support: tuple[Sequence[float], Sequence[float]]
    query: tuple[Sequence[float], Sequence[float]]
    grid: Sequence[float]
    steps: Sequence[int]
    outputs: Sequence[Sequence[float]]
    axes: tuple[str, str] = ("input", "output")


def fit_chart(fit: Fitted, place: int) -> Chart:
    """A chart of one task: the learner's function before and after its inner steps, and the points of the task."""
    drawn, dots = _drawn(fit)
    words = (f"fit-{place}", f"episode {place}: outputs before and after adaptation", f"Episode {place}.")
    return charts.lines(words, Axis(*fit.axes, whole=False), drawn, dots)


def _drawn(fit: Fitted) -> tuple[list[Line], list[Line]]:
    """The learner's functions as lines, and the points of the task as dots."""
    names = ["before the first step" if step == 0 else f"after step {step}" for step in fit.steps]
    # In reverse, because the first line gets the strongest colour, and the last step matters most.
    drawn = [Line(name, fit.grid, outputs) for name, outputs in zip(names, fit.outputs, strict=True)][::-1]
    return drawn, [Line("query", *fit.query), Line("support", *fit.support)]


def own_fit_chart(name: str, fit: Fitted) -> Chart:
    """A chart of a person's own rows, with the learner's function before and after its inner steps.

    `name` is that of the chart's files.
    """
    drawn, dots = _drawn(fit)
    caption = "The rows that it learned from, the known values of queries, and the values after each inner step shown."
    words = (name, f"{fit.axes[1]} by {fit.axes[0]}, before and after adaptation", caption)
    return charts.lines(words, Axis(*fit.axes, whole=False), drawn, dots)


def known_chart(name: str, target: str, known: Sequence[float], values: Sequence[float]) -> Chart:
    """A chart of the predicted values of queries against their known values, with the line on which both are equal."""
    ends = [min([*known, *values]), max([*known, *values])]
    caption = f"{target} of each query: the nearer to the line, the nearer to the known value."
    words = (name, f"{target}: values against known values", caption)
    drawn, dots = [Line("as known", ends, ends)], [Line("query", known, values)]
    return charts.lines(words, Axis(f"known {target}", target, whole=False), drawn, dots)


def errors_chart(steps: Sequence[int], by_target: Mapping[str, Sequence[float]], extent: str) -> list[Chart]:
    """A chart of the error of each target after each inner step; empty for a single step."""
    if len(steps) < 2:
        return []
    words = (
        "error",
        "mean squared error after each inner step",
        f"Mean squared error after each inner step, {extent}.",
    )
    drawn = [Line(name, steps, errors) for name, errors in by_target.items()]
    return [charts.lines(words, Axis("inner step", "mean squared error"), drawn)]


def examples_chart(by_examples: Sequence[tuple[int, Mapping[str, float]]]) -> list[Chart]:
    """A chart of the error after the last inner step against the number of support examples; empty for fewer than two.

    `by_examples`: (number of examples, the last step with its `score` and `ci95`).
    """
    if len(by_examples) < 2:
        return []
    counts, steps = zip(*by_examples, strict=True)
    errors = [[step[key] for step in steps] for key in ("score", "ci95")]
    caption = "The error after the last inner step, by how many of its examples a task was learned from."
    words = ("examples", "mean squared error by number of examples", f"{caption} Bands: 95 % intervals over episodes.")
    drawn = [Line("", list(counts), *errors)]
    return [charts.lines(words, Axis("examples", "mean squared error"), drawn)]
