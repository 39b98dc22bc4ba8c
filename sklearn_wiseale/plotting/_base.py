"""What the displays share: the way to matplotlib, checks, colours and axes."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

__all__: list[str] = []

#: Colours that the common kinds of colour blindness tell apart (Okabe and Ito 2008), without
#: black: the eighth is the colour of the text.
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442")

#: Pixels that are not there, in either kind of background.
MISSING = OKABE_ITO[4]

#: Longest name that is written out.
_NAME_LENGTH = 20


def import_pyplot(caller: str) -> Any:
    """matplotlib.pyplot, imported when ``caller`` needs it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{caller} requires matplotlib. Install it with `pip install sklearn-wiseale[plot]`."
        ) from error
    return plt


# what is given --------------------------------------------------------------------------------


def check_estimator(estimator: Any, display: str, *needs: str) -> None:
    """Refuse an estimator that lacks a method or attribute, or that is not fitted."""
    for name in needs:
        if not name.endswith("_") and not hasattr(estimator, name):
            raise ValueError(
                f"estimator must have {' and '.join(needs)} for {display}. "
                f"Got {type(estimator).__name__}, which has no {name}."
            )
    check_is_fitted(estimator)
    for name in needs:
        if not hasattr(estimator, name):
            raise ValueError(
                f"estimator must have {' and '.join(needs)} after fit for {display}. "
                f"Got {type(estimator).__name__}, which has no {name}."
            )


def check_positive(name: str, value: Any) -> float:
    """A positive, finite number."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < np.inf:
        raise ValueError(f"{name} must be a number > 0. Got {value!r}.")
    return float(value)


def check_keywords(name: str, value: Any) -> dict[str, Any]:
    """A dict of keywords; None is an empty one."""
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"{name} must be a dict or None. Got {value!r}.")
    return value or {}


def check_cmap(cmap: Any) -> Any:
    """A colour map, its name, or None."""
    from matplotlib import colormaps
    from matplotlib.colors import Colormap

    if cmap is None or isinstance(cmap, Colormap) or (isinstance(cmap, str) and cmap in colormaps):
        return cmap
    raise ValueError(f"cmap must be a Colormap of matplotlib or the name of one. Got {cmap!r}.")


def check_components(components: Any, n_components: int, allowed: Sequence[int]) -> list[int]:
    """Distinct components of the codes, of which there must be one of the ``allowed`` numbers."""
    given = [components] if isinstance(components, Integral) else components
    indices = list(given) if isinstance(given, Sequence | np.ndarray) else []
    whole = all(isinstance(c, Integral) and not isinstance(c, bool) for c in indices)
    if (
        not whole
        or len(indices) not in allowed
        or len(set(indices)) < len(indices)
        or not all(0 <= c < n_components for c in indices)
    ):
        numbers = " or ".join(map(str, allowed)) if len(allowed) < 3 else "one or more"
        raise ValueError(
            f"components must be {numbers} distinct ints from 0 to {n_components - 1}. "
            f"Got {components!r}."
        )
    return [int(c) for c in indices]


def check_image_shape(image_shape: Any, n_features: int) -> tuple[int, ...]:
    """(height, width), or with 1 or 3 channels before or after; as many pixels as features."""
    sizes = tuple(image_shape) if isinstance(image_shape, Sequence | np.ndarray) else ()
    whole = all(isinstance(s, Integral) and int(s) > 0 for s in sizes)
    channels = len(sizes) == 3 and (sizes[0] in (1, 3) or sizes[-1] in (1, 3))
    if not whole or not (len(sizes) == 2 or channels) or np.prod(sizes) != n_features:
        raise ValueError(
            "image_shape must be (height, width), (channels, height, width) or (height, width, "
            f"channels), with 1 or 3 channels and {n_features} numbers in all, one a feature. "
            f"Got {image_shape!r}."
        )
    return tuple(int(s) for s in sizes)


def as_dense(values: Any) -> np.ndarray:
    """An array, dataframe or sparse matrix as a float64 array."""
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values, np.float64)


def component_names(estimator: Any, n_components: int) -> list[str]:
    """Names of the components, from ``get_feature_names_out`` where there is such a method."""
    try:
        names = [str(name) for name in estimator.get_feature_names_out()]
    except (AttributeError, ValueError):  # a pipeline has the method whatever its steps have
        names = []
    if len(names) == n_components:
        return names
    return [f"component {i}" for i in range(n_components)]


def feature_names(estimator: Any, n_features: int, X: Any = None) -> list[str]:
    """Names of the columns: those of a dataframe, or that fit saw, or "x0", "x1", ..."""
    for names in (getattr(X, "columns", None), getattr(estimator, "feature_names_in_", None)):
        if names is not None and len(names) == n_features:
            return [str(name) for name in names]
    return [f"x{i}" for i in range(n_features)]


def shortened(name: str) -> str:
    """A name, cut where it is too long for a label."""
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1]}…"


# colours --------------------------------------------------------------------------------------


def ink(ax: Any) -> Any:
    """Colour of the text of some axes, which is legible on their background."""
    return ax.xaxis.label.get_color()


def is_dark(ax: Any) -> bool:
    """Whether the text of some axes is light."""
    from matplotlib.colors import to_rgb

    return bool(np.dot(to_rgb(ink(ax)), [0.299, 0.587, 0.114]) > 0.5)


def palette(ax: Any) -> list[Any]:
    """Okabe and Ito's eight colours; on a dark background the lighter of the blues leads."""
    blue, *others = OKABE_ITO
    if is_dark(ax):
        others[3], blue = blue, others[3]
    return [blue, *others, ink(ax)]


def sequential(ax: Any) -> Any:
    """viridis, without the end that is close to the background."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    part = np.linspace(0.15, 1.0, 256) if is_dark(ax) else np.linspace(0.0, 0.9, 256)
    return ListedColormap(colormaps["viridis"](part), name="viridis_part")


def class_colours(n_classes: int, ax: Any) -> np.ndarray:
    """One colour a class: Okabe and Ito's up to eight classes, then steps of viridis; (n, 4)."""
    from matplotlib.colors import to_rgba_array

    if n_classes <= len(OKABE_ITO) + 1:
        return to_rgba_array(palette(ax))[:n_classes]
    return sequential(ax)(np.linspace(0.0, 1.0, n_classes))


# axes -----------------------------------------------------------------------------------------


def single_axes(plt: Any, ax: Any, size: tuple[float, float] | None = None) -> Any:
    """The given axes, or those of a new figure of this size in inches."""
    from matplotlib.axes import Axes

    if ax is None:
        return plt.subplots(figsize=size, layout="constrained")[1]
    if not isinstance(ax, Axes):
        raise ValueError(f"ax must be a matplotlib Axes or None. Got {ax!r}.")
    return ax


def fitting_columns(ax: Any, most: int) -> int:
    """How many panels of 1.4 inches stand side by side in the given axes: at least two."""
    if not hasattr(ax, "get_window_extent"):
        return most
    inches = ax.get_window_extent().width / ax.figure.dpi
    return int(np.clip(inches // 1.4, 2, most))


def panel_axes(plt: Any, ax: Any, n: int, n_columns: int, size: tuple[float, float]) -> np.ndarray:
    """Axes for n panels: of a new figure, inside the given axes, or as given; shape (n,)."""
    from matplotlib.axes import Axes

    n_lines = -(-n // n_columns)
    if isinstance(ax, Axes):
        spec = ax.get_subplotspec()
        if spec is None:
            raise ValueError(
                "ax must be made by plt.subplots or add_subplot, so that it can be divided into "
                f"panels. Got {ax!r}."
            )
        figure: Any = ax.figure
        ax.set_axis_off()
        loose: Any = {} if figure.get_layout_engine() else {"wspace": 0.5, "hspace": 0.7}
        grid = spec.subgridspec(n_lines, n_columns, **loose)
    elif ax is None:
        figure = plt.figure(figsize=size, layout="constrained")
        grid = figure.add_gridspec(n_lines, n_columns)
    else:
        axes = np.asarray(ax, dtype=object).ravel()
        if len(axes) != n or not all(isinstance(a, Axes) for a in axes):
            raise ValueError(
                f"ax must be a matplotlib Axes, None, or {n} Axes, one a panel. Got {ax!r}."
            )
        return axes
    axes = np.empty(n, dtype=object)
    for i in range(n):
        axes[i] = figure.add_subplot(grid[divmod(i, n_columns)])
    return axes


# images ---------------------------------------------------------------------------------------


def as_images(rows: np.ndarray, image_shape: tuple[int, ...]) -> np.ndarray:
    """Rows (..., n_features) as images (..., H, W), or (..., H, W, 3)."""
    images = rows.reshape(*rows.shape[:-1], *image_shape)
    if len(image_shape) == 2:
        return images
    if image_shape[0] in (1, 3):
        images = np.moveaxis(images, -3, -1)
    return images[..., 0] if images.shape[-1] == 1 else images


def image_range(images: np.ndarray, image_shape: tuple[int, ...]) -> tuple[float, float]:
    """Values shown as black and as white; of colours 0 to 1 or 0 to 255 where they are such."""
    known = images[np.isfinite(images)]
    if not len(known):
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    if 3 in (image_shape[0], image_shape[-1]) and len(image_shape) == 3 and low >= 0:
        low, high = 0.0, next((top for top in (1.0, 255.0) if high <= top), high)
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def mosaic_size(n_lines: int, n_columns: int, image_shape: tuple[int, ...]) -> tuple[float, float]:
    """Inches of a figure for so many images, with room for labels."""
    height, width = as_images(np.zeros(np.prod(image_shape)), image_shape).shape[:2]
    wide = 6.4
    high = (wide - 1.2) * (n_lines * height) / (n_columns * width) + 0.5
    return wide, float(np.clip(high, 1.2, 12.0))


def draw_mosaic(
    ax: Any, images: np.ndarray, limits: tuple[float, float], cmap: Any, *, upwards: bool = False
) -> np.ndarray:
    """Images (n_lines, n_columns, H, W[, 3]) side by side, lines from the top, or upwards.

    The longer edge of an image is 1 and the gap 0.08; ticks stand at the centres. Missing pixels
    have a colour of their own. Returns the artists, shape (n_lines, n_columns).
    """
    from matplotlib import colormaps

    if isinstance(cmap, str):
        cmap = colormaps[cmap].with_extremes(bad=MISSING)
    n_lines, n_columns, height, width = images.shape[:4]
    longer = max(height, width)
    high, wide = height / longer, width / longer
    pitch_x, pitch_y = wide + 0.08, high + 0.08
    artists = np.empty((n_lines, n_columns), dtype=object)
    for i, j in np.ndindex(n_lines, n_columns):
        line = i if upwards else n_lines - 1 - i
        left, bottom = j * pitch_x, line * pitch_y
        artists[i, j] = ax.imshow(
            _pixels(images[i, j], limits),
            extent=(left, left + wide, bottom, bottom + high),
            origin="upper",
            cmap=cmap,
            vmin=limits[0],
            vmax=limits[1],
            interpolation="nearest",
        )
    lines = np.arange(n_lines)
    ax.set_xlim(0.0, n_columns * pitch_x - 0.08)
    ax.set_ylim(0.0, n_lines * pitch_y - 0.08)
    ax.set_aspect("equal")
    ax.set_xticks(np.arange(n_columns) * pitch_x + wide / 2)
    ax.set_yticks((lines if upwards else lines[::-1]) * pitch_y + high / 2)
    ax.tick_params(length=0, labelsize="small")
    ax.grid(False)
    ax.spines[:].set_visible(False)
    return artists


def _pixels(image: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Grey values as they are; colours scaled to 0 to 1, missing pixels filled."""
    from matplotlib.colors import to_rgb

    if image.ndim == 2:
        return image
    missing = np.isnan(image).any(axis=-1, keepdims=True)
    scaled = np.clip((image - limits[0]) / (limits[1] - limits[0]), 0.0, 1.0)
    return np.where(missing, to_rgb(MISSING), scaled)
