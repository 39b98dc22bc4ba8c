"""What is missing given what is observed: means and draws of p(missing | observed).

Both use codes that stand for p(z | observed) with importance weights, as the score does (Mattei and
Frellsen 2019, *MIWAE*, arXiv:1812.02633, equations 12 and 13).
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor

from .._data.rows import Rows
from .evidence import proposal_noise, search_arrays, weighted_codes
from .inference import decode
from .module import VariationalModule

__all__ = [
    "codes_given",
    "column_log_likelihoods",
    "conditional_draws",
    "conditional_means",
    "fit_mixture",
    "mixture_codes",
]

#: Codes for each row; numbers that are decoded at a time.
_N_CODES = 256
_DECODED_NUMBERS = 2**20
#: Components of the mixture of codes, rows for each, and what is added to its variances: at least
#: a share of the largest variance of the codes, so that rounding leaves them positive definite.
_MIXTURE_COMPONENTS = 20
_ROWS_PER_COMPONENT = 20
_MIXTURE_VARIANCE = 1e-4
_MIXTURE_SHARE = 1e-12
#: Codes from which those of ``sample(given=...)`` are taken, and least effective number of them.
_POOL = 2**14
_FEW = 32.0


@torch.no_grad()
def conditional_means(
    module: VariationalModule, rows: Rows, n_components: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Numbers of the rows with missing entries, (m,), and their means, (m, n_features), by chunks.

    The means are those of p(x | observed), in scaled units, and of all entries.
    """
    noise = proposal_noise(_N_CODES, n_components).to(rows.device)
    for numbers, z, share in _codes(module, rows, n_components, lambda n: noise):
        total = torch.zeros(len(z), rows.X.shape[1], dtype=torch.float64, device=z.device)
        step = max(1, _DECODED_NUMBERS // total.numel())
        for start in range(0, z.shape[1], step):
            some = z[:, start : start + step]
            mean = module.likelihood.mean(decode(module, some.flatten(0, 1))).double()
            total += (share[:, start : start + step, None] * mean.view(*some.shape[:2], -1)).sum(1)
        yield numbers, total


@torch.no_grad()
def conditional_draws(
    module: VariationalModule,
    rows: Rows,
    n_components: int,
    n_draws: int,
    generator: torch.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Like :func:`conditional_means`, but draws from p(x | observed): (n_draws, m, n_features)."""

    def noise(n: int) -> Tensor:
        shape = n, _N_CODES, n_components
        return torch.randn(shape, dtype=torch.float64, device=rows.device, generator=generator)

    for numbers, z, share in _codes(module, rows, n_components, noise):
        chosen = torch.multinomial(share, n_draws, replacement=True, generator=generator)
        each = torch.arange(len(z), device=z.device)
        draws = [
            module.likelihood.sample(decode(module, z[each, column]), generator)
            for column in chosen.T
        ]
        yield numbers, torch.stack(draws)


def _codes(
    module: VariationalModule, rows: Rows, n_components: int, noise: Callable[[int], Tensor]
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Numbers of the rows with missing entries, their codes (m, S, K) and shares (m, S).

    ``noise`` makes that of :func:`weighted_codes` for a number of rows.
    """
    start = 0
    for x in rows.chunks(draws=search_arrays(n_components, _N_CODES)):
        x, observed = module.observe(x)
        some = (~observed.all(dim=1)).nonzero()[:, 0]
        if len(some):
            mean = module.encode(x, observed).mean[some].to(x.dtype)
            given = x[some], mean, noise(len(some)), observed[some]
            z, log_weight = weighted_codes(module.decoder, module.likelihood, *given)
            yield start + some, z.to(x.dtype), torch.softmax(log_weight, dim=1)
        start += len(x)


@torch.no_grad()
def column_log_likelihoods(
    module: VariationalModule, rows: Rows, n_components: int, n_draws: int, scale: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean log p(x_j|z) of each entry over p(z|x), (n, n_features), and the score's rest, (n,).

    With the scales of the columns, (n_features,), densities are in the units of X. Missing entries
    have 0.
    """
    if rows.device.type == "cpu" and module.fill.device.type != "cpu":
        module = copy.deepcopy(module).cpu()
    noise = proposal_noise(n_draws, n_components).to(rows.device)
    log_scales = torch.from_numpy(np.log(scale)).to(rows.device)
    parts, codes = [], []
    for x in rows.chunks(draws=search_arrays(n_components, n_draws)):
        x, observed = module.observe(x)
        start = module.encode(x, observed).mean.to(x.dtype)
        z, log_weight = weighted_codes(module.decoder, module.likelihood, x, start, noise, observed)
        share, entries = torch.softmax(log_weight, dim=1), torch.zeros_like(x, dtype=torch.float64)
        for s in range(n_draws):
            log_prob = module.likelihood.log_prob_entries(x, decode(module, z[:, s].to(x.dtype)))
            entries += share[:, s, None] * log_prob.double()
        score = torch.logsumexp(log_weight, dim=1) - math.log(n_draws)
        codes.append(score - module.likelihood.masked(entries, observed).sum(dim=1))
        parts.append(module.likelihood.masked(entries - log_scales, observed))
    return torch.cat(parts).numpy(force=True), torch.cat(codes).numpy(force=True)


def fit_mixture(posteriors: np.ndarray) -> GaussianMixture:
    """A Gaussian mixture like that of posteriors, given as means and log-variances (2, m, K).

    Few wide components smooth many narrow posteriors, so that codes drawn from the mixture are not
    those of training rows.
    """
    rng, m = np.random.RandomState(0), posteriors.shape[1]
    mean, log_var = posteriors[:, np.arange(max(m, 2)) % m].astype(np.float64)
    z = mean + np.exp(0.5 * log_var) * rng.standard_normal(mean.shape)
    n_components = int(np.clip(m // _ROWS_PER_COMPONENT, 1, _MIXTURE_COMPONENTS))
    variance = max(_MIXTURE_VARIANCE, _MIXTURE_SHARE * float(z.var(axis=0).max()))
    mixture = GaussianMixture(n_components, reg_covar=variance, random_state=rng)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # any state of it will do
        return mixture.fit(z)


def mixture_codes(mixture: GaussianMixture, n: int, rng: np.random.RandomState) -> np.ndarray:
    """Draws from a mixture: (n, K)."""
    chosen = rng.choice(len(mixture.weights_), size=n, p=mixture.weights_)
    factors = np.linalg.cholesky(mixture.covariances_)[chosen]
    noise = rng.standard_normal((n, factors.shape[1]))
    return mixture.means_[chosen] + (factors @ noise[:, :, None])[:, :, 0]


@torch.no_grad()
def codes_given(
    module: VariationalModule,
    rows: Rows,
    mixture: GaussianMixture | None,
    n: int,
    rng: np.random.RandomState,
) -> np.ndarray:
    """Codes given the observed entries of one row: (n, K).

    They are draws from the mixture, weighted by p(observed | z). If there is no mixture, or if too
    few of its codes explain the row, they are drawn from p(z | observed) under the prior.
    """
    x, observed = module.observe(rows[slice(0, 1)])
    if mixture is not None:
        pool = mixture_codes(mixture, max(_POOL, 4 * n), rng)
        parts = []
        for part in torch.from_numpy(pool).to(x).split(max(1, _DECODED_NUMBERS // x.shape[1])):
            each = x.expand(len(part), -1), decode(module, part), observed.expand(len(part), -1)
            parts.append(module.likelihood.log_prob(*each).double())
        share = torch.softmax(torch.cat(parts), dim=0).numpy(force=True)
        if 1 / np.square(share).sum() >= _FEW:
            return pool[rng.choice(len(pool), n, p=share / share.sum())]
    mean = module.encode(x, observed).mean.to(x.dtype)
    noise = torch.from_numpy(rng.standard_normal((max(_N_CODES, 4 * n), mean.shape[1])))
    given = x, mean, noise.to(x.device), observed
    z, log_weight = weighted_codes(module.decoder, module.likelihood, *given)
    share = torch.softmax(log_weight[0], dim=0).numpy(force=True)
    return z[0].numpy(force=True)[rng.choice(len(share), n, p=share / share.sum())]
