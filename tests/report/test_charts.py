import math
import xml.etree.ElementTree as ET

import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed (the extra metalearn-cli[report])")

from metalearn_cli.report import charts, drawing
from metalearn_cli.report.charts import Axis, Line
from metalearn_cli.report.page import Html, page
from tests.report.reading import Page, loads

AXIS = Axis("inner step", "accuracy %")
WORDS = ("name", "description", "caption")


def chart(*lines: Line) -> str:
    return drawing.inline(charts.lines(("name", 'a "described" chart', "caption"), AXIS, lines))


def histogram(values) -> str:
    return drawing.inline(charts.histogram(WORDS, AXIS, values))


def test_equal_numbers_give_equal_bytes():
    line = Line("one", [0, 1, 2], [20.0, 50.0, 60.0], [1.0, 2.0, 3.0])
    assert chart(line) == chart(line)
    assert chart(line) != chart(line._replace(y=[20.0, 50.0, 61.0]))


def test_a_chart_is_a_drawing_with_a_description_and_nothing_to_fetch():
    found = chart(Line("one", [0, 1], [1.0, 2.0], [0.1, 0.1]), Line("two", [0, 1], [2.0, 1.0]))
    root = ET.fromstring(found[found.index("<svg") : found.index("</svg>") + 6])
    assert root.attrib["aria-label"] == 'a "described" chart'
    assert loads(Page(page("", "", [Html(found)]))) == []
    assert "http" not in found
    assert "metadata" not in found


def test_colours_are_the_pages_and_labels_are_text():
    found = chart(Line("one", [0, 1], [1.0, 2.0]))
    assert "var(--c0)" in found
    assert "currentColor" in found
    assert "#0a0b" not in found
    for word in ("inner step", "accuracy %"):
        assert f">{word}</text>" in found


def test_ids_that_are_used_are_there():
    found = chart(Line("one", [0, 1], [1.0, 2.0], [0.1, 0.2])) + histogram([0.5, 0.5, 1.0])
    tags = Page(found.encode()).tags
    used = {a["href"] for _, a in tags if "href" in a} | {a["clip-path"][4:-1] for _, a in tags if "clip-path" in a}
    assert used
    assert used <= {f"#{a['id']}" for _, a in tags if "id" in a}


@pytest.mark.parametrize("values", [[], [1.0], [math.nan, math.inf], [math.nan, 1e30, -1e30], [0.5] * 3])
def test_odd_numbers_still_make_a_chart(values):
    assert "<svg" in chart(Line("one", list(range(len(values))), values, values))
    assert "<svg" in histogram(values)


def test_a_person_s_own_settings_of_matplotlib_change_nothing():
    import matplotlib as mpl

    line = Line("one", [0, 1], [1.0, 2.0])
    before = chart(line)
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "lines.linewidth": 9}):
        assert chart(line) == before


def test_a_forest_has_a_row_for_each_name_its_interval_and_the_line_of_no_difference():
    rows = [("B maml", -1.5, 0.5), ("C " + "x" * 60, 0.3, math.nan)]
    chart = charts.forest(WORDS, Axis("difference, points", ""), rows, zero=True)
    found = drawing.inline(chart)
    assert ">B maml</text>" in found
    assert ">..." + "x" * 37 + "</text>" in found
    assert "difference, points" in found
    assert chart.rows[0] == ("B maml", -1.5, -2.0, -1.0)


def test_intervals_may_reach_further_to_one_side():
    line = Line("one", [0, 1], [90.0, 100.0], [(20.0, 5.0), (10.0, 0.0)])
    found = charts.lines(WORDS, AXIS, [line])
    assert [list(row) for row in found.rows] == [["one", 0, 90.0, 70.0, 95.0], ["one", 1, 100.0, 90.0, 100.0]]
    assert "<svg" in drawing.inline(found)
    assert charts.forest(WORDS, AXIS, [("a", 100.0, (30.0, 0.0))]).rows == [("a", 100.0, 70.0, 100.0)]


def test_a_matrix_has_every_count_and_numbers_its_names():
    found = charts.matrix(WORDS, Axis("taken for", ""), ["one", "three bars"], [[3, 0], [1, 7]])
    assert [list(row) for row in found.rows] == [["one", 3, 0], ["three bars", 1, 7]]
    shown = drawing.inline(found)
    for word in ("one 1", "three bars 2", "3", "7"):
        assert f">{word}</text>" in shown
    assert "<svg" in drawing.inline(charts.matrix(WORDS, AXIS, ["a"], [[0]]))


@pytest.mark.parametrize("count", [1, 2, 6, 26])
@pytest.mark.parametrize("length", [1, 12, 80])
def test_names_in_the_legend_fit_the_chart(count, length):
    drawn = [Line(f"{place} " + "n" * length, [0, 1], [0.0, 1.0]) for place in range(count)]
    chart = charts.lines(WORDS, AXIS, drawn)
    with drawing.drawn_figure(chart, drawing._OF_THE_PAGE, transparent=True) as figure:
        figure.draw_without_rendering()
        for legend in figure.legends:
            box = legend.get_window_extent()
            assert box.x0 >= 0
            assert box.x1 <= figure.bbox.x1
