"""Number of components from fits with several numbers of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.model_selection import KFold
from sklearn.utils import _safe_indexing

from ._training.plan import split_rows
from .diagnostics import reconstruction_r2

__all__ = ["choose_n_components"]

#: Numbers of components that are tried first.
_LADDER = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32)
#: Numbers of the ladder without a better one, after which it is left.
_PATIENCE = 3
#: Share of the rows that judge. Up to so many rows, each row is judged once, in 4 folds.
_HELD_OUT, _FEW_ROWS = 0.25, 2000
#: Numbers that are judged on all folds.
_CONTENDERS = 5
#: Nats that a smaller number of components may cost.
_MAX_LOSS = 0.2


def choose_n_components(estimator: Any, X: Any, n_features: int, asked: Any) -> int:
    """Number of components for ``n_components="auto"``, or for a share of variance in (0, 1).

    Copies of the estimator are fitted to three quarters of the rows. "auto" is the smallest number
    whose score of the other rows is within 0.2 nats and one standard error, over rows, of the best
    one. Up to 2,000 rows, the best numbers are compared in four folds. For a share, it is the
    smallest number that reconstructs this share of the other rows' variance.
    """
    seed = int(estimator.random_state) if isinstance(estimator.random_state, Integral) else 0
    folds = _folds(X.shape[0], n_features, seed)
    most = min(n_features, _LADDER[-1])

    def fitted(k: int, train: np.ndarray) -> Any:
        params = {**estimator.get_params(deep=False), "n_components": k, "random_state": seed}
        params |= {"checkpoint": None, "verbose": 0, "warm_start": False}
        if params["net_params"]:
            kept = params["net_params"].items()
            params["net_params"] = {name: value for name, value in kept if name != "callbacks"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return type(estimator)(**params).fit(_safe_indexing(X, train))

    def score(k: int, fold: int) -> np.ndarray:
        train, held_out = folds[fold]
        return fitted(k, train).score_samples(_safe_indexing(X, held_out))

    if asked == "auto":
        return _by_score(score, len(folds), most)
    train, held_out = folds[0]
    rows, share = _safe_indexing(X, held_out), float(asked)
    return _by_share(lambda k: _share(fitted(k, train), rows) >= share, most, share)


def _folds(n: int, n_features: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows to train on and rows to judge by, once or in folds."""
    n_folds = round(1 / _HELD_OUT)
    if n_folds <= n <= _FEW_ROWS:
        return list(KFold(n_folds, shuffle=True, random_state=seed).split(np.empty(n)))
    return [split_rows(n, n_features, _HELD_OUT, np.random.RandomState(seed))]


def _by_score(score: Callable[[int, int], np.ndarray], n_folds: int, most: int) -> int:
    """The smallest number that is as good as the best one up to its error.

    ``score(k, fold)`` gives the scores of the rows of a fold. The first fold finds contenders, and
    all folds decide among them.
    """
    found: dict[int, np.ndarray] = {}

    def best() -> int:
        return max(found, key=lambda k: found[k].mean())

    ladder = sorted({*(k for k in _LADDER if k < most), most})
    for place, k in enumerate(ladder):
        found[k] = score(k, 0)
        if place - ladder.index(best()) == _PATIENCE:
            break
    for _ in range(2):  # numbers between those of the ladder
        k = best()
        for middle in ((k + max([j for j in found if j < k], default=k)) // 2, _above(found, k)):
            if middle not in found:
                found[middle] = score(middle, 0)
    if n_folds > 1:
        contenders = sorted(found, key=lambda k: -found[k].mean())[:_CONTENDERS]
        found = {
            k: np.concatenate([found[k], *(score(k, fold) for fold in range(1, n_folds))])
            for k in contenders
        }
    top = found[best()]
    losses = {k: top - scores for k, scores in found.items()}
    return min(
        k
        for k, loss in losses.items()
        if loss.mean() <= min(_MAX_LOSS, loss.std() / np.sqrt(len(loss)))
    )


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
