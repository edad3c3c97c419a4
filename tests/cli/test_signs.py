import math

from metalearn_cli.cli.signs import clock, digits, sparkline
from metalearn_cli.errors import printable


def test_a_sparkline_goes_from_the_lowest_to_the_highest():
    assert sparkline([0.0, 0.5, 1.0], 20, unicode=True) == "▁▅█"
    assert sparkline([2.0, 2.0], 20, unicode=True) == "▁▁"
    assert sparkline([], 20, unicode=True) == ""


def test_a_long_sparkline_shares_its_characters_out():
    assert len(sparkline(range(1001), 20, unicode=True)) <= 20


def test_a_sparkline_leaves_out_what_is_not_finite():
    assert sparkline([0.0, math.nan, 1.0, math.inf], 20, unicode=True) == "▁ █ "
    assert sparkline([math.nan], 20, unicode=True) == ""


def test_a_clock_counts_hours():
    assert clock(3723) == "1:02:03"
    assert clock(math.inf) == "-"


def test_an_ascii_sparkline_is_ascii():
    assert sparkline([1, 2, 3], 20, unicode=False) == "_=#"


def test_digits_keep_their_zeros():
    assert [digits(value, 3) for value in (4.5, 0.01234, 120.0, 1234.0)] == ["4.50", "0.0123", "120", "1.23e+03"]


def test_what_a_terminal_would_act_on_is_spelled_out_and_all_else_stays():
    assert printable("a\x1b[31mred\x07\u202e\tb") == r"a\x1b[31mred\x07\u202e\tb"
    assert printable("café 中文 [bold] ±\nnext") == "café 中文 [bold] ±\nnext"
