"""The first figure of docs/results.md: accuracy against core-hours, a panel for each setting of Omniglot and column."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from benchmarks.accuracy.drawing import as_svg, blank, by_errors, by_powers, legend, style
from benchmarks.accuracy.results import Hours, Result, core_hours, grouped, score
from benchmarks.accuracy.rows import FOLDER, Line, Row, Table

FIGURE = FOLDER.parent / "docs/images/accuracy.svg"
_COLUMNS = ("A", "C")


class Point(NamedTuple):
    """A learner in a panel: core-hours of one of its runs, accuracy and half of its 95 % interval, in percent."""

    learner: str
    hours: Hours
    mean: float
    half: float


def points(table: Table, measured: Mapping[Row, Result]) -> dict[tuple[str, str], list[Point]]:
    """The points of each panel, by setting and column; settings of Omniglot without a result have no panel."""
    found: dict[tuple[str, str], list[Point]] = {}
    for setting in table.source["domains"]["omniglot"]["settings"]:
        groups = grouped(table, measured, setting)
        for column in _COLUMNS if groups else ():
            # What is measured once more from the same run is no learner of its own.
            own = {line: runs for line, runs in groups.items() if not line.also}
            found[setting, column] = [_point(table, line, runs, column) for line, runs in own.items()]
    return found


def described(panels: Mapping[tuple[str, str], Sequence[Point]]) -> str:
    """The numbers of the figure in words, which stand in its file too: it can be held to them without being drawn."""
    return "; ".join(
        f"{setting} {column}: {', '.join(f'{one.learner} {one.hours.cell} h {one.mean:.2f} %' for one in shown)}"
        for (setting, column), shown in panels.items()
    )


def drawn(table: Table, measured: Mapping[Row, Result]) -> str:
    """The figure as SVG."""
    panels = points(table, measured)
    settings, learners = list(dict.fromkeys(setting for setting, _ in panels)), list(table.source["learners"])
    with blank(8, 0.9 + 2.6 * len(settings)) as figure:
        axes = figure.subplots(len(settings), len(_COLUMNS), squeeze=False, sharex=True, sharey="row")
        for (setting, column), shown in panels.items():
            panel = axes[settings.index(setting)][_COLUMNS.index(column)]
            for point in shown:
                look = style(learners.index(point.learner), hollow=point.hours.elsewhere != "")
                name = table.said(Line(point.learner), setting)["label"]
                panel.errorbar(point.hours.each, point.mean, point.half, label=name, **look)
            values = table.setting(setting)
            panel.set_title(f"{values['task.ways']}-way {values['task.shots']}-shot, column {column}")
        for row in axes:
            row[0].set_ylabel("test accuracy, %")
            by_errors(row[0])  # the axis of y is shared in a row
        for panel in axes[-1:].flat:
            by_powers(panel, "core-hours of one training")
        legend(figure, axes.flat)
        return as_svg(figure, described(panels))


def _point(table: Table, line: Line, runs: Sequence[Result], column: str) -> Point:
    found = score(runs, line, column)
    return Point(line.learner, core_hours(table, runs), found.mean, found.half)
