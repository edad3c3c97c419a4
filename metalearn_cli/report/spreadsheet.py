"""Tables for spreadsheet programs: quoted as RFC 4180 says, and no cell that one would take for a formula."""

import csv
import io
from collections.abc import Iterable, Sequence

_STARTS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Exact(str):
    """A number written out, which a spreadsheet reads as a number."""


def exact_label(label: object) -> str | None:
    """A label as a cell for `as_csv`: a number keeps all its digits; None gives an empty cell."""
    return None if label is None else Exact(label) if isinstance(label, int | float) else str(label)


def as_csv(header: Sequence[str], rows: Iterable[Sequence[str | float | None]]) -> bytes:
    """The table as bytes in UTF-8. Floats have seven digits, integers and labels (`exact_label`) all; None is empty.

    Text that a spreadsheet would run as a formula gets an apostrophe in front, which such a program reads as "this is
    text" (OWASP, "CSV Injection").

    >>> as_csv(["file", "p"], [["a,b.png", 0.25], ["=1+1.png", None]]).splitlines()
    [b'file,p', b'"a,b.png",0.25', b"'=1+1.png,"]
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerows([_cell(value) for value in row] for row in [header, *rows])
    # The name of a file may be no valid text; its bytes are written unchanged.
    return text.getvalue().encode("utf-8", "surrogateescape")


def _cell(value: str | float | None) -> str:
    if value is None:
        return ""
    if isinstance(value, int | Exact):
        return str(value)
    if not isinstance(value, str):
        return f"{value:.7g}"
    return f"'{value}" if value.startswith(_STARTS_A_FORMULA) else value
