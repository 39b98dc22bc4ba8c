r"""Overlaps of some rows of a batch with all of it: the aggregate's entropy at a low price.

The mean over all n rows in "jensen" is replaced by the mean over m rows drawn at random,

.. math::

    \frac1m \sum_{i \in D} \log \frac1n \sum_{j=1}^{n} O_{ij}, \qquad D \subset \{1, \dots, n\},

whose expectation over the draws is the mean over all rows, and likewise its gradient, in which
each posterior of the batch takes part as a column j and those drawn also as rows i.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ._overlap.gaussians import log_constant

__all__ = ["drawn_overlap_and_gradient"]


@torch.no_grad()
def drawn_overlap_and_gradient(
    mean: Tensor, log_var: Tensor, rows: Tensor | slice
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Mean over some rows of the log of the mean overlap with all rows.

    Parameters
    ----------
    mean, log_var : Tensor of shape (n, K)

    rows : Tensor of int or slice
        The m rows that are drawn.

    Returns
    -------
    value : Tensor, scalar
        In nats.
    by_mean, by_log_var : Tensor of shape (n, K)
        Its derivatives.
    """
    n, mean_t, var_t = len(mean), mean.T.contiguous(), log_var.exp().T.contiguous()
    total = var_t[:, rows, None] + var_t[:, None]  # (K, m, n)
    slope = (mean_t[:, rows, None] - mean_t[:, None]).div_(total)
    squares = slope.square()
    log_overlap = torch.addcmul(total.log(), squares, total).sum(dim=0).mul_(-0.5)  # (m, n)
    # shares that float32 cannot hold as normal numbers are 30 times as slow, and do not count
    peak = log_overlap.amax(dim=1, keepdim=True)
    lowest = math.log(torch.finfo(mean.dtype).tiny) / 2
    share = log_overlap.sub_(peak).clamp_(min=lowest).exp_()
    sums = share.sum(dim=1, keepdim=True)
    log_sums = peak.add_(sums.log())
    m = len(log_sums)
    share.div_(sums.mul_(m))
    # derivatives of log O by the mean of row i, and by both variances
    by_row_mean = slope.mul_(share)
    by_var = squares.sub_(total.reciprocal_()).mul_(share).mul_(0.5)
    by_mean_t, by_var_t = by_row_mean.sum(dim=1), by_var.sum(dim=1)
    by_mean_t[:, rows] -= by_row_mean.sum(dim=2)
    by_var_t[:, rows] += by_var.sum(dim=2)
    value = log_sums.mean() - math.log(n) - log_constant(mean)
    return value, by_mean_t.T, by_var_t.mul_(var_t).T
