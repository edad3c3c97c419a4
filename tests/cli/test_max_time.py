"""`--max-time` holds: on a clock that stands still but for what is done, and once on a real one."""

import signal
import time
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest

from metalearn_cli.cli import pages, stopping
from metalearn_cli.cli.stopping import Stopper
from metalearn_cli.report import web_page
from metalearn_cli.runtime.run import clock, training
from metalearn_cli.runtime.run.evaluation import scores_of
from metalearn_cli.runtime.run.stepping import Stepper
from metalearn_cli.runtime.run.training import Watch
from tests.runtime.run.test_training import reports_of, same_bits, session_in, whole_run

BLOCKS = {"eval": {"every": 3, "val_episodes": 80}}
"""A validation of three blocks of episodes."""


class World:
    """A clock that moves by what is done: so many seconds for a step, and for a block of a validation."""

    def __init__(self, monkeypatch, step: float, block: float) -> None:
        self.now, self.steps = 1000.0, 0
        for module in (stopping, clock, pages):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        drawn = Stepper.tasks

        def slowly_drawn(stepper, iteration):
            self.now, self.steps = self.now + step, self.steps + 1
            return drawn(stepper, iteration)

        def slowly_evaluated(learner, runner, meta, sampler, steps, **asked):
            def slow(*which):
                self.now += block
                return sampler(*which)

            return scores_of(learner, runner, meta, slow, steps, **asked)

        monkeypatch.setattr(Stepper, "tasks", slowly_drawn)
        monkeypatch.setattr(training, "scores_of", slowly_evaluated)

    def call(self, session, seconds: float, resume: bool) -> float:
        """How long a call of so many seconds took."""
        began, stopper = self.now, Stopper(seconds)
        watch = Watch(stop=stopper, fits=stopper.fits, abandonable=stopper.abandonable, within_time=stopper.within_time)
        self.reports = reports_of(session, resume, watch)
        return self.now - began


@pytest.fixture(autouse=True)
def _same_handlers():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("step", [0.3, 4.0, 25.0])
@pytest.mark.parametrize("block", [0.1, 3.0, 8.0])
@pytest.mark.parametrize("seconds", [12.0, 30.0, 100.0])
def test_a_call_takes_no_longer_than_it_may_but_for_one_step_and_a_block_of_unknown_length(
    monkeypatch, tmp_path, step, block, seconds
):
    world, session = World(monkeypatch, step, block), session_in(tmp_path, **BLOCKS)
    took = world.call(session, seconds, resume=False)
    assert took <= max(seconds + block, step)
    assert world.steps >= 1
    if took < seconds - max(step, 3 * block) - 5:
        assert [report.iteration for report in world.reports] == [3, 6]


def test_what_is_known_not_to_fit_is_not_begun(monkeypatch, tmp_path):
    world, session = World(monkeypatch, step=1.0, block=10.0), session_in(tmp_path, **BLOCKS)
    # Three steps and a validation are 33 s, three steps more 36 s; of 60 s the second validation would need 66.
    assert world.call(session, 60.0, resume=False) == pytest.approx(36.0)
    assert [report.iteration for report in world.reports] == [3]


def test_stopped_again_and_again_it_ends_in_the_same_bits(monkeypatch, tmp_path):
    whole, _ = whole_run(tmp_path / "whole", **BLOCKS)
    world = World(monkeypatch, step=4.0, block=1.0)
    session, calls = session_in(tmp_path, **BLOCKS), 0
    world.reports = []
    while not world.reports or world.reports[-1].iteration < 6:
        assert world.call(session, 9.0, resume=calls > 0) <= 10.0
        calls += 1
    assert calls > 2
    assert same_bits(session, whole)


class Stopping:
    """A stopper as the page of a run sees it: whether the run was stopped, and how much time is left."""

    def __init__(self, stopped=False, left=1e9, number=None, within_time=nullcontext):
        self.stopped, self.left, self.signal, self.within_time = stopped, left, number, within_time

    def __call__(self):
        return self.stopped or self.signal is not None


@contextmanager
def ended_meanwhile():
    yield
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("stopper", "shown", "left_out"),
    [
        (Stopping(), {"curves", "episodes"}, []),
        (Stopping(stopped=True, left=60.0), {"curves"}, ["what report.html shows besides curves"]),
        (Stopping(within_time=ended_meanwhile), {"curves"}, ["what report.html shows besides curves"]),
        (Stopping(stopped=True, left=1.0), set(), ["report.html"]),
        (Stopping(left=-5.0), set(), ["report.html"]),
        (Stopping(left=-5.0, number=2), {"curves"}, ["what report.html shows besides curves"]),
    ],
)
def test_of_the_page_is_made_what_fits_and_the_rest_is_said(monkeypatch, tmp_path, stopper, shown, left_out):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (the extra metalearn-cli[report])")
    session = session_in(tmp_path)
    session.folder.best.touch()
    monkeypatch.setattr(pages, "_best", lambda _session: None)
    monkeypatch.setattr(pages, "_on_training_tasks", lambda _session, _best: None)
    monkeypatch.setattr(pages, "looked_at", lambda *_given: (None, [0.5]))
    made = []
    monkeypatch.setattr(web_page, "as_html", lambda seen: made.append(seen) or b"")
    monkeypatch.setattr(pages, "_training_page", lambda *given: given[3])
    path, missing = pages.write_training_page(session, "title", pages.Made("", 0.0, True), stopper)
    assert missing == left_out
    assert (path is not None) == bool(shown)
    assert [bool(seen.scores) for seen in made] == ([] if not shown else ["episodes" in shown])


def test_a_deadline_ends_what_takes_too_long():
    stopper, began = Stopper(1.0), time.monotonic()
    with pytest.raises(KeyboardInterrupt), stopper.within_time():
        time.sleep(30)
    assert time.monotonic() - began < 10
    assert stopper()
    assert stopper.signal is None


def test_a_block_that_ends_in_time_is_not_ended_afterwards():
    stopper = Stopper(0.5)
    with stopper.within_time():
        pass
    time.sleep(0.7)
    assert stopper()


def test_a_real_run_of_heavy_validations_holds_its_time_and_says_what_is_missing(cli, tiny_config):
    heavy = [part for key in ("eval.val_episodes=20000", "eval.every=1") for part in ("--set", key)]
    cli("train", tiny_config, "--dry-run")  # the data is there
    began = time.monotonic()
    outcome = cli("train", tiny_config, *heavy, "--max-time", "8s", "--json")
    assert time.monotonic() - began < 16  # 8 s, and what a busy machine takes to start and to end Python
    assert outcome.code == 0, outcome.err
    assert outcome.fields["iterations"] == 1
    assert outcome.fields["left_out"][0] == "the validation of iteration 1"
    assert "left out, as --max-time is over: the validation of iteration 1" in outcome.err
    assert outcome.fields["val"] is None
