"""Warnings about the end of a fit."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from .._model.start import tail_shares

__all__ = ["warn_of_collapse", "warn_of_end", "warn_of_tails"]

#: Share of the whole fall of the held-out loss from which a fall in the last quarter is too late.
_LATE_SHARE = 0.1
#: Share of a column's variance that its tails may add without a warning.
_TAIL_SHARE = 0.95
_SHOWN = 5  # names of columns


def warn_of_end(estimator: Any) -> None:
    """Warn if the held-out loss did not fall, or still fell at the end of max_epochs="auto"."""
    if "start_losses_" not in vars(estimator):
        return
    n_iter = estimator.n_iter_
    rows = [estimator.start_losses_, *estimator.history_[-n_iter:]]
    if not all("valid_loss" in row for row in rows):  # in a checkpoint that was changed
        return
    losses = [row["valid_loss"] for row in rows]
    useless = estimator.best_epoch_ == 0 and min(losses) == losses[0]
    if useless and n_iter >= estimator.n_iter_no_change:
        warnings.warn(
            "The start (PCA, with the default network) was given back: in "
            f"{n_iter} epochs the loss of held-out rows did not fall below that of the "
            "start. X may have no structure beyond it; or lower learning_rate, or the weight "
            f"of objective={estimator.objective!r}.",
            UserWarning,
            stacklevel=3,
        )
    elif estimator.max_epochs == "auto" and estimator.stop_reason_ == "max_epochs":
        late = min(losses[: 1 + 3 * n_iter // 4]) - min(losses)
        if late > max(estimator.tol, _LATE_SHARE * (losses[0] - min(losses))):
            warnings.warn(
                f"Training ended after {n_iter} epochs, the limit of max_epochs='auto', "
                f"while the loss of held-out rows still fell, by {late:.2g} nats in the last "
                f"quarter of them. Try max_epochs={2 * n_iter}.",
                ConvergenceWarning,
                stacklevel=3,
            )


def warn_of_tails(X: Any, names: np.ndarray | None, estimator: Any) -> None:
    """Warn if a few entries have nearly all of the variance by which a column is scaled."""
    modes = estimator._built["likelihood"].scale_modes(estimator.scale, X.shape[1])
    shares = tail_shares(X, modes)
    heavy = np.flatnonzero(shares > _TAIL_SHARE)
    if not len(heavy):
        return
    shown = ", ".join(str(i) if names is None else repr(names[i]) for i in heavy[:_SHOWN])
    more = f" and {len(heavy) - _SHOWN} others" if len(heavy) > _SHOWN else ""
    warnings.warn(
        f"A few entries, far from the others, have more than {_TAIL_SHARE:.0%} of the variance of "
        f"column {shown}{more}, and determine scaling and codes. Try likelihood='student_t', or a "
        "transformation of the column, such as its logarithm.",
        UserWarning,
        stacklevel=3,
    )


def warn_of_collapse(n_active: int, estimator: Any) -> None:
    """Warn if components are not in use."""
    n_components, n_axes = estimator.n_components_, estimator._n_axes
    objective = estimator._built["objective"]
    if n_active == n_components:
        return
    if n_active < n_axes:
        advice = f"Lower n_components, or the weight of objective={objective}, or train for longer."
    else:
        advice = f"X has variance for {n_axes} only: lower n_components."
    warnings.warn(
        f"Of {n_components} components only {n_active} are in use: the codes of the "
        f"others hardly vary (variance below 0.01). {advice}",
        UserWarning,
        stacklevel=3,
    )
