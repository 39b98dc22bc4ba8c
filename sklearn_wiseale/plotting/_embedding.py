"""Scatter plots and histograms of codes."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any, Self

import numpy as np
from scipy.stats import norm

from .._data.validation import check_count
from . import _base

__all__ = ["EmbeddingDisplay"]

#: Largest number of classes with a legend; more classes get a colour bar.
_LEGEND_CLASSES = 20
#: More points are small and transparent, and drawn as an image in vector files.
_MANY = 10_000
#: Radii at which the prior is drawn, in standard deviations.
_PRIOR_RADII = (1, 2, 3)


@_base.documented
@dataclass(kw_only=True, eq=False, repr=False)
class EmbeddingDisplay:
    """Scatter plot of two components of the codes, or histogram of one, coloured by a target.

    In the histogram each row is a point: its code is the horizontal position, and the points of a
    bin are stacked. Use :meth:`from_estimator` to create a display.

    Parameters
    ----------
    codes, names : ndarray of shape (n_samples, 1 or 2), and sequence of str
        Components that are drawn, and their names.

    y, target_name : ndarray of shape (n_samples,), and str, default=None
        Target that colours the points, and its name. Floats are numbers and get a colour bar. Other
        dtypes are classes and get a legend or, if there are more than 20, a colour bar.

    std, std_rows : ndarray of shape (n_ellipses, 1 or 2) and (n_ellipses,), default=None
        Standard deviations of the posteriors that are drawn, and their rows in ``codes``, by
        default the first rows.

    prior : bool, default=False
        Draw the prior N(0, I).

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure

    scatter_ : matplotlib PathCollection
        The points, in the order of ``codes``.

    ellipses_ : matplotlib EllipseCollection, LineCollection or None
        Posteriors: ellipses or, for one component, lines.

    prior_ : list of matplotlib artists
        Circles or, for one component, the line of the density.

    classes_ : ndarray or None
        Sorted classes of ``y``.

    texts_ : list of matplotlib Text
        Names of the classes at their medians, if there are 9 to 20 classes and two components.

    legend_ : matplotlib Legend or None
        Beside the axes if the figure has a layout engine, else inside them. Inside the axes it
        does not list classes that are in ``texts_``.

    colorbar_ : matplotlib Colorbar or None

    See Also
    --------
    ReconstructionDisplay : Compares rows with their reconstructions.
    TraversalDisplay : Draws decoded codes.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn_wiseale import WiSEALETransformer
    >>> from sklearn_wiseale.plotting import EmbeddingDisplay
    >>> X, y = load_wine(return_X_y=True)
    >>> reducer = WiSEALETransformer(2, max_epochs=2, random_state=0).fit(X)
    >>> display = EmbeddingDisplay.from_estimator(reducer, X, y, posterior="ellipses")
    >>> display.ax_.get_xlabel()
    'wisealetransformer0'
    """

    codes: np.ndarray
    names: Any
    y: np.ndarray | None = None
    target_name: str | None = None
    std: np.ndarray | None = None
    std_rows: np.ndarray | None = None
    prior: bool = False

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        components: Any = (0, 1),
        posterior: bool | str = False,
        max_ellipses: int = 200,
        prior: bool | str = "auto",
        ax: Any = None,
        scatter_kwargs: Any = None,
    ) -> Self:
        """Transform X and draw the codes.

        Parameters
        ----------
        estimator : fitted transformer
            With ``transform``, such as PCA or a pipeline; ``posterior`` needs a
            ``WiSEALETransformer``.

        X : array-like, dataframe or sparse matrix of shape (n_samples, n_features)
            Rows that ``estimator.transform`` accepts.

        y : array-like of shape (n_samples,), default=None
            Classes or numbers that colour the points. Strings, booleans and at most 20 distinct
            whole numbers are classes. Missing values are an error.

        components : int or tuple of int, default=(0, 1)
            One or two components. The default also works if there is only one component.

        posterior : {False, True, "ellipses"}, default=False
            Draw posteriors as ellipses whose half-axes are one standard deviation.

        max_ellipses : int, default=200
            Largest number of posteriors drawn. Their rows are evenly spaced over X.

        prior : bool or "auto", default="auto"
            Draw the prior N(0, I): circles at 1, 2 and 3 standard deviations or, for one
            component, its density. "auto" draws it for estimators with a method ``posterior``.

        ax : matplotlib Axes, default=None
            Axes to draw in; None creates a figure.

        scatter_kwargs : dict, default=None
            Arguments for matplotlib's ``scatter`` that override the defaults of the display.
        """
        needs = ("transform", "posterior") if posterior else ("transform",)
        _base.check_estimator(cls, estimator, *needs)
        _base.check_choice("posterior", posterior, False, True, "ellipses")
        _base.check_choice("prior", prior, True, False, "auto")
        max_ellipses = check_count("max_ellipses", max_ellipses)
        codes, std = estimator.posterior(X) if posterior else (estimator.transform(X), None)
        codes = _base.as_dense(codes)
        rule = f"estimator must have codes of shape (n_samples, n_components) for {cls.__name__}"
        got = f"{type(estimator).__name__} with codes of shape {codes.shape}"
        _base.require(codes.ndim == 2, rule, got)
        n, k = codes.shape
        if k == 1 and isinstance(components, tuple) and components == (0, 1):
            components = 0
        chosen = _base.check_components(components, k, (1, 2))
        values, target_name = (None, None) if y is None else _read_target(y, n)
        rows = None
        if std is not None:
            rows = np.linspace(0, n - 1, min(n, max_ellipses)).round().astype(int)
            std = _base.as_dense(std)[rows][:, chosen]
        names = _base.component_names(estimator, k)
        display = cls(
            codes=codes[:, chosen],
            names=[names[c] for c in chosen],
            y=values,
            target_name=target_name,
            std=std,
            std_rows=rows,
            prior=hasattr(estimator, "posterior") if prior == "auto" else bool(prior),
        )
        return display.plot(ax=ax, scatter_kwargs=scatter_kwargs)

    def plot(self, ax: Any = None, *, scatter_kwargs: Any = None) -> Self:
        """Draw the codes."""
        plt = _base.import_pyplot(f"{type(self).__name__}.plot")
        scatter_kwargs = _base.check_keywords("scatter_kwargs", scatter_kwargs)
        ax = self.ax_ = _base.single_axes(plt, ax)
        self.figure_ = ax.figure
        single = self.codes.shape[1] == 1
        points, bin_width = _stacked(self.codes[:, 0], self.y) if single else (self.codes, 0.0)
        n = len(points)
        style = {"s": float(np.clip(6000 / max(n, 1), 4, 24)), "alpha": 0.85 if n <= 2000 else 0.5}
        if n > _MANY:  # points let others through and show the density; files stay small
            style = {"s": 2.0, "alpha": max(0.05, 5000 / n), "rasterized": True}
        style |= {"linewidths": 0, "zorder": 2.5, **self._colours(), **scatter_kwargs}
        self.scatter_ = ax.scatter(*points.T, **style)
        self.prior_ = self._draw_prior(plt, bin_width) if self.prior else []
        self.ellipses_ = self._draw_posteriors(points) if self.std is not None else None
        self._draw_keys(plt, single)
        ax.set(xlabel=self.names[0], ylabel="rows" if single else self.names[1])
        if single:
            ax.set_ylim(bottom=0)
        elif self.prior:
            ax.set_aspect("equal", adjustable="datalim")  # round circles
        return self

    def _colours(self) -> dict[str, Any]:
        """Return the arguments of ``scatter`` that colour the points, and set ``classes_``."""
        self.classes_: np.ndarray | None = None
        if self.y is None:
            return {"color": _base.palette(self.ax_)[0]}
        if self.y.dtype.kind == "f":
            return {"c": self.y, "cmap": _base.sequential(self.ax_)}
        self.classes_, index = np.unique(self.y, return_inverse=True)
        if len(self.classes_) > _LEGEND_CLASSES:
            return {"c": index, "cmap": _base.sequential(self.ax_)}
        return {"color": _base.class_colours(len(self.classes_), self.ax_)[index]}

    def _draw_prior(self, plt: Any, bin_width: float) -> list[Any]:
        """Draw the prior: circles, or its density at the scale of the histogram."""
        ax, line = self.ax_, {"linewidth": 0.9, "alpha": 0.55, "zorder": 1.5}
        if bin_width:
            z = np.linspace(-3.5, 3.5, 201)
            height = norm.pdf(z) * bin_width * len(self.codes)
            return ax.plot(z, height, color=_base.ink(ax), **line)
        line |= {"fill": False, "edgecolor": _base.ink(ax)}
        return [ax.add_patch(plt.Circle((0.0, 0.0), radius, **line)) for radius in _PRIOR_RADII]

    def _draw_posteriors(self, points: np.ndarray) -> Any:
        from matplotlib.collections import EllipseCollection, LineCollection

        std = np.asarray(self.std)
        rows = np.arange(len(std)) if self.std_rows is None else self.std_rows
        centres = points[rows]
        self.scatter_.update_scalarmappable()
        colours = self.scatter_.get_facecolors()
        colours = colours[rows] if len(colours) == len(points) else colours
        line: dict[str, Any] = {"edgecolors": colours, "linewidths": 0.8, "alpha": 0.6, "zorder": 2}
        if std.shape[1] == 1:
            ends = [centres + std * [side, 0.0] for side in (-1.0, 1.0)]
            return self.ax_.add_collection(LineCollection(list(np.stack(ends, axis=1)), **line))
        line |= {"facecolors": "none", "offsets": centres, "offset_transform": self.ax_.transData}
        wide, high = 2 * std.T
        ellipses = EllipseCollection(wide, high, np.zeros(len(std)), units="xy", **line)
        self.ax_.add_collection(ellipses, autolim=False)
        self.ax_.update_datalim(np.concatenate([centres - std, centres + std]))
        self.ax_.autoscale_view()
        return ellipses

    def _draw_keys(self, plt: Any, single: bool) -> None:
        """Draw the legend, and the names of classes or the colour bar of the target."""
        self.legend_ = self.colorbar_ = None
        self.texts_: list[Any] = []
        listed = self.classes_ is not None and len(self.classes_) <= _LEGEND_CLASSES
        room = self.figure_.get_layout_engine() is not None
        keys: list[dict[str, Any]] = []
        if listed:
            classes = np.asarray(self.classes_)
            colours = _base.class_colours(len(classes), self.ax_)
            if len(classes) > len(_base.palette(self.ax_)) and not single:
                self._name_classes(classes)
            if room or not self.texts_:  # inside the axes, a long legend would hide the points
                dot = {"marker": "o", "linestyle": "none", "markersize": 5}
                for name, colour in zip(classes, colours, strict=True):
                    keys.append({"label": _base.shortened(name), "color": colour, **dot})
        elif self.y is not None:
            self._draw_colorbar()
        line: dict[str, Any] = {"color": _base.ink(self.ax_)}
        if self.std is not None:
            n = len(self.std)
            label = "±1 sd" if n == len(self.codes) else f"±1 sd of\n{n} rows"
            ring = {} if single else {"linestyle": "none", "marker": "o", "fillstyle": "none"}
            keys.append({"label": label, "linewidth": 0.8, **line, **ring})
        if self.prior_:
            label = "prior" if single else "prior,\n1 to 3 sd"
            keys.append({"label": label, "linewidth": 0.9, "alpha": 0.55, **line})
        if not keys:
            return
        style: dict[str, Any] = {"fontsize": "small", "handlelength": 1.4, "handletextpad": 0.5}
        style |= {"loc": "upper right", "ncols": 2 if len(keys) > 14 else 1}
        if listed:
            style["title"] = self.target_name
        if listed and room:
            style |= {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0.0}
        handles = [plt.Line2D([], [], **key) for key in keys]
        self.legend_ = self.ax_.legend(handles=handles, **style)

    def _draw_colorbar(self) -> None:
        bar = self.colorbar_ = self.figure_.colorbar(self.scatter_, ax=self.ax_)
        bar.solids.set_alpha(1.0)
        bar.set_label(self.target_name or "y")
        if self.classes_ is not None:
            some = np.unique(np.linspace(0, len(self.classes_) - 1, 9).round().astype(int))
            bar.set_ticks(some, labels=[*map(_base.shortened, self.classes_[some])])

    def _name_classes(self, classes: np.ndarray) -> None:
        """Write the name of each class at its median: there are more classes than colours."""
        from matplotlib.patheffects import withStroke

        halo = [withStroke(linewidth=3, foreground=self.ax_.get_facecolor())]
        style: dict[str, Any] = {"ha": "center", "va": "center", "weight": "bold", "zorder": 3}
        style |= {"color": _base.ink(self.ax_), "path_effects": halo}
        for name in classes:
            median = np.median(self.codes[self.y == name], axis=0)
            self.texts_.append(self.ax_.text(*median, _base.shortened(name), **style))


def _read_target(y: Any, n: int) -> tuple[np.ndarray, str | None]:
    """Return the target, and its name: classes as ints, bools or strings, numbers as float64."""
    name = getattr(y, "name", None)
    values = np.asarray(y)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    rule = f"y must have shape ({n},), one value for each row of X"
    _base.require(values.shape == (n,), rule, f"shape {values.shape}")
    given = values.tolist()
    missing = [i for i, value in enumerate(given) if _is_missing(value)]
    if missing:
        raise ValueError(
            f"y must not have missing values. Got {values[missing[0]]!r} for row {missing[0]} and "
            f"{len(missing)} in all: drop these rows, or replace the values with a class."
        )
    if values.dtype.kind == "O" and all(isinstance(value, Real) for value in given):
        values = np.asarray(given)
    elif values.dtype.kind in "OUT":
        values = values.astype(str)
    known = values.dtype.kind in "biufU"
    _base.require(known, "y must hold numbers, booleans or strings", f"dtype {values.dtype}")
    if values.dtype.kind not in "bU":
        infinite = values[~np.isfinite(values)]
        if len(infinite):
            raise ValueError(f"y must be finite. Got {infinite[0]!r}.")
        with np.errstate(invalid="ignore"):
            whole = values.astype(np.int64)
        classes = np.array_equal(whole, values) and len(np.unique(whole)) <= _LEGEND_CLASSES
        values = whole if classes else values.astype(np.float64)
    return values, None if name is None else str(name)


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ == "NAType" or value != value


def _stacked(code: np.ndarray, y: np.ndarray | None) -> tuple[np.ndarray, float]:
    """Return the points (n, 2) of a histogram of codes, and the width of its bins.

    Points of a bin are stacked in the order of y, so that equal colours are adjacent.
    """
    n_bins = int(np.clip(2 * np.sqrt(len(code)), 10, 80))
    spread = float(np.ptp(code))
    width = spread / n_bins if spread > 0 else 1.0
    bins = np.minimum((code - code.min()) // width, n_bins - 1).astype(int)
    order = np.lexsort((code if y is None else np.unique(y, return_inverse=True)[1], bins))
    first = np.searchsorted(bins[order], bins[order], side="left")
    height = np.empty(len(code))
    height[order] = np.arange(len(code)) - first + 0.5
    return np.column_stack([code, height]), width
