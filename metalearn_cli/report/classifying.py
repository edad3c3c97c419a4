"""The page of `finetune`: every query with its class, its probability and the support pictures nearest to it."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metalearn_cli.report.judging import Counts, Judged
from metalearn_cli.report.page import Html, element, join, number, paragraph, table
from metalearn_cli.report.pictures import thumbnail
from metalearn_cli.report.sections import ACCURACY
from metalearn_cli.report.web_page import Origin, Section, WebPage

MOST_QUERIES = 500
_FEW = 60
_MOST_SUPPORT, _MOST_COLUMNS, _MOST_PAIRS = 200, 30, 30


class SupportPicture(NamedTuple):
    """A support picture [H, W, C] and its class; the class is None if only the picture was kept."""

    pixels: NDArray[np.uint8]
    label: str | None


class Query(NamedTuple):
    """A query: its file, its pixels [H, W, C], the answer (class and probability) and its true class, if known.

    `nearest`: places of the nearest support pictures in `Classified.support`, the nearest first. `note`: a sentence on
    the answer, such as the set of classes that it may be; empty if there is none.
    """

    file: str
    pixels: NDArray[np.uint8]
    label: str
    probability: float
    known: str | None
    nearest: Sequence[int]
    note: str = ""


class Classified(NamedTuple):
    """The answers of a classifier: `answers` has (class, true class or None) of all queries; `queries` are pictured.

    `in_features`: distances were measured between features, and not between pixels.
    """

    checkpoint: str
    classes: Sequence[str]
    support: Sequence[SupportPicture]
    queries: Sequence[Query]
    answers: Sequence[tuple[str, str | None]]
    judged: Judged | None
    in_features: bool


def classifying_page(found: Classified, came_from: Origin) -> WebPage:
    """The page of a classifier's answers."""
    judged = [] if found.judged is None else [accuracy_by_step(found.judged), by_class(found.classes, found.judged)]
    parts = [*judged, answers(found.classes, found.answers), _cards(found), _support(found)]
    title = f"{len(found.answers)} pictures in {len(found.classes)} classes"
    subtitle = f"classified by {found.checkpoint}; every picture is answered by itself"
    return WebPage(title, subtitle, parts, came_from)


def accuracy_by_step(judged: Judged) -> Section:
    """The section of the accuracy after each inner step."""
    last = judged.steps[-1]
    percent, interval, right, judged_in_all = _cells(last)
    said = Html(f"Accuracy {percent} % (95 %: {interval}), {right} of {judged_in_all} {judged.noun.many}")
    measured_on = {"query": "the queries whose class is known"}.get(judged.measured_on, judged.measured_on)
    note = paragraph(f"Measured on {measured_on}, after {last['step']} inner steps. {judged.note}")
    rows = [[str(row["step"]), *_cells(row)] for row in judged.steps]
    return Section("", [element("p", said, "big"), note, table(["inner step", *_HEADER], rows, range(5))])


_HEADER = ("accuracy %", "95 %", "right", "of")


def _cells(counts: Counts) -> list[Html | str]:
    """The cells below _HEADER."""
    share = (str(counts["right"]), str(counts["pictures"]))
    if counts["accuracy"] is None:
        return ["-", "-", *share]
    low, high = map(ACCURACY.value, counts["interval"])
    return [ACCURACY.value(counts["accuracy"]), Html(f"{low} to {high}"), *share]


def by_class(classes: Sequence[str], judged: Judged) -> Section:
    """A table of the classes, and their confusions: a matrix for up to 30 classes, else the most frequent pairs."""
    counted = enumerate(zip(classes, judged.classes, strict=True), 1)
    rows = [[str(number), name, *_cells(row)] for number, (name, row) in counted]
    parts = [table(["", "class", *_HEADER], rows, [0, *range(2, 6)])]
    if len(classes) <= _MOST_COLUMNS:
        parts += [element("h3", "Taken for"), paragraph("A row for each class, and in column 1, 2, ... how many "
                  f"of its {judged.noun.many} were taken for that class."), _matrix(classes, judged)]  # fmt: skip
    elif judged.confused:
        pairs = [[known, taken_for, str(times)] for known, taken_for, times in judged.confused[:_MOST_PAIRS]]
        note = paragraph(f"The {len(pairs)} most frequent of {len(judged.confused)} confused pairs; --json has all.")
        parts += [element("h3", "Most confused"), note, table(["class", "taken for", "times"], pairs, [2])]
    return Section("By class", parts)


def _matrix(classes: Sequence[str], judged: Judged) -> Html:
    rows = [
        [
            str(row + 1),
            name,
            *(element("b", str(count)) if row == column else str(count) for column, count in enumerate(counts)),
        ]
        for row, (name, counts) in enumerate(zip(classes, judged.confusion, strict=True))
    ]
    numbers = [str(column + 1) for column in range(len(classes))]
    return table(["", "its class", *numbers], rows, [0, *range(2, len(classes) + 2)])


def answers(classes: Sequence[str], pairs: Sequence[tuple[str, str | None]]) -> Section:
    """A table of how often each class was answered, from the (class, true class or None) of all queries."""
    # Three counts of each class: how often it was answered, how often rightly, and how many queries are labelled so.
    given, right = Counter(label for label, _ in pairs), Counter[str]()
    right.update(label for label, known in pairs if known == label)
    labelled = Counter(known for _, known in pairs if known is not None)
    header = ["class", "taken for it", *(["of these right", "labelled so"] if labelled else [])]
    rows = [
        [name, str(given[name]), *([str(right[name]), str(labelled[name])] if labelled else [])]
        for name in classes
    ]  # fmt: skip
    return Section("Answers", [table(header, rows, range(1, len(header)))])


def _left_out(found: Classified) -> Html:
    total, wrong = len(found.answers), sum(known not in (None, label) for label, known in found.answers)
    first = "Those that are wrong come first. " if wrong else ""
    if total == len(found.queries):
        return paragraph(first) if first else Html("")
    return paragraph(f"{first}Pictured are the first {len(found.queries)} of {total} queries; --csv or --json has all.")


def _cards(found: Classified) -> Section:
    space = "the features that the adapted network's head reads" if found.in_features else "raw pixels"
    note = paragraph(
        f"Below each query the support pictures nearest to it, the nearest first, by distance in {space}. The pictures "
        "are what the network sees."
    )
    if len(found.queries) <= _FEW:
        return Section("Queries", [note, _left_out(found), _of(found.queries, found.support)])
    folded = [
        Html(f'<details class="group"{"" if place else " open"}>{element("summary", f"{name} ({len(group)})")}\n'
             f"{_of(group, found.support)}</details>")
        for place, (name, group) in enumerate(_groups(found))
    ]  # fmt: skip
    return Section("Queries", [note, _left_out(found), paragraph("A click unfolds a group."), *folded])


def _of(queries: Sequence[Query], support: Sequence[SupportPicture]) -> Html:
    return element("div", join(_card(query, support) for query in queries), "cards")


def _groups(found: Classified) -> list[tuple[str, list[Query]]]:
    """Named groups of queries: the wrong ones first, then one group for each class that was answered."""
    wrong = [query for query in found.queries if query.known not in (None, query.label)]
    others = {name: [q for q in found.queries if q.label == name and q.known in (None, name)] for name in found.classes}
    named = [("Wrong", wrong), *((f"Taken for {name}", group) for name, group in others.items())]
    return [(name, group) for name, group in named if group]


def _card(query: Query, support: Sequence[SupportPicture]) -> Html:
    right = None if query.known is None else query.known == query.label
    verdict = {None: "", True: "✓ right", False: f"✗ wrong, is {query.known}"}[right]
    answer = Html(f"{element('b', query.label)} {number(query.probability, f'{100 * query.probability:.1f}')} %")
    near = [_near(support[place]) for place in query.nearest]
    parts = [
        thumbnail(query.pixels, f"query {query.file}, taken for {query.label}"),
        element("p", answer, "answer"),
        *([element("p", query.note, "soft")] if query.note else []),
        *([element("p", element("b", verdict), "verdict")] if verdict else []),
        element("p", query.file, "soft"),
        element("div", join(near), "pictures"),
    ]
    return element("div", join(parts), {None: "card", True: "card right", False: "card wrong"}[right])


def _near(known: SupportPicture) -> Html:
    picture = thumbnail(known.pixels, f"support picture{'' if known.label is None else f' of {known.label}'}", "small")
    return element("figure", picture if known.label is None else join([picture, element("figcaption", known.label)]))


def _support(found: Classified) -> Section:
    shown = _evenly(found.support)
    cut = f"Pictured are {len(shown)} of {len(found.support)}." if len(shown) < len(found.support) else ""
    labelled = any(known.label is not None for known in found.support)
    note = paragraph(cut if labelled else f"An adapted file keeps the pictures, not which class each is of. {cut}")
    return Section("Support set", [note, element("div", join(map(_near, shown)), "pictures")])


def _evenly(support: Sequence[SupportPicture]) -> list[SupportPicture]:
    """At most _MOST_SUPPORT support pictures, equally many of each class."""
    most, seen = max(1, _MOST_SUPPORT // max(1, len({known.label for known in support}))), Counter[str | None]()
    kept: list[SupportPicture] = []
    for known in support:
        seen[known.label] += 1
        if seen[known.label] <= most and len(kept) < _MOST_SUPPORT:
            kept.append(known)
    return kept
