"""The state of training as one nested dict, and the checks of a state that comes from a file.

``VariationalNet.state_dict`` makes the dict: tensors and plain numbers by name. The best epoch, the
rollback after an error, checkpoints, ``save`` and snapshots all use it or a part of it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "State",
    "copied",
    "join_state",
    "load_module",
    "load_optimizer",
    "require_numbers_like",
    "require_tensors_like",
    "split_state",
]

State = dict[str, Any]


def copied(state: Any) -> Any:
    """A copy of a state that later steps do not change."""
    if isinstance(state, Tensor):
        return state.detach().clone()
    if isinstance(state, Mapping):
        return {name: copied(value) for name, value in state.items()}
    return copy.deepcopy(state)


def split_state(state: State, prefix: str = "") -> tuple[dict[str, Tensor], State]:
    """Tensors by their paths, such as "module/encoder.skip.bias", and all else as it was."""
    tensors, rest = dict[str, Tensor](), State()
    for name, value in state.items():
        if isinstance(value, Tensor):
            tensors[prefix + name] = value
        elif isinstance(value, Mapping):
            inner, rest[name] = split_state(dict(value), f"{prefix}{name}/")
            tensors |= inner
        else:
            rest[name] = value
    return tensors, rest


def join_state(tensors: Mapping[str, Tensor], rest: State) -> State:
    """The state that :func:`split_state` has taken apart."""
    state = {name: join_state({}, v) if type(v) is dict else v for name, v in rest.items()}
    for path, tensor in tensors.items():
        *parents, name = path.split("/")
        inner = state
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[name] = tensor
    return state


def load_module(module: nn.Module, given: State, what: str, *, finite: bool) -> None:
    """Give a module its weights and buffers, if they are those that it has.

    A module on the device "meta" takes the tensors themselves.

    Raises
    ------
    ValueError
        If tensors are missing or superfluous, or have other shapes or dtypes; with ``finite``
        also if some number is not finite.
    """
    own = module.state_dict()
    require_tensors_like(given, own, what, finite=finite)
    module.load_state_dict(given, assign=any(v.is_meta for v in _tensors(own.values())))


def load_optimizer(optimizer: torch.optim.Optimizer, given: Mapping[str, State]) -> None:
    """Give an optimiser its state, if it fits the parameters.

    Each tensor must have the shape and dtype of its parameter. Fused steps do not check this, and
    would write beyond tensors that are too short. With other steps a shape that broadcasts to that
    of the parameter is also allowed.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    fused = any(group.get("fused") for group in optimizer.param_groups)
    kinds = [{name: type(value) for name, value in values.items()} for values in given.values()]
    if any(kind != kinds[0] for kind in kinds):
        raise ValueError("its optimizer has not the same state for all parameters")
    for index, values in given.items():
        parameter = parameters[int(index)]
        for name, value in values.items():
            path = f"optimizer/{index}/{name}"
            if not isinstance(value, Tensor):
                continue
            if value.ndim == 0 and (name == "step" or not fused):
                continue
            if fused or not _broadcasts(value.shape, parameter.shape):
                _require_like(path, value, parameter)
    state = {int(index): dict(values) for index, values in given.items()}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def require_tensors_like(given: State, own: State, what: str, *, finite: bool) -> None:
    """Raise a ValueError unless tensors have the names, shapes and dtypes of others."""
    for names, problem in (
        (own.keys() - given.keys(), "lacks"),
        (given.keys() - own.keys(), "has, besides those that its parameters ask for,"),
    ):
        if names:
            shown = ", ".join(sorted(names)[:3])
            raise ValueError(f"it {problem} tensors of the {what}: {shown:.200}")
    for name, expected in own.items():
        if isinstance(expected, Tensor):
            _require_like(f"{what}/{name}", given[name], expected)
            if finite and not given[name].isfinite().all():
                raise ValueError(f"its tensor {f'{what}/{name}'!r} must be finite")


def require_numbers_like(given: State, own: State) -> None:
    """Raise a ValueError unless numbers have the names and types of others."""
    for name in given.keys() | own.keys():
        value = given.get(name)
        possible = type(value) is not int or 0 <= value < 2**53
        if type(value) is not type(own.get(name)) or not possible:
            raise ValueError(f"its state has {name}={value!r:.80}")


def _require_like(name: str, given: Any, own: Tensor) -> None:
    """Raise a ValueError unless a tensor has the shape and the dtype of another."""
    if not isinstance(given, Tensor) or (given.shape, given.dtype) != (own.shape, own.dtype):
        got = (tuple(given.shape), given.dtype) if isinstance(given, Tensor) else type(given)
        raise ValueError(
            f"its tensor {name!r} must have the shape {tuple(own.shape)} and {own.dtype}, as its "
            f"parameters require. Got {got}"
        )


def _broadcasts(shape: torch.Size, to: torch.Size) -> bool:
    try:
        return torch.broadcast_shapes(shape, to) == to
    except RuntimeError:
        return False


def _tensors(values: Iterable[Any]) -> Iterable[Tensor]:
    return (value for value in values if isinstance(value, Tensor))
