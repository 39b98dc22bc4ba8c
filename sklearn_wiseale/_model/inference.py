"""Posteriors, decoded rows and scores of a trained module."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from .._data.rows import Rows
from ..objectives._base import Posterior
from .evidence import ShortRows, log_evidence, posterior_mode, proposal_noise, search_arrays
from .module import VariationalModule

__all__ = ["decode", "default_draws", "log_likelihoods", "posterior", "refine"]

#: Limits of n_draws="auto": fewest and most draws, and most draws times columns.
_DRAWS = (8, 64)
_DRAWN_NUMBERS = 2**17


@torch.no_grad()
def posterior(module: VariationalModule, rows: Rows) -> Posterior:
    """Posteriors of all rows, on the device, in chunks of bounded memory."""
    whole: Posterior | None = None
    start = 0
    with module.precision():
        for x in rows.chunks():
            observation = module.observe(x) if rows.missing else (x,)
            part = module.encode(*observation)
            if whole is None:  # at once: small results between large chunks scatter the heap
                shape = len(rows), part.mean.shape[1]
                whole = Posterior(x.new_empty(shape), x.new_empty(shape))
            for tensor, values in zip(whole, part, strict=True):
                tensor[start : start + len(x)] = values
            start += len(x)
    assert whole is not None
    return whole


@torch.no_grad()
def refine(module: VariationalModule, found: Posterior, rows: Rows) -> None:
    """Replace posteriors of rows with missing entries by the Laplace approximation to p(z|x).

    The mean is the mode given the observed entries, found from the encoder's mean. The variance is
    the diagonal of the inverse Gauss-Newton precision at the mode.
    """
    start = 0
    for x in rows.chunks(draws=search_arrays(found.mean.shape[1])):
        x, observed = module.observe(x)
        chosen = (~observed.all(dim=1)).nonzero()[:, 0]
        if len(chosen):
            given = x[chosen], found.mean[start + chosen], observed[chosen]
            mode, precision = posterior_mode(module.decoder, module.likelihood, *given)
            covariance = torch.cholesky_inverse(torch.linalg.cholesky_ex(precision).L)
            variance = covariance.diagonal(dim1=1, dim2=2)
            found.mean[start + chosen] = mode
            found.log_var[start + chosen] = variance.log().to(mode.dtype)
        start += len(x)


@torch.no_grad()
def decode(module: VariationalModule, z: Tensor) -> Tensor:
    """Outputs of the decoder for all rows of z."""
    with module.precision():
        return module.decoder(z).to(z.dtype)


def default_draws(n_features: int) -> int:
    """Draws of each row for its score, a multiple of 8: one draw in eight is wide."""
    return int(np.clip(_DRAWN_NUMBERS // n_features // 8 * 8, *_DRAWS))


def log_likelihoods(
    module: VariationalModule, rows: Rows, n_components: int, n_draws: int, scale: np.ndarray
) -> tuple[Tensor, Tensor]:
    """Importance-weighted bound on log p(x) of each row, and the effective sample size: (n,) each.

    Rows are on the module's device, or on the CPU if that device has no float64. With the scales of
    the columns, (n_features,), densities are in the units of X.
    """
    if rows.device.type == "cpu" and module.fill.device.type != "cpu":
        module = copy.deepcopy(module).cpu()
    noise = proposal_noise(n_draws, n_components).to(rows.device)
    log_scales = torch.from_numpy(np.log(scale))
    short, parts = ShortRows.where_they_pay(module.decoder, module.likelihood), []
    with torch.no_grad():
        for x in rows.chunks(draws=search_arrays(n_components, n_draws)):
            x, observed = module.observe(x) if rows.missing else (x, None)
            start = module.encode(x, observed).mean
            model: VariationalModule | ShortRows = module
            if observed is None:
                log_volume = log_scales.sum()
            else:
                log_volume = observed.double() @ log_scales.to(observed.device)
            if short and observed is None:
                x, left = short.shorten(x)
                model, log_volume = short, log_volume - left
            given = model.decoder, model.likelihood, x, start.to(x.dtype), noise, observed
            log_density, draws = log_evidence(*given)
            parts.append((log_density - log_volume, draws))
    evidence, effective = (torch.cat(part) for part in zip(*parts, strict=True))
    return evidence, effective
