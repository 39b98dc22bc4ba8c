"""Log mean overlaps, summed tile by tile, as an autograd function."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .gaussians import DiagonalGaussians
from .tiles import exp_, iterate_tiles

__all__ = ["TiledOverlap"]


class TiledOverlap(torch.autograd.Function):
    """Log mean overlaps, without a tensor of all pairs.

    If no column needs a gradient, the gradient of the rows is computed together with the value.
    Otherwise the backward pass computes the tiles again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        mean: Tensor,
        log_var: Tensor,
        other_mean: Tensor | None,
        other_log_var: Tensor | None,
        log_weights: Tensor,
        start: Tensor | None,
        log_column_weights: Tensor | None,
        sparse_share: float,
    ) -> Tensor:
        """Return the values of all rows. ``other_mean`` is None if the columns are the rows."""
        free_columns = other_mean is None or any(ctx.needs_input_grad[2:5])
        one_pass = any(ctx.needs_input_grad[:2]) and not free_columns
        rows = columns = DiagonalGaussians.of(mean, log_var, gradient=one_pass)
        if other_mean is not None and other_log_var is not None:
            columns = DiagonalGaussians.of(other_mean, other_log_var)
        weights = log_weights.expand(len(mean), -1)
        result, lower = torch.full_like(mean[:, 0], -math.inf), None
        if start is not None:
            result = lower = start.detach().clone()
        elif rows is columns:  # the overlap of a row with itself is part of its sum
            lower = weights.diagonal() - 0.5 * (4 * math.pi * rows.var).log().sum(dim=0)
        options = lower, sparse_share, log_column_weights, one_pass
        for tile in iterate_tiles(rows, columns, weights, *options):
            for side in tile.roles:
                span, terms = tile.spans[side], tile.weighted(weights, side)
                result[span] = tile.log_add_exp(result[span], terms, side)
            if one_pass:
                weight = exp_(terms.sub_(tile.expand(result[span], 0)))
                if log_column_weights is not None:
                    shares = tile.expand(log_column_weights[tile.spans[1]], 1) + tile.log_overlap
                    weight += exp_(shares.clamp_(max=0.0))
                tile.accumulate_gradient(weight)
        ctx.sparse_share = sparse_share
        inputs = (mean, log_var, other_mean, other_log_var, log_weights) if free_columns else ()
        ctx.save_for_backward(start, result, *rows.gradients(), *inputs)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients by all arguments."""
        start, result, *gradients = ctx.saved_tensors
        by_start = None if start is None else grad * (start - result).exp()
        by_rows, inputs = gradients[:2], gradients[2:]
        if not inputs:
            by_rows = [None if by_row is None else grad[:, None] * by_row for by_row in by_rows]
            return *by_rows, None, None, None, by_start, None, None
        mean, log_var, other_mean, other_log_var, log_weights = inputs
        rows = columns = DiagonalGaussians.of(mean, log_var, gradient=True)
        if other_mean is not None:
            columns = DiagonalGaussians.of(other_mean, other_log_var, gradient=True)
        weights = log_weights.expand(len(mean), -1)
        by_weights = torch.zeros_like(log_weights) if ctx.needs_input_grad[4] else None
        for tile in iterate_tiles(rows, columns, weights, result, ctx.sparse_share):
            total = torch.zeros_like(tile.log_overlap)
            for side in tile.roles:
                span, terms = tile.spans[side], tile.weighted(weights, side)
                weight = exp_(terms.sub_(tile.expand(result[span], side)))
                total += weight.mul_(tile.expand(grad[span], side))
                if by_weights is not None:
                    tile.add_to(by_weights, weight, side)
            tile.accumulate_gradient(total)
        by_columns = (None, None) if rows is columns else columns.gradients()
        return *rows.gradients(), *by_columns, by_weights, by_start, None, None
