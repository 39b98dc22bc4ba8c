"""Likelihoods: the observation model p(x|z) behind reconstruction, sampling and score.

A likelihood is a specification (parameters alone); its ``build`` returns an :class:`Observation`,
the torch module that reads the decoder's output. Both work on scaled data; the estimator knows
the scaling.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor, nn
from torch.nn import functional as F

from ._parts import Part

__all__ = ["LIKELIHOODS", "Bernoulli", "Gaussian", "Likelihood", "Observation"]

#: Smallest standard deviation of the noise in scaled units: a density never diverges.
NOISE_FLOOR = 1e-3


class Observation(nn.Module):
    """p(x|z), given the decoder's ``output`` of shape (n, n_outputs) for the codes z."""

    def log_prob(self, x: Tensor, output: Tensor) -> Tensor:
        """Log-density of rows x of shape (n, n_features), summed over features: (n,), nats."""
        raise NotImplementedError

    def mean(self, output: Tensor) -> Tensor:
        """E[x|z], of shape (n, n_features)."""
        raise NotImplementedError

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One draw of x|z for each row, of shape (n, n_features)."""
        raise NotImplementedError

    def information(self, output: Tensor) -> Tensor:
        """Fisher information of each output, of shape (n, n_outputs); the score needs it."""
        raise NotImplementedError

    def update(self, x: Tensor, output: Tensor) -> None:
        """Take a training batch into running estimates, if there are any."""

    def calibrate(self, x: Tensor, output: Tensor) -> None:
        """Set running estimates by rows that were held out, if there are any."""


class Likelihood(Part):
    """Base of all likelihoods: a specification of p(x|z)."""

    #: Scaling of X that ``scale="auto"`` stands for: "feature", "global" or None.
    natural_scale: str | None = None
    #: Whether scaled data still have a density; counts and probabilities do not.
    scalable = False

    def scale_mode(self, scale: str | None) -> str | None:
        """What the estimator's parameter ``scale`` means for this likelihood."""
        return self.natural_scale if scale == "auto" else scale

    def check_support(self, X: Any) -> None:
        """Raise a ValueError when some of X, an array or a sparse matrix, has no density."""

    def linear_start(self, mean: np.ndarray, loading: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bias and weight of a linear decoder whose mean is close to ``loading @ z + mean``.

        Their length is the decoder's number of outputs.

        Parameters
        ----------
        mean : ndarray of shape (n_features,)

        loading : ndarray of shape (n_features, n_components)

        Returns
        -------
        bias : ndarray of shape (n_outputs,)

        weight : ndarray of shape (n_outputs, n_components)
        """
        return mean, loading

    def build(self, residual_variance: np.ndarray) -> Observation:
        """Return the observation model with its estimates at their starting values.

        Parameters
        ----------
        residual_variance : ndarray of shape (n_features,)
            Mean squared residual of each scaled column at the start of training.
        """
        raise NotImplementedError


class Gaussian(Likelihood):
    r"""Gaussian noise around the decoder's output.

    :math:`x | z \sim \mathcal{N}(f(z), \sigma^2)`, in scaled units. A variance trained by the
    network's own optimiser lags behind the residuals; here it is set to the value that maximises
    the likelihood in closed form, the running mean squared residual over :math:`z \sim q_i`.

    Parameters
    ----------
    noise : {"shared", "feature"} or float, default="shared"
        "shared" learns one variance for all scaled columns, "feature" one for each; a float is
        a fixed standard deviation in scaled units, at least 1e-6.

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
        "noise": [StrOptions({"shared", "feature"}), Interval(Real, 1e-6, None, closed="left")]
    }
    natural_scale = "feature"
    scalable = True

    def __init__(self, noise: str | float = "shared") -> None:
        self.noise = noise

    def build(self, residual_variance: np.ndarray) -> GaussianNoise:
        """Return the torch module with the noise at its starting value."""
        self.check_parameters()
        if self.noise == "shared":
            variance = np.atleast_1d(residual_variance.mean())
        elif self.noise == "feature":
            variance = residual_variance
        else:
            variance = np.atleast_1d(float(self.noise) ** 2)
        return GaussianNoise(torch.as_tensor(variance), learned=isinstance(self.noise, str))


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

    def log_prob(self, x: Tensor, output: Tensor) -> Tensor:
        variance, squared = self.noise_variance, (x - output).square()
        if variance.numel() == 1:  # one product a row instead of one a column
            log_volume, factor = x.shape[1] * variance.log(), -0.5 / variance
        else:
            log_volume, factor = variance.log().sum(), x.new_tensor(-0.5)
            squared = squared / variance
        offset = -0.5 * (log_volume + x.shape[1] * math.log(2 * math.pi))
        return torch.addcmul(offset, squared.sum(dim=1), factor)

    def mean(self, output: Tensor) -> Tensor:
        return output

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        noise = torch.empty_like(output).normal_(generator=generator)
        return output + self.noise_variance.sqrt() * noise

    def information(self, output: Tensor) -> Tensor:
        return self.noise_variance.reciprocal().expand_as(output)

    @torch.no_grad()
    def update(self, x: Tensor, output: Tensor) -> None:
        if self.learned:
            shared = self.noise_variance.numel() == 1
            target = F.mse_loss(output, x) if shared else (x - output).square().mean(dim=0)
            self.noise_variance.lerp_(target, self.rate).clamp_(min=NOISE_FLOOR**2)

    @torch.no_grad()
    def calibrate(self, x: Tensor, output: Tensor) -> None:
        if self.learned:  # one factor for all columns, at the likelihood's optimum
            factor = ((x - output).square() / self.noise_variance).mean()
            self.noise_variance.mul_(factor).clamp_(min=NOISE_FLOOR**2)


class Bernoulli(Likelihood):
    """Bernoulli likelihood of data in [0, 1]: the decoder's outputs are logits.

    Values strictly between 0 and 1 are read as probabilities, as is usual for grey pixels; the
    log-likelihood is then a cross-entropy and no longer a normalised density.

    Examples
    --------
    >>> from sklearn_wiseale.likelihoods import Bernoulli
    >>> Bernoulli()
    Bernoulli()
    """

    def check_support(self, X: Any) -> None:
        """Raise a ValueError when X, an array or a sparse matrix, leaves [0, 1]."""
        low, high = X.min(), X.max()
        if low < 0 or high > 1:
            raise ValueError(
                "X must lie in [0, 1] for the Bernoulli likelihood. Got values from "
                f"{low:.6g} to {high:.6g}: rescale X, or use likelihood='gaussian'."
            )

    def linear_start(self, mean: np.ndarray, loading: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Linearise the logit around the column means, kept away from 0 and 1."""
        centre = mean.clip(0.02, 0.98)
        return np.log(centre / (1 - centre)), loading / np.maximum(centre * (1 - centre), 0.1)[
            :, None
        ]

    def build(self, residual_variance: np.ndarray) -> BernoulliBits:
        """Return the torch module, which has no state."""
        self.check_parameters()
        return BernoulliBits()


class BernoulliBits(Observation):
    """Bernoulli observation: the decoder's outputs are logits."""

    def log_prob(self, x: Tensor, output: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(output, x, reduction="none").sum(dim=1)

    def mean(self, output: Tensor) -> Tensor:
        return torch.sigmoid(output)

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return torch.bernoulli(torch.sigmoid(output), generator=generator)

    def information(self, output: Tensor) -> Tensor:
        p = torch.sigmoid(output)
        return p * (1.0 - p)


#: What the strings accepted by ``WiSEALETransformer(likelihood=...)`` stand for.
LIKELIHOODS: dict[str, type[Likelihood]] = {"gaussian": Gaussian, "bernoulli": Bernoulli}
