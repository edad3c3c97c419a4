"""The figure of docs/results.md: accuracy against core-hours, a panel for each setting of Omniglot and two columns."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.results import Hours, Result, core_hours, grouped, score
from benchmarks.accuracy.rows import FOLDER, Line, Row, Table
from metalearn_cli.report.charts import matplotlib_alone

FIGURE = FOLDER.parent / "docs/images/accuracy.svg"
_COLUMNS = ("A", "C")
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#666666", "#b58900")  # told apart by most eyes
_MARKERS = "os^DvP"
_TICKS = (20, 40, 60, 70, 80, 85, 90, 93, 95, 97, 98, 99, 99.5, 99.8)
_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "metalearn", "svg.fonttype": "none", "font.sans-serif": ["DejaVu Sans"], "font.size": 9,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.2, "axes.titlesize": 9.5,
    "legend.frameon": False, "figure.constrained_layout.use": True, "text.parse_math": False,
}  # fmt: skip


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
    """The figure as SVG; equal numbers give equal bytes."""
    mpl = matplotlib_alone()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

    panels = points(table, measured)
    settings, learners = list(dict.fromkeys(setting for setting, _ in panels)), list(table.source["learners"])
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        figure = Figure(figsize=(8, 0.9 + 2.6 * len(settings)))
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(settings), len(_COLUMNS), squeeze=False, sharex=True, sharey="row")
        for (setting, column), shown in panels.items():
            panel = axes[settings.index(setting)][_COLUMNS.index(column)]
            for point in shown:
                style = _style(learners.index(point.learner))
                name = table.said(Line(point.learner), setting)["label"]
                fill = "white" if point.hours.elsewhere else style["color"]
                panel.errorbar(
                    point.hours.each, point.mean, point.half, label=name, markersize=5, markerfacecolor=fill, **style
                )
            values = table.setting(setting)
            panel.set_title(f"{values['task.ways']}-way {values['task.shots']}-shot, column {column}")
        for row in axes:
            row[0].set_ylabel("test accuracy, %")
            # The axis of y is shared in a row.
            row[0].set_yscale("function", functions=(_spread, _accuracy))
            row[0].yaxis.set_major_locator(FixedLocator(_TICKS))
            row[0].yaxis.set_major_formatter("{x:g}")
        for panel in axes[-1:].flat:
            panel.set_xlabel("core-hours of one training")
            panel.set_xscale("log")
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.xaxis.set_major_formatter("{x:g}")
            panel.xaxis.set_minor_locator(NullLocator())
        _legend(figure, axes)
        buffer = io.StringIO()
        said = {"Date": None, "Creator": f"matplotlib {mpl.__version__}", "Description": described(panels)}
        figure.savefig(buffer, format="svg", metadata=said)
    # Hundredths of a point are enough, and make a smaller file.
    rounded = re.sub(r"\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", buffer.getvalue())
    return re.sub(r"[ \t]+$", "", rounded, flags=re.MULTILINE)


def _point(table: Table, line: Line, runs: Sequence[Result], column: str) -> Point:
    found = score(runs, line, column)
    return Point(line.learner, core_hours(table, runs), found.mean, found.half)


def _spread(percent: NDArray[np.float64]) -> NDArray[np.float64]:
    """Accuracies on a logarithmic scale of errors: from 98 to 99 % is as far as from 96 to 98 %."""
    return -np.log(np.maximum(100 - percent, 0.1))


def _accuracy(spread: NDArray[np.float64]) -> NDArray[np.float64]:
    return 100 - np.exp(-spread)


def _style(place: int) -> dict[str, Any]:
    """The look of learner number `place`: no two have the same colour and marker."""
    return {"color": _COLOURS[place % 6], "marker": _MARKERS[(place + place // 6) % 6], "linewidth": 1}


def _legend(figure: Any, axes: Any) -> None:
    """One legend for all panels, beneath them."""
    named = {}
    for panel in axes.flat:
        for handle, name in zip(*panel.get_legend_handles_labels(), strict=True):
            named.setdefault(name, handle)
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=4)
