"""Charts as inline SVG: their colours are the page's, their text is text, and equal numbers give equal bytes.

matplotlib, which draws them, is the extra `report`; it is imported when the first chart is drawn.
"""

import io
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import chdir, nullcontext
from html import escape
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from metalearn_cli.errors import ConfigError
from metalearn_cli.report.page import Html, element

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK = "#0a0b0c"
_COLOURS = tuple(f"#0a0b1{number}" for number in range(6))
_MARKERS = ("o", "s", "^", "D", "v", "P")
_DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 1)))
_MOST_MARKED = 60
_RC: dict[Any, Any] = {
    "svg.hashsalt": "metalearn", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10.5,
    "font.sans-serif": ["DejaVu Sans"], "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.alpha": 0.15, "grid.color": _INK, "axes.edgecolor": _INK, "axes.labelcolor": _INK, "text.color": _INK,
    "xtick.color": _INK, "ytick.color": _INK, "legend.frameon": False, "legend.fontsize": 9.5,
    "figure.constrained_layout.use": True, "axes.unicode_minus": True, "lines.linewidth": 1.6, "lines.markersize": 4,
}  # fmt: skip


class Line(NamedTuple):
    """Points from left to right, with the half-widths of their intervals where they have some."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    half: Sequence[float] | None = None


class Axis(NamedTuple):
    """The labels of a chart's axes, with units, whether what lies on x is counted, and whether lines are named."""

    x: str
    y: str
    whole: bool = True
    legend: bool = False


def require_matplotlib(what: str) -> None:
    """Raise ConfigError, naming what asked for it and what to install, where matplotlib is missing."""
    try:
        _matplotlib()
    except ImportError:
        raise ConfigError(
            f"{what}: charts need matplotlib, which is not installed: pip install 'metalearn-cli[report]'"
        ) from None


def _matplotlib() -> ModuleType:
    """The library as nobody has set it up: no matplotlibrc of the folder at hand, no MPLBACKEND of a notebook."""
    if "matplotlib" not in sys.modules:
        logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it speaks of its caches, on stderr
        backend = os.environ.pop("MPLBACKEND", None)
        try:
            with chdir(Path(__file__).parent) if Path("matplotlibrc").exists() else nullcontext():
                import matplotlib  # noqa: F401
        finally:
            if backend is not None:
                os.environ["MPLBACKEND"] = backend
    return sys.modules["matplotlib"]


def lines(description: str, caption: str, axis: Axis, drawn: Sequence[Line], dots: Sequence[Line] = ()) -> Html:
    """One or more lines, a band around each that has intervals, and loose dots."""

    def draw(axes: "Axes") -> None:
        for place, line in enumerate(drawn):
            x, y = _drawable(line.x), _drawable(line.y)
            style: dict[str, Any] = {"color": _COLOURS[place % 6], "linestyle": _DASHES[place % 6]}
            if len(x) <= _MOST_MARKED:
                style["marker"] = _MARKERS[place % 6]
            if line.half is not None:
                half = _drawable(line.half)
                low, high = ([at + sign * by for at, by in zip(y, half, strict=True)] for sign in (-1, 1))
                axes.fill_between(x, low, high, color=_COLOURS[place % 6], alpha=0.18, linewidth=0)
            axes.plot(x, y, label=line.name, **style)
        for place, one in enumerate(dots):
            style = {"color": (_INK, _COLOURS[3])[place % 2], "linestyle": "", "marker": ".X"[place % 2]}
            axes.plot(_drawable(one.x), _drawable(one.y), label=one.name, markersize=(4, 8)[place % 2], **style)

    return _chart(description, caption, axis._replace(legend=len(drawn) + len(dots) > 1), draw)


def histogram(description: str, caption: str, axis: Axis, values: Sequence[float]) -> Html:
    """How often which of the values came; where they are few different ones, a bar for each."""
    found = [value for value in values if math.isfinite(value)]
    different = sorted(set(found))
    from matplotlib.ticker import MaxNLocator

    def draw(axes: "Axes") -> None:
        if 1 < len(different) <= 40:
            width = 0.8 * min(right - left for left, right in pairwise(different))
            axes.bar(different, [found.count(value) for value in different], width, color=_COLOURS[0])
        else:
            axes.hist(found, bins=30 if len(different) > 1 else 1, color=_COLOURS[0])
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        if found:
            axes.axvline(sum(found) / len(found), color=_COLOURS[1], linestyle="--", label="mean")

    return _chart(description, caption, axis._replace(legend=bool(found)), draw)


def _chart(description: str, caption: str, axis: Axis, draw: Callable[["Axes"], None]) -> Html:
    mpl = _matplotlib()
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with mpl.rc_context():
        mpl.rcdefaults()  # a person's matplotlibrc is for other charts
        mpl.rcParams.update(_RC)
        figure = Figure(figsize=(5.4, 3.3))
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        draw(axes)
        axes.set_xlabel(axis.x)
        axes.set_ylabel(axis.y)
        axes.set_axisbelow(True)
        if axis.whole:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
        if axis.legend:
            figure.legend(loc="outside upper center", ncols=4)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return Html(f'<figure class="chart">\n{_inline(buffer.getvalue(), description)}\n{element("figcaption", caption)}'
                "\n</figure>")  # fmt: skip


def _inline(svg: str, description: str) -> str:
    """The drawing inside a page: without what belongs to a file, in the page's colours, with ids of its own."""
    view = re.search(r'viewBox="([^"]+)"', svg)
    assert view is not None
    body = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    body = re.sub(r"^<svg[^>]*>", "", body).replace("xlink:href", "href")
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    # Ids that are referred to are digests of what they stand for, so that equal ones in two charts mean the same.
    for place, colour in enumerate(_COLOURS):
        body = body.replace(colour, f"var(--c{place})")
    body = body.replace(_INK, "currentColor")
    body = re.sub(r"\n\s*\n", "\n", body).strip()
    return f'<svg viewBox="{view[1]}" role="img" aria-label="{escape(description)}">{body}'


def _drawable(values: Sequence[float]) -> list[float]:
    """What is not finite leaves a gap."""
    return [value if math.isfinite(value) else math.nan for value in values]
