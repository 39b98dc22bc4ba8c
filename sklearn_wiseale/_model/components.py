"""Order, signs and loadings of the components."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .._data.rows import Rows, chunk_length
from .evidence import jacobian_columns
from .inference import decode
from .module import VariationalModule

__all__ = ["Components", "mean_loadings", "order_components", "rows_to_order", "unordered"]

#: Limits of the rows that order the components: rows times components, and numbers.
_ROWS_BY_COMPONENTS = 8000
_NUMBERS = 2**22


class Components(NamedTuple):
    """Column k of the codes is column ``order[k]`` of the net's codes, times ``sign[k]``.

    Both have the shape (n_components,).
    """

    order: np.ndarray
    sign: np.ndarray

    def check(self, n_components: int, shares: np.ndarray | None) -> None:
        """Raise a ValueError unless this is an order of so many components with shares."""
        shapes = {() if part is None else part.shape for part in (self.order, self.sign, shares)}
        if shapes != {(n_components,)} or not (
            np.array_equal(np.sort(self.order), np.arange(n_components))
            and np.isin(self.sign, (-1, 1)).all()
        ):
            raise ValueError(f"it must have order, signs and shares of {n_components} components")

    def from_net(self, codes: np.ndarray) -> np.ndarray:
        """Codes in this order, (n, n_components), from those of the net."""
        return codes[:, self.order] * self.sign.astype(codes.dtype)

    def to_net(self, codes: np.ndarray) -> np.ndarray:
        """The inverse of ``from_net``."""
        own = np.empty_like(codes)
        own[:, self.order] = codes * self.sign.astype(codes.dtype)
        return own


def unordered(n_components: int) -> Components:
    """Components as the net has them."""
    return Components(np.arange(n_components), np.ones(n_components, dtype=np.int64))


def rows_to_order(rows: np.ndarray, n_features: int, n_components: int) -> np.ndarray:
    """Evenly spaced ones of the rows with these numbers, few enough for ``order_components``."""
    most = max(2, min(_ROWS_BY_COMPONENTS // n_components, _NUMBERS // n_features))
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(int)]


def order_components(
    module: VariationalModule, rows: Rows, codes: np.ndarray
) -> tuple[Components, np.ndarray]:
    """Components sorted by the variance that each reconstructs, and their shares of it.

    A component that takes no part is at its mean. The first component is the one without which
    most is lost. With each component rises the column of scaled X that has the largest slope. The
    shares, (n_components,), are those of the first k components less those of the first k - 1, in
    scaled units. They sum to the share of all.

    ``codes``, (n, n_components), are the net's codes of the rows.
    """
    z = torch.from_numpy(codes).to(rows.device)
    x, observed = module.observe(torch.cat(list(rows.chunks())))
    centre = z.mean(dim=0)

    def reconstruct(active: np.ndarray) -> Tensor:
        """Means of p(x|z) for codes with all but the active components at their means."""
        some = centre.expand_as(z).clone()
        some[:, active] = z[:, active]
        pieces = some.split(chunk_length(x.shape[1]))
        return torch.cat([module.likelihood.mean(decode(module, piece)) for piece in pieces])

    def error(means: Tensor) -> float:
        squared = (means - x).square().where(observed, 0.0)
        return float(squared.sum(dim=1).cpu().sum(dtype=torch.float64))  # MPS has no float64

    everything = np.arange(z.shape[1])
    whole, errors, signs = reconstruct(everything), [], []
    for k in everything:
        without = reconstruct(np.delete(everything, k))
        errors.append(error(without))
        slope = (z[:, k] - centre[k]) @ (whole - without)
        signs.append(-1 if slope[slope.abs().argmax()] < 0 else 1)
    order = np.argsort(-np.array(errors), kind="stable")
    mean = x.where(observed, 0.0).sum(dim=0) / observed.sum(dim=0).clamp(min=1)
    total = error(mean.expand_as(x))
    left = [total, *(error(reconstruct(order[:k])) for k in everything[1:]), error(whole)]
    with np.errstate(invalid="ignore"):  # rows may be too large for their squares
        return Components(order, np.array(signs)[order]), -np.diff(left) / (total or 1.0)


def mean_loadings(module: VariationalModule, codes: np.ndarray) -> np.ndarray:
    """Mean derivative of E[x|z] by each component over the net's codes, (n_components, n_features).

    In scaled units per unit of the code.
    """
    fill = module.fill
    total = torch.zeros(codes.shape[1], len(fill), dtype=torch.float64, device="cpu")
    for piece in (
        torch.from_numpy(codes).to(fill).split(chunk_length(len(fill), codes.shape[1] + 2))
    ):
        with torch.enable_grad(), module.precision():
            z = piece.requires_grad_()
            means = module.likelihood.mean(module.decoder(z).to(fill.dtype))
            v = torch.zeros_like(means, requires_grad=True)
            for k, column in enumerate(jacobian_columns(means, z, v)[1]):
                total[k] += column.sum(dim=0).cpu()
    return (total / len(codes)).numpy()
