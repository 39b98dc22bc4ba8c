"""Sets of diagonal Gaussians."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["DiagonalGaussians", "is_sync_free", "log_constant", "spans"]


def is_sync_free(like: Tensor) -> bool:
    """Return whether the host can read a tensor's values without waiting for a device."""
    return like.device.type == "cpu"


def log_constant(mean: Tensor) -> float:
    """Return minus the constant term of log overlaps, for means of shape (n, K)."""
    return 0.5 * mean.shape[1] * math.log(2 * math.pi)


def spans(start: int, stop: int, length: int) -> list[slice]:
    """Split a range into slices of at most ``length``."""
    return [slice(i, min(i + length, stop)) for i in range(start, stop, length)]


class DiagonalGaussians:
    """Means and variances of n Gaussians, (2 K, n), and the gradient by them."""

    def __init__(self, table: Tensor, gradient: Tensor | None = None) -> None:
        self.table, self.gradient = table, gradient
        self.mean, self.var = table.chunk(2)

    @classmethod
    def of(cls, mean: Tensor, log_var: Tensor, gradient: bool = False) -> DiagonalGaussians:
        """Make a set from means and log-variances of shape (n, K)."""
        table = torch.cat([mean.detach().T, log_var.detach().exp().T])
        return cls(table, torch.zeros_like(table) if gradient else None)

    def __len__(self) -> int:
        return self.table.shape[1]

    def part(self, span: slice) -> DiagonalGaussians:
        """Return the Gaussians of a range; they share memory with this set."""
        if span == slice(0, len(self)):
            return self
        gradient = None if self.gradient is None else self.gradient[:, span]
        return DiagonalGaussians(self.table[:, span], gradient)

    def gradients(self) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients by means and log-variances, (n, K) each."""
        if self.gradient is None:
            return None, None
        by_mean, by_var = self.gradient.chunk(2)
        return by_mean.T, (by_var * self.var).T

    @cached_property
    def features(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Terms of the bound in ``find_significant_pairs`` that depend on the columns only."""
        centre, log_var = self.mean.mean(dim=1, keepdim=True), self.var.log()
        mean = self.mean - centre
        square, last = mean.square(), 0.5 * log_var.sum(dim=0, keepdim=True)
        parts = [square, mean, self.var * square, self.var * mean, self.var]
        matrix = torch.cat([*parts, torch.ones_like(last), last])
        typical_var = log_var.mean(dim=1, keepdim=True).exp()
        return centre, typical_var, matrix, matrix.abs().amax(dim=1)
