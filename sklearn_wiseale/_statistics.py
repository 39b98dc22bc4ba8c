"""Means, variances and principal axes of data of any size, in float64 and by chunks.

scikit-learn's own fitters copy X whole; here no chunk is larger than a few megabytes, whether
the rows come from an array, a memory map or a CSR matrix.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import eigh, svd

__all__ = ["Axes", "Moments", "principal_axes"]

#: Up to this many columns the covariance matrix is held; beyond, its axes are found by iteration.
COVARIANCE_COLUMNS = 2048
#: Beyond, but with so few numbers in all, a singular value decomposition is as quick.
_SVD_NUMBERS = 2**22
#: Entries of a unit vector up to this size are rounding.
_SMALLEST_ENTRY = 1e-14
_N_ITERATIONS = 6  # of the subspace iteration
_OVERSAMPLING = 16  # additional directions in it

Chunks = Callable[[], Iterable[np.ndarray]]  # each call starts a pass over the data
Product = Callable[[np.ndarray], np.ndarray]  # of a matrix with others of shape (n_features, m)


class Moments:
    """Count, mean, variance and (for few columns) covariance, merged chunk by chunk.

    Chan, Golub, LeVeque 1983: chunks are centred before they are squared, so that a large mean
    costs no digits.
    """

    def __init__(self, n_features: int) -> None:
        self.count = 0  # rows
        self._pairs: _PairSums | None = None
        self._origin: np.ndarray | None = None  # the first row: constant columns become zeros
        self._shifted_mean = np.zeros(n_features)
        with_covariance = n_features <= COVARIANCE_COLUMNS
        # sums of centred products (n_features, n_features), or of centred squares (n_features,)
        self._products = np.zeros((n_features, n_features) if with_covariance else n_features)

    def update(self, chunk: np.ndarray) -> Moments:
        """Take in a float64 chunk of shape (n, n_features); return self."""
        if self._pairs is not None or np.isnan(chunk).any():
            return self._update_pairs(chunk)
        if self._origin is None:
            self._origin = chunk[0].copy()
        chunk = chunk - self._origin
        n, total = len(chunk), self.count + len(chunk)
        chunk_mean = chunk.mean(axis=0)
        centred = chunk - chunk_mean
        delta = chunk_mean - self._shifted_mean
        between = self.count * n / total
        if self._products.ndim == 2:
            self._products += centred.T @ centred + between * np.outer(delta, delta)
        else:
            self._products += np.einsum("ij,ij->j", centred, centred) + between * delta**2
        self._shifted_mean += delta * (n / total)
        self.count = total
        return self

    def merge(self, other: Moments) -> Moments:
        """Take in the rows of others' moments; return self."""
        if other._origin is None:
            return self
        if self._origin is None:
            self.__dict__.update(copy.deepcopy(other.__dict__))
            return self
        n, total = other.count, self.count + other.count
        if self._pairs is None and other._pairs is None:
            # means of constant columns are equal to the last bit, and their difference zero
            delta = (other._origin - self._origin) + (other._shifted_mean - self._shifted_mean)
            square = np.outer(delta, delta) if self._products.ndim == 2 else delta**2
            self._products += other._products + self.count * n / total * square
            self._shifted_mean += delta * (n / total)
            self.count = total
            return self
        pairs, others = self._as_pairs(), other._as_pairs()
        # of columns that have not been observed yet, the origin is free
        self._origin = np.where(pairs.observed > 0, self._origin, other._origin)
        pairs.add_sums(others.shifted(other._origin - self._origin))
        return self._take_pairs(pairs, total)

    def _update_pairs(self, chunk: np.ndarray) -> Moments:
        """The same where entries are missing, now or in an earlier chunk."""
        observed = ~np.isnan(chunk)
        pairs = self._as_pairs()
        if self._origin is None:
            counts = np.maximum(observed.sum(axis=0), 1)
            self._origin = np.where(observed, chunk, 0.0).sum(axis=0) / counts
        pairs.add(np.where(observed, chunk - self._origin, 0.0), observed.astype(float))
        return self._take_pairs(pairs, self.count + len(chunk))

    def _as_pairs(self) -> _PairSums:
        """The same as sums over pairs of columns."""
        if self._pairs is not None:
            return self._pairs
        mean, n = self._shifted_mean, float(self.count)
        if self._products.ndim == 2:
            products = self._products + n * np.outer(mean, mean)
            sums = np.repeat(n * mean[:, None], len(mean), axis=1)
        else:
            products, sums = self._products + n * mean**2, n * mean
        return _PairSums(np.full(products.shape, n), sums, products)

    def _take_pairs(self, pairs: _PairSums, count: int) -> Moments:
        self._pairs, self.count = pairs, count
        self._shifted_mean, self._products = pairs.mean, pairs.covariance * count
        return self

    @property
    def missing(self) -> bool:
        """Whether an entry was NaN."""
        return self._pairs is not None

    @property
    def observed(self) -> np.ndarray:
        """Observed entries of each column."""
        if self._pairs is None:
            return np.full(len(self._shifted_mean), self.count)
        return self._pairs.observed.astype(int)

    @property
    def mean(self) -> np.ndarray:
        """Mean of each column."""
        return self._shifted_mean if self._origin is None else self._origin + self._shifted_mean

    @property
    def variance(self) -> np.ndarray:
        """Variance of each column (divisor n), exactly 0 for columns that are constant."""
        squares = self._products.diagonal() if self._products.ndim == 2 else self._products
        return squares / max(self.count, 1)

    @property
    def covariance(self) -> np.ndarray | None:
        """Covariance (divisor n), or None where there are too many columns to hold it."""
        return self._products / max(self.count, 1) if self._products.ndim == 2 else None


class _PairSums:
    """Sums over the rows in which both of two columns are observed; or, one column, it is.

    Of shape (n_features, n_features), or (n_features,) where there is no room for pairs.
    """

    def __init__(self, counts: np.ndarray, sums: np.ndarray, products: np.ndarray) -> None:
        self.counts, self.sums, self.products = counts, sums, products

    def add(self, chunk: np.ndarray, observed: np.ndarray) -> None:
        """Take in rows, zero where they are not observed, and ones where they are."""
        if self.counts.ndim == 2:
            self.counts += observed.T @ observed
            self.sums += chunk.T @ observed
            self.products += chunk.T @ chunk
        else:
            self.counts += observed.sum(axis=0)
            self.sums += chunk.sum(axis=0)
            self.products += np.einsum("ij,ij->j", chunk, chunk)

    def add_sums(self, other: _PairSums) -> None:
        """Take in the rows of others' sums, about the same origin."""
        self.counts += other.counts
        self.sums += other.sums
        self.products += other.products

    def shifted(self, by: np.ndarray) -> _PairSums:
        """Sums over the same rows, to each of which the shift is added: (n_features,)."""
        if self.counts.ndim == 2:
            onto = self.sums * by  # of x_i over both observed, times the shift of the other
            products = self.products + onto + onto.T + self.counts * np.outer(by, by)
            return _PairSums(self.counts, self.sums + self.counts * by[:, None], products)
        products = self.products + 2 * by * self.sums + self.counts * by**2
        return _PairSums(self.counts, self.sums + self.counts * by, products)

    @property
    def observed(self) -> np.ndarray:
        """Observed entries of each column."""
        return self.counts.diagonal() if self.counts.ndim == 2 else self.counts

    @property
    def mean(self) -> np.ndarray:
        """Mean of each column."""
        sums = self.sums.diagonal() if self.sums.ndim == 2 else self.sums
        return sums / np.maximum(self.observed, 1)

    @property
    def covariance(self) -> np.ndarray:
        """Covariance of each pair where both are observed; or variances."""
        counts = np.maximum(self.counts, 1)
        return self.products / counts - (self.sums / counts) * (self.sums.T / counts)


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

    Parameters
    ----------
    moments : Moments of X

    shift, scale : ndarray of shape (n_features,)
        The scaling; ``chunks`` gives rows that are scaled by it.

    n_components : int

    chunks : callable
        Returns an iterable over scaled float64 chunks of X; used where the covariance was too
        large to hold.

    rng : RandomState

    sparse : CSR matrix, default=None
        X itself, without missing entries: then only its stored entries are multiplied.
    """
    total = float((moments.variance / scale**2).sum())
    n_axes = min(n_components, len(scale), moments.count - 1)
    if moments.covariance is not None:
        covariance = moments.covariance / np.outer(scale, scale)
        variance, vectors = eigh(
            covariance, subset_by_index=(len(scale) - n_axes, len(scale) - 1), driver="evr"
        )
        variance, directions = variance[::-1], vectors.T[::-1]
    elif moments.count * len(scale) <= _SVD_NUMBERS:  # few numbers: exact
        centred = np.concatenate(list(chunks())) - (moments.mean - shift) / scale
        _, singular, directions = svd(centred, full_matrices=False)
        variance = singular[:n_axes] ** 2 / moments.count
        directions = directions[:n_axes]
    else:
        centre = (moments.mean - shift) / scale
        product = _product_of_chunks(chunks, centre, moments.count)
        if sparse is not None:
            product = _product_of_sparse(sparse.astype(np.float64), moments.mean, scale)
        variance, directions = _subspace_iteration(product, len(scale), n_axes, rng)
    keep = variance > 1e-10 * max(total, np.finfo(np.float64).tiny)
    # rounding, for instance of constant columns, must not reach float32 as denormal numbers
    directions = np.where(np.abs(directions[keep]) > _SMALLEST_ENTRY, directions[keep], 0.0)
    # a direction's sign is arbitrary: its largest entry is positive, on every machine
    peak = np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], axis=1)
    return Axes(variance[keep], directions * np.sign(peak), total)


def _product_of_chunks(chunks: Chunks, centre: np.ndarray, count: int) -> Product:
    """Product with the covariance of rows in chunks, about their centre."""

    def product(basis: np.ndarray) -> np.ndarray:
        image = np.zeros_like(basis)
        for chunk in chunks():
            centred = chunk - centre
            image += centred.T @ (centred @ basis)
        return image / count

    return product


def _product_of_sparse(X: Any, mean: np.ndarray, scale: np.ndarray) -> Product:
    """Product with the covariance of ``(X - mean) / scale``, which itself is never formed."""

    def product(basis: np.ndarray) -> np.ndarray:
        basis = basis / scale[:, None]
        scores = X @ basis - mean @ basis
        image = X.T @ scores - np.outer(mean, scores.sum(axis=0))
        return image / (scale[:, None] * X.shape[0])

    return product


def _subspace_iteration(
    product: Product, n_features: int, n_axes: int, rng: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Leading eigenpairs of the covariance without forming it (Halko et al. 2011, section 4.5)."""
    width = min(n_axes + _OVERSAMPLING, n_features)
    basis = rng.standard_normal((n_features, width))
    values = np.zeros(width)
    for _ in range(_N_ITERATIONS):
        basis, _ = np.linalg.qr(basis)
        image = product(basis)
        # Rayleigh-Ritz in the present basis; the image is the next one
        values, rotation = np.linalg.eigh(basis.T @ image)
        ritz = basis @ rotation
        basis = image
    order = np.argsort(values)[::-1][:n_axes]
    return values[order], ritz[:, order].T
