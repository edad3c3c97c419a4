"""What the figures of docs/results.md share: their look, the scale of accuracies, and a file of equal bytes."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metalearn_cli.report.charts import matplotlib_alone

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#666666", "#b58900")  # told apart by most eyes
_MARKERS = "os^DvP"
_TICKS = (20, 40, 60, 70, 80, 85, 90, 93, 95, 97, 98, 99, 99.5, 99.8)
_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "metalearn", "svg.fonttype": "none", "font.sans-serif": ["DejaVu Sans"], "font.size": 9,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.2, "axes.titlesize": 9.5,
    "legend.frameon": False, "figure.constrained_layout.use": True, "text.parse_math": False,
}  # fmt: skip


@contextmanager
def blank(width: float, height: float) -> Iterator[Any]:
    """A figure of that size in inches, with the look of all; it is drawn and saved inside the block."""
    mpl = matplotlib_alone()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        yield figure


def as_svg(figure: Any, described: str) -> str:
    """The figure's file, which has its numbers in words too; equal numbers give equal bytes."""
    buffer = io.StringIO()
    said = {"Date": None, "Creator": f"matplotlib {matplotlib_alone().__version__}", "Description": described}
    figure.savefig(buffer, format="svg", metadata=said)
    # Hundredths of a point are enough, and make a smaller file.
    rounded = re.sub(r"\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", buffer.getvalue())
    return re.sub(r"[ \t]+$", "", rounded, flags=re.MULTILINE)


def style(place: int, hollow: bool) -> dict[str, Any]:
    """The look of learner number `place`: no two have the same colour and marker."""
    colour = _COLOURS[place % 6]
    look = {"color": colour, "marker": _MARKERS[(place + place // 6) % 6], "linewidth": 1, "markersize": 5}
    return look | {"markerfacecolor": "white" if hollow else colour}


def by_errors(panel: Any) -> None:
    """Accuracies on a logarithmic scale of errors: from 98 to 99 % is as far as from 96 to 98 %."""
    from matplotlib.ticker import FixedLocator

    panel.set_yscale("function", functions=(_spread, _accuracy))
    panel.yaxis.set_major_locator(FixedLocator(_TICKS))
    panel.yaxis.set_major_formatter("{x:g}")


def by_powers(panel: Any, label: str) -> None:
    """Core-hours or core-minutes on a logarithmic scale."""
    from matplotlib.ticker import LogLocator, NullLocator

    panel.set_xlabel(label)
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_locator(NullLocator())


def legend(figure: Any, panels: Any) -> None:
    """One legend for all panels, beneath them."""
    named = {}
    for panel in panels:
        for handle, name in zip(*panel.get_legend_handles_labels(), strict=True):
            named.setdefault(name, handle)
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=4)


def _spread(percent: NDArray[np.float64]) -> NDArray[np.float64]:
    return -np.log(np.maximum(100 - percent, 0.1))


def _accuracy(spread: NDArray[np.float64]) -> NDArray[np.float64]:
    return 100 - np.exp(-spread)
