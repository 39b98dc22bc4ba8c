"""Curves of the loss over the epochs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from . import _base

__all__ = ["TrainingDisplay"]

#: Terms of the objective, in the order of the panels, and the labels of their axes.
_TERMS = {"loss": "loss", "reconstruction": "reconstruction", "divergence": "weighted\ndivergence"}
#: Rows on which the terms are measured, with the label and the style of the line.
_ROWS = {"train": ("training rows", "-"), "valid": ("held-out rows", "--")}
#: Largest number of epochs that get markers.
_MOST_MARKS = 20


@_base.documented
@dataclass(kw_only=True, eq=False, repr=False)
class TrainingDisplay:
    """Loss, reconstruction term and weighted divergence of each epoch.

    Each term has a panel, in nats per row and scaled units, with one curve for the training rows
    and one for the rows held out, if any. The loss is the sum of the reconstruction term (minus
    the log-likelihood) and the weighted divergence. Use :meth:`from_estimator` to create a display.

    Parameters
    ----------
    epochs, curves : ndarray of shape (n_epochs,), and dict of ndarray of shape (n_epochs,)
        Numbers of the epochs, and their "train_loss", "valid_loss" and so on, as in ``history_``.
        NaN where an epoch has no value.

    best_epoch : int, default=None
        Epoch with the lowest loss of the held-out rows.

    bounds : tuple (lower, upper), default=None
        Bounds on the divergence of the aggregate posterior from the prior, nats.

    missing : sequence of str, default=()
        Names of what the estimator does not have.

    Attributes
    ----------
    figure_, ax_, axes_ : matplotlib Figure, Axes, and ndarray of Axes of shape (3,)
        The figure, the first panel, and all panels: loss, reconstruction and divergence.

    lines_, best_lines_ : dict and list of Line2D
        The curves by name, and the best epoch in each panel, empty if there is none.

    bounds_text_, missing_text_, legend_ : matplotlib Text, Text and Legend, or None

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn_wiseale import WiSEALETransformer
    >>> from sklearn_wiseale.plotting import TrainingDisplay
    >>> X = load_wine().data
    >>> reducer = WiSEALETransformer(2, max_epochs=3, random_state=0).fit(X)
    >>> display = TrainingDisplay.from_estimator(reducer)
    >>> len(display.lines_["train_loss"].get_xdata())
    3
    """

    epochs: np.ndarray
    curves: dict[str, np.ndarray]
    best_epoch: int | None = None
    bounds: tuple[float, float] | None = None
    missing: Any = ()

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> Self:
        """Draw the history of an estimator.

        Parameters
        ----------
        estimator : fitted WiSEALETransformer
            After several calls of ``partial_fit``, or with ``warm_start``, all epochs are drawn,
            and the best epoch is that of the last fit.

        ax : matplotlib Axes or array of 3 Axes, default=None
            Axes to draw in; None creates a figure. Single Axes are divided into panels.
        """
        _base.check_estimator(cls, estimator, "history_")
        history, missing, best = list(estimator.history_), [], None
        rule = "estimator must have at least one epoch in history_"
        got = f"{type(estimator).__name__} with an empty history_"
        _base.require(len(history) > 0, rule, got)
        curves = {}
        for key in (f"{rows}_{term}" for rows in _ROWS for term in _TERMS):
            curve = np.array([row.get(key, np.nan) for row in history], dtype=np.float64)
            if not np.isnan(curve).all():
                curves[key] = curve
        if not any(key.startswith("train") for key in curves):
            missing.append("losses in history_")
        if "valid_loss" in curves:
            latest = curves["valid_loss"][-int(getattr(estimator, "n_iter_", len(history))) :]
            if np.isfinite(latest).any():
                best = len(history) - len(latest) + int(np.nanargmin(latest)) + 1
        if best is None:
            missing.append("held-out rows, best epoch")
        bounds = getattr(estimator, "aggregate_kl_bounds_", None)
        if bounds is None:
            missing.append("aggregate_kl_bounds_")
        bounds = None if bounds is None else (float(bounds[0]), float(bounds[1]))
        epochs = np.arange(1, len(history) + 1)
        display = cls(epochs=epochs, curves=curves, best_epoch=best, bounds=bounds, missing=missing)
        return display.plot(ax=ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw the curves."""
        plt = _base.import_pyplot(f"{type(self).__name__}.plot")
        self.axes_ = _base.panel_axes(plt, ax, len(_TERMS), 1, (6.0, 5.4))
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
        self.lines_, self.best_lines_ = {}, []
        marker = "o" if len(self.epochs) <= _MOST_MARKS else None
        colours = _base.palette(self.ax_)[0], _base.OKABE_ITO[3]
        for panel, (term, name) in zip(self.axes_, _TERMS.items(), strict=True):
            for colour, (rows, (label, dashes)) in zip(colours, _ROWS.items(), strict=True):
                curve = self.curves.get(f"{rows}_{term}")
                if curve is not None:
                    line: dict[str, Any] = {"color": colour, "linestyle": dashes, "label": label}
                    line |= {"linewidth": 1.4, "marker": marker, "markersize": 3.5}
                    (self.lines_[f"{rows}_{term}"],) = panel.plot(self.epochs, curve, **line)
            if self.best_epoch is not None:
                line = {"color": _base.ink(panel), "linestyle": ":", "linewidth": 1.1}
                line["label"] = f"best epoch, {self.best_epoch}"
                self.best_lines_.append(panel.axvline(self.best_epoch, **line))
            panel.set_ylabel(name)
            panel.xaxis.set_major_locator(plt.MaxNLocator(6, integer=True))
            panel.yaxis.set_major_locator(plt.MaxNLocator(4))
            if panel is not self.axes_[-1]:
                panel.tick_params(labelbottom=False)
        self.axes_[-1].set_xlabel("epoch")
        if ax is None:
            self.figure_.align_ylabels(self.axes_)
        self._write()
        return self

    def _write(self) -> None:
        """Write the bounds, what is missing, and the legend."""
        self.bounds_text_ = self.missing_text_ = self.legend_ = None
        small: dict[str, Any] = {"fontsize": "small", "loc": "right"}
        if self.bounds is not None:
            text = "aggregate KL from {:.2g} to {:.2g} nats".format(*self.bounds)
            self.bounds_text_ = self.axes_[-1].set_title(text, **small)
        if self.missing:
            text = f"missing: {'; '.join(self.missing)}"
            self.missing_text_ = self.axes_[1].set_title(text, **small)
        if self.ax_.get_legend_handles_labels()[0]:
            above: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "ncols": 3}
            above |= {"frameon": False, "borderaxespad": 0.2, "columnspacing": 1.2}
            self.legend_ = self.ax_.legend(fontsize="small", **above)
