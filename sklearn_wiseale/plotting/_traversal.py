"""Decoded codes: images over the plane of codes, or profiles along components."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any, Self

import numpy as np
from scipy.stats import norm

from .._data.validation import Interval, check_count
from . import _base

__all__ = ["TraversalDisplay"]

#: Components that are drawn by default.
_MOST_COMPONENTS = 8
#: Features with names on the axis, and those whose names are slanted and not upright.
_MOST_NAMES, _MOST_SLANTED = 16, 8
#: Ticks below images.
_MOST_TICKS = 7
#: Draws from the prior that estimate the standard deviation of each feature.
_N_DRAWS = 500


@_base.documented
@dataclass(kw_only=True, eq=False, repr=False)
class TraversalDisplay:
    """Decoded codes, along single components or over the plane of two.

    For images and two components, the images form a grid over the plane of codes. Its codes are
    quantiles of the prior, so that all cells have the same probability. Otherwise one component
    varies at a time and the others are zero, the mean of the prior: each component has a line of
    images or, for tables, a panel with one profile over the features for each code. Use
    :meth:`from_estimator` to create a display.

    Parameters
    ----------
    codes, decoded : ndarray of shape (n_lines, n_steps, n_components or n_features)
        Codes, and the decoded codes in the units of X.

    components : sequence of int
        Components that vary: the horizontal and the vertical one of a grid, or one per line.

    names, features : sequence of str
        Names of all components, and of the features, by default "x0", "x1", ...

    grid : bool, default=False
        Whether lines and steps form a grid over two components.

    image_shape : tuple of int, default=None
        Shape of an image; None for tables.

    centre, sd : ndarray of shape (n_features,), default=None
        Profiles are drawn as ``(decoded - centre) / sd``, or in the units of X if None.

    Attributes
    ----------
    figure_, ax_, axes_ : matplotlib Figure, Axes, and ndarray of Axes
        The figure, the first panel, and all panels. Images have one panel.

    images_, lines_ : ndarray of AxesImage or Line2D of shape (n_lines, n_steps), or None
        Images, or profiles of a table.

    colorbar_ : matplotlib Colorbar or None

    See Also
    --------
    EmbeddingDisplay : Draws the codes of rows.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn_wiseale import WiSEALETransformer
    >>> from sklearn_wiseale.plotting import TraversalDisplay
    >>> X = load_wine().data
    >>> reducer = WiSEALETransformer(2, max_epochs=2, random_state=0).fit(X)
    >>> display = TraversalDisplay.from_estimator(reducer, n_steps=5)
    >>> display.lines_.shape
    (2, 5)
    """

    codes: np.ndarray
    decoded: np.ndarray
    components: Any
    names: Any
    grid: bool = False
    image_shape: tuple[int, ...] | None = None
    features: Any = None
    centre: np.ndarray | None = None
    sd: np.ndarray | None = None

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        image_shape: Any = None,
        n_steps: int = 9,
        components: Any = None,
        span: float = 2.0,
        units: str = "auto",
        ax: Any = None,
        cmap: Any = None,
    ) -> Self:
        """Decode codes and draw the results.

        Parameters
        ----------
        estimator : fitted WiSEALETransformer
            Or another estimator with ``inverse_transform``, ``posterior`` and
            ``get_feature_names_out`` whose prior is N(0, I).

        image_shape : tuple of int, default=None
            Draw images of shape (height, width), or with 1 or 3 channels first or last. By
            default, images are drawn if ``inverse_transform`` returns the shape (n, C, H, W).

        n_steps : int, default=9
            Codes per component, at least 2.

        components : int or sequence of int, default=None
            Components that vary; None for the first 8.

        span : float, default=2.0
            Codes range from -span to span, in standard deviations of the prior. In a grid they
            are the quantiles (i + 1/2) / n_steps, i = 0, ..., n_steps - 1, instead.

        units : {"auto", "data", "sd"}, default="auto"
            Units of the profiles of a table. "data" stands for those of X. "sd" draws the
            difference from the decoded code zero, in standard deviations of each feature under the
            model, noise included. "auto" is "sd" if ``noise_scale_`` has one number per feature,
            else "data".

        ax : matplotlib Axes or array of Axes, default=None
            Axes to draw in; None creates a figure. For a table, either single Axes, which are
            divided into panels, or one per panel.

        cmap : str or Colormap, default=None
            For images with one channel, by default "gray", or for profiles, by default the part
            of viridis that stands out from the background.
        """
        needs = ("inverse_transform", "posterior", "get_feature_names_out")
        _base.check_estimator(cls, estimator, *needs)
        n_steps = check_count("n_steps", n_steps, least=2)
        positive = Interval(Real, 0, None, closed="neither").is_satisfied_by(span)
        _base.require(positive, "span must be a number > 0", repr(span))
        _base.check_choice("units", units, "auto", "data", "sd")
        k = len(estimator.get_feature_names_out())
        if components is None:
            components = range(min(k, _MOST_COMPONENTS))
        chosen = _base.check_components(components, k, range(1, k + 1))
        centre, names = _base.decoded(estimator, np.zeros((1, k)))
        if image_shape is None and centre.ndim == 4:
            image_shape = centre.shape[1:]
        if image_shape is not None:
            image_shape = _base.check_image_shape(image_shape, centre.size)
        grid = k == 2 and len(chosen) == 2 and image_shape is not None
        codes = _codes(n_steps, None if grid else float(span), chosen, k)
        decoded, _ = _base.decoded(estimator, codes.reshape(-1, k))
        own_units = np.ndim(getattr(estimator, "noise_scale_", 0.0)) == 1
        relative = units == "sd" or (units == "auto" and own_units)
        sd = _model_sd(estimator, k, names) if relative and image_shape is None else None
        display = cls(
            codes=codes,
            decoded=decoded.reshape(*codes.shape[:2], -1),
            components=chosen,
            names=_base.component_names(estimator, k),
            grid=grid,
            image_shape=image_shape,
            features=names or _base.feature_names(estimator, centre.size),
            centre=None if sd is None else centre.ravel(),
            sd=sd,
        )
        return display.plot(ax=ax, cmap=cmap)

    def plot(self, ax: Any = None, *, cmap: Any = None) -> Self:
        """Draw the decoded codes."""
        plt = _base.import_pyplot(f"{type(self).__name__}.plot")
        cmap = _base.check_cmap(plt, cmap)
        self.images_: np.ndarray | None = None
        self.lines_: np.ndarray | None = None
        self.colorbar_ = None
        if self.image_shape is not None:
            self._plot_images(plt, ax, cmap or "gray")
        else:
            self._plot_profiles(plt, ax, cmap)
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
        return self

    def _plot_images(self, plt: Any, ax: Any, cmap: Any) -> None:
        rows, order = self.decoded, 1 if self.grid else -1
        ax, self.images_ = _base.draw_images(plt, ax, rows, self.image_shape, cmap, rows, order)
        self.axes_ = np.array([ax], dtype=object)
        first, *others = self.components
        ticks = [_short(code) for code in self.codes[0, :, first]]
        apart = -(-len(ticks) // _MOST_TICKS)
        ax.set_xticks(ax.get_xticks()[::apart], ticks[::apart])
        if self.grid:
            ax.set(xlabel=self.names[first], ylabel=self.names[others[0]], yticklabels=ticks)
        else:
            names = [_base.shortened(self.names[c]) for c in self.components]
            ax.set(xlabel="code", yticklabels=names)

    def _plot_profiles(self, plt: Any, ax: Any, cmap: Any) -> None:
        n_lines, n_steps, n_features = self.decoded.shape
        n_columns = 1 if n_lines <= 4 else 2
        size = (6.4, 1.1 + 1.7 * -(-n_lines // n_columns))
        self.axes_ = _base.panel_axes(plt, ax, n_lines, n_columns, size)
        values = self.decoded
        if self.sd is not None:
            values = (values - self.centre) / np.where(self.sd > 0, self.sd, 1.0)
        moved = np.array([self.codes[i, :, c] for i, c in enumerate(self.components)])
        cmap, few = cmap or _base.sequential(self.axes_[0]), n_features <= _MOST_NAMES
        colours = plt.cm.ScalarMappable(plt.Normalize(moved.min(), moved.max()), cmap)
        style: dict[str, Any] = {"marker": "o", "markersize": 2.5} if few else {}
        slant: dict[str, Any] = {"rotation": 90}
        if n_features <= _MOST_SLANTED:
            slant = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        names = self.features or [f"x{f}" for f in range(n_features)]
        lines = self.lines_ = np.empty((n_lines, n_steps), dtype=object)
        for i, panel in enumerate(self.axes_):
            lines[i] = panel.plot(values[i].T, linewidth=1.2, **style)
            for line, code in zip(lines[i], moved[i], strict=True):
                line.set_color(colours.to_rgba(code))
            panel.set_title(self.names[self.components[i]], fontsize="small")
            panel.tick_params(labelsize="small")
            panel.set_ylabel("value" if self.sd is None else "change, sd", fontsize="small")
            last = i + n_columns >= n_lines
            if few:
                labels = [_base.shortened(name) if last else "" for name in names]
                panel.set_xticks(range(n_features), labels, **slant)
            elif last:
                panel.set_xlabel("feature", fontsize="small")
        figure = self.axes_[0].figure
        self.colorbar_ = figure.colorbar(colours, ax=list(self.axes_), label="code")


def _codes(n_steps: int, span: float | None, components: list[int], k: int) -> np.ndarray:
    """Return codes (n_lines, n_steps, k): in line i, component i goes from -span to span.

    If span is None, the codes (n_steps, n_steps, 2) are the centres of cells of equal probability
    under the prior. The first component increases to the right, the second upwards.
    """
    if span is None:
        levels = norm.ppf((np.arange(n_steps) + 0.5) / n_steps)
        plane = np.stack(np.meshgrid(levels, levels), axis=-1)
        return plane[..., components]
    codes = np.zeros((len(components), n_steps, k))
    codes[range(len(components)), :, components] = np.linspace(-span, span, n_steps)
    return codes


def _model_sd(estimator: Any, k: int, names: list[str]) -> np.ndarray:
    """Return the standard deviation of each feature under the model, noise included."""
    draws = np.random.RandomState(0).standard_normal((_N_DRAWS, k))
    decoded = _base.decoded(estimator, draws)[0].reshape(_N_DRAWS, -1)
    noise = np.nan_to_num(getattr(estimator, "noise_scale_", 0.0))
    if names:  # a dataframe's, where a category has several columns
        columns = list(map(str, estimator.column_likelihoods_))
        by_name = dict(zip(columns, np.broadcast_to(noise, len(columns)), strict=True))
        noise = np.array([by_name.get(name, 0.0) for name in names])
    return np.sqrt(decoded.var(axis=0) + noise**2)


def _short(code: float) -> str:
    return f"{0.0 if abs(code) < 5e-3 else code:.2g}".replace("-", "\N{MINUS SIGN}")
