"""Poisson likelihood of counts, and the base of all likelihoods of counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._base import Likelihood, Observation, column_chunks, first_entry, log_weight

__all__ = ["CountObservation", "Counts", "Poisson", "safe_exp"]

#: Larger log-rates are treated linearly, so that float32 holds sums of rates.
_MAX_LOG_RATE = 60.0
#: Larger rates are replaced by this one in draws, which have 32 bits on some devices.
_MAX_DRAWN_RATE = 2.0**30
#: Lower limit of the column means whose logarithms start the decoder.
_MIN_MEAN = 1e-3
#: Limits of the standard deviation of log(1 + x), by which the encoder's input is divided.
_SPREAD = (1e-3, 1.0)


def safe_exp(output: Tensor) -> Tensor:
    """Return exp(output), continued by its tangent above 60 so that value and slope are finite."""
    capped = output.clamp(max=_MAX_LOG_RATE)
    return capped.exp() * (1.0 + (output - capped))


def _spread(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return the standard deviation of log(1 + x) by the delta method; 1 for constant columns."""
    spread = (np.sqrt(variance) / (1 + mean)).clip(*_SPREAD)
    return np.where(variance > 0, spread, 1.0)


class Counts(Likelihood):
    """Base class of likelihoods of counts: the decoder's outputs are log-means."""

    def check_support(self, X: Any, columns: np.ndarray | None = None) -> None:
        """Raise a ValueError if X has negative or fractional numbers."""
        for start, chunk in column_chunks(X, columns):
            bad = chunk < 0
            if chunk.dtype.kind == "f":
                bad |= np.floor(chunk) < chunk
            if bad.any():
                value, column, row = first_entry(bad, chunk, start, columns)
                raise ValueError(
                    f"X must have counts 0, 1, 2, ... for the {type(self).__name__} likelihood. "
                    f"Got {value:.6g} in column {column}, row {row}: round X, or use "
                    "likelihood='gaussian'."
                )

    def linear_start(self, mean: np.ndarray, loading: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Linearise the logarithm; for normal codes the mean of the rates is ``mean``."""
        mean = np.maximum(mean, _MIN_MEAN)
        weight = log_weight(mean, loading)
        return np.log(mean) - 0.5 * np.square(weight).sum(axis=1), weight

    def linear_encoder(
        self, projection: np.ndarray, mean: np.ndarray, variance: np.ndarray
    ) -> np.ndarray:
        """Divide by the slope of the standardised log(1 + x) at the mean."""
        return projection * (1 + mean) * _spread(mean, variance)


class CountObservation(Observation):
    """Observation of counts with this mean and variance, (n_features,) each.

    The input of the encoder is log(1 + x), standardised.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, mean: np.ndarray, variance: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("centre", torch.from_numpy(np.log1p(mean)))
        self.register_buffer("spread", torch.from_numpy(_spread(mean, variance)))

    def embed(self, x: Tensor) -> Tensor:
        return (torch.log1p(x) - self.centre) / self.spread

    def mean(self, output: Tensor) -> Tensor:
        return output.clamp(max=_MAX_LOG_RATE).exp()

    def draw(self, rate: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw Poisson variables."""
        return torch.poisson(rate.clamp(max=_MAX_DRAWN_RATE), generator=generator)


class Poisson(Counts):
    r"""Poisson likelihood of counts: the decoder's outputs are log-rates.

    :math:`p(x | z) = \lambda^x e^{-\lambda} / x!` with :math:`\log \lambda = f(z)`. Counts are
    not scaled; the input of the encoder is :math:`\log(1 + x)`, standardised. Means are rates. For
    variances larger than the means, see :class:`~sklearn_wiseale.likelihoods.NegativeBinomial`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_wiseale import WiSEALETransformer
    >>> from sklearn_wiseale.likelihoods import Poisson
    >>> rng = np.random.RandomState(0)
    >>> X = rng.poisson(np.exp(rng.normal(size=(60, 1)) + np.arange(4)))
    >>> reducer = WiSEALETransformer(1, likelihood=Poisson(), max_epochs=3, random_state=0)
    >>> rates = reducer.fit(X).inverse_transform(reducer.transform(X))
    >>> bool((rates > 0).all())
    True
    >>> Poisson().most_likely(np.array([[0.4, 2.7]]))
    array([[0., 2.]])
    """

    def most_likely(self, X: np.ndarray) -> np.ndarray:
        """Return the mode, the largest integer not above the rate."""
        return np.floor(X)

    def build(
        self, residual_variance: np.ndarray, mean: np.ndarray, variance: np.ndarray
    ) -> PoissonCounts:
        self.check_parameters()
        return PoissonCounts(mean, variance)


class PoissonCounts(CountObservation):
    """Poisson observation: the decoder's outputs are log-rates."""

    def log_prob_entries(self, x: Tensor, output: Tensor) -> Tensor:
        return x * output - safe_exp(output) - torch.lgamma(x + 1.0)

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.draw(self.mean(output), generator)

    def information_entries(self, output: Tensor) -> Tensor:
        return self.mean(output)
