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
from ._base import Likelihood, Observation, batch_mean

__all__ = ["Gaussian"]

#: Smallest learned standard deviation in scaled units, so that no density diverges.
NOISE_FLOOR = 1e-3
#: Limits of a fixed standard deviation; their squares are within the range of float32.
_NOISE = (1e-6, 1e16)


class Gaussian(Likelihood):
    r"""Gaussian noise around the decoder's output.

    :math:`x | z \sim \mathcal{N}(f(z), \sigma^2)`, in scaled units. A learned variance is not
    trained by the optimiser, where it would lag behind the residuals. It is the running mean of
    squared residuals over :math:`z \sim q_i`, which maximises the likelihood.

    Parameters
    ----------
    noise : {"shared", "feature"} or float, default="shared"
        "shared" learns one variance for all scaled columns, "feature" one per column. A float,
        from 1e-6 to 1e16, is a fixed standard deviation in scaled units.

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
        self.check_parameters()
        if self.noise == "shared":
            noise_variance = np.atleast_1d(residual_variance.mean())
        elif self.noise == "feature":
            noise_variance = residual_variance
        else:
            noise_variance = np.atleast_1d(float(self.noise) ** 2)
        return GaussianNoise(torch.as_tensor(noise_variance), learned=isinstance(self.noise, str))


class GaussianNoise(Observation):
    """Gaussian observation with a running estimate of the variance."""

    #: Weight of a batch in the running variance, a mean over about 20 batches.
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
        if variance.numel() == 1:  # one division per row, not per entry
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
        squared = F.mse_loss(output, x, reduction="none")
        target = batch_mean(squared, observed, self.noise_variance)
        self.noise_variance.lerp_(target, self.rate).clamp_(min=NOISE_FLOOR**2)

    @torch.no_grad()
    def calibrate(self, x: Tensor, output: Tensor, observed: Tensor | None = None) -> None:
        if self.learned:  # scale all variances by the factor that maximises the likelihood
            ratio = (x - output).square() / self.noise_variance
            if observed is None:
                factor = ratio.mean()
            else:
                factor = ratio.where(observed, 0.0).sum() / observed.sum()
                factor = factor.where(observed.any(), 1.0)
            self.noise_variance.mul_(factor).clamp_(min=NOISE_FLOOR**2)
