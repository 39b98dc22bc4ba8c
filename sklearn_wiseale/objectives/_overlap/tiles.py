"""All pairs of Gaussians, in tiles that fit a cache."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .gaussians import (
    SPARSE_SHARE,
    Constants,
    Gradient,
    Side,
    can_look,
    few_may_matter,
    log_constant,
    log_zero,
    negligible,
    pull_pairs,
    rows_of,
    spans,
)

__all__ = ["TILE", "TILE_GPU", "Tiles", "blocks_of", "row_blocks", "sum_over_tiles", "tile_size"]

#: Pairs a tile, in float32: what two cores hold in their caches, and what keeps a GPU busy.
TILE = 2**17
TILE_GPU = 2**24
#: Rows of a tile at least, where each tile adds to all its columns.
_BLOCK_ROWS = 64


class Tiles:
    """Scratch memory for tiles of at most ``size`` pairs, and what is computed in it."""

    def __init__(self, rows: Side, columns: Side, size: int) -> None:
        self.scratch = rows.mean.new_empty(4, size)
        self.factors = _factors_a_logarithm(rows.var, columns.var)
        self.negligible = negligible(rows.mean)
        self.log_zero = log_zero(rows.mean)

    def matrix(self, number: int, n: int, m: int) -> Tensor:
        """One of the four scratch matrices."""
        return self.scratch[number, : n * m].view(n, m)

    def exp_(self, exponent: Tensor) -> Tensor:
        """Exponential in place; 0 where it would be far below the rounding of sums with 1.

        Processors take their time over the denormal numbers that would else come out.
        """
        zero = math.exp(self.log_zero)
        return torch.threshold_(exponent.clamp_(min=self.log_zero).exp_(), 1.001 * zero, 0.0)

    def log_sum_exp_(self, terms: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """Logarithms of sums of exponentials, and those of the largest terms.

        The terms are overwritten by the ratios of their exponentials to the largest.
        """
        top = terms.amax(dim=dim).clamp_(min=torch.finfo(terms.dtype).min)
        total = self.exp_(terms.sub_(top.unsqueeze(dim))).sum(dim=dim)
        return total.log_().add_(top), top

    def log_overlap(self, rows: Side, columns: Side) -> Tensor:
        """Log O without its constant: (n, m), the first scratch matrix."""
        n, n_components = rows.mean.shape
        result, total, delta, product = (self.matrix(i, n, len(columns.mean)) for i in range(4))
        result.zero_()
        for k in range(n_components):
            torch.add(rows.var_t[k, :, None], columns.var_t[k], out=total)
            torch.sub(rows.mean_t[k, :, None], columns.mean_t[k], out=delta)
            result.addcdiv_(delta.square_(), total)
            place = k % self.factors
            (product.mul_ if place else product.copy_)(total)
            if place == self.factors - 1 or k == n_components - 1:
                result.add_(product.log_())
        return result.mul_(-0.5)

    def pull(
        self,
        weight: Tensor,
        rows: Side,
        columns: Side,
        to_rows: Gradient,
        to_columns: Gradient | None = None,
    ) -> None:
        """Add ``weight`` (G, the first scratch matrix) times the derivatives of log O."""
        if few_may_matter(rows.mean):
            size = torch.abs(weight, out=self.matrix(1, *weight.shape))
            pairs = ~(size <= self.negligible * float(size.amax()))
            if int(pairs.count_nonzero()) <= SPARSE_SHARE * weight.numel():
                i, j = pairs.nonzero().unbind(dim=1)
                pull_pairs(i, j, weight[i, j], rows, columns, to_rows, to_columns)
                return
        _, total, delta, product = (self.matrix(i, *weight.shape) for i in range(4))
        for k in range(rows.mean.shape[1]):
            torch.add(rows.var_t[k, :, None], columns.var_t[k], out=total)
            torch.sub(columns.mean_t[k], rows.mean_t[k, :, None], out=delta)
            delta.div_(total)  # -d / t
            torch.mul(weight, delta, out=product)
            to_rows.by_mean[k] += product.sum(dim=1)
            if to_columns:
                to_columns.by_mean[k, to_columns.skip :] -= product[:, to_columns.skip :].sum(dim=0)
            product.mul_(delta).sub_(torch.div(weight, total, out=delta)).mul_(0.5)
            to_rows.by_var[k] += product.sum(dim=1)
            if to_columns:
                to_columns.by_var[k, to_columns.skip :] += product[:, to_columns.skip :].sum(dim=0)


def _factors_a_logarithm(var: Tensor, other_var: Tensor) -> int:
    """How many sums of two variances can be multiplied within the range of their dtype."""
    if not can_look(var):
        return 1
    info = torch.finfo(var.dtype)
    least = float(var.min()) + float(other_var.min())
    most = float(var.max()) + float(other_var.max())
    for factors in (8, 4, 2):
        if info.tiny ** (1 / factors) < least and most < info.max ** (1 / factors):
            return factors
    return 1


def tile_size(like: Tensor) -> int:
    """Pairs in a tile of that dtype, on that device."""
    size = TILE if can_look(like) else TILE_GPU
    return size * 4 // like.element_size()


def row_blocks(m: int, a: int, size: int) -> tuple[list[slice], int]:
    """Ranges of rows that make a tile with all columns, and the size of the tiles."""
    length = min(m, max(1, size // a))
    return spans(m, length), length * a


def blocks_of(
    m: int, a: int, symmetric: bool, size: int
) -> tuple[list[tuple[slice, slice, int]], int]:
    """Rows and columns of the tiles, and their largest size.

    In the symmetric case tiles begin at the diagonal, and of each the number of leading columns
    is given that are rows of the tile too.
    """
    n_rows = min(m, max(1, size // a, min(_BLOCK_ROWS, math.isqrt(size))))
    n_columns = max(n_rows, size // n_rows)
    blocks = []
    for rows in spans(m, n_rows):
        first = rows.start if symmetric else 0
        for start in range(first, a, n_columns):
            columns = slice(start, min(start + n_columns, a))
            own = rows.stop - rows.start if symmetric and start == first else 0
            blocks.append((rows, columns, own))
    return blocks, n_rows * min(a, n_columns)


def sum_over_tiles(
    rows: Side, constants: Constants, result: Tensor, gradient: Gradient | None
) -> None:
    """Add the overlaps of all pairs to ``result``, a logarithm, and their gradient."""
    columns, log_weights, log_shares = constants
    spans, size = row_blocks(len(rows.mean), len(columns.mean), tile_size(rows.mean))
    tiles = Tiles(rows, columns, size)
    for span in spans:
        block = rows.part(span)
        terms = tiles.log_overlap(block, columns).sub_(log_constant(rows.mean))
        shares = None
        if log_shares is not None and gradient:
            shares = torch.add(terms, log_shares, out=tiles.matrix(1, *terms.shape))
            tiles.exp_(shares.clamp_(max=0.0))
        terms.add_(rows_of(log_weights, span))
        sums, top = tiles.log_sum_exp_(terms, dim=1)
        result[span] = torch.logaddexp(result[span], sums)
        if gradient:
            weight = terms.mul_(top.sub_(result[span]).exp_()[:, None])
            if shares is not None:
                weight.add_(shares)
            tiles.pull(weight, block, columns, gradient.part(span))
