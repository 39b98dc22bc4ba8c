r"""Log mean overlaps of some rows of a batch with the whole batch.

"jensen" has a mean over all n rows i. Here it is a mean over m rows drawn at random,

.. math::

    \frac1m \sum_{i \in D} \log \frac1n \sum_{j=1}^{n} O_{ij}, \qquad D \subset \{1, \dots, n\},

which costs less and has the same expectation; so does its gradient. In the gradient, all
posteriors appear as columns j, and those drawn also as rows i.
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
    """Mean over some rows of the log mean overlap with all rows.

    Parameters
    ----------
    mean, log_var : Tensor of shape (n, K)

    rows : Tensor of int or slice
        The m rows.

    Returns
    -------
    value : Tensor, scalar
        Nats.

    by_mean, by_log_var : Tensor of shape (n, K)
        Its derivatives.
    """
    n, mean_t, var_t = len(mean), mean.T.contiguous(), log_var.exp().T.contiguous()
    total = var_t[:, rows, None] + var_t[:, None]  # (K, m, n)
    slope = (mean_t[:, rows, None] - mean_t[:, None]).div_(total)
    squares = slope.square()
    log_overlap = torch.addcmul(total.log(), squares, total).sum(dim=0).mul_(-0.5)  # (m, n)
    # smaller shares are negligible, and arithmetic with subnormal numbers is 30 times slower
    peak = log_overlap.amax(dim=1, keepdim=True)
    lowest = math.log(torch.finfo(mean.dtype).tiny) / 2
    share = log_overlap.sub_(peak).clamp_(min=lowest).exp_()
    sums = share.sum(dim=1, keepdim=True)
    log_sums = peak.add_(sums.log())
    m = len(log_sums)
    share.div_(sums.mul_(m))
    # derivatives of log O_ij by the mean of row i, and by either variance
    by_row_mean = slope.mul_(share)
    by_var = squares.sub_(total.reciprocal_()).mul_(share).mul_(0.5)
    by_mean_t, by_var_t = by_row_mean.sum(dim=1), by_var.sum(dim=1)
    by_mean_t[:, rows] -= by_row_mean.sum(dim=2)
    by_var_t[:, rows] += by_var.sum(dim=2)
    value = log_sums.mean() - math.log(n) - log_constant(mean)
    return value, by_mean_t.T, by_var_t.mul_(var_t).T
