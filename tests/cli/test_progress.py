import math

import pytest

from metalearn_cli.cli.progress import clock, meter, moving_line, sparkline
from metalearn_cli.errors import printable

NOTES = ["0:01:20 left", "61 tasks/s", "▁▂▄▆█"]


@pytest.mark.parametrize("width", range(1, 120))
def test_the_moving_line_fits_any_width(width):
    assert len(moving_line("training", 120, 60_000, NOTES, width)) <= width


def test_the_moving_line_gives_up_its_last_notes_first_and_the_time_left_after_its_meter():
    assert moving_line("training", 120, 400, NOTES, 79).endswith("120/400  0:01:20 left  61 tasks/s  ▁▂▄▆█")
    assert moving_line("training", 120, 400, NOTES, 59) == "training ━━━━──────── 120/400  0:01:20 left  61 tasks/s"
    assert moving_line("training", 120, 400, NOTES, 39) == "training 120/400  0:01:20 left"
    assert moving_line("training", 120, 400, NOTES, 20) == "training 120/400"


def test_what_cannot_be_counted_has_no_meter():
    assert moving_line("waiting for process 7", 0, 1, [], 79) == "waiting for process 7"


def test_a_download_is_counted_in_megabytes():
    assert "12.3/4,700.0 MB" in moving_line("downloading a.zip", 12_300_000, 4_700_000_000, [], 79)


def test_an_ascii_line_is_ascii():
    assert moving_line("training", 1, 4, ["left"], 79, unicode=False).isascii()
    assert meter(1, 4, 8, unicode=False) == "##------"
    assert sparkline([1, 2, 3], 20, unicode=False).isascii()


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


def test_what_a_terminal_would_act_on_is_spelled_out_and_all_else_stays():
    assert printable("a\x1b[31mred\x07\u202e\tb") == r"a\x1b[31mred\x07\u202e\tb"
    assert printable("café 中文 [bold] ±\nnext") == "café 中文 [bold] ±\nnext"
