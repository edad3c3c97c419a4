"""The charts of a page as files: each in all forms, its numbers as a table, the same bytes for the same numbers."""

import csv
import io
import xml.etree.ElementTree as ET

import pytest
from PIL import Image

pytest.importorskip("matplotlib", reason="matplotlib is not installed (the extra metalearn-cli[report])")

from metalearn_cli.report import charts, drawing
from metalearn_cli.report.charts import Axis, Line
from metalearn_cli.report.figures import Numbers, write_figures

CHARTS = [
    charts.lines(("course", "", ""), Axis("iteration", "accuracy %"), [Line("val", [1, 2], [20.0, 50.5], [1.0, 2.0])]),
    charts.histogram(("episodes", "", ""), Axis("accuracy %", "episodes"), [0.5, 0.25]),
    charts.forest(("scores", "", ""), Axis("accuracy %", ""), [("A maml", 50.0, 1.0)]),
]


def written(folder) -> dict[str, bytes]:
    write_figures(folder, CHARTS, [Numbers("more", ["a"], [["=1+1"]])])
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_each_chart_is_there_in_each_form(tmp_path):
    found = written(tmp_path / "figures")
    forms = [f"{chart.name}.{form}" for chart in CHARTS for form in ("csv", "pdf", "png", "svg")]
    assert sorted(found) == sorted([*forms, "more.csv"])
    for name, content in found.items():
        if name.endswith(".png"):
            assert Image.open(io.BytesIO(content)).width > 900
        elif name.endswith(".pdf"):
            assert content.startswith(b"%PDF")
        elif name.endswith(".svg"):
            assert b"<svg" in content
            assert b"var(--" not in content
            assert b"#0a0b" not in content


def test_the_numbers_are_those_of_the_chart(tmp_path):
    found = written(tmp_path / "figures")
    rows = list(csv.reader(found["course.csv"].decode().splitlines()))
    assert rows == [
        ["line", "iteration", "accuracy %", "95 % from", "to"],
        ["val", "1", "20", "19", "21"],
        ["val", "2", "50.5", "48.5", "52.5"],
    ]
    assert list(csv.reader(found["episodes.csv"].decode().splitlines()))[1:] == [["0", "0.5"], ["1", "0.25"]]
    assert found["more.csv"] == b"a\r\n'=1+1\r\n"


@pytest.mark.parametrize("name", ["$\\frac{", '<b>&"', "\x1b[31m\n", "鳥 🐦", "_x", "", "a" * 300, "\udc80"])
def test_any_name_can_stand_in_a_figure(tmp_path, name):
    words = ("one", name, name)
    drawn = [
        charts.lines(words, Axis("x", "y"), [Line(name, [1, 2], [1.0, 2.0]), Line(name, [1, 2], [2.0, 1.0])]),
        charts.forest(words, Axis("x", ""), [(name, 1.0, 0.5)]),
        charts.matrix(words, Axis("x", ""), [name, "b"], [[1, 2], [0, 1]]),
    ]
    for number, chart in enumerate(drawn):
        write_figures(tmp_path / str(number), [chart])
        found = drawing.inline(chart)
        ET.fromstring(found[found.index("<svg") : found.index("</svg>") + 6])


def test_equal_numbers_give_equal_files(tmp_path):
    assert written(tmp_path / "one") == written(tmp_path / "other")
