"""The contract between a divergence and the training loop.

Every objective is *reconstruction + divergence*. The reconstruction is written once, in the
net; an objective only says which divergence is added. A new one is a class with a ``build``.
"""

from __future__ import annotations

from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .._arguments import Interval
from .._parts import Part

__all__ = ["Batch", "Objective", "Posterior", "standard_normal_kl"]

NON_NEGATIVE = [Interval(Real, 0, None, closed="left")]


class Posterior(NamedTuple):
    """Diagonal Gaussian posteriors q(z|x_i), one a row.

    ``torch.distributions.Normal`` draws from the global generator only, which an estimator
    must leave alone; hence this pair, with the noise handed in.
    """

    mean: Tensor  # (n, n_components)
    log_var: Tensor  # (n, n_components)

    def rsample(self, noise: Tensor) -> Tensor:
        """Reparameterised draw, ``mean + std * noise``, of shape (n, n_components)."""
        return torch.addcmul(self.mean, torch.exp(0.5 * self.log_var), noise)


class Batch(NamedTuple):
    """What a divergence may know of the batch besides its posteriors."""

    rows: Tensor | None  # (n,), the rows' numbers among all rows of the training set
    n_samples: int  # N, the size of the data set
    training: bool
    generator: torch.Generator | None = None


class Objective(Part):
    """Base of all objectives: a specification of the divergence added to reconstruction."""

    _parameter_constraints: dict[str, list[Any]] = {"weight": NON_NEGATIVE}

    def build(self, n_features: int, n_components: int) -> nn.Module:
        """Return the divergence that the net minimises beside the reconstruction term.

        Parameters
        ----------
        n_features, n_components : int
            Columns of the data and of the codes; a default may depend on them.

        Returns
        -------
        divergence : torch.nn.Module
            ``divergence(posterior, z, batch)`` is a scalar in nats per sample, its weight
            included; ``posterior`` is a :class:`Posterior` of n rows, ``z`` (n, K) its draw.
            One that remembers rows has a method ``reset()``, called when a fit begins.
        """
        raise NotImplementedError


def standard_normal_kl(posterior: Posterior) -> Tensor:
    """KL(q_i || N(0, I)) of each row, in nats, shape (n,): Kingma and Welling 2014, appendix B."""
    mean, log_var = posterior
    return 0.5 * (mean.square() + log_var.exp() - 1.0 - log_var).sum(dim=1)
