"""The page of `finetune`: every query with its class, its probability and the support pictures nearest to it."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metalearn_cli.report.page import Html, element, join, number, page, paragraph, section, table
from metalearn_cli.report.pictures import thumbnail
from metalearn_cli.report.sections import ACCURACY, Origin, origin

MOST_QUERIES = 500
_MOST_SUPPORT = 200


class Known(NamedTuple):
    """A support picture [H, W, C] and its class, None where only the picture was kept."""

    pixels: NDArray[np.uint8]
    label: str | None


class Query(NamedTuple):
    """A query: its file, pixels [H, W, C], class and probability, its true class or None, and places in the support."""

    file: str
    pixels: NDArray[np.uint8]
    label: str
    probability: float
    known: str | None
    nearest: Sequence[int]


class Classified(NamedTuple):
    """What a classifier said: `total` queries, of which the first `queries` are pictured.

    `per_step` are accuracies after 0..K inner steps, on what `measured_on` says; `in_features` how near was measured.
    """

    checkpoint: str
    classes: Sequence[str]
    support: Sequence[Known]
    queries: Sequence[Query]
    total: int
    measured_on: str | None
    per_step: Sequence[tuple[int, float]]
    in_features: bool


def classifying_page(found: Classified, came_from: Origin) -> bytes:
    """The page as a file."""
    parts = [*_accuracy(found), _answers(found), _cards(found), _support(found), origin(came_from)]
    title = f"{found.total} pictures in {len(found.classes)} classes"
    return page(title, f"classified by {found.checkpoint}; every picture is answered by itself", parts)


def _accuracy(found: Classified) -> list[Html]:
    if not found.per_step:
        return []
    rows = [[str(step), ACCURACY.value(accuracy)] for step, accuracy in found.per_step]
    last = element("p", Html(f"Accuracy {ACCURACY.value(found.per_step[-1][1])} %"), "big")
    measured_on = {"query": "the queries whose class is known"}.get(found.measured_on or "", found.measured_on)
    note = paragraph(f"Measured on {measured_on}, after {found.per_step[-1][0]} inner steps.")
    return [last, note, table(["inner step", "accuracy %"], rows, range(2))]


def _answers(found: Classified) -> Html:
    given, right = Counter(query.label for query in found.queries), Counter[str]()
    right.update(query.label for query in found.queries if query.known == query.label)
    labelled = Counter(query.known for query in found.queries if query.known is not None)
    header = ["class", "taken for it", *(["of these right", "labelled so"] if labelled else [])]
    rows = [
        [name, str(given[name]), *([str(right[name]), str(labelled[name])] if labelled else [])]
        for name in found.classes
    ]  # fmt: skip
    return section("Answers", _left_out(found), table(header, rows, range(1, len(header))))


def _left_out(found: Classified) -> Html:
    if found.total == len(found.queries):
        return Html("")
    shown = f"the first {len(found.queries)} of {found.total} queries"
    return paragraph(f"Counted and pictured are {shown}; --csv or --json has all.")


def _cards(found: Classified) -> Html:
    space = "the features that the adapted network's head reads" if found.in_features else "raw pixels"
    note = paragraph(
        f"Below each query the support pictures nearest to it, the nearest first, by distance in {space}. The pictures "
        "are what the network sees."
    )
    cards = [_card(query, found.support) for query in found.queries]
    return section("Queries", note, element("div", join(cards), "cards"))


def _card(query: Query, support: Sequence[Known]) -> Html:
    right = None if query.known is None else query.known == query.label
    verdict = {None: "", True: "✓ right", False: f"✗ wrong, is {query.known}"}[right]
    answer = Html(f"{element('b', query.label)} {number(query.probability, f'{100 * query.probability:.1f}')} %")
    near = [_near(support[place]) for place in query.nearest]
    parts = [
        thumbnail(query.pixels, f"query {query.file}, taken for {query.label}"),
        element("p", answer, "answer"),
        *([element("p", element("b", verdict), "verdict")] if verdict else []),
        element("p", query.file, "soft"),
        element("div", join(near), "pictures"),
    ]
    return element("div", join(parts), {None: "card", True: "card right", False: "card wrong"}[right])


def _near(known: Known) -> Html:
    picture = thumbnail(known.pixels, f"support picture{'' if known.label is None else f' of {known.label}'}", "small")
    return element("figure", picture if known.label is None else join([picture, element("figcaption", known.label)]))


def _support(found: Classified) -> Html:
    shown = _evenly(found.support)
    cut = f"Pictured are {len(shown)} of {len(found.support)}." if len(shown) < len(found.support) else ""
    labelled = any(known.label is not None for known in found.support)
    note = paragraph(cut if labelled else f"An adapted file keeps the pictures, not which class each is of. {cut}")
    return section("Support set", note, element("div", join(map(_near, shown)), "pictures"))


def _evenly(support: Sequence[Known]) -> list[Known]:
    """At most so many, as many of each class."""
    most, seen = max(1, _MOST_SUPPORT // max(1, len({known.label for known in support}))), Counter[str | None]()
    kept: list[Known] = []
    for known in support:
        seen[known.label] += 1
        if seen[known.label] <= most and len(kept) < _MOST_SUPPORT:
            kept.append(known)
    return kept
