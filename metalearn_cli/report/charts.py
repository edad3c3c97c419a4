"""Charts: what they show as numbers, and how they are drawn; inside a page as SVG, in the page's own colours.

Equal numbers give equal bytes. matplotlib, which draws them, is the extra `report`; it is imported when the first chart
is drawn.
"""

import io
import logging
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from metalearn_cli.errors import ConfigError
from metalearn_cli.report.page import Html, element

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = ("o", "s", "^", "D", "v", "P")
_DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 1)))
_MOST_MARKED = 60
_LONGEST_NAME = 40
_WIDTH, _HEIGHT, _ROWLESS, _ROW, _NAME = 5.4, 3.3, 0.8, 0.32, 0.2
"""Inches: a chart, one without its named rows, such a row, and a further line of the legend."""


class Palette(NamedTuple):
    """The colour of text and axes, and those of what is drawn."""

    ink: str
    colours: tuple[str, ...]


_OF_THE_PAGE = Palette("#0a0b0c", tuple(f"#0a0b1{number}" for number in range(6)))
"""Each stands for a colour of the page, which is another in the dark."""


class Line(NamedTuple):
    """Points from left to right, with the half-widths of their intervals where they have some."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    half: Sequence[float] | None = None


class Axis(NamedTuple):
    """The labels of a chart's axes, with units, whether what lies on x is counted, whether lines are named, and of how
    many named rows it consists.
    """

    x: str
    y: str
    whole: bool = True
    legend: bool = False
    rows: int = 0


def require_matplotlib(what: str) -> None:
    """Raise ConfigError, naming what asked for it and what to install, where matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ConfigError(
            f"{what}: charts need matplotlib, which is not installed: pip install 'metalearn-cli[report]'"
        ) from None


class Chart(NamedTuple):
    """A chart: the name of its files, what it shows in words, how it is drawn, and its numbers as a table."""

    name: str
    description: str
    caption: str
    axis: Axis
    draw: "Callable[[Axes, Palette], None]"
    header: Sequence[str]
    rows: Sequence[Sequence[str | float | None]]


def lines(words: tuple[str, str, str], axis: Axis, drawn: Sequence[Line], dots: Sequence[Line] = ()) -> Chart:
    """One or more lines, a band around each that has intervals, and loose dots; words: name, description, caption."""

    def draw(axes: "Axes", palette: Palette) -> None:
        for place, line in enumerate(drawn):
            x, y, colour = _drawable(line.x), _drawable(line.y), palette.colours[place % 6]
            style: dict[str, Any] = {"color": colour, "linestyle": _DASHES[place % 6]}
            if len(x) <= _MOST_MARKED:
                style["marker"] = _MARKERS[place % 6]
            if line.half is not None:
                half = _drawable(line.half)
                low, high = ([at + sign * by for at, by in zip(y, half, strict=True)] for sign in (-1, 1))
                axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
            axes.plot(x, y, label=_short(line.name), **style)
        for place, one in enumerate(dots):
            colour = (palette.ink, palette.colours[3])[place % 2]
            style = {"color": colour, "linestyle": "", "marker": ".X"[place % 2]}
            axes.plot(_drawable(one.x), _drawable(one.y), label=one.name, markersize=(4, 8)[place % 2], **style)

    axis = axis._replace(legend=len(drawn) + len(dots) > 1)
    rows = [
        [line.name, x, y, None if line.half is None else line.half[place]]
        for line in (*drawn, *dots)
        for place, (x, y) in enumerate(zip(line.x, line.y, strict=True))
    ]
    return Chart(*words, axis, draw, ["line", axis.x, axis.y, "± 95 %"], rows)


def histogram(words: tuple[str, str, str], axis: Axis, values: Sequence[float]) -> Chart:
    """How often which of the values came; where they are few different ones, a bar for each."""
    found = [value for value in values if math.isfinite(value)]
    different = sorted(set(found))

    def draw(axes: "Axes", palette: Palette) -> None:
        from matplotlib.ticker import MaxNLocator

        if 1 < len(different) <= 40:
            width = 0.8 * min(right - left for left, right in pairwise(different))
            axes.bar(different, [found.count(value) for value in different], width, color=palette.colours[0])
        else:
            axes.hist(found, bins=30 if len(different) > 1 else 1, color=palette.colours[0])
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        if found:
            axes.axvline(sum(found) / len(found), color=palette.colours[1], linestyle="--", label="mean")

    return Chart(*words, axis._replace(legend=bool(found)), draw, ["number", axis.x], list(enumerate(values)))


def forest(
    words: tuple[str, str, str], axis: Axis, rows: Sequence[tuple[str, float, float]], zero: bool = False
) -> Chart:
    """A line for each name, from the first above to the last below: its value, with its interval; with `zero`, where
    that is.
    """

    def draw(axes: "Axes", palette: Palette) -> None:
        for place, (_, value, half) in enumerate(rows):
            at, around = _drawable([value]), _drawable([half])
            style: dict[str, Any] = {"color": palette.colours[place % 6], "marker": _MARKERS[place % 6], "capsize": 3}
            axes.errorbar(at, [place], xerr=around, linestyle="", **style)
        if zero:
            axes.axvline(0, color=palette.ink, linestyle=":", linewidth=1)
        axes.set_yticks(range(len(rows)), [_short(name) for name, _, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)

    return Chart(*words, axis._replace(whole=False, rows=len(rows)), draw, ["", axis.x, "± 95 %"], rows)


def inline(chart: Chart) -> Html:
    """The chart in a page, with its caption."""
    buffer = io.StringIO()
    with drawn(chart, _OF_THE_PAGE, transparent=True) as figure:
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    caption = element("figcaption", chart.caption)
    return Html(f'<figure class="chart">\n{_inline(buffer.getvalue(), chart.description)}\n{caption}\n</figure>')


@contextmanager
def drawn(chart: Chart, palette: Palette, transparent: bool) -> "Iterator[Figure]":
    """The chart as a figure of matplotlib's, to be saved inside the block."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it speaks of its caches, on stderr
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with mpl.rc_context():
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
    """How many names of the legend fit side by side."""
    longest = max((len(name) for name in axes.get_legend_handles_labels()[1]), default=1)
    return max(1, min(4, 70 // (longest + 6)))


def _short(name: str) -> str:
    """A name that fits beside a chart: its end, which tells it from others more often than its beginning."""
    return name if len(name) <= _LONGEST_NAME else f"...{name[3 - _LONGEST_NAME :]}"


def _settings(ink: str, transparent: bool) -> dict[Any, Any]:
    return {
        "svg.hashsalt": "metalearn", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10.5,
        "font.sans-serif": ["DejaVu Sans"], "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
        "grid.alpha": 0.15, "grid.color": ink, "axes.edgecolor": ink, "axes.labelcolor": ink, "text.color": ink,
        "xtick.color": ink, "ytick.color": ink, "legend.frameon": False, "legend.fontsize": 9.5,
        "figure.constrained_layout.use": True, "axes.unicode_minus": True, "lines.linewidth": 1.6,
        "lines.markersize": 4, "savefig.transparent": transparent, "savefig.dpi": 200,
    }  # fmt: skip


def _inline(svg: str, description: str) -> str:
    """The drawing inside a page: without what belongs to a file, in the page's colours, with ids of its own."""
    view = re.search(r'viewBox="([^"]+)"', svg)
    assert view is not None
    body = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    body = re.sub(r"^<svg[^>]*>", "", body).replace("xlink:href", "href")
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    # Ids that are referred to are digests of what they stand for, so that equal ones in two charts mean the same.
    for place, colour in enumerate(_OF_THE_PAGE.colours):
        body = body.replace(colour, f"var(--c{place})")
    body = body.replace(_OF_THE_PAGE.ink, "currentColor")
    body = re.sub(r"\n\s*\n", "\n", body).strip()
    return f'<svg viewBox="{view[1]}" role="img" aria-label="{escape(description)}">{body}'


def _drawable(values: Sequence[float]) -> list[float]:
    """What is not finite leaves a gap."""
    return [value if math.isfinite(value) else math.nan for value in values]
