"""Calibration of a classifier's answers: temperature, prediction sets, and the rejection of unknown classes.

Each is fitted to many tasks of classes that training did not use. As far as the classes of a new task are like these,
an average over such tasks is the expectation for it.

Legend: E tasks, M answers of one task, N answers, W classes, B bins.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Score = Literal["probability", "output", "energy"]
"""The score of a picture's fit to its task: its largest probability, its largest output, or logsumexp(outputs)."""

SCORES: tuple[Score, ...] = ("probability", "output", "energy")
BINS = 15
_COLDEST, _HOTTEST, _HALVINGS = 1e-4, 1e6, 45  # to 1e-12 of the temperature


class Reliability(NamedTuple):
    """Errors of probabilities, smaller is better: expected calibration error, Brier score, negative log likelihood."""

    ece: float
    brier: float
    nll: float


def negative_log_likelihood(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean of -log p of the right classes `targets` [N], for outputs [N, W]."""
    return -outputs.log_softmax(-1).gather(-1, targets.unsqueeze(-1)).mean()


def best_temperature(outputs: Tensor, targets: Tensor) -> float:
    """The T > 0 for which outputs / T [N, W] give the right classes [N] the largest likelihood.

    The likelihood is concave in 1 / T (Guo et al. 2017, https://arxiv.org/abs/1706.04599, section 4.2), so bisection
    finds the zero of its slope. T stays between 1e-4 and 1e6: it would be 0 if all answers were right, and infinite if
    they were no better than chance. Answers that are not finite are left out; without any other, T is 1.
    """
    sound = outputs.isfinite().all(-1)
    logits, known = outputs[sound].double(), targets[sound].unsqueeze(-1)
    # Shifting a row changes neither its softmax nor the slope; with 0 as the largest logit, large terms do not cancel.
    logits = logits - logits.amax(-1, keepdim=True)
    if not len(logits):
        return 1.0
    right = logits.gather(-1, known).mean()

    def slope(log_temperature: float) -> Tensor:
        """The derivative of the negative log likelihood with respect to 1 / T; it rises with 1 / T."""
        return ((logits * math.exp(-log_temperature)).softmax(-1) * logits).sum(-1).mean() - right

    # In log T, because T spans ten orders of magnitude.
    low, high = math.log(_COLDEST), math.log(_HOTTEST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if bool(slope(middle) > 0) else (low, middle)
    return math.exp((low + high) / 2)


def reliability(probabilities: Tensor, targets: Tensor) -> Reliability:
    """The Reliability of probabilities [N, W] for right classes `targets` [N].

    The expected calibration error takes the largest probability of each answer in 15 bins of equal width (Guo et al.
    2017, equation 3). The Brier score is the squared distance of the probabilities to the one-hot target, from 0 to 2.
    """
    rows = probabilities.double()
    confidence, answers = rows.max(-1)
    bins = (confidence * BINS).long().clamp(max=BINS - 1)
    # The sum of (confidence - right) in a bin is the number of its answers times its gap, as equation 3 weighs it.
    off = torch.zeros(BINS, dtype=torch.float64, device=rows.device)
    off.index_add_(0, bins, confidence - (answers == targets).double())
    of_right = rows.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    # |p - e|^2 = |p|^2 - 2 p_t + 1 for the one-hot row e of the right class t.
    brier = rows.square().sum(-1) - 2 * of_right + 1
    nll = -of_right.clamp(min=torch.finfo(torch.float32).tiny).log()
    return Reliability(float(off.abs().sum() / len(rows)), float(brier.mean()), float(nll.mean()))


def floor_for(right: Tensor, coverage: float) -> float:
    """The largest threshold for which sets {class: p >= threshold} hold the right class often enough: `coverage`.

    `right` [E, M] are the probabilities of the right classes in E tasks. A new task is taken as exchangeable with
    these, which it is as far as its classes are like theirs (`half_width_over_groups` says how sure that is): the
    threshold is chosen as if there were E + 1 tasks, with all sets of the unseen one wrong. Then the expected share of
    right sets in the new task is at least `coverage` (hierarchical conformal prediction: Lee, Barber & Willett 2023,
    https://arxiv.org/abs/2306.06342, theorem 1; few-shot: Fisch et al. 2021, https://arxiv.org/abs/2102.08898). If E
    tasks are too few for this coverage, the threshold is 0, so that every set holds every class.
    """
    tasks, answers = right.shape
    # 1e-9: 0.8 * 3 * 5 is 12.000000000000002 in floats, which without it would ask for one right answer more.
    needed = math.ceil(coverage * (tasks + 1) * answers - 1e-9)
    if needed > tasks * answers:
        return 0.0
    return float(right.flatten().double().sort(descending=True).values[needed - 1])


def sets_of(probabilities: Tensor, floor: float) -> Tensor:
    """Booleans [..., W]: whether each class is in the set of an answer with probabilities [..., W]."""
    return probabilities.double() >= floor


def half_width(values: Tensor) -> float:
    """The half-width of the 95 % interval of a mean over tasks [E]: 1.96 s / sqrt(E); infinite for one task."""
    return float(1.96 * values.std() / math.sqrt(len(values))) if len(values) > 1 else math.inf


def half_width_over_groups(values: Tensor, groups: Tensor) -> float:
    """The half-width of the 95 % interval of the mean of `values` [N] over new groups; `groups` [N] are their numbers.

    Answers about one class resemble each other, so that many tasks of few classes say little about other classes. The
    residuals of a group are summed before they are squared (Liang & Zeger 1986, https://doi.org/10.1093/biomet/73.1.13),
    times G / (G - 1) for G groups. Infinite for one group.
    """
    # The variance of the mean: the sum over groups of (the sum of a group's residuals)^2, over N^2.
    residuals = values.double() - values.double().mean()
    numbers, place = groups.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    if (count := len(numbers)) < 2:
        return math.inf
    sums = residuals.new_zeros(count).index_add(0, place, residuals)
    return 1.96 * math.sqrt(float(sums.square().sum()) * count / (count - 1)) / len(values)


def fit_of(outputs: Tensor, score: Score) -> Tensor:
    """The `score` [...] of pictures with outputs [..., W]; it is larger for pictures that fit better to their task."""
    if score == "probability":
        return outputs.softmax(-1).amax(-1)
    return outputs.amax(-1) if score == "output" else outputs.logsumexp(-1)


def keeping(members: Tensor, share: float) -> float:
    """The largest threshold that a `share` of the pictures of known classes reach, in expectation over new tasks.

    `members` [E, M] are the scores of such pictures in E tasks. The argument is that of `floor_for`. If E tasks are too
    few, the threshold is -infinity, so that every picture is kept.
    """
    tasks, answers = members.shape
    needed = math.ceil(share * (tasks + 1) * answers - 1e-9)  # 1e-9: as in `floor_for`
    if needed > tasks * answers:
        return -math.inf
    return float(members.flatten().double().sort(descending=True).values[needed - 1])


def area_under_curve(members: Tensor, strangers: Tensor) -> float:
    """The area under the ROC curve of `members` [N] against `strangers` [M], from ranks (Mann & Whitney 1947).

    It is the share of pairs in which the member has the larger score; a tie counts half.
    """
    both = torch.cat([members.flatten(), strangers.flatten()]).double()
    ordered = both.sort().values
    # Equal scores share the mean of their ranks, which counts a tie as half.
    first = torch.searchsorted(ordered, both, right=False)
    last = torch.searchsorted(ordered, both, right=True)
    ranks = (first + last + 1).double() / 2
    # U = (sum of the members' ranks) - N (N + 1) / 2 counts the pairs in which the member is larger; area = U / (N M).
    count, others = members.numel(), strangers.numel()
    return float((ranks[:count].sum() - count * (count + 1) / 2) / (count * others))
