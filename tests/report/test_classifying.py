import numpy as np
import pytest

from metalearn_cli.report.classifying import MOST_QUERIES, Classified, Judged, Query, SupportPicture, classifying_page
from metalearn_cli.report.web_page import Origin, as_html
from tests.report.reading import Page, loads
from tests.report.test_page import HOSTILE

PIXELS = np.zeros((8, 8, 1), np.uint8)
NOWHERE = Origin([("", "name: tiny")], [("torch", "1")], "metalearn finetune")


def counts(right: int, pictures: int, **more: object) -> dict[str, object]:
    share = right / pictures if pictures else None
    return {
        "accuracy": share,
        "interval": None if share is None else [0.125, 0.875],
        "right": right,
        "pictures": pictures,
        **more,
    }


def page(
    queries: list[Query], support: list[SupportPicture], total: int | None = None, judged: Judged | None = None
) -> Page:
    answers = [(query.label, query.known) for query in queries]
    answers += [("cat", None)] * ((total or len(queries)) - len(queries))
    found = Classified("best.pt", ["cat", "dog"], support, queries, answers, judged, True)
    return Page(as_html(classifying_page(found, NOWHERE)))


def judged_over(classes: list[str]) -> Page:
    """A page of a query for each class, of which the second is taken for the first."""
    ways = range(len(classes))
    confusion = [[int(column == (row if row != 1 else 0)) for column in ways] for row in ways]
    each = [counts(int(way != 1), 1, **{"class": name}) for way, name in enumerate(classes)]
    judged = Judged("query", "Said how.", [counts(0, 3, step=0), counts(2, 3, step=1)], each, confusion,
                    [(classes[1], classes[0], 1)])  # fmt: skip
    return Page(as_html(classifying_page(Classified("best.pt", classes, [], [], [], judged, True), NOWHERE)))


def test_an_accuracy_has_its_pictures_and_its_interval_after_each_step_and_of_each_class():
    shown = judged_over(["cat", "dog"])
    assert "Accuracy 66.67 % (95 %: 12.50 to 87.50), 2 of 3 pictures" in shown.text
    assert "Said how." in shown.text
    assert [row[:2] + row[3:] for row in shown.table("inner step")] == [["0", 0.0, "0", "3"], ["1", 2 / 3, "2", "3"]]
    assert [row[:3] + row[4:] for row in shown.table("", "class", "accuracy %")] == [
        ["1", "cat", 1.0, "1", "1"],
        ["2", "dog", 0.0, "0", "1"],
    ]


def test_what_each_class_was_taken_for_is_a_matrix_or_pairs_of_very_many_classes():
    assert judged_over(["cat", "dog"]).table("", "its class") == [["1", "cat", "1", "0"], ["2", "dog", "1", "0"]]
    many = judged_over([f"class {number}" for number in range(31)])
    assert many.table("class", "taken for", "times") == [["class 1", "class 0", "1"]]
    assert not any(table[0][:2] == ["", "its class"] for table in many.tables)


def test_a_class_without_pictures_has_no_accuracy():
    judged = Judged("query", "", [counts(1, 1, step=0)], [counts(1, 1), counts(0, 0)], [[1, 0], [0, 0]], [])
    assert page([], [], judged=judged).table("", "class")[1] == ["2", "dog", "-", "-", "0", "0"]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_files_and_classes_stay_text(name):
    shown = page([Query(name, PIXELS, name, 0.75, "cat", [0])], [SupportPicture(PIXELS, name)])
    assert loads(shown) == []
    assert {tag for tag, _ in shown.tags if tag in ("script", "img")} == {"img"}
    assert sum(tag == "img" for tag, _ in shown.tags) == 3


def test_a_query_with_a_known_class_is_right_or_wrong_in_words():
    support = [SupportPicture(PIXELS, "cat"), SupportPicture(PIXELS, "dog")]
    names = [("cat", "cat"), ("cat", "dog"), ("dog", None)]
    text = page([Query("file", PIXELS, label, 0.75, known, [0, 1]) for label, known in names], support).text
    assert text.count("✓ right") == 1
    assert text.count("✗ wrong, is dog") == 1


def test_answers_are_counted_by_class():
    names = [("cat", "cat"), ("cat", "dog"), ("dog", "dog"), ("dog", None)]
    shown = page([Query("", PIXELS, label, 0.5, known, []) for label, known in names], [])
    assert shown.table("class", "taken for it") == [["cat", "2", "1", "1"], ["dog", "2", "1", "2"]]


def test_wrong_queries_are_said_to_come_first():
    assert "wrong come first" in page([Query("", PIXELS, "cat", 0.5, "dog", [])], []).text
    assert "wrong come first" not in page([Query("", PIXELS, "cat", 0.5, "cat", [])], []).text


def test_what_is_left_out_is_said_and_counted():
    shown = page([Query("", PIXELS, "cat", 0.5, None, [])], [], MOST_QUERIES + 1)
    assert shown.table("class", "taken for it") == [["cat", "501"], ["dog", "0"]]
    assert "first 1 of 501 queries" in page([Query("", PIXELS, "cat", 0.5, None, [])], [], MOST_QUERIES + 1).text
    many = page([], [SupportPicture(PIXELS, "ab"[number % 2]) for number in range(300)])
    assert "Pictured are 200 of 300" in many.text
    assert sum(tag == "img" for tag, _ in many.tags) == 200


def test_support_pictures_without_classes_are_shown_as_such():
    assert "not which class each is of" in page([], [SupportPicture(PIXELS, None)]).text


@pytest.mark.parametrize(("count", "folded"), [(60, 0), (61, 3), (300, 3)])
def test_very_many_queries_are_folded_by_their_answers_the_wrong_ones_first(count, folded):
    answers = [("cat", "dog"), ("cat", "cat"), ("dog", None)]
    queries = [
        Query(f"{n}.png", PIXELS, known[0], 0.9, known[1], [])
        for n, known in zip(range(count), answers * 100, strict=False)
    ]
    found = page(queries, [])
    groups = [line for line in found.text.splitlines() if line.startswith(("Wrong (", "Taken for "))]
    assert len([tag for tag, _ in found.tags if tag == "details"]) == folded
    third = count // 3
    assert groups == ([] if not folded else [
        f"Wrong ({count - 2 * third - (count % 3 == 2)})", f"Taken for cat ({third + (count % 3 == 2)})",
        f"Taken for dog ({third})",
    ])  # fmt: skip
    assert len([tag for tag, _ in found.tags if tag == "img"]) == count
    assert loads(found) == []
