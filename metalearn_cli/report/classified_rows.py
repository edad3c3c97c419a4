"""The page of `finetune` for rows of a table: each query with its class and probability, and the support rows."""

from collections.abc import Sequence
from typing import NamedTuple

from metalearn_cli.nouns import ROW, Noun
from metalearn_cli.report.classifying import accuracy_by_step, answers, by_class
from metalearn_cli.report.judging import Judged
from metalearn_cli.report.page import Html, number, paragraph, table
from metalearn_cli.report.row_tables import MOST_INPUTS, MOST_ROWS, hidden_inputs, learned_from
from metalearn_cli.report.web_page import Origin, Section, WebPage


class ClassifiedRow(NamedTuple):
    """A row: its place (`file`), its cells, its class and probability, and its true class, if known.

    A support row has no probability. `note`: a sentence on the answer, such as the set of classes that it may be.
    """

    file: str
    cells: Sequence[str]
    label: str | None
    probability: float | None
    known: str | None
    note: str = ""


class ClassifiedRows(NamedTuple):
    """A classifier's answers to rows, the wrong ones first; `columns` are the names of the inputs.

    `noun`: the word for a row.
    """

    checkpoint: str
    classes: Sequence[str]
    columns: Sequence[str]
    support: Sequence[ClassifiedRow]
    queries: Sequence[ClassifiedRow]
    judged: Judged | None
    noun: Noun = ROW


def classified_rows_page(found: ClassifiedRows, came_from: Origin) -> WebPage:
    """The page of a classifier's answers to rows."""
    judged = []
    if found.judged is not None:
        judged = [accuracy_by_step(found.judged), by_class(found.classes, found.judged)]
    given = answers(found.classes, [(row.label or "", row.known) for row in found.queries])
    parts = [*judged, given, _queries(found), _support(found)]
    noun = found.noun
    title = f"{noun.counted(len(found.queries))} in {len(found.classes)} classes"
    return WebPage(title, f"classified by {found.checkpoint}; every {noun.one} is answered by itself", parts, came_from)


def _queries(found: ClassifiedRows) -> Section:
    shown = found.queries[:MOST_ROWS]
    judged, noted = (any(values) for values in zip(*((row.known, row.note) for row in found.queries), strict=True))
    note = "Those that are wrong come first. " if judged else ""
    note += (
        f"Shown are {len(shown)} of {len(found.queries)}; --csv or --json has all."
        if len(shown) < len(found.queries)
        else ""
    )
    header = [found.noun.one, *found.columns[:MOST_INPUTS], "class", "probability %"]
    header += [*(["verdict"] if judged else []), *(["promised"] if noted else [])]
    rows = [
        [*_row(row), *([_verdict(row)] if judged else []), *([row.note] if noted else [])] for row in shown
    ]  # fmt: skip
    return Section(
        "Queries", [paragraph(note + hidden_inputs(found.columns)), table(header, rows, _numbers(found, shown, 2))]
    )


def _row(row: ClassifiedRow) -> list[Html | str]:
    shown = Html("") if row.probability is None else number(row.probability, f"{100 * row.probability:.1f}")
    return [row.file, *row.cells[:MOST_INPUTS], row.label or "", shown]


def _verdict(row: ClassifiedRow) -> str:
    if row.known is None:
        return ""
    return "✓ right" if row.known == row.label else f"✗ wrong, is {row.known}"


def _numbers(found: ClassifiedRows, shown: Sequence[ClassifiedRow], behind: int) -> list[int]:
    """The places of the right-aligned columns: the inputs, and the probability, which is `behind` places after them."""
    inputs = min(MOST_INPUTS, len(found.columns)) if shown and shown[0].cells else 0
    return [*range(1, 1 + inputs), *([inputs + behind] if behind else [])]


def _support(found: ClassifiedRows) -> Section:
    labelled = any(row.known for row in found.support[:MOST_ROWS])
    note = "" if labelled else f"An adapted file keeps the {found.noun.many}, not which class each is of."
    header = [found.noun.one, *found.columns[:MOST_INPUTS], *(["class"] if labelled else [])]
    rows = [[row.file, *row.cells[:MOST_INPUTS], *([row.known or ""] if labelled else [])] for row in found.support]
    return learned_from(found.noun, header, rows, note, _numbers(found, found.support, 0))
