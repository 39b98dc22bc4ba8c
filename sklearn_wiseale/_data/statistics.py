"""Means, variances and principal axes of data of any size, in float64 and by chunks.

scikit-learn's estimators copy X. Here, no chunk of an array, a memory map or a CSR matrix is larger
than a few megabytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import eigh, svd

__all__ = ["Axes", "Moments", "principal_axes", "tail_limits"]

#: Up to this many columns, the covariance matrix is held; beyond, its axes are found by iteration.
COVARIANCE_COLUMNS = 2048
#: Up to this many numbers in all, a singular value decomposition is used instead of iteration.
_SVD_NUMBERS = 2**22
#: Entries of a unit vector up to this size are rounding.
_SMALLEST_ENTRY = 1e-14
_N_ITERATIONS = 6  # of the subspace iteration
_OVERSAMPLING = 16  # additional directions in it
#: Tails begin beyond this distance from the deciles, in ranges of them: at 5.1 standard deviations
#: of a normal column, and at 1.9 ranges from the middle of any.
_TAIL = 1.5

Chunks = Callable[[], Iterable[np.ndarray]]  # each call starts a pass over the data
Product = Callable[[np.ndarray], np.ndarray]  # of a matrix with others of shape (n_features, m)


class Moments:
    """Count, mean, variance and (for few columns) covariance, merged chunk by chunk.

    Chunks are centred before they are squared, so that a large mean costs no digits (Chan, Golub,
    LeVeque 1983). With missing entries, each column has the mean and the variance of its observed
    ones, and :func:`principal_axes` computes the covariance in a second pass.
    """

    def __init__(self, n_features: int) -> None:
        self.count = 0  # rows
        self._origin = np.zeros(n_features)  # a value of each column: constant ones become zeros
        self._shifted_mean = np.zeros(n_features)
        # sums of centred products (n_features, n_features), or of centred squares (n_features,)
        few = n_features <= COVARIANCE_COLUMNS
        self._products = np.zeros((n_features, n_features) if few else n_features)
        # rows; with missing entries, observed ones of each column, or of each pair of few columns
        self.counts: Any = 0

    def update(self, chunk: np.ndarray) -> Moments:
        """Add a float64 chunk of shape (n, n_features), NaN where missing; return self."""
        missing, d = np.isnan(chunk), chunk.shape[1]
        part, first, holes = Moments(d), chunk[0], bool(missing.any())
        part.count = part.counts = len(chunk)
        if holes:
            seen = (~missing).astype(np.float64)
            part.counts = seen.T @ seen if part._products.ndim == 2 else seen.sum(axis=0)
            first = np.where(missing.all(axis=0), 0.0, chunk[missing.argmin(axis=0), np.arange(d)])
        part._origin = np.where(self.observed > 0, self._origin, first)
        chunk = chunk - part._origin
        np.copyto(chunk, 0.0, where=missing)
        part._shifted_mean = chunk.sum(axis=0) / np.maximum(_of_columns(part.counts), 1)
        chunk -= part._shifted_mean
        np.copyto(chunk, 0.0, where=missing)
        square = part._products.ndim == 2 and not holes
        part._products = chunk.T @ chunk if square else np.einsum("ij,ij->j", chunk, chunk)
        return self.merge(part)

    def merge(self, other: Moments) -> Moments:
        """Add the rows of other moments; return self."""
        if not other.count:
            return self
        self._origin = np.where(self.observed > 0, self._origin, other._origin)
        # means of constant columns are equal to the last bit, and their difference zero
        delta = (other._origin - self._origin) + (other._shifted_mean - self._shifted_mean)
        n, m = _of_columns(self.counts), _of_columns(other.counts)
        total = n + m + (n + m == 0)  # at least 1
        ours, theirs = self._products, other._products
        if ours.ndim != theirs.ndim:
            ours, theirs = _of_columns(ours), _of_columns(theirs)
        square = np.outer(delta, delta) if ours.ndim == 2 else delta**2
        self._products = ours + (theirs + n * m / total * square)
        self._shifted_mean = self._shifted_mean + delta * (m / total)
        self.counts = self.counts + other.counts
        self.count += other.count
        return self

    @property
    def missing(self) -> bool:
        """Whether an entry was NaN."""
        return np.ndim(self.counts) > 0

    @property
    def observed(self) -> np.ndarray:
        """Observed entries of each column."""
        return np.full(len(self._origin), _of_columns(self.counts), dtype=int)

    @property
    def mean(self) -> np.ndarray:
        """Mean of each column."""
        return self._origin + self._shifted_mean

    @property
    def variance(self) -> np.ndarray:
        """Variance of each column (divisor n), exactly 0 for columns that are constant."""
        return _of_columns(self._products) / np.maximum(_of_columns(self.counts), 1)

    @property
    def covariance(self) -> np.ndarray | None:
        """Covariance (divisor n); None with missing entries, or too many columns to hold it."""
        return self._products / max(self.count, 1) if self._products.ndim == 2 else None


def _of_columns(sums: Any) -> Any:
    """The diagonal of sums over pairs of columns; other sums as they are."""
    return sums.diagonal() if np.ndim(sums) == 2 else sums


def tail_limits(X: np.ndarray) -> np.ndarray:
    """Values of each column beyond which its tails begin, lower and upper: (2, n_features).

    Up to a tenth of the entries of X, NaN where missing, may be arbitrarily far on either side. A
    column with equal deciles, such as a rare event, has infinite limits.
    """
    low, high = (np.nanquantile if np.isnan(X).any() else np.quantile)(X, (0.1, 0.9), axis=0)
    reach = np.where(high > low, _TAIL * (high - low), np.inf)
    return np.stack([low - reach, high + reach])


class Axes(NamedTuple):
    """Principal axes, largest variance first."""

    variance: np.ndarray  # (k,)
    directions: np.ndarray  # (k, n_features), orthonormal rows
    total_variance: float


def principal_axes(
    moments: Moments,
    shift: np.ndarray,
    scale: np.ndarray,
    n_components: int,
    chunks: Chunks,
    rng: np.random.RandomState,
    sparse: Any = None,
) -> Axes:
    """Principal axes of ``(X - mean) / scale``; as many as there are, at most ``n_components``.

    ``chunks`` starts a pass over the rows ``(X - shift) / scale``, with means for missing entries;
    it is used if the moments have no covariance. ``sparse`` is X as CSR matrix without missing
    entries, of which only stored ones are multiplied.
    """
    total, d = float((moments.variance / scale**2).sum()), len(scale)
    n_axes, centre = min(n_components, d, moments.count - 1), (moments.mean - shift) / scale
    covariance = moments.covariance
    if covariance is not None:
        covariance = covariance / np.outer(scale, scale)
    elif np.ndim(moments.counts) == 2:  # means for missing entries add nothing to the products
        covariance = _chunk_product(chunks, centre, np.maximum(moments.counts, 1), np.eye(d))
    if covariance is not None:
        largest = (d - n_axes, d - 1)
        variance, vectors = eigh(covariance, subset_by_index=largest, driver="evr")
        variance, directions = variance[::-1], vectors.T[::-1]
    elif moments.count * d <= _SVD_NUMBERS:  # few numbers: exact
        _, singular, directions = svd(np.concatenate(list(chunks())) - centre, full_matrices=False)
        variance = singular[:n_axes] ** 2 / moments.count
        directions = directions[:n_axes]
    else:
        product = partial(_chunk_product, chunks, centre, moments.count)
        if sparse is not None:
            product = partial(_sparse_product, sparse.astype(np.float64), moments.mean, scale)
        variance, directions = _subspace_iteration(product, d, n_axes, rng)
    keep = variance > 1e-10 * max(total, np.finfo(np.float64).tiny)
    # rounding, for instance of constant columns, must not reach float32 as denormal numbers
    directions = np.where(np.abs(directions[keep]) > _SMALLEST_ENTRY, directions[keep], 0.0)
    # a direction's sign is arbitrary: its largest entry is positive, on every machine
    peak = np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], axis=1)
    return Axes(variance[keep], directions * np.sign(peak), total)


def _chunk_product(chunks: Chunks, centre: np.ndarray, count: Any, basis: np.ndarray) -> np.ndarray:
    """Product of the covariance of rows in chunks, about their centre, with a basis."""
    image = np.zeros_like(basis)
    for chunk in chunks():
        centred = chunk - centre
        image += centred.T @ (centred @ basis)
    return image / count


def _sparse_product(X: Any, mean: np.ndarray, scale: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Product of the covariance of ``(X - mean) / scale``, which is not formed, with a basis."""
    basis = basis / scale[:, None]
    scores = X @ basis - mean @ basis
    image = X.T @ scores - np.outer(mean, scores.sum(axis=0))
    return image / (scale[:, None] * X.shape[0])


def _subspace_iteration(
    product: Product, n_features: int, n_axes: int, rng: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Leading eigenpairs of the covariance without forming it (Halko et al. 2011, section 4.5)."""
    width = min(n_axes + _OVERSAMPLING, n_features)
    basis = rng.standard_normal((n_features, width))
    for _ in range(_N_ITERATIONS):
        basis, _ = np.linalg.qr(basis)
        image = product(basis)
        # Rayleigh-Ritz in the present basis; the image is the next one
        values, rotation = np.linalg.eigh(basis.T @ image)
        ritz = basis @ rotation
        basis = image
    order = np.argsort(values)[::-1][:n_axes]
    return values[order], ritz[:, order].T
