"""Accuracies of few pictures, with intervals that keep what they promise."""

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metalearn_cli.runtime.use.answer_counts import NO_ANSWER, Counted, Share, confused


@pytest.mark.parametrize(
    ("right", "pictures", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_is_that_of_the_published_examples(right, pictures, low, high):
    assert Share(right, pictures).interval == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda pictures: st.tuples(st.integers(0, pictures), st.just(pictures))))
def test_the_interval_holds_the_accuracy_and_stays_between_nothing_and_everything(share):
    low, high = Share(*share).interval
    assert 0 <= low <= Share(*share).accuracy <= high <= 1
    assert high > low


@pytest.mark.parametrize("pictures", [5, 10, 30, 100])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(pictures):
    covered = []
    for truth in np.linspace(0.01, 0.99, 99):
        each = [
            comb(pictures, right) * truth**right * (1 - truth) ** (pictures - right) for right in range(pictures + 1)
        ]
        ends = [Share(right, pictures).interval for right in range(pictures + 1)]
        covered.append(sum(weight for weight, (low, high) in zip(each, ends, strict=True) if low <= truth <= high))
    assert 0.94 < np.mean(covered) < 0.97


def test_no_pictures_have_no_accuracy():
    assert Share(0, 0).accuracy is None
    assert Share(0, 0).interval is None


COUNTED = Counted(np.array([[0, 0, 0, 0], [0, 1, 2, NO_ANSWER]]), np.array([0, 0, 2, 2]))


def test_answers_are_counted_by_step_by_class_and_by_what_was_taken_for_what():
    assert COUNTED.steps == [Share(2, 4), Share(2, 4)]
    assert COUNTED.classes(3) == [Share(1, 2), Share(0, 0), Share(1, 2)]
    assert COUNTED.confusion(3) == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]


def test_a_picture_without_an_answer_is_wrong_and_taken_for_nothing():
    assert COUNTED.unanswered == [0, 1]
    assert sum(map(sum, COUNTED.confusion(3))) == 3


def test_confused_pairs_come_the_most_often_first():
    assert confused(["a", "b", "c"], [[5, 1, 0], [3, 5, 0], [0, 0, 5]]) == [("b", "a", 3), ("a", "b", 1)]
