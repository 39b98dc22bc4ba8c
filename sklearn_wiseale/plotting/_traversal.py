"""What codes decode to."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from scipy.stats import norm

from .._data.validation import Interval, check_count
from . import _base

__all__ = ["TraversalDisplay"]

#: Components that are drawn where none is asked for.
_MOST_COMPONENTS = 8
#: Features whose names are written.
_MOST_NAMES = 16
#: And those of which are slanted rather than upright.
_MOST_SLANTED = 8
#: Steps whose codes are written below images.
_MOST_TICKS = 7
#: Codes drawn from the prior, to see how much each feature varies.
_N_DRAWS = 500


@_base.documented
class TraversalDisplay:
    """What codes decode to, along components or over a plane.

    Images of an estimator with two components make a grid over the plane of the codes, at
    quantiles of the prior, so that every cell stands for the same share of it. Otherwise one
    component is moved at a time and the others stay at zero, the prior's mean: images make a line
    a component, tables a panel a component with one profile over the features for each code.
    Make it with :meth:`from_estimator`.

    Parameters
    ----------
    codes : ndarray of shape (n_lines, n_steps, n_components)
        Codes that were decoded.

    decoded : ndarray of shape (n_lines, n_steps, n_features)
        What they decode to, in the units of X.

    components : sequence of int
        The components that are moved: the horizontal and the vertical one of a grid, or one a
        line.

    names : sequence of str
        Names of all components.

    grid : bool, default=False
        Whether lines and steps span the plane of two components.

    image_shape : tuple of int, default=None
        Shape of an image; None for tables.

    features : sequence of str, default=None
        Names of the features.

    centre, sd : ndarray of shape (n_features,), default=None
        Profiles are drawn as ``(decoded - centre) / sd``; None for the units of X.

    Attributes
    ----------
    figure_ : matplotlib Figure

    axes_ : ndarray of Axes
        One a panel; images have a single panel. ``ax_`` is the first of them.

    images_ : ndarray of AxesImage of shape (n_lines, n_steps), or None

    lines_ : ndarray of Line2D of shape (n_lines, n_steps), or None

    colorbar_ : matplotlib Colorbar or None

    See Also
    --------
    EmbeddingDisplay : Where rows lie among the codes.

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

    def __init__(
        self,
        *,
        codes: np.ndarray,
        decoded: np.ndarray,
        components: Any,
        names: Any,
        grid: bool = False,
        image_shape: tuple[int, ...] | None = None,
        features: Any = None,
        centre: np.ndarray | None = None,
        sd: np.ndarray | None = None,
    ) -> None:
        self.codes, self.decoded, self.components, self.names = codes, decoded, components, names
        self.grid, self.image_shape, self.features = grid, image_shape, features
        self.centre, self.sd = centre, sd

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
    ) -> TraversalDisplay:
        """Decode codes and draw what they decode to.

        Parameters
        ----------
        estimator : fitted WiSEALETransformer
            Or another with ``inverse_transform``, ``posterior`` and ``get_feature_names_out``
            whose prior is N(0, I). Codes of PCA have no such prior, so it is refused.

        image_shape : tuple of int, default=None
            (height, width), or with 1 or 3 channels before or after these; draws images. Not
            needed where ``inverse_transform`` gives images of shape (n_samples, C, H, W).

        n_steps : int, default=9
            Codes a component, at least 2.

        components : int or sequence of int, default=None
            Components that are moved; None for all, but no more than the first 8.

        span : float, default=2.0
            Codes go from -span to span, in standard deviations of the prior. A grid goes by
            quantiles instead: (i + 1/2) / n_steps for i = 0, ..., n_steps - 1.

        units : {"auto", "data", "sd"}, default="auto"
            Of the profiles of a table: "data" draws values in the units of X; "sd" the difference
            to what the code zero decodes to, in standard deviations of each feature under the
            model, noise included. "auto" takes "sd" where ``noise_scale_`` has a number for each
            feature, that is where they have units of their own.

        ax : matplotlib Axes or array of Axes, default=None
            Axes to draw in; None makes a figure. A table divides given Axes into panels, or takes
            as many as it has panels.

        cmap : str or Colormap, default=None
            For images of one channel, by default "gray", or for profiles, by default the part of
            viridis that stands out from the background.
        """
        _base.import_pyplot(f"{cls.__name__}.from_estimator")
        needs = ("inverse_transform", "posterior", "get_feature_names_out")
        _base.check_estimator(estimator, cls.__name__, *needs)
        n_steps = check_count("n_steps", n_steps, least=2)
        positive = Interval(Real, 0, None, closed="neither").is_satisfied_by(span)
        _base.require(positive, "span must be a number > 0", repr(span))
        _base.check_choice("units", units, "auto", "data", "sd")
        k = len(estimator.get_feature_names_out())
        if components is None:
            components = range(min(k, _MOST_COMPONENTS))
        chosen = _base.check_components(components, k, range(1, k + 1))
        centre = _base.as_dense(estimator.inverse_transform(np.zeros((1, k))))
        if image_shape is None and centre.ndim == 4:
            image_shape = centre.shape[1:]
        if image_shape is not None:
            image_shape = _base.check_image_shape(image_shape, centre.size)
        grid = k == 2 and len(chosen) == 2 and image_shape is not None
        codes = _codes(n_steps, None if grid else float(span), chosen, k)
        decoded = _base.as_dense(estimator.inverse_transform(codes.reshape(-1, k)))
        own_units = np.ndim(getattr(estimator, "noise_scale_", 0.0)) == 1
        relative = units == "sd" or (units == "auto" and own_units)
        sd = _model_sd(estimator, k) if relative and image_shape is None else None
        display = cls(
            codes=codes,
            decoded=decoded.reshape(*codes.shape[:2], -1),
            components=chosen,
            names=_base.component_names(estimator, k),
            grid=grid,
            image_shape=image_shape,
            features=_base.feature_names(estimator, centre.size),
            centre=None if sd is None else centre.ravel(),
            sd=sd,
        )
        return display.plot(ax=ax, cmap=cmap)

    def plot(self, ax: Any = None, *, cmap: Any = None) -> TraversalDisplay:
        """Draw what the codes decode to."""
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
            for j, code in enumerate(moved[i]):
                (lines[i, j],) = panel.plot(
                    values[i, j], color=colours.to_rgba(code), linewidth=1.2, **style
                )
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
    """Codes (n_lines, n_steps, k), of which one component a line is moved from -span to span.

    Without a span, codes (n_steps, n_steps, 2) at the middles of cells of equal mass under the
    prior: the first component goes rightwards, the second upwards.
    """
    if span is None:
        levels = norm.ppf((np.arange(n_steps) + 0.5) / n_steps)
        plane = np.stack(np.meshgrid(levels, levels), axis=-1)
        return plane[..., components]
    codes = np.zeros((len(components), n_steps, k))
    codes[range(len(components)), :, components] = np.linspace(-span, span, n_steps)
    return codes


def _model_sd(estimator: Any, k: int) -> np.ndarray:
    """Standard deviation of each feature under the model: of the decoded prior, and noise."""
    draws = np.random.RandomState(0).standard_normal((_N_DRAWS, k))
    decoded = _base.as_dense(estimator.inverse_transform(draws)).reshape(_N_DRAWS, -1)
    noise = np.nan_to_num(getattr(estimator, "noise_scale_", 0.0))
    return np.sqrt(decoded.var(axis=0) + noise**2)


def _short(code: float) -> str:
    return f"{0.0 if abs(code) < 5e-3 else code:.2g}".replace("-", "\N{MINUS SIGN}")
