"""Charts drawn by matplotlib: inside a page as SVG in the page's own colours, or as figures to be saved.

Equal numbers give equal bytes.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

from metalearn_cli.errors import printable
from metalearn_cli.report.charts import Chart, Palette, matplotlib_alone
from metalearn_cli.report.page import Html, element

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT, _ROWLESS, _ROW, _NAME = 5.4, 3.3, 0.8, 0.32, 0.2
"""Inches: width and height of a chart; for a chart with named rows its height without them, and the height of a row;
the height of each further line of the legend."""
_OF_THE_PAGE = Palette("#0a0b0c", tuple(f"#0a0b1{number}" for number in range(6)))
"""Placeholders that `_inline` replaces by variables of the page's style, which differ on light and dark screens."""


def inline(chart: Chart) -> Html:
    """The chart as SVG inside a page, with its caption."""
    buffer = io.StringIO()
    with drawn_figure(chart, _OF_THE_PAGE, transparent=True) as figure:
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    caption = element("figcaption", chart.caption)
    return Html(f'<figure class="chart">\n{_inline(buffer.getvalue(), chart.description)}\n{caption}\n</figure>')


@contextmanager
def drawn_figure(chart: Chart, palette: Palette, transparent: bool) -> "Iterator[Figure]":
    """Yield the chart as a matplotlib figure; save it inside the block, because its settings end with the block."""
    mpl = matplotlib_alone()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # SVG keeps the text, and the browser has the letters
        mpl.rcdefaults()  # a person's matplotlibrc is for other charts
        mpl.rcParams.update(_settings(palette.ink, transparent))
        figure = Figure()
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        chart.draw(axes, palette)
        axes.set_xlabel(chart.axis.x)
        axes.set_ylabel(chart.axis.y)
        axes.set_axisbelow(True)
        if chart.axis.whole:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
        height = _ROWLESS + _ROW * chart.axis.rows if chart.axis.rows else _HEIGHT
        if chart.axis.legend:
            columns, names = _columns(axes), len(axes.get_legend_handles_labels()[1])
            figure.legend(loc="outside upper center", ncols=columns)
            height += _NAME * max(0, -(-names // columns) - 1)
        figure.set_size_inches(_WIDTH, height)
        yield figure


def _columns(axes: "Axes") -> int:
    """The number of columns of the legend: as many names as fit side by side, at most four."""
    longest = max((len(name) for name in axes.get_legend_handles_labels()[1]), default=1)
    return max(1, min(4, 70 // (longest + 6)))


def _settings(ink: str, transparent: bool) -> dict[Any, Any]:
    return {
        "svg.hashsalt": "metalearn", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10.5,
        "font.sans-serif": ["DejaVu Sans"], "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
        "grid.alpha": 0.15, "grid.color": ink, "axes.edgecolor": ink, "axes.labelcolor": ink, "text.color": ink,
        "xtick.color": ink, "ytick.color": ink, "legend.frameon": False, "legend.fontsize": 9.5,
        "figure.constrained_layout.use": True, "axes.unicode_minus": True, "lines.linewidth": 1.6,
        "lines.markersize": 4, "savefig.transparent": transparent, "savefig.dpi": 200,
        "text.parse_math": False,
    }  # fmt: skip


def _inline(svg: str, description: str) -> str:
    """The SVG of a file as an element of a page: without metadata, in the colours of the page."""
    view = re.search(r'viewBox="([^"]+)"', svg)
    assert view is not None
    body = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    body = re.sub(r"^<svg[^>]*>", "", body).replace("xlink:href", "href")
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    # The ids that are left are matplotlib's digests of the shapes they name, so equal ids in two charts cannot clash.
    for place, colour in enumerate(_OF_THE_PAGE.colours):
        body = body.replace(colour, f"var(--c{place})")
    body = body.replace(_OF_THE_PAGE.ink, "currentColor")
    body = re.sub(r"\n\s*\n", "\n", body).strip()
    return f'<svg viewBox="{view[1]}" role="img" aria-label="{escape(printable(description))}">{body}'
