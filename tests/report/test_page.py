import re

import numpy as np
import pytest

from metalearn_cli.report import page
from metalearn_cli.report.pictures import Episode, episode_sheet, thumbnail
from tests.report.reading import Page, loads

HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a & b", "it's", "\x1b[31mred", "x\udcff"]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_stays_text_wherever_it_stands(text):
    rows = page.table([text], [[text]])
    content = page.page(text, text, [page.section(text, page.paragraph(text), page.verbatim(text), rows)])
    read = Page(content)
    assert loads(read) == []
    assert {tag for tag, _ in read.tags} == {
        *("html", "head", "meta", "title", "style", "body", "main", "h1", "p", "section", "h2", "pre", "code"),
        *("div", "table", "thead", "tr", "th", "tbody", "td"),
    }
    assert read.text.count(text.replace("\x1b", "\\x1b").replace("\udcff", "\\udcff")) == 8


@pytest.mark.parametrize("name", HOSTILE)
def test_the_names_of_classes_stay_text_beside_their_pictures(name):
    pictures = np.zeros((2, 1, 8, 8, 1), np.uint8)
    shown = episode_sheet(Episode("episode", [name, "other"], pictures, pictures, np.array([[1], [0]])))
    read = Page(page.page("title", "", [shown]))
    assert loads(read) == []
    assert all("script" not in attributes and "onerror" not in attributes for _, attributes in read.tags)


def test_the_policy_of_a_page_forbids_all_but_its_own_style_and_pictures():
    tags = Page(page.page("a", "b", [])).tags
    [policy] = [attributes["content"] for _, attributes in tags if "http-equiv" in attributes]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert re.findall(r"(\S+-src) ([^;]+)", policy)[1:] == [("style-src", "'unsafe-inline'"), ("img-src", "data:")]


def test_a_number_keeps_all_its_digits():
    [[cell]] = Page(page.page("", "", [page.table(["n"], [[page.number(1 / 3, "0.33")]])])).table("n")
    assert cell == 1 / 3


def test_right_and_wrong_differ_in_words_and_in_shape():
    pictures = np.zeros((2, 1, 8, 8, 3), np.uint8)
    read = Page(
        page.page("", "", [episode_sheet(Episode("", ["cat", "dog"], pictures, pictures, np.array([[0], [0]])))])
    )
    assert "✓ right" in read.text
    assert "✗ wrong" in read.text
    assert "taken for cat" in read.text
    assert {"right", "wrong"} <= {attributes.get("class") for _, attributes in read.tags}


@pytest.mark.parametrize(("size", "kind"), [(28, "png"), (300, "jpeg")])
def test_pictures_are_small_and_say_what_they_show(size, kind):
    picture = thumbnail(np.zeros((size, size, 3), np.uint8), 'a "cat"')
    [(_, attributes)] = Page(picture.encode()).tags
    assert attributes["alt"] == 'a "cat"'
    assert attributes["src"].startswith(f"data:image/{kind};base64,")
    assert int(attributes["width"]) <= 96
