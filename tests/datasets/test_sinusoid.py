import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from metalearn_cli.datasets import sinusoid
from metalearn_cli.datasets.sinusoid import Config

SOURCE = sinusoid.build(Config())


def fitted(inputs: NDArray[np.float32], targets: NDArray[np.float32]) -> tuple[float, float, float]:
    """(amplitude, phase, largest error) of the best y = a sin x + b cos x, which is A sin(x - phase)."""
    x, y = inputs[:, 0].astype(np.float64), targets[:, 0].astype(np.float64)
    waves = np.stack([np.sin(x), np.cos(x)], 1)
    (sine, cosine), *_ = np.linalg.lstsq(waves, y)
    return (
        float(np.hypot(sine, cosine)),
        float(np.arctan2(-cosine, sine)),
        float(np.abs(waves @ [sine, cosine] - y).max()),
    )


@pytest.fixture(scope="module")
def tasks():
    generator = np.random.default_rng(0)
    return [SOURCE.draw(generator, 20) for _ in range(2000)]


@pytest.fixture(scope="module")
def fits(tasks):
    return np.array([fitted(*task) for task in tasks])


def test_a_task_has_the_shapes_it_announces(tasks):
    inputs, targets = tasks[0]
    assert inputs.shape == (20, *SOURCE.input_shape) == (20, 1)
    assert targets.shape == (20, SOURCE.outputs) == (20, 1)
    assert inputs.dtype == targets.dtype == np.float32


def test_the_targets_of_each_task_are_one_sine_of_its_inputs(fits):
    assert fits[:, 2].max() < 1e-5


def test_amplitudes_are_uniform_from_a_tenth_to_5(fits):
    amplitudes = fits[:, 0]
    assert amplitudes.min() > 0.1 - 1e-4
    assert amplitudes.max() < 5 + 1e-4
    assert amplitudes.mean() == pytest.approx(2.55, abs=0.15)
    assert amplitudes.std() == pytest.approx(4.9 / 12**0.5, rel=0.05)


def test_phases_are_uniform_from_0_to_pi(fits):
    phases = fits[:, 1]
    assert phases.min() > -1e-4
    assert phases.max() < np.pi + 1e-4
    assert phases.mean() == pytest.approx(np.pi / 2, abs=0.1)
    assert phases.std() == pytest.approx(np.pi / 12**0.5, rel=0.05)


def test_inputs_are_uniform_from_minus_5_to_5(tasks):
    inputs = np.concatenate([inputs for inputs, _ in tasks])
    assert np.abs(inputs).max() <= 5
    assert inputs.mean() == pytest.approx(0, abs=0.1)
    assert inputs.std() == pytest.approx(10 / 12**0.5, rel=0.02)


def test_amplitude_and_phase_are_drawn_independently(fits):
    assert abs(np.corrcoef(fits[:, 0], fits[:, 1])[0, 1]) < 0.1


def test_the_same_generator_state_gives_the_same_task():
    first, again = (SOURCE.draw(np.random.default_rng(3), 10) for _ in range(2))
    assert np.array_equal(first, again)


def test_the_next_task_of_a_generator_is_another(tasks):
    assert not np.array_equal(tasks[0], tasks[1])


def test_there_is_nothing_to_choose_but_the_name():
    assert set(Config.model_fields) == {"name"}
    with pytest.raises(ValidationError, match="amplitude"):
        Config(amplitude=3)
