"""Several learners that answer together, against the mean worked out by hand."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from metalearn_cli.algorithms import maml, protonet
from metalearn_cli.core.ensemble import Ensemble, together
from metalearn_cli.core.meta import Meta, Problem, scores_per_step
from metalearn_cli.core.objectives import classification, regression
from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.layers.network import Network
from metalearn_cli.runtime.machine.execution import Plan, running
from metalearn_cli.runtime.run.evaluation import scores_of
from metalearn_cli.testing import problems

STEPS, RATE, HIDDEN = 2, 0.5, 6


def perceptron(inputs, outputs, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = nn.Sequential(nn.Linear(inputs, HIDDEN), nn.Tanh())
        return Network(nn.Sequential(OrderedDict(body=body, head=nn.Linear(HIDDEN, outputs))))


def members_of(objective, inputs, outputs, count):
    ways = outputs if objective is classification else None
    config = maml.Config(inner_lr=RATE, inner_steps=STEPS)
    built = [
        maml.build(config, Problem(perceptron(inputs, outputs, seed), objective, "transductive", ways))
        for seed in range(count)
    ]
    return tuple(built), [problems.double(one.init()) for one in built]


def by_hand(params, task, objective):
    """Outputs after 0..STEPS steps of gradient descent, written down without any of the package, by numpy."""
    names = ("body.0.weight", "body.0.bias", "head.weight", "head.bias")
    w1, b1, w2, b2 = (params[name].numpy().copy() for name in names)
    (x, y), (query, _) = ((part.inputs[0].numpy(), part.targets[0].numpy()) for part in task)
    found = []
    for _ in range(STEPS + 1):
        found.append(np.tanh(query @ w1.T + b1) @ w2.T + b2)
        hidden = np.tanh(x @ w1.T + b1)
        outputs = hidden @ w2.T + b2
        if objective is classification:
            slope = softmax(outputs)
            slope[np.arange(len(y)), y] -= 1
            slope /= len(y)
        else:
            slope = 2 * (outputs - y) / outputs.size
        back = (slope @ w2) * (1 - hidden**2)
        w2, b2 = w2 - RATE * slope.T @ hidden, b2 - RATE * slope.sum(0)
        w1, b1 = w1 - RATE * back.T @ x, b1 - RATE * back.sum(0)
    return found


def softmax(logits):
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def vectors(count, ways=3, size=4):
    generator = torch.Generator().manual_seed(3)

    def examples(each):
        targets = torch.arange(ways).repeat_interleave(each).expand(count, -1)
        inputs = torch.randn(count, ways * each, size, generator=generator, dtype=torch.float64)
        return Examples(inputs + targets.unsqueeze(-1), targets)

    return Task(examples(2), examples(5))


def one_task(tasks, number):
    return Task(*(Examples(*(tensor[number : number + 1] for tensor in part[:2])) for part in tasks))


def test_it_scores_as_the_mean_of_the_logits_worked_out_by_hand():
    tasks = vectors(8)
    members, metas = members_of(classification, 4, 3, 3)
    found = scores_per_step(Ensemble(members), STEPS, together(metas), tasks)
    for number in range(8):
        task = one_task(tasks, number)
        targets = task.query.targets[0].numpy()
        each = [by_hand(meta.params, task, classification) for meta in metas]
        for step in range(STEPS + 1):
            logits = sum(one[step] for one in each) / len(each)
            right = softmax(logits)[np.arange(len(targets)), targets]
            assert float(found.loss[number, step]) == pytest.approx(-np.log(right).mean(), rel=1e-12)
            assert float(found.score[number, step]) == pytest.approx((logits.argmax(1) == targets).mean(), abs=1e-12)


def test_it_is_not_the_mean_of_the_probabilities():
    tasks = vectors(1)
    members, metas = members_of(classification, 4, 3, 3)
    loss = float(scores_per_step(Ensemble(members), STEPS, together(metas), tasks).loss[0, STEPS])
    each = [softmax(by_hand(meta.params, tasks, classification)[STEPS]) for meta in metas]
    targets = tasks.query.targets[0].numpy()
    of_probabilities = -np.log((sum(each) / 3)[np.arange(len(targets)), targets]).mean()
    assert abs(loss - of_probabilities) > 1e-4


def test_of_a_regression_it_scores_as_the_mean_of_the_outputs_worked_out_by_hand():
    tasks = problems.value_tasks(4)
    members, metas = members_of(regression, 1, 1, 2)
    found = scores_per_step(Ensemble(members), STEPS, together(metas), tasks)
    for number in range(4):
        task = one_task(tasks, number)
        each = [by_hand(meta.params, task, regression) for meta in metas]
        for step in range(STEPS + 1):
            error = (sum(one[step] for one in each) / 2 - task.query.targets[0].numpy()) ** 2
            assert float(found.score[number, step]) == pytest.approx(error.mean(), rel=1e-12)
            assert float(found.loss[number, step]) == float(found.score[number, step])


@pytest.mark.parametrize("copies", [1, 2])
def test_one_alone_and_two_alike_answer_as_one_bit_for_bit(copies):
    tasks = problems.picture_tasks(5)
    learner = maml.build(maml.Config(), Problem(problems.smooth_network(), classification, "support", problems.WAYS))
    meta = problems.double(learner.init())
    alone = scores_per_step(learner, 2, meta, tasks)
    found = scores_per_step(Ensemble((learner,) * copies), 2, together([meta] * copies), tasks)
    assert torch.equal(found.loss, alone.loss)
    assert torch.equal(found.score, alone.score)


def test_its_loss_is_below_the_mean_of_its_members_losses():
    tasks = vectors(16)  # cross-entropy is convex in the logits, so this is so for every task and step
    members, metas = members_of(classification, 4, 3, 4)
    found = scores_per_step(Ensemble(members), STEPS, together(metas), tasks).loss
    pairs = zip(members, metas, strict=True)
    assert (found < torch.stack([scores_per_step(one, STEPS, meta, tasks).loss for one, meta in pairs]).mean(0)).all()


def test_every_member_reads_its_own_part_of_meta():
    learner = protonet.build(protonet.Config(), Problem(perceptron(4, 3, 0), classification, "transductive", 3))
    metas = [
        Meta(dict.fromkeys(["a", "b"], torch.tensor(float(n))), {"rate": torch.tensor(10.0 * n)}) for n in range(12)
    ]
    seen = []

    def adapt(meta, _support, _steps):
        seen.append((meta.params, meta.coefficients))
        return [None]

    spy = learner._replace(adapt=adapt, predict=lambda states, inputs: [inputs] * len(states))
    Ensemble((spy,) * 12).answers(together(metas), problems.picture_tasks(1).support, torch.zeros(1), [0])
    assert seen == [(one.params, one.coefficients) for one in metas]  # number 1 is not taken for number 10


def test_however_its_tasks_run_the_scores_are_the_same():
    def sampler(_step, numbers):
        tasks = problems.picture_tasks(20)
        return Task(*(Examples(*(tensor[list(numbers)] for tensor in part[:2])) for part in tasks))

    learner = maml.build(
        maml.Config(), Problem(problems.smooth_network(), classification, "transductive", problems.WAYS)
    )
    metas = [problems.double(learner.init()) for _ in range(2)]
    metas[1] = Meta({name: value * 1.5 for name, value in metas[1].params.items()}, metas[1].coefficients)
    found = []
    for plan in (Plan("loop", 1, 1), Plan("vmap", 8, 1), Plan("threads", 3, 2)):
        with running(plan) as runner:
            found.append(scores_of(Ensemble((learner, learner)), runner, together(metas), sampler, 2, 20))
    for other in found[1:]:
        assert torch.allclose(other.loss, found[0].loss, rtol=1e-12, atol=0)
        assert torch.equal(other.score, found[0].score)
