"""Parameters and figures to and from JSON: exactly, and of a fixed list of kinds.

Numbers, strings, None and lists stand for themselves. Everything else is a dict with one entry, its
kind and its content: ``{"tuple": [256, 256]}``. A class is stored by its name, which is looked up
among the classes of this package.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .. import likelihoods, networks, objectives
from .._data.validation import Part

__all__ = ["ForeignPartError", "decode", "encode", "shown"]

_NOT_STORED = {"Likelihood", "Modules", "Network", "Objective"}
#: Parts that files name.
_PARTS: dict[str, type[Part]] = {
    name: getattr(module, name)
    for module in (likelihoods, networks, objectives)
    for name in module.__all__
    if isinstance(getattr(module, name), type)
    and issubclass(getattr(module, name), Part)
    and name not in _NOT_STORED
}
_INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
#: Dtypes that files name, in both byte orders.
_DTYPES: dict[str, np.dtype] = {
    dtype.str: dtype
    for native in map(np.dtype, ("bool", *_INTEGERS, "float16", "float32", "float64"))
    for dtype in (native, native.newbyteorder("S"))
}
_PLAIN = (type(None), bool, int, float, str)
_RANGE_LENGTH = 2**20
_MT_WORDS = 624  # of the state of numpy's Mersenne twister


class ForeignPartError(ValueError):
    """An objective, likelihood or network whose class is not of this package."""


def shown(value: Any) -> str:
    """A value as error messages show it, shortened."""
    text = reprlib.Repr()
    text.maxstring = text.maxother = 80
    return text.repr(value)


# to JSON ----------------------------------------------------------------------------------


def encode(value: Any, where: str) -> Any:
    """Return a value in a form that JSON can hold.

    Parameters
    ----------
    value : object

    where : str
        Name of the value in an error message.

    Raises
    ------
    ValueError
        If the value, or something in it, cannot be stored.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if isinstance(value, list | tuple):
        items = [encode(item, f"{where}[{i}]") for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    if kind is dict and all(type(key) is str for key in value):
        return {"dict": [[key, encode(item, f"{where}[{key!r}]")] for key, item in value.items()]}
    if isinstance(value, slice | range):
        ends = [encode(part, where) for part in (value.start, value.stop, value.step)]
        return {kind.__name__: ends}
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, Part):
        if _PARTS.get(kind.__name__) is not kind:
            message = f"{where} cannot be stored: {kind.__name__} is no class of sklearn_wiseale."
            raise ForeignPartError(message)
        parameters = value.get_params(deep=False).items()
        content = {key: encode(item, f"{where}.{key}") for key, item in parameters}
        return {"part": [kind.__name__, content]}
    return _encode_numpy(value, where)


def _encode_numpy(value: Any, where: str) -> Any:
    if isinstance(value, np.dtype) and value.str in _DTYPES:
        return {"dtype": value.str}
    if isinstance(value, type) and issubclass(value, np.generic) and value is not np.generic:
        for name, dtype in _DTYPES.items():
            if dtype.type is value:
                return {"numpy_type": name}
    if isinstance(value, np.str_):
        return {"numpy_text": str(value)}
    if isinstance(value, np.generic) and value.dtype.str in _DTYPES:
        return {"numpy": [value.dtype.str, value.item()]}
    if type(value) is np.ndarray and value.dtype.str in _DTYPES:
        return {"array": [value.dtype.str, list(value.shape), value.ravel().tolist()]}
    if type(value) is np.random.RandomState:
        state: Any = value.get_state(legacy=False)
        if state["bit_generator"] == "MT19937":
            words, position = state["state"]["key"].tolist(), int(state["state"]["pos"])
            return {"random_state": [words, position, state["has_gauss"], state["gauss"]]}
    raise ValueError(
        f"{where} cannot be stored: {shown(value)}, of type {type(value).__name__}. Files hold "
        "numbers, strings, None, lists, tuples, dicts with strings as keys, slices, ranges, numpy "
        "arrays of numbers, RandomState instances of the Mersenne twister and paths."
    )


# from JSON --------------------------------------------------------------------------------


def decode(value: Any) -> Any:
    """Return what ``encode`` was given.

    Raises
    ------
    ValueError
        If ``encode`` does not make such a value.
    """
    if type(value) in _PLAIN:
        return value
    if type(value) is list:
        return [decode(item) for item in value]
    if type(value) is dict and len(value) == 1:
        ((kind, content),) = value.items()
        if kind in _DECODERS:
            try:
                return _DECODERS[kind](content)
            except (TypeError, OverflowError, LookupError) as error:
                message = f"it has a {kind} that cannot be read: {shown(content)}"
                raise ValueError(message) from error
    raise ValueError(f"it has a value of an unknown kind: {shown(value)}")


def _require(right: bool) -> None:
    if not right:
        raise TypeError


def _items(content: Any, *kinds: type) -> list[Any]:
    """The content, if it is a list; with kinds, of just these types."""
    _require(type(content) is list)
    _require(not kinds or tuple(map(type, content)) == kinds)
    return content


def _text(content: Any) -> str:
    _require(type(content) is str)
    return content


def _decode_dict(content: Any) -> dict[str, Any]:
    pairs = [_items(pair) for pair in _items(content)]
    _require(all(len(pair) == 2 for pair in pairs))
    return {_text(key): decode(item) for key, item in pairs}


def _decode_slice(content: Any) -> slice:
    _require(len(_items(content)) == 3)
    return slice(*map(decode, content))


def _decode_range(content: Any) -> range:
    start, stop, step = _items(content, int, int, int)
    _require(step != 0)
    decoded = range(start, stop, step)
    _require(len(decoded) <= _RANGE_LENGTH)
    return decoded


def _decode_scalar(content: Any) -> Any:
    dtype, item = _items(content)
    return _decode_array([dtype, [], [item]])[()]


def _decode_array(content: Any) -> np.ndarray:
    name, shape, items = _items(content, str, list, list)
    dtype = _DTYPES[name]
    _require(all(type(n) is int and n >= 0 for n in shape))
    _require(math.prod(shape) == len(items))
    kinds: dict[str, set[type]] = {"b": {bool}, "f": {int, float}}
    _require(set(map(type, items)) <= kinds.get(dtype.kind, {int}))
    return np.array(items, dtype).reshape(shape)


def _decode_random_state(content: Any) -> np.random.RandomState:
    words, position, has_gauss, gauss = _items(content, list, int, int, float)
    _require(len(words) == _MT_WORDS)
    _require(all(type(word) is int and 0 <= word < 2**32 for word in words))
    _require(0 <= position <= _MT_WORDS)
    _require(has_gauss in (0, 1))
    random_state = np.random.RandomState(0)
    random_state.set_state(("MT19937", np.array(words, np.uint32), position, has_gauss, gauss))
    return random_state


def _decode_part(content: Any) -> Part:
    name, parameters = _items(content, str, dict)
    if name not in _PARTS:
        raise ValueError(f"it names the class {name!r}, which this release does not have")
    unknown = sorted(set(parameters) - set(_PARTS[name]._get_param_names()))
    if unknown:
        raise ValueError(f"it gives {name} parameters that this release does not have: {unknown}")
    return _PARTS[name](**{key: decode(item) for key, item in parameters.items()})


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "array": _decode_array,
    "dict": _decode_dict,
    "dtype": lambda content: _DTYPES[_text(content)],
    "numpy": _decode_scalar,
    "numpy_text": lambda content: np.str_(_text(content)),
    "numpy_type": lambda content: _DTYPES[_text(content)].type,
    "part": _decode_part,
    "path": lambda content: Path(_text(content)),
    "random_state": _decode_random_state,
    "range": _decode_range,
    "slice": _decode_slice,
    "tuple": lambda content: tuple(map(decode, _items(content))),
}
