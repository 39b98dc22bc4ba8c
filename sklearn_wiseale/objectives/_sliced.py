r"""A lower bound on the divergence of the aggregate, from its projections on lines.

For any orthonormal basis :math:`u_1, \dots, u_K`, since the prior is a product along it,

.. math::

    \mathrm{KL}(q \| p) \ge \sum_k \mathrm{KL}(q_{u_k} \| p_{u_k}),

where :math:`q_u` is the distribution of :math:`u^\top z`. The difference is the total correlation
of q along the basis. Draws of z are counted on a grid, and the counts are blurred; so is the prior.
Adding noise can only reduce a divergence (data processing inequality), so that the divergence of
the blurred distributions on the grid is still a lower bound.

On a line, thousands of posteriors overlap for any number of components, whereas pairs in K
dimensions may not overlap at all.

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

_BLUR = 0.25  # standard deviation of the blur, where that of the prior is 1
_STEP = 0.125  # of the grid
_END = 10.0  # the grid is [-_END, _END]; draws outside are counted at its ends
_N_INTERVALS = round(2 * _END / _STEP)


@functools.lru_cache(maxsize=8)
def _grid(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return constants of the grid of g points: blur, (g, g), and log-probabilities, (g,).

    Row i of the blur is the distribution of point i plus noise. The log-probabilities are those of
    the prior, counted and blurred.
    """
    points = torch.linspace(-_END, _END, _N_INTERVALS + 1, dtype=torch.float64, device="cpu")
    blur = torch.softmax(-0.5 * ((points[:, None] - points) / _BLUR).square(), dim=1)
    fine = torch.linspace(-_END, _END, 128 * _N_INTERVALS + 1, dtype=torch.float64, device="cpu")
    mass = torch.softmax(-0.5 * fine.square(), dim=0)
    counts = _Places.of(fine[:, None] / _STEP).counts(mass)
    return blur.to(device, dtype), (counts @ blur)[0].log().to(device, dtype)


class _Places(NamedTuple):
    """Places of draws on the grid: (K, n) each."""

    left: Tensor  # number of the next grid point to the left
    right_share: Tensor  # share of the draw that the point to the right gets, in [0, 1]

    @classmethod
    def of(cls, steps: Tensor) -> _Places:
        """Return the places of draws (n, K), given in steps from the middle of the grid."""
        place = steps.T + _N_INTERVALS / 2
        left = place.floor().clamp_(0, _N_INTERVALS - 1)
        right_share = place.sub_(left).clamp_(0, 1)
        return cls(left.nan_to_num_().long(), right_share)  # the share of NaN stays NaN

    def counts(self, weights: Tensor | None = None) -> Tensor:
        """Return the mass on each grid point, (K, g): draws are split between two neighbours."""
        right = self.right_share
        left = 1 - right
        if weights is not None:
            right, left = right * weights, left * weights
        mass = right.new_zeros(len(right), _N_INTERVALS + 1)
        return mass.scatter_add_(1, self.left, left).scatter_add_(1, self.left + 1, right)


def random_basis(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw a uniformly distributed orthonormal basis for codes (n, K): (K, K), in its columns."""
    k = like.shape[1]
    normal = torch.empty(k, k, dtype=like.dtype, device=like.device).normal_(generator=generator)
    # QR does not draw the signs uniformly, which does not matter for a symmetric prior
    root = normal.cpu() if like.device.type == "mps" else normal  # MPS has no QR
    return torch.linalg.qr(root).Q.to(like)


def sliced_kl(
    z: Tensor, basis: Tensor, known_z: Tensor | None = None, held: Tensor | None = None
) -> Tensor:
    """Sum over the basis of the divergences of the blurred marginals.

    Parameters
    ----------
    z : Tensor of shape (n, K)
        Draws, one of each posterior.

    basis : Tensor of shape (K, K)
        Orthonormal columns.

    known_z, held : Tensor of shape (a, K) and (a,), default=None
        More draws, constants, and their weights 1 or 0. The gradient by a draw in z is scaled to
        that of a mean over n draws, as in other terms of the objective, not over n + a.

    Returns
    -------
    Tensor, scalar
        Nats.
    """
    value, gradient = sliced_kl_and_gradient(z.detach(), basis, known_z, held)
    return with_gradient(value, [z], [gradient])


@torch.no_grad()
def sliced_kl_and_gradient(
    z: Tensor, basis: Tensor, known_z: Tensor | None = None, held: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the value of :func:`sliced_kl` and its gradient by z, (n, K).

    The counts are linear in the place of a draw between two grid points, so that its gradient is
    the difference of the derivatives by the two counts, divided by the step. Draws outside the
    grid get the slope of the last interval.
    """
    blur, log_prior = _grid(z.dtype, z.device)
    places = _Places.of(z @ basis / _STEP)
    counts = places.counts()
    n_columns: Tensor | int = len(z)
    if known_z is not None and held is not None:
        counts += _Places.of(known_z @ basis / _STEP).counts(held)
        n_columns = len(z) + held.sum()
    marginals = counts @ blur / n_columns
    tiny = torch.finfo(z.dtype).tiny  # finite gradients where there are no draws
    log_ratio = marginals.clamp(min=tiny).log_() - log_prior
    by_counts = log_ratio @ blur.T
    slope = by_counts.diff(dim=1).gather(1, places.left)
    gradient = (slope / (len(z) * _STEP)).T @ basis.T
    gradient += 0 * z  # NaN for draws that are not finite
    return (marginals * log_ratio).sum(), gradient
