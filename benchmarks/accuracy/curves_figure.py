"""The second figure of docs/results.md: validation accuracy against core-minutes, a line for each run of a setting."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from benchmarks.accuracy.curves import at_minute, compared
from benchmarks.accuracy.drawing import as_svg, blank, by_errors, by_powers, legend, style
from benchmarks.accuracy.results import Result, elsewhere
from benchmarks.accuracy.rows import FOLDER, Row, Table

FIGURE = FOLDER.parent / "docs/images/curves.svg"
SETTING = "5w1s"


class Curve(NamedTuple):
    """The validations of a run: core-minutes since its beginning, and accuracies in percent."""

    row: Row
    name: str
    minutes: Sequence[float]
    accuracies: Sequence[float]


def curves(table: Table, measured: Mapping[Row, Result]) -> list[Curve]:
    """The curves of the setting: of runs with seed 0 that were validated on its tasks, recipes among them."""
    return [
        Curve(row, table.said(row.line, SETTING)["label"], *zip(*_validations(run), strict=True))
        for row, run in compared(table, measured).items()
        if row.setting == SETTING and row.seed == 0
        if run["experiment"]["task"]["shots"] == table.setting(SETTING)["task.shots"]
    ]


def described(shown: Sequence[Curve]) -> str:
    """The numbers of the figure in words, which stand in its file too."""
    return "; ".join(
        f"{one.name}: {', '.join(f'{at:.1f} min {accuracy:.2f} %' for at, accuracy in zip(*one[2:], strict=True))}"
        for one in shown
    )


def drawn(table: Table, measured: Mapping[Row, Result]) -> str:
    """The figure as SVG."""
    shown, learners = curves(table, measured), list(table.source["learners"])
    with blank(8, 5.6) as figure:
        panel = figure.subplots()
        for row, name, minutes, accuracies in shown:
            look = style(learners.index(row.learner), hollow=elsewhere(table, measured[row]) != "")
            panel.plot(minutes, accuracies, label=name, linestyle="--" if row.recipe else "-", **look)
        panel.set_ylabel("validation accuracy, %")
        by_errors(panel)
        by_powers(panel, "core-minutes of training")
        legend(figure, [panel])
        return as_svg(figure, described(shown))


def _validations(run: Result) -> list[tuple[float, float]]:
    return [(at_minute(run, iteration), 100 * accuracy) for iteration, accuracy in run["curve"]]
