"""The state of a net in training: taken, given back, and looked at before it is used."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ._callbacks import BestState, Schedule
from ._net import VariationalNet

__all__ = [
    "require_finite",
    "require_like",
    "restore_training",
    "rewinder",
    "set_generator_state",
    "training_state",
]

#: What of a net learns.
_LEARNING = ("module_", "criterion_", "optimizer_")
_GENERATORS = ("order", "noise")
_MT_WORDS = 624  # of the state of a Mersenne twister


def training_state(
    net: VariationalNet, n_before: int = 0
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All that an epoch leaves to the next: tensors, and what JSON can hold.

    Parameters
    ----------
    net : VariationalNet
        In training.

    n_before : int, default=0
        Epochs in the history that belong to earlier calls.
    """
    parts: dict[str, dict[str, Any]] = {
        "module": net.module_.state_dict(),
        "criterion": net.criterion_.state_dict(),
        "average": _averages(net),
        "generator": {name: _generator(net, name).get_state() for name in _GENERATORS},
    }
    optimizer, numbers = net.optimizer_.state_dict(), []
    for index, values in optimizer["state"].items():
        of_tensors = _tensors_of(values)
        parts[f"optimizer.{index}"] = of_tensors
        numbers.append([index, {k: v for k, v in values.items() if k not in of_tensors}])
    callbacks = {}
    for name, callback in net.callbacks_:
        if isinstance(callback, (Schedule, BestState)):
            callbacks[name] = callback.state()
            parts[f"callback.{name}"] = getattr(callback, "state_", {})
    tensors = {f"{part}/{k}": v for part, items in parts.items() for k, v in items.items()}
    history = net.epochs_since(n_before)
    return tensors, {"callbacks": callbacks, "history": history, "optimizer": numbers}


def restore_training(
    net: VariationalNet, tensors: dict[str, Tensor], header: dict[str, Any]
) -> int:
    """Take over what ``training_state`` gave; the number of its epochs.

    Where it is the state of another net, or of none, that is an error of some kind: whatever is in
    a file has been looked at before it is used.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part, _, key = name.partition("/")
        parts.setdefault(part, {})[key] = tensor
    device = torch.device(net.device)
    weights = net.module_.state_dict()
    _require_all_like(parts["module"], weights, finite=True)
    net.module_.load_state_dict(parts["module"])
    net.criterion_.load_state_dict(parts.get("criterion", {}))
    net.criterion_.to(device)
    averages = _averages(net)
    _require_all_like(parts.get("average", {}), averages)
    for index, average in averages.items():
        average.copy_(parts["average"][index])
    _restore_optimizer(
        net.optimizer_,
        {i: {**v, **parts.get(f"optimizer.{i}", {})} for i, v in header["optimizer"]},
    )
    for name in _GENERATORS:
        set_generator_state(_generator(net, name), parts["generator"][name])
    for name, callback in net.callbacks_:
        if isinstance(callback, (Schedule, BestState)):
            callback.restore(header["callbacks"][name])
        if isinstance(callback, BestState):
            held = parts[f"callback.{name}"]
            _require_all_like(held, weights, finite=True)
            callback.state_ = {k: v.to(device) for k, v in held.items()}
    net.record_epochs(header["history"])
    return len(header["history"])


def _restore_optimizer(optimizer: torch.optim.Optimizer, given: dict[int, dict[str, Any]]) -> None:
    """Take over an optimiser's state, if it is like what a step makes of a copy.

    Fused steps do not look at shapes, and would write beyond what is too short.
    """
    twin = copy.deepcopy(optimizer)
    for group in twin.param_groups:
        for weight in group["params"]:
            weight.grad = torch.zeros_like(weight)
    twin.step()
    own = twin.state_dict()["state"]
    for index, values in given.items():
        kinds = [{k: type(v) for k, v in state.items()} for state in (values, own[index])]
        if kinds[0] != kinds[1]:
            raise ValueError(f"it has another optimiser's state: {sorted(values)}")
        _require_all_like(_tensors_of(values), _tensors_of(own[index]))
    optimizer.load_state_dict({**optimizer.state_dict(), "state": given})


def rewinder(net: VariationalNet) -> Callable[[], None]:
    """A function that takes the net back to its present state."""
    before, n_epochs = net.__dict__.copy(), len(net.history)
    parts = [before[name] for name in _LEARNING if name in before]
    states = [copy.deepcopy(part.state_dict()) for part in parts]
    generators = [_generator(net, name) for name in _GENERATORS]
    draws = [generator.get_state() for generator in generators]
    schedules = [part for _, part in net.callbacks_ if isinstance(part, Schedule)]
    steps = [schedule.state() for schedule in schedules]

    def rewind() -> None:
        net.__dict__ = before
        del net.history[n_epochs:]
        for part, state in zip(parts, states, strict=True):
            part.load_state_dict(state)
        for generator, state in zip(generators, draws, strict=True):
            generator.set_state(state)
        for schedule, step in zip(schedules, steps, strict=True):
            schedule.restore(step)

    return rewind


def set_generator_state(generator: torch.Generator, state: Tensor) -> None:
    """Set the state of a generator, if it is one.

    Of its 624 words torch reads those from ``next`` on until ``left`` are used up, also where
    that leads beyond the last one.
    """
    if generator.device.type == "cpu" and state.dtype == torch.uint8 and state.numel() > 24:
        counts = state.numpy()[8:24].view("i4,i4,u8")[0]
        left, after = int(counts[0]), int(counts[2])
        if (left, after) != (1, 0) and left + after != _MT_WORDS + 1:
            raise ValueError("it has a generator whose state is none")
    generator.set_state(state)


def require_like(name: str, given: Tensor, own: Tensor) -> None:
    """Raise a ValueError unless a tensor has the shape and the dtype of another."""
    if (given.shape, given.dtype) != (own.shape, own.dtype):
        raise ValueError(
            f"its tensor {name!r} must have the shape {tuple(own.shape)} and {own.dtype}, as its "
            f"parameters ask for. Got {tuple(given.shape)} and {given.dtype}"
        )


def require_finite(name: str, given: Tensor) -> None:
    """Raise a ValueError unless all numbers are finite."""
    if not given.isfinite().all():
        raise ValueError(f"its tensor {name!r} must be finite")


def _require_all_like(
    given: dict[str, Tensor], own: dict[str, Tensor], *, finite: bool = False
) -> None:
    """Raise a ValueError unless tensors have the names, shapes and dtypes of others."""
    if given.keys() != own.keys():
        raise ValueError(f"it has other tensors: {sorted(given.keys() ^ own.keys())[:3]}")
    for name, tensor in given.items():
        require_like(name, tensor, own[name])
        if finite:
            require_finite(name, tensor)


def _generator(net: VariationalNet, name: str) -> torch.Generator:
    return getattr(net, f"{name}_generator_")


def _averages(net: VariationalNet) -> dict[str, Tensor]:
    return {str(i): average for i, average in enumerate((net.average_ or {}).values())}


def _tensors_of(state: dict[str, Any]) -> dict[str, Tensor]:
    return {k: v for k, v in state.items() if isinstance(v, Tensor)}
