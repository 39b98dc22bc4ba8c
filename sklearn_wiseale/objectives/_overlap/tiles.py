"""Tiles: the pairs of some rows and columns, all of them or the significant ones."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from .gaussians import DiagonalGaussians, is_sync_free, log_constant, spans
from .pairs import find_significant_pairs

__all__ = ["Tile", "exp_", "iterate_tiles"]

#: Float32 numbers in an array of a tile: as many as fit into a CPU's cache, or keep a GPU busy.
_TILE_CPU, _TILE_GPU = 2**18, 2**24
#: Largest number of variances that are multiplied before a logarithm is taken.
_FACTORS = 8


def exp_(exponent: Tensor) -> Tensor:
    """Compute the exponential in place, with 0 for results that are negligible beside 1.

    This avoids subnormal numbers, with which arithmetic is slow.
    """
    lowest = 2 * math.log(torch.finfo(exponent.dtype).eps)
    return torch.threshold_(exponent.clamp_(min=lowest).exp_(), 1.001 * math.exp(lowest), 0.0)


class Tile:
    """Log overlaps of the pairs of n rows and m columns.

    Values of pairs have shape (..., n, m), or (..., n_pairs) if an index gives the pairs. A side
    is 0 for the rows and 1 for the columns.

    Parameters
    ----------
    rows, columns : DiagonalGaussians
        If they are the same object, a tile off the diagonal also stands for its transpose.

    spans : (slice, slice)
        The rows and columns of the tile.

    factors : int
        Number of variances whose product the dtype can hold.

    index : (i, j) or None
        The pairs, as two integer tensors of shape (n_pairs,). None stands for all pairs.

    scratch : Tensor of shape (3, numbers)
        Memory for all pairs, which a later tile may overwrite.
    """

    def __init__(
        self,
        rows: DiagonalGaussians,
        columns: DiagonalGaussians,
        spans: tuple[slice, slice],
        factors: int,
        index: tuple[Tensor, Tensor] | None,
        scratch: Tensor,
    ) -> None:
        self.spans, self.index = spans, index
        self.roles = (0, 1) if rows is columns and spans[1].start >= spans[0].stop else (0,)
        rows, columns = self.sides = rows.part(spans[0]), columns.part(spans[1])
        shape = [len(rows.mean), *((len(rows), len(columns)) if index is None else index[0].shape)]
        if index is not None:
            scratch = scratch.new_empty(3, math.prod(shape))
        self.total, self.slope, self.spare = scratch[:, : math.prod(shape)].view(3, *shape)
        torch.add(self.expand(rows.var, 0), self.expand(columns.var, 1), out=self.total)
        torch.sub(self.expand(columns.mean, 1), self.expand(rows.mean, 0), out=self.spare)
        torch.div(self.spare, self.total, out=self.slope)
        exponent = self.spare.mul_(self.slope).sum(dim=0)
        for part in self.total.split(factors):
            exponent += part.prod(dim=0).log_()
        self.log_overlap = exponent.mul_(-0.5).sub_(log_constant(rows.mean.T))

    def expand(self, values: Tensor, side: int) -> Tensor:
        """Return values of pairs from those of the Gaussians on one side, (..., n)."""
        if self.index is None:
            return values.unsqueeze(-1 - side)
        return values.gather(-1, self.index[side].expand(*values.shape[:-1], -1))

    def weighted(self, log_weights: Tensor, side: int) -> Tensor:
        """Return log overlaps plus log-weights, (M, A), for the sums of one side."""
        matrix = self._view(log_weights, side)
        return self.log_overlap + (matrix if self.index is None else matrix[self.index])

    def add_to(self, log_weights: Tensor, values: Tensor, side: int) -> None:
        """Add values of pairs to the gradient by log-weights, (A,) or (M, A)."""
        if log_weights.dim() == 1:
            log_weights[self.spans[1 - side]] += self.sum(values, 1 - side)
        elif self.index is None:
            self._view(log_weights, side).add_(values)
        else:
            self._view(log_weights, side).index_put_(self.index, values, accumulate=True)

    def _view(self, matrix: Tensor, side: int) -> Tensor:
        part = matrix[self.spans[side], self.spans[1 - side]]
        return part.T if side else part

    def sum(self, values: Tensor, side: int) -> Tensor:
        """Sum values over the pairs of each Gaussian on one side."""
        if self.index is None:
            return values.sum(dim=-1 - side)
        sums = values.new_zeros(*values.shape[:-1], len(self.sides[side]))
        return sums.scatter_add_(-1, self.index[side].expand_as(values), values)

    def log_add_exp(self, start: Tensor, terms: Tensor, side: int) -> Tensor:
        """Return ``log(exp(start) + sum exp(terms))`` for each Gaussian on one side."""
        if self.index is None:
            top = torch.maximum(start, terms.amax(dim=-1 - side))
        else:
            top = start.scatter_reduce(0, self.index[side], terms, "amax")
        top.clamp_(min=torch.finfo(terms.dtype).min)
        ratios = exp_(terms - self.expand(top, side))
        return exp_(start - top).add_(self.sum(ratios, side)).log_().add_(top)

    def accumulate_gradient(self, weight: Tensor) -> None:
        """Add the derivatives of log overlaps, times a weight, to the gradients of both sides.

        With d the difference of means, column less row, and t the sum of variances, they are
        d / t and (d^2 / t^2 - 1 / t) / 2 for the row. The tile is overwritten.
        """
        by_mean = torch.mul(self.slope, weight, out=self.spare)
        by_var = self.slope.mul_(by_mean).sub_(torch.div(weight, self.total, out=self.total))
        k = len(by_mean)
        for side, sign in ((0, 1.0), (1, -1.0)):
            gradient = self.sides[side].gradient
            if gradient is not None:
                gradient[:k].add_(self.sum(by_mean, side), alpha=sign)
                gradient[k:].add_(self.sum(by_var, side), alpha=0.5)


def iterate_tiles(
    rows: DiagonalGaussians,
    columns: DiagonalGaussians,
    weights: Tensor,
    lower: Tensor | None,
    sparse_share: float,
    column_weights: Tensor | None = None,
    whole_rows: bool = False,
) -> Iterator[Tile]:
    """Yield tiles that cover all pairs of M rows and A columns.

    ``weights``, (M, A), are log-weights. A pair is left out if it is negligible beside a lower
    bound of the row's sum, ``lower``, (M,), and if its overlap times the exponential of
    ``column_weights``, (A,), is negligible beside 1. No pair is left out of a tile where more than
    ``sparse_share`` of them would remain. With ``whole_rows`` each tile has all columns.
    """
    k, symmetric = len(rows.mean), rows is columns
    numbers = _TILE_CPU if rows.table.device.type == "cpu" else _TILE_GPU
    numbers = 4 * numbers // rows.table.element_size()
    factors, search = _factors(rows, columns), lower is not None and sparse_share > 0
    if lower is not None:
        lower = lower.clamp(
            min=torch.finfo(lower.dtype).min
        )  # finite, so that differences are not NaN
    size = numbers if search else max(1, numbers // k)
    most = min(k * len(rows) * len(columns), max(numbers, k * len(columns)))
    scratch = rows.table.new_empty(3, most)
    for span, others in _ranges(rows, columns, size, whole_rows):
        met, index = columns.part(others), None
        if search and lower is not None:
            reference = lower[span, None] - weights[span, others]
            if symmetric:
                reference = reference.minimum(lower[others] - weights[others, span].T)
            if column_weights is not None:
                reference = reference.minimum(-column_weights[others])
            index = find_significant_pairs(rows.part(span), met, reference, sparse_share)
            search = index is not None  # do not repeat a search that failed
        length = max(1, numbers // (k * len(met))) if index is None else len(rows)
        for strip in spans(span.start, span.stop, length):
            yield Tile(rows, columns, (strip, others), factors, index, scratch)


def _ranges(
    rows: DiagonalGaussians, columns: DiagonalGaussians, size: int, whole_rows: bool
) -> Iterator[tuple[slice, slice]]:
    """Split all pairs into rectangles of ``size``, or into squares if the columns are the rows."""
    a, side, symmetric = len(columns), math.isqrt(size), rows is columns
    n_rows = side if symmetric else max(1 if whole_rows else side, size // a)
    n_columns = a if whole_rows else side if symmetric else max(1, size // n_rows)
    for span in spans(0, len(rows), n_rows):
        for others in spans(span.start if symmetric else 0, a, n_columns):
            yield span, others


def _factors(rows: DiagonalGaussians, columns: DiagonalGaussians) -> int:
    """Return how many sums of variances have products within the range of their dtype."""
    if not is_sync_free(rows.table):
        return 1
    sums = (f(rows.var) + f(columns.var) for f in (torch.amin, torch.amax))
    extent = max(1.0, *(abs(float(total.log())) for total in sums))
    most = -math.log(torch.finfo(rows.table.dtype).tiny)
    return max(1, min(_FACTORS, int(most / extent)))
