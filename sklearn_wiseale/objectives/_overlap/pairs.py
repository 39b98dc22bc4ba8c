"""The pairs of Gaussians that matter, found by a bound and computed one by one."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .gaussians import (
    SPARSE_SHARE,
    Constants,
    Gradient,
    Side,
    few_may_matter,
    log_constant,
    log_zero,
    negligible,
    pair_derivatives,
    pair_differences,
    spans,
)
from .tiles import TILE

__all__ = ["BOUNDED_PAIRS", "features_of", "sum_among_and_over_pairs", "sum_over_pairs"]

#: Sums of ratios to a row's start stay within float32 up to this logarithm.
_LARGEST_LOG_RATIO = 60.0
#: Pairs whose bounds are computed at a time, to find those that matter.
BOUNDED_PAIRS = 2**20


class _Features(NamedTuple):
    """What columns contribute to a bound on log O that is a matrix product."""

    centre: Tensor  # (K,), taken off all means
    typical_var: Tensor  # (K,)
    matrix: Tensor  # (5 K + 2, A)
    largest: Tensor  # (5 K + 2,), of each feature's sizes


def features_of(constants: Constants) -> _Features | None:
    """Features of the columns, or None where looking for pairs would cost more than it saves."""
    columns, log_weights, _ = constants
    if log_weights.dim() > 1 or not few_may_matter(columns.mean):
        return None
    centre, var, log_var = columns.mean_t.mean(dim=1), columns.var_t, columns.var_t.log()
    mean = columns.mean_t - centre[:, None]
    last = 0.5 * log_var.sum(dim=0) - 2 * log_weights
    square = mean.square()
    parts = [square, mean, var * square, var * mean, var]
    matrix = torch.cat([*parts, torch.ones_like(last)[None], last[None]])
    return _Features(centre, log_var.mean(dim=1).exp(), matrix, matrix.abs().amax(dim=1))


def sum_over_pairs(
    rows: Side,
    constants: Constants,
    features: _Features,
    result: Tensor,
    gradient: Gradient,
    onto_columns: Gradient | None = None,
    first: int = 0,
) -> bool:
    """As ``sum_over_tiles``, for the pairs that matter; False where that would be no faster.

    Where a gradient is given for columns, the rows are themselves columns, of which the first
    row is the one with this number; a row's pair with itself is left out.
    """
    columns, log_weights, log_shares = constants
    pairs = _pairs_that_may_matter(rows, constants, features, result)
    if pairs is None:
        return False
    i, j = pairs
    delta, total = pair_differences(i, j, rows, columns)
    slope = delta / total
    halves = rows.mean.new_full((rows.mean.shape[1],), -0.5)
    log_overlap = torch.mv(delta.mul_(slope).add_(total.log()), halves)
    log_overlap -= log_constant(rows.mean)
    terms = log_overlap + log_weights.index_select(0, j)
    if onto_columns:
        terms.masked_fill_(i + first == j, -math.inf)
    ratios = terms - result.index_select(0, i)
    if len(ratios) and float(ratios.amax()) > _LARGEST_LOG_RATIO:
        return False
    floor = log_zero(rows.mean)
    ratios = ratios.clamp_(min=floor).exp_()
    result += torch.zeros_like(result).index_add_(0, i, ratios).log1p_()
    weight = terms.sub_(result.index_select(0, i)).clamp_(min=floor).exp_()
    if log_shares is not None:
        log_overlap += log_shares.index_select(0, j)
        weight.add_(log_overlap.clamp_(min=floor, max=0.0).exp_())
    derivatives = pair_derivatives(weight, slope, total)
    gradient.add_pairs(i, derivatives, ordered=True)
    if onto_columns:
        onto_columns.add_pairs_of_columns(j, derivatives)
    return True


def _pairs_that_may_matter(
    rows: Side, constants: Constants, features: _Features, result: Tensor
) -> tuple[Tensor, Tensor] | None:
    r"""Pairs (i, j), ordered by i, without those that are lost in rounding; None if they are many.

    They are found by an upper bound on log O that is a matrix product: with any number c,

    .. math::

        \frac1t \ge \frac2c - \frac{t}{c^2}, \qquad
        \log(s_i + s_j) \ge \log 2 + \tfrac12 (\log s_i + \log s_j).
    """
    _, log_weights, log_shares = constants
    mean = rows.mean - features.centre
    typical = rows.var + features.typical_var  # c, of the order of t
    curve = typical.square().reciprocal_()
    slope = 2 / typical - rows.var * curve
    parts = [slope, -2 * slope * mean, -curve, 2 * curve * mean, -curve * mean.square()]
    one = slope * mean.square() + 0.5 * rows.var.log() + math.log(4 * math.pi)
    last = torch.ones_like(mean[:, :1])
    left = torch.cat([*parts, one.sum(dim=1, keepdim=True), last], dim=1)
    largest = left.abs().amax(dim=0) * features.largest
    rounding = torch.finfo(mean.dtype).eps * float(largest.sum())
    if not rounding < 1.0:  # NaN and infinity among others: points have no log-variance
        return None
    least = math.log(negligible(mean)) - rounding
    enough_as_row = None if log_shares is None else log_weights - log_shares + least
    left.mul_(-0.5)
    found = []
    step = max(1, 2 * TILE // len(log_weights))  # what a cache holds
    scratch = left.new_empty(2, step, len(log_weights))
    for span in spans(len(left), step):
        bound, needed = (part[: span.stop - span.start] for part in scratch)
        torch.mm(left[span], features.matrix, out=bound)  # weights included; not autocast
        enough = (result[span] + least)[:, None]
        if enough_as_row is not None:
            enough = torch.minimum(enough, enough_as_row, out=needed)
        row, column = (bound > enough).nonzero(as_tuple=True)
        if len(row) > SPARSE_SHARE * bound.numel():
            return None
        found.append((row.add_(span.start), column))
    i, j = (torch.cat(part) for part in zip(*found, strict=True))
    return i, j


def sum_among_and_over_pairs(
    mean: Tensor,
    log_var: Tensor,
    log_self: float,
    log_others: Tensor,
    constants: Constants,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """What ``mean_row_overlap`` is made of: rows, and the gradients of their sum.

    None where that would be no faster than tiles.
    """
    if not few_may_matter(mean):
        return None
    rows, n = Side.of(mean, log_var), len(mean)
    never = torch.full_like(mean[:, 0], -math.inf)
    all_columns = Constants(
        Side(torch.cat([rows.table, constants.columns.table])),
        torch.cat([log_others.expand(n), constants.log_weights]),
        None if constants.log_shares is None else torch.cat([never, constants.log_shares]),
    )
    features = features_of(all_columns)
    assert features is not None
    start = log_self - 0.5 * (log_var.sum(dim=1) + mean.shape[1] * math.log(4 * math.pi))
    result, gradient = start.clone(), Gradient.zeros(rows)
    for span in spans(n, max(1, BOUNDED_PAIRS // len(all_columns.log_weights))):
        onto = gradient.part(span)
        if not sum_over_pairs(
            rows.part(span), all_columns, features, result[span], onto, gradient, span.start
        ):
            return None
    own = torch.exp(start - result)[:, None]
    return result, gradient.by_mean.T, gradient.by_log_var(rows) - 0.5 * own
