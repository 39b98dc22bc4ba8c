"""Checks of arguments and of X; each error names the argument, its value and what is allowed."""

from __future__ import annotations

from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval as _Interval
from sklearn.utils._param_validation import RealNotInt, StrOptions
from sklearn.utils.validation import validate_data

from .rows import as_numpy

__all__ = [
    "Interval",
    "Part",
    "RealNotInt",
    "StrOptions",
    "are_counts",
    "check_codes",
    "check_count",
    "check_rows",
    "check_seed",
    "image_rows",
    "refuse_dates",
    "refuse_empty_frames",
    "text_columns",
    "validate_data",
]


class Interval(_Interval):
    """scikit-learn's Interval, without booleans, which it takes for 0 and 1."""

    def is_satisfied_by(self, val: Any) -> bool:
        """Whether a value is a number of the interval."""
        return not isinstance(val, bool) and super().is_satisfied_by(val)


def are_counts(values: Any, least: int = 1) -> bool:
    """Whether values are a sequence of ints >= least, which may be empty."""
    return np.iterable(values) and all(
        isinstance(v, Integral) and not isinstance(v, bool) and int(v) >= least for v in values
    )


def check_count(name: str, value: Any, least: int = 1) -> int:
    """Return value if it is an int >= least; else raise a ValueError that names it."""
    if not are_counts([value], least):
        raise ValueError(f"{name} must be an int >= {least}. Got {value!r}.")
    return int(value)


def check_seed(random_state: Any) -> np.random.RandomState:
    """scikit-learn's ``check_random_state``, with an error that says what is allowed."""
    try:
        return check_random_state(random_state)
    except ValueError as error:
        raise ValueError(
            "random_state must be an int from 0 to 2**32 - 1, a RandomState instance or None. "
            f"Got {random_state!r}."
        ) from error


class Part(BaseEstimator):
    """A specification that an estimator holds and never changes.

    A part carries parameters and nothing else, so that ``clone``, ``repr``,
    ``get_params`` and ``GridSearchCV`` treat it as they treat any scikit-learn
    object. The estimator's ``fit`` calls ``build``, which returns the torch
    module that carries state. Parameters are checked there, not in ``__init__``.
    """

    _parameter_constraints: dict[str, list[Any]] = {}

    def check_parameters(self) -> None:
        """Check every parameter against ``_parameter_constraints``.

        Raises
        ------
        ValueError
            Names the parameter, what is allowed and the value given.
        """
        self._validate_params()


def check_rows(
    estimator: BaseEstimator,
    X: Any,
    *,
    reset: bool,
    finite: bool | str = True,
    names: bool = True,
) -> Any:
    """X as ndarray, memmap or CSR matrix of any real dtype.

    With ``finite=False``, :class:`Rows` checks the values later; "allow-nan" allows NaN. Without
    ``names``, the number and the names of the columns are not those that the estimator has seen.
    """
    validate = partial(validate_data, estimator, reset=reset) if names else check_array
    X = as_numpy(X)
    refuse_empty_frames(X)
    try:
        if _has_dates(X):
            raise TypeError("X has columns of dates or durations")
        with np.errstate(invalid="ignore"):  # of the sum of opposite infinities
            checked = validate(
                X,
                accept_sparse="csr",
                dtype="numeric",
                ensure_min_samples=2 if reset else 1,
                ensure_all_finite=finite,
            )
            if checked.dtype.kind == "O":  # polars columns of several types
                checked = check_array(checked, dtype=np.float64, ensure_all_finite=finite)
            refuse_dates(checked)
    except (ValueError, TypeError) as error:
        text = text_columns(X)
        if not text:
            raise
        raise ValueError(
            f"X must be numeric. These columns are not: {text}. Pass a dataframe of pandas or "
            "polars with likelihood='auto', or encode the columns first, for instance with "
            "sklearn.compose.ColumnTransformer and OneHotEncoder."
        ) from error
    return checked


def refuse_empty_frames(X: Any) -> None:
    """Raise an error for lazy frames, and for frames without rows or columns."""
    if type(X).__name__ == "LazyFrame":  # of polars, or one that narwhals makes
        raise TypeError("X must hold its rows. Got a LazyFrame: pass X.collect().")
    sizes = getattr(X, "shape", ()) if hasattr(X, "columns") else ()  # of Dask, not yet known
    if any(isinstance(size, int) and size == 0 for size in sizes):
        n_rows, n_columns = X.shape
        raise ValueError(
            "X must have at least one row and one column. Got a dataframe of "
            f"{n_rows} sample(s) and {n_columns} feature(s)."
        )


def _has_dates(X: Any) -> bool:
    """Whether a dataframe has columns of dates or durations, which some libraries read as ints."""
    dtypes = getattr(X, "dtypes", ())
    for dtype in dtypes if np.iterable(dtypes) else ():
        temporal = getattr(dtype, "is_temporal", None)  # of polars
        if getattr(dtype, "kind", "") in ("m", "M") or (callable(temporal) and temporal()):
            return True
    return False


def refuse_dates(X: np.ndarray) -> None:
    """Raise a TypeError if X has dates or durations, which numpy reads as numbers."""
    if X.dtype.kind in "mM":
        raise TypeError(f"X must be numeric. Got the dtype {X.dtype}, of dates or durations.")


def image_rows(X: Any, network: Any) -> tuple[Any, tuple[int, ...] | None]:
    """Images (n, C, H, W) as rows, and (C, H, W), if the network takes images; else X, None."""
    shape = getattr(network, "image_shape", None)
    if shape is None or getattr(X, "ndim", 2) != 4:
        return X, None
    if tuple(X.shape[1:]) != tuple(shape):
        raise ValueError(
            f"X must hold images of the network's image_shape={tuple(shape)}, as an array of shape "
            f"(n_samples, {', '.join(map(str, shape))}), or their rows. Got {tuple(X.shape)}."
        )
    return X.reshape(len(X), -1), tuple(shape)


def text_columns(X: Any) -> list[str]:
    """Names of a dataframe's columns that are not numbers."""
    text = []
    for name in getattr(X, "column_names", getattr(X, "columns", ())):  # pyarrow's, all others'
        try:
            values = np.asarray(X[name])
            if values.dtype.kind in "cmM":  # complex numbers, dates and durations
                text.append(str(name))
            else:
                values.astype(np.float64)
        except (ValueError, TypeError):
            text.append(str(name))
    return text


def check_codes(Z: Any, n_components: int, dtype: torch.dtype, name: str) -> np.ndarray:
    """Codes as finite ndarray in the model's dtype; errors call them X and name the estimator."""
    narrow = np.float64 if dtype == torch.float64 else np.float32
    with np.errstate(over="ignore", invalid="ignore"):
        Z = check_array(as_numpy(Z), dtype="numeric", input_name="X")
        refuse_dates(Z)
        Z = check_array(Z, dtype=narrow, input_name="X")
    if Z.shape[1] != n_components:
        raise ValueError(
            f"X has {Z.shape[1]} columns, but {name} has codes of {n_components} components."
        )
    return Z
