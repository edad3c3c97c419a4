import math
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment.yaml_lines import as_yaml, parse, parse_value, read

SCALARS = [
    ("1e-3", 0.001),
    ("4e-1", 0.4),
    ("1e3", 1000.0),
    ("1.0e+3", 1000.0),
    (".5", 0.5),
    ("-2.", -2.0),
    ("no", "no"),
    ("on", "on"),
    ("Yes", "Yes"),
    ("y", "y"),
    ("true", True),
    ("FALSE", False),
    ("null", None),
    ("~", None),
    ("", None),
    ("010", 10),
    ("+12", 12),
    ("0x1F", 31),
    ("0o17", 15),
    ("60_000", "60_000"),
    ("1:30", "1:30"),
    ("2001-12-14", "2001-12-14"),
    ("=", "="),
    (".inf", math.inf),
    ("-.INF", -math.inf),
    ("'1e3'", "1e3"),
    ('"no\\n"', "no\n"),
]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_a_scalar_means_what_the_core_schema_of_yaml_1_2_says(text, value):
    found = parse_value(text, "--set x")
    assert (type(found), found) == (type(value), value)


def test_nan_is_a_number_for_the_validation_to_refuse():
    assert math.isnan(parse_value(".nan", "--set x"))


def test_every_key_and_item_knows_its_line():
    text = "# first\na: 1\nb:\n  c: [5,\n    6]\n  d:\n  - e: 7\n"
    assert parse(text, "x.yaml").lines == {
        (): 2,
        ("a",): 2,
        ("b",): 3,
        ("b", "c"): 4,
        ("b", "c", 0): 4,
        ("b", "c", 1): 5,
        ("b", "d"): 6,
        ("b", "d", 0): 7,
        ("b", "d", 0, "e"): 7,
    }


REFUSED = {
    "a key given twice": ("a: 1\nb: 2\na: 3\n", "x.yaml:3: a: given twice, first on line 1"),
    "a key given twice in a block": ("a:\n  b: 1\n  b: 1\n", "x.yaml:3: b: given twice, first on line 2"),
    "an anchor": ("a: 1\nb: &x 2\n", "x.yaml:2: anchors and aliases"),
    "an alias": ("a: *x\n", "x.yaml:1: anchors and aliases"),
    "an anchor on a key": ("&x a: 1\n", "x.yaml:1: anchors and aliases"),
    "a merge key": ("a: 1\n<<: {b: 2}\n", "x.yaml:2: merge keys"),
    "a tag": ("a: 1\nb: !!bool x\n", "x.yaml:2: the tag tag:yaml.org,2002:bool"),
    "a tag that runs code": ("a: !!python/object/apply:os.system [ls]\n", "x.yaml:1: the tag"),
    "a tag on the whole": ("!!omap\na: 1\n", "x.yaml:1: the tag"),
    "a number for a key": ("a: 1\n2: 3\n", "x.yaml:2: a key that is no text"),
    "null for a key": ("~: 3\n", "x.yaml:1: a key that is no text"),
    "a list for a key": ("? [1]\n: 3\n", "x.yaml:1: a key that is no text"),
    "a tab": ("a:\n\tb: 1\n", "x.yaml:2: not YAML: found character '\\t'"),
    "an open bracket": ("a: [1\nb: 2\n", "x.yaml:2: not YAML: "),
    "a control code": ("a: 1\nb: \x00\n", "x.yaml:2: not YAML: character U+0000 is not allowed"),
    "an impossible character": ('a: "\\UFFFFFFFF"\n', "x.yaml: not YAML: "),
    "half a surrogate pair": ('a: "\\ud800"\n', "x.yaml:1: half of a surrogate pair"),
    "5000 digits": ("a: 1\nb: " + "9" * 5000, "x.yaml:2: a number of more than 100 digits"),
    "depth": ("[" * 3000, "x.yaml:1: nested deeper than 32 levels"),
    "size": ("a: 1\n" * 20_000, "x.yaml: larger than 65536 bytes"),
    "two documents": ("a: 1\n---\nb: 1\n", "x.yaml:2: a second document starts here"),
    "a list at the top": ("\n- a\n", "x.yaml:2: found a list, expected keys and values"),
    "a word at the top": ("quickstart\n", "x.yaml:1: found a str, expected keys and values"),
    "nothing": ("", "x.yaml: empty"),
    "a comment alone": ("# nothing\n", "x.yaml: empty"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused_is_one_line_with_its_place(text, message):
    with pytest.raises(ConfigError) as error:
        parse(text, "x.yaml")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_an_error_in_a_value_of_the_command_line_has_no_line():
    with pytest.raises(ConfigError, match=r"^--set a: not YAML: "):
        parse_value("[1", "--set a")


def test_a_file_may_start_with_a_byte_order_mark(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read(tmp_path / "x.yaml").values == {"a": 1}


def test_a_byte_that_is_not_utf_8_is_found_by_line(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(ConfigError) as error:
        read(file)
    assert str(error.value).startswith(f"{file}:2: not UTF-8: byte 0xff; ")


def test_a_folder_is_called_a_folder(tmp_path):
    with pytest.raises(ConfigError, match="a folder; expected a YAML file"):
        read(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="not a regular file"):
        read(tmp_path / "pipe")


def test_a_file_name_with_a_line_break_is_escaped(tmp_path):
    with pytest.raises(ConfigError) as error:
        read(tmp_path / "a\nb.yaml")
    assert "a\\nb.yaml" in str(error.value)


LEAVES = st.none() | st.booleans() | st.integers(-(10**50), 10**50) | st.floats(allow_nan=False)
TEXTS = st.text() | st.sampled_from([text for text, _ in SCALARS])
VALUES = st.recursive(
    LEAVES | TEXTS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)
)


@settings(deadline=None)
@given(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=4))
def test_what_is_written_reads_back_the_same(values):
    assert parse(as_yaml(values), "x.yaml").values == values
