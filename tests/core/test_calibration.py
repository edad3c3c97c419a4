"""Promises of answers: known optima, counted sets, and coverage that holds for new tasks; all in float64."""

import math

import pytest
import torch

from metalearn_cli.core.calibration import (
    area_under_curve,
    best_temperature,
    fit_of,
    floor_for,
    half_width_over_groups,
    keeping,
    negative_log_likelihood,
    reliability,
    sets_of,
)


def answers(count: int, ways: int, seed: int, sharpness: float = 1.0):
    """Outputs whose softmax, after division by `sharpness`, is the chance that each class is right."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, ways, generator=generator, dtype=torch.float64)
    targets = torch.multinomial(logits.softmax(-1), 1, generator=generator).squeeze(1)
    return logits * sharpness, targets


@pytest.mark.parametrize("sharpness", [0.2, 1.0, 7.0])
def test_the_temperature_undoes_what_made_answers_too_sure_or_too_shy(sharpness):
    outputs, targets = answers(40_000, 5, seed=0, sharpness=sharpness)
    assert best_temperature(outputs, targets) == pytest.approx(sharpness, rel=0.03)


def test_no_other_temperature_has_a_larger_likelihood():
    outputs, targets = answers(300, 4, seed=1, sharpness=3.0)
    best = best_temperature(outputs, targets)
    losses = [float(negative_log_likelihood(outputs / (best * by), targets)) for by in (0.99, 1.0, 1.01)]
    assert losses[1] < min(losses[0], losses[2])


def test_answers_that_are_all_right_or_all_the_same_have_a_temperature_too():
    right = torch.eye(3, dtype=torch.float64)
    assert best_temperature(right, torch.arange(3)) == pytest.approx(1e-4, rel=1e-6)
    assert best_temperature(-right, torch.arange(3)) == pytest.approx(1e6, rel=1e-6)
    lost = torch.full((3, 3), math.nan, dtype=torch.float64)
    assert best_temperature(lost, torch.arange(3)) == 1.0


def test_reliability_of_a_known_table():
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], dtype=torch.float64)
    found = reliability(probabilities, torch.tensor([0, 1, 0, 1]))
    # Bins of a 15th: 0.9 twice with one right, 0.6 once and right, 0.8 once and right.
    assert found.ece == pytest.approx((2 * abs(0.9 - 0.5) + abs(0.6 - 1) + abs(0.8 - 1)) / 4)
    assert found.brier == pytest.approx((0.02 + 1.62 + 0.32 + 0.08) / 4)
    assert found.nll == pytest.approx(-(math.log(0.9) + math.log(0.1) + math.log(0.6) + math.log(0.8)) / 4)


def test_true_probabilities_have_an_error_near_zero():
    outputs, targets = answers(100_000, 5, seed=2)
    assert reliability(outputs.softmax(-1), targets).ece < 0.01
    assert reliability((3 * outputs).softmax(-1), targets).ece > 0.05


def test_the_floor_counts_a_new_task_as_one_of_which_nothing_is_known():
    right = torch.tensor([[0.9, 0.8], [0.7, 0.6], [0.5, 0.4]], dtype=torch.float64)
    # Of four tasks with two answers each a coverage of one half is four answers, all of them from the three known.
    assert floor_for(right, 0.5) == 0.6
    assert floor_for(right, 0.75) == 0.4
    assert floor_for(right, 0.76) == 0.0  # no threshold of three tasks promises more
    assert sets_of(torch.tensor([0.6, 0.59]), 0.6).tolist() == [True, False]


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_sets_hold_the_right_class_as_often_as_promised_in_new_tasks(coverage):
    """Tasks differ in how hard they are, so that answers of one task say less than as many of several tasks."""
    held, repeats, tasks, answered = 0.0, 400, 30, 20
    generator = torch.Generator().manual_seed(3)
    hard = torch.rand(repeats, tasks + 1, 1, generator=generator, dtype=torch.float64)
    right = torch.rand(repeats, tasks + 1, answered, generator=generator, dtype=torch.float64) ** (0.2 + 2 * hard)
    for one in right:
        held += float((one[-1] >= floor_for(one[:-1], coverage)).double().mean())
    assert coverage - 0.015 <= held / repeats <= coverage + 2 / tasks


def test_a_threshold_keeps_its_share_of_members():
    members = torch.arange(1.0, 201.0, dtype=torch.float64).view(20, 10)
    kept = float((members >= keeping(members, 0.9)).double().mean())
    assert kept == pytest.approx(0.9 * 21 / 20)
    assert keeping(members[:1], 0.9) == -math.inf


def test_the_area_under_the_curve_counts_pairs():
    members, strangers = torch.tensor([3.0, 1.0, 2.0, 2.0]), torch.tensor([2.0, 0.0, 1.5])
    pairs = [1.0 if m > s else 0.5 if m == s else 0.0 for m in members.tolist() for s in strangers.tolist()]
    assert area_under_curve(members, strangers) == pytest.approx(sum(pairs) / len(pairs))
    assert area_under_curve(members + 10, strangers) == 1.0


def test_scores_of_how_well_a_picture_fits():
    outputs = torch.tensor([[1.0, 3.0]], dtype=torch.float64)
    assert float(fit_of(outputs, "output")) == 3.0
    assert float(fit_of(outputs, "probability")) == pytest.approx(1 / (1 + math.exp(-2)))
    assert float(fit_of(outputs, "energy")) == pytest.approx(math.log(math.exp(1) + math.exp(3)))


def test_with_one_answer_a_group_the_interval_is_that_of_a_mean():
    values = torch.randn(40, generator=torch.Generator().manual_seed(0))
    found = half_width_over_groups(values, torch.randperm(40))
    assert found == pytest.approx(1.96 * float(values.double().std()) / math.sqrt(40))


def test_answers_that_are_alike_in_a_group_count_as_one():
    values = torch.randn(12, generator=torch.Generator().manual_seed(0))
    alone = half_width_over_groups(values, torch.arange(12))
    assert half_width_over_groups(values.repeat(50), torch.arange(12).repeat(50)) == pytest.approx(alone)


def test_a_group_alone_tells_nothing_of_others():
    assert half_width_over_groups(torch.arange(5.0), torch.zeros(5)) == math.inf


def test_the_interval_holds_for_new_groups_and_that_over_answers_does_not():
    """20 groups of 30 answers, whose shares of right ones scatter around 0.8."""
    generator, held, narrow = torch.Generator().manual_seed(0), 0, 0
    groups = torch.arange(20).repeat_interleave(30)
    for _ in range(400):
        shares = (0.8 + 0.12 * torch.randn(20, generator=generator)).clamp(0, 1)
        right = (torch.rand(600, generator=generator) < shares[groups]).double()
        off = abs(float(right.mean()) - 0.8)
        held += off <= half_width_over_groups(right, groups)
        narrow += off <= 1.96 * float(right.std()) / math.sqrt(600)
    assert held / 400 > 0.9
    assert narrow / 400 < 0.8
