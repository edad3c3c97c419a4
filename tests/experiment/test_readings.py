"""A value in another form than asked for: the line says what to write."""

import json

import pytest

from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment import read_experiment
from metalearn_cli.experiment.yaml_lines import read
from tests.commands import TINY

INTEGER, NUMBER, BOOLEAN, CHOICE, LIST = (
    "outer.iterations", "algorithm.inner_lr", "algorithm.second_order", "outer.optimizer", "dataset.augmentation",
)  # fmt: skip


@pytest.fixture
def experiment(tmp_path) -> str:
    (tmp_path / "x.yaml").write_text(json.dumps(TINY))
    return str(tmp_path / "x.yaml")


@pytest.mark.parametrize(
    ("key", "text", "write"),
    [
        (INTEGER, "2e1", "20"),
        (INTEGER, "2.0", "2"),
        (INTEGER, "[2]", "2"),
        (INTEGER, "[001]", "1"),
        (INTEGER, "[2e1]", "20"),
        (INTEGER, "'20'", "20"),
        (INTEGER, "1,000", "1000"),
        (INTEGER, "60 000", "60000"),
        (INTEGER, "60_000", "60000"),
        (INTEGER, "60'000", "60000"),
        (INTEGER, "\uff12\uff10", "20"),
        (NUMBER, "0,4", "0.4"),
        (NUMBER, "4,0e-1", "0.4"),
        (NUMBER, "[0,4]", None),
        (NUMBER, "40%", "0.4"),
        (NUMBER, "40 %", "0.4"),
        (NUMBER, "'0.4'", "0.4"),
        (NUMBER, "[0.4]", "0.4"),
        (NUMBER, "-0,4", None),
        (NUMBER, "\u22120,4", None),
        (NUMBER, "fast", None),
        (BOOLEAN, "yes", "true"),
        (BOOLEAN, "off", "false"),
        (BOOLEAN, "1", "true"),
        (BOOLEAN, "2", None),
        ("eval.ways", "none", "null"),
        ("eval.ways", "1", None),
        (CHOICE, "Adam", "adam"),
        (CHOICE, "[adam]", "adam"),
        (CHOICE, "best", None),
        (LIST, "flip", '["flip"]'),
        (LIST, "'flip, crop'", '["flip", "crop"]'),
        (LIST, "flip;crop", '["flip", "crop"]'),
        (LIST, "spin", None),
        ("sinks", "tensorboard", '["tensorboard"]'),
    ],
)
def test_the_line_says_what_to_write_where_another_form_is_right(experiment, key, text, write):
    with pytest.raises(ConfigError) as caught:
        read_experiment(experiment, [f"{key}={text}"])
    [line] = str(caught.value).splitlines()
    assert line.startswith(f"--set {key}")
    assert (line.rpartition("; write ")[2] if "; write " in line else None) == write
    if write is not None:
        read_experiment(experiment, [f"{key}={write}"])


@pytest.mark.parametrize(("key", "text"), [("name", "001"), ("sinks", "[001]"), ("name", "true"), ("name", "1e3")])
def test_text_that_reads_as_something_else_is_to_be_put_in_quotes(experiment, key, text):
    with pytest.raises(ConfigError, match=r"expected text; put it in quotes"):
        read_experiment(experiment, [f"{key}={text}"])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "latin-1", "cp1252"])
def test_a_file_in_another_encoding_is_named_by_it_and_is_to_be_saved_as_utf_8(tmp_path, encoding):
    (tmp_path / "x.yaml").write_bytes("name: é\nseed: 1\n".encode(encoding))
    with pytest.raises(ConfigError) as caught:
        read(tmp_path / "x.yaml")
    known = {"utf-16": "UTF-16", "utf-32": "UTF-32"}.get(encoding[:6], "Latin-1 or Windows-1252")
    assert str(caught.value).endswith(f"; the file seems to be in {known}: save it as UTF-8")


def test_utf_8_with_a_mark_is_read(tmp_path):
    (tmp_path / "x.yaml").write_bytes("name: é\n".encode("utf-8-sig"))
    assert read(tmp_path / "x.yaml").values == {"name": "é"}
