"""What the estimator is given: parameters, parts, a device, rows. Everything is checked here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from ._data import as_numpy
from .likelihoods import LIKELIHOODS
from .networks import NETWORKS
from .objectives import OBJECTIVES

__all__ = [
    "PARTS",
    "check_parameters",
    "check_rows",
    "enough_memory",
    "find_device",
    "image_rows",
    "refuse_dates",
    "resolve",
]

PARTS: dict[str, dict[str, Any]] = {
    "objective": OBJECTIVES,
    "likelihood": LIKELIHOODS,
    "network": NETWORKS,
}
_RESERVED_NET_PARAMS = {
    "module", "criterion", "dataset", "device", "train_split", "verbose", "seed", "autocast",
    "batch_size", "max_epochs", "lr", "optimizer__lr", "iterator_train", "iterator_valid",
    "predict_nonlinearity",
    "callbacks__best_state__patience", "callbacks__best_state__tol",
    "callbacks__schedule__learning_rate",
}  # fmt: skip
#: What skorch takes, and what would have no effect here: other names, and beginnings of names.
_WITHOUT_EFFECT = (
    "warm_start", "module__", "criterion__", "dataset__", "iterator_train__", "iterator_valid__"
)  # fmt: skip


def resolve(name: str, part: Any) -> Any:
    """The part itself, or the defaults of the class that a string stands for."""
    return PARTS[name][part]() if isinstance(part, str) else part


def check_parameters(estimator: BaseEstimator) -> dict[str, Any]:
    """Check all parameters; return copies of objective, likelihood, network, by name.

    Raises
    ------
    ValueError
        Names the parameter, what is allowed and the value given.
    """
    estimator._validate_params()
    net_params = estimator.net_params or {}
    reserved = _RESERVED_NET_PARAMS.intersection(net_params)
    if reserved:
        raise ValueError(
            "The 'net_params' parameter of WiSEALETransformer must not contain "
            f"{sorted(reserved)}: the estimator sets them. Got {estimator.net_params!r} instead."
        )
    idle = [name for name in net_params if str(name).startswith(_WITHOUT_EFFECT)]
    if not net_params.get("compile"):
        idle += [name for name in net_params if str(name).startswith("compile__")]
    if idle:
        raise ValueError(
            "The 'net_params' parameter of WiSEALETransformer must not contain what has no effect "
            f"here. Got {sorted(map(str, idle))} among {estimator.net_params!r}."
        )
    if not isinstance(net_params.get("callbacks") or [], list):
        raise ValueError(
            "The 'net_params' parameter of WiSEALETransformer must give callbacks as a list. "
            f"Got {net_params['callbacks']!r} instead."
        )
    find_device(estimator.device, estimator.precision)
    parts = {name: clone(resolve(name, getattr(estimator, name))) for name in PARTS}
    for part in parts.values():
        part.check_parameters()
    if estimator.scale in ("feature", "global") and not parts["likelihood"].scalable:
        raise ValueError(
            "The 'scale' parameter of WiSEALETransformer must be 'auto' or None with the "
            f"likelihood {parts['likelihood']!r}, whose data cannot be scaled. "
            f"Got {estimator.scale!r} instead."
        )
    return parts


def find_device(name: str | torch.device, precision: str) -> torch.device:
    """The device that a name stands for, if it is not one already.

    Raises
    ------
    ValueError
        If there is no such device here, or it cannot compute in that precision.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        mps = torch.backends.mps.is_available() and precision != "float64"
        return torch.device("mps" if mps else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)  # a device of that kind may still be missing
    except (RuntimeError, AssertionError, ImportError, TypeError) as error:
        raise ValueError(
            "The 'device' parameter of WiSEALETransformer must be 'auto' or a torch device "
            f"available here, such as 'cpu'. Got {name!r} instead: {_why_no_device(name, error)}"
        ) from error
    if device.type == "mps" and precision == "float64":
        raise ValueError(
            "The 'precision' parameter of WiSEALETransformer must not be 'float64' on the device "
            f"{name!r}, which has none. Got 'float64' instead."
        )
    if device.type == "meta":
        raise ValueError(
            "The 'device' parameter of WiSEALETransformer must be a device that holds data. "
            f"Got {name!r} instead."
        )
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    return device


def _why_no_device(name: Any, error: Exception) -> str:
    """Why a device is not available: torch's reason, where it has one for users."""
    try:
        kind = torch.device(name).type
    except (RuntimeError, TypeError):
        return "torch knows no device of that name."
    if kind == "cuda":
        return str(error).splitlines()[0]  # such as a driver that is too old
    return f"torch finds no device of the type {kind!r} on this machine."


@contextmanager
def enough_memory(advice: str) -> Iterator[None]:
    """Inside, where torch runs out of memory, that is a MemoryError with advice, as numpy's are."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        known = any(part in text for part in ("out of memory", "can't allocate memory"))
        if not known and not isinstance(error, torch.OutOfMemoryError):
            raise
        raise MemoryError(f"{advice} The device says: {text.splitlines()[0]}") from error


def check_rows(estimator: BaseEstimator, X: Any, *, reset: bool, finite: bool | str = True) -> Any:
    """X as ndarray, memmap or CSR matrix, of whatever real dtype it has.

    Without ``finite``, values are left for :class:`Rows` to look at; "allow-nan" lets NaN pass.
    """
    X = as_numpy(X)
    _refuse_frames_without_rows(X)
    try:
        if _has_dates(X):
            raise TypeError("X has columns of dates or durations")
        with np.errstate(invalid="ignore"):  # of the sum of opposite infinities
            checked = validate_data(
                estimator,
                X,
                reset=reset,
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
            f"X must be numeric. These columns are not: {text}. Encode them first, for "
            "instance with sklearn.compose.ColumnTransformer and OneHotEncoder."
        ) from error
    return checked


def _refuse_frames_without_rows(X: Any) -> None:
    """Raise an error that says what to pass for frames without rows or columns, or not read yet."""
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
    """Images (n, C, H, W) as rows, and (C, H, W), where the network takes images; else X, None."""
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
