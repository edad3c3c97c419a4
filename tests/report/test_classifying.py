import numpy as np
import pytest

from metalearn_cli.report.classifying import MOST_QUERIES, Classified, Known, Query, classifying_page
from metalearn_cli.report.sections import Origin
from tests.report.reading import Page, loads
from tests.report.test_page import HOSTILE

PIXELS = np.zeros((8, 8, 1), np.uint8)
NOWHERE = Origin([("", "name: tiny")], [("torch", "1")], "metalearn finetune")


def page(queries: list[Query], support: list[Known], total: int | None = None) -> Page:
    total = len(queries) if total is None else total
    found = Classified("best.pt", ["cat", "dog"], support, queries, total, "query", [(0, 0.5), (1, 0.75)], True)
    return Page(classifying_page(found, NOWHERE))


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_files_and_classes_stay_text(name):
    shown = page([Query(name, PIXELS, name, 0.75, "cat", [0])], [Known(PIXELS, name)])
    assert loads(shown) == []
    assert {tag for tag, _ in shown.tags if tag in ("script", "img")} == {"img"}
    assert sum(tag == "img" for tag, _ in shown.tags) == 3


def test_a_query_with_a_known_class_is_right_or_wrong_in_words():
    support = [Known(PIXELS, "cat"), Known(PIXELS, "dog")]
    names = [("cat", "cat"), ("cat", "dog"), ("dog", None)]
    text = page([Query("file", PIXELS, label, 0.75, known, [0, 1]) for label, known in names], support).text
    assert text.count("✓ right") == 1
    assert text.count("✗ wrong, is dog") == 1


def test_answers_are_counted_by_class():
    names = [("cat", "cat"), ("cat", "dog"), ("dog", "dog"), ("dog", None)]
    shown = page([Query("", PIXELS, label, 0.5, known, []) for label, known in names], [])
    assert shown.table("class", "taken for it") == [["cat", "2", "1", "1"], ["dog", "2", "1", "2"]]


def test_what_is_left_out_is_said():
    assert "first 1 of 501 queries" in page([Query("", PIXELS, "cat", 0.5, None, [])], [], MOST_QUERIES + 1).text
    many = page([], [Known(PIXELS, "ab"[number % 2]) for number in range(300)])
    assert "Pictured are 200 of 300" in many.text
    assert sum(tag == "img" for tag, _ in many.tags) == 200


def test_support_pictures_without_classes_are_shown_as_such():
    assert "not which class each is of" in page([], [Known(PIXELS, None)]).text
