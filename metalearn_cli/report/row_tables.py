"""The parts that pages about rows of a table share: the limits of what is shown, and the section of support rows."""

from collections.abc import Sequence

from metalearn_cli.nouns import Noun
from metalearn_cli.report.page import paragraph, table
from metalearn_cli.report.web_page import Section

MOST_ROWS, MOST_INPUTS = 500, 8


def hidden_inputs(columns: Sequence[str]) -> str:
    """A sentence on the inputs that tables leave out, with a space before it; empty if all are shown."""
    left = len(columns) - MOST_INPUTS
    return f" {left} more input{'s are' if left > 1 else ' is'} not shown." if left > 0 else ""


def learned_from(
    noun: Noun, header: Sequence[str], rows: Sequence[Sequence[str]], note: str, numbers: Sequence[int]
) -> Section:  # fmt: skip
    """The section of the support set: a note and the first rows; the columns `numbers` are right-aligned."""
    shown = rows[:MOST_ROWS]
    if len(shown) < len(rows):
        note += f" Shown are {len(shown)} of {noun.counted(len(rows))}."
    return Section("Learned from", [paragraph(note), table(header, shown, numbers)])
