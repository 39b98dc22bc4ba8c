"""Scalars whose gradients are computed together with their values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["with_gradient"]


def with_gradient(value: Tensor, inputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """Return a scalar whose gradient autograd takes from the arguments.

    The graph has one node in place of one per operation, which makes small steps faster.

    Parameters
    ----------
    value : Tensor, scalar
        Without a graph.

    inputs, gradients : sequence of Tensor
        Tensors on which the value depends, and its derivatives by them.
    """
    return _WithGradient.apply(value, len(inputs), *inputs, *gradients)


class _WithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, n_inputs: int, *tensors: Tensor) -> Tensor:
        """Return the value and keep the gradients."""
        ctx.save_for_backward(*tensors[n_inputs:])
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients by the inputs; the other arguments have none."""
        gradients = ctx.saved_tensors
        return None, None, *(grad * gradient for gradient in gradients), *[None] * len(gradients)
