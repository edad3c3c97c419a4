"""Whitening of features by the mean and the covariance within the classes of known pictures.

After whitening, a direction in which pictures of one class differ much counts little, as in linear discriminant
analysis (Fisher 1936; Hastie, Tibshirani & Friedman 2009, The Elements of Statistical Learning, section 4.3).

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
"""A matrix of 4096 x 4096 takes 67 MB in float32, and its eigenvectors take some minutes."""


class Scatter(NamedTuple):
    """The mean of the class means [F], and the covariance within a class [F, F] by its eigenvalues and -vectors.

    All are float64. The eigenvalues [F] are sorted in rising order, and none is below zero.
    """

    mean: Tensor
    values: Tensor
    vectors: Tensor

    def rates(self, shrinkage: float) -> Tensor:
        """(d + lambda)^(-1/2) for each eigenvalue d, [F]; lambda is `shrinkage` times the mean of the eigenvalues."""
        return (self.values + shrinkage * self.values.mean()).rsqrt()

    def whitening(self, shrinkage: float) -> Params:
        """The mean and (S_w + lambda I)^(-1/2), under their names in the statistics of Meta."""
        return {MEAN: self.mean, MATRIX: (self.vectors * self.rates(shrinkage)) @ self.vectors.T}


def scatter(passes: Iterable[tuple[Tensor, Tensor]]) -> Scatter:
    """The Scatter of features [N, F] with class numbers [N], which come in parts.

    Raises ConfigError if no class has two pictures, because then there is no covariance within a class.
    """
    squares, sums, counts = _sums(passes)
    freedom = sum(counts.values()) - len(counts)
    if freedom < 1:
        raise ConfigError("algorithm.name: a whitening is learned from training classes of two pictures or more")
    means = torch.stack([sums[number] / counts[number] for number in sums])
    weights = means.new_tensor([float(counts[number]) for number in sums])
    # S_w = (sum of x x^T - sum over classes of n m m^T) / (N - C). The difference cancels digits, hence float64.
    within = (squares - (means.T * weights) @ means) / freedom
    # eigh reads one triangle of its matrix, so rounding must not make the two differ.
    values, vectors = torch.linalg.eigh((within + within.T) / 2)
    return Scatter(means.mean(0), values.clamp(min=0), vectors)


def _sums(passes: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, dict[int, Tensor], dict[int, int]]:
    """The sum of x x^T [F, F] over all pictures; for each class the sum of x [F] and the number of pictures."""
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
    """A mean of zero and the matrix I, which leave features unchanged.

    Raises ConfigError, with the `name` of the algorithm, for more than 4096 features.
    """
    if features > _MOST_FEATURES:
        raise ConfigError(
            f"algorithm.name: {name} whitens at most {_MOST_FEATURES} features, and this backbone gives {features:,}; "
            "expected features of an extractor, a smaller backbone, or algorithm.name=protonet"
        )
    # On the meta device `torch.eye` would import torch's compiler, which takes seconds.
    return {MEAN: torch.zeros(features), MATRIX: torch.zeros(features, features).fill_diagonal_(1.0)}


def whitened(features: Tensor, mean: Tensor, matrix: Tensor) -> Tensor:
    """The product matrix (x - mean) for features x [T, N, F].

    The mean is [F] or [T, F], the symmetric matrix [F, F] or [T, F, F].
    """
    # Tasks that share one matrix have it with a stride of zero, and a batched product would copy it T times.
    if matrix.dim() == 3 and (len(matrix) == 1 or matrix.stride(0) == 0):
        matrix = matrix[0]
    # Rows x^T times the matrix are (matrix x)^T, as the matrix is symmetric.
    return (features - (mean.unsqueeze(1) if mean.dim() == 2 else mean)) @ matrix
