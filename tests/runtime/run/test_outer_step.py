import math

import pytest
import torch

from metalearn_cli.core.meta import Meta
from metalearn_cli.experiment.blocks import Outer
from metalearn_cli.runtime.run import outer_step


def test_a_constant_rate_stays():
    assert {outer_step.rate(Outer(lr=0.1, iterations=10), i) for i in range(10)} == {0.1}


def test_a_cosine_starts_at_lr_and_passes_the_middle():
    settings = Outer(lr=1.0, schedule="cosine", min_lr=0.2, iterations=100)
    assert outer_step.rate(settings, 0) == 1.0
    assert outer_step.rate(settings, 50) == pytest.approx(0.6)
    assert outer_step.rate(settings, 100) == pytest.approx(0.2)


def test_a_line_ends_where_it_is_told_to():
    settings = Outer(lr=1.0, schedule="linear", min_lr=0.2, iterations=100)
    assert [outer_step.rate(settings, i) for i in (0, 50, 100)] == pytest.approx([1.0, 0.6, 0.2])
    assert outer_step.rate(Outer(lr=1.0, schedule="linear", iterations=10), 9) == pytest.approx(0.1)


def test_steps_multiply_the_rate():
    settings = Outer(lr=1.0, schedule="step", step_every=10, step_factor=0.5)
    assert [outer_step.rate(settings, i) for i in (0, 9, 10, 25)] == [1.0, 1.0, 0.5, 0.25]


def test_clipping_by_norm_keeps_the_direction():
    gradient = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0])}
    found = outer_step.clipped(Outer(clip_norm=1.0), gradient)
    torch.testing.assert_close(torch.cat(list(found.values())), torch.tensor([0.6, 0.0, 0.8]))


def test_clipping_by_value_bounds_each_element():
    found = outer_step.clipped(Outer(clip_value=10.0), {"a": torch.tensor([100.0, 1.0, -30.0])})
    assert found["a"].tolist() == [10.0, 1.0, -10.0]


@pytest.mark.parametrize("settings", [Outer(clip_norm=100.0), Outer(clip_value=100.0)])
def test_a_bound_above_the_gradient_changes_no_bit(settings):
    gradient = {"a": torch.randn(5), "b": torch.randn(2, 3)}
    assert all(torch.equal(outer_step.clipped(settings, gradient)[name], value) for name, value in gradient.items())


def test_sgd_moves_against_the_gradient_in_place():
    meta = Meta({"w": torch.tensor([1.0, 2.0])}, {"rate": torch.tensor(0.5)})
    settings = Outer(optimizer="sgd", lr=0.1)
    outer_step.move(
        settings,
        outer_step.optimizer_for(settings, meta),
        meta,
        Meta({"w": torch.tensor([1.0, -1.0])}, {"rate": torch.tensor(2.0)}),
        0,
    )
    torch.testing.assert_close(meta.params["w"], torch.tensor([0.9, 2.1]))
    torch.testing.assert_close(meta.coefficients["rate"], torch.tensor(0.3))


def test_adam_takes_its_first_step_at_the_scheduled_rate():
    meta = Meta({"w": torch.tensor([1.0])}, {})
    settings = Outer(lr=0.5, schedule="cosine", iterations=2)
    outer_step.move(settings, outer_step.optimizer_for(settings, meta), meta, Meta({"w": torch.tensor([3.0])}, {}), 1)
    expected = 1 - 0.5 * (1 + math.cos(math.pi / 2)) / 2
    torch.testing.assert_close(meta.params["w"], torch.tensor([expected]), rtol=1e-5, atol=0)


KINDS = {
    "adam": (torch.optim.Adam, {"weight_decay": 0.1}),
    "adamw": (torch.optim.AdamW, {"weight_decay": 0.1}),
    "sgd": (torch.optim.SGD, {"weight_decay": 0.1, "momentum": 0.9}),
}


@pytest.mark.parametrize("name", KINDS)
def test_the_optimizer_is_torchs_own_to_the_last_bit_and_in_its_state(name):
    kind, settings = KINDS[name]
    meta = Meta({"a": torch.rand(5, 3), "b": torch.rand(4)}, {})
    tensors = [value.clone() for value in meta.params.values()]
    own, theirs = (
        outer_step.optimizer_for(Outer(optimizer=name, lr=0.1, **settings), meta),
        kind(tensors, 0.1, **settings),
    )
    for _ in range(3):
        for ours, value in zip(meta.params.values(), tensors, strict=True):
            value.grad = torch.rand_like(value)
            ours.grad = value.grad.clone()
        own.step()
        theirs.step()
        again = outer_step.optimizer_for(Outer(optimizer=name, lr=0.1, **settings), meta)
        again.load_state_dict(own.state_dict())
        own = again
    assert all(torch.equal(ours, value) for ours, value in zip(meta.params.values(), tensors, strict=True))
    torch.testing.assert_close(own.state_dict(), theirs.state_dict(), rtol=0, atol=0)
