"""Laws of the default divergence: "jensen" over some rows of a batch, and lines."""

import itertools
import math

import numpy as np
import pytest
import torch

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.objectives import Batch, Posterior, WiSEALE, log_mean_overlap
from sklearn_wiseale.objectives._aggregate import aggregate_kl_bound
from sklearn_wiseale.objectives._drawn import drawn_overlap_and_gradient
from sklearn_wiseale.objectives._sliced import random_basis

SHARES = [0.0, 0.3, 1.0]


def posteriors(n, k, dtype=torch.float64, seed=0):
    """Means, log-variances and draws, which overlap."""
    rng = np.random.RandomState(seed)
    mean, log_var = rng.normal(0.3, 1.0, (n, k)), rng.normal(-0.7, 0.8, (n, k))
    z = mean + np.exp(0.5 * log_var) * rng.standard_normal((n, k))
    return [torch.as_tensor(part, dtype=dtype) for part in (mean, log_var, z)]


def leaves(*tensors):
    return [tensor.clone().requires_grad_() for tensor in tensors]


def batch_of(n, *, training=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Batch(torch.arange(n), n_samples=10 * n, training=training, generator=generator)


def divergence(tensors, *, training=True, seed=0, **params):
    """The default divergence, of weight 1 unless another is given."""
    mean, log_var, z = tensors
    built = WiSEALE(**{"weight": 1.0, **params}).build(20, mean.shape[1])
    return built(Posterior(mean, log_var), z, batch_of(len(z), training=training, seed=seed))


def with_gradient(function, tensors, **params):
    """Value, and gradient by means, log-variances and draws, side by side: (n, 3 K)."""
    tensors = leaves(*tensors)
    value = function(tensors, **params)
    gradients = torch.autograd.grad(value, tensors, allow_unused=True)
    zeros = map(torch.zeros_like, tensors)
    parts = [z if g is None else g for g, z in zip(gradients, zeros, strict=True)]
    return value.detach(), torch.cat(parts, dim=1)


def of_whole_batch(tensors, share, seed=0):
    """What the divergence estimates: both bounds of the batch."""
    mean, log_var, z = tensors
    basis = random_basis(z, batch_of(len(z), seed=seed).generator)
    posterior = Posterior(mean, log_var)
    jensen = aggregate_kl_bound(posterior, "jensen")
    return (1 - share) * jensen + share * aggregate_kl_bound(posterior, "sliced", z, basis)


def dense(tensors, rows):
    """The overlap of some rows with all, by the function that computes all of them."""
    mean, log_var, _ = tensors
    return log_mean_overlap(mean[rows], log_var[rows], mean, log_var).mean()


# the function ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 3), (7, 2), (33, 64), (50, 5)])
@pytest.mark.parametrize("m", [1, 2, 17, 50])
def test_equals_the_overlaps_of_these_rows_computed_densely(n, k, m, dtype):
    tensors = posteriors(n, k, dtype)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(m))
    for rows in (slice(0, min(m, n)), order[:m]):
        value, *gradient = drawn_overlap_and_gradient(*tensors[:2], rows)
        expected, by_all = with_gradient(dense, tensors, rows=rows)
        accuracy = {"rtol": 1e-10, "atol": 1e-12} if dtype == torch.float64 else {}
        torch.testing.assert_close(value, expected, **accuracy)
        torch.testing.assert_close(torch.cat(gradient, dim=1), by_all[:, : 2 * k], **accuracy)


@pytest.mark.parametrize("m", range(1, 7))
def test_mean_over_all_choices_of_rows_is_the_sum_over_all_rows(m):
    """Value and gradient, of a posterior as a row and as a column of others."""
    tensors = posteriors(6, 3)
    expected, by_all = with_gradient(dense, tensors, rows=slice(None))
    rotations = (torch.arange(start, start + m) % 6 for start in range(6))
    subsets = map(torch.tensor, itertools.combinations(range(6), m))
    for choices in (rotations, subsets):
        drawn = [drawn_overlap_and_gradient(*tensors[:2], rows) for rows in choices]
        value, *gradient = (torch.stack(part).mean(dim=0) for part in zip(*drawn, strict=True))
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(torch.cat(gradient, 1), by_all[:, :6], rtol=1e-10, atol=1e-12)


def test_rows_that_are_not_drawn_take_part_as_columns():
    mean, log_var, _ = posteriors(6, 2)
    _, *gradient = drawn_overlap_and_gradient(mean, log_var, slice(0, 2))
    assert all((part[2:] != 0).all() for part in gradient)


def test_changes_no_argument():
    mean, log_var, _ = posteriors(6, 2)
    before = mean.clone(), log_var.clone()
    drawn_overlap_and_gradient(mean, log_var, torch.tensor([3, 1]))
    assert torch.equal(mean, before[0])
    assert torch.equal(log_var, before[1])


# the divergence -------------------------------------------------------------------------------


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize(("n", "k"), [(1, 1), (3, 2), (31, 4), (32, 3)])
def test_of_up_to_32_rows_it_is_that_of_the_whole_batch(n, k, share):
    tensors = posteriors(n, k)
    value, gradient = with_gradient(divergence, tensors, sliced_share=share)
    expected, by_all = with_gradient(of_whole_batch, tensors, share=share)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, by_all, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("k", range(1, 65))
def test_any_number_of_components(k):
    tensors = posteriors(9, k, seed=k)
    value, gradient = with_gradient(divergence, tensors, sliced_share=0.5)
    expected, by_all = with_gradient(of_whole_batch, tensors, share=0.5)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, by_all, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("n", [5, 35])
@pytest.mark.parametrize("share", SHARES)
def test_gradient_is_that_of_the_value(share, n, training):
    def value(*tensors):
        return divergence(tensors, sliced_share=share, training=training)

    assert torch.autograd.gradcheck(value, leaves(*posteriors(n, 2)))


@pytest.mark.parametrize(
    ("n", "k", "m"), [(33, 2, 32), (100, 64, 20), (300, 16, 27), (2048, 64, 1), (4096, 40, 1)]
)
def test_number_of_rows_in_training_is_that_documented(n, k, m):
    assert m == max(1, min(n, 32, 2**17 // (n * k)))
    tensors = posteriors(n, k)
    negative_entropy = dense(tensors, slice(0, m))
    mean, log_var, _ = tensors
    second_moment = (mean.square() + log_var.exp()).sum() / n
    expected = negative_entropy + 0.5 * (k * math.log(2 * math.pi) + second_moment)
    value = divergence(tensors, sliced_share=0.0)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)


def test_mean_over_rotations_of_a_batch_is_jensen_of_the_batch():
    n, tensors = 40, posteriors(40, 2)
    expected, by_all = with_gradient(of_whole_batch, tensors, share=0.0)
    values, gradients = [], []
    for i in range(n):
        rotated = [part.roll(i, dims=0) for part in tensors]
        value, gradient = with_gradient(divergence, rotated, sliced_share=0.0)
        values.append(value)
        gradients.append(gradient.roll(-i, dims=0))
    assert torch.stack(values).std() > 1e-3  # each by itself is another
    torch.testing.assert_close(torch.stack(values).mean(), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(torch.stack(gradients).mean(0), by_all, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0, 30.0])
def test_weight_multiplies_value_and_gradient(weight):
    tensors = posteriors(40, 3)
    one, by_one = with_gradient(divergence, tensors, sliced_share=0.4)
    value, gradient = with_gradient(divergence, tensors, sliced_share=0.4, weight=weight)
    torch.testing.assert_close(value, weight * one, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, weight * by_one, rtol=1e-12, atol=0)


@pytest.mark.parametrize("centre", [0.0, 1e4, 1e9])
@pytest.mark.parametrize("log_vars", [(-20.0, -20.0), (10.0, 10.0), (-20.0, 10.0)])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 2), (40, 3), (200, 16)])
@pytest.mark.parametrize("training", [True, False])
def test_finite_in_float32_at_the_ends_of_the_range(training, n, k, log_vars, centre):
    mean, log_var, _ = posteriors(n, k, torch.float32)
    for where in ("all", "half", "spread"):
        shift = {"all": torch.ones(n), "half": torch.arange(n) % 2, "spread": mean[:, 0]}
        far = mean + centre * shift[where][:, None]
        log_var[::2], log_var[1::2] = log_vars
        tensors = [far, log_var, far + (0.5 * log_var).exp()]
        params = {"sliced_share": 0.5, "training": training}
        value, gradient = with_gradient(divergence, tensors, **params)
        assert value.dtype == gradient.dtype == torch.float32
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("row", [0, 39])  # which is drawn, and which is not
@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("training", [True, False])
def test_what_is_not_finite_does_not_pass_unnoticed(training, which, row, bad):
    tensors = posteriors(40, 2)
    tensors[which][row, 1] = bad
    params = {"sliced_share": 0.5, "training": training}
    value, gradient = with_gradient(divergence, tensors, **params)
    assert not torch.isfinite(torch.cat([value.view(1), gradient.flatten()])).all()
    assert torch.isnan(value) or not math.isnan(bad)


def test_negative_infinite_log_variance_of_a_row_that_is_drawn_does_not_pass_unnoticed():
    tensors = posteriors(40, 2)
    tensors[1][3, 0] = -math.inf
    assert not torch.isfinite(divergence(tensors, sliced_share=0.0))


# held-out rows --------------------------------------------------------------------------------


@pytest.mark.parametrize("share", SHARES)
def test_held_out_rows_all_take_part_where_pairs_are_few(share):
    tensors = posteriors(300, 2)
    for seed in range(2):
        value = divergence(tensors, sliced_share=share, training=False, seed=seed)
        expected = of_whole_batch(tensors, share, seed)
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)


def test_held_out_evaluation_repeats_with_its_generator():
    tensors = posteriors(2000, 3)
    first, again, other = (
        with_gradient(divergence, tensors, sliced_share=0.0, training=False, seed=seed)
        for seed in (0, 0, 1)
    )
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_order_of_held_out_rows_has_no_part_in_the_estimate():
    """Rows are sorted, and the first are unlike the others."""
    n = 4000
    mean = torch.linspace(-4, 0, n, dtype=torch.float64)[:, None].repeat(1, 2)
    tensors = [mean, torch.full_like(mean, -3.0), mean]
    expected = of_whole_batch(tensors, 0.0)
    values = torch.stack(
        [divergence(tensors, sliced_share=0.0, training=False, seed=s) for s in range(30)]
    )
    standard_error = values.std() / 30**0.5
    assert 0 < standard_error < 0.02
    assert abs(values.mean() - expected) < 4 * standard_error
    assert abs(divergence(tensors, sliced_share=0.0) - expected) > 50 * standard_error


def test_no_graph_no_gradient():
    tensors = posteriors(40, 2)
    with torch.no_grad():
        value = divergence(leaves(*tensors), training=False)
    assert not value.requires_grad
    assert not divergence(tensors).requires_grad


# fits -----------------------------------------------------------------------------------------


def test_a_default_fit_knows_no_other_rows_than_those_of_its_batch():
    X = np.random.RandomState(0).randn(100, 5)
    fit = {"max_epochs": 2, "random_state": 0, "early_stopping": False}
    default = WiSEALETransformer(2, **fit).fit(X)
    wide = WiSEALETransformer(2, objective=WiSEALE(width=4096), **fit).fit(X)
    assert default.net_.criterion_.bank is None
    assert wide.net_.criterion_.bank is not None
    again = WiSEALETransformer(2, **fit).fit(X)
    assert np.array_equal(default.transform(X), again.transform(X))


def test_batch_by_batch_of_up_to_32_rows_the_default_is_the_batch_alone():
    """Rounding apart, as each sums in an order of its own."""
    X = np.random.RandomState(0).randn(60, 5)
    fit = {"max_epochs": 2, "random_state": 0, "batch_size": 20, "precision": "float64"}
    default = WiSEALETransformer(2, **fit).fit(X)
    alone = WiSEALETransformer(2, objective=WiSEALE(width=1), **fit).fit(X)
    np.testing.assert_allclose(default.transform(X), alone.transform(X), rtol=1e-6, atol=1e-8)
