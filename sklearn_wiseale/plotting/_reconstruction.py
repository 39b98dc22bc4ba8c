"""Rows and their reconstructions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from sklearn.metrics import r2_score
from sklearn.utils import _safe_indexing

from .._data.frames import library_of, number_columns
from .._data.validation import check_count, check_seed
from . import _base

__all__ = ["ReconstructionDisplay"]

#: Rows that are drawn by default: images, and points per panel.
_N_IMAGES, _N_POINTS = 8, 1000


@_base.documented
@dataclass(kw_only=True, eq=False, repr=False)
class ReconstructionDisplay:
    """Rows of X and their reconstructions, ``inverse_transform(transform(X))``.

    Images are drawn in two lines, originals above reconstructions, with the same colours. A table
    gets one panel per feature: reconstructed against original values, the line where both are
    equal, and the R² of the feature. Use :meth:`from_estimator` to create a display.

    Parameters
    ----------
    original, reconstruction : ndarray of shape (n_rows, n_features)
        Values that are drawn, in the units of X. Missing entries of ``original`` are NaN. For a
        table, only features with a panel.

    image_shape : tuple of int, default=None
        Shape of an image; None for tables.

    names, r2 : sequence of str, and ndarray of shape (n_features,), default=None
        Name of each feature, and share of its variance that is reconstructed, NaN if undefined.

    Attributes
    ----------
    figure_, ax_, axes_ : matplotlib Figure, Axes, and ndarray of Axes
        The figure, the first panel, and all panels. Images have one panel.

    images_ : ndarray of AxesImage of shape (2, n_rows), or None

    scatters_, lines_ : list of PathCollection and list of Line2D
        For each panel of a table, the points, and the line where both values are equal.

    See Also
    --------
    sklearn_wiseale.diagnostics.reconstruction_r2 : R² over all features.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from sklearn_wiseale.plotting import ReconstructionDisplay
    >>> X = load_digits().data
    >>> pca = PCA(8).fit(X)  # or WiSEALETransformer(8)
    >>> display = ReconstructionDisplay.from_estimator(pca, X, image_shape=(8, 8))
    >>> display.images_.shape
    (2, 8)
    """

    original: np.ndarray
    reconstruction: np.ndarray
    image_shape: tuple[int, ...] | None = None
    names: Any = None
    r2: np.ndarray | None = None

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        image_shape: Any = None,
        n_rows: int | None = None,
        max_features: int = 9,
        random_state: Any = None,
        ax: Any = None,
        cmap: Any = "gray",
        scatter_kwargs: Any = None,
    ) -> Self:
        """Reconstruct rows of X and draw them with the originals.

        Parameters
        ----------
        estimator : fitted transformer
            With ``transform`` and ``inverse_transform``, such as PCA or a pipeline.

        X : array-like, dataframe or sparse matrix of shape (n_samples, n_features), or images
            Images of shape (n_samples, C, H, W) need no ``image_shape``. Missing values are
            allowed if the estimator allows them. Missing points are not drawn, missing pixels
            are blue. Of a dataframe that ``inverse_transform`` returns as one, columns of numbers
            and dates are drawn.

        image_shape : tuple of int, default=None
            Draw images of shape (height, width), or with 1 or 3 channels first or last.

        n_rows : int, default=None
            Rows that are drawn; None for 8 images, or 1,000 rows of a table.

        max_features : int, default=9
            Panels of a table: the features of largest variance, in the order of the columns.

        random_state : int, RandomState instance or None, default=None
            Chooses the rows at random; None takes rows evenly spaced over X.

        ax : matplotlib Axes or array of Axes, default=None
            Axes to draw in; None creates a figure. For a table, either single Axes, which are
            divided into panels, or one per panel.

        cmap : str or Colormap, default="gray"
            For images with one channel.

        scatter_kwargs : dict, default=None
            Arguments for matplotlib's ``scatter`` that override the defaults of the display.
        """
        _base.check_estimator(cls, estimator, "transform", "inverse_transform")
        max_features = check_count("max_features", max_features)
        if n_rows is not None:
            n_rows = check_count("n_rows", n_rows)
        X = X if hasattr(X, "shape") else np.asarray(X)
        rule = "X must have shape (n_samples, n_features) or, for images, (n_samples, C, H, W)"
        _base.require(len(X.shape) in (2, 4), rule, f"shape {X.shape}")
        n_features = int(np.prod(X.shape[1:]))
        if image_shape is None and len(X.shape) == 4:
            image_shape = tuple(X.shape[1:])
        names = _base.feature_names(estimator, n_features, X)
        r2, images = None, image_shape is not None
        if images:
            image_shape = _base.check_image_shape(image_shape, n_features)
            X = _safe_indexing(X, _some_rows(X.shape[0], n_rows or _N_IMAGES, random_state))
        original, reconstruction, of_frame = _reconstruct(estimator, X)
        names = of_frame or names
        if not images:
            r2, variance = _by_feature(original, reconstruction)
            features = np.sort(np.argsort(-variance, kind="stable")[:max_features])
            chosen = np.ix_(_some_rows(len(original), n_rows or _N_POINTS, random_state), features)
            original, reconstruction, r2 = original[chosen], reconstruction[chosen], r2[features]
            names = [names[f] for f in features]
        drawn = {"original": original, "reconstruction": reconstruction}
        display = cls(**drawn, image_shape=image_shape, names=names, r2=r2)
        return display.plot(ax=ax, cmap=cmap, scatter_kwargs=scatter_kwargs)

    def plot(self, ax: Any = None, *, cmap: Any = "gray", scatter_kwargs: Any = None) -> Self:
        """Draw the rows."""
        plt = _base.import_pyplot(f"{type(self).__name__}.plot")
        self.images_: np.ndarray | None = None
        self.scatters_: list[Any] = []
        self.lines_: list[Any] = []
        if self.image_shape is not None:
            rows, shape = np.stack([self.original, self.reconstruction]), self.image_shape
            cmap = _base.check_cmap(plt, cmap)
            ax, self.images_ = _base.draw_images(plt, ax, rows, shape, cmap, self.original)
            ax.set_yticklabels(["original", "reconstructed"])
            ax.set_xticks([])
            self.axes_ = np.array([ax], dtype=object)
        else:
            self._plot_table(plt, ax, _base.check_keywords("scatter_kwargs", scatter_kwargs))
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
        return self

    def _plot_table(self, plt: Any, ax: Any, scatter_kwargs: dict[str, Any]) -> None:
        """Draw one panel per feature, two or three panels side by side."""
        (n_points, n), n_columns = self.original.shape, 3
        if hasattr(ax, "get_window_extent"):
            n_columns = int(np.clip(ax.get_window_extent().width / ax.figure.dpi // 1.4, 2, 3))
        n_columns = min(n, n_columns)
        size = (max(2.2 * n_columns, 3.2), max(2.0 * -(-n // n_columns) + 0.3, 2.8))
        self.axes_ = _base.panel_axes(plt, ax, n, n_columns, size)
        style = {"s": float(np.clip(2000 / max(n_points, 1), 4, 14)), "alpha": 0.6, "linewidths": 0}
        style |= {"color": _base.palette(self.axes_[0])[0], **scatter_kwargs}
        line: dict[str, Any] = {"linewidth": 0.9, "alpha": 0.6, "zorder": 1.5}
        names = [f"x{i}" for i in range(n)] if self.names is None else self.names
        for i, panel in enumerate(self.axes_):
            seen = np.isfinite(self.original[:, i])
            x, back = self.original[seen, i], self.reconstruction[seen, i]
            ends = _limits(np.concatenate([x, back]))
            self.lines_ += panel.plot(ends, ends, color=_base.ink(panel), **line)
            self.scatters_.append(panel.scatter(x, back, **style))
            panel.set(xlim=ends, ylim=ends)
            panel.ticklabel_format(useOffset=False)
            panel.xaxis.set_major_locator(plt.MaxNLocator(2))
            panel.yaxis.set_major_locator(plt.MaxNLocator(3))
            panel.tick_params(labelsize="small")
            title = _base.shortened(names[i])
            if self.r2 is not None:
                title += "\nR² undefined" if np.isnan(self.r2[i]) else f"\nR² {self.r2[i]:.2f}"
            panel.set_title(title, fontsize="small")
            if i % n_columns == 0:
                panel.set_ylabel("reconstructed", fontsize="small")
            if i + n_columns >= n:
                panel.set_xlabel("original", fontsize="small")


def _some_rows(n: int, n_rows: int, random_state: Any) -> np.ndarray:
    """Return the numbers of rows to draw, ascending: random, or evenly spaced."""
    n_rows = min(n, n_rows)
    if random_state is None:
        return np.linspace(0, n - 1, n_rows).round().astype(int)
    return np.sort(check_seed(random_state).choice(n, n_rows, replace=False))


def _reconstruct(estimator: Any, X: Any) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return originals and reconstructions, (n_samples, n_features) each, float64.

    If reconstructions are a dataframe, they are its columns of numbers and dates. The names of
    these are the last value, which is else empty.
    """
    back = estimator.inverse_transform(estimator.transform(X))
    library = library_of(back)
    if library is not None and library_of(X) is not None:
        names, arrays = number_columns(library, X, back)
        return *arrays, list(map(str, names))
    original, back = _base.as_dense(X), _base.as_dense(back)
    rule = "estimator must have an inverse_transform that returns the shape of X, "
    got = f"{type(estimator).__name__}, which returns {back.shape}"
    _base.require(back.shape == original.shape, f"{rule}{original.shape}", got)
    return original.reshape(len(original), -1), back.reshape(len(back), -1), []


def _by_feature(original: np.ndarray, reconstruction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return R² and variance of each column, over its observed entries."""
    r2, variance = np.full(original.shape[1], np.nan), np.zeros(original.shape[1])
    for j, seen in enumerate(np.isfinite(original).T):
        column = original[seen, j]
        if len(column) and np.ptp(column) > 0:
            variance[j], r2[j] = column.var(), r2_score(column, reconstruction[seen, j])
    return r2, variance


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Return the range of values, with a margin."""
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin
