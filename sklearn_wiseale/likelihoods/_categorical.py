"""Categorical likelihood of blocks of one-hot columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .._data.validation import are_counts
from ._base import NAME_CATEGORIES, Likelihood, Observation, column_chunks, first_entry, log_weight

__all__ = ["Categorical"]

#: Lower limit of the shares of categories whose logarithms start the decoder.
_MIN_SHARE = 1e-3


class Categorical(Likelihood):
    r"""Categorical likelihood of one-hot columns: the decoder's outputs are logits.

    :math:`p(x | z) = \prod_j \pi_j^{x_j}`, where :math:`\pi` is the softmax of the outputs of a
    block of columns. Means are the probabilities; :meth:`most_likely` turns them into one-hot rows.
    The Fisher information about outputs is the diagonal :math:`\pi_j (1 - \pi_j)`. A block with a
    missing entry is missing.

    Parameters
    ----------
    sizes : tuple of int, default=None
        Numbers of columns of consecutive blocks, each at least 2. None stands for one block.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_wiseale.likelihoods import Categorical
    >>> colour_and_size = Categorical(sizes=(3, 2))
    >>> colour_and_size.most_likely(np.array([[0.2, 0.5, 0.3, 0.9, 0.1]]))
    array([[0., 1., 0., 1., 0.]])
    """

    _parameter_constraints: dict[str, list[Any]] = {"sizes": [tuple, list, None]}

    def __init__(self, sizes: Sequence[int] | None = None) -> None:
        self.sizes = sizes

    def check_parameters(self) -> None:
        """Check that all sizes are ints of at least 2."""
        super().check_parameters()
        if self.sizes is not None and not (len(self.sizes) and are_counts(self.sizes, least=2)):
            raise ValueError(
                "The 'sizes' parameter of Categorical must be a tuple of ints >= 2, or None. "
                f"Got {self.sizes!r} instead."
            )

    def _sizes(self, n_features: int) -> tuple[int, ...]:
        self.check_parameters()
        sizes = (n_features,) if self.sizes is None else tuple(map(int, self.sizes))
        if sum(sizes) != n_features:
            raise ValueError(
                "The 'sizes' parameter of Categorical must sum to the number of columns, "
                f"{n_features}. Got {self.sizes!r} instead, which sums to {sum(sizes)}. "
                f"{NAME_CATEGORIES}"
            )
        if n_features < 2:
            raise ValueError(
                f"The Categorical likelihood needs at least 2 columns. Got {n_features}: use "
                "likelihood='bernoulli' for a column of 0 and 1."
            )
        return sizes

    def check_support(self, X: Any, columns: np.ndarray | None = None) -> None:
        """Raise a ValueError if X is not 0 or 1, or if a row of a block is not one-hot."""
        n_features = X.shape[1] if columns is None else len(columns)
        sizes = np.array(self._sizes(n_features))
        starts = np.cumsum(sizes) - sizes
        for start, chunk in column_chunks(X, columns):
            bad = (chunk != 0) & (chunk != 1) & (chunk == chunk)  # NaN is not equal to itself
            if bad.any():
                value, column, row = first_entry(bad, chunk, start, columns)
                raise ValueError(
                    "X must be 0 or 1 for the Categorical likelihood. "
                    f"Got {value:.6g} in column {column}, row {row}: encode X, for instance with "
                    "sklearn.preprocessing.OneHotEncoder."
                )
            total = np.add.reduceat(chunk.astype(np.float64), starts, axis=1)  # keeps NaN
            bad = (total != 1) & (total == total)
            if bad.any():
                row, block = np.argwhere(bad)[0]
                numbers = np.arange(n_features) if columns is None else columns
                first = starts[block]
                last = first + sizes[block] - 1
                raise ValueError(
                    "X must have exactly one 1 in each row of a block for the Categorical "
                    f"likelihood. Got {total[row, block]:g} in row {start + row}, columns "
                    f"{numbers[first]} to {numbers[last]}: check the "
                    f"parameter sizes={self.sizes!r}, and encode without dropping a category or "
                    "ignoring unknown ones."
                )

    def most_likely(self, X: np.ndarray) -> np.ndarray:
        """Return one-hot rows with a 1 for the largest probability of each block."""
        hard, stop = np.zeros_like(X), 0
        for size in self._sizes(X.shape[1]):
            start, stop = stop, stop + size
            hard[np.arange(len(X)), start + X[:, start:stop].argmax(axis=1)] = 1
        return hard

    def linear_start(self, mean: np.ndarray, loading: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Linearise the logarithm of the shares."""
        mean = np.maximum(mean, _MIN_SHARE)
        return np.log(mean), log_weight(mean, loading)

    def build(
        self, residual_variance: np.ndarray, mean: np.ndarray, variance: np.ndarray
    ) -> CategoricalBlocks:
        return CategoricalBlocks(self._sizes(len(mean)))


class CategoricalBlocks(Observation):
    """Categorical observation of consecutive blocks of these sizes."""

    place: Tensor

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = tuple(sorted(set(sizes)))
        starts = np.cumsum(sizes) - sizes
        # columns of the m blocks of each size, (m, size), and places of all columns in this order
        groups = [starts[np.equal(sizes, size)][:, None] + np.arange(size) for size in self.sizes]
        for size, columns in zip(self.sizes, groups, strict=True):
            self.register_buffer(f"columns_{size}", torch.from_numpy(columns), persistent=False)
        place = np.argsort(np.concatenate([columns.ravel() for columns in groups]))
        self.register_buffer("place", torch.from_numpy(place), persistent=False)

    def by_block(self, values: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply a function of blocks, (n, m, size), to values, (n, n_features)."""
        if len(self.sizes) == 1:
            return function(values.unflatten(1, (-1, self.sizes[0]))).flatten(1)
        columns = (getattr(self, f"columns_{size}") for size in self.sizes)
        return torch.cat([function(values[:, c]).flatten(1) for c in columns], dim=1)[:, self.place]

    def log_prob_entries(self, x: Tensor, output: Tensor) -> Tensor:
        return x * self.by_block(output, lambda blocks: F.log_softmax(blocks, dim=2))

    def mean(self, output: Tensor) -> Tensor:
        return self.by_block(output, lambda blocks: F.softmax(blocks, dim=2))

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        # the argmax of logits plus Gumbel noise has the probabilities of the softmax
        noise = torch.empty_like(output).exponential_(generator=generator).log()
        one_hot = self.by_block(
            output - noise, lambda blocks: F.one_hot(blocks.argmax(dim=2), blocks.shape[2])
        )
        return one_hot.to(output.dtype)

    def information_entries(self, output: Tensor) -> Tensor:
        p = self.mean(output)
        return p * (1.0 - p)

    def masked(self, entries: Tensor, observed: Tensor | None) -> Tensor:
        if observed is not None:
            observed = self.by_block(
                observed, lambda blocks: blocks.all(dim=2, keepdim=True).expand_as(blocks)
            )
        return super().masked(entries, observed)
