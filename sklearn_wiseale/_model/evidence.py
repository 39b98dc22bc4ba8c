r"""Importance-weighted bound on the evidence log p(x).

.. math::

    \log p(x) \ge \mathbb{E} \log \frac1S \sum_{s=1}^S
        \frac{p(x|z_s)\, p(z_s)}{r(z_s)}, \qquad z_s \sim r

(Burda, Grosse, Salakhutdinov 2016, arXiv:1509.00519, equation 8). The encoder's posterior is a poor
proposal r: an aggregate objective leaves it narrower, a weight above one leaves it wider than
p(z|x). So r is built here from the decoder alone, which makes the score comparable between
objectives: Gauss-Newton steps from the encoder's mean to the mode of p(z|x), the Gaussian of the
curvature there (exact for a linear decoder), and, against light tails, one draw in eight from
the same Gaussian twice as wide (a defensive mixture, Hesterberg 1995).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .._data.rows import chunk_length
from ..likelihoods import Observation
from ..likelihoods._gaussian import GaussianNoise
from ..networks import SkipMLP

__all__ = [
    "ShortRows",
    "jacobian_columns",
    "log_evidence",
    "posterior_mode",
    "proposal_noise",
    "search_arrays",
    "weighted_codes",
]

_ROUNDING = 1e-14  # of sums in float64, relative to their size
_N_STEPS = 3  # Gauss-Newton
_UNCHANGED = 0.1  # ulps of a density by which a step must promise to raise it
_PRODUCT_NUMBERS = 2**18  # of the Jacobian that are in float64 at a time
_WIDE_SHARE = 8  # one draw in so many is wide
_WIDE = 2.0
_SEED = 190206160
_SHORT = 8  # columns for each coordinate, from which rows are shortened


def proposal_noise(n_draws: int, n_components: int) -> Tensor:
    """Standard normal draws (n_draws, n_components), float64: the same for every row and call."""
    generator = torch.Generator().manual_seed(_SEED)
    half = torch.empty(-(-n_draws // 2), n_components, dtype=torch.float64, device="cpu")
    half.normal_(generator=generator)
    return torch.cat([half, -half])[:n_draws]  # antithetic


@torch.no_grad()
def log_evidence(
    decoder: nn.Module,
    likelihood: Observation,
    x: Tensor,
    start: Tensor,
    noise: Tensor,
    observed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Importance-weighted bound on log p(x) of scaled rows, and their effective sample sizes.

    Takes the arguments of :func:`weighted_codes`. The evidence is that of the observed entries.
    Returns nats in scaled units and (sum w)^2 / sum w^2, between 1 and S: (n,) each.
    """
    _, log_weight = weighted_codes(decoder, likelihood, x, start, noise, observed)
    log_sum = torch.logsumexp(log_weight, dim=1)
    effective = torch.exp(2 * log_sum - torch.logsumexp(2 * log_weight, dim=1))
    return log_sum - math.log(noise.shape[-2]), effective


@torch.no_grad()
def weighted_codes(
    decoder: nn.Module,
    likelihood: Observation,
    x: Tensor,
    start: Tensor,
    noise: Tensor,
    observed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Codes that stand for p(z|x) with importance weights: (n, S, K) and log w, (n, S), float64.

    Each of the rows x, (n, n_features), has a posterior mean in ``start``, (n, K). All share the
    noise, (S, K), of :func:`proposal_noise`, so that no row depends on another, or each has its
    own, (n, S, K). log w is log p(x, z) - log r(z) in nats, r the density from which z is drawn.
    """
    target = _Target(decoder, likelihood, x, observed)
    mode, precision = target.mode(start)
    n, (n_draws, n_components) = len(x), noise.shape[-2:]
    factor = torch.linalg.cholesky_ex(precision).L  # (n, K, K), lower, float64
    narrow = torch.arange(n_draws, device=x.device) % _WIDE_SHARE != _WIDE_SHARE - 1
    widths = torch.where(narrow, 1.0, _WIDE).to(noise)
    standard = (noise * widths[:, None]).mT.expand(n, -1, -1)  # (n, K, S)
    offset = torch.linalg.solve_triangular(factor.mT, standard, upper=True)
    z = mode.double()[:, None, :] + offset.mT  # (n, S, K)

    log_volume = factor.diagonal(dim1=1, dim2=2).log().sum(dim=1, keepdim=True)
    squared = standard.square().sum(dim=1)  # (n, S)
    n_wide = int(n_draws - narrow.sum())
    densities = [math.log((n_draws - n_wide) / n_draws) - 0.5 * squared]
    if n_wide:
        log_share = math.log(n_wide / n_draws) - n_components * math.log(_WIDE)
        densities.append(log_share - 0.5 * squared / _WIDE**2)
    # the factors 2 pi of prior and proposal cancel
    log_proposal = torch.logsumexp(torch.stack(densities), dim=0) + log_volume
    log_prior = -0.5 * z.square().sum(dim=2)

    at_once = max(1, chunk_length(x.shape[1]) // n)  # draws; one of wide rows: x is not copied
    log_likelihood = [target.log_likelihood(part) for part in z.to(x.dtype).split(at_once, dim=1)]
    return z, torch.cat(log_likelihood, dim=1).double() + log_prior - log_proposal


def search_arrays(n_components: int, n_draws: int = 1) -> int:
    """Number of arrays like x that the search for modes and the draws hold at a time."""
    return max(2 + n_components // 2, n_draws * n_components // 2**11)


@torch.no_grad()
def posterior_mode(
    decoder: nn.Module, likelihood: Observation, x: Tensor, start: Tensor, observed: Tensor
) -> tuple[Tensor, Tensor]:
    """Mode of p(z|x) given the observed entries, and the precision there: (n, K), (n, K, K).

    The search begins at ``start``, (n, K). Missing entries of the scaled rows x, (n, n_features),
    may be any finite number. The precision is the Gauss-Newton approximation of the negative
    Hessian of log p(z|x), in float64.
    """
    return _Target(decoder, likelihood, x, observed).mode(start)


class _Target:
    """The joint density of rows and codes, as a function of the codes z, (n, K)."""

    def __init__(
        self, decoder: nn.Module, likelihood: Observation, x: Tensor, observed: Tensor | None
    ) -> None:
        self.decoder, self.likelihood, self.x, self.observed = decoder, likelihood, x, observed

    def take(self, rows: Tensor) -> _Target:
        """The same of some of the rows."""
        if len(rows) == len(self.x):
            return self
        observed = None if self.observed is None else self.observed[rows]
        return _Target(self.decoder, self.likelihood, self.x[rows], observed)

    def mode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mode near z, (n, K), and Gauss-Newton precision there, (n, K, K) in float64.

        A row is done once a step would change its density by rounding only.
        """
        mode, rows, here = z.clone(), torch.arange(len(z), device=z.device), self
        value, gradient, precision = self.expand(z)
        rounding = _UNCHANGED * torch.finfo(value.dtype).eps
        for _ in range(_N_STEPS):
            factor = torch.linalg.cholesky_ex(precision[rows]).L  # where there is none, no step
            step = torch.cholesky_solve(gradient.double()[:, :, None], factor)[:, :, 0].to(z.dtype)
            rise = 0.5 * (gradient * step).sum(dim=1)
            rises = ~(rise <= rounding * value.abs().nan_to_num(posinf=0.0))
            if not rises.any():
                break
            rows, z, value, step = rows[rises], z[rises], value[rises], step[rises]
            here, start = self.take(rows), value
            for shrink in (1.0, 0.25):  # a row moves only where its joint density rises
                candidate = z + shrink * step
                candidate_value = here.log_density(candidate)
                better = candidate_value > value
                z = torch.where(better[:, None], candidate, z)
                value = torch.where(better, candidate_value, value)
            moved = value > start
            if not moved.any():
                break
            rows, z = rows[moved], z[moved]
            mode[rows] = z
            value, gradient, precision[rows] = self.take(rows).expand(z)
        return mode, precision

    def expand(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-density, its gradient and the Gauss-Newton precision: (n,), (n, K), (n, K, K).

        The precision is I + J^T F J in float64, J the decoder's Jacobian, F the likelihood's
        Fisher information. For v, the gradient by the decoder's outputs, J^T v is that by z.
        """
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            output = self.decoder(z)
            leaf = output.detach().to(self.x.dtype).requires_grad_()
            log_prob = self.likelihood.log_prob(self.x, leaf, self.observed)
            v = torch.autograd.grad(log_prob.sum(), leaf)[0].to(output.dtype).requires_grad_()
            product, columns = jacobian_columns(output, z, v)
        z, product, log_prob = z.detach(), product.detach(), log_prob.detach()
        information = self.likelihood.information(output.detach(), self.observed)
        return (
            log_prob - 0.5 * z.square().sum(dim=1),
            product - z,
            _precision(columns, information.sqrt()),
        )

    def log_likelihood(self, z: Tensor) -> Tensor:
        """Of several codes of each row, (n, m, K): (n, m)."""
        n, m = z.shape[:2]
        x, observed = self.x[:, None].expand(n, m, -1).reshape(n * m, -1), self.observed
        if observed is not None:
            observed = observed[:, None].expand(n, m, -1).reshape(n * m, -1)
        output = self.decoder(z.reshape(n * m, -1)).to(self.x.dtype)
        return self.likelihood.log_prob(x, output, observed).view(n, m)

    def log_density(self, z: Tensor) -> Tensor:
        """Up to a constant: (n,)."""
        return self.log_likelihood(z[:, None])[:, 0] - 0.5 * z.square().sum(dim=1)


def jacobian_columns(output: Tensor, z: Tensor, v: Tensor) -> tuple[Tensor, list[Tensor]]:
    """J^T v, (n, K), and the columns of each row's Jacobian J of the output by z, (n, m) each.

    The k-th column is the derivative of ``(J^T v)_k`` by v: K + 1 backward passes through one
    graph. v, (n, m), must require a gradient.
    """
    (product,) = torch.autograd.grad(output, z, v, create_graph=True)
    columns = [
        torch.autograd.grad(product[:, k].sum(), v, retain_graph=True)[0] for k in range(z.shape[1])
    ]
    return product, columns


class ShortRows:
    r"""Coordinates in which wide rows with Gaussian noise are short and have the same evidence.

    A perceptron's decoder ends in an affine map, :math:`f(z) = W h(z) + b`. With the thin QR
    decomposition :math:`W / \sigma = Q R` and :math:`y = (x - b) / \sigma`,

    .. math::

        \|(x - f(z)) / \sigma\|^2 = \|Q^\top y - R h(z)\|^2 + \|y\|^2 - \|Q^\top y\|^2 :

    the decoder :math:`R h(z)` of few outputs and unit noise replaces f, in float64.
    """

    @classmethod
    def where_they_pay(cls, decoder: nn.Module, likelihood: Observation) -> ShortRows | None:
        """Short rows for a model with much fewer such coordinates than columns, else None."""
        if type(decoder) is not SkipMLP or type(likelihood) is not GaussianNoise:
            return None
        n_features, n_coordinates = decoder.readout[0].shape
        return cls(decoder, likelihood) if n_features > _SHORT * n_coordinates else None

    @torch.no_grad()
    def __init__(self, decoder: SkipMLP, likelihood: GaussianNoise) -> None:
        weight, self.bias = (part.double() for part in decoder.readout)
        self.std = likelihood.noise_std().double().expand_as(self.bias)
        self.basis, triangle = torch.linalg.qr(weight / self.std[:, None])  # (n_features, m)
        origin = self.bias.new_zeros(len(triangle))
        self.decoder = decoder.with_readout(triangle, origin)
        self.likelihood = GaussianNoise(origin.new_ones(1), learned=False)

    def shorten(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Short rows, (n, m), and the rest of their log-density, (n,)."""
        y = (x - self.bias) / self.std  # float64
        short = y @ self.basis
        left = y.square().sum(dim=1) - short.square().sum(dim=1)
        n_left = x.shape[1] - short.shape[1]
        log_volume = 2 * self.std.log().sum() + n_left * math.log(2 * math.pi)
        return short, -0.5 * (left + log_volume)


def _precision(columns: list[Tensor], root: Tensor) -> Tensor:
    """I + J^T F J of each row, (n, K, K), from J's columns and the root of F, (n, n_features) each.

    Products are summed in float64, in which they are positive semi-definite, and for some of the
    features at a time, so that the copy in float64 stays small.
    """
    n, k = len(root), len(columns)
    product = torch.zeros(n, k, k, dtype=torch.float64, device=root.device)
    width = max(1, _PRODUCT_NUMBERS // (n * k))
    pieces = (part.split(width, dim=1) for part in (root, *columns))
    for factor, *parts in zip(*pieces, strict=True):
        jacobian = (torch.stack(parts, dim=1) * factor[:, None]).double()  # (n, K, width)
        product += jacobian @ jacobian.mT
    # where the decoder's outputs overflow, only the prior's precision remains
    finite = product.isfinite().flatten(1).all(dim=1)[:, None, None]
    product = product.where(finite, 0.0)
    # rounding must not make a singular product indefinite
    rounding = _ROUNDING * product.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None]
    return product + (1.0 + rounding) * torch.eye(k, dtype=torch.float64, device=root.device)
