r"""Pairwise overlaps of diagonal Gaussians.

.. math::

    O_{ij} = \int q_i(z)\, q_j(z)\, dz
           = \prod_k \mathcal{N}(\mu_{ik};\, \mu_{jk},\, s_{ik} + s_{jk})

A point ``z`` is a posterior of variance zero (``log_var = -inf``), for which the overlap is the
density :math:`q_j(z)`: one formula serves the bounds and the Monte-Carlo estimate.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["log_mean_overlap"]

_BLOCK_ELEMENTS = 2**22  # rows are taken in blocks of at most this many pair-dimensions


def log_mean_overlap(
    mean: Tensor,
    log_var: Tensor,
    other_mean: Tensor | None = None,
    other_log_var: Tensor | None = None,
    log_weights: Tensor | None = None,
) -> Tensor:
    r"""Log of the weighted mean overlap of each Gaussian with a set of Gaussians.

    .. math::

        \log \sum_{j=1}^{A} w_j \int q_i(z)\, q_j(z)\, dz,
        \qquad q_i = \mathcal{N}(\mu_i, \operatorname{diag}(s_i))

    Parameters
    ----------
    mean, log_var : Tensor of shape (M, K)
        Means and log-variances of the rows i.

    other_mean, other_log_var : Tensor of shape (A, K), default=None
        Means and log-variances of the columns j. By default the rows themselves; for a bound
        on an entropy the columns must contain the rows.

    log_weights : Tensor of shape (A,) or (M, A), default=None
        Logs of the weights w, which sum to 1 over the columns. By default ``-log A``.

    Returns
    -------
    Tensor of shape (M,)
        In nats. Differentiable in means, log-variances and weights.

    Raises
    ------
    ValueError
        If the shapes do not fit each other, or only one of ``other_mean`` and
        ``other_log_var`` is given.

    References
    ----------
    Lin, Clark, Birke, Trigoni, Roberts (2019), WiSE-ALE, arXiv:1902.06160.

    Examples
    --------
    >>> import torch
    >>> from sklearn_wiseale.objectives import log_mean_overlap
    >>> log_mean_overlap(torch.zeros(2, 1), torch.zeros(2, 1))  # log N(0; 0, 2)
    tensor([-1.2655, -1.2655])
    """
    if other_mean is None and other_log_var is None:
        other_mean, other_log_var = mean, log_var
    _check_shapes(mean, log_var, other_mean, other_log_var, log_weights)
    assert other_mean is not None
    assert other_log_var is not None
    if log_weights is None:
        log_weights = mean.new_full((len(other_mean),), -math.log(len(other_mean)))

    var, other_var = log_var.exp(), other_log_var.exp()
    block = max(1, _BLOCK_ELEMENTS // other_mean.numel())
    rows = []
    for start in range(0, len(mean), block):
        part = slice(start, start + block)
        total_var = var[part, None, :] + other_var  # (block, A, K)
        squared = (mean[part, None, :] - other_mean).square()
        log_overlap = -0.5 * (total_var.log() + squared / total_var).sum(dim=2)  # (block, A)
        weights = log_weights if log_weights.dim() == 1 else log_weights[part]
        rows.append(torch.logsumexp(log_overlap + weights, dim=1))
    return torch.cat(rows) - 0.5 * mean.shape[1] * math.log(2 * math.pi)


def _check_shapes(
    mean: Tensor,
    log_var: Tensor,
    other_mean: Tensor | None,
    other_log_var: Tensor | None,
    log_weights: Tensor | None,
) -> None:
    if mean.dim() != 2 or 0 in mean.shape:
        raise ValueError(f"mean must have shape (M, K), M and K >= 1. Got {tuple(mean.shape)}.")
    if log_var.shape != mean.shape:
        raise ValueError(
            f"log_var must have the shape of mean, {tuple(mean.shape)}. Got {tuple(log_var.shape)}."
        )
    if other_mean is None or other_log_var is None:
        missing = "other_mean" if other_mean is None else "other_log_var"
        raise ValueError(f"other_mean and other_log_var go together. Got {missing}=None.")
    if other_mean.dim() != 2 or len(other_mean) == 0 or other_mean.shape[1] != mean.shape[1]:
        raise ValueError(
            f"other_mean must have shape (A, {mean.shape[1]}), A >= 1. "
            f"Got {tuple(other_mean.shape)}."
        )
    if other_log_var.shape != other_mean.shape:
        raise ValueError(
            f"other_log_var must have the shape of other_mean, {tuple(other_mean.shape)}. "
            f"Got {tuple(other_log_var.shape)}."
        )
    allowed = [(len(other_mean),), (len(mean), len(other_mean))]
    if log_weights is not None and tuple(log_weights.shape) not in allowed:
        raise ValueError(
            f"log_weights must have shape {allowed[0]} or {allowed[1]}. "
            f"Got {tuple(log_weights.shape)}."
        )
