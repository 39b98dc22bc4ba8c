"""The state of training as one nested dict, and the check of a state that comes from a file.

``VariationalNet.state_dict`` makes the dict: tensors and plain numbers by name. The best epoch, the
rollback after an error, checkpoints, ``save`` and snapshots all use it or a part of it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["State", "check_like", "copied", "join_state", "load_optimizer", "split_state"]

State = dict[str, Any]


def copied(state: Any) -> Any:
    """A copy of a state that later steps do not change."""
    if isinstance(state, Tensor):
        return state.detach().clone()
    if isinstance(state, Mapping):
        return {name: copied(value) for name, value in state.items()}
    return copy.deepcopy(state)


def split_state(state: State, prefix: str = "") -> tuple[dict[str, Tensor], State]:
    """Tensors by their paths, such as "module/encoder.skip.bias", and everything else."""
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
    """The inverse of :func:`split_state`."""
    state = {name: join_state({}, v) if type(v) is dict else v for name, v in rest.items()}
    for path, tensor in tensors.items():
        *parents, name = path.split("/")
        inner = state
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[name] = tensor
    return state


def check_like(given: Any, own: Any, path: str, *, finite: bool = False) -> None:
    """Raise a ValueError unless a state has the names, types, shapes and dtypes of another one.

    Integers must be counts. With ``finite``, all tensors must be finite. Extra state of modules is
    left to ``load_state_dict``.
    """
    if isinstance(own, Tensor):
        if not isinstance(given, Tensor) or (given.shape, given.dtype) != (own.shape, own.dtype):
            got = (tuple(given.shape), given.dtype) if isinstance(given, Tensor) else type(given)
            raise ValueError(
                f"its tensor {path!r} must have the shape {tuple(own.shape)} and {own.dtype}, as "
                f"its parameters require. Got {got}"
            )
        if finite and not given.isfinite().all():
            raise ValueError(f"its tensor {path!r} must be finite")
    elif isinstance(own, Mapping) and isinstance(given, Mapping):
        for names, problem in (
            (own.keys() - given.keys(), "lacks"),
            (given.keys() - own.keys(), "has, besides those that its parameters require,"),
        ):
            if names:
                shown = ", ".join(sorted(names)[:3])
                raise ValueError(f"it {problem} tensors or numbers of {path!r}: {shown:.200}")
        for name, value in own.items():
            if not name.endswith("_extra_state"):
                check_like(given[name], value, f"{path}/{name}", finite=finite)
    elif type(given) is not type(own) or (type(own) is int and not 0 <= given < 2**53):
        raise ValueError(f"its state has {path}={given!r:.80}")


def load_optimizer(optimizer: torch.optim.Optimizer, given: Mapping[str, State]) -> None:
    """Load the state of an optimiser, if it fits the parameters.

    Fused steps do not check shapes and would write beyond tensors that are too short: each tensor
    must have the shape and dtype of its parameter. With other steps it may also broadcast.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    fused = any(group.get("fused") for group in optimizer.param_groups)
    kinds = [{name: type(value) for name, value in values.items()} for values in given.values()]
    if any(kind != kinds[0] for kind in kinds):
        raise ValueError("its optimizer must have the same state for all parameters")
    for index, values in given.items():
        parameter = parameters[int(index)]
        for name, value in values.items():
            if not isinstance(value, Tensor) or (value.ndim == 0 and (name == "step" or not fused)):
                continue
            if fused:
                check_like(value, parameter, f"optimizer/{index}/{name}")
            else:
                value.broadcast_to(parameter.shape)  # raises a RuntimeError if it does not
    state = {int(index): dict(values) for index, values in given.items()}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
