"""Times, numbers and sparklines as text, in Unicode or in ASCII."""

import math
from collections.abc import Sequence

from rich.console import Console

_BARS, _ASCII_BARS = "▁▂▃▄▅▆▇█", "_.-:=+*#"


def clock(seconds: float) -> str:
    """Seconds as hours, minutes and seconds: 1:02:03."""
    if not math.isfinite(seconds):
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def digits(value: float, count: int) -> str:
    """The value in `count` significant digits, with zeros at the end: 4.50; "-" for NaN and infinity."""
    if not math.isfinite(value):
        return "-"
    return f"{value:#.{count}g}".removesuffix(".")


def decimals(value: float, count: int) -> str:
    """The value with `count` decimals; "-" for NaN and infinity."""
    return f"{value:.{count}f}" if math.isfinite(value) else "-"


def writes_unicode(console: Console) -> bool:
    """Whether the console's stream can write more than ASCII."""
    return console.encoding.startswith("utf")


def sign(console: Console) -> str:
    """The plus-minus sign, or "+/-" on a console that writes only ASCII."""
    return "±" if writes_unicode(console) else "+/-"


def sparkline(values: Sequence[float], width: int, unicode: bool) -> str:
    """A sparkline of the values in at most `width` characters.

    If there are more values than characters, neighbours share a character, which shows their mean.
    """
    size = math.ceil(len(values) / width)
    groups = [values[start : start + size] for start in range(0, len(values), size or 1)]
    means = [sum(group) / len(group) for group in groups]
    finite = [mean for mean in means if math.isfinite(mean)]
    bars = _BARS if unicode else _ASCII_BARS
    if not finite:
        return ""
    low, height = min(finite), max(finite) - min(finite)

    def bar(mean: float) -> str:
        if not math.isfinite(mean):
            return " "
        return bars[round((len(bars) - 1) * (mean - low) / height)] if height else bars[0]

    return "".join(bar(mean) for mean in means)
