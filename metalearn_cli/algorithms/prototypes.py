"""Prototypes of whitened features: a class is the mean of its support features, in the metric of the training classes.

Class means (Snell, Swersky & Zemel 2017, https://arxiv.org/abs/1703.05175) after linear discriminant analysis of the
training classes (Fisher 1936); with cosines as in Chen et al. 2021, Meta-Baseline (https://arxiv.org/abs/2003.04390).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from metalearn_cli.core.closed_form import ClosedForm, closed_form_learner, features_in, tasks_in, trial_of
from metalearn_cli.core.heads import directions, features_of, prototypes, require_classes
from metalearn_cli.core.meta import Learner, Meta, Problem, Traits
from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.core.whitening import MATRIX, MEAN, nothing_known, scatter, whitened
from metalearn_cli.layers.passing import Params
from metalearn_cli.settings import Choice

_SCALE, _OWN_MEAN, _OWN_MATRIX = "log_scale", "head.mean", "head.matrix"


class Config(Choice):
    """Features are whitened by their covariance within the training classes, which is computed once, in closed form.

    It is made for frozen features (backbone `identity`), on which it trains in a second. If the body learns, the
    whitening stays that of the initial weights; `shrinkages: []` leaves it out.

    `distance`: whether the answer is the class mean at the smallest angle ("cosine") or at the smallest distance
        ("squared"), which is linear discriminant analysis with equal priors.
    `shrinkages` (shares of the mean variance): the values that may be added to the variance in every direction.
        Validation tasks choose one of them, or features without whitening if these are better. Larger values whiten
        less.
    `scale`: the initial factor of cosines, or of minus half the squared distances; validation tasks and meta-steps
        change it.
    """

    name: Literal["prototypes"] = "prototypes"
    distance: Literal["cosine", "squared"] = "cosine"
    shrinkages: list[float] = Field(default=[0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0])
    scale: float = Field(10.0, gt=0)


def build(config: Config, problem: Problem) -> Learner:
    """Classes by cosine or distance to the whitened means; the network's own head is not used.

    Without training classes the mean is zero and the matrix is I: plain class means, which need no training.
    """
    require_classes(problem.objective, "prototypes")
    by_angle = config.distance == "cosine"

    def begin(meta: Meta, support: Examples) -> Params:
        tasks, known = len(support.targets), meta.statistics
        # The mean of whitened features is the whitened mean, which takes F x F products of W rows instead of N.
        centres = whitened(prototypes(support), known[MEAN], known[MATRIX])
        head = _head(centres, meta.coefficients[_SCALE].exp(), by_angle)
        if by_angle:
            own = ((_OWN_MEAN, MEAN), (_OWN_MATRIX, MATRIX))
            return head | {name: known[kept].expand(tasks, *known[kept].shape) for name, kept in own}
        # With whitened features A (x - mean), the product c . A (x - mean) is (A c) . x - (A c) . mean, as A is
        # symmetric: a linear head on the features themselves.
        weight = whitened(head["head.weight"], torch.zeros_like(known[MEAN]), known[MATRIX])
        return {"head.weight": weight, "head.bias": head["head.bias"] - weight @ known[MEAN]}

    def answer(params: Params, features: Tensor) -> Tensor:
        if not by_angle:
            return features @ params["head.weight"].mT + params["head.bias"].unsqueeze(1)
        return directions(whitened(features, params[_OWN_MEAN], params[_OWN_MATRIX])) @ params["head.weight"].mT

    def fit(meta: Meta, classes: Iterable[Examples], episodes: Iterable[Task]) -> Meta:
        return _fitted(config, problem, meta, classes, episodes)

    start = torch.tensor(math.log(config.scale))
    form = ClosedForm(begin, answer, {_SCALE: start}, nothing_known(features_of(problem.network), "prototypes"))
    learner = closed_form_learner(problem, form, Traits(head=_WhitenedCosine.like if by_angle else None))
    return learner._replace(fit=fit)


def _head(centres: Tensor, scale: Tensor, by_angle: bool) -> Params:
    """The head for whitened class means c [T, W, F]: outputs scale * cosine, or scale * (c . x - |c|^2 / 2).

    The second is -scale / 2 * |x - c|^2 up to a term that is the same for all classes.
    """
    if by_angle:
        return {"head.weight": scale * directions(centres)}
    return {"head.weight": scale * centres, "head.bias": -scale / 2 * centres.square().sum(-1)}


def _fitted(
    config: Config, problem: Problem, meta: Meta, classes: Iterable[Examples], episodes: Iterable[Task]
) -> Meta:
    """Meta with the whitening and the scale under which validation tasks are answered best."""
    like, by_angle = meta.statistics[MATRIX], config.distance == "cosine"
    plain = list(tasks_in(problem, meta, episodes))
    found, best = meta.statistics, trial_of(_answers(plain, by_angle))
    if config.shrinkages:
        known = scatter(features_in(problem, meta, classes))
        mean, vectors = known.mean.to(like), known.vectors.to(like)
        # Along the eigenvectors a whitening is a product with F numbers, whichever the shrinkage.
        turned = [_changed(tasks, lambda features: (features - mean) @ vectors) for tasks in plain]
        for shrinkage in config.shrinkages:
            rates = known.rates(shrinkage).to(like)
            trial = trial_of(_answers([_changed(tasks, rates.mul) for tasks in turned], by_angle))
            if trial.loss < best.loss:
                found, best = known.whitening(shrinkage), trial
    # The answers above have scale 1, so the best factor on them is the scale itself.
    scale = meta.coefficients[_SCALE].new_tensor(best.scale).log()
    statistics = {name: value.to(like) for name, value in found.items()}
    return meta._replace(coefficients={_SCALE: scale}, statistics=meta.statistics | statistics)


def _changed(tasks: Task, change: Callable[[Tensor], Tensor]) -> Task:
    return Task(*(half._replace(inputs=change(half.inputs)) for half in tasks))


def _answers(episodes: Iterable[Task], by_angle: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Outputs of scale 1 for the queries of tasks of whitened features, and their targets."""
    for support, query in episodes:
        head = _head(prototypes(support), support.inputs.new_ones(()), by_angle)
        read = directions(query.inputs) if by_angle else query.inputs
        outputs = read @ head["head.weight"].mT
        yield (outputs if by_angle else outputs + head["head.bias"].unsqueeze(1)), query.targets


class _WhitenedCosine(nn.Module):
    """The head of an adapted learner as a module: features [N, F] to cosines times the scale [N, W]."""

    def __init__(self, ways: int, features: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.empty(features))
        self.matrix = nn.Parameter(torch.empty(features, features))
        self.weight = nn.Parameter(torch.empty(ways, features))

    @classmethod
    def like(cls, params: Params) -> "_WhitenedCosine":
        """An instance whose parameters have the shapes of an adapted head's `params`."""
        return cls(*params["weight"].shape)

    def forward(self, inputs: Tensor) -> Tensor:
        return directions((inputs - self.mean) @ self.matrix) @ self.weight.T
