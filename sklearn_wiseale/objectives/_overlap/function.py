r"""Pairwise overlaps of diagonal Gaussians.

.. math::

    O_{ij} = \int q_i(z)\, q_j(z)\, dz
           = \prod_k \mathcal{N}(\mu_{ik};\, \mu_{jk},\, t_{ijk}), \qquad t_{ijk} = s_{ik} + s_{jk}

A point ``z`` is a posterior of variance zero (``log_var = -inf``), for which the overlap is the
density :math:`q_j(z)`: one formula serves the bounds and the Monte-Carlo estimate.

Small batches are computed densely. Otherwise pairs are computed in tiles that fit into the cache,
so that memory does not grow with their number. If most pairs of a tile are smaller than rounding
errors, only the others are computed.
"""

from __future__ import annotations

import math
from functools import reduce

import torch
from torch import Tensor

from .autograd import TiledOverlap
from .gaussians import log_constant
from .pairs import use_sparse_pairs

__all__ = ["compute_log_mean_overlap", "log_mean_overlap"]

#: Largest number M * A * K for which the dense formula is as fast as tiles.
_DENSE_NUMBERS = 2**16
#: Largest share of a tile's pairs that are computed one by one.
_SPARSE_SHARE = 0.1


def log_mean_overlap(
    mean: Tensor,
    log_var: Tensor,
    other_mean: Tensor | None = None,
    other_log_var: Tensor | None = None,
    log_weights: Tensor | None = None,
) -> Tensor:
    r"""Log of the weighted mean overlap of each Gaussian with a set of Gaussians.

    .. math::

        \log \sum_j w_j \int q_i(z)\, q_j(z)\, dz, \quad q_i = \mathcal{N}(\mu_i, s_i)

    Time grows with M * A * K. The memory needed does not grow with the number of pairs.

    Parameters
    ----------
    mean, log_var : Tensor of shape (M, K)
        Means and log-variances of the rows i. Half precision is converted to float32.

    other_mean, other_log_var : Tensor of shape (A, K), default=None
        Means and log-variances of the columns j, by default the rows. For a bound on an entropy,
        the columns must include the rows.

    log_weights : Tensor of shape (A,) or (M, A), default=None
        Logs of the weights w, which sum to 1 over the columns. By default ``-log A``.

    Returns
    -------
    Tensor of shape (M,)
        In nats. Differentiable, once, in means, log-variances and weights.

    Raises
    ------
    ValueError
        If shapes do not match, or only one of ``other_mean`` and ``other_log_var`` is given.

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
    return compute_log_mean_overlap(mean, log_var, other_mean, other_log_var, log_weights)


def compute_log_mean_overlap(
    mean: Tensor,
    log_var: Tensor,
    other_mean: Tensor | None = None,
    other_log_var: Tensor | None = None,
    log_weights: Tensor | None = None,
    start: Tensor | None = None,
    log_column_weights: Tensor | None = None,
    path: str = "auto",
) -> Tensor:
    r"""Compute :func:`log_mean_overlap` with more options.

    Parameters
    ----------
    mean, log_var, other_mean, other_log_var, log_weights : as in log_mean_overlap

    start : Tensor of shape (M,), default=None
        The result is ``log(exp(start) + sum_j w_j O_ij)``; differentiable.

    log_column_weights : Tensor of shape (A,), default=None
        For constant columns. Adds the gradient of :math:`\sum_j v_j O_{ij}` by row i, where v_j
        is the exponential. With :math:`v_j = u_j / Z_j` this is the gradient of
        :math:`\log Z_j`, a sum over rows i with weights u_j. Terms are cut off at 1.

    path : {"auto", "dense", "tiled", "sparse"}, default="auto"
        How the pairs are computed. "dense" does not support ``start``.
    """
    symmetric = other_mean is None and other_log_var is None
    if symmetric:
        other_mean, other_log_var = mean, log_var
    others = {"other_mean": other_mean, "other_log_var": other_log_var, "log_weights": log_weights}
    _check_shapes(mean, log_var, **others)
    assert other_mean is not None
    assert other_log_var is not None
    a, given = len(other_mean), (mean, log_var, other_mean, other_log_var)
    dtype = reduce(torch.promote_types, {tensor.dtype for tensor in given}, torch.float32)
    rows = mean.to(dtype), log_var.to(dtype)  # gradients are summed in this dtype
    columns = rows if symmetric else (other_mean.to(dtype), other_log_var.to(dtype))
    if log_weights is None:
        log_weights = columns[0].new_full((a,), -math.log(a))
    log_weights = log_weights.to(dtype)
    few = start is None and a * mean.numel() <= _DENSE_NUMBERS
    if path == "dense" or (path == "auto" and few):
        return _dense(*rows, *columns, log_weights)
    shares = {"tiled": 0.0, "sparse": 1.0, "auto": _SPARSE_SHARE * use_sparse_pairs(mean, a)}
    options = log_weights, start, log_column_weights, shares[path]
    return TiledOverlap.apply(*rows, *((None, None) if symmetric else columns), *options)


def _dense(
    mean: Tensor, log_var: Tensor, other_mean: Tensor, other_log_var: Tensor, log_weights: Tensor
) -> Tensor:
    """Compute the formula directly; autograd differentiates it."""
    total_var = log_var.exp()[:, None] + other_log_var.exp()  # (M, A, K)
    squared = (mean[:, None] - other_mean).square()
    log_overlap = -0.5 * (total_var.log() + squared / total_var).sum(dim=2)  # (M, A)
    return torch.logsumexp(log_overlap + log_weights, dim=1) - log_constant(mean)


def _check_shapes(mean: Tensor, log_var: Tensor, **others: Tensor | None) -> None:
    given = {name: value for name, value in others.items() if value is not None}
    for name, value in {"mean": mean, "log_var": log_var, **given}.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a torch tensor. Got {value!r}.")
    shape = tuple(mean.shape)
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"mean must have shape (M, K), M and K >= 1. Got {shape}.")
    if log_var.shape != shape:
        raise ValueError(f"log_var must have the shape of mean, {shape}. Got {(*log_var.shape,)}.")
    for name in ("other_mean", "other_log_var"):
        if name not in given:
            raise ValueError(
                f"other_mean and other_log_var must be given together. Got {name}=None."
            )
    (m, k), other = shape, tuple(given["other_mean"].shape)
    if len(other) != 2 or other[0] == 0 or other[1] != k:
        raise ValueError(f"other_mean must have shape (A, {k}), A >= 1. Got {other}.")
    pairs = m, other[0]
    expected = {
        "other_log_var": ((other,), f"the shape of other_mean, {other}"),
        "log_weights": ((other[:1], pairs), f"shape {other[:1]} or {pairs}"),
    }
    for name, (shapes, words) in expected.items():
        if name in given and tuple(given[name].shape) not in shapes:
            raise ValueError(f"{name} must have {words}. Got {tuple(given[name].shape)}.")
