"""Modules whose tensors are numbers and nothing else, for pickles, hashes and skops.

torch writes addresses of memory into the pickle of a tensor, so that a module and its copy would
have different hashes: a fit could not go on, and its checkpoint would not be found. And what
persists objects without pickle knows arrays of numpy, and no tensors.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["pack", "unpack"]

_OF_ITS_OWN = (torch.jit.ScriptModule, torch.fx.GraphModule)  # copied in their own way


class _Values:
    """A tensor as bytes."""

    def __init__(self, tensor: Tensor) -> None:
        self.is_parameter = isinstance(tensor, nn.Parameter)
        self.requires_grad = tensor.requires_grad
        self.dtype, self.shape = str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        self.values = flat.view(torch.uint8).numpy()

    def tensor(self) -> Tensor:
        """The tensor again, on the CPU."""
        tensor = torch.tensor(self.values).view(getattr(torch, self.dtype)).reshape(self.shape)
        if self.is_parameter:
            return nn.Parameter(tensor, requires_grad=self.requires_grad)
        return tensor.requires_grad_(self.requires_grad)


class _Packed:
    """A module whose weights and buffers are ``_Values``."""

    def __init__(self, module: nn.Module) -> None:
        tensors = [*module.parameters(), *module.buffers()]
        memo = {id(t): _Values(t) for t in tensors if not nn.parameter.is_lazy(t)}
        self.module = copy.deepcopy(module, memo)  # deepcopy takes the copy of a tensor from memo

    def restored(self) -> nn.Module:
        """The module again."""
        memo: dict[int, Any] = {}
        for layer in self.module.modules():
            for value in (layer._parameters | layer._buffers).values():
                if isinstance(value, _Values) and id(value) not in memo:
                    memo[id(value)] = value.tensor()
        return copy.deepcopy(self.module, memo)


def pack(part: Any) -> Any:
    """Return a module with numbers for tensors; what is none, and compiled code, as it is."""
    if not isinstance(part, nn.Module) or any(isinstance(m, _OF_ITS_OWN) for m in part.modules()):
        return part
    return _Packed(part)


def unpack(part: Any) -> Any:
    """Return what ``pack`` was given, on the CPU."""
    return part.restored() if isinstance(part, _Packed) else part
