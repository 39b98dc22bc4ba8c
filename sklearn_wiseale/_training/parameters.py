"""Checks of the estimator's parameters, its parts and its device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from sklearn.base import BaseEstimator, clone

from ..likelihoods import LIKELIHOODS, Gaussian, Likelihood, Mixed
from ..networks import NETWORKS
from ..objectives import OBJECTIVES

__all__ = [
    "PARTS",
    "TO_FIT",
    "TO_SCORE",
    "TO_USE",
    "check_parameters",
    "check_scale",
    "enough_memory",
    "find_device",
    "resolve",
]

PARTS: dict[str, dict[str, Any]] = {
    "objective": OBJECTIVES,
    "likelihood": LIKELIHOODS,
    "network": NETWORKS,
}

#: Advice if memory is too small.
TO_FIT = (
    "Lower batch_size, the width of the objective or the layers of the network, or use "
    "device='cpu': memory is too small for this fit."
)
TO_USE = "Free some memory, or set_params(device='cpu'): rows are taken in small parts already."
TO_SCORE = "Lower n_draws, free some memory, or set_params(device='cpu')."

_RESERVED_NET_PARAMS = {
    "module", "criterion", "dataset", "device", "train_split", "verbose", "seed", "autocast",
    "batch_size", "max_epochs", "lr", "optimizer__lr", "iterator_train", "iterator_valid",
    "predict_nonlinearity",
    "callbacks__best_state__patience", "callbacks__best_state__tol",
    "callbacks__schedule__learning_rate",
}  # fmt: skip

#: Names, and beginnings of names, that skorch accepts but that have no effect here.
_WITHOUT_EFFECT = (
    "warm_start", "module__", "criterion__", "dataset__", "iterator_train__", "iterator_valid__"
)  # fmt: skip


def resolve(name: str, part: Any) -> Any:
    """The part itself, or the defaults of the class that a string stands for.

    The likelihood "auto", and a dict of those of columns, is Gaussian for arrays.
    """
    if isinstance(part, dict) or (name == "likelihood" and part == "auto"):
        return Gaussian()
    return PARTS[name][part]() if isinstance(part, str) else part


def check_parameters(estimator: BaseEstimator) -> dict[str, Any]:
    """Check all parameters; return copies of objective, likelihood and network by name."""
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
            "The 'net_params' parameter of WiSEALETransformer must not contain names that have no "
            f"effect. Got {sorted(map(str, idle))} among {estimator.net_params!r}."
        )
    if not isinstance(net_params.get("callbacks") or [], list):
        raise ValueError(
            "The 'net_params' parameter of WiSEALETransformer must give callbacks as a list. "
            f"Got {net_params['callbacks']!r} instead."
        )
    if isinstance(estimator.likelihood, dict):
        _check_column_likelihoods(estimator.likelihood)
    find_device(estimator.device, estimator.precision)
    parts = {name: clone(resolve(name, getattr(estimator, name))) for name in PARTS}
    for part in parts.values():
        part.check_parameters()
    check_scale(estimator.scale, parts["likelihood"])
    return parts


def check_scale(scale: str | None, likelihood: Likelihood) -> None:
    """Raise a ValueError if data of this likelihood cannot be scaled like that."""
    if scale in ("feature", "robust", "global") and not likelihood.scalable:
        raise ValueError(
            "The 'scale' parameter of WiSEALETransformer must be 'auto' or None with the "
            f"likelihood {likelihood!r}, whose data cannot be scaled. Got {scale!r} instead."
        )


def _check_column_likelihoods(likelihoods: dict[Any, Any]) -> None:
    """Raise a ValueError if a value is no likelihood of a column."""
    for name, likelihood in likelihoods.items():
        if isinstance(likelihood, Likelihood) and not isinstance(likelihood, Mixed):
            likelihood.check_parameters()
        elif not isinstance(likelihood, str) or likelihood not in LIKELIHOODS:
            raise ValueError(
                "The 'likelihood' parameter of WiSEALETransformer must give each column one of "
                f"{sorted(LIKELIHOODS)} or a Likelihood object that is not Mixed. Got "
                f"{likelihood!r} for the column {name!r}."
            )


def find_device(name: str | torch.device, precision: str) -> torch.device:
    """The device of a name; raise a ValueError if it is not available in this precision."""
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
    """Why a device is not available."""
    try:
        kind = torch.device(name).type
    except (RuntimeError, TypeError):
        return "torch knows no device of that name."
    if kind == "cuda":
        return str(error).splitlines()[0]  # such as a driver that is too old
    return f"torch finds no device of the type {kind!r} on this machine."


@contextmanager
def enough_memory(advice: str) -> Iterator[None]:
    """Inside, turn torch's errors about memory into a MemoryError with advice."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        known = any(part in text for part in ("out of memory", "can't allocate memory"))
        if not known and not isinstance(error, torch.OutOfMemoryError):
            raise
        raise MemoryError(f"{advice} The device says: {text.splitlines()[0]}") from error
