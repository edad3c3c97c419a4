import re
import time

import pytest
from rich.table import Table

from metalearn_cli.cli import heartbeat, tables
from metalearn_cli.cli.live import Live
from metalearn_cli.runtime.run.evaluation import Step
from tests.cli.screens import Stream
from tests.cli.test_rows import course, report

CURSOR = "\x1b["


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.fixture
def stream(monkeypatch):
    """`stream("stderr", terminal=True)` puts a stream in its place and returns it."""

    def put(name: str, **what) -> Stream:
        found = Stream(**what)
        monkeypatch.setattr(f"sys.{name}", found)
        return found

    return put


def train_a_little(quiet: bool) -> None:
    with tables.bar(quiet) as progress:
        live = Live(progress, course()._replace(last=4), lambda iteration: iteration % 2 == 0, 8)
        for iteration in (1, 2, 3, 4):
            live.tick(iteration)
            progress.refresh()
            if iteration % 2 == 0:
                live.report(report(iteration))


def test_a_terminal_shows_a_line_that_moves_and_rows_that_stay(stream):
    err = stream("stderr", terminal=True)
    train_a_little(quiet=False)
    assert CURSOR in err.getvalue()
    for words in ("training", "validating", "3/4", "tasks/s", "65.3 ± 2.8"):
        assert words in err.getvalue()


def test_elsewhere_there_is_a_plain_line_per_report(stream):
    err = stream("stderr")
    train_a_little(quiet=False)
    assert CURSOR not in err.getvalue()
    assert len(err.getvalue().splitlines()) == 4
    assert max(map(len, err.getvalue().splitlines())) < 80


@pytest.mark.parametrize("variable", ["NO_COLOR=1", "TERM=dumb"])
def test_a_terminal_that_wants_no_drawing_gets_plain_lines(variable, stream, monkeypatch):
    monkeypatch.setenv(*variable.split("="))
    err = stream("stderr", terminal=True)
    train_a_little(quiet=False)
    with tables.loading(quiet=False):
        pass
    assert CURSOR not in err.getvalue()
    assert len(err.getvalue().splitlines()) == 4


def test_forced_colours_draw_nothing_into_a_pipe(stream, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    err = stream("stderr")
    train_a_little(quiet=False)
    assert "\x1b[2K" not in err.getvalue()
    assert "\x1b[?25l" not in err.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet_writes_nothing(terminal, stream):
    err = stream("stderr", terminal=terminal)
    train_a_little(quiet=True)
    tables.hint("metalearn train quickstart", quiet=True)
    with tables.loading(quiet=True):
        pass
    assert err.getvalue() == ""


def test_an_ascii_terminal_is_drawn_on_in_ascii(stream):
    err = stream("stderr", terminal=True, encoding="ascii")
    train_a_little(quiet=False)
    assert err.getvalue().isascii()


def test_loading_leaves_nothing_on_the_line(stream):
    err = stream("stderr", terminal=True)
    with pytest.raises(KeyboardInterrupt), tables.loading(quiet=False):
        raise KeyboardInterrupt
    assert err.getvalue().endswith("\r\x1b[K")


def test_stages_take_one_line_whatever_their_number(stream):
    err = stream("stderr", terminal=True)
    with tables.bar(quiet=False) as progress:
        stages = tables.Stages(progress)
        for label in ("downloading a.zip", "downloading b.zip", "decoding"):
            stages(label, 1, 10)
        progress.refresh()
        assert [task.description for task in progress.tasks if task.visible] == ["decoding"]
    assert "\x1b[1A\x1b[2K\x1b[1A" not in err.getvalue()


def test_a_long_stage_is_heard_of_now_and_then_where_no_bar_can_be(stream, monkeypatch):
    monkeypatch.setattr(heartbeat, "SECONDS_BETWEEN_LINES", 0.1)
    for quiet, expected in ((False, "decoding 12/32,460, 0:00:00 so far"), (True, None)):
        err = stream("stderr")
        began = time.monotonic()
        with tables.bar(quiet) as progress:
            tables.Stages(progress)("decoding", 12, 32460)
            time.sleep(0.5)
        lines = err.getvalue().splitlines()
        assert set(lines) == ({expected} if expected else set())
        assert len(lines) <= (time.monotonic() - began) / 0.05  # a line is said a little before it is due
    time.sleep(0.3)
    assert len(err.getvalue().splitlines()) == 0


def test_what_is_said_meanwhile_puts_the_next_line_off(stream, monkeypatch):
    monkeypatch.setattr(heartbeat, "SECONDS_BETWEEN_LINES", 0.4)
    err = stream("stderr")
    with tables.bar(quiet=False) as progress:
        tables.Stages(progress)("decoding", 1, 2)
        for _ in range(10):
            time.sleep(0.06)
            progress.console.print("a row")
    assert set(err.getvalue().splitlines()) == {"a row"}


def test_a_training_that_is_long_in_coming_to_its_report_is_heard_of(stream, monkeypatch):
    monkeypatch.setattr(heartbeat, "SECONDS_BETWEEN_LINES", 0.1)
    err = stream("stderr")
    with tables.bar(quiet=False) as progress:
        live = Live(progress, course(), lambda _iteration: False, 8)
        time.sleep(0.2)  # the first step
        live.tick(7)
        time.sleep(0.3)  # the one after it
    first, *_, last = err.getvalue().splitlines()
    assert first.startswith("training 0/400, 0:00:0")
    assert re.fullmatch(r"training 7/400, \d:\d\d:\d\d left, [\d,]+ tasks/s", last)


def test_an_import_that_takes_long_is_heard_of(stream, monkeypatch):
    monkeypatch.setattr(heartbeat, "SECONDS_BETWEEN_LINES", 0.1)
    err = stream("stderr")
    with tables.loading(quiet=False):
        time.sleep(0.3)
    assert set(err.getvalue().splitlines()) == {"loading torch"}


def test_names_with_markup_or_escapes_are_text_everywhere(stream):
    name = "[bold]x[/]\x1b[31m:smile:"
    shown = r"[bold]x[/]\x1b[31m:smile:"
    out, err = stream("stdout"), stream("stderr", terminal=True)
    table = Table(title=name)
    table.add_column(name)
    table.add_row(name)
    tables.console(stderr=False).print(table)
    tables.console(stderr=False).print(name)
    tables.hint(name, quiet=False)
    with tables.bar(quiet=False) as progress:
        tables.Stages(progress)(name, 1, 2)
        progress.refresh()
    assert out.getvalue().count(shown) == 4
    assert err.getvalue().count(shown) >= 2
    assert "\x1b[31m" not in out.getvalue() + err.getvalue()


def test_a_pipe_has_80_columns_or_those_that_columns_says(stream, monkeypatch):
    stream("stdout")
    assert tables.console(stderr=False).width == 80
    monkeypatch.setenv("COLUMNS", "60")
    assert tables.console(stderr=False).width == 60


@pytest.mark.parametrize(
    ("steps", "shown"),
    [(3, [0, 1, 2, 3]), (20, [*range(21)]), (100, [0, 1, 2, 5, 10, 20, 50, 100]), (30, [0, 1, 2, 5, 10, 20, 30])],
)
def test_of_many_inner_steps_the_table_has_some_and_the_last(steps, shown):
    rows = [Step(step, 0.5, 0.1, 1.0, 0.5, 0.0) for step in range(steps + 1)]
    table = tables.steps_table("title", rows, accuracy=True)
    assert [int(cell) for cell in table.columns[0].cells] == shown
