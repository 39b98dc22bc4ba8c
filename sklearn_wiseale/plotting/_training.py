"""The course of training."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _base

__all__ = ["TrainingDisplay"]

#: Terms of the objective, in the order of the panels, and what their axes are called.
_TERMS = {"loss": "loss", "reconstruction": "reconstruction", "divergence": "weighted\ndivergence"}
#: Rows by which they are measured: what they are called, and the style of their lines.
_ROWS = {"train": ("training rows", "-"), "valid": ("held-out rows", "--")}
#: Epochs that are marked one by one.
_MOST_MARKS = 20


@_base.documented
class TrainingDisplay:
    """The terms of the objective, epoch by epoch.

    Three panels, in nats a row and scaled units: the loss, and its two terms, minus the
    log-likelihood of the reconstruction and the divergence times its weight. Each for the rows
    that are trained on and, where there are such, for the rows held out, by which the best epoch
    is chosen. Make it with :meth:`from_estimator`.

    Parameters
    ----------
    epochs : ndarray of shape (n_epochs,)
        Numbers of the epochs.

    curves : dict of ndarray of shape (n_epochs,)
        "train_loss", "valid_loss" and so on, as in ``history_``; NaN where an epoch has no such
        number.

    best_epoch : int, default=None
        The epoch in which the loss of the held-out rows is lowest.

    bounds : tuple (lower, upper), default=None
        Bounds on the divergence of the aggregate posterior from the prior, nats.

    missing : sequence of str, default=()
        What there was nothing to show of, and why.

    Attributes
    ----------
    figure_ : matplotlib Figure

    axes_ : ndarray of Axes of shape (3,)
        Of loss, reconstruction and divergence; ``ax_`` is the first of them.

    lines_ : dict of Line2D
        By the names of the curves.

    best_lines_ : list of Line2D
        Where the best epoch is, one a panel; empty where there is none.

    bounds_text_, missing_text_ : matplotlib Text or None

    legend_ : matplotlib Legend or None

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

    def __init__(
        self,
        *,
        epochs: np.ndarray,
        curves: dict[str, np.ndarray],
        best_epoch: int | None = None,
        bounds: tuple[float, float] | None = None,
        missing: Any = (),
    ) -> None:
        self.epochs, self.curves, self.best_epoch = epochs, curves, best_epoch
        self.bounds, self.missing = bounds, missing

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> TrainingDisplay:
        """Draw the history of an estimator.

        Parameters
        ----------
        estimator : fitted WiSEALETransformer
            By ``fit`` or ``partial_fit``; after several of the latter, or with ``warm_start``,
            all epochs are drawn, and the best is that of the latest fit.

        ax : matplotlib Axes or array of 3 Axes, default=None
            Axes to draw in; None makes a figure. Single Axes are divided into panels.
        """
        _base.import_pyplot(f"{cls.__name__}.from_estimator")
        _base.check_estimator(estimator, cls.__name__, "history_")
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

    def plot(self, ax: Any = None) -> TrainingDisplay:
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
        """What is said in words."""
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
