"""Student-t noise, whose scale and degrees of freedom are learned in closed form."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._data.validation import Interval, StrOptions
from ._base import Likelihood, Observation, batch_mean
from ._gaussian import NOISE_FLOOR

__all__ = ["StudentT"]

#: Limits of fixed degrees of freedom. The mean is infinite at the lower one.
_DF = (1.0, 1e4)
#: Limits of learned ones. The variance is infinite at 2; at 100, the noise is nearly Gaussian.
_LEARNED_DF = (2.1, 100.0)
_DF_AT_START = 10.0
#: For larger degrees of freedom, Stirling's series is exact to 1e-11.
_STIRLING = 30.0
_N_STEPS = 10  # of ``calibrate``, each of which leaves two fifths of the error, or less
#: Standard deviations from the mean, beyond which the encoder sees logarithms.
_REACH = 4.0


class StudentT(Likelihood):
    r"""Student-t noise around the decoder's output, for columns with heavy tails or wild rows.

    In scaled units, with the degrees of freedom :math:`\nu` and the scale s,

    .. math::

        p(x | z) = \frac{\Gamma(\frac{\nu + 1}{2})}{\Gamma(\frac{\nu}{2}) \sqrt{\pi \nu}\, s}
            \left(1 + \frac{r^2}{\nu s^2}\right)^{-\frac{\nu + 1}{2}}, \qquad r = x - f(z).

    It is a mixture of Gaussians of all variances, in which an entry has the expected precision
    :math:`w / s^2` with :math:`w = (\nu + 1) / (\nu + r^2 / s^2)`. Entries far from their
    reconstruction thus have a small weight. As with
    :class:`~sklearn_wiseale.likelihoods.Gaussian`, the optimiser does not train the noise:
    :math:`s^2` is the running mean of :math:`w r^2` over :math:`z \sim q_i`, the EM step of
    the mixture, and the running :math:`1 / \nu` follows the score, divided by its
    information. Both maximise the likelihood.

    With ``scale="auto"``, columns are scaled, and training starts, by moments of entries
    without those far from the others (``scale="robust"``). The encoder sees logarithms of what is
    beyond four standard deviations.

    Parameters
    ----------
    df : "auto" or float, default="auto"
        Degrees of freedom. "auto" learns them, from 2.1 to 100. A float, above 1 and up to 1e4,
        is fixed. The smaller, the heavier the tails.

    noise : {"shared", "feature"}, default="shared"
        "shared" learns one scale, and one number of degrees of freedom, for all scaled columns,
        "feature" one per column.

    References
    ----------
    Lange, Little, Taylor (1989), *Robust Statistical Modeling Using the t Distribution*, Journal
    of the American Statistical Association 84.

    Liu, Rubin (1995), *ML Estimation of the t Distribution Using EM and its Extensions, ECM and
    ECME*, Statistica Sinica 5.

    Examples
    --------
    One wild row:

    >>> import numpy as np
    >>> from sklearn_wiseale import WiSEALETransformer
    >>> from sklearn_wiseale.likelihoods import StudentT
    >>> X = np.random.RandomState(0).normal(size=(60, 1)) + 0.1 * np.eye(60, 3)
    >>> X[7] = 1000.0, -2000.0, 500.0
    >>> reducer = WiSEALETransformer(1, likelihood=StudentT(), max_epochs=3, random_state=0)
    >>> codes = reducer.fit_transform(X)
    >>> bool(np.abs(codes).max() < 20)
    True
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "df": [StrOptions({"auto"}), Interval(Real, *_DF, closed="right")],
        "noise": [StrOptions({"shared", "feature"})],
    }
    natural_scale = "robust"
    scalable = True

    def __init__(self, df: str | float = "auto", noise: str = "shared") -> None:
        self.df = df
        self.noise = noise

    def build(
        self, residual_variance: np.ndarray, mean: np.ndarray, variance: np.ndarray
    ) -> StudentTNoise:
        self.check_parameters()
        shared = self.noise == "shared"
        square = np.atleast_1d(residual_variance.mean()) if shared else residual_variance
        learned = isinstance(self.df, str)
        inverse_df = np.full_like(square, 1 / (_DF_AT_START if learned else float(self.df)))
        return StudentTNoise(mean, variance, square, inverse_df, learned=learned)


class StudentTNoise(Observation):
    """Student-t observation with running estimates of scale and degrees of freedom."""

    #: Weight of a batch in the running estimates, means over about 20 batches.
    rate = 0.05

    centre: Tensor
    spread: Tensor
    squared_scale: Tensor
    inverse_df: Tensor

    def __init__(
        self,
        mean: np.ndarray,
        variance: np.ndarray,
        squared_scale: np.ndarray,
        inverse_df: np.ndarray,
        *,
        learned: bool,
    ) -> None:
        super().__init__()
        self.learned = learned  # the degrees of freedom; the scale always is
        spread = np.where(variance > 0, np.sqrt(variance), 1.0)
        self.register_buffer("centre", torch.tensor(mean))
        self.register_buffer("spread", torch.from_numpy(spread))
        # (1,) or (n_features,): scaled units squared, and 1 / df
        floor = torch.from_numpy(squared_scale).clamp(min=NOISE_FLOOR**2)
        self.register_buffer("squared_scale", floor)
        self.register_buffer("inverse_df", torch.from_numpy(inverse_df))

    @property
    def df(self) -> Tensor:
        """Degrees of freedom, (1,) or (n_features,)."""
        return self.inverse_df.reciprocal()

    def embed(self, x: Tensor) -> Tensor:
        """Replace distances beyond four standard deviations by logarithms."""
        distance = (x - self.centre) / self.spread
        beyond = (distance.abs() - _REACH).clamp(min=0.0)
        near = distance.clamp(-_REACH, _REACH)
        return self.centre + self.spread * (near + distance.sign() * torch.log1p(beyond))

    def log_prob_entries(self, x: Tensor, output: Tensor) -> Tensor:
        df = self.df
        log_volume = 0.5 * (self.squared_scale * math.pi).log() - _log_ratio(df)
        ratio = (x - output).square() / (df * self.squared_scale)
        return -0.5 * (df + 1.0) * torch.log1p(ratio) - log_volume

    def mean(self, output: Tensor) -> Tensor:
        return output

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        noise = torch.empty_like(output).normal_(generator=generator)
        half = (0.5 * self.df).expand_as(output).contiguous()
        # torch.distributions.Gamma calls the same function but takes no generator
        precision = torch._standard_gamma(half, generator=generator) / half
        return output + (self.squared_scale / precision).sqrt() * noise

    def information_entries(self, output: Tensor) -> Tensor:
        df = self.df
        return ((df + 1.0) / ((df + 3.0) * self.squared_scale)).expand_as(output)

    def noise_std(self) -> Tensor:
        return self.squared_scale.sqrt()

    @torch.no_grad()
    def update(self, x: Tensor, output: Tensor, observed: Tensor | None = None) -> None:
        squared, less = self._squares_and_weights(x, output)
        target = batch_mean((1.0 + less) * squared, observed, self.squared_scale)
        if self.learned:
            # score of 1 / df over its information: 7 df / (2 (df + 4)) to within a seventh
            df = self.df
            excess = less - torch.log1p(less) - _expected_excess(df)
            step = self.inverse_df + excess * df * (df + 4.0) / 7.0
            low, high = (1 / limit for limit in reversed(_LEARNED_DF))
            inverse = batch_mean(step, observed, self.inverse_df).clamp(low, high)
            self.inverse_df.lerp_(inverse, self.rate)
        self.squared_scale.lerp_(target, self.rate).clamp_(min=NOISE_FLOOR**2)

    @torch.no_grad()
    def calibrate(self, x: Tensor, output: Tensor, observed: Tensor | None = None) -> None:
        for _ in range(_N_STEPS):  # scale all by the factor that maximises the likelihood
            squared, less = self._squares_and_weights(x, output)
            weight = self.masked(1.0 + less, observed)
            factor = (weight * squared / self.squared_scale).sum() / weight.sum()
            factor = factor.where(factor.isfinite(), 1.0)
            self.squared_scale.mul_(factor).clamp_(min=NOISE_FLOOR**2)

    def _squares_and_weights(self, x: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
        """Return r^2 and w - 1 of each entry, the latter without cancellation."""
        squared = (x - output).square()
        ratio = squared / self.squared_scale
        return squared, (1.0 - ratio) / (self.df + ratio)


def _log_ratio(df: Tensor) -> Tensor:
    """Log of Gamma((df + 1) / 2) / (Gamma(df / 2) sqrt(df)), for large df by Stirling's series."""
    inverse = df.reciprocal()
    square = inverse.square()
    series = -inverse * (1 / 4 - square * (1 / 24 - square * (1 / 20 - square * (17 / 112))))
    direct = torch.lgamma(0.5 * df + 0.5) - torch.lgamma(0.5 * df) - 0.5 * (0.5 * df).log()
    return torch.where(df > _STIRLING, series, direct) - 0.5 * math.log(2)


def _expected_excess(df: Tensor) -> Tensor:
    """E[w - 1 - log w] for Student-t noise with these degrees of freedom."""
    ratio = torch.digamma(0.5 * df + 0.5) - torch.digamma(0.5 * df)
    return ratio - torch.log1p(df.reciprocal())
