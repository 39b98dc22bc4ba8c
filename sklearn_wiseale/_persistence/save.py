"""A fitted estimator in one file: what is written, and how it is checked when it is read.

Nothing in a file is executed. The header has names and numbers, and names are looked up among the
classes of this package.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from importlib import metadata
from numbers import Integral
from typing import Any, NamedTuple, TypeVar

import numpy as np

from .._data.validation import Part
from .._training.parameters import PARTS
from .._training.state import State
from .file import DAMAGE, as_path, check_target, read_file, reading, write_file
from .header import ForeignPartError, decode, encode, shown

__all__ = ["Stored", "read", "write"]

Built = TypeVar("Built")

_PACKAGES = ("sklearn-wiseale", "torch", "scikit-learn", "skorch", "numpy", "safetensors")
#: Settings of ``torch.compile`` that a file may have.
_COMPILE = {f"compile__{name}" for name in ("mode", "dynamic", "fullgraph")}
_FLOATS = {np.dtype(code).str: np.dtype(code) for code in "fdg"}


class Stored(NamedTuple):
    """A fitted estimator, taken apart."""

    name: str  # of the class
    parameters: dict[str, Any]
    built: dict[str, Any]  # parameters that the fitted state was built from
    attributes: dict[str, Any]
    state: State  # of the net; with "scaling", of the columns


def write(path: str | os.PathLike[str], stored: Stored) -> None:
    """Write a fitted estimator; see ``WiSEALETransformer.save``."""
    target = check_target(path)
    attributes = {name: encode(value, name) for name, value in stored.attributes.items()}
    header = {
        "kind": "estimator",
        "class": stored.name,
        "versions": {package: _version(package) for package in _PACKAGES},
        "parameters": _encoded(stored.parameters),
        "built": _encoded(stored.built),
        "attributes": attributes,
    }
    write_file(target, stored.state, header)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # run from a folder that is not installed
        return None


def _encoded(parameters: dict[str, Any]) -> dict[str, Any]:
    """Parameters; instead of a part that cannot be stored, its class and repr."""
    _refuse_programs(parameters["net_params"])
    encoded = {}
    for name, value in parameters.items():
        try:
            encoded[name] = encode(value, name)
        except ForeignPartError:
            if name not in PARTS:
                raise
            encoded[name] = {"handed_back": [type(value).__name__, repr(value)[:200]]}
    return encoded


def _refuse_programs(net_params: dict[str, Any] | None) -> None:
    """Raise a ValueError for settings of ``torch.compile`` among which programs may be named."""
    names = {name for name in net_params or {} if str(name).startswith("compile__")} - _COMPILE
    if names:
        raise ValueError(
            f"net_params {shown(sorted(names))} cannot be stored: backends and options of "
            "torch.compile may name programs, which files must not do"
        )


# reading ----------------------------------------------------------------------------------


def read(
    path: str | os.PathLike[str],
    handed_back: Mapping[str, Part | None],
    build: Callable[[Stored], Built],
) -> Built:
    """Return what ``build`` makes of a file that :func:`write` has written.

    Parameters
    ----------
    path : str or PathLike

    handed_back : dict of str to Part or None
        Objective, likelihood and network of the user's own.

    build : callable
        Takes what is stored. Classes, attributes and types are checked; parameters and tensors
        are not. Its errors are attributed to the file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.

    ValueError
        If the file is damaged, or parts have to be handed back.
    """
    state, header = read_file(as_path(path), "estimator")
    with reading(f"{str(path)!r} cannot be loaded", damage=(*DAMAGE, MemoryError)):
        entries = [_entry(header, name, dict) for name in ("parameters", "built", "attributes")]
        parameters, built = (_decoded_parameters(entry, handed_back) for entry in entries[:2])
        _refuse_wrong_parts(entries[:2], handed_back)
        attributes = _decoded_attributes(entries[2])
        return build(Stored(_entry(header, "class", str), parameters, built, attributes, state))


def _entry(record: dict[str, Any], name: str, kind: type) -> Any:
    """An entry of a header, of some type."""
    if name not in record:
        raise ValueError(f"its header lacks the entry {name!r}")
    if type(record[name]) is not kind:
        raise ValueError(
            f"its entry {name!r} must be of type {kind.__name__}. Got {shown(record[name])}"
        )
    return record[name]


def _is_foreign(value: Any) -> bool:
    return type(value) is dict and set(value) == {"handed_back"}


def _decoded_parameters(
    encoded: dict[str, Any], handed_back: Mapping[str, Part | None]
) -> dict[str, Any]:
    """Parameters; parts that are not in the file are those that were handed back."""
    parameters = {
        name: handed_back.get(name) if _is_foreign(value) and name in PARTS else decode(value)
        for name, value in encoded.items()
    }
    if isinstance(parameters.get("net_params"), dict):
        _refuse_programs(parameters["net_params"])
    return parameters


def _refuse_wrong_parts(
    entries: list[dict[str, Any]], handed_back: Mapping[str, Part | None]
) -> None:
    """Raise a ValueError if parts have not been handed back, or without need."""
    foreign: dict[str, list[str]] = {}
    for name, value in (item for entry in entries for item in entry.items()):
        if name in PARTS and _is_foreign(value):
            foreign[name] = what = value["handed_back"]
            if type(what) is not list or list(map(type, what)) != [str, str]:
                raise ValueError(f"it has a {name} that cannot be read: {shown(what)}")
    lacking = {name: what for name, what in foreign.items() if handed_back.get(name) is None}
    if lacking:
        are = "is" if len(lacking) == 1 else "are"
        call = ", ".join(f"{name}={kind}(...)" for name, (kind, _) in lacking.items())
        what = "; ".join(text for _, text in lacking.values())
        raise ValueError(
            f"its {' and '.join(lacking)} {are} not stored, being code of your own, and must be "
            f"handed back: load(path, {call}). What was saved had {what}"
        )
    unused = {name for name, part in handed_back.items() if part is not None} - set(foreign)
    if unused:
        raise ValueError(
            f"its {' and '.join(sorted(unused))} cannot be handed back: the file has its own. "
            "Use set_params after loading"
        )


def _is_count(value: Any) -> bool:
    integer = isinstance(value, Integral) and not isinstance(value, bool)
    return integer and 0 <= int(value) < 2**63


def _is_dict_of(kind: type) -> Callable[[Any], bool]:
    return lambda value: type(value) is dict and set(map(type, value.values())) <= {kind}


def _is_noise(value: Any) -> bool:
    return type(value) is float or (isinstance(value, np.ndarray) and value.dtype == np.float64)


#: What attributes may be. Those after the first seven may be missing.
_ATTRIBUTES: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("n_features_in_", "n_components_", "n_samples_seen_"), _is_count),
    **dict.fromkeys(("n_iter_", "_n_axes"), _is_count),
    "_inverse_dtype": lambda value: value in _FLOATS,
    "_image_shape": lambda value: (
        value is None or (type(value) is tuple and all(map(_is_count, value)))
    ),
    "best_epoch_": _is_count,
    "start_losses_": _is_dict_of(float),
    "stop_reason_": lambda value: type(value) is str,
    "noise_scale_": _is_noise,
    "feature_names_in_": lambda value: type(value) is list and set(map(type, value)) <= {str},
    "aggregate_kl_bounds_": lambda value: (
        type(value) is tuple and list(map(type, value)) == [float, float, int]
    ),
    "_sklearn_output_config": _is_dict_of(str),
}
_ALWAYS = tuple(_ATTRIBUTES)[:7]


def _decoded_attributes(encoded: dict[str, Any]) -> dict[str, Any]:
    """Fitted attributes, of the right types and consistent with each other."""
    attributes = {name: decode(value) for name, value in encoded.items()}
    for name in _ALWAYS:
        _entry(attributes, name, type(attributes.get(name)))
    for name, value in attributes.items():
        if name not in _ATTRIBUTES or not _ATTRIBUTES[name](value):
            raise ValueError(f"its attribute {name!r} cannot be {shown(value)}")
    n_features = attributes["n_features_in_"]
    shape, names = attributes.get("_image_shape"), attributes.get("feature_names_in_")
    noise = attributes.get("noise_scale_")
    if shape is not None and math.prod(shape) != n_features:
        raise ValueError(f"images of the shape {shown(shape)} have not {n_features} pixels")
    if names is not None and len(names) != n_features:
        raise ValueError(f"it must have the names of {n_features} features")
    if isinstance(noise, np.ndarray) and noise.shape != (n_features,):
        raise ValueError(f"its attribute 'noise_scale_' must have {n_features} numbers")
    attributes["_inverse_dtype"] = _FLOATS[attributes["_inverse_dtype"]]
    return attributes
