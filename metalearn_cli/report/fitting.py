"""Charts of regressions: functions of one input as they are learned, and the error by the number of examples."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from metalearn_cli.report import charts
from metalearn_cli.report.charts import Axis, Chart, Line


class Fitted(NamedTuple):
    """A regression task: its support points (x, y), its query points, and the learner's outputs at the places `grid`.

    `outputs[i]` are those after inner step `steps[i]`.
    """

    support: tuple[Sequence[float], Sequence[float]]
    query: tuple[Sequence[float], Sequence[float]]
    grid: Sequence[float]
    steps: Sequence[int]
    outputs: Sequence[Sequence[float]]


def fit_chart(fit: Fitted, place: int) -> Chart:
    """A chart of one task: the learner's function before and after its inner steps, and the points of the task."""
    names = ["before the first step" if step == 0 else f"after step {step}" for step in fit.steps]
    # The last first, as the first line has the strongest colour.
    drawn = [Line(name, fit.grid, outputs) for name, outputs in zip(names, fit.outputs, strict=True)][::-1]
    dots = [Line("query", *fit.query), Line("support", *fit.support)]
    words = (f"fit-{place}", f"episode {place}: outputs before and after adaptation", f"Episode {place}.")
    return charts.lines(words, Axis("input", "output", whole=False), drawn, dots)


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
