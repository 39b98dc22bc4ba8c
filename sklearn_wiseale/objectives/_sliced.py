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

__all__ = ["random_basis", "sliced_kl"]

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
    counts = _counts(fine[:, None] / _STEP, mass)
    return _Grid(blur.to(device, dtype), (counts @ blur)[0].log().to(device, dtype))


def _counts(steps: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mass on each grid point, (K, g), of draws (n, K) in steps from the middle of the grid.

    A draw is shared by its two neighbours, in proportion to its nearness; as a function of the
    draw this is linear between points. Beyond the ends it keeps the slope that it has there.
    """
    n_intervals = round(2 * _END / _STEP)
    place = steps.T + n_intervals / 2  # (K, n)
    left = place.detach().floor().clamp(0, n_intervals - 1)
    right_share = place - left
    right_share = right_share + (right_share.clamp(0, 1) - right_share).detach()
    both = torch.stack([1 - right_share, right_share])
    if weights is not None:
        both = both * weights
    n_points = n_intervals + 1
    offset = n_points * torch.arange(len(place), device=place.device)
    index = left.nan_to_num().long() + offset[:, None]  # NaN keeps a place, and stays NaN
    mass = both.new_zeros(len(place) * n_points)
    mass = mass.index_add(0, index.flatten(), both[0].flatten())
    mass = mass.index_add(0, index.flatten() + 1, both[1].flatten())
    return mass.view(len(place), n_points)


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
    blur, log_prior = _grid(z.dtype, z.device)
    counts = _counts(z @ basis / _STEP)
    n_columns: Tensor | int = len(z)
    if known_z is not None and held is not None:
        counts = counts + _counts(known_z @ basis / _STEP, held)
        n_columns = len(z) + held.sum()
    marginals = counts @ blur / n_columns
    tiny = torch.finfo(z.dtype).tiny  # where nothing is, the gradient must not be infinite
    kl = (marginals * (marginals.clamp(min=tiny).log() - log_prior)).sum()
    return kl.detach() + n_columns / len(z) * (kl - kl.detach())
