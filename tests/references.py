"""Dense formulas, numerical integrals and examples that several test files share."""

import math

import numpy as np
import torch
from scipy.integrate import trapezoid
from scipy.special import logsumexp

from sklearn_wiseale.objectives import Batch, Posterior

#: "jensen" minus the divergence, for each component, where both are known exactly.
GAP = 0.5 * (1 - math.log(2))
BOUNDS = ["jensen", "renyi", "moment", "monte_carlo", "sliced"]


def posteriors(n, k, seed=0, dtype=torch.float64):
    """Means, log-variances and draws of overlapping posteriors, (n, k) each."""
    rng = np.random.RandomState(seed)
    mean, log_var = rng.normal(0.3, 1.1, (n, k)), rng.normal(-0.8, 0.8, (n, k))
    z = mean + np.exp(0.5 * log_var) * rng.standard_normal((n, k))
    return [torch.as_tensor(part, dtype=dtype) for part in (mean, log_var, z)]


def leaves(*tensors):
    return [tensor.clone().requires_grad_() for tensor in tensors]


def value_and_gradients(function, *tensors):
    """Value of a function, and its gradient by each tensor."""
    tensors = leaves(*tensors)
    value = function(*tensors)
    return value.detach(), *torch.autograd.grad(value, tensors, materialize_grads=True)


def assert_agree(found, expected, value=1e-12, gradient=1e-9):
    """Values and gradients, each up to a relative error."""
    torch.testing.assert_close(found[0], expected[0], rtol=value, atol=value)
    torch.testing.assert_close(found[1:], tuple(expected[1:]), rtol=gradient, atol=1e-12)


def all_finite(tensors):
    return all(torch.isfinite(tensor).all() for tensor in tensors)


# divergences ----------------------------------------------------------------------------------


def divergence(objective, *, training=True, seed=0, n_features=20, n_samples=10**4):
    """Divergence of one batch as a function of means, log-variances and draws."""

    def value(mean, log_var, z):
        module = objective.build(n_features, mean.shape[1])
        batch = Batch(torch.arange(len(z)), n_samples, training, generator_of(seed))
        return module(Posterior(mean, log_var), z, batch)

    return value


def generator_of(seed):
    return torch.Generator().manual_seed(seed)


def basis_of(k, seed=0):
    """Lines along which "sliced" is computed: the first numbers that a generator draws."""
    normal = torch.empty(k, k, dtype=torch.float64).normal_(generator=generator_of(seed))
    return torch.linalg.qr(normal).Q


def dense_log_overlaps(mean, log_var, other_mean, other_log_var):
    """Logarithms of the overlaps of all pairs: (M, A), by way of (M, A, K)."""
    total_var = log_var.exp()[:, None] + other_log_var.exp()
    squared = (mean[:, None] - other_mean).square()
    return -0.5 * (squared / total_var + (2 * math.pi * total_var).log()).sum(dim=2)


def dense_cross_entropy(mean, log_var):
    second_moments = (mean.square() + log_var.exp()).sum(dim=1)
    return 0.5 * (mean.shape[1] * math.log(2 * math.pi) + second_moments.mean())


def dense_bound(bound, mean, log_var, z):
    """Bound on the divergence of the aggregate, from its definition."""
    n, k = mean.shape
    if bound == "moment":
        centred = mean - mean.mean(dim=0)
        covariance = centred.T @ centred / n + torch.diag(log_var.exp().mean(dim=0))
        squared = mean.mean(dim=0).square().sum()
        return 0.5 * (covariance.trace() + squared - k - covariance.logdet())
    points = torch.full_like(z, -math.inf)
    rows = (z, points) if bound == "monte_carlo" else (mean, log_var)
    overlaps = dense_log_overlaps(*rows, mean, log_var) - math.log(n)
    if bound == "renyi":
        negative_entropy = torch.logsumexp(overlaps.flatten(), dim=0) - math.log(n)
    else:
        negative_entropy = torch.logsumexp(overlaps, dim=1).mean()
    return negative_entropy + dense_cross_entropy(mean, log_var)


def quadrature_kl(mean, log_var):
    """Divergence of the aggregate from the prior by the trapezoidal rule, for K = 1 or 2."""
    mean, log_var = mean.numpy(), log_var.numpy()
    k = mean.shape[1]
    n_points = 1601 if k == 1 else 401
    width = 9 * np.exp(0.5 * log_var)
    low, high = (mean - width).min(axis=0), (mean + width).max(axis=0)
    axes = np.linspace(low, high, n_points).T
    log_parts, log_prior = np.zeros((len(mean),) + (n_points,) * k), np.zeros((n_points,) * k)
    for d, axis in enumerate(axes):
        shape = [1] * k
        shape[d] = n_points
        standard = (axis - mean[:, d, None]) / np.exp(0.5 * log_var[:, d, None])
        log_density = -0.5 * (standard**2 + log_var[:, d, None] + math.log(2 * math.pi))
        log_parts = log_parts + log_density.reshape(len(mean), *shape)
        log_prior = log_prior - 0.5 * (axis**2 + math.log(2 * math.pi)).reshape(shape)
    log_q = logsumexp(log_parts, axis=0) - math.log(len(mean))
    integral = np.exp(log_q) * (log_q - log_prior)
    for axis in axes[::-1]:
        integral = trapezoid(integral, axis, axis=-1)
    return float(integral)
