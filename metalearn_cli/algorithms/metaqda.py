"""MetaQDA: a normal distribution for each class, with a prior over its mean and covariance from the training classes.

Zhang, Meng, Gouk & Hospedales 2021, Shallow Bayesian Meta Learning for Real-World Few-Shot Recognition
(https://arxiv.org/abs/2101.02833). The conjugate prior is Normal-inverse-Wishart (Murphy 2007, Conjugate Bayesian
analysis of the Gaussian distribution, section 9): mu | Sigma ~ N(m, Sigma / kappa), Sigma ~ IW(S, nu).

Legend: T tasks, N support examples, Q queries, W ways, F features.
"""

import math
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from metalearn_cli.core.closed_form import ClosedForm, closed_form_learner, features_in, tasks_in, trial_of
from metalearn_cli.core.heads import features_of, one_hot, require_classes
from metalearn_cli.core.meta import Learner, Meta, Problem, Traits
from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.core.whitening import MATRIX, MEAN, nothing_known, scatter, whitened
from metalearn_cli.layers.passing import Params
from metalearn_cli.settings import Choice

_STRENGTH, _FREEDOM, _SCALE = "log_strength", "log_freedom", "log_scale"
_OWN_MEAN, _OWN_MATRIX = "head.prior_mean", "head.prior_matrix"


class Config(Choice):
    """The prior's mean and mean covariance are those of the training classes, computed once, in closed form.

    It is made for frozen features (backbone `identity`), as in the paper. Validation tasks choose a value from each
    list, and meta-steps then change all of them but the shrinkage.

    `strengths` (pictures): kappa, the number of pictures of a class that the prior's mean is worth.
    `freedoms` (pictures): nu - F - 1, the number of pictures of a class that the prior's covariance is worth.
    `shrinkages` (shares of the mean variance): the values that may be added to the variance in every direction.
    """

    name: Literal["metaqda"] = "metaqda"
    strengths: list[float] = Field(default=[0.3, 1.0, 3.0], min_length=1)
    freedoms: list[float] = Field(default=[10.0, 100.0, 1000.0], min_length=1)
    shrinkages: list[float] = Field(default=[0.3, 1.0, 3.0], min_length=1)


def build(config: Config, problem: Problem) -> Learner:
    """Classes by the density of the posterior's prediction, a multivariate t distribution (the paper's equation 8).

    Covariances are full and nothing is approximated. In coordinates where the prior's mean covariance is I, a class's
    is that and a matrix of rank N, so a task needs systems of the size of its support set, not of the features. The log
    densities are multiplied by a learned scale, since F features are not independent evidence.

    Without training classes the prior's mean is zero and its mean covariance is I.
    """
    require_classes(problem.objective, "metaqda")

    def begin(meta: Meta, support: Examples) -> Params:
        tasks, known = len(support.targets), meta.statistics
        seen = support._replace(inputs=whitened(support.inputs, known[MEAN], known[MATRIX]))
        own = ((_OWN_MEAN, MEAN), (_OWN_MATRIX, MATRIX))
        prior = {name: known[kept].expand(tasks, *known[kept].shape) for name, kept in own}
        return prior | {f"head.{name}": value for name, value in posterior(seen, meta.coefficients).items()}

    def answer(params: Params, features: Tensor) -> Tensor:
        own = {name.removeprefix("head."): value for name, value in params.items()}
        return log_density(whitened(features, params[_OWN_MEAN], params[_OWN_MATRIX]), own)

    def fit(meta: Meta, classes: Iterable[Examples], episodes: Iterable[Task]) -> Meta:
        return _fitted(config, problem, meta, classes, episodes)

    starts = {_STRENGTH: config.strengths[0], _FREEDOM: config.freedoms[0], _SCALE: 1.0}
    coefficients = {name: torch.tensor(math.log(value)) for name, value in starts.items()}
    form = ClosedForm(begin, answer, coefficients, nothing_known(features_of(problem.network), "metaqda"))
    return closed_form_learner(problem, form, Traits(head=_Densities))._replace(fit=fit)


def posterior(seen: Examples, coefficients: Params) -> Params:
    """The tensors of the posteriors of W classes that a prediction reads, for whitened features [T, N, F].

    With y the support features, kappa_j = kappa + N_j and s = nu - F - 1, the posterior of class j has mean
    m_j = sum y / kappa_j and scale S_j = s I + Y_j^T (I - 1 1^T / kappa_j) Y_j (Murphy 2007, equations 216 to 222, for
    a prior with mean 0). By the Woodbury identity S_j^-1 = (I - Y_j^T M_j^-1 Y_j) / s, where
    M_j = s (I + 1 1^T / kappa) + Y_j Y_j^T; all M_j are blocks of one matrix [N, N], which has one Cholesky factor.
    """
    strength, freedom = coefficients[_STRENGTH].exp(), coefficients[_FREEDOM].exp()
    features, members = seen.inputs, one_hot(seen)
    # same[i, k] is 1 if examples i and k have one class: it makes [N, N] matrices block-diagonal, a block for a class.
    counts, same = members.sum(1), members @ members.mT
    means = members.mT @ features / (strength + counts).unsqueeze(-1)
    identity = torch.eye(same.shape[-1], dtype=same.dtype, device=same.device)
    blocks = same * (features @ features.mT) + freedom * (identity + same / strength)
    root = torch.linalg.cholesky_ex(blocks).L  # cholesky would wait for a GPU to check that the matrix is positive
    # log|S_j| = log(kappa / kappa_j) - N_j log s + F log s + log|M_j| (determinant lemma); log|M_j| is twice the sum of
    # the logarithms on the root's diagonal, over the examples of class j.
    of_prior = (strength / (strength + counts)).log() - counts * freedom.log() + features.shape[-1] * freedom.log()
    determinant = of_prior + 2 * (root.diagonal(dim1=-2, dim2=-1).log().unsqueeze(1) @ members).squeeze(1)
    return {
        "support": features, "members": members, "root": root, "means": means,
        "at_means": (members * (features @ means.mT)).sum(-1), "determinant": determinant, "counts": counts,
        "strength": strength.expand(len(features)), "freedom": freedom.expand(len(features)),
        "scale": coefficients[_SCALE].exp().expand(len(features)),
    }  # fmt: skip


def log_density(queries: Tensor, known: Params) -> Tensor:
    """The scaled log density [T, Q, W] of whitened queries [T, Q, F] under each class's prediction.

    A t distribution with d = s + 2 + N_j degrees of freedom around m_j, of scale S_j (kappa_j + 1) / (kappa_j d).
    """
    features, freedom, scale = queries.shape[-1], known["freedom"].view(-1, 1, 1), known["scale"].view(-1, 1, 1)
    counts = known["counts"].unsqueeze(1)
    strengths, degrees = known["strength"].view(-1, 1, 1) + counts, freedom + 2 + counts
    means = known["means"]
    away = queries.square().sum(-1, keepdim=True) - 2 * queries @ means.mT + means.square().sum(-1).unsqueeze(1)
    # For a support example y of class j: y . (x - m_j).
    inner = queries @ known["support"].mT - known["at_means"].unsqueeze(1)
    # With M_j = R R^T: (x - m_j)^T S_j^-1 (x - m_j) = (|x - m_j|^2 - |R^-1 Y_j (x - m_j)|^2) / s. The root of a
    # block-diagonal matrix is block-diagonal, so each class's part of the solution is its own.
    solved = torch.linalg.solve_triangular(known["root"], inner.mT, upper=False).mT
    distance = (away - solved.square() @ known["members"]) / freedom * strengths / (strengths + 1)
    # The log of the t density's factor before its power; the d in the scale cancels that of (d pi)^(F/2).
    sizes = (degrees + features).div(2).lgamma() - degrees.div(2).lgamma() - features / 2 * math.log(math.pi)
    sizes = sizes - (known["determinant"].unsqueeze(1) + features * ((strengths + 1) / strengths).log()) / 2
    found: Tensor = scale * (sizes - (degrees + features) / 2 * distance.log1p())
    return found


def _fitted(
    config: Config, problem: Problem, meta: Meta, classes: Iterable[Examples], episodes: Iterable[Task]
) -> Meta:
    """Meta with the prior under which validation tasks are answered best, of all combinations of the lists."""
    like = meta.statistics[MATRIX]
    known = scatter(features_in(problem, meta, classes))
    mean, vectors = known.mean.to(like), known.vectors.to(like)
    # Turned to the eigenvectors, which no answer depends on, features are whitened by a product with F numbers.
    turned = [
        Task(*(half._replace(inputs=(half.inputs - mean) @ vectors) for half in tasks))
        for tasks in tasks_in(problem, meta, episodes)
    ]
    best, found = math.inf, meta
    for shrinkage, strength, freedom in product(config.shrinkages, config.strengths, config.freedoms):
        values = {_STRENGTH: strength, _FREEDOM: freedom, _SCALE: 1.0}
        coefficients = {name: like.new_tensor(value).log() for name, value in values.items()}
        trial = trial_of(_answers(turned, known.rates(shrinkage).to(like), coefficients))
        if trial.loss < best:
            coefficients[_SCALE] = like.new_tensor(trial.scale).log()
            statistics = {name: value.to(like) for name, value in known.whitening(shrinkage).items()}
            best, found = trial.loss, meta._replace(coefficients=coefficients, statistics=meta.statistics | statistics)
    return found


def _answers(turned: Iterable[Task], rates: Tensor, coefficients: Params) -> Iterator[tuple[Tensor, Tensor]]:
    for support, query in turned:
        known = posterior(support._replace(inputs=support.inputs * rates), coefficients)
        yield log_density(query.inputs * rates, known), query.targets


class _Densities(nn.Module):
    """The head of an adapted learner as a module: features [N, F] to scaled log densities [N, W]."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        for name, value in params.items():
            if name not in ("weight", "bias"):  # those of the network's own head, which is not used
                self.register_parameter(name, nn.Parameter(torch.empty_like(value)))

    def forward(self, inputs: Tensor) -> Tensor:
        known = {name: value.unsqueeze(0) for name, value in self.named_parameters()}
        rows = whitened(inputs.unsqueeze(0), known["prior_mean"], known["prior_matrix"])
        return log_density(rows, known)[0]
