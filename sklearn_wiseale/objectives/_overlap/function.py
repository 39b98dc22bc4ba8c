r"""Pairwise overlaps of diagonal Gaussians.

.. math::

    O_{ij} = \int q_i(z)\, q_j(z)\, dz
           = \prod_k \mathcal{N}(\mu_{ik};\, \mu_{jk},\, t_{ijk}), \qquad t_{ijk} = s_{ik} + s_{jk}

A point ``z`` is a posterior of variance zero (``log_var = -inf``), for which the overlap is the
density :math:`q_j(z)`: one formula serves the bounds and the Monte-Carlo estimate.

Three ways to the same numbers. Few pairs: the formula as it stands. Otherwise tiles of pairs that
fit a cache, one latent dimension after the other, in place; the memory needed does not grow with
the number of pairs. Where the columns need a gradient it is computed backwards from recomputed
tiles, of which the symmetric case visits half; where they do not, together with the value. With
G the derivative of the result by :math:`\log O`, and :math:`d = \mu_i - \mu_j`,

.. math::

    \frac{\partial \log O_{ij}}{\partial \mu_{ik}} = -\frac{d_k}{t_k}, \qquad
    \frac{\partial \log O_{ij}}{\partial s_{ik}}
        = \frac12 \Big(\frac{d_k^2}{t_k^2} - \frac1{t_k}\Big).
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .._gradient import with_gradient
from .gaussians import Constants, Gradient, Side, can_look, log_constant, rows_of, spans
from .pairs import BOUNDED_PAIRS, features_of, sum_among_and_over_pairs, sum_over_pairs
from .tiles import TILE_GPU, Tiles, blocks_of, sum_over_tiles, tile_size

__all__ = ["log_mean_overlap", "log_mean_overlap_with_constants", "mean_row_overlap"]

#: Up to this many pair-dimensions M * A * K the plain formula is as fast as tiles.
_PLAIN_NUMBERS = 2**18


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
        Means and log-variances of the rows i. Half precision is taken to float32.

    other_mean, other_log_var : Tensor of shape (A, K), default=None
        Means and log-variances of the columns j. By default the rows themselves; for a bound
        on an entropy the columns must contain the rows.

    log_weights : Tensor of shape (A,) or (M, A), default=None
        Logs of the weights w, which sum to 1 over the columns. By default ``-log A``.

    Returns
    -------
    Tensor of shape (M,)
        In nats. Differentiable, once, in means, log-variances and weights.

    Raises
    ------
    ValueError
        If the shapes do not fit each other, or only one of ``other_mean`` and
        ``other_log_var`` is given.

    Notes
    -----
    Time grows with M * A * K, the memory needed beside arguments and gradients with none of them.

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
    symmetric = other_mean is None and other_log_var is None
    if symmetric:
        other_mean, other_log_var = mean, log_var
    _check_shapes(mean, log_var, other_mean, other_log_var, log_weights)
    assert other_mean is not None
    assert other_log_var is not None
    dtypes = {tensor.dtype for tensor in (mean, log_var, other_mean, other_log_var)}
    dtype = reduce(torch.promote_types, dtypes, torch.float32)
    mean, log_var = mean.to(dtype), log_var.to(dtype)
    if log_weights is None:
        log_weights = mean.new_full((len(other_mean),), -math.log(len(other_mean)))
    if symmetric:  # cast once, so that gradients are summed in the wider type
        other_mean, other_log_var = mean, log_var
    numbers = (mean, log_var, other_mean.to(dtype), other_log_var.to(dtype), log_weights.to(dtype))
    if len(mean) * other_mean.numel() <= _PLAIN_NUMBERS:
        return _plain(*numbers)
    if symmetric or (torch.is_grad_enabled() and any(t.requires_grad for t in numbers[2:])):
        return _Overlap.apply(*numbers, symmetric)
    return log_mean_overlap_with_constants(*numbers)


def log_mean_overlap_with_constants(
    mean: Tensor,
    log_var: Tensor,
    other_mean: Tensor,
    other_log_var: Tensor,
    log_weights: Tensor,
    start: Tensor | None = None,
    log_shares: Tensor | None = None,
) -> Tensor:
    r""":func:`log_mean_overlap` where the columns j are constants, on top of a given start.

    Besides the gradient of its value it can return that of other rows' values: where a column j
    stands for a posterior whose own row :math:`\log Z_j` is not computed now, ``log_shares`` adds
    the gradient of :math:`\sum_j v_j O_{ij}` by row i, with :math:`v_j = u_j / Z_j` for the weight
    u_j that i has in that row. A share :math:`v_j O_{ij}` is at most 1, and is cut off there.

    Parameters
    ----------
    mean, log_var, other_mean, other_log_var : as in log_mean_overlap

    log_weights : Tensor of shape (A,) or (M, A)
        -inf leaves a column out.

    start : Tensor of shape (M,), default=None
        The result is ``log(exp(start) + sum_j w_j O_ij)``; differentiable.

    log_shares : Tensor of shape (A,), default=None
        :math:`\log v_j`.

    Returns
    -------
    Tensor of shape (M,)
    """
    columns = Side.of(other_mean, other_log_var)
    constants = Constants(columns, log_weights.detach(), log_shares)
    return _RowOverlap.apply(mean, log_var, start, constants)


def mean_row_overlap(
    mean: Tensor,
    log_var: Tensor,
    log_self: float,
    log_others: Tensor,
    other_mean: Tensor,
    other_log_var: Tensor,
    log_weights: Tensor,
    log_shares: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Mean of :func:`log_mean_overlap` over rows that meet themselves and constant columns.

    It is the mean of
    ``log_mean_overlap_with_constants(..., start=log_mean_overlap(mean, log_var, within))``, and
    faster where few pairs matter: they are then found among rows and constants alike.

    Parameters
    ----------
    mean, log_var : Tensor of shape (M, K)

    log_self : float
        Log-weight of a row in its own sum.

    log_others : Tensor, scalar
        Log-weight of each other row there.

    other_mean, other_log_var, log_weights, log_shares : as in log_mean_overlap_with_constants
        A may be 0.

    Returns
    -------
    value : Tensor, scalar
        Differentiable in ``mean`` and ``log_var``.
    rows : Tensor of shape (M,)
        What it is the mean of, without gradient.
    """
    constants = Constants(Side.of(other_mean, other_log_var), log_weights, log_shares)
    by_pairs = sum_among_and_over_pairs(
        mean.detach(), log_var.detach(), log_self, log_others, constants
    )
    if by_pairs is not None:
        rows, *gradients = by_pairs
        gradients = [gradient / len(mean) for gradient in gradients]
        return with_gradient(rows.mean(), (mean, log_var), gradients), rows
    within = log_others.repeat(len(mean), len(mean))
    within.diagonal().fill_(log_self)
    values = log_mean_overlap(mean, log_var, log_weights=within)
    if len(log_weights):
        values = _RowOverlap.apply(mean, log_var, values, constants)
    return values.mean(), values.detach()


def _plain(
    mean: Tensor, log_var: Tensor, other_mean: Tensor, other_log_var: Tensor, log_weights: Tensor
) -> Tensor:
    """The formula as it stands, differentiated by autograd."""
    total_var = log_var.exp()[:, None] + other_log_var.exp()  # (M, A, K)
    squared = (mean[:, None] - other_mean).square()
    log_overlap = -0.5 * (total_var.log() + squared / total_var).sum(dim=2)  # (M, A)
    return torch.logsumexp(log_overlap + log_weights, dim=1) - log_constant(mean)


class _RowOverlap(torch.autograd.Function):
    """Rows against constant columns: the value and its gradient in one pass."""

    @staticmethod
    def forward(
        ctx: Any,
        mean: Tensor,
        log_var: Tensor,
        start: Tensor | None,
        constants: Constants,
    ) -> Tensor:
        """Values of all rows; see log_mean_overlap_with_constants."""
        rows = Side.of(mean, log_var)
        gradient = Gradient.zeros(rows) if any(ctx.needs_input_grad[:2]) else None
        result = mean.new_full((len(mean),), -math.inf) if start is None else start.detach().clone()
        pairs = BOUNDED_PAIRS if can_look(mean) else TILE_GPU
        length = max(1, pairs // len(constants.columns.mean))
        look = gradient is not None and start is not None
        features = features_of(constants) if look else None
        for span in spans(len(mean), length):
            block, onto = rows.part(span), gradient.part(span) if gradient else None
            weights = constants._replace(log_weights=rows_of(constants.log_weights, span))
            few = features and onto and sum_over_pairs(block, weights, features, result[span], onto)
            if not few:
                sum_over_tiles(block, weights, result[span], onto)
        saved = (
            (None, None) if gradient is None else (gradient.by_mean.T, gradient.by_log_var(rows))
        )
        ctx.save_for_backward(*saved, start, result)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients by means and log-variances of the rows, and by the start."""
        by_mean, by_log_var, start, result = ctx.saved_tensors
        by_start = None if start is None else grad * (start - result).exp()
        if by_mean is None:
            return None, None, by_start, None
        column = grad[:, None]
        return column * by_mean, column * by_log_var, by_start, None


class _Overlap(torch.autograd.Function):
    """Rows against columns, both with gradients; tiles are computed again on the way back.

    In the symmetric case a block of rows meets the columns from its own first on, and those
    beyond the block get from the same tile what they are as rows.
    """

    @staticmethod
    def forward(
        ctx: Any,
        mean: Tensor,
        log_var: Tensor,
        other_mean: Tensor,
        other_log_var: Tensor,
        log_weights: Tensor,
        symmetric: bool,
    ) -> Tensor:
        """Values of all rows; see log_mean_overlap."""
        rows, columns = Side.of(mean, log_var), Side.of(other_mean, other_log_var)
        result = torch.full_like(rows.mean[:, 0], -math.inf)
        blocks, size = blocks_of(len(mean), len(other_mean), symmetric, tile_size(mean))
        tiles = Tiles(rows, columns, size)
        for span, met, own in blocks:
            terms = tiles.log_overlap(rows.part(span), columns.part(met))
            if symmetric:
                beyond = slice(met.start + own, met.stop)
                back = tiles.matrix(1, len(terms), terms.shape[1] - own)
                torch.add(terms[:, own:], _as_rows(log_weights, span, beyond), out=back)
                if back.numel():
                    sums, _ = tiles.log_sum_exp_(back, dim=0)
                    result[beyond] = torch.logaddexp(result[beyond], sums)
            terms.add_(_weights_of(log_weights, span, met))
            sums, _ = tiles.log_sum_exp_(terms, dim=1)
            result[span] = torch.logaddexp(result[span], sums)
        ctx.symmetric = symmetric
        ctx.save_for_backward(mean, log_var, other_mean, other_log_var, log_weights, result)
        return result - log_constant(mean)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients by all tensors; by the columns only where they are not the rows."""
        mean, log_var, other_mean, other_log_var, log_weights, result = ctx.saved_tensors
        rows, columns = Side.of(mean, log_var), Side.of(other_mean, other_log_var)
        of_rows = Gradient.zeros(rows)
        of_columns = of_rows if ctx.symmetric else Gradient.zeros(columns)
        of_weights = torch.zeros_like(log_weights) if ctx.needs_input_grad[4] else None
        blocks, size = blocks_of(len(mean), len(other_mean), ctx.symmetric, tile_size(mean))
        tiles = Tiles(rows, columns, size)
        for span, met, own in blocks:
            beyond = slice(met.start + own, met.stop)
            block, others = rows.part(span), columns.part(met)
            log_overlap = tiles.log_overlap(block, others)
            weight = torch.add(
                log_overlap,
                _weights_of(log_weights, span, met),
                out=tiles.matrix(1, *log_overlap.shape),
            )
            tiles.exp_(weight.sub_(result[span, None])).mul_(grad[span, None])
            if of_weights is not None:
                _weights_of(of_weights, span, met).add_(_summed_as(of_weights, weight, 0))
            total = log_overlap
            if ctx.symmetric:
                back = total[:, own:].add_(_as_rows(log_weights, span, beyond))
                tiles.exp_(back.sub_(result[beyond])).mul_(grad[beyond])
                if of_weights is not None:
                    _as_rows(of_weights, span, beyond).add_(_summed_as(of_weights, back, 1))
                if own:  # the tile's rows among themselves
                    total[:, :own] = weight[:, :own].T
                total.add_(weight)
            else:
                total.copy_(weight)
            tiles.pull(total, block, others, of_rows.part(span), of_columns.part(met, skip=own))
        by_rows = of_rows.by_mean.T, of_rows.by_log_var(rows)
        if ctx.symmetric:
            return *by_rows, None, None, of_weights, None
        by_columns = of_columns.by_mean.T, of_columns.by_log_var(columns)
        return *by_rows, *by_columns, of_weights, None


def _weights_of(log_weights: Tensor, rows: slice, columns: slice) -> Tensor:
    """A view of the weights of columns in rows: (m,) or (n, m)."""
    return log_weights[columns] if log_weights.dim() == 1 else log_weights[rows, columns]


def _as_rows(log_weights: Tensor, rows: slice, columns: slice) -> Tensor:
    """The same with the roles exchanged, rows as columns of columns: (n, 1) or (n, m)."""
    return log_weights[rows, None] if log_weights.dim() == 1 else log_weights[columns, rows].T


def _summed_as(log_weights: Tensor, gradient: Tensor, dim: int) -> Tensor:
    """A tile's gradient by the weights: summed over a dimension where they have one only."""
    return gradient.sum(dim=dim, keepdim=dim == 1) if log_weights.dim() == 1 else gradient


def _check_shapes(
    mean: Tensor,
    log_var: Tensor,
    other_mean: Tensor | None,
    other_log_var: Tensor | None,
    log_weights: Tensor | None,
) -> None:
    others = {
        "other_mean": other_mean,
        "other_log_var": other_log_var,
        "log_weights": log_weights,
    }
    given = {name: value for name, value in others.items() if value is not None}
    for name, value in {"mean": mean, "log_var": log_var, **given}.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a torch tensor. Got {value!r}.")
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
