"""What a run will take, counted up from a few of its steps."""

import time

import pytest

from metalearn_cli.runtime.run import forecast as forecasts
from metalearn_cli.runtime.run.forecast import forecast
from tests.runtime.run.test_training import reports_of, session_in


def test_every_iteration_and_validation_of_the_run_is_counted(tmp_path):
    found = forecast(session_in(tmp_path, outer={"iterations": 7}, eval={"every": 3}))
    to_begin = found.to_validation - 3 * found.per_iteration - found.per_validation
    assert to_begin > 0
    assert found.to_end == pytest.approx(to_begin + 7 * found.per_iteration + 3 * found.per_validation)


def test_a_run_shorter_than_the_distance_between_validations_has_one(tmp_path):
    found = forecast(session_in(tmp_path, outer={"iterations": 2}, eval={"every": 500}))
    assert found.to_validation == found.to_end > 2 * found.per_iteration + found.per_validation


def test_a_slow_step_is_felt_and_not_repeated_for_long(tmp_path, monkeypatch):
    session, calls = session_in(tmp_path), []
    sampler = forecasts.training_sampler(session.experiment, session.data, session.learner)

    def slowly(iteration, numbers):
        calls.append(iteration)
        time.sleep(0.2)
        return sampler(iteration, numbers)

    monkeypatch.setattr(forecasts, "training_sampler", lambda *_about: slowly)
    monkeypatch.setattr(forecasts, "_SECONDS", 0.1)
    assert forecast(session).per_iteration >= 0.2
    assert len(calls) == 2  # one to warm up, one that is timed


def test_a_validation_of_days_is_counted_up_from_its_first_inner_steps():
    asked = []

    def measure(inner_steps, episodes):
        asked.append((inner_steps, episodes))
        time.sleep(0.01 * inner_steps * episodes)

    seconds = forecasts._of_validation(measure, 100_000, 1000)
    assert asked == [(10, 1), (10, 1), (20, 1)]
    assert seconds == pytest.approx(0.01 * 100_000 * 1000, rel=0.5)


def test_a_short_validation_is_measured_as_it_will_run():
    asked = []
    forecasts._of_validation(lambda *call: asked.append(call), 3, 1000)
    assert asked[-1] == (3, forecasts.EPISODES_AT_ONCE)


def test_a_run_is_the_same_whether_it_was_forecast_or_not(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    session = session_in(tmp_path / "a")
    forecast(session)
    assert [r.loss for r in reports_of(session)] == [r.loss for r in reports_of(session_in(tmp_path / "b"))]
