"""Parameters to and from what JSON can hold: exactly, and of a fixed list of kinds.

Numbers, texts, None and lists stand for themselves. All else is a dict of one entry, kind and
content: ``{"tuple": [256, 256]}``. Of classes there is only the name, and it is looked up among
the parts of this package.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import likelihoods, networks, objectives
from ._parts import Part

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
_RANGE_LENGTH = 2**20
_MT_WORDS = 624  # of the state of a Mersenne twister


class ForeignPartError(ValueError):
    """An objective, likelihood or network whose class is not of this package."""


def shown(value: Any) -> str:
    """A value as it stands in a message: not too long."""
    text = reprlib.Repr()
    text.maxstring = text.maxother = 80
    return text.repr(value)


def encode(value: Any, where: str) -> Any:
    """Return a value in a form that JSON can hold.

    Parameters
    ----------
    value : object

    where : str
        What the value is called in an error message.

    Raises
    ------
    ValueError
        If the value, or something in it, is of no kind that can be stored.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (list, tuple):
        items = [encode(item, f"{where}[{i}]") for i, item in enumerate(value)]
        return items if type(value) is list else {"tuple": items}
    if type(value) is dict and all(type(key) is str for key in value):
        return {"dict": [[key, encode(item, f"{where}[{key!r}]")] for key, item in value.items()]}
    if type(value) in (slice, range):
        ends = [encode(part, where) for part in (value.start, value.stop, value.step)]
        return {type(value).__name__: ends}
    if isinstance(value, Path):
        return {"path": str(value)}
    if type(value) is np.random.RandomState:
        return _encode_random_state(value, where)
    if isinstance(value, Part):
        return _encode_part(value, where)
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
    raise ValueError(
        f"{where} cannot be stored: {shown(value)}, of type {type(value).__name__}. Files hold "
        "numbers, texts, None, lists, tuples, dicts with texts as keys, slices, ranges, numpy "
        "arrays of numbers, RandomState instances and paths."
    )


def _encode_random_state(value: np.random.RandomState, where: str) -> Any:
    state: Any = value.get_state(legacy=False)
    if state["bit_generator"] != "MT19937":
        raise ValueError(
            f"{where} cannot be stored: it must be a RandomState of the Mersenne twister. "
            f"Got one of {state['bit_generator']}."
        )
    words, position = state["state"]["key"].tolist(), state["state"]["pos"]
    return {"random_state": [words, int(position), state["has_gauss"], state["gauss"]]}


def _encode_part(value: Part, where: str) -> Any:
    name = type(value).__name__
    if _PARTS.get(name) is not type(value):
        raise ForeignPartError(f"{where} cannot be stored: {name} is no class of sklearn_wiseale.")
    parameters = value.get_params(deep=False).items()
    return {"part": [name, {key: encode(item, f"{where}.{key}") for key, item in parameters}]}


def decode(value: Any) -> Any:
    """Return what ``encode`` has made.

    Raises
    ------
    ValueError
        If it is nothing that ``encode`` makes.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is list:
        return [decode(item) for item in value]
    if type(value) is dict and len(value) == 1:
        ((kind, content),) = value.items()
        if kind in _DECODERS:
            try:
                return _DECODERS[kind](content)
            except (TypeError, OverflowError) as error:
                message = f"it has a {kind} that cannot be read: {shown(content)}"
                raise ValueError(message) from error
    raise ValueError(f"it has a value of an unknown kind: {shown(value)}")


def _check(right: bool, kind: str, content: Any) -> None:
    if not right:
        raise ValueError(f"it has a {kind} that cannot be read: {shown(content)}")


def _decode_dict(content: Any) -> dict[str, Any]:
    pairs = type(content) is list and all(type(p) is list and len(p) == 2 for p in content)
    _check(pairs and all(type(key) is str for key, _ in content), "dict", content)
    return {key: decode(item) for key, item in content}


def _decode_tuple(content: Any) -> tuple[Any, ...]:
    _check(type(content) is list, "tuple", content)
    return tuple(map(decode, content))


def _decode_slice(content: Any) -> slice:
    _check(type(content) is list and len(content) == 3, "slice", content)
    return slice(*map(decode, content))


def _decode_range(content: Any) -> range:
    right = type(content) is list and len(content) == 3 and all(type(i) is int for i in content)
    _check(right and content[2] != 0, "range", content)
    decoded = range(*content)
    _check(len(decoded) <= _RANGE_LENGTH, "range", content)
    return decoded


def _decode_path(content: Any) -> Path:
    _check(type(content) is str, "path", content)
    return Path(content)


def _decode_dtype(content: Any) -> np.dtype:
    _check(type(content) is str and content in _DTYPES, "dtype", content)
    return _DTYPES[content]


def _decode_text(content: Any) -> np.str_:
    _check(type(content) is str, "numpy_text", content)
    return np.str_(content)


def _decode_scalar(content: Any) -> Any:
    _check(type(content) is list and len(content) == 2, "numpy", content)
    dtype, item = content
    return _decode_array([dtype, [], [item]])[()]


def _decode_array(content: Any) -> np.ndarray:
    _check(type(content) is list and len(content) == 3, "array", content)
    name, shape, items = content
    dtype = _decode_dtype(name)
    right = type(shape) is list and all(type(n) is int and n >= 0 for n in shape)
    _check(right and type(items) is list and math.prod(shape) == len(items), "array", content)
    kinds: dict[str, set[type]] = {"b": {bool}, "f": {int, float}}
    allowed = kinds.get(dtype.kind, {int})
    _check(set(map(type, items)) <= allowed, "array", content)
    return np.array(items, dtype).reshape(shape)


def _decode_random_state(content: Any) -> np.random.RandomState:
    right = type(content) is list and list(map(type, content)) == [list, int, int, float]
    _check(right, "random_state", content)
    words, position, has_gauss, gauss = content
    numbers = len(words) == _MT_WORDS and all(type(w) is int and 0 <= w < 2**32 for w in words)
    _check(numbers and 0 <= position <= _MT_WORDS and has_gauss in (0, 1), "random_state", content)
    random_state = np.random.RandomState(0)
    random_state.set_state(("MT19937", np.array(words, np.uint32), position, has_gauss, gauss))
    return random_state


def _decode_part(content: Any) -> Part:
    right = type(content) is list and list(map(type, content)) == [str, dict]
    _check(right, "part", content)
    name, parameters = content
    if name not in _PARTS:
        raise ValueError(f"it names the class {name!r}, which this release does not have")
    unknown = sorted(set(parameters) - set(_PARTS[name]._get_param_names()))
    if unknown:
        raise ValueError(f"it gives {name} parameters that this release does not have: {unknown}")
    return _PARTS[name](**{key: decode(item) for key, item in parameters.items()})


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "array": _decode_array,
    "dict": _decode_dict,
    "dtype": _decode_dtype,
    "numpy": _decode_scalar,
    "numpy_text": _decode_text,
    "numpy_type": lambda content: _decode_dtype(content).type,
    "part": _decode_part,
    "path": _decode_path,
    "random_state": _decode_random_state,
    "range": _decode_range,
    "slice": _decode_slice,
    "tuple": _decode_tuple,
}
