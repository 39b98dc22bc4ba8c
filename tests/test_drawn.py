"""Laws of the default divergence: "jensen" over some rows of a batch, and "sliced"."""

import itertools
import math

import numpy as np
import pytest
import torch
from references import (
    all_finite,
    assert_agree,
    basis_of,
    dense_cross_entropy,
    dense_log_overlaps,
    divergence,
    generator_of,
    leaves,
    posteriors,
    value_and_gradients,
)

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.objectives import WiSEALE

SHARES = [0.0, 0.3, 1.0]

each_share = pytest.mark.parametrize("share", SHARES)
each_mode = pytest.mark.parametrize("training", [True, False])


def blend(share=0.0, *, weight=1.0, **options):
    return divergence(WiSEALE(weight=weight, sliced_share=share), **options)


def whole(share):
    """Both bounds of the whole batch."""
    return divergence(WiSEALE(weight=1.0, sliced_share=share, width=1))


def dense(rows):
    """Jensen of the batch over some of its rows."""

    def value(mean, log_var, z):
        overlaps = dense_log_overlaps(mean[rows], log_var[rows], mean, log_var)
        negative_entropy = torch.logsumexp(overlaps, dim=1).mean() - math.log(len(mean))
        return negative_entropy + dense_cross_entropy(mean, log_var)

    return value


# in training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("n", "k", "m"),
    [(1, 1, 1), (2, 3, 2), (33, 2, 32), (33, 64, 32), (100, 64, 20), (300, 16, 27), (2048, 64, 1)],
)
def test_number_of_rows_is_that_documented(n, k, m, dtype):
    assert m == max(1, min(n, 32, 2**17 // (n * k)))
    tensors = posteriors(n, k, dtype=dtype)
    found = value_and_gradients(blend(), *tensors)
    expected = value_and_gradients(dense(slice(0, m)), *tensors)
    if dtype == torch.float64:
        assert_agree(found, expected, gradient=1e-10)
    else:
        torch.testing.assert_close(found, expected)


@each_share
@pytest.mark.parametrize(
    ("n", "k"), [(1, 1), (3, 2), (31, 4), (32, 3), *((9, k) for k in range(1, 65))]
)
def test_of_up_to_32_rows_it_is_that_of_the_whole_batch(n, k, share):
    found, expected = (
        value_and_gradients(function, *posteriors(n, k))
        for function in (blend(share), whole(share))
    )
    assert_agree(found, expected)


def test_mean_over_rotations_of_a_batch_is_jensen_of_the_batch():
    n, tensors, found = 40, posteriors(40, 2), []
    for i in range(n):
        rotated = [part.roll(i, dims=0) for part in tensors]
        value, *gradients = value_and_gradients(blend(), *rotated)
        found.append([value, *(gradient.roll(-i, dims=0) for gradient in gradients)])
    parts = [torch.stack(part) for part in zip(*found, strict=True)]
    assert parts[0].std() > 1e-3
    expected = value_and_gradients(whole(0.0), *tensors)
    assert_agree(tuple(part.mean(dim=0) for part in parts), expected)


@each_share
@pytest.mark.parametrize("n", [5, 35])
@each_mode
def test_gradient_is_that_of_the_value(share, n, training):
    value = blend(share, training=training)
    assert torch.autograd.gradcheck(value, leaves(*posteriors(n, 2)))


def test_arguments_do_not_change():
    tensors, before = posteriors(40, 2), posteriors(40, 2)
    value_and_gradients(blend(0.5), *tensors)
    assert all(map(torch.equal, tensors, before))


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0, 30.0])
def test_weight_multiplies_value_and_gradient(weight):
    tensors = posteriors(40, 3)
    one = value_and_gradients(blend(0.4), *tensors)
    found = value_and_gradients(blend(0.4, weight=weight), *tensors)
    torch.testing.assert_close(found, tuple(weight * part for part in one), rtol=1e-12, atol=0)


@pytest.mark.parametrize("centre", [0.0, 1e4, 1e9])
@pytest.mark.parametrize("log_vars", [(-20.0, -20.0), (10.0, 10.0), (-20.0, 10.0)])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 2), (40, 3), (200, 16)])
@each_mode
def test_value_and_gradient_are_finite_in_float32(training, n, k, log_vars, centre):
    mean, log_var, _ = posteriors(n, k, dtype=torch.float32)
    for shift in (torch.ones(n), torch.arange(n) % 2, mean[:, 0]):
        far = mean + centre * shift[:, None]
        log_var[::2], log_var[1::2] = log_vars
        tensors = far, log_var, far + (0.5 * log_var).exp()
        found = value_and_gradients(blend(0.5, training=training), *tensors)
        assert {part.dtype for part in found} == {torch.float32}
        assert all_finite(found)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("row", [0, 39])  # of which only the first is drawn in training
@pytest.mark.parametrize("which", [0, 1, 2])
@each_mode
def test_numbers_that_are_not_finite_are_noticed(training, which, row, bad):
    if which == 1 and bad < 0:  # the log-variance of a point
        row = 3
    tensors = posteriors(40, 2)
    tensors[which][row, 1] = bad
    found = value_and_gradients(blend(0.5, training=training), *tensors)
    assert not all_finite(found)
    assert torch.isnan(found[0]) or not math.isnan(bad)


# held-out rows --------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [300, 2000])
def test_held_out_rows_are_drawn_by_the_generator(n):
    """All of them where pairs are few."""
    tensors = posteriors(n, 3)
    for seed in range(2):
        rows = torch.randperm(n, generator=generator_of(seed))[: 2**20 // (n * 3)]
        found = value_and_gradients(blend(training=False, seed=seed), *tensors)
        expected = value_and_gradients(dense(rows), *tensors)
        assert_agree(found, expected)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_held_out_rows_have_both_bounds(share):
    tensors = posteriors(300, 2)
    value = blend(share, training=False)(*tensors)
    torch.testing.assert_close(value, whole(share)(*tensors), rtol=1e-12, atol=1e-12)


def test_order_of_held_out_rows_does_not_bias_the_estimate():
    """Rows are sorted, and the first are unlike the others."""
    mean = torch.linspace(-4, 0, 4000, dtype=torch.float64)[:, None].repeat(1, 2)
    tensors = [mean, torch.full_like(mean, -3.0), mean]
    expected = whole(0.0)(*tensors)
    values = torch.stack([blend(training=False, seed=seed)(*tensors) for seed in range(30)])
    standard_error = values.std() / 30**0.5
    assert 0 < standard_error < 0.02
    assert abs(values.mean() - expected) < 4 * standard_error
    assert abs(blend()(*tensors) - expected) > 50 * standard_error


def test_without_gradients_there_is_no_graph():
    tensors = posteriors(40, 2)
    with torch.no_grad():
        assert not blend(0.5, training=False)(*leaves(*tensors)).requires_grad
    assert not blend(0.5)(*tensors).requires_grad


# fits -----------------------------------------------------------------------------------------


def test_a_default_fit_has_no_bank_and_repeats():
    X = np.random.RandomState(0).randn(100, 5)
    fit = {"max_epochs": 2, "random_state": 0, "early_stopping": False}
    default, again = (WiSEALETransformer(2, **fit).fit(X) for _ in range(2))
    assert default.net_.criterion_.bank is None
    np.testing.assert_array_equal(default.transform(X), again.transform(X))


def test_fits_in_batches_of_up_to_32_rows_equal_those_of_width_one():
    """But for rounding, as the order of sums differs."""
    X = np.random.RandomState(0).randn(60, 5)
    fit = {"max_epochs": 2, "random_state": 0, "batch_size": 20, "precision": "float64"}
    default = WiSEALETransformer(2, **fit).fit(X)
    alone = WiSEALETransformer(2, objective=WiSEALE(width=1), **fit).fit(X)
    np.testing.assert_allclose(default.transform(X), alone.transform(X), rtol=1e-6, atol=1e-8)


# "sliced" -------------------------------------------------------------------------------------

BLUR = 0.25


def sliced(z, seed=0):
    return divergence(WiSEALE("sliced", weight=1.0, width=1), seed=seed)(z, z, z)


def quantiles(n, mean=0.0, sd=1.0):
    """A sample of one column that is as normal as n rows can be."""
    return torch.special.ndtri((torch.arange(n).double()[:, None] + 0.5) / n) * sd + mean


def normal(n, k, seed=0):
    return torch.randn(n, k, generator=generator_of(seed), dtype=torch.float64)


def dense_sliced(z, basis):
    """Row by row and point by point: counts, blur, sum."""
    points = np.linspace(-10, 10, 161)
    kernel = np.exp(-0.5 * ((points[:, None] - points) / BLUR) ** 2)
    kernel /= kernel.sum(axis=1, keepdims=True)
    nodes, weights = np.polynomial.legendre.leggauss(12)
    prior = np.zeros(161)
    for i, (a, b) in enumerate(itertools.pairwise(points)):
        x = 0.5 * (a + b) + 0.5 * (b - a) * nodes
        mass = 0.5 * (b - a) * weights * np.exp(-0.5 * x**2) / math.sqrt(2 * math.pi)
        prior[i] += (mass * (b - x) / (b - a)).sum()
        prior[i + 1] += (mass * (x - a) / (b - a)).sum()
    prior = prior @ kernel
    value = 0.0
    for direction in basis.T:
        counts = np.zeros(161)
        for place in np.clip(z @ direction, -10, 10):
            i = min(int((place + 10) / 0.125), 159)
            share = (place - points[i]) / 0.125
            counts[i] += (1 - share) / len(z)
            counts[i + 1] += share / len(z)
        q = counts @ kernel
        value += (q[q > 0] * np.log(q[q > 0] / prior[q > 0])).sum()
    return value


BEYOND = torch.tensor([9.95, 10.0, 10.01, 10.06, 10.12, 10.2, 10.3, 77.0, 1e9]).double()[:, None]
SAMPLES = [*(2 * normal(n, k) for n, k in [(1, 1), (7, 1), (30, 3), (5, 6)]), BEYOND, -BEYOND]


@pytest.mark.parametrize("z", SAMPLES, ids=lambda z: str(tuple(z.shape)))
@pytest.mark.parametrize("seed", [0, 1])
def test_sliced_equals_the_sum_written_out(z, seed):
    expected = dense_sliced(z.numpy(), basis_of(z.shape[1], seed).numpy())
    assert float(sliced(z, seed)) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("mean", "sd"), [(0.0, 1.0), (1.5, 1.0), (0.0, 0.4), (-1.0, 2.0)])
def test_sliced_of_a_gaussian_is_the_divergence_of_the_blurred_gaussian(mean, sd):
    var, prior_var = sd**2 + BLUR**2, 1 + BLUR**2
    expected = 0.5 * ((var + mean**2) / prior_var - 1 - math.log(var / prior_var))
    value = sliced(quantiles(100_000, mean, sd))
    assert float(value) == pytest.approx(expected, rel=0.01, abs=1e-4)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_sliced_is_no_larger_than_the_divergence_of_a_gaussian(k):
    root, m = normal(k, k, seed=k), normal(1, k, seed=9)
    cov = root @ root.T + 0.3 * torch.eye(k)
    kl = 0.5 * float(cov.trace() + m.square().sum() - k - cov.logdet())
    z = normal(50_000, k, seed=1) @ torch.linalg.cholesky(cov).T + m
    for seed in range(5):
        assert 0 <= float(sliced(z, seed)) <= kl


def test_sliced_is_nearly_zero_for_draws_of_the_prior_alone():
    z = normal(20_000, 4)
    nothing = float(sliced(z))
    assert 0 <= nothing < 0.02
    for other in (z + 0.5, 0.5 * z, z.sign(), 3**0.5 * (2 * torch.rand_like(z) - 1)):
        assert float(sliced(other)) > 2 * nothing
    assert float(sliced(quantiles(4000))) < 1e-3  # where "jensen" asks for width


@pytest.mark.parametrize("far", [12.0, 1e4])
def test_draws_beyond_the_grid_are_pulled_back(far):
    z = torch.tensor([[far], [-far], [0.1]]).double()
    gradient = value_and_gradients(sliced, z)[1]
    assert gradient[0] > 1
    assert gradient[1] < -1
