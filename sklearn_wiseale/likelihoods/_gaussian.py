"""Gaussian noise whose variance is learned in closed form."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .._data.validation import Interval, StrOptions
from ._base import Likelihood, Observation

__all__ = ["Gaussian"]

#: Smallest standard deviation of the noise in scaled units: a density never diverges.
NOISE_FLOOR = 1e-3
#: Limits of a standard deviation that is given; float32 holds their squares.
_NOISE = (1e-6, 1e16)


class Gaussian(Likelihood):
    r"""Gaussian noise around the decoder's output.

    :math:`x | z \sim \mathcal{N}(f(z), \sigma^2)`, in scaled units. A variance trained by the
    network's own optimiser lags behind the residuals; here it is set to the value that maximises
    the likelihood in closed form, the running mean squared residual over :math:`z \sim q_i`.

    Parameters
    ----------
    noise : {"shared", "feature"} or float, default="shared"
        "shared" learns one variance for all scaled columns, "feature" one for each; a float is
        a fixed standard deviation in scaled units, from 1e-6 to 1e16.

    References
    ----------
    Rybkin, Daniilidis, Levine (2021), *Simple and Effective VAE Training with Calibrated
    Decoders*, arXiv:2006.13202.

    Examples
    --------
    >>> from sklearn_wiseale.likelihoods import Gaussian
    >>> Gaussian(noise="feature")
    Gaussian(noise='feature')
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "noise": [StrOptions({"shared", "feature"}), Interval(Real, *_NOISE, closed="both")]
    }
    natural_scale = "feature"
    scalable = True

    def __init__(self, noise: str | float = "shared") -> None:
        self.noise = noise

    def build(
        self, residual_variance: np.ndarray, mean: np.ndarray, variance: np.ndarray
    ) -> GaussianNoise:
        """Return the torch module with the noise at its starting value."""
        self.check_parameters()
        if self.noise == "shared":
            noise_variance = np.atleast_1d(residual_variance.mean())
        elif self.noise == "feature":
            noise_variance = residual_variance
        else:
            noise_variance = np.atleast_1d(float(self.noise) ** 2)
        return GaussianNoise(torch.as_tensor(noise_variance), learned=isinstance(self.noise, str))


class GaussianNoise(Observation):
    """Gaussian observation whose variance follows the residuals."""

    #: Share of each batch in the running variance: a memory of about 20 batches.
    rate = 0.05

    noise_variance: Tensor

    def __init__(self, noise_variance: Tensor, *, learned: bool) -> None:
        super().__init__()
        self.learned = learned
        floor = NOISE_FLOOR**2 if learned else 0.0
        # (1,) or (n_features,), scaled units squared
        self.register_buffer("noise_variance", noise_variance.clamp(min=floor))

    def log_prob(self, x: Tensor, output: Tensor, observed: Tensor | None = None) -> Tensor:
        if observed is not None:
            return super().log_prob(x, output, observed)
        variance, squared = self.noise_variance, F.mse_loss(output, x, reduction="none")
        if variance.numel() == 1:  # one quotient a row instead of one a column
            log_volume = x.shape[1] * variance.log()
            quotients = torch.div(squared.sum(dim=1), variance)
        else:
            log_volume, quotients = variance.log().sum(), (squared / variance).sum(dim=1)
        offset = -0.5 * (log_volume + x.shape[1] * math.log(2 * math.pi))
        return torch.add(offset, quotients, alpha=-0.5)

    def log_prob_entries(self, x: Tensor, output: Tensor) -> Tensor:
        log_volume = self.noise_variance.log() + math.log(2 * math.pi)
        return -0.5 * ((x - output).square() / self.noise_variance + log_volume)

    def mean(self, output: Tensor) -> Tensor:
        return output

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        noise = torch.empty_like(output).normal_(generator=generator)
        return output + self.noise_variance.sqrt() * noise

    def information_entries(self, output: Tensor) -> Tensor:
        return self.noise_variance.reciprocal().expand_as(output)

    def noise_std(self) -> Tensor:
        return self.noise_variance.sqrt()

    @torch.no_grad()
    def update(self, x: Tensor, output: Tensor, observed: Tensor | None = None) -> None:
        if not self.learned:
            return
        shared = self.noise_variance.numel() == 1
        if observed is None:
            target = F.mse_loss(output, x) if shared else (x - output).square().mean(dim=0)
        else:  # what is not observed votes for the variance as it is
            squared = (x - output).square().where(observed, self.noise_variance)
            target = squared.mean() if shared else squared.mean(dim=0)
        self.noise_variance.lerp_(target, self.rate).clamp_(min=NOISE_FLOOR**2)

    @torch.no_grad()
    def calibrate(self, x: Tensor, output: Tensor, observed: Tensor | None = None) -> None:
        if self.learned:  # one factor for all columns, at the likelihood's optimum
            ratio = (x - output).square() / self.noise_variance
            if observed is None:
                factor = ratio.mean()
            else:
                factor = ratio.where(observed, 0.0).sum() / observed.sum()
                factor = factor.where(observed.any(), 1.0)
            self.noise_variance.mul_(factor).clamp_(min=NOISE_FLOOR**2)
