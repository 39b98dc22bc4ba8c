"""Number of components from fits with several numbers of them."""

from __future__ import annotations

import warnings
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing

from ._training.plan import split_rows
from .diagnostics import reconstruction_r2

__all__ = ["choose_n_components"]

#: Numbers of components that are tried first, and share of the rows that judge them.
_LADDER = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
_HELD_OUT = 0.25
#: Numbers of the ladder without a better one, after which it is left.
_PATIENCE = 2
#: Nats that a smaller number of components may cost.
_MAX_LOSS = 0.2


def choose_n_components(estimator: Any, X: Any, n_features: int, asked: Any) -> int:
    """Number of components for ``n_components="auto"``, or for a share of variance in (0, 1).

    Copies of the estimator are fitted to three quarters of the rows. "auto" is the smallest number
    whose score of the other rows is within 0.2 nats and one standard error, over rows, of the best
    one. For a share, it is the smallest number that reconstructs this share of the other rows'
    variance.
    """
    seed = int(estimator.random_state) if isinstance(estimator.random_state, Integral) else 0
    rng = np.random.RandomState(seed)
    train, held_out = (
        _safe_indexing(X, rows) for rows in split_rows(X.shape[0], n_features, _HELD_OUT, rng)
    )
    most = min(n_features, _LADDER[-1])

    def fitted(k: int) -> Any:
        params = {**estimator.get_params(deep=False), "n_components": k, "random_state": seed}
        params |= {"checkpoint": None, "verbose": 0, "warm_start": False}
        if params["net_params"]:
            kept = params["net_params"].items()
            params["net_params"] = {name: value for name, value in kept if name != "callbacks"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return type(estimator)(**params).fit(train)

    if asked == "auto":
        return _by_score(lambda k: fitted(k).score_samples(held_out), most)
    share = float(asked)
    return _by_share(lambda k: _share(fitted(k), held_out) >= share, most, share)


def _by_score(score: Any, most: int) -> int:
    """The smallest number whose scores, (n,), are as good as the best ones up to their error."""
    found: dict[int, np.ndarray] = {}

    def best() -> int:
        return max(found, key=lambda k: found[k].mean())

    ladder = sorted({*(k for k in _LADDER if k < most), most})
    for place, k in enumerate(ladder):
        found[k] = score(k)
        if place - ladder.index(best()) == _PATIENCE:
            break
    for _ in range(2):  # numbers between those of the ladder
        k = best()
        for middle in ((k + max([j for j in found if j < k], default=k)) // 2, _above(found, k)):
            if middle not in found:
                found[middle] = score(middle)
    top = found[best()]
    for k in sorted(found):
        loss = top - found[k]
        if loss.mean() <= min(_MAX_LOSS, loss.std() / np.sqrt(len(loss))):
            return k
    return best()


def _above(found: dict[int, Any], k: int) -> int:
    """The number in the middle between k and the next one found."""
    return (k + min((j for j in found if j > k), default=k) + 1) // 2


def _by_share(reaches: Any, most: int, share: float) -> int:
    """The smallest number that reaches the share, by bisection from the ladder."""
    low = 0
    for high in sorted({*(k for k in _LADDER if k < most), most}):
        if reaches(high):
            break
        low = high
    else:
        warnings.warn(
            f"n_components={share!r} asks for a share of variance that {most} components do not "
            f"reconstruct. n_components_ is {most}.",
            UserWarning,
            stacklevel=2,
        )
        return most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def _share(model: Any, X: Any) -> float:
    weights = "feature" if hasattr(model, "column_likelihoods_") else "estimator"
    return reconstruction_r2(model, X, weights=weights)
