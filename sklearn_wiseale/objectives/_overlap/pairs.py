r"""Search for the pairs of Gaussians whose overlap is larger than rounding errors.

It uses an upper bound on the log overlap that is a matrix product. For any c > 0,

.. math::

    \frac1t \ge \frac2c - \frac{t}{c^2}, \qquad
    \log(s_i + s_j) \ge \log 2 + \tfrac12 (\log s_i + \log s_j).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .gaussians import DiagonalGaussians, is_sync_free

__all__ = ["find_significant_pairs", "use_sparse_pairs"]

#: With fewer dimensions, or fewer pairs, the search costs more than it saves.
_SPARSE_COMPONENTS, _SPARSE_PAIRS = 5, 2**16


def use_sparse_pairs(mean: Tensor, n_columns: int) -> bool:
    """Return whether a search for the significant pairs of rows, (M, K), and columns pays off."""
    m, k = mean.shape
    return k >= _SPARSE_COMPONENTS and m * n_columns >= _SPARSE_PAIRS and is_sync_free(mean)


def find_significant_pairs(
    rows: DiagonalGaussians, columns: DiagonalGaussians, reference: Tensor, max_share: float
) -> tuple[Tensor, Tensor] | None:
    """Find all pairs (i, j) whose log overlap is not negligible beside a reference.

    The reference, (n, m), is overwritten. The result is None if more than ``max_share`` of all
    pairs are found, or if the bound is not accurate, as for points.
    """
    centre, typical_var, matrix, largest = columns.features
    mean, var = rows.mean - centre, rows.var
    c = var + typical_var
    curve = c.square().reciprocal_()
    slope = 2 / c - var * curve
    parts = [slope, -2 * slope * mean, -curve, 2 * curve * mean, -curve * mean.square()]
    by_row = slope * mean.square() + 0.5 * var.log() + math.log(4 * math.pi)
    left = torch.cat([*parts, by_row.sum(dim=0, keepdim=True), torch.ones_like(mean[:1])])
    eps = torch.finfo(mean.dtype).eps
    rounding = eps * float((left.abs().amax(dim=1) * largest).sum())
    if not rounding < 1.0:  # or NaN
        return None
    bound = torch.mm(left.mul_(-0.5).T, matrix, out=torch.empty_like(reference))  # not autocast
    found = bound > reference.add_(math.log(1e-3 * eps) - rounding)
    if int(found.count_nonzero()) > max_share * found.numel():
        return None
    i, j = found.nonzero(as_tuple=True)
    return i, j
