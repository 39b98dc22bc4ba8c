"""Laws of the bound from shadows on lines."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from sklearn_wiseale.diagnostics import aggregate_kl
from sklearn_wiseale.objectives import Batch, Posterior, WiSEALE
from sklearn_wiseale.objectives._sliced import _grid, _Places, random_basis, sliced_kl

BLUR = 0.25


def quantiles(n, mean=0.0, sd=1.0):
    """A sample of one column that is as normal as n rows can be."""
    z = norm.ppf((np.arange(n) + 0.5) / n, mean, sd)
    return torch.from_numpy(z)[:, None]


def normal(n, k, seed=0, dtype=torch.float64):
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def dense_sliced_kl(z, basis):
    """Row by row and point by point, in numpy: counts, blur, sum."""
    points = np.linspace(-10, 10, 161)
    kernel = np.exp(-0.5 * ((points[:, None] - points) / BLUR) ** 2)
    kernel /= kernel.sum(axis=1, keepdims=True)
    cells = [(a, a + 0.125) for a in points[:-1]]
    nodes, weights = np.polynomial.legendre.leggauss(12)
    prior = np.zeros(161)
    for i, (a, b) in enumerate(cells):
        x = 0.5 * (a + b) + 0.5 * (b - a) * nodes
        mass = 0.5 * (b - a) * weights * norm.pdf(x)
        prior[i] += (mass * (b - x) / (b - a)).sum()
        prior[i + 1] += (mass * (x - a) / (b - a)).sum()
    prior = prior @ kernel
    value = 0.0
    for direction in basis.T:
        counts = np.zeros(161)
        for place in z @ direction:
            place = np.clip(place, -10, 10)
            i = min(int((place + 10) / 0.125), 159)
            share = (place - points[i]) / 0.125
            counts[i] += (1 - share) / len(z)
            counts[i + 1] += share / len(z)
        q = counts @ kernel
        value += (q[q > 0] * np.log(q[q > 0] / prior[q > 0])).sum()
    return value


@pytest.mark.parametrize(("n", "k"), [(1, 1), (7, 1), (30, 3), (5, 6)])
def test_equals_the_sum_written_out(n, k):
    z, basis = 2 * normal(n, k), random_basis(normal(1, k), torch.Generator().manual_seed(3))
    expected = dense_sliced_kl(z.numpy(), basis.numpy())
    assert float(sliced_kl(z, basis)) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("mean", "sd"), [(0.0, 1.0), (1.5, 1.0), (0.0, 0.4), (-1.0, 2.0)])
def test_of_a_gaussian_it_is_the_divergence_of_the_blurred_gaussian(mean, sd):
    var, prior_var = sd**2 + BLUR**2, 1 + BLUR**2
    expected = 0.5 * ((var + mean**2) / prior_var - 1 - math.log(var / prior_var))
    value = sliced_kl(quantiles(100_000, mean, sd), torch.eye(1, dtype=torch.float64))
    assert float(value) == pytest.approx(expected, rel=0.01, abs=1e-4)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_is_no_larger_than_the_divergence_of_a_gaussian(k):
    """Known exactly: a Gaussian of any mean and covariance, in any basis."""
    root, m = normal(k, k, seed=k), normal(1, k, seed=9)
    cov = (root @ root.T + 0.3 * torch.eye(k)).numpy()
    kl = 0.5 * (np.trace(cov) + float(m.square().sum()) - k - np.linalg.slogdet(cov)[1])
    z = normal(50_000, k, seed=1) @ torch.linalg.cholesky(torch.from_numpy(cov)).T + m
    for seed in range(5):
        basis = random_basis(z, torch.Generator().manual_seed(seed))
        assert 0 <= float(sliced_kl(z, basis)) <= kl


def test_of_prior_draws_it_is_nearly_zero_and_of_other_shapes_it_is_not():
    z = normal(20_000, 4)
    basis = random_basis(z, torch.Generator().manual_seed(0))
    nothing = float(sliced_kl(z, basis))
    assert 0 <= nothing < 0.02
    for other in (z + 0.5, 0.5 * z, z.sign(), 3**0.5 * (2 * torch.rand_like(z) - 1)):
        assert float(sliced_kl(other, basis)) > 2 * nothing


def test_does_not_ask_for_width_where_jensen_does():
    """Needles at the prior's quantiles are as good as the prior."""
    points = quantiles(4000)
    assert float(sliced_kl(points, torch.eye(1, dtype=torch.float64))) < 1e-3


def test_prior_and_blur_are_distributions():
    blur, log_prior = _grid(torch.float64, torch.device("cpu"))
    torch.testing.assert_close(blur.sum(1), torch.ones(161, dtype=torch.float64))
    assert float(log_prior.exp().sum()) == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(log_prior, log_prior.flip(0), rtol=1e-9, atol=1e-9)


def test_counts_keep_mass_and_mean():
    z = 3 * normal(200, 3).clamp(-3, 3)
    z[:4] = torch.tensor([10, 9.95, -9.95, -10])[:, None]  # in the outermost cells too
    counts = _Places.of(z / 0.125).counts()
    points = torch.linspace(-10, 10, 161, dtype=torch.float64)
    torch.testing.assert_close(counts.sum(1), torch.full((3,), 200.0, dtype=torch.float64))
    torch.testing.assert_close(counts @ points, z.sum(0), rtol=1e-10, atol=1e-9)


def test_draws_beyond_the_ends_count_there():
    beyond = torch.tensor([10.01, 10.06, 10.12, 10.2, 10.3, 77.0, 1e9], dtype=torch.float64)
    for z in (beyond[:, None], -beyond[:, None]):
        at_the_ends, counts = (_Places.of(x / 0.125).counts() for x in (z.clamp(-10, 10), z))
        torch.testing.assert_close(counts, at_the_ends)


def test_gradient():
    z = normal(12, 3).requires_grad_()
    basis = random_basis(z, torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda z: sliced_kl(z, basis), z)


@pytest.mark.parametrize("far", [12.0, 1e4])
def test_draws_beyond_the_grid_are_pulled_back(far):
    z = torch.tensor([[far], [-far], [0.1]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(sliced_kl(z, torch.eye(1, dtype=torch.float64)), z)
    assert gradient[0] > 1
    assert gradient[1] < -1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_does_not_pass_unnoticed(bad):
    z = torch.tensor([[bad, 0.0], [0.3, 1.0]], requires_grad=True)
    value = sliced_kl(z, torch.eye(2))
    (gradient,) = torch.autograd.grad(value, z)
    assert not torch.isfinite(torch.cat([value.view(1), gradient.flatten()])).all()


@pytest.mark.parametrize("k", [1, 4, 16])
def test_bases_are_orthonormal_and_follow_the_generator(k):
    z = normal(2, k)
    first, again, other = (
        random_basis(z, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    torch.testing.assert_close(first.T @ first, torch.eye(k, dtype=torch.float64))
    assert torch.equal(first, again)
    assert k == 1 or not torch.equal(first, other)


@pytest.mark.parametrize("held", [1.0, 0.0])
def test_known_draws_count_as_rows_or_not_at_all(held):
    z, known = normal(20, 2), normal(30, 2, seed=1) + 1
    basis = torch.eye(2, dtype=torch.float64)
    value = sliced_kl(z, basis, known, torch.full((30,), held, dtype=torch.float64))
    together = torch.cat([z, known]) if held else z
    torch.testing.assert_close(value, sliced_kl(together, basis))


def test_a_bank_of_all_rows_gives_the_gradient_of_the_full_sum():
    """With one component every basis is the same."""
    posterior = Posterior(1.5 * normal(60, 1) + 0.3, 0.3 * normal(60, 1, seed=1) - 2)
    noise = normal(60, 1, seed=2)
    module = WiSEALE("sliced", weight=1.0, width=60).build(10, 1)
    for _ in range(2):
        gradient = torch.zeros(60, 2, dtype=torch.float64)
        for rows in torch.arange(60).split(10):
            leaf = Posterior(*(part[rows].clone().requires_grad_() for part in posterior))
            batch = Batch(rows, 60, training=True, generator=torch.Generator().manual_seed(0))
            value = module(leaf, leaf.rsample(noise[rows]), batch)
            gradient[rows] = torch.cat(torch.autograd.grad(value, leaf), dim=1) / 6
    leaf = Posterior(*(part.clone().requires_grad_() for part in posterior))
    full = sliced_kl(leaf.rsample(noise), torch.eye(1, dtype=torch.float64))
    torch.testing.assert_close(value.detach(), full.detach())
    expected = torch.cat(torch.autograd.grad(full, leaf), dim=1)
    torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-10)


def test_diagnostics_repeat_with_the_seed_and_stay_below_the_divergence():
    rng = np.random.RandomState(0)
    mean, log_var = rng.normal(0.5, 1, (3000, 2)), np.full((3000, 2), -3.0)
    value = aggregate_kl(mean, log_var, method="sliced", random_state=0)
    assert value == aggregate_kl(mean, log_var, method="sliced", random_state=0)
    assert 0 < value < aggregate_kl(mean, log_var)
