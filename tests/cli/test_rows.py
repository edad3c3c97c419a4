import math

import pytest
from rich.console import Console

from metalearn_cli.cli.rows import Course, ReportRows
from metalearn_cli.runtime.run.evaluation import Step
from metalearn_cli.runtime.run.protocol import Protocol
from metalearn_cli.runtime.run.reports import Report
from tests.cli.screens import Stream


def report(iteration=120, score=0.653, best=False, steps=3, loss=1.3668) -> Report:
    val = [Step(step, 0.2 + step * (score - 0.2) / steps, 0.028, 1.1, 0.6, 0.0) for step in range(steps + 1)]
    return Report(iteration, loss, 0.5, val, best, 61.4, 90.0, 0)


def course(steps=3, accuracy=True, first=0, episodes=200) -> Course:
    measured = Protocol("glyphs", "val", 5, 1, 15, "support", steps, episodes, accuracy)
    return Course(first, 400, measured)


def rows(width, steps=3, accuracy=True, encoding="utf-8") -> ReportRows:
    return ReportRows(course(steps, accuracy), Console(file=Stream(encoding=encoding), width=width))


@pytest.mark.parametrize("steps", [1, 3, 10])
@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_rows_and_headers_fit_the_width(width, steps):
    found = rows(width, steps).lines(report(steps=steps, best=True)).splitlines()
    assert len(found) == 3
    assert max(map(len, found)) < width


@pytest.mark.parametrize("width", [40, 60, 80])
def test_every_width_has_the_accuracy_with_its_interval_and_the_number_of_episodes(width):
    above, header, row = rows(width).lines(report()).splitlines()
    assert "val accuracy %, 200 episodes" in above
    assert "step 3 ± 95 %" in header
    assert "65.3 ± 2.8" in row
    assert "tasks/s" in header


def test_the_header_says_more_of_the_protocol_the_wider_it_is():
    narrow, usual, wide = (rows(width).lines(report()).splitlines()[0] for width in (60, 80, 120))
    assert "5-way" not in narrow
    assert "5-way 1-shot; * best so far" in usual
    assert "support statistics" in wide


def test_a_report_that_only_was_overdue_has_no_speed_and_no_time_left():
    [row] = ReportRows(course(first=120), Console(file=Stream(), width=80)).lines(
        report()._replace(tasks_per_second=math.nan)
    ).splitlines()[2:]  # fmt: skip
    assert row.split()[-2:] == ["-", "-"]


def test_a_report_of_the_last_iteration_has_no_time_left_wherever_the_run_began():
    for first in (0, 400):
        shown = ReportRows(course(first=first), Console(file=Stream(), width=80)).lines(report(400))
        assert shown.endswith("0:00:00")


def test_cells_end_where_their_headers_end():
    _, header, row = rows(80).lines(report()).splitlines()
    assert header.index("± 95 %") + len("± 95 %") == row.index("± 2.8") + len("± 2.8")
    assert header.index("tasks/s") + len("tasks/s") == row.index(" 61") + len(" 61")
    assert len(header) == len(row)


def test_a_star_marks_the_best_so_far_and_the_header_says_so():
    assert "* best so far" in rows(80).lines(report(best=True))
    assert rows(80).lines(report(best=True)).endswith(" *")
    assert not rows(80).lines(report()).endswith(" *")


def test_the_header_comes_once_and_again_when_the_window_has_another_width():
    shown = rows(80)
    assert [len(shown.lines(report(iteration)).splitlines()) for iteration in (1, 2, 3)] == [3, 1, 1]
    shown._console.width = 50
    assert [len(shown.lines(report(iteration)).splitlines()) for iteration in (4, 5)] == [3, 1]


def test_on_a_terminal_the_header_comes_again_after_a_screenful_and_elsewhere_not():
    for terminal, expected in ((True, 3), (False, 1)):
        console = Console(file=Stream(), force_terminal=terminal, width=80, height=10)
        shown = ReportRows(course(), console)
        assert sum("iteration" in shown.lines(report(number)) for number in range(1, 20)) == expected


def test_squared_errors_are_called_so_and_have_their_interval():
    above, header, row = rows(80, accuracy=False).lines(report(score=0.0123)).splitlines()
    assert "val squared error, 200 episodes" in above
    assert "0.0123 ± 0.028" in row
    assert len(header) == len(row)


def test_numbers_that_are_not_finite_or_are_huge_keep_their_columns():
    for loss in (math.nan, math.inf, 1e30):
        _, header, row = rows(80).lines(report(loss=loss)).splitlines()
        assert len(header) == len(row)


def test_rows_are_ascii_where_the_stream_is():
    assert rows(80, encoding="ascii").lines(report(best=True)).isascii()
