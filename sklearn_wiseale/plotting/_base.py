"""Shared by all displays: docstrings, checks of arguments, colours, axes and images."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import cleandoc, signature
from numbers import Integral
from typing import Any, TypeVar

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._data.validation import are_counts

__all__: list[str] = []

Display = TypeVar("Display", bound=type)

#: Colours that are distinct with the common kinds of colour blindness (Okabe and Ito 2008). Black
#: is left out: the colour of the text is the eighth.
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442")
#: Colour of missing pixels, on light and dark backgrounds.
MISSING = OKABE_ITO[4]
#: Number of characters from which a label is cut.
_NAME_LENGTH = 20

_RAISES = """Raises
------
ValueError
    If an argument is invalid.

sklearn.exceptions.NotFittedError
    If the estimator is not fitted."""


def documented(display: Display) -> Display:
    """Complete the docstrings of a display: a class decorator.

    The parameters that ``plot`` shares with ``from_estimator`` are described in the latter and
    copied from there. Both methods get a section "Returns", and ``from_estimator`` gets "Raises".
    """
    make, plot = display.from_estimator.__func__, display.plot  # type: ignore[attr-defined]
    if make.__doc__:  # python -OO removes docstrings
        text, names = cleandoc(make.__doc__), signature(plot).parameters
        shared = "\n\n".join(p for p in text.split("\n\n") if p.split(" : ")[0] in names)
        returns = f"Returns\n-------\ndisplay : {display.__name__}"
        make.__doc__ = f"{text}\n\n{returns}\n\n{_RAISES}"
        first = cleandoc(plot.__doc__)
        plot.__doc__ = f"{first}\n\nParameters\n----------\n{shared}\n\n{returns}"
    return display


def import_pyplot(caller: str) -> Any:
    """Import and return matplotlib.pyplot, for the method named ``caller``."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{caller} requires matplotlib. Install it with `pip install sklearn-wiseale[plot]`."
        ) from error
    return plt


def require(holds: bool, rule: str, got: Any) -> None:
    """Raise a ValueError with the rule and the value given, unless the rule holds."""
    if not holds:
        raise ValueError(f"{rule}. Got {got}.")


def check_estimator(display: type, estimator: Any, *names: str) -> None:
    """Raise an error if matplotlib is missing, or if an estimator is not fitted or not suitable.

    ``names`` are the methods and attributes that the display needs.
    """
    import_pyplot(f"{display.__name__}.from_estimator")
    if all(hasattr(estimator, name) for name in names if not name.endswith("_")):
        check_is_fitted(estimator)
    missing = [name for name in names if not hasattr(estimator, name)]
    rule = f"estimator must have {' and '.join(names)} for {display.__name__}"
    require(not missing, rule, f"{type(estimator).__name__}, which has no {' or '.join(missing)}")


def check_choice(name: str, value: Any, *options: bool | str) -> None:
    """Raise a ValueError if a value is not one of the options."""
    holds = any(isinstance(value, type(option)) and value == option for option in options)
    rule = f"{name} must be {', '.join(map(repr, options[:-1]))} or {options[-1]!r}"
    require(holds, rule, repr(value))


def check_keywords(name: str, value: Any) -> dict[str, Any]:
    """Return keywords as a dict, which is empty for None."""
    require(value is None or isinstance(value, dict), f"{name} must be a dict or None", repr(value))
    return value or {}


def check_cmap(plt: Any, cmap: Any) -> Any:
    """Return ``cmap`` if it is a colour map, the name of one, or None."""
    named = isinstance(cmap, str) and cmap in plt.colormaps
    known = cmap is None or named or isinstance(cmap, plt.matplotlib.colors.Colormap)
    require(known, "cmap must be a Colormap of matplotlib or the name of one", repr(cmap))
    return cmap


def check_components(components: Any, n_components: int, allowed: Sequence[int]) -> list[int]:
    """Return components as a list of distinct ints, whose length must be in ``allowed``."""
    given = [components] if isinstance(components, Integral) else components
    whole = isinstance(given, Sequence | np.ndarray) and are_counts(given, least=0)
    distinct = whole and len(given) in allowed and len({*given}) == len(given)
    numbers = " or ".join(map(str, allowed)) if len(allowed) < 3 else "one or more"
    rule = f"components must be {numbers} distinct ints from 0 to {n_components - 1}"
    require(distinct and max(given) < n_components, rule, repr(components))
    return [int(c) for c in given]


def check_image_shape(image_shape: Any, n_features: int) -> tuple[int, ...]:
    """Return the shape of an image, (h, w), (c, h, w) or (h, w, c), of ``n_features`` numbers."""
    whole = isinstance(image_shape, Sequence | np.ndarray) and are_counts(image_shape)
    sizes = tuple(int(size) for size in image_shape) if whole else ()
    image = len(sizes) == 2 or (len(sizes) == 3 and not {1, 3}.isdisjoint(sizes[::2]))
    rule = (
        "image_shape must be (height, width), (channels, height, width) or (height, width, "
        f"channels), with 1 or 3 channels, and its product must be {n_features}, the number of "
        "features"
    )
    require(image and np.prod(sizes) == n_features, rule, repr(image_shape))
    return sizes


def as_dense(values: Any) -> np.ndarray:
    """Return an array, dataframe or sparse matrix as a float64 array."""
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values, np.float64)


def decoded(estimator: Any, codes: Any) -> tuple[np.ndarray, list[str]]:
    """Return decoded codes as a float64 array, and the names of its columns if it was a dataframe.

    Columns that are not numbers are probabilities, in one column for each category.
    """
    if not hasattr(estimator, "column_likelihoods_"):
        return as_dense(estimator.inverse_transform(codes)), []
    frame = estimator.inverse_transform(codes, probabilities=True)
    return as_dense(frame), [str(name) for name in frame.columns]


def component_names(estimator: Any, n_components: int) -> list[str]:
    """Return names of the components, from ``get_feature_names_out`` if the method exists."""
    try:
        names = [str(name) for name in estimator.get_feature_names_out()]
    except (AttributeError, ValueError):  # a pipeline always has the method, its steps may not
        names = []
    return names if len(names) == n_components else [f"component {i}" for i in range(n_components)]


def feature_names(estimator: Any, n_features: int, X: Any = None) -> list[str]:
    """Return names of the features: of a dataframe, else of the fit, else "x0", "x1", ..."""
    for names in (getattr(X, "columns", None), getattr(estimator, "feature_names_in_", None)):
        if names is not None and len(names) == n_features:
            return [str(name) for name in names]
    return [f"x{i}" for i in range(n_features)]


def shortened(name: Any) -> str:
    """Return a name, cut if it is too long for a label."""
    name = str(name)
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1]}…"


def ink(ax: Any) -> Any:
    """Return the colour of the text of some axes, which is legible on their background."""
    return ax.xaxis.label.get_color()


def is_dark(ax: Any) -> bool:
    """Return whether some axes have light text, and so a dark background."""
    from matplotlib.colors import to_rgb

    return bool(np.dot(to_rgb(ink(ax)), [0.299, 0.587, 0.114]) > 0.5)


def palette(ax: Any) -> list[Any]:
    """Return Okabe and Ito's eight colours; on a dark background the light blue comes first."""
    colours = [*OKABE_ITO, ink(ax)]
    if is_dark(ax):
        colours[0], colours[4] = colours[4], colours[0]
    return colours


def sequential(ax: Any) -> Any:
    """Return viridis without the end that is close to the background."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    part = np.linspace(0.15, 1.0, 256) if is_dark(ax) else np.linspace(0.0, 0.9, 256)
    return ListedColormap(colormaps["viridis"](part), name="viridis_part")


def class_colours(n_classes: int, ax: Any) -> np.ndarray:
    """Return one colour per class, (n, 4): from the palette for up to 8 classes, else viridis."""
    from matplotlib.colors import to_rgba_array

    if n_classes <= len(palette(ax)):
        return to_rgba_array(palette(ax))[:n_classes]
    return sequential(ax)(np.linspace(0.0, 1.0, n_classes))


def single_axes(plt: Any, ax: Any, size: tuple[float, float] | None = None) -> Any:
    """Return the given axes, or those of a new figure of this size in inches."""
    if ax is None:
        return plt.subplots(figsize=size, layout="constrained")[1]
    require(isinstance(ax, plt.Axes), "ax must be a matplotlib Axes or None", repr(ax))
    return ax


def panel_axes(plt: Any, ax: Any, n: int, n_columns: int, size: tuple[float, float]) -> np.ndarray:
    """Return axes of n panels, (n,): in a new figure, inside the given axes, or those given."""
    shape = -(-n // n_columns), n_columns
    if ax is None:
        figure = plt.figure(figsize=size, layout="constrained")
        grid = figure.add_gridspec(*shape)
    elif isinstance(ax, plt.Axes):
        figure, spec = ax.figure, ax.get_subplotspec()
        rule = (
            "ax must be made by plt.subplots or add_subplot, so that it can be divided into panels"
        )
        require(spec is not None, rule, repr(ax))
        ax.set_axis_off()
        loose = {} if figure.get_layout_engine() else {"wspace": 0.5, "hspace": 0.7}
        grid = spec.subgridspec(*shape, **loose)
    else:
        axes = np.asarray(ax, dtype=object).ravel()
        rule = f"ax must be a matplotlib Axes, None, or {n} Axes, one per panel"
        require(len(axes) == n and all(isinstance(a, plt.Axes) for a in axes), rule, repr(ax))
        return axes
    panels = [figure.add_subplot(grid[divmod(i, n_columns)]) for i in range(n)]
    return np.array(panels, dtype=object)


def draw_images(
    plt: Any, ax: Any, rows: np.ndarray, shape: Any, cmap: Any, known: np.ndarray, order: int = -1
) -> tuple[Any, np.ndarray]:
    """Draw rows, (n_lines, n_columns, n_features), as a grid of images; return axes and artists.

    The first line is at the top or, with ``order=1``, at the bottom. The longer edge of an image
    has length 1, gaps are 0.08 wide, and ticks are at the centres of the images. Black is the
    smallest value of ``known``, white the largest.
    """
    images, low, high = _pixels(rows, shape, known)
    n_lines, n_columns, height, width = images.shape[:4]
    inches = 5.2 * (n_lines * height) / (n_columns * width) + 0.5  # 0.5 for labels
    ax = single_axes(plt, ax, (6.4, float(np.clip(inches, 1.2, 12.0))))
    if isinstance(cmap, str):
        cmap = plt.colormaps[cmap].with_extremes(bad=MISSING)
    tall, wide = height / max(height, width), width / max(height, width)
    lefts = np.arange(n_columns) * (wide + 0.08)
    bottoms = np.arange(n_lines)[::order] * (tall + 0.08)
    artists = np.empty((n_lines, n_columns), dtype=object)
    for i, j in np.ndindex(n_lines, n_columns):
        box = (lefts[j], lefts[j] + wide, bottoms[i], bottoms[i] + tall)
        style = {"cmap": cmap, "vmin": low, "vmax": high, "interpolation": "nearest"}
        artists[i, j] = ax.imshow(images[i, j], extent=box, origin="upper", **style)
    ax.set(xlim=(0.0, lefts.max() + wide), ylim=(0.0, bottoms.max() + tall), aspect="equal")
    ax.set(xticks=lefts + wide / 2, yticks=bottoms + tall / 2)
    ax.tick_params(length=0, labelsize="small")
    ax.grid(False)
    ax.spines[:].set_visible(False)
    return ax, artists


def _pixels(rows: np.ndarray, shape: Any, known: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Return images (..., H, W), or (..., H, W, 3) with colours in [0, 1], and their range.

    The range is that of ``known``; for colours in [0, 1] or [0, 255] it is this interval. Missing
    pixels of colour images get the colour ``MISSING``.
    """
    from matplotlib.colors import to_rgb

    images = rows.reshape(*rows.shape[:-1], *shape)
    if len(shape) == 2:
        images = images[..., None]
    elif shape[0] in (1, 3):
        images = np.moveaxis(images, -3, -1)
    grey, known = images.shape[-1] == 1, known[np.isfinite(known)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    if not grey and low >= 0:
        low, high = 0.0, next((top for top in (1.0, 255.0) if high <= top), high)
    low, high = (low, high) if low < high else (low - 0.5, high + 0.5)
    if grey:
        return images[..., 0], low, high
    missing = np.isnan(images).any(axis=-1, keepdims=True)
    scaled = np.clip((images - low) / (high - low), 0.0, 1.0)
    return np.where(missing, to_rgb(MISSING), scaled), low, high
