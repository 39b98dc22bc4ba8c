"""Parameters and figures to and from JSON: exactly, and of a fixed list of kinds.

Numbers, strings, None and lists stand for themselves. Everything else is a dict with one entry, its
kind and its content: ``{"tuple": [256, 256]}``. A class is stored by its name, which is looked up
among the classes of this package.
"""

from __future__ import annotations

import json
import reprlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import likelihoods, networks, objectives
from .._data.validation import Part

__all__ = ["Foreign", "ForeignPartError", "decode", "encode", "shown"]

_NOT_STORED = {"Likelihood", "Modules", "Network", "Objective"}
#: Parts that files may name.
_PARTS: dict[str, type[Part]] = {
    name: value
    for module in (likelihoods, networks, objectives)
    for name, value in vars(module).items()
    if name in module.__all__ and name not in _NOT_STORED
    if isinstance(value, type) and issubclass(value, Part)
}
_INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
_NATIVE = [np.dtype(name) for name in ("bool", *_INTEGERS, "float16", "float32", "float64")]
#: Dtypes that files may name, in both byte orders.
_DTYPES = {dtype.str: dtype for one in _NATIVE for dtype in (one, one.newbyteorder("S"))}
_SCALAR_TYPES = {dtype.type: dtype.str for dtype in _NATIVE}
_PLAIN = (type(None), bool, int, float, str)
_RANGE_LENGTH = 2**20


class Foreign(NamedTuple):
    """Stands for a part whose class is not of this package, and which the user hands back."""

    kind: str
    text: str  # its repr


class ForeignPartError(ValueError):
    """An objective, likelihood or network whose class is not of this package."""


def shown(value: Any) -> str:
    """A value as error messages show it, shortened."""
    text = reprlib.Repr()
    text.maxstring = text.maxother = 80
    return text.repr(value)


def encode(value: Any, where: str) -> Any:
    """Return a value as JSON can hold it; raise a ValueError that says where if it cannot."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is Foreign:
        return {"handed_back": list(value)}
    if isinstance(value, list | tuple):
        items = [encode(item, f"{where}[{i}]") for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    if kind is dict and all(type(key) is str for key in value):
        return {"dict": [[key, encode(item, f"{where}[{key!r}]")] for key, item in value.items()]}
    if kind is slice:
        return {"slice": [encode(end, where) for end in (value.start, value.stop, value.step)]}
    if isinstance(value, Part):
        if _PARTS.get(kind.__name__) is not kind:
            message = f"{where} cannot be stored: {kind.__name__} is no class of sklearn_wiseale."
            raise ForeignPartError(message)
        parameters = value.get_params(deep=False).items()
        content = {key: encode(item, f"{where}.{key}") for key, item in parameters}
        return {"part": [kind.__name__, content]}
    encoded = _encode_leaf(value)
    if encoded is None:
        raise ValueError(
            f"{where} cannot be stored: {shown(value)}, of type {kind.__name__}. Files hold "
            "numbers, strings, None, lists, tuples, dicts with strings as keys, slices, ranges, "
            "numpy arrays of numbers, RandomState instances of the Mersenne twister and paths."
        )
    return encoded


def _encode_leaf(value: Any) -> dict[str, Any] | None:
    """A value that holds no other values, or None if it cannot be stored."""
    match value:
        case range():
            return {"range": [value.start, value.stop, value.step]}
        case Path():
            return {"path": str(value)}
        case type() if value in _SCALAR_TYPES:
            return {"numpy_type": _SCALAR_TYPES[value]}
        case np.dtype() if value.str in _DTYPES:
            return {"dtype": value.str}
        case np.str_():
            return {"numpy_text": str(value)}
        case np.generic() if value.dtype.str in _DTYPES:
            return {"numpy": [value.dtype.str, value.item()]}
        case np.ndarray() if type(value) is np.ndarray and value.dtype.str in _DTYPES:
            return {"array": [value.dtype.str, list(value.shape), value.ravel().tolist()]}
        case np.random.RandomState():
            state: Any = value.get_state(legacy=False)
            if state["bit_generator"] == "MT19937":
                words, position = state["state"]["key"].tolist(), int(state["state"]["pos"])
                return {"random_state": [words, position, state["has_gauss"], state["gauss"]]}
    return None


def decode(value: Any) -> Any:
    """Invert :func:`encode`; raise a ValueError if it does not make such a value."""
    if type(value) in _PLAIN:
        return value
    if type(value) is list:
        return [decode(item) for item in value]
    if type(value) is not dict or len(value) != 1:
        raise ValueError(f"it has a value of an unknown kind: {shown(value)}")
    ((kind, content),) = value.items()
    match kind, content:
        case "tuple", list():
            return tuple(map(decode, content))
        case "slice", [start, stop, step]:
            return slice(decode(start), decode(stop), decode(step))
        case "dict", list() if all(_is_pair(pair) for pair in content):
            return {key: decode(item) for key, item in content}
        case "part", [str(name), dict(parameters)]:
            return _decode_part(name, parameters)
        case "handed_back", [str(name), str(text)]:
            return Foreign(name, text)
    reason: Exception | None = None
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            decoded = _decode_leaf(kind, content)
        if json.dumps(encode(decoded, kind)) == json.dumps(value):
            return decoded
    except (LookupError, OverflowError, TypeError, ValueError) as error:
        reason = error
    raise ValueError(f"it has a {kind} that cannot be read: {shown(content)}") from reason


def _is_pair(value: Any) -> bool:
    return type(value) is list and len(value) == 2 and type(value[0]) is str


def _decode_part(name: str, parameters: dict[str, Any]) -> Part:
    if name not in _PARTS:
        raise ValueError(f"it names the class {name!r:.80}, which this release does not have")
    unknown = sorted(set(parameters) - set(_PARTS[name]._get_param_names()))
    if unknown:
        raise ValueError(f"it gives {name} parameters that this release does not have: {unknown}")
    return _PARTS[name](**{key: decode(item) for key, item in parameters.items()})


def _decode_leaf(kind: str, content: Any) -> Any:
    """A value that holds no other values. The caller checks that it encodes to the content."""
    match kind, content:
        case "range", [start, stop, step] if len(range(start, stop, step)) <= _RANGE_LENGTH:
            return range(start, stop, step)
        case "path", str():
            return Path(content)
        case "numpy_type", str():
            return _DTYPES[content].type
        case "dtype", str():
            return _DTYPES[content]
        case "numpy_text", str():
            return np.str_(content)
        case "numpy", [dtype, item]:
            return np.array([item], _DTYPES[dtype])[0]
        case "array", [dtype, shape, items]:
            return np.array(items, _DTYPES[dtype]).reshape(shape)
        case "random_state", [list(words), position, has_gauss, gauss] if 0 <= position <= 624:
            random_state = np.random.RandomState(0)
            state = ("MT19937", np.array(words, np.uint32), position, has_gauss, gauss)
            random_state.set_state(state)
            return random_state
    raise ValueError
