"""The start of training: scaling of X, and a network that equals principal component analysis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse

from .._data.rows import dense, dense_chunks
from .._data.scaling import Scaling
from .._data.statistics import Axes, Moments, principal_axes, tail_limits
from ..likelihoods import Likelihood
from ..likelihoods._base import Columns
from ..networks import Network
from .module import VariationalModule

__all__ = [
    "blank_module",
    "build_module",
    "column_limits",
    "column_moments",
    "column_scaling",
    "scaled_axes",
    "tail_shares",
    "weight_dtype",
]

#: About this many numbers, of rows at equal distances, tell where tails begin.
_LIMIT_NUMBERS = 2**18
_LIMIT_ROWS = 100  # at least
_TAIL_ROWS = 50  # of fewer, a tail cannot be told from chance
#: Largest distance of an entry, in ranges of its column without tails: float32 holds its square.
_FARTHEST = 1e14

#: Limits of the posterior variance at the start, which is the noise's share of a component.
_START_VARIANCE = (1e-3, 0.5)


def column_limits(X: Any, modes: list[tuple[Columns, str | None]]) -> np.ndarray | None:
    """Limits of the columns with the mode "robust", (2, n_features), or None if there are none.

    Entries beyond the limits count as if they lay on them. Those of other columns are infinite.
    """
    robust = [columns for columns, mode in modes if mode == "robust"]
    if not robust:
        return None
    rows, limits = _some_rows(X), np.full((2, X.shape[1]), np.inf) * [[-1.0], [1.0]]
    for columns in robust:
        limits[:, columns] = tail_limits(rows[:, columns])
    return limits


def tail_shares(X: Any, modes: list[tuple[Columns, str | None]]) -> np.ndarray:
    """Share of the variance of each column with the mode "feature" that its tails add.

    Zero for other columns, and for few rows: (n_features,).
    """
    shares, standardised = np.zeros(X.shape[1]), [c for c, mode in modes if mode == "feature"]
    if not standardised or X.shape[0] < _TAIL_ROWS:
        return shares
    rows = _some_rows(X)
    for columns in standardised:
        own = rows[:, columns]
        within = np.nanvar(np.clip(own, *tail_limits(own)), axis=0)
        whole = np.nanvar(own, axis=0)
        shares[columns] = 1 - np.divide(within, whole, out=np.ones_like(whole), where=whole > 0)
    return shares


def column_moments(
    X: Any, names: np.ndarray | None, processes: Any, limits: np.ndarray | None = None
) -> Moments:
    """Moments of all rows of X within limits, of which each process reads its share.

    Raises a ValueError, with the names of columns, if a column has no value, or a variance that
    float64 cannot hold.
    """
    moments = Moments(X.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):
        with processes.raise_on_all():
            for chunk in dense_chunks(processes.local_rows(X)):
                moments.update(_within(chunk, limits))
        moments, *others = processes.gather_objects(moments)
        for other in others:
            moments.merge(other)
    empty = np.flatnonzero(moments.observed == 0)
    if len(empty):
        shown = ", ".join(map(str, empty[:5]) if names is None else map(repr, names[empty[:5]]))
        more = f" and {len(empty) - 5} others" if len(empty) > 5 else ""
        raise ValueError(
            "X must have an observed value in every column. Got only NaN in column "
            f"{shown}{more}: leave it out."
        )
    if not np.isfinite(moments.variance).all():
        raise ValueError(
            "X must have variances that float64 can hold. Got values of the order of "
            f"{max(abs(X.min()), abs(X.max())):.1g}: rescale X."
        )
    return moments


def scaled_axes(
    X: Any,
    moments: Moments,
    scaling: Scaling,
    n_components: int,
    rng: np.random.RandomState,
    limits: np.ndarray | None = None,
) -> Axes:
    """Principal axes of scaled X within limits, missing entries at the mean."""

    def chunks() -> Iterator[np.ndarray]:
        for chunk in dense_chunks(X):
            chunk = _within(chunk, limits)
            yield scaling.apply(np.where(np.isnan(chunk), moments.mean, chunk))

    plain = issparse(X) and not moments.missing and limits is None
    sparse = X if plain else None
    return principal_axes(moments, *scaling, n_components, chunks, rng, sparse)


def column_scaling(
    moments: Moments, modes: str | list[tuple[Columns, str | None]] | None
) -> Scaling:
    """Scaling of the columns; constant columns are centred only.

    The mode is "feature", "robust" (of moments within limits), "global" or None, for all columns
    or for each of several ranges.
    """
    scaling = Scaling(np.zeros_like(moments.mean), np.ones_like(moments.mean))
    # the rounding errors of a constant column are no variance
    rounding = 10 * np.finfo(np.float64).eps * np.abs(moments.mean)
    variance = np.where(np.sqrt(moments.variance) > rounding, moments.variance, 0.0)
    for columns, mode in modes if isinstance(modes, list) else [(slice(None), modes)]:
        if mode is not None:
            own = variance[columns].mean() if mode == "global" else variance[columns]
            scaling.shift[columns] = moments.mean[columns]
            scaling.scale[columns] = np.where(own > 0, np.sqrt(own), 1.0)
    return scaling


def build_module(
    moments: Moments,
    scaling: Scaling,
    axes: Axes,
    n_components: int,
    likelihood: Likelihood,
    network: Network,
    precision: str,
) -> VariationalModule:
    r"""Encoder, decoder and likelihood that start as PCA with whitened codes.

    With :math:`l_k` the variances and :math:`V_k` the directions of the principal axes, the
    posterior variance :math:`s_k = s^2 / l_k`, the mean residual variance in place of
    :math:`s^2`, is the one of probabilistic PCA, and

    .. math::

        \mu_k(x) = \sqrt{(1 - s_k) / l_k}\; V_k (x - \bar x), \qquad
        f(z) = \bar x + \sum_k \sqrt{l_k / (1 - s_k)}\; V_k^\top z_k

    reconstructs exactly as PCA does while the aggregate posterior has mean 0 and covariance I.
    If the likelihood's outputs are not means, or the encoder sees transformed rows, both maps are
    linearised about :math:`\bar x`. Components beyond the rank of X keep the prior as posterior and
    are not decoded.
    """
    n_features, n_axes = len(moments.mean), len(axes.variance)
    centre = scaling.apply(moments.mean)
    residual = max(axes.total_variance - axes.variance.sum(), 0.0) / max(n_features - n_axes, 1)
    share = (residual / axes.variance).clip(*_START_VARIANCE)  # s_k

    loading = np.zeros((n_features, n_components))
    loading[:, :n_axes] = (np.sqrt(axes.variance / (1 - share))[:, None] * axes.directions).T

    # mean squared residual over draws: what PCA leaves, and the spread of the posteriors
    variance = moments.variance / scaling.scale**2
    left = variance - axes.variance @ axes.directions**2
    spread = loading[:, :n_axes] ** 2 @ share
    observation = likelihood.build(np.maximum(left, 0.0) + spread, centre, variance)
    bias, weight = likelihood.linear_start(centre, loading)

    projection = np.zeros((2 * n_components, n_features))  # means, then log-variances
    projection[:n_axes] = np.sqrt((1 - share) / axes.variance)[:, None] * axes.directions
    projection = likelihood.linear_encoder(projection, centre, variance)
    offset = -projection @ observation.embed(torch.from_numpy(centre)[None])[0].numpy()
    offset[n_components : n_components + n_axes] = np.log(share)

    encoder, decoder = network.build(n_features, n_components, len(bias))
    fill = torch.from_numpy(centre)
    flags = _flags(n_features, n_components) if moments.missing else None
    module = VariationalModule(
        encoder, decoder, observation, fill, flags, autocast=precision == "bfloat16"
    ).to(weight_dtype(precision))
    for part, matrix, constant in ((encoder, projection, offset), (decoder, weight, bias)):
        start_linear: Callable[..., None] | None = getattr(part, "start_linear", None)
        if start_linear is not None:
            start_linear(torch.from_numpy(matrix), torch.from_numpy(constant))
    return module


def blank_module(
    n_features: int,
    n_components: int,
    likelihood: Likelihood,
    network: Network,
    precision: str,
    *,
    missing: bool,
    device: torch.device,
) -> VariationalModule:
    """A module like that of ``build_module``, whose weights and estimates are still to be loaded.

    On the device "meta", encoder, decoder and flags have shapes without numbers.
    """
    one, nothing = np.ones(n_features), np.zeros((n_features, 1))
    observation = likelihood.build(one, 0.5 * one, one)
    n_outputs = len(likelihood.linear_start(0.5 * one, nothing)[0])
    with device:
        encoder, decoder = network.build(n_features, n_components, n_outputs)
        flags = _flags(n_features, n_components) if missing else None
    fill = torch.from_numpy(one)
    return VariationalModule(
        encoder, decoder, observation, fill, flags, autocast=precision == "bfloat16"
    ).to(weight_dtype(precision))


def weight_dtype(precision: str) -> torch.dtype:
    """Dtype of weights, codes and scores."""
    return torch.float64 if precision == "float64" else torch.float32


def _some_rows(X: Any) -> np.ndarray:
    """Rows at equal distances, in bounded memory."""
    n_rows = min(X.shape[0], max(_LIMIT_NUMBERS // X.shape[1], _LIMIT_ROWS))
    return dense(X[np.linspace(0, X.shape[0] - 1, n_rows).astype(int)])


def _within(chunk: np.ndarray, limits: np.ndarray | None) -> np.ndarray:
    """A chunk whose entries are moved to within limits, if there are some."""
    if limits is None:
        return chunk
    low, high = limits
    far = np.abs(chunk - np.clip(chunk, low, high)) > _FARTHEST * (high - low)
    if far.any():
        row, column = np.argwhere(far)[0]
        raise ValueError(
            "X must have no entry farther from the others of its column than "
            f"{_FARTHEST:.0g} times their range. Got {chunk[row, column]:.2g} in column {column}: "
            "replace it by NaN, or remove the row."
        )
    return np.clip(chunk, low, high)


def _flags(n_features: int, n_components: int) -> torch.nn.Linear:
    """The layer that adds to the posterior what missing entries tell: zero at the start."""
    flags = torch.nn.Linear(n_features, 2 * n_components, bias=False)
    torch.nn.init.zeros_(flags.weight)
    return flags
