"""Negative binomial: counts that vary more than a Poisson variable's."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .._data.validation import Interval, StrOptions
from ._poisson import CountObservation, Counts

__all__ = ["NegativeBinomial"]

#: Limits of the dispersion; at the lower one the likelihood is the Poisson's but for counts
#: of a million.
_DISPERSION = (1e-6, 1e4)
#: From so many failures (the inverse of the dispersion) Stirling's series is exact to 1e-13.
_STIRLING = 30.0
_N_STEPS = 3  # to the dispersion of rows that were held out


class NegativeBinomial(Counts):
    r"""Negative binomial likelihood of counts: the decoder's outputs are log-means.

    A Poisson variable whose rate has a gamma distribution: mean :math:`\mu = e^{f(z)}` and
    variance :math:`\mu + \alpha \mu^2`, with the dispersion :math:`\alpha` (NB2 of Cameron and
    Trivedi). A learned dispersion is a running estimate by moments, weighted by the precision of
    each squared residual at the present dispersion (pseudo-likelihood of Davidian and Carroll),

    .. math::

        \alpha = \frac{\sum w^2 \left((x - \mu)^2 - \mu\right)}{\sum w^2 \mu^2}, \qquad
        w = \frac{1}{1 + \alpha \mu},

    over :math:`z \sim q_i`, both sums in the manner of
    :class:`~sklearn_wiseale.likelihoods.Gaussian`'s variance. Without the weights, few large counts
    decide. Counts are not scaled; the encoder sees :math:`\log(1 + x)`, standardised.

    Parameters
    ----------
    dispersion : {"shared", "feature"} or float, default="shared"
        "shared" learns one dispersion for all columns, "feature" one for each; a float, from 1e-6
        to 1e4, is fixed.

    References
    ----------
    Cameron, Trivedi (2013), *Regression Analysis of Count Data*, second edition, section 3.3.

    Davidian, Carroll (1987), *Variance Function Estimation*, Journal of the American Statistical
    Association 82.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_wiseale.likelihoods import NegativeBinomial
    >>> NegativeBinomial(dispersion="feature")
    NegativeBinomial(dispersion='feature')
    >>> NegativeBinomial(dispersion=0.5).most_likely(np.array([[0.4, 9.0]]))
    array([[0., 4.]])
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "dispersion": [
            StrOptions({"shared", "feature"}),
            Interval(Real, *_DISPERSION, closed="both"),
        ]
    }

    def __init__(self, dispersion: str | float = "shared") -> None:
        self.dispersion = dispersion

    def most_likely(self, X: np.ndarray) -> np.ndarray:
        """The mode: the integer part of the mean times one less the dispersion, at least 0.

        A learned dispersion belongs to the fitted state, which a specification does not know:
        then the Poisson's mode is given, which is not below. Pass the dispersion found,
        ``net_.module_.likelihood.dispersion``, as a float for the mode itself.
        """
        share = 1.0 if isinstance(self.dispersion, str) else max(1.0 - self.dispersion, 0.0)
        return np.floor(X * share)

    def build(
        self, residual_variance: np.ndarray, mean: np.ndarray, variance: np.ndarray
    ) -> NegativeBinomialCounts:
        """Return the torch module with the dispersion at its starting value."""
        self.check_parameters()
        if isinstance(self.dispersion, str):
            explained = np.maximum(variance - residual_variance, 0.0)
            excess, square = residual_variance - mean, mean**2 + explained
            if self.dispersion == "shared":
                excess, square = np.atleast_1d(excess.mean()), np.atleast_1d(square.mean())
        else:
            excess, square = np.array([float(self.dispersion)]), np.ones(1)
        return NegativeBinomialCounts(
            mean, variance, excess, square, learned=isinstance(self.dispersion, str)
        )


class NegativeBinomialCounts(CountObservation):
    """Negative binomial observation whose dispersion follows the residuals."""

    #: Share of each batch in the running means: a memory of about 20 batches.
    rate = 0.05

    excess: Tensor
    square: Tensor

    def __init__(
        self,
        mean: np.ndarray,
        variance: np.ndarray,
        excess: np.ndarray,
        square: np.ndarray,
        *,
        learned: bool,
    ) -> None:
        super().__init__(mean, variance)
        self.learned = learned
        # running weighted means of (x - mu)^2 - mu and of mu^2: (1,) or (n_features,)
        self.register_buffer("excess", torch.tensor(excess))
        self.register_buffer("square", torch.tensor(square))

    @property
    def dispersion(self) -> Tensor:
        """Dispersion: (1,) or (n_features,)."""
        tiny = torch.finfo(self.square.dtype).tiny
        ratio = self.excess / self.square.clamp(min=tiny)
        return ratio.clamp(*_DISPERSION) if self.learned else ratio

    def log_prob_entries(self, x: Tensor, output: Tensor) -> Tensor:
        alpha = self.dispersion
        r = alpha.reciprocal()
        # log Gamma(x + r) - log Gamma(r) + x log alpha, in a form that does not cancel for large r
        direct = torch.lgamma(x + r) - torch.lgamma(r) + x * alpha.log()
        series = (x + r - 0.5) * torch.log1p(alpha * x) - x + _rest(x + r) - _rest(r)
        volume = torch.where(r > _STIRLING, series, direct) - torch.lgamma(x + 1.0)
        return volume + x * output - (x + r) * F.softplus(output + alpha.log())

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        alpha = self.dispersion
        shape = alpha.reciprocal().expand_as(output).contiguous()
        # torch.distributions.Gamma calls the same function but takes no generator
        gamma = torch._standard_gamma(shape, generator=generator)
        return self.draw(gamma * alpha * self.mean(output), generator)

    def information_entries(self, output: Tensor) -> Tensor:
        alpha = self.dispersion
        return torch.sigmoid(output + alpha.log()) / alpha

    @torch.no_grad()
    def update(self, x: Tensor, output: Tensor, observed: Tensor | None = None) -> None:
        if not self.learned:
            return
        shared = self.excess.numel() == 1
        for running, values in zip((self.excess, self.square), self._terms(x, output), strict=True):
            if observed is not None:  # what is not observed votes for the mean as it is
                values = values.where(observed, running)
            target = values.mean() if shared else values.mean(dim=0)
            running.lerp_(target.where(target.isfinite(), running), self.rate)

    @torch.no_grad()
    def calibrate(self, x: Tensor, output: Tensor, observed: Tensor | None = None) -> None:
        if not self.learned:
            return
        for _ in range(_N_STEPS):  # one factor for all columns, with which the moments agree
            excess, square = (self.masked(values, observed) for values in self._terms(x, output))
            alpha = self.dispersion
            factor = excess.sum() / (alpha * square).sum()
            excess = (alpha * factor).clamp(*_DISPERSION) * self.square
            self.excess.copy_(excess.where(factor.isfinite(), self.excess))

    def _terms(self, x: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted (x - mu)^2 - mu and mu^2 of each entry."""
        mean = self.mean(output)
        scale = 1.0 + self.dispersion * mean
        return ((x - mean) / scale).square() - mean / scale.square(), (mean / scale).square()


def _rest(r: Tensor) -> Tensor:
    """What Stirling's formula lacks of log Gamma(r), but for terms of r^-7."""
    inverse = r.reciprocal()
    square = inverse.square()
    return inverse * (1 / 12 - square * (1 / 360 - square / 1260))
