"""Measures of codes and reconstructions, to report with a loss."""

from __future__ import annotations

from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import norm
from sklearn.utils import check_array

from ._data.frames import library_of, number_columns
from ._data.rows import as_numpy
from ._data.validation import check_count, check_seed
from .objectives._aggregate import BOUNDS, aggregate_kl_bound, moment_kl
from .objectives._base import Posterior
from .objectives._sliced import random_basis

__all__ = [
    "AggregateKLBounds",
    "active_units",
    "aggregate_kl",
    "aggregate_kl_bounds",
    "reconstruction_r2",
    "sliced_wasserstein",
]

#: Random bases over which "sliced" is averaged.
_N_BASES = 10
#: Limits of numbers and of log-variances, so that float64 holds squares and exponentials.
_LIMIT, _LOG_VAR_LIMIT = 1e140, 700.0


def aggregate_kl(
    mean: Any, log_var: Any, *, method: str = "jensen", random_state: Any = None
) -> float:
    r"""Divergence of the aggregate posterior from the prior, :math:`\mathrm{KL}(q \| p)`.

    :math:`q = \frac1n \sum_i \mathcal{N}(\mu_i, \operatorname{diag}(s_i))`,
    :math:`p = \mathcal{N}(0, I)`. Computed in float64 over all rows, in blocks.

    Parameters
    ----------
    mean, log_var : array-like of shape (n, k)
        Means and log-variances of the posteriors: ``log_var = 2 * log(std)`` of
        ``WiSEALETransformer.posterior``.

    method : {"jensen", "renyi", "moment", "monte_carlo", "sliced"}, default="jensen"
        "moment" is a lower bound, "jensen" and "renyi" are upper bounds. "monte_carlo" is an
        estimate from one draw of each posterior, "sliced" a lower bound estimated from such draws,
        averaged over ten random bases. Computed on a sample of the rows, only "jensen" and "renyi"
        are still bounds, in expectation, for all rows.

    random_state : int, RandomState instance or None, default=None
        For "monte_carlo" and "sliced".

    Returns
    -------
    kl : float
        Nats.

    Raises
    ------
    ValueError
        If the arrays are not finite matrices of the same shape, if the method is unknown, or if
        numbers are too large for their squares in float64.

    References
    ----------
    Lin, Clark, Birke, Trigoni, Roberts (2019), WiSE-ALE, arXiv:1902.06160.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_wiseale.diagnostics import aggregate_kl
    >>> mean, log_var = np.zeros((5, 1)), np.zeros((5, 1))  # all equal to the prior
    >>> aggregate_kl(mean, log_var, method="moment")
    0.0
    >>> round(aggregate_kl(mean, log_var), 4)  # (1 - log 2) / 2
    0.1534
    """
    if method not in BOUNDS:
        raise ValueError(f"method must be one of {sorted(BOUNDS)}. Got {method!r}.")
    mean, log_var = _matrix("mean", mean), _matrix("log_var", log_var, _LOG_VAR_LIMIT)
    if mean.shape != log_var.shape:
        raise ValueError(f"log_var must have the shape of mean, {mean.shape}. Got {log_var.shape}.")
    if method == "moment":  # converts to float64 in blocks of rows
        arrays = (np.require(part, requirements=["C", "W"]) for part in (mean, log_var))
        return float(moment_kl(Posterior(*map(torch.from_numpy, arrays))))
    mean, log_var = mean.astype(np.float64), log_var.astype(np.float64)
    posterior = Posterior(*(torch.tensor(part, device="cpu") for part in (mean, log_var)))
    if method in ("jensen", "renyi"):
        return float(aggregate_kl_bound(posterior, method))
    rng = check_seed(random_state)
    z = torch.from_numpy(mean + np.exp(0.5 * log_var) * rng.standard_normal(mean.shape))
    if method == "monte_carlo":
        return float(aggregate_kl_bound(posterior, method, z))
    generator = torch.Generator().manual_seed(int(rng.randint(2**31)))
    bases = (random_basis(z, generator) for _ in range(_N_BASES))
    return float(np.mean([float(aggregate_kl_bound(posterior, method, z, b)) for b in bases]))


class AggregateKLBounds(NamedTuple):
    """Bounds on the divergence of the aggregate posterior from the prior.

    Attributes
    ----------
    lower, upper : float
        "moment" and "jensen" of :func:`aggregate_kl`, nats.

    n_upper : int
        Number of rows used for ``upper``; ``lower`` uses all rows.
    """

    lower: float
    upper: float
    n_upper: int


def aggregate_kl_bounds(mean: Any, log_var: Any) -> AggregateKLBounds:
    """Lower and upper bound on the divergence of the aggregate posterior from the prior.

    Parameters
    ----------
    mean, log_var : array-like of shape (n, k)
        Means and log-variances of the posteriors.

    Returns
    -------
    bounds : AggregateKLBounds (lower, upper, n_upper)
        Both over all rows.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_wiseale.diagnostics import aggregate_kl_bounds
    >>> bounds = aggregate_kl_bounds([[-1.0], [1.0]], [[-1.0], [-1.0]])
    >>> bounds.lower < bounds.upper
    True
    """
    lower = aggregate_kl(mean, log_var, method="moment")
    return AggregateKLBounds(lower, aggregate_kl(mean, log_var), len(mean))


def active_units(mean: Any, threshold: float = 0.01) -> int:
    """Count the components whose codes vary over the rows.

    Parameters
    ----------
    mean : array-like of shape (n, k)
        Posterior means, such as the codes from ``WiSEALETransformer.transform``.

    threshold : float, default=0.01
        Columns with a larger variance count. The variance of the prior is 1.

    Returns
    -------
    n_active : int

    References
    ----------
    Burda, Grosse, Salakhutdinov (2016), *Importance Weighted Autoencoders*, arXiv:1509.00519,
    section 5.2.

    Examples
    --------
    >>> from sklearn_wiseale.diagnostics import active_units
    >>> active_units([[0.0, 1.0], [0.0, -1.0]])
    1
    """
    mean = _matrix("mean", mean).astype(np.float64)
    if not isinstance(threshold, Real) or not threshold >= 0:
        raise ValueError(f"threshold must be a number >= 0. Got {threshold!r}.")
    return int((mean.var(axis=0) > threshold).sum())


def sliced_wasserstein(z: Any, *, n_projections: int = 300, random_state: Any = None) -> float:
    """Sliced 2-Wasserstein distance between the rows of z and N(0, I).

    The root mean square, over random directions, of the differences between 199 quantiles of the
    projected rows, from 0.005 to 0.995, and those of the standard normal distribution.

    Parameters
    ----------
    z : array-like of shape (n, k)
        Draws from the posteriors of held-out rows (means have a smaller variance). With fewer than
        5,000 rows, the sampling error is noticeable.

    n_projections : int, default=300
        Number of random directions.

    random_state : int, RandomState instance or None, default=None
        For the directions.

    Returns
    -------
    distance : float
        In units of z; the standard deviation of the prior is 1.

    References
    ----------
    Bonneel, Rabin, Peyre, Pfister (2015), *Sliced and Radon Wasserstein Barycenters of Measures*.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_wiseale.diagnostics import sliced_wasserstein
    >>> z = np.random.RandomState(0).standard_normal((10000, 3))
    >>> sliced_wasserstein(z, random_state=0) < 0.05
    True
    >>> round(sliced_wasserstein(z + [2, 0, 0], random_state=0), 1)  # 2 / sqrt(3)
    1.2
    """
    z = _matrix("z", z).astype(np.float64)
    n_projections = check_count("n_projections", n_projections)
    levels = np.linspace(0.005, 0.995, 199)
    normal = norm.ppf(levels)
    directions = check_seed(random_state).standard_normal((n_projections, z.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    squared = [np.mean((np.quantile(z @ d, levels) - normal) ** 2) for d in directions]
    return float(np.sqrt(np.mean(squared)))


def reconstruction_r2(estimator: Any, X: Any, y: Any = None, *, weights: str = "feature") -> float:
    """Share of the variance of X that ``inverse_transform(transform(X))`` reconstructs.

    One minus residual over total sum of squares, summed over all columns and all entries that are
    not NaN. The total is around the column means of X. Works with any transformer that has an
    inverse, and as ``scoring=``.

    Parameters
    ----------
    estimator : fitted transformer with ``transform`` and ``inverse_transform``

    X : array-like, dataframe or sparse matrix of shape (n_samples, n_features)
        If ``inverse_transform`` returns a dataframe, columns of numbers and dates are used alone.

    y : ignored
        Exists so that the function can be used as a scorer.

    weights : {"feature", "none", "estimator"}, default="feature"
        Weights of the columns in both sums. "feature" is the inverse of the variance in X: the
        result is the mean R² of the columns. "none" stands for equal weights, which suit images,
        spectra and other columns with the same units. "estimator" weights columns as the estimator
        scales them; for estimators without scaling, and pipelines, it is "none". Do not compare
        different estimators with it. Dataframes that come back as such need one of the other two.

    Returns
    -------
    r2 : float
        At most 1; negative if the column means are a better reconstruction.

    Raises
    ------
    ValueError
        If ``weights`` is invalid, the estimator has no inverse, or X has no variance or no column
        of numbers.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklearn_wiseale.diagnostics import reconstruction_r2
    >>> X = load_iris().data
    >>> pca = PCA(2).fit(X)
    >>> round(reconstruction_r2(pca, X), 3), round(reconstruction_r2(pca, X, weights="none"), 3)
    (0.933, 0.978)
    """
    for method in ("transform", "inverse_transform"):
        if not hasattr(estimator, method):
            raise ValueError(
                "estimator must be a fitted transformer with transform and inverse_transform. "
                f"Got {estimator!r}, which has no {method}."
            )
    if not isinstance(weights, str) or weights not in ("estimator", "feature", "none"):
        raise ValueError(f"weights must be 'estimator', 'feature' or 'none'. Got {weights!r}.")
    back = estimator.inverse_transform(estimator.transform(X))
    library = library_of(back)
    if library is not None and library_of(X) is not None:
        if weights == "estimator":
            raise ValueError(
                "weights must be 'feature' or 'none' for a dataframe that inverse_transform "
                f"returns as one. Got {weights!r}."
            )
        X, back = number_columns(library, X, back)[1]
    X = check_array(X, accept_sparse="csr", ensure_all_finite="allow-nan")
    X = np.asarray(X.toarray() if hasattr(X, "toarray") else X, dtype=np.float64)
    observed = ~np.isnan(X)
    residual = np.where(observed, X - np.asarray(back), 0.0)
    first = X[observed.argmax(axis=0), np.arange(X.shape[1])]
    shifted = np.where(observed, X - first, 0.0)  # exactly 0 in a constant column
    mean = shifted.sum(axis=0) / np.maximum(observed.sum(axis=0), 1)
    total = (np.where(observed, shifted - mean, 0.0) ** 2).sum(axis=0)
    if weights == "estimator":
        scaling = getattr(estimator, "_scaling", None)
        column_weights = np.ones(X.shape[1]) if scaling is None else scaling.scale**-2.0
    elif weights == "feature":
        column_weights = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
    else:
        column_weights = np.ones(X.shape[1])
    weighted_total = float(total @ column_weights)
    if not weighted_total > 0:
        raise ValueError("X must have at least one column that varies. Got constant columns.")
    return 1.0 - float((residual**2).sum(axis=0) @ column_weights) / weighted_total


def _matrix(name: str, values: Any, limit: float = _LIMIT) -> np.ndarray:
    """Return values as a float32 or float64 matrix of numbers up to a limit."""
    try:
        dtypes = [np.float64, np.float32]
        matrix = check_array(as_numpy(values, name), dtype=dtypes, input_name=name)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name} must be a matrix of finite numbers. {error}") from error
    largest = float(np.abs(matrix).max())
    if largest > limit:
        raise ValueError(
            f"{name} must lie in [-{limit:g}, {limit:g}], so that float64 holds second moments. "
            f"Got absolute values up to {largest:g}."
        )
    return matrix
