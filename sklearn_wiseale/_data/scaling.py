"""Shift and scale of the columns."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["Scaling", "TensorScaling"]


class Scaling(NamedTuple):
    """The scaling ``(X - shift) / scale``."""

    shift: np.ndarray  # (n_features,)
    scale: np.ndarray  # (n_features,), positive

    def apply(self, X: np.ndarray) -> np.ndarray:
        """From the units of X, float64, to scaled units."""
        return (X - self.shift) / self.scale

    def invert(self, X: np.ndarray) -> np.ndarray:
        """From scaled units back to the units of X, float64."""
        return X.astype(np.float64) * self.scale + self.shift

    @property
    def fits_float32(self) -> bool:
        """Whether float32 holds the numbers of the scaling, with room to spare."""
        shift, scale = np.abs(self.shift).max(), self.scale
        return bool(shift < 1e30 and scale.min() > 1e-30 and scale.max() < 1e30)


class TensorScaling:
    """A :class:`Scaling` of numpy rows to tensors of a dtype, as exact as the dtype allows.

    Rows that float32 holds exactly are scaled in float32. The shift then has two parts: ``high`` is
    rounded and subtracted without error, and ``rest`` is added after scaling.
    """

    def __init__(self, scaling: Scaling, kind: np.dtype, dtype: torch.dtype) -> None:
        exact = np.can_cast(kind, np.float32) and scaling.fits_float32
        self.kind = np.float32 if exact and dtype == torch.float32 else np.float64
        high = scaling.shift.astype(self.kind)
        rest = (high - scaling.shift) / scaling.scale
        numbers = (part.astype(self.kind) for part in (high, scaling.scale, rest))
        self.high, self.scale, self.rest = map(torch.from_numpy, numbers)
        self.dtype = dtype
        self.is_identity = not scaling.shift.any() and bool((scaling.scale == 1).all())

    def apply(self, X: np.ndarray) -> Tensor:
        """From the units of X to scaled units; X stays as it is."""
        rows = _as_tensor(X, self.kind)
        if self.is_identity:
            return rows.to(self.dtype, copy=True)
        scaled = rows.sub(self.high)
        return torch.addcdiv(self.rest, scaled, self.scale, out=scaled).to(self.dtype)


def _as_tensor(X: np.ndarray, kind: Any) -> Tensor:
    """X as a tensor that is only read: a copy if torch cannot share the memory."""
    with np.errstate(over="ignore"):  # of long doubles
        X = np.asarray(X, dtype=kind)
    if not X.flags.writeable or min(X.strides, default=0) < 0 or not X.dtype.isnative:
        X = np.array(X, dtype=kind, order="C")
    return torch.from_numpy(X)
