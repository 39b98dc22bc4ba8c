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
from functools import cached_property, reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["log_mean_overlap", "log_mean_overlap_with_constants"]

#: Up to this many pair-dimensions M * A * K the plain formula is as fast as tiles.
_PLAIN_NUMBERS = 2**18
#: Pairs a tile, in float32: what two cores hold in their caches, and what keeps a GPU busy.
_TILE = 2**17
_TILE_GPU = 2**24
#: Rows of a tile at least, where each tile adds to all its columns.
_BLOCK_ROWS = 64
#: Below this share of pairs that matter, they are gathered instead of computing with all,
_SPARSE_SHARE = 0.1
#: from this number of dimensions on: with fewer, looking costs more than it saves.
_SPARSE_COMPONENTS = 5
#: Sums of ratios to a row's start stay within float32 up to this logarithm.
_LARGEST_LOG_RATIO = 60.0
#: Pairs whose bounds are computed at a time, to find those that matter.
_BOUNDED_PAIRS = 2**20


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
    columns = _Side.of(other_mean, other_log_var)
    constants = _Constants(columns, log_weights.detach(), log_shares)
    return _RowOverlap.apply(mean, log_var, start, constants)


def _plain(
    mean: Tensor, log_var: Tensor, other_mean: Tensor, other_log_var: Tensor, log_weights: Tensor
) -> Tensor:
    """The formula as it stands, differentiated by autograd."""
    total_var = log_var.exp()[:, None] + other_log_var.exp()  # (M, A, K)
    squared = (mean[:, None] - other_mean).square()
    log_overlap = -0.5 * (total_var.log() + squared / total_var).sum(dim=2)  # (M, A)
    return torch.logsumexp(log_overlap + log_weights, dim=1) - _constant(mean)


def _constant(mean: Tensor) -> float:
    return 0.5 * mean.shape[1] * math.log(2 * math.pi)


def _negligible(like: Tensor) -> float:
    """A pair with a smaller share in a row is lost in the rounding of the others."""
    return 1e-3 * torch.finfo(like.dtype).eps


def _log_zero(like: Tensor) -> float:
    """Logarithm of what is far below the rounding of sums with 1."""
    return 2 * math.log(torch.finfo(like.dtype).eps)


class _Side:
    """Rows or columns of the pairs: means and variances, (n, K) each."""

    def __init__(self, table: Tensor) -> None:
        self.table = table  # (n, 2 K), both side by side
        k = table.shape[1] // 2
        self.mean, self.var = table[:, :k], table[:, k:]

    @classmethod
    def of(cls, mean: Tensor, log_var: Tensor) -> _Side:
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

    def part(self, span: slice) -> _Side:
        """The posteriors of a range."""
        return _Side(self.table[span])


class _Gradient:
    """Sums over pairs of G times the derivatives of log O, for some range of the posteriors."""

    def __init__(self, by_mean: Tensor, by_var: Tensor, skip: int = 0) -> None:
        self.by_mean, self.by_var = by_mean, by_var  # (K, n) each
        self.skip = skip  # leading posteriors that get nothing

    @classmethod
    def zeros(cls, side: _Side) -> _Gradient:
        """For all posteriors of a side."""
        return cls(*side.table.new_zeros(2, side.mean.shape[1], len(side.mean)))

    def part(self, span: slice, skip: int = 0) -> _Gradient:
        """The gradient of a range, sharing memory."""
        return _Gradient(self.by_mean[:, span], self.by_var[:, span], skip)

    def add_pairs(self, index: Tensor, derivatives: Tensor, *, ordered: bool) -> None:
        """Add derivatives by mean and variance, (n_pairs, 2 K), to the posteriors of an index."""
        k, n = self.by_mean.shape
        if ordered:
            starts = torch.searchsorted(index, torch.arange(n))
            pairs = torch.arange(len(index))
            sums = nn.functional.embedding_bag(pairs, derivatives, starts, mode="sum")
        else:
            sums = derivatives.new_zeros(n, 2 * k).index_add_(0, index, derivatives)
        self.by_mean += sums[:, :k].T
        self.by_var += sums[:, k:].T

    def by_log_var(self, side: _Side) -> Tensor:
        """By the log-variances, (n, K)."""
        return (self.by_var * side.var_t).T


class _Tiles:
    """Scratch memory for tiles of at most ``size`` pairs, and what is computed in it."""

    def __init__(self, rows: _Side, columns: _Side, size: int) -> None:
        self.scratch = rows.mean.new_empty(4, size)
        self.factors = _factors_a_logarithm(rows.var, columns.var)
        self.negligible = _negligible(rows.mean)
        self.log_zero = _log_zero(rows.mean)

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

    def log_overlap(self, rows: _Side, columns: _Side) -> Tensor:
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
        rows: _Side,
        columns: _Side,
        to_rows: _Gradient,
        to_columns: _Gradient | None = None,
    ) -> None:
        """Add ``weight`` (G, the first scratch matrix) times the derivatives of log O."""
        if weight.device.type == "cpu" and rows.mean.shape[1] >= _SPARSE_COMPONENTS:
            size = torch.abs(weight, out=self.matrix(1, *weight.shape))  # a GPU would be waited for
            pairs = ~(size <= self.negligible * float(size.amax()))
            if int(pairs.count_nonzero()) <= _SPARSE_SHARE * weight.numel():
                i, j = pairs.nonzero().unbind(dim=1)
                _pull_pairs(i, j, weight[i, j], rows, columns, to_rows, to_columns)
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


def _differences(i: Tensor, j: Tensor, rows: _Side, columns: _Side) -> tuple[Tensor, Tensor]:
    """Of pairs (i, j), column less row of the means and sums of the variances: (n_pairs, K)."""
    row, column = rows.table.index_select(0, i), columns.table.index_select(0, j)
    k = rows.mean.shape[1]
    return column[:, :k].sub_(row[:, :k]), column[:, k:].add_(row[:, k:])


def _derivatives(weight: Tensor, slope: Tensor, total: Tensor) -> Tensor:
    """G times the derivatives of log O by mean and variance of the row: (n_pairs, 2 K).

    ``slope`` is -d / t; it is overwritten.
    """
    weight = weight[:, None]
    by_mean = weight * slope
    by_var = slope.mul_(by_mean).sub_(weight / total).mul_(0.5)
    return torch.cat([by_mean, by_var], dim=1)


def _pull_pairs(
    i: Tensor,
    j: Tensor,
    weight: Tensor,
    rows: _Side,
    columns: _Side,
    to_rows: _Gradient,
    to_columns: _Gradient | None = None,
) -> None:
    """As ``_Tiles.pull``, for pairs (i, j), ordered by i, with weights G, shape (n_pairs,)."""
    delta, total = _differences(i, j, rows, columns)
    derivatives = _derivatives(weight, delta.div_(total), total)
    to_rows.add_pairs(i, derivatives, ordered=True)
    if to_columns:
        other = j >= to_columns.skip
        derivatives[:, : delta.shape[1]].neg_()
        to_columns.add_pairs(j[other], derivatives[other], ordered=False)


def _factors_a_logarithm(var: Tensor, other_var: Tensor) -> int:
    """How many sums of two variances can be multiplied within the range of their dtype."""
    if var.device.type != "cpu":  # to look would be to wait for a GPU
        return 1
    info = torch.finfo(var.dtype)
    least = float(var.min()) + float(other_var.min())
    most = float(var.max()) + float(other_var.max())
    for factors in (8, 4, 2):
        if info.tiny ** (1 / factors) < least and most < info.max ** (1 / factors):
            return factors
    return 1


def _tile_size(like: Tensor) -> int:
    size = _TILE if like.device.type == "cpu" else _TILE_GPU
    return size * 4 // like.element_size()


def _row_blocks(m: int, a: int, size: int) -> tuple[list[slice], int]:
    """Ranges of rows that make a tile with all columns, and the size of the tiles."""
    length = min(m, max(1, size // a))
    return _spans(m, length), length * a


def _spans(n: int, length: int) -> list[slice]:
    return [slice(start, min(start + length, n)) for start in range(0, n, length)]


class _Constants(NamedTuple):
    """What rows meet in :func:`log_mean_overlap_with_constants`."""

    columns: _Side
    log_weights: Tensor
    log_shares: Tensor | None


class _RowOverlap(torch.autograd.Function):
    """Rows against constant columns: the value and its gradient in one pass."""

    @staticmethod
    def forward(
        ctx: Any,
        mean: Tensor,
        log_var: Tensor,
        start: Tensor | None,
        constants: _Constants,
    ) -> Tensor:
        """Values of all rows; see log_mean_overlap_with_constants."""
        rows = _Side.of(mean, log_var)
        gradient = _Gradient.zeros(rows) if any(ctx.needs_input_grad[:2]) else None
        result = mean.new_full((len(mean),), -math.inf) if start is None else start.detach().clone()
        pairs = _BOUNDED_PAIRS if mean.device.type == "cpu" else _TILE_GPU
        length = max(1, pairs // len(constants.columns.mean))
        few_may_matter = gradient is not None and start is not None
        features = _features_of(constants) if few_may_matter else None
        for span in _spans(len(mean), length):
            block, onto = rows.part(span), gradient.part(span) if gradient else None
            weights = constants._replace(log_weights=_rows_of(constants.log_weights, span))
            few = (
                features and onto and _sum_over_pairs(block, weights, features, result[span], onto)
            )
            if not few:
                _sum_over_tiles(block, weights, result[span], onto)
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


def _sum_over_tiles(
    rows: _Side, constants: _Constants, result: Tensor, gradient: _Gradient | None
) -> None:
    """Add the overlaps of all pairs to ``result``, a logarithm, and their gradient."""
    columns, log_weights, log_shares = constants
    spans, size = _row_blocks(len(rows.mean), len(columns.mean), _tile_size(rows.mean))
    tiles = _Tiles(rows, columns, size)
    for span in spans:
        block = rows.part(span)
        terms = tiles.log_overlap(block, columns).sub_(_constant(rows.mean))
        shares = None
        if log_shares is not None and gradient:
            shares = torch.add(terms, log_shares, out=tiles.matrix(1, *terms.shape))
            tiles.exp_(shares.clamp_(max=0.0))
        terms.add_(_rows_of(log_weights, span))
        sums, top = tiles.log_sum_exp_(terms, dim=1)
        result[span] = torch.logaddexp(result[span], sums)
        if gradient:
            weight = terms.mul_(top.sub_(result[span]).exp_()[:, None])
            if shares is not None:
                weight.add_(shares)
            tiles.pull(weight, block, columns, gradient.part(span))


class _Features(NamedTuple):
    """What columns contribute to a bound on log O that is a matrix product."""

    centre: Tensor  # (K,), taken off all means
    typical_var: Tensor  # (K,)
    matrix: Tensor  # (A, 5 K + 2)
    largest: Tensor  # (5 K + 2,), of each feature's sizes


def _features_of(constants: _Constants) -> _Features | None:
    """Features of the columns, or None where looking for pairs would cost more than it saves."""
    columns, log_weights, _ = constants
    n_components = columns.mean.shape[1]
    if log_weights.dim() > 1 or n_components < _SPARSE_COMPONENTS:
        return None
    if columns.mean.device.type != "cpu":  # to count would be to wait for a GPU
        return None
    centre, log_var, var = columns.mean.mean(dim=0), columns.var.log(), columns.var
    mean = columns.mean - centre
    last = 0.5 * log_var.sum(dim=1) - 2 * log_weights
    parts = [mean.square(), mean, var * mean.square(), var * mean, var]
    matrix = torch.cat([*parts, torch.ones_like(last)[:, None], last[:, None]], dim=1)
    largest = matrix.abs().amax(dim=0)
    return _Features(centre, log_var.mean(dim=0).exp(), matrix, largest)


def _sum_over_pairs(
    rows: _Side, constants: _Constants, features: _Features, result: Tensor, gradient: _Gradient
) -> bool:
    r"""As ``_sum_over_tiles``, for the pairs that matter; False where that would be no faster.

    They are found by an upper bound on log O that is a matrix product: with any number c,

    .. math::

        \frac1t \ge \frac2c - \frac{t}{c^2}, \qquad
        \log(s_i + s_j) \ge \log 2 + \tfrac12 (\log s_i + \log s_j).
    """
    columns, log_weights, log_shares = constants
    mean = rows.mean - features.centre
    typical = rows.var + features.typical_var  # c, of the order of t
    curve = typical.square().reciprocal_()
    slope = 2 / typical - rows.var * curve
    parts = [slope, -2 * slope * mean, -curve, 2 * curve * mean, -curve * mean.square()]
    one = slope * mean.square() + 0.5 * rows.var.log() + math.log(4 * math.pi)
    last = torch.ones_like(mean[:, :1])
    left = torch.cat([*parts, one.sum(dim=1, keepdim=True), last], dim=1)
    largest = left.abs().amax(dim=0) * features.largest
    rounding = torch.finfo(rows.mean.dtype).eps * float(largest.sum())
    if not rounding < 1.0:  # NaN and infinity among others: points have no log-variance
        return False
    least = math.log(_negligible(mean)) - rounding
    enough_as_row = None if log_shares is None else log_weights - log_shares + least
    left.mul_(-0.5)
    found = []
    step = max(1, 2 * _TILE // len(features.matrix))  # what a cache holds
    scratch = left.new_empty(2, step, len(features.matrix))
    for span in _spans(len(left), step):
        bound, needed = (part[: span.stop - span.start] for part in scratch)
        with torch.autocast(left.device.type, enabled=False):
            torch.mm(left[span], features.matrix.T, out=bound)  # weights included
        enough = (result[span] + least)[:, None]
        if enough_as_row is not None:
            enough = torch.minimum(enough, enough_as_row, out=needed)
        row, column = (bound > enough).nonzero(as_tuple=True)
        if len(row) > _SPARSE_SHARE * bound.numel():
            return False
        found.append((row.add_(span.start), column))
    i, j = (torch.cat(part) for part in zip(*found, strict=True))
    delta, total = _differences(i, j, rows, columns)
    slope = delta / total
    halves = rows.mean.new_full((rows.mean.shape[1],), -0.5)
    log_overlap = torch.mv(delta.mul_(slope).add_(total.log()), halves).sub_(_constant(rows.mean))
    terms = log_overlap + log_weights.index_select(0, j)
    ratios = terms - result.index_select(0, i)
    if len(ratios) and float(ratios.amax()) > _LARGEST_LOG_RATIO:
        return False
    floor = _log_zero(mean)
    ratios = ratios.clamp_(min=floor).exp_()
    result += torch.zeros_like(result).index_add_(0, i, ratios).log1p_()
    weight = terms.sub_(result.index_select(0, i)).clamp_(min=floor).exp_()
    if log_shares is not None:
        log_overlap += log_shares.index_select(0, j)
        weight.add_(log_overlap.clamp_(min=floor, max=0.0).exp_())
    gradient.add_pairs(i, _derivatives(weight, slope, total), ordered=True)
    return True


def _rows_of(log_weights: Tensor, rows: slice) -> Tensor:
    return log_weights if log_weights.dim() == 1 else log_weights[rows]


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
        rows, columns = _Side.of(mean, log_var), _Side.of(other_mean, other_log_var)
        result = torch.full_like(rows.mean[:, 0], -math.inf)
        blocks, size = _blocks(len(mean), len(other_mean), symmetric, _tile_size(mean))
        tiles = _Tiles(rows, columns, size)
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
        return result - _constant(mean)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients by all tensors; by the columns only where they are not the rows."""
        mean, log_var, other_mean, other_log_var, log_weights, result = ctx.saved_tensors
        rows, columns = _Side.of(mean, log_var), _Side.of(other_mean, other_log_var)
        of_rows = _Gradient.zeros(rows)
        of_columns = of_rows if ctx.symmetric else _Gradient.zeros(columns)
        of_weights = torch.zeros_like(log_weights) if ctx.needs_input_grad[4] else None
        blocks, size = _blocks(len(mean), len(other_mean), ctx.symmetric, _tile_size(mean))
        tiles = _Tiles(rows, columns, size)
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


def _blocks(
    m: int, a: int, symmetric: bool, size: int
) -> tuple[list[tuple[slice, slice, int]], int]:
    """Rows and columns of the tiles, and their largest size.

    In the symmetric case tiles begin at the diagonal, and of each the number of leading columns
    is given that are rows of the tile too.
    """
    n_rows = min(m, max(1, size // a, min(_BLOCK_ROWS, math.isqrt(size))))
    n_columns = max(n_rows, size // n_rows)
    blocks = []
    for rows in _spans(m, n_rows):
        first = rows.start if symmetric else 0
        for start in range(first, a, n_columns):
            columns = slice(start, min(start + n_columns, a))
            own = rows.stop - rows.start if symmetric and start == first else 0
            blocks.append((rows, columns, own))
    return blocks, n_rows * min(a, n_columns)


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
