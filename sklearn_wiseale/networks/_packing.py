"""Modules with arrays in place of tensors, for pickles, hashes and skops.

torch pickles memory addresses with a tensor, so that a module and its copy would have different
hashes: training could not continue, and its checkpoint would not be found. Besides, skops supports
numpy arrays and not tensors.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["pack", "unpack"]

_COMPILED = (torch.jit.ScriptModule, torch.fx.GraphModule)  # have their own deepcopy


class _Values:
    """A tensor as bytes."""

    def __init__(self, tensor: Tensor) -> None:
        self.is_parameter = isinstance(tensor, nn.Parameter)
        self.requires_grad = tensor.requires_grad
        self.dtype, self.shape = str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        self.values = flat.view(torch.uint8).numpy()

    def tensor(self) -> Tensor:
        """Return the tensor, on the CPU."""
        tensor = torch.tensor(self.values).view(getattr(torch, self.dtype)).reshape(self.shape)
        if self.is_parameter:
            return nn.Parameter(tensor, requires_grad=self.requires_grad)
        return tensor.requires_grad_(self.requires_grad)


class _Packed:
    """A module with ``_Values`` for weights and buffers."""

    def __init__(self, module: nn.Module) -> None:
        tensors = [*module.parameters(), *module.buffers()]
        memo = {id(t): _Values(t) for t in tensors if not nn.parameter.is_lazy(t)}
        self.module = copy.deepcopy(module, memo)  # deepcopy looks up tensors in memo

    def restored(self) -> nn.Module:
        """Return the module."""
        memo: dict[int, Any] = {}
        for layer in self.module.modules():
            for value in (layer._parameters | layer._buffers).values():
                if isinstance(value, _Values) and id(value) not in memo:
                    memo[id(value)] = value.tensor()
        return copy.deepcopy(self.module, memo)


def pack(part: Any) -> Any:
    """Return a module with arrays for tensors; other objects and compiled modules unchanged."""
    if not isinstance(part, nn.Module) or any(isinstance(m, _COMPILED) for m in part.modules()):
        return part
    return _Packed(part)


def unpack(part: Any) -> Any:
    """Return the argument of ``pack``, on the CPU."""
    return part.restored() if isinstance(part, _Packed) else part
