"""Rows and columns of the pairs of Gaussians, and the sums that make their gradients."""

from __future__ import annotations

import math
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = [
    "SPARSE_SHARE",
    "Constants",
    "Gradient",
    "Side",
    "can_look",
    "few_may_matter",
    "log_constant",
    "log_zero",
    "negligible",
    "pair_derivatives",
    "pair_differences",
    "pull_pairs",
    "rows_of",
    "spans",
]

#: Below this share of pairs that matter, they are gathered instead of computing with all,
SPARSE_SHARE = 0.1
#: from this number of dimensions on: with fewer, looking costs more than it saves.
SPARSE_COMPONENTS = 5


def can_look(like: Tensor) -> bool:
    """Whether numbers may decide what is done next: elsewhere the host would wait for them."""
    return like.device.type == "cpu"


def few_may_matter(mean: Tensor) -> bool:
    """Whether it pays to look for the pairs that matter."""
    return mean.shape[1] >= SPARSE_COMPONENTS and can_look(mean)


def negligible(like: Tensor) -> float:
    """A pair with a smaller share in a row is lost in the rounding of the others."""
    return 1e-3 * torch.finfo(like.dtype).eps


def log_zero(like: Tensor) -> float:
    """Logarithm of what is far below the rounding of sums with 1."""
    return 2 * math.log(torch.finfo(like.dtype).eps)


def log_constant(mean: Tensor) -> float:
    """What all logarithms of overlaps have in common, with the sign reversed."""
    return 0.5 * mean.shape[1] * math.log(2 * math.pi)


class Side:
    """Rows or columns of the pairs: means and variances, (n, K) each."""

    def __init__(self, table: Tensor) -> None:
        self.table = table  # (n, 2 K), both side by side
        k = table.shape[1] // 2
        self.mean, self.var = table[:, :k], table[:, k:]

    @classmethod
    def of(cls, mean: Tensor, log_var: Tensor) -> Side:
        """From means and log-variances."""
        return cls(torch.cat([mean.detach(), log_var.detach().exp()], dim=1))

    @cached_property
    def mean_t(self) -> Tensor:
        """Means, (K, n): tiles take contiguous vectors."""
        return self.mean.T.contiguous()

    @cached_property
    def var_t(self) -> Tensor:
        """Variances, (K, n)."""
        return self.var.T.contiguous()

    def part(self, span: slice) -> Side:
        """The posteriors of a range."""
        return Side(self.table[span])


class Gradient:
    """Sums over pairs of G times the derivatives of log O, for some range of the posteriors."""

    def __init__(self, by_mean: Tensor, by_var: Tensor, skip: int = 0) -> None:
        self.by_mean, self.by_var = by_mean, by_var  # (K, n) each
        self.skip = skip  # leading posteriors that get nothing

    @classmethod
    def zeros(cls, side: Side) -> Gradient:
        """For all posteriors of a side."""
        return cls(*side.table.new_zeros(2, side.mean.shape[1], len(side.mean)))

    def part(self, span: slice, skip: int = 0) -> Gradient:
        """The gradient of a range, sharing memory."""
        return Gradient(self.by_mean[:, span], self.by_var[:, span], skip)

    def add_pairs(self, index: Tensor, derivatives: Tensor, *, ordered: bool) -> None:
        """Add derivatives by mean and variance, (n_pairs, 2 K), to the posteriors of an index."""
        k, n = self.by_mean.shape
        if ordered:
            starts = torch.searchsorted(index, torch.arange(n, device=index.device))
            pairs = torch.arange(len(index), device=index.device)
            sums = nn.functional.embedding_bag(pairs, derivatives, starts, mode="sum")
        else:
            sums = derivatives.new_zeros(n, 2 * k).index_add_(0, index, derivatives)
        self.by_mean += sums[:, :k].T
        self.by_var += sums[:, k:].T

    def add_pairs_of_columns(self, j: Tensor, derivatives: Tensor) -> None:
        """The same for the columns j of pairs, by the derivatives of their rows.

        Columns that the gradient does not cover get nothing.
        """
        k, n = self.by_mean.shape
        covered = j < n if self.skip == 0 else (j >= self.skip) & (j < n)
        chosen = covered.nonzero()[:, 0]
        derivatives = derivatives.index_select(0, chosen)
        derivatives[:, :k].neg_()
        self.add_pairs(j.index_select(0, chosen), derivatives, ordered=False)

    def by_log_var(self, side: Side) -> Tensor:
        """By the log-variances, (n, K)."""
        return (self.by_var * side.var_t).T


class Constants(NamedTuple):
    """What rows meet in :func:`log_mean_overlap_with_constants`."""

    columns: Side
    log_weights: Tensor
    log_shares: Tensor | None


def pair_differences(i: Tensor, j: Tensor, rows: Side, columns: Side) -> tuple[Tensor, Tensor]:
    """Of pairs (i, j), column less row of the means and sums of the variances: (n_pairs, K)."""
    row, column = rows.table.index_select(0, i), columns.table.index_select(0, j)
    k = rows.mean.shape[1]
    return column[:, :k] - row[:, :k], column[:, k:] + row[:, k:]  # contiguous


def pair_derivatives(weight: Tensor, slope: Tensor, total: Tensor) -> Tensor:
    """G times the derivatives of log O by mean and variance of the row: (n_pairs, 2 K).

    ``slope`` is -d / t; it is overwritten.
    """
    weight = weight[:, None]
    by_mean = weight * slope
    by_var = slope.mul_(by_mean).sub_(weight / total).mul_(0.5)
    return torch.cat([by_mean, by_var], dim=1)


def pull_pairs(
    i: Tensor,
    j: Tensor,
    weight: Tensor,
    rows: Side,
    columns: Side,
    to_rows: Gradient,
    to_columns: Gradient | None = None,
) -> None:
    """As ``Tiles.pull``, for pairs (i, j), ordered by i, with weights G, shape (n_pairs,)."""
    delta, total = pair_differences(i, j, rows, columns)
    derivatives = pair_derivatives(weight, delta.div_(total), total)
    to_rows.add_pairs(i, derivatives, ordered=True)
    if to_columns:
        to_columns.add_pairs_of_columns(j, derivatives)


def rows_of(log_weights: Tensor, rows: slice) -> Tensor:
    """Weights, (A,) or (M, A), of some rows."""
    return log_weights if log_weights.dim() == 1 else log_weights[rows]


def spans(n: int, length: int) -> list[slice]:
    """Ranges of at most a length that make up n."""
    return [slice(start, min(start + length, n)) for start in range(0, n, length)]
