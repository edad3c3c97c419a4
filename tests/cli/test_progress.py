import pytest

from metalearn_cli.cli.progress import meter, moving_line

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
