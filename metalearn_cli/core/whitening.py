"""What the features of many known classes have in common: their mean, and how they scatter within a class.

Whitened by it, a direction in which pictures of one class differ much counts little, as in linear discriminant analysis
(Fisher 1936; Hastie, Tibshirani & Friedman 2009, The Elements of Statistical Learning, section 4.3).

Legend: N pictures, F features, C classes.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from metalearn_cli.errors import ConfigError
from metalearn_cli.layers.passing import Params

MEAN, MATRIX = "whitening.mean", "whitening.matrix"
_MOST_FEATURES = 4096
"""The matrix of so many takes 67 MB, and its eigenvectors some minutes."""


class Scatter(NamedTuple):
    """The mean of the class means [F], and the covariance within a class [F, F] by its eigenvalues and -vectors.

    All float64; the eigenvalues [F] rise, and none is below zero.
    """

    mean: Tensor
    values: Tensor
    vectors: Tensor

    def rates(self, shrinkage: float) -> Tensor:
        """(d + lambda)^(-1/2) of each eigenvalue d, [F]; lambda is `shrinkage` times the mean of all."""
        return (self.values + shrinkage * self.values.mean()).rsqrt()

    def whitening(self, shrinkage: float) -> Params:
        """The mean and (S_w + lambda I)^(-1/2), as they lie in the statistics of Meta."""
        return {MEAN: self.mean, MATRIX: (self.vectors * self.rates(shrinkage)) @ self.vectors.T}


def scatter(passes: Iterable[tuple[Tensor, Tensor]]) -> Scatter:
    """The Scatter of features [N, F] with class numbers [N], all of which come in parts, each once.

    Raises ConfigError where no class has two pictures: nothing is known of how those of one class differ.
    """
    squares, sums, counts = _sums(passes)
    freedom = sum(counts.values()) - len(counts)
    if freedom < 1:
        raise ConfigError("algorithm.name: a whitening is learned from training classes of two pictures or more")
    means = torch.stack([sums[number] / counts[number] for number in sums])
    weights = means.new_tensor([float(counts[number]) for number in sums])
    within = (squares - (means.T * weights) @ means) / freedom
    values, vectors = torch.linalg.eigh((within + within.T) / 2)
    return Scatter(means.mean(0), values.clamp(min=0), vectors)


def _sums(passes: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, dict[int, Tensor], dict[int, int]]:
    """The sum of x x^T [F, F] over all pictures, and by class the sum of x [F] and how many there are."""
    squares, sums, counts = torch.zeros(()), dict[int, Tensor](), dict[int, int]()
    for features, numbers in passes:
        rows = features.double()
        squares = squares.to(rows) + rows.T @ rows
        for number in sorted(set(numbers.tolist())):
            own = rows[numbers == number]
            sums[number] = sums.get(number, torch.zeros_like(own[0])) + own.sum(0)
            counts[number] = counts.get(number, 0) + len(own)
    return squares, sums, counts


def nothing_known(features: int, name: str) -> Params:
    """A mean of zero and the matrix I: features as they are.

    Raises ConfigError for more features than a matrix is kept of; `name` is that of the algorithm.
    """
    if features > _MOST_FEATURES:
        raise ConfigError(
            f"algorithm.name: {name} whitens at most {_MOST_FEATURES} features, and this backbone gives {features:,}; "
            "expected features of an extractor, a smaller backbone, or algorithm.name=protonet"
        )
    # Where only shapes are asked for, `torch.eye` would import torch's compiler, which takes seconds.
    return {MEAN: torch.zeros(features), MATRIX: torch.zeros(features, features).fill_diagonal_(1.0)}


def whitened(features: Tensor, mean: Tensor, matrix: Tensor) -> Tensor:
    """The product matrix (x - mean) for features x [T, N, F].

    The mean is [F] or [T, F], the symmetric matrix [F, F] or [T, F, F].

    T tasks that share one matrix do so by a stride of zero, which a batched product would copy T times.
    """
    if matrix.dim() == 3 and (len(matrix) == 1 or matrix.stride(0) == 0):
        matrix = matrix[0]
    return (features - (mean.unsqueeze(1) if mean.dim() == 2 else mean)) @ matrix
