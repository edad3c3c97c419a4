import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metalearn_cli.report.spreadsheet import as_csv, exact_label


@pytest.mark.parametrize("text", ["plain", 'with "quotes"', "comma, and\nline", "ünïcode", " blank "])
def test_text_is_read_back_as_it_was(text):
    assert list(csv.reader(io.StringIO(as_csv([text], []).decode(), newline=""))) == [[text]]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_what_a_spreadsheet_would_run_becomes_text(text):
    assert list(csv.reader(io.StringIO(as_csv(["a"], [[text]]).decode(), newline="")))[1] == [f"'{text}"]


def test_numbers_stay_numbers():
    assert as_csv(["a", "b", "c"], [[-0.5, 1 / 3, None]]) == b"a,b,c\r\n-0.5,0.3333333,\r\n"


def test_a_name_that_is_no_text_keeps_its_bytes():
    assert as_csv(["a"], [[b"\xff.png".decode("utf-8", "surrogateescape")]]) == b"a\r\n\xff.png\r\n"


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans())
def test_a_label_that_is_a_number_keeps_its_digits_and_is_no_formula(label):
    [_, [cell]] = csv.reader(io.StringIO(as_csv(["a"], [[exact_label(label)]]).decode(), newline=""))
    assert cell == str(label)
    assert type(label)(cell) == label or label is False


def test_a_whole_number_keeps_its_digits():
    assert as_csv(["a"], [[12345671], [-(10**30)]]) == b"a\r\n12345671\r\n-1000000000000000000000000000000\r\n"


def test_a_label_that_is_text_is_guarded_as_text_and_none_is_empty():
    assert as_csv(["a", "b"], [[exact_label("-5"), exact_label(None)]]) == b"a,b\r\n'-5,\r\n"
