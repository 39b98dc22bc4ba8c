r"""A term that keeps neighbours together, as in maps by t-SNE and UMAP.

With codes :math:`\mu_i` of n rows, codes :math:`\nu_i` of one neighbour of each, and the kernel
:math:`k(a, b) = 1 / (1 + \tau \|a - b\|^2)`,

.. math::

    \frac1n \sum_i \log \frac{k(\mu_i, \nu_i) + \sum_{j \ne i} k(\mu_i, \mu_j)}{k(\mu_i, \nu_i)},

which is 0 if every row has its neighbour nearby and the other rows far away. It is the contrastive
loss of van den Oord et al. (2018) with the kernel of t-SNE, which Damrich et al. (2023) show to
give maps like those of UMAP. :math:`\tau` is 128 over the variance of the codes, summed over
components: the term does not depend on the scale of the codes, which the divergence sets.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._gradient import with_gradient

__all__ = ["neighbor_contrast"]

#: The kernel's precision times the variance of the codes.
_PRECISION = 128.0
#: Largest number of pairs in a step.
_MAX_PAIRS = 2**24


def neighbor_contrast(mean: Tensor, neighbor: Tensor) -> Tensor:
    """The term above, a scalar in nats, for codes and codes of neighbours, both (n, K).

    With more than 2**24 pairs, the sum is over some of the rows, the same for all i.
    """
    return with_gradient(*_value_and_gradients(mean.detach(), neighbor.detach(), mean, neighbor))


@torch.no_grad()
def _value_and_gradients(
    mean: Tensor, neighbor: Tensor, *inputs: Tensor
) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, Tensor]]:
    """The term, the tensors it depends on and its derivatives by them."""
    n = len(mean)
    centred = mean - mean.mean(dim=0)
    others = centred[: max(1, min(n, _MAX_PAIRS // n))]
    squares = centred.square().sum(dim=1, keepdim=True)  # (n, 1)
    variance = (squares.sum() / n).clamp(min=torch.finfo(mean.dtype).eps)
    tau = _PRECISION / variance
    step = mean - neighbor
    near = step.square().sum(dim=1, keepdim=True).mul_(tau)  # (n, 1), tau times squared distance
    far = torch.addmm(squares.T[:, : len(others)], centred, others.T, alpha=-2.0).add_(squares)
    far = far.mul_(tau).clamp_(min=0.0)  # (n, m)
    near_kernel, far_kernel = (near + 1).reciprocal_(), (far + 1).reciprocal_()
    far_kernel.fill_diagonal_(0.0)
    sums = near_kernel + far_kernel.sum(dim=1, keepdim=True)
    value = (sums / near_kernel).log_().mean()
    # n / tau times the derivatives by squared distances
    by_near = near_kernel * (1 - near_kernel / sums)
    by_far = far_kernel.square_().div_(sums).neg_()
    by_log_tau = (by_near * near).sum() + torch.dot(by_far.view(-1), far.view(-1))
    by_neighbor = -by_near * step
    by_mean = by_far.sum(dim=1, keepdim=True) * centred - by_far @ others - by_neighbor
    by_mean[: len(others)] += by_far.sum(dim=0)[:, None] * others - by_far.T @ centred
    by_mean -= by_log_tau / (_PRECISION * n) * centred
    return value, inputs, (by_mean.mul_(2 * tau / n), by_neighbor.mul_(2 * tau / n))
