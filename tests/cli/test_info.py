import json

import pytest

from metalearn_cli.cli.info import _kernels


def test_what_is_here_is_told_in_lines_that_can_be_pasted(cli, tiny_run):
    outcome = cli("info")
    assert outcome.code == 0
    assert outcome.err == ""
    told = dict(line.split(None, 1) for line in outcome.out.splitlines() if not line.startswith(" "))
    assert set(told) >= {"metalearn", "python", "torch", "numpy", "pillow"}
    assert set(told) >= {"platform", "cpu", "cores", "cuda", "kernels", "data"}
    assert "glyphs: prepared, 40 classes, 800 pictures" in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 120


def test_json_tells_the_same(cli, tiny_run):
    fields = cli("info", "--json").fields
    assert set(fields) == {"schema", "versions", "platform", "cpu", "cuda", "kernels", "data"}
    assert fields["versions"]["torch"].startswith("2.")
    assert "glyphs" in [row["name"] for row in fields["data"]["datasets"]]


@pytest.mark.parametrize(
    ("file", "compiler", "line"),
    [
        ("/here/kernels-1.so", None, "compiled, in /here"),
        (None, "/usr/bin/c++", "not compiled yet; the first training does that with /usr/bin/c++"),
        (None, None, "none: no C++ compiler found"),
    ],
)
def test_kernels_are_compiled_or_will_be_or_cannot_be(file, compiler, line):
    assert _kernels(file, compiler) == line


def test_the_schema_is_one_json_object(cli):
    outcome = cli("info", "--schema", "--json")
    assert outcome.code == 0
    assert json.loads(outcome.out)["$schema"].startswith("https://json-schema.org/")
