r"""A lower bound on the divergence of the aggregate, from its shadows on lines.

For any orthonormal basis :math:`u_1, \dots, u_K`, the prior being a product along it,

.. math::

    \mathrm{KL}(q \| p) \ge \sum_k \mathrm{KL}(q_{u_k} \| p_{u_k}),

with :math:`q_u` the distribution of :math:`u^\top z`: what the sum leaves out is the total
correlation of q along the basis. Passing a distribution through noise can only lower a divergence
further (data processing), so draws are counted on a grid, and the counts are blurred; the prior
goes through the same. Both remain distributions on the grid, and their divergence a lower bound.

On a line thousands of posteriors overlap however many components there are. That is where sums
over pairs in K dimensions have nothing left to say.

Sliced divergences: Nadjahi et al. (2020), *Statistical and Topological Properties of Sliced
Probability Divergences*, arXiv:2003.05783.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from ._gradient import with_gradient

__all__ = ["random_basis", "sliced_kl", "sliced_kl_and_gradient"]

_BLUR = 0.25  # standard deviation; the prior's is 1
_STEP = 0.125
_END = 10.0  # the grid is [-_END, _END]; draws beyond count at its ends


class _Grid(NamedTuple):
    """What every call needs of the grid's g points."""

    blur: Tensor  # (g, g), rows sum to 1: from a point to where its noise takes it
    log_prior: Tensor  # (g,), of the prior, counted and blurred


@functools.lru_cache(maxsize=8)
def _grid(dtype: torch.dtype, device: torch.device) -> _Grid:
    n = round(2 * _END / _STEP)
    points = torch.linspace(-_END, _END, n + 1, dtype=torch.float64, device="cpu")
    blur = torch.softmax(-0.5 * ((points[:, None] - points) / _BLUR).square(), dim=1)
    fine = torch.linspace(-_END, _END, 128 * n + 1, dtype=torch.float64, device="cpu")
    mass = torch.softmax(-0.5 * fine.square(), dim=0)
    counts = _Places.of(fine[:, None] / _STEP).counts(mass)
    return _Grid(blur.to(device, dtype), (counts @ blur)[0].log().to(device, dtype))


class _Places(NamedTuple):
    """Where draws are on the grid: (K, n) each."""

    left: Tensor  # number of the grid point to the left
    right_share: Tensor  # of the one to the right; from 0 to 1

    @classmethod
    def of(cls, steps: Tensor) -> _Places:
        """Of draws (n, K) in steps from the middle of the grid."""
        n_intervals = round(2 * _END / _STEP)
        place = steps.T + n_intervals / 2
        left = place.floor().clamp_(0, n_intervals - 1)
        right_share = place.sub_(left).clamp_(0, 1)
        return cls(left.nan_to_num_().long(), right_share)  # NaN keeps a place, and stays NaN

    def counts(self, weights: Tensor | None = None) -> Tensor:
        """Mass on each grid point, (K, g): a draw is shared by its two neighbours."""
        right = self.right_share
        left = 1 - right
        if weights is not None:
            right, left = right * weights, left * weights
        mass = right.new_zeros(len(right), round(2 * _END / _STEP) + 1)
        return mass.scatter_add_(1, self.left, left).scatter_add_(1, self.left + 1, right)


def random_basis(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """An orthonormal basis of (., K) codes, uniformly drawn: (K, K), one vector a column."""
    k = like.shape[1]
    normal = torch.empty(k, k, dtype=like.dtype, device=like.device).normal_(generator=generator)
    # the signs that make the distribution uniform do not matter to a symmetric prior
    root = normal.cpu() if like.device.type == "mps" else normal  # MPS has no QR
    return torch.linalg.qr(root).Q.to(like)


def sliced_kl(
    z: Tensor, basis: Tensor, known_z: Tensor | None = None, held: Tensor | None = None
) -> Tensor:
    """Sum over the basis of the divergence of the blurred marginals: a scalar, nats.

    Parameters
    ----------
    z : Tensor of shape (n, K)
        Draws, one of each posterior.

    basis : Tensor of shape (K, K)
        Orthonormal columns.

    known_z, held : Tensor of shape (a, K) and (a,), default=None
        Further draws, constants, and whether each counts, 1 or 0. A draw in z then has the n-th
        part of a batch in the gradient, as in other terms of the objective, and not a share in
        all n + a.

    Returns
    -------
    Tensor, scalar
    """
    value, gradient = sliced_kl_and_gradient(z.detach(), basis, known_z, held)
    return with_gradient(value, [z], [gradient])


@torch.no_grad()
def sliced_kl_and_gradient(
    z: Tensor, basis: Tensor, known_z: Tensor | None = None, held: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Value of :func:`sliced_kl` and its gradient by z, of the shape of z.

    Between grid points, the divergence is linear in the place of a draw as far as the counts
    go: its slope there is the difference of the derivatives by the two counts. Beyond the ends,
    a draw keeps the slope of the last interval.
    """
    blur, log_prior = _grid(z.dtype, z.device)
    places = _Places.of(z @ basis / _STEP)
    counts = places.counts()
    n_columns: Tensor | int = len(z)
    if known_z is not None and held is not None:
        counts += _Places.of(known_z @ basis / _STEP).counts(held)
        n_columns = len(z) + held.sum()
    marginals = counts @ blur / n_columns
    tiny = torch.finfo(z.dtype).tiny  # where nothing is, the gradient must not be infinite
    log_ratio = marginals.clamp(min=tiny).log_() - log_prior
    by_counts = log_ratio @ blur.T
    slope = by_counts.diff(dim=1).gather(1, places.left)
    gradient = (slope / (len(z) * _STEP)).T @ basis.T
    # a draw that is not finite has no gradient either
    gradient += 0 * z
    return (marginals * log_ratio).sum(), gradient
