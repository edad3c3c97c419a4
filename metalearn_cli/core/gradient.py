"""The meta-gradient of one task."""

from collections.abc import Callable

import torch

from metalearn_cli.core.meta import Meta, Scores
from metalearn_cli.core.tasks import Task


def reverse_mode(query_scores: Callable[[Meta, Task], Scores]) -> Callable[[Meta, Task], tuple[Meta, Scores]]:
    """The function (meta, task) -> (d loss / d meta, scores), by one reverse pass through the inner loop.

    It is the exact second-order gradient where `query_scores` is differentiable through its inner steps (Finn et
    al. 2017, equation 5). Memory grows with the number of inner steps.
    """

    def loss(meta: Meta, task: Task) -> tuple[torch.Tensor, Scores]:
        result = query_scores(meta, task)
        return result.loss, result

    def meta_gradient(meta: Meta, task: Task) -> tuple[Meta, Scores]:
        gradient: Meta
        gradient, result = torch.func.grad(loss, has_aux=True)(meta, task)
        return gradient, result

    return meta_gradient
