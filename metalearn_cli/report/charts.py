"""Charts as values: numbers, words, and a function that draws them with matplotlib.

matplotlib is in the extra `report`, and is imported when the first chart is drawn.
"""

import logging
import math
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import chdir, nullcontext
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from metalearn_cli.errors import ConfigError, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = ("o", "s", "^", "D", "v", "P")
_DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 1)))
_MOST_MARKED = 60  # points of a line; the markers of more would run together
_BOUNDS = ("95 % from", "to")
_LONGEST_NAME = 40  # characters


class Palette(NamedTuple):
    """The colour of text and axes, and the colours of lines and bars, as "#rrggbb"."""

    ink: str
    colours: tuple[str, ...]


class Line(NamedTuple):
    """Points (x, y) from left to right.

    `half`: for each point the half-width of its interval, or its widths (below, above); None if it has no interval.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    half: Sequence[float | tuple[float, float]] | None = None


class Axis(NamedTuple):
    """The axes of a chart: the labels of `x` and `y`, with units.

    `whole`: values of x are counts, so ticks stand at integers only. `legend`: the lines are named in a legend.
    `rows`: the number of named rows, which sets the height (only `forest` and `matrix`); 0 for the usual height.
    """

    x: str
    y: str
    whole: bool = True
    legend: bool = False
    rows: int = 0


def require_matplotlib(what: str) -> None:
    """Raise ConfigError if matplotlib is not installed; the message begins with `what` and says what to install."""
    try:
        matplotlib_alone()
    except ImportError:
        raise ConfigError(
            f"{what}: charts need matplotlib, which is not installed: pip install 'metalearn-cli[report]'"
        ) from None


def matplotlib_alone() -> ModuleType:
    """Matplotlib with its own defaults: a matplotlibrc in the current folder and MPLBACKEND are ignored."""
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


class Chart(NamedTuple):
    """A chart. `name` begins the names of its files; `description` is for people who cannot see it.

    `draw(axes, palette)` draws it with matplotlib; `header` and `rows` are its numbers as a table.
    """

    name: str
    description: str
    caption: str
    axis: Axis
    draw: "Callable[[Axes, Palette], None]"
    header: Sequence[str]
    rows: Sequence[Sequence[str | float | None]]


def lines(words: tuple[str, str, str], axis: Axis, drawn: Sequence[Line], dots: Sequence[Line] = ()) -> Chart:
    """A chart of lines, with a band around each line that has intervals, and of points without a line (`dots`).

    `words` of this and the other charts are (name, description, caption).
    """

    def draw(axes: "Axes", palette: Palette) -> None:
        for place, line in enumerate(drawn):
            # There are six colours, markers and dashes; a seventh line looks like the first.
            x, y, colour = _drawable(line.x), _drawable(line.y), palette.colours[place % 6]
            style: dict[str, Any] = {"color": colour, "linestyle": _DASHES[place % 6]}
            if len(x) <= _MOST_MARKED:
                style["marker"] = _MARKERS[place % 6]
            if line.half is not None:
                around = [_drawable(_around(*point)) for point in zip(y, line.half, strict=True)]
                low, high = ([interval[side] for interval in around] for side in (0, 1))
                axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
            axes.plot(x, y, label=_in_a_legend(line.name), **style)
        for place, points in enumerate(dots):
            colour = (palette.ink, palette.colours[3])[place % 2]
            style = {"color": colour, "linestyle": "", "marker": ".X"[place % 2], "markersize": (4, 8)[place % 2]}
            axes.plot(_drawable(points.x), _drawable(points.y), label=_in_a_legend(points.name), **style)

    axis = axis._replace(legend=len(drawn) + len(dots) > 1)
    rows = [
        [line.name, x, y, *(_around(y, line.half[place]) if line.half else (None, None))]
        for line in (*drawn, *dots)
        for place, (x, y) in enumerate(zip(line.x, line.y, strict=True))
    ]
    return Chart(*words, axis, draw, ["line", axis.x, axis.y, *_BOUNDS], rows)


def histogram(words: tuple[str, str, str], axis: Axis, values: Sequence[float]) -> Chart:
    """A histogram of the values with a line at their mean. Up to 40 different values have a bar each."""
    # matplotlib refuses to bin NaN; the table of the chart keeps all values.
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
    words: tuple[str, str, str], axis: Axis, rows: Sequence[tuple[str, float, float | tuple[float, float]]],
    zero: bool = False,
) -> Chart:  # fmt: skip
    """A chart with a row for each (name, value, half-width): the first name is at the top, each value has its interval.

    `zero`: a vertical line marks 0.
    """

    def draw(axes: "Axes", palette: Palette) -> None:
        for place, (_, value, half) in enumerate(rows):
            at, (low, high) = _drawable([value]), _drawable(_around(value, half))
            style: dict[str, Any] = {"color": palette.colours[place % 6], "marker": _MARKERS[place % 6], "capsize": 3}
            axes.errorbar(at, [place], xerr=[[max(0.0, at[0] - low)], [max(0.0, high - at[0])]], linestyle="", **style)
        if zero:
            axes.axvline(0, color=palette.ink, linestyle=":", linewidth=1)
        axes.set_yticks(range(len(rows)), [_short(name) for name, _, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)

    told = [(name, value, *_around(value, half)) for name, value, half in rows]
    return Chart(*words, axis._replace(whole=False, rows=len(rows)), draw, ["", axis.x, *_BOUNDS], told)


def matrix(words: tuple[str, str, str], axis: Axis, names: Sequence[str], counts: Sequence[Sequence[int]]) -> Chart:
    """A square for each pair of names; the larger its count, the darker it is. The axes number the names."""

    def draw(axes: "Axes", palette: Palette) -> None:
        most = max(map(max, counts)) or 1
        for row, line in enumerate(counts):
            for column, count in enumerate(line):
                square: Any = {"facecolor": palette.colours[0], "alpha": 0.75 * count / most, "linewidth": 0}
                axes.fill([column, column + 1, column + 1, column], [row, row, row + 1, row + 1], **square)
                axes.text(column + 0.5, row + 0.5, str(count) if count else "", ha="center", va="center", fontsize=8)
        places = [place + 0.5 for place in range(len(names))]
        axes.set_xticks(places, [str(place + 1) for place in range(len(names))])
        axes.set_yticks(places, [f"{_short(name)} {place}" for place, name in enumerate(names, 1)])
        axes.set_xlim(0, len(names))
        axes.set_ylim(len(names), 0)
        axes.grid(visible=False)

    rows: list[list[str | float | None]] = [[name, *line] for name, line in zip(names, counts, strict=True)]
    return Chart(*words, axis._replace(whole=False, rows=len(names)), draw, ["", *names], rows)


def _around(value: float, half: float | tuple[float, float]) -> tuple[float, float]:
    """The interval around a value."""
    below, above = half if isinstance(half, tuple) else (half, half)
    return value - below, value + above


def _in_a_legend(name: str) -> str:
    """The name with a space before it if matplotlib would leave it out of a legend (empty, or with an underscore)."""
    return f" {_short(name)}" if name[:1] in ("", "_") else _short(name)


def _short(name: str) -> str:
    """A name that fits beside a chart: its end, which tells it from others more often than its beginning."""
    name = printable(name)
    return name if len(name) <= _LONGEST_NAME else f"...{name[3 - _LONGEST_NAME :]}"


def _drawable(values: Sequence[float]) -> list[float]:
    """The values with NaN in place of infinity; matplotlib leaves a gap at NaN, and fails at infinity."""
    return [value if math.isfinite(value) else math.nan for value in values]
