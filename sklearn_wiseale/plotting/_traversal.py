"""What codes decode to."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import norm

from .._arguments import check_count
from ._base import (
    as_dense,
    as_images,
    check_cmap,
    check_components,
    check_estimator,
    check_image_shape,
    check_positive,
    component_names,
    draw_mosaic,
    feature_names,
    image_range,
    import_pyplot,
    mosaic_size,
    panel_axes,
    sequential,
    shortened,
    single_axes,
)

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
        One a panel; images have a single panel.

    ax_ : matplotlib Axes
        The first of them.

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
        self.codes = codes
        self.decoded = decoded
        self.components = components
        self.names = names
        self.grid = grid
        self.image_shape = image_shape
        self.features = features
        self.centre = centre
        self.sd = sd

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

        Returns
        -------
        display : TraversalDisplay

        Raises
        ------
        ValueError
            If an argument is not what is allowed.

        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        import_pyplot(f"{cls.__name__}.from_estimator")
        needs = ("inverse_transform", "posterior", "get_feature_names_out")
        check_estimator(estimator, cls.__name__, *needs)
        n_steps, span = check_count("n_steps", n_steps, least=2), check_positive("span", span)
        if units not in ("auto", "data", "sd"):
            raise ValueError(f"units must be 'auto', 'data' or 'sd'. Got {units!r}.")
        k = len(estimator.get_feature_names_out())
        if components is None:
            components = range(min(k, _MOST_COMPONENTS))
        chosen = check_components(components, k, range(1, k + 1))
        centre = as_dense(estimator.inverse_transform(np.zeros((1, k))))
        if image_shape is None and centre.ndim == 4:
            image_shape = centre.shape[1:]
        if image_shape is not None:
            image_shape = check_image_shape(image_shape, centre.size)
        grid = k == 2 and len(chosen) == 2 and image_shape is not None
        codes = _grid(n_steps, chosen) if grid else _lines(n_steps, span, chosen, k)
        decoded = as_dense(estimator.inverse_transform(codes.reshape(-1, k)))
        own_units = np.ndim(getattr(estimator, "noise_scale_", 0.0)) == 1
        relative = units == "sd" or (units == "auto" and own_units)
        sd = _model_sd(estimator, k) if relative and image_shape is None else None
        display = cls(
            codes=codes,
            decoded=decoded.reshape(*codes.shape[:2], -1),
            components=chosen,
            names=component_names(estimator, k),
            grid=grid,
            image_shape=image_shape,
            features=feature_names(estimator, centre.size),
            centre=None if sd is None else centre.ravel(),
            sd=sd,
        )
        return display.plot(ax=ax, cmap=cmap)

    def plot(self, ax: Any = None, *, cmap: Any = None) -> TraversalDisplay:
        """Draw what the codes decode to.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes, default=None
            Axes to draw in; None makes a figure. A table divides given Axes into panels, or takes
            as many as it has panels.

        cmap : str or Colormap, default=None
            For images of one channel, or for profiles.

        Returns
        -------
        display : TraversalDisplay
        """
        plt, cmap = import_pyplot(f"{type(self).__name__}.plot"), check_cmap(cmap)
        self.images_: np.ndarray | None = None
        self.lines_: np.ndarray | None = None
        self.colorbar_ = None
        if self.image_shape is not None:
            self._plot_images(plt, ax, cmap or "gray")
        else:
            self._plot_profiles(plt, ax, cmap)
        self.ax_ = self.axes_[0]
        self.figure_ = self.ax_.figure
        return self

    def _plot_images(self, plt: Any, ax: Any, cmap: Any) -> None:
        shape = self.image_shape or ()
        ax = single_axes(plt, ax, mosaic_size(len(self.decoded), self.decoded.shape[1], shape))
        images = as_images(self.decoded, shape)
        limits = image_range(self.decoded, shape)
        self.images_ = draw_mosaic(ax, images, limits, cmap, upwards=self.grid)
        first = self.components[0]
        steps = self.codes[0, :, first]
        apart = -(-len(steps) // _MOST_TICKS)
        ax.set_xticks(ax.get_xticks()[::apart], [_short(code) for code in steps[::apart]])
        if self.grid:
            ax.set_xlabel(self.names[first])
            ax.set_ylabel(self.names[self.components[1]])
            ax.set_yticklabels([_short(code) for code in steps])
        else:
            ax.set_xlabel("code")
            ax.set_yticklabels([shortened(self.names[c]) for c in self.components])
        self.axes_ = np.array([ax], dtype=object)

    def _plot_profiles(self, plt: Any, ax: Any, cmap: Any) -> None:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        n_lines, n_steps, n_features = self.decoded.shape
        n_columns = 1 if n_lines <= 4 else 2
        size = (6.4, 1.1 + 1.7 * -(-n_lines // n_columns))
        self.axes_ = panel_axes(plt, ax, n_lines, n_columns, size)
        values = self.decoded
        if self.sd is not None:
            spread = np.where(self.sd > 0, self.sd, 1.0)
            values = (values - self.centre) / spread
        moved = np.array([self.codes[i, :, c] for i, c in enumerate(self.components)])
        colours = ScalarMappable(
            Normalize(moved.min(), moved.max()), cmap or sequential(self.axes_[0])
        )
        few = n_features <= _MOST_NAMES
        mark: dict[str, Any] = {"marker": "o", "markersize": 2.5} if few else {}
        lines = self.lines_ = np.empty((n_lines, n_steps), dtype=object)
        for i, panel in enumerate(self.axes_):
            for j in range(n_steps):
                colour = colours.to_rgba(moved[i, j])
                (lines[i, j],) = panel.plot(values[i, j], color=colour, linewidth=1.2, **mark)
            panel.set_title(self.names[self.components[i]], fontsize="small")
            panel.tick_params(labelsize="small")
            panel.set_ylabel("value" if self.sd is None else "change, sd", fontsize="small")
            last = i + n_columns >= n_lines
            if few:
                names = self.features or [f"x{f}" for f in range(n_features)]
                labels = [shortened(str(name)) for name in names] if last else []
                slant: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
                if n_features > _MOST_SLANTED:
                    slant = {"rotation": 90}
                panel.set_xticks(range(n_features), labels or [""] * n_features, **slant)
            elif last:
                panel.set_xlabel("feature", fontsize="small")
        figure = self.axes_[0].figure
        self.colorbar_ = figure.colorbar(colours, ax=list(self.axes_), label="code")


def _grid(n_steps: int, components: list[int]) -> np.ndarray:
    """Codes (n_steps, n_steps, 2) at the middles of cells of equal mass under the prior."""
    levels = norm.ppf((np.arange(n_steps) + 0.5) / n_steps)
    codes = np.empty((n_steps, n_steps, 2))
    codes[..., components[0]] = levels  # rightwards
    codes[..., components[1]] = levels[:, None]  # upwards
    return codes


def _lines(n_steps: int, span: float, components: list[int], k: int) -> np.ndarray:
    """Codes (n_lines, n_steps, k), of which one component a line is moved."""
    codes = np.zeros((len(components), n_steps, k))
    for i, component in enumerate(components):
        codes[i, :, component] = np.linspace(-span, span, n_steps)
    return codes


def _model_sd(estimator: Any, k: int) -> np.ndarray:
    """Standard deviation of each feature under the model: of the decoded prior, and noise."""
    draws = np.random.RandomState(0).standard_normal((_N_DRAWS, k))
    decoded = as_dense(estimator.inverse_transform(draws)).reshape(_N_DRAWS, -1)
    noise = np.nan_to_num(getattr(estimator, "noise_scale_", 0.0))
    return np.sqrt(decoded.var(axis=0) + noise**2)


def _short(code: float) -> str:
    return f"{0.0 if abs(code) < 5e-3 else code:.2g}".replace("-", "\N{MINUS SIGN}")
