"""The contract between a divergence and the training loop.

Every objective is *reconstruction + divergence*. The net computes the reconstruction term; an
objective only builds the divergence.
"""

from __future__ import annotations

from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .._data.validation import Interval, Part

__all__ = ["Batch", "Objective", "Posterior", "standard_normal_kl"]

NON_NEGATIVE = [Interval(Real, 0, None, closed="left")]


class Posterior(NamedTuple):
    """Diagonal Gaussian posteriors q(z|x_i), one per row.

    ``torch.distributions.Normal`` draws from torch's global generator, which an estimator must
    not use. Here the noise is an argument.

    Examples
    --------
    >>> import torch
    >>> from sklearn_wiseale.objectives import Posterior
    >>> posterior = Posterior(mean=torch.ones(3, 2), log_var=torch.zeros(3, 2))
    >>> posterior.rsample(noise=torch.full((3, 2), 0.5))[0]
    tensor([1.5000, 1.5000])
    """

    mean: Tensor  # (n, n_components)
    log_var: Tensor  # (n, n_components)

    def rsample(self, noise: Tensor) -> Tensor:
        """Reparameterised draw ``mean + std * noise``, (n, n_components)."""
        return torch.addcmul(self.mean, torch.exp(0.5 * self.log_var), noise)


class Batch(NamedTuple):
    """Properties of a batch that a divergence may use in addition to the posteriors.

    Examples
    --------
    >>> import torch
    >>> from sklearn_wiseale.objectives import ELBO, Batch, Posterior
    >>> divergence = ELBO(weight=2.0).build(n_features=5, n_components=2)
    >>> posterior = Posterior(torch.ones(3, 2), torch.zeros(3, 2))
    >>> z = posterior.rsample(torch.zeros(3, 2))
    >>> divergence(posterior, z, Batch(rows=torch.arange(3), n_samples=100, training=True))
    tensor(2.)
    """

    rows: Tensor | None  # (n,), numbers of the rows in the training set
    n_samples: int  # N, the size of the data set
    training: bool
    generator: torch.Generator | None = None
    neighbors: Posterior | None = None  # of one neighbour of each row, if asked for


class Objective(Part):
    """Base class of objectives: a specification of the divergence.

    Examples
    --------
    A regularised autoencoder with a penalty on the squared length of the codes:

    >>> from torch import nn
    >>> from sklearn_wiseale import WiSEALETransformer
    >>> from sklearn_wiseale.objectives import Objective
    >>> class Length(nn.Module):
    ...     def __init__(self, weight):
    ...         super().__init__()
    ...         self.weight = weight
    ...     def forward(self, posterior, z, batch):
    ...         return self.weight * posterior.mean.square().sum(dim=1).mean()
    >>> class Ridge(Objective):
    ...     def __init__(self, weight=1.0):
    ...         self.weight = weight
    ...     def build(self, n_features, n_components):
    ...         self.check_parameters()
    ...         return Length(self.weight)
    >>> WiSEALETransformer(objective=Ridge(weight=0.1))
    WiSEALETransformer(objective=Ridge(weight=0.1))
    """

    _parameter_constraints: dict[str, list[Any]] = {"weight": NON_NEGATIVE}

    def build(self, n_features: int, n_components: int) -> nn.Module:
        """Return the divergence as a torch module.

        Parameters
        ----------
        n_features, n_components : int
            Columns of the data and of the codes. Defaults may depend on them.

        Returns
        -------
        divergence : torch.nn.Module
            ``divergence(posterior, z, batch)`` is a scalar in nats per sample, including the
            weight. ``posterior`` is a :class:`Posterior` of n rows, and ``z``, (n, K), has one
            draw from each. A module that stores rows has a method ``reset()``, which is called
            at the start of a fit. A module with an attribute ``n_neighbors`` above 0 finds
            posteriors of neighbours in ``batch.neighbors`` in training.
        """
        raise NotImplementedError


def standard_normal_kl(posterior: Posterior) -> Tensor:
    """KL(q_i || N(0, I)) of each row, (n,), nats: Kingma and Welling 2014, appendix B."""
    mean, log_var = posterior
    return 0.5 * (mean.square() + log_var.exp() - 1.0 - log_var).sum(dim=1)
