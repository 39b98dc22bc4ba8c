"""Variance by component, columns of components, and columns that make rows unlikely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from .._data.validation import check_count
from . import _base

__all__ = ["ContributionsDisplay", "ExplainedVarianceDisplay", "LoadingsDisplay"]

#: Panels of loadings in a line.
_PANELS = 2
#: Largest numbers of rows and columns with labels in an image of contributions.
_LABELLED = 30


@_base.documented
@dataclass(kw_only=True, eq=False, repr=False)
class ExplainedVarianceDisplay:
    """Share of the variance that each component reconstructs, and its running sum.

    Use :meth:`from_estimator` to create a display.

    Parameters
    ----------
    ratio : ndarray of shape (n_components,)
        Shares, as in ``explained_variance_ratio_``.

    Attributes
    ----------
    figure_, ax_, bars_, line_ : matplotlib Figure, Axes, BarContainer and Line2D
        The bars are the shares, the line is their running sum.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn_wiseale import WiSEALETransformer
    >>> from sklearn_wiseale.plotting import ExplainedVarianceDisplay
    >>> reducer = WiSEALETransformer(4, max_epochs=3, random_state=0).fit(load_wine().data)
    >>> len(ExplainedVarianceDisplay.from_estimator(reducer).bars_)
    4
    """

    ratio: np.ndarray

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> Self:
        """Draw the shares of an estimator.

        Parameters
        ----------
        estimator : fitted estimator
            With ``explained_variance_ratio_``, such as WiSEALETransformer or PCA.

        ax : matplotlib Axes, default=None
            Axes to draw in; None creates a figure.
        """
        _base.check_estimator(cls, estimator, "transform", "explained_variance_ratio_")
        return cls(ratio=np.asarray(estimator.explained_variance_ratio_)).plot(ax=ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw the shares."""
        plt = _base.import_pyplot(f"{type(self).__name__}.plot")
        self.ax_ = _base.single_axes(plt, ax, (5.6, 3.6))
        self.figure_ = self.ax_.figure
        numbers, colours = np.arange(len(self.ratio)), _base.palette(self.ax_)
        self.bars_ = self.ax_.bar(numbers, self.ratio, color=colours[0], label="component")
        line: dict[str, Any] = {"color": colours[3], "marker": "o", "markersize": 3.5}
        total = np.cumsum(self.ratio)
        (self.line_,) = self.ax_.plot(numbers, total, **line, label="up to this component")
        self.ax_.xaxis.set_major_locator(plt.MaxNLocator(8, integer=True))
        self.ax_.set(xlabel="component", ylabel="share of variance", ylim=(None, max(1.0, *total)))
        self.ax_.legend(fontsize="small", frameon=False, loc="center right")
        return self


@_base.documented
@dataclass(kw_only=True, eq=False, repr=False)
class LoadingsDisplay:
    """Columns that change most with each component.

    Each component has a panel with a bar for each column. Use :meth:`from_estimator` to create a
    display.

    Parameters
    ----------
    loadings : ndarray of shape (n_components, n_features)
        Changes of the columns, in their standard deviations, with one standard deviation of the
        component.

    components : sequence of str
        Names of the components.

    features : sequence of str
        Names of the columns.

    Attributes
    ----------
    figure_, ax_, axes_ : matplotlib Figure, Axes, and ndarray of Axes of shape (n_components,)
        The figure, the first panel, and all panels.

    bars_ : list of BarContainer
        The bars of each component.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn_wiseale import WiSEALETransformer
    >>> from sklearn_wiseale.plotting import LoadingsDisplay
    >>> wine = load_wine(as_frame=True).data
    >>> reducer = WiSEALETransformer(2, max_epochs=3, random_state=0).fit(wine)
    >>> len(LoadingsDisplay.from_estimator(reducer, max_features=5).bars_[0])
    5
    """

    loadings: np.ndarray
    components: Any
    features: Any

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any = None,
        *,
        components: Any = None,
        max_features: int = 8,
        ax: Any = None,
    ) -> Self:
        """Draw the loadings of an estimator.

        Parameters
        ----------
        estimator : fitted WiSEALETransformer

        X : array-like of shape (n_samples, n_features), default=None
            Rows over which loadings are averaged; by default, training rows.

        components : int or sequence of int, default=None
            Numbers of the components to draw; by default, the first four.

        max_features : int, default=8
            Maximum number of columns to draw: those with the largest changes.

        ax : matplotlib Axes or array of Axes, default=None
            Axes to draw in, one per component; None creates a figure. Single Axes are divided into
            panels.
        """
        _base.check_estimator(cls, estimator, "loadings")
        check_count("max_features", max_features)
        found = estimator.loadings(X, scaled=True)
        values = _base.as_dense(found).reshape(len(found), -1)
        if components is None:
            components = range(min(4, len(values)))
        allowed = range(1, len(values) + 1)
        chosen = _base.check_components(components, len(values), allowed)
        names = _base.component_names(estimator, len(values))
        features = _base.feature_names(estimator, values.shape[1], found)
        shown = [names[k] for k in chosen]
        display = cls(loadings=values[chosen], components=shown, features=features)
        return display.plot(max_features=max_features, ax=ax)

    def plot(self, ax: Any = None, *, max_features: int = 8) -> Self:
        """Draw the bars."""
        plt = _base.import_pyplot(f"{type(self).__name__}.plot")
        n = min(check_count("max_features", max_features), self.loadings.shape[1])
        n_columns = min(_PANELS, len(self.loadings))
        n_lines = -(-len(self.loadings) // n_columns)
        size = (3.6 * n_columns, n_lines * (0.7 + 0.24 * n))
        self.axes_ = _base.panel_axes(plt, ax, len(self.loadings), n_columns, size)
        self.ax_, self.figure_, self.bars_ = self.axes_[0], self.axes_[0].figure, []
        for panel, name, values in zip(self.axes_, self.components, self.loadings, strict=True):
            order = np.argsort(-np.abs(values), kind="stable")[:n]
            self.bars_.append(_bars(panel, values[order], [self.features[j] for j in order]))
            panel.set_title(_base.shortened(name), fontsize="medium")
        self.axes_[-1].set_xlabel("change, sd of the column")
        return self


@_base.documented
@dataclass(kw_only=True, eq=False, repr=False)
class ContributionsDisplay:
    """Columns that make rows more or less likely.

    One row is drawn as bars, several rows as an image. Use :meth:`from_estimator` to create a
    display.

    Parameters
    ----------
    contributions : ndarray of shape (n_samples, n_features)
        Nats, as from ``contributions``.

    features, rows : sequence of str
        Names of the columns and of the rows.

    Attributes
    ----------
    figure_, ax_ : matplotlib Figure and Axes

    bars_, image_ : matplotlib BarContainer and AxesImage
        One of them is None.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn_wiseale import WiSEALETransformer
    >>> from sklearn_wiseale.plotting import ContributionsDisplay
    >>> wine = load_wine(as_frame=True).data
    >>> reducer = WiSEALETransformer(2, max_epochs=3, random_state=0).fit(wine)
    >>> odd = wine[:1].assign(ash=9.0)
    >>> display = ContributionsDisplay.from_estimator(reducer, odd, reference=wine)
    >>> display.ax_.get_yticklabels()[0].get_text()
    'ash'
    """

    contributions: np.ndarray
    features: Any
    rows: Any

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        reference: Any = None,
        max_features: int = 12,
        ax: Any = None,
    ) -> Self:
        """Draw the contributions of columns to the scores of rows.

        Parameters
        ----------
        estimator : fitted WiSEALETransformer

        X : array-like of shape (n_samples, n_features)

        reference : array-like of shape (n, n_features), default=None
            Ordinary rows, whose mean contributions are subtracted.

        max_features : int, default=12
            Maximum number of columns to draw: those with the largest contributions.

        ax : matplotlib Axes, default=None
            Axes to draw in; None creates a figure.
        """
        _base.check_estimator(cls, estimator, "contributions")
        check_count("max_features", max_features)
        found = estimator.contributions(X, reference=reference)
        values = _base.as_dense(found).reshape(len(found), -1)
        features = _base.feature_names(estimator, values.shape[1], found)
        rows = [str(name) for name in getattr(found, "index", range(len(values)))]
        display = cls(contributions=values, features=features, rows=rows)
        return display.plot(max_features=max_features, ax=ax)

    def plot(self, ax: Any = None, *, max_features: int = 12) -> Self:
        """Draw the bars or the image."""
        plt = _base.import_pyplot(f"{type(self).__name__}.plot")
        n = min(check_count("max_features", max_features), self.contributions.shape[1])
        n_rows, self.bars_, self.image_ = len(self.contributions), None, None
        order = np.argsort(-np.abs(self.contributions).max(axis=0), kind="stable")[:n]
        names = [self.features[j] for j in order]
        if n_rows == 1:
            self.ax_ = _base.single_axes(plt, ax, (5.6, 0.8 + 0.24 * n))
            self.bars_ = _bars(self.ax_, self.contributions[0, order], names)
            self.ax_.set_xlabel("contribution, nats")
        else:
            height = float(np.clip(1.2 + 0.2 * n_rows, 2.4, 8.0))
            self.ax_ = _base.single_axes(plt, ax, (2.0 + 0.34 * n, height))
            self._draw_image(order, names)
        self.figure_ = self.ax_.figure
        return self

    def _draw_image(self, order: np.ndarray, names: list[str]) -> None:
        values = self.contributions[:, order]
        limit = float(np.abs(values).max()) or 1.0
        style: dict[str, Any] = {"cmap": "RdBu", "vmin": -limit, "vmax": limit, "aspect": "auto"}
        self.image_ = self.ax_.imshow(values, interpolation="nearest", **style)
        if len(names) <= _LABELLED:
            labels = [_base.shortened(name) for name in names]
            self.ax_.set_xticks(range(len(names)), labels, rotation=90, fontsize="small")
        if len(values) <= _LABELLED:
            labels = [_base.shortened(name) for name in self.rows]
            self.ax_.set_yticks(range(len(values)), labels, fontsize="small")
        self.ax_.grid(False)
        bar = self.ax_.figure.colorbar(self.image_, ax=self.ax_)
        bar.set_label("contribution, nats")


def _bars(ax: Any, values: np.ndarray, names: list[str]) -> Any:
    """Draw horizontal bars, the first at the top, in a colour for each sign."""
    colours = _base.palette(ax)
    signs = [colours[0] if value >= 0 else colours[3] for value in values]
    bars = ax.barh(np.arange(len(values)), values, color=signs)
    labels = [_base.shortened(name) for name in names]
    ax.set_yticks(range(len(values)), labels, fontsize="small")
    ax.invert_yaxis()
    ax.axvline(0.0, color=_base.ink(ax), linewidth=0.8)
    return bars
