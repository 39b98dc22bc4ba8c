"""Scalars whose gradients are computed together with their values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["with_gradient"]


def with_gradient(value: Tensor, inputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """Return a scalar to which autograd attributes the given gradients.

    One node of the graph takes the place of one for each operation, which is what a small step
    spends most of its time on.

    Parameters
    ----------
    value : Tensor, scalar
        Without a graph.

    inputs, gradients : sequences of Tensor
        What the value is a function of, and its derivatives, of the same shapes.
    """
    return _WithGradient.apply(value, len(inputs), *inputs, *gradients)


class _WithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, n_inputs: int, *tensors: Tensor) -> Tensor:
        """The value."""
        ctx.save_for_backward(*tensors[n_inputs:])
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """By the inputs alone."""
        gradients = ctx.saved_tensors
        return None, None, *(grad * gradient for gradient in gradients), *[None] * len(gradients)
