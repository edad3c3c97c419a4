import numpy as np
import pytest

from metalearn_cli.datasets import functions
from metalearn_cli.datasets.functions import FAMILIES, Config
from metalearn_cli.testing import check_dataset

X = np.linspace(-5, 5, 2001)


def many(name, count=400):
    generator = np.random.default_rng(0)
    return [FAMILIES[name](generator)(X) for _ in range(count)]


def test_it_is_a_dataset():
    check_dataset("metalearn_cli.datasets.functions")


def test_a_sine_has_its_amplitude_and_phase_in_their_ranges():
    largest = [np.abs(y).max() for y in many("sine")]
    assert 0.1 < min(largest) < 0.3
    assert 4.7 < max(largest) < 5.0


def test_a_line_has_a_constant_slope_and_a_quadratic_a_constant_curve():
    step = X[1] - X[0]
    slopes = [np.diff(y) / step for y in many("line")]
    assert max(np.ptp(one) for one in slopes) < 1e-9
    assert 2.9 < max(abs(one[0]) for one in slopes) < 3.0
    curves = [np.diff(y, 2) / step**2 / 2 for y in many("quadratic")]
    assert max(np.ptp(one) for one in curves) < 1e-4
    steepness = sorted(abs(one[0]) for one in curves)
    assert 0.02 < steepness[0] < 0.03
    assert 0.14 < steepness[-1] < 0.15
    assert {np.sign(one[0]) for one in curves} == {-1.0, 1.0}


def test_an_absolute_value_has_one_corner_and_a_tanh_levels_off():
    for y in many("absolute", 50):
        corners = np.flatnonzero(np.abs(np.diff(y, 2)) > 1e-9)
        assert len(corners) <= 2
        assert (np.abs(X[corners]) < 3.02).all()
    ends = [abs(y[-1] - y[0]) / 2 for y in many("tanh")]
    assert 2.8 < max(ends) < 3.0


def test_tasks_are_of_every_family_that_was_asked_for_and_of_no_other():
    config = Config(of=["line", "sine"], noise=0.0)
    straight = 0
    for seed in range(200):
        inputs, targets = functions.draw_function(config, np.random.default_rng(seed), 6)
        straight += (
            np.abs(np.polyval(np.polyfit(inputs[:, 0], targets[:, 0], 1), inputs[:, 0]) - targets[:, 0]).max() < 1e-3
        )
    assert 75 < straight < 125


def test_targets_have_the_noise_of_the_paper():
    inputs, targets = functions.draw_function(Config(of=["line"]), np.random.default_rng(0), 4000)
    left = targets[:, 0] - np.polyval(np.polyfit(inputs[:, 0], targets[:, 0], 1), inputs[:, 0])
    assert left.std() == pytest.approx(0.3, rel=0.05)


def test_a_family_twice_is_refused():
    with pytest.raises(ValueError, match="expected each family once"):
        Config(of=["line", "line"])


def test_the_family_of_a_task_is_told_by_an_equal_generator():
    source = functions.build(Config(of=["quadratic", "line"], noise=0.0))
    for seed in range(50):
        inputs, targets = source.draw(np.random.default_rng(seed), 8)
        curve = np.polyfit(inputs[:, 0], targets[:, 0], 2)
        assert source.family(np.random.default_rng(seed)) == ("quadratic" if abs(curve[0]) > 0.01 else "line")
