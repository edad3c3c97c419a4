"""A meta-gradient is recorded once and replayed, if that gives the same; a GPU's graph is stood in for on a CPU."""

import pytest
import torch
from torch.utils import _pytree as pytree

from metalearn_cli.algorithms import maml
from metalearn_cli.core.meta import Problem
from metalearn_cli.core.objectives import classification
from metalearn_cli.core.tasks import with_each
from metalearn_cli.experiment import from_mapping
from metalearn_cli.runtime.machine.execution import Plan, running
from metalearn_cli.runtime.machine.graph_recording import WARM_UP
from metalearn_cli.runtime.run import session as sessions
from metalearn_cli.runtime.run import training
from metalearn_cli.testing import problems
from tests.commands import TINY
from tests.runtime.run.test_training import same_bits, session_in

PLAN = Plan("vmap", 4, 1)


class Tape:
    """Records as a GPU does: results stay where they are and are overwritten, inputs are read where they were."""

    def __init__(self, off_by=0.0):
        self.recorded = self.replayed = 0
        self._off_by = off_by

    def __call__(self, work):
        self.recorded += 1
        results = pytree.tree_map(torch.clone, work())

        def replay():
            self.replayed += 1
            for place, value in zip(pytree.tree_leaves(results), pytree.tree_leaves(work()), strict=True):
                place.copy_(value * (1 + self._off_by))

        return replay, results


def learner_and_tasks(count=4, seed=0):
    learner = maml.build(
        maml.Config(inner_steps=2), Problem(problems.smooth_network(), classification, "transductive", None)
    )
    return learner, problems.double(learner.init()), problems.picture_tasks(count, seed=seed)


def test_every_call_gives_what_it_would_without():
    tape, (learner, meta, _) = Tape(), learner_and_tasks()
    with running(PLAN) as plain, running(PLAN, record=tape) as recording:
        for seed in range(WARM_UP + 4):
            tasks = problems.picture_tasks(4, seed=seed)
            found, expected = (one.total(learner.meta_gradient, meta, tasks) for one in (recording, plain))
            for one, other in zip(pytree.tree_leaves(found), pytree.tree_leaves(expected), strict=True):
                assert torch.equal(one, other)
            for value in meta.params.values():
                value.mul_(0.9)  # as an optimizer does, in place
    assert tape.recorded == 1
    assert tape.replayed == 4 + 1  # once to be checked


def test_what_has_another_shape_or_another_function_is_recorded_anew():
    tape, (learner, meta, tasks) = Tape(), learner_and_tasks()
    with running(PLAN, record=tape) as runner:
        for count in (4, 3):
            for _ in range(WARM_UP + 1):
                scores = runner.total(learner.meta_gradient, meta, problems.picture_tasks(count))[1]
                assert len(scores.loss) == count
        assert tape.recorded == 2
        for _ in range(2 * WARM_UP):
            runner.total(lambda *given: learner.meta_gradient(*given), meta, tasks)
    assert tape.recorded == 2


def test_a_learner_that_lies_elsewhere_is_not_taken_for_the_recorded_one():
    tape, (learner, meta, tasks) = Tape(), learner_and_tasks()
    with running(PLAN, record=tape) as runner:
        for _ in range(WARM_UP + 1):
            runner.total(learner.meta_gradient, meta, tasks)
        other = meta._replace(params={name: 2 * value for name, value in meta.params.items()})
        found, expected = runner.total(learner.meta_gradient, other, tasks), learner.meta_gradient(other, tasks)
    assert all(torch.equal(value, found[0].params[name]) for name, value in expected[0].params.items())


def test_a_recording_that_gives_something_else_is_not_relied_on():
    tape, said, (learner, meta, tasks) = Tape(off_by=1e-6), [], learner_and_tasks()
    with running(PLAN, said.append, tape) as runner:
        for _ in range(WARM_UP + 3):
            found = runner.total(learner.meta_gradient, meta, tasks)
    assert (tape.recorded, tape.replayed) == (1, 1)
    assert said == [
        "the meta-gradient is not recorded as a CUDA graph, and goes on without (it gives something else by 1e-06)"
    ]
    expected = learner.meta_gradient(meta, tasks)
    assert all(torch.equal(value, found[0].params[name]) for name, value in expected[0].params.items())


def test_single_precision_may_differ_by_what_rounding_makes():
    learner, meta, tasks = learner_and_tasks()
    meta, tasks = pytree.tree_map(torch.Tensor.float, meta), with_each(tasks, lambda v: v.float() if v.dim() > 2 else v)
    for off_by, replayed in ((1e-5, 2), (1e-2, 1)):
        tape = Tape(off_by)
        with running(PLAN, record=tape) as runner:
            for _ in range(WARM_UP + 1):
                runner.total(learner.meta_gradient, meta, tasks)
        assert tape.replayed == replayed


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore"), "not permitted when"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "(out of memory)"),
    ],
)
def test_what_cannot_be_recorded_goes_on_without_and_says_why_once(error, reason):
    def record(_work):
        raise error

    said, (learner, meta, tasks) = [], learner_and_tasks()
    with running(PLAN, said.append, record) as runner:
        for _ in range(WARM_UP + 3):
            found = runner.total(learner.meta_gradient, meta, tasks)
    assert len(said) == 1
    assert reason in said[0]
    assert "\n" not in said[0]
    assert found[1].loss.shape == (4,)


def test_a_run_that_is_recorded_ends_in_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "reads_later", lambda _session: True)
    tape = Tape()
    for name, record in (("plain", None), ("recorded", tape)):
        (tmp_path / name).mkdir()
        session = session_in(tmp_path / name, outer={"iterations": 12})
        with running(session.plan._replace(mode="vmap"), record=record) as runner:
            list(training.loop(session, runner, sessions.start(session, False), training.Watch()))
    assert tape.recorded == 1
    assert tape.replayed == 12 - WARM_UP + 1
    assert same_bits(*(session_in(tmp_path / name, outer={"iterations": 12}) for name in ("plain", "recorded")))


def test_what_was_left_out_of_a_recording_is_found_out():
    """As what another thread asks of a GPU is: its results are there, once and for ever."""

    def constant(work):
        results = work()
        return (lambda: None), results

    said, (learner, meta, tasks) = [], learner_and_tasks()
    with running(PLAN, said.append, constant) as runner:
        for _ in range(WARM_UP + 2):
            runner.total(learner.meta_gradient, meta, tasks)
    assert len(said) == 1
    assert "it gives something else by" in said[0]


def test_memory_that_recording_lacks_is_no_reason_for_smaller_chunks():
    def record(work):
        short.append(1)
        return work(), None

    short, said, (learner, meta, tasks) = [], [], learner_and_tasks()

    def meta_gradient(*given):
        if short and len(short) == 1:
            short.append(2)
            raise RuntimeError("CUDA out of memory. Tried to allocate")
        return learner.meta_gradient(*given)

    with running(PLAN, said.append, record) as runner:
        for _ in range(WARM_UP + 2):
            runner.total(meta_gradient, meta, tasks)
        assert runner.plan == PLAN
    assert said == ["the meta-gradient is not recorded as a CUDA graph, and goes on without (out of memory)"]


def test_a_step_that_is_not_finite_is_no_reason_to_give_up():
    tape, (learner, meta, tasks) = Tape(), learner_and_tasks()
    broken = with_each(tasks, lambda value: value * torch.nan if value.is_floating_point() else value)
    with running(PLAN, record=tape) as runner:
        for given in (*[broken] * (WARM_UP + 1), tasks, tasks):
            runner.total(learner.meta_gradient, meta, given)
    assert (tape.recorded, tape.replayed) == (1, 2)


def test_the_first_of_several_reasons_is_said():
    def record(_work):
        try:
            raise RuntimeError("operation not permitted when stream is capturing")
        except RuntimeError:
            raise RuntimeError("operation failed due to a previous error during capture")  # noqa: B904

    said, (learner, meta, tasks) = [], learner_and_tasks()
    with running(PLAN, said.append, record) as runner:
        for _ in range(WARM_UP):
            runner.total(learner.meta_gradient, meta, tasks)
    assert "(operation not permitted when stream is capturing)" in said[0]


def test_an_objective_that_no_longer_changes_is_one_phase(data_dir, tmp_path):
    changing = {"name": "maml_plus_plus", "multi_step_iterations": 3, "first_order_iterations": 5}
    chosen = from_mapping(
        TINY | {"algorithm": changing} | {"task": TINY["task"] | {"running_statistics": True}}, "test"
    )
    learner = sessions.session_for(chosen, tmp_path, data_dir=data_dir).learner
    phases = [learner.phase(iteration) for iteration in range(9)]
    assert phases[3] == phases[4]
    assert phases[5] == phases[6] == phases[8]
    assert len({*phases[:6]}) == 5
