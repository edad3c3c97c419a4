"""What a classifier may promise of its answers, found on tasks of classes that it never trained on.

Such tasks are what meta-learning has and ordinary learning lacks: a promise that held on them is one about new tasks.

Legend: E tasks, M answers of one task, N answers, W classes, B bins.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Score = Literal["probability", "output", "energy"]
"""How well a picture fits into a task at all: its largest probability, its largest output, or the log of the sum of
exp(outputs)."""

SCORES: tuple[Score, ...] = ("probability", "output", "energy")
BINS = 15
_COLDEST, _HOTTEST, _HALVINGS = 1e-4, 1e6, 45  # to 1e-12 of the temperature


class Reliability(NamedTuple):
    """How far probabilities are from what happens: expected calibration error, Brier score, negative log likelihood."""

    ece: float
    brier: float
    nll: float


def negative_log_likelihood(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean of -log p of the right classes `targets` [N], for outputs [N, W]."""
    return -outputs.log_softmax(-1).gather(-1, targets.unsqueeze(-1)).mean()


def best_temperature(outputs: Tensor, targets: Tensor) -> float:
    """The T > 0 for which outputs / T [N, W] give the right classes [N] the largest likelihood.

    The likelihood is concave in 1 / T (Guo et al. 2017, https://arxiv.org/abs/1706.04599, section 4.2), so its slope is
    halved to zero. Where all answers are right the best T would be zero, and where they say nothing, infinite: it stays
    within 1e-4 and 1e6. Answers that are not finite count for nothing.
    """
    sound = outputs.isfinite().all(-1)
    logits, known = outputs[sound].double(), targets[sound].unsqueeze(-1)
    logits = logits - logits.amax(-1, keepdim=True)
    if not len(logits):
        return 1.0
    right = logits.gather(-1, known).mean()

    def slope(log_temperature: float) -> Tensor:
        """The derivative of the negative log likelihood for 1 / T; it rises with 1 / T."""
        return ((logits * math.exp(-log_temperature)).softmax(-1) * logits).sum(-1).mean() - right

    low, high = math.log(_COLDEST), math.log(_HOTTEST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if bool(slope(middle) > 0) else (low, middle)
    return math.exp((low + high) / 2)


def reliability(probabilities: Tensor, targets: Tensor) -> Reliability:
    """The Reliability of probabilities [N, W] of which classes `targets` [N] were right.

    The error is over 15 bins of equal width of the largest probability (Guo et al. 2017, equation 3); Brier's score is
    the squared distance to the right answer, from 0 to 2.
    """
    rows = probabilities.double()
    confidence, answers = rows.max(-1)
    bins = (confidence * BINS).long().clamp(max=BINS - 1)
    off = torch.zeros(BINS, dtype=torch.float64, device=rows.device)
    off.index_add_(0, bins, confidence - (answers == targets).double())
    of_right = rows.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    brier = rows.square().sum(-1) - 2 * of_right + 1
    nll = -of_right.clamp(min=torch.finfo(torch.float32).tiny).log()
    return Reliability(float(off.abs().sum() / len(rows)), float(brier.mean()), float(nll.mean()))


def floor_for(right: Tensor, coverage: float) -> float:
    """The largest threshold by which sets {class: p >= threshold} hold the right class often enough in a new task.

    `right` [E, M] are the probabilities of the right classes in E tasks. The new task is exchangeable with these, so it
    counts as one of E + 1, of which nothing is known: as one whose sets are all wrong. Then the expected share of right
    sets in it is at least `coverage` (hierarchical conformal prediction: Lee, Barber & Willett 2023,
    https://arxiv.org/abs/2306.06342, theorem 1; few-shot: Fisch et al. 2021, https://arxiv.org/abs/2102.08898). Zero,
    by which every class is in every set, where E tasks are too few for that.
    """
    tasks, answers = right.shape
    needed = math.ceil(coverage * (tasks + 1) * answers - 1e-9)
    if needed > tasks * answers:
        return 0.0
    return float(right.flatten().double().sort(descending=True).values[needed - 1])


def sets_of(probabilities: Tensor, floor: float) -> Tensor:
    """Which classes are in the set of each answer, [..., W], for probabilities [..., W]."""
    return probabilities.double() >= floor


def fit_of(outputs: Tensor, score: Score) -> Tensor:
    """How well each picture fits into its task [...], for outputs [..., W]; larger is better."""
    if score == "probability":
        return outputs.softmax(-1).amax(-1)
    return outputs.amax(-1) if score == "output" else outputs.logsumexp(-1)


def keeping(members: Tensor, share: float) -> float:
    """The largest threshold that keeps `share` of members of a new task, for scores [E, M] of E tasks.

    Counted as `floor_for` does; -infinity, which keeps everything, where E tasks are too few.
    """
    tasks, answers = members.shape
    needed = math.ceil(share * (tasks + 1) * answers - 1e-9)
    if needed > tasks * answers:
        return -math.inf
    return float(members.flatten().double().sort(descending=True).values[needed - 1])


def area_under_curve(members: Tensor, strangers: Tensor) -> float:
    """How often a member [N] has a larger score than a stranger [M], a tie counting half: the area under the ROC curve.

    By ranks (Mann & Whitney 1947).
    """
    both = torch.cat([members.flatten(), strangers.flatten()]).double()
    ordered = both.sort().values
    first = torch.searchsorted(ordered, both, right=False)
    last = torch.searchsorted(ordered, both, right=True)
    ranks = (first + last + 1).double() / 2
    count, others = members.numel(), strangers.numel()
    return float((ranks[:count].sum() - count * (count + 1) / 2) / (count * others))
