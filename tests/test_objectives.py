"""Laws of the divergences: dense references, known values, bounds, gradients.

A new objective that is not in ``OBJECTIVES`` gets a row in ``CASES``.
"""

import math

import numpy as np
import pytest
import torch
from references import (
    BOUNDS,
    GAP,
    all_finite,
    dense_bound,
    dense_log_overlaps,
    divergence,
    generator_of,
    posteriors,
    quadrature_kl,
    value_and_gradients,
)
from scipy.stats import multivariate_normal
from sklearn.base import clone
from torch.distributions import Normal, kl_divergence

from sklearn_wiseale.objectives import (
    ELBO,
    OBJECTIVES,
    InfoVAE,
    WassersteinMMD,
    WiSEALE,
    log_mean_overlap,
)

CASES = [WiSEALE(bound=bound) for bound in ("blend", *BOUNDS)] + [
    objective() for objective in OBJECTIVES.values() if objective is not WiSEALE
]
DENSE = [bound for bound in BOUNDS if bound != "sliced"]
#: Divergences of known weight, by name; the aggregate is that of the batch.
BOUND = {bound: divergence(WiSEALE(bound, weight=1.0, width=1)) for bound in BOUNDS}
MEAN_KL, MMD = divergence(ELBO(weight=1.0)), divergence(WassersteinMMD(weight=1.0))

each_objective = pytest.mark.parametrize("objective", CASES, ids=repr)
each_seed = pytest.mark.parametrize("seed", [0, 1, 2])


def values(mean, log_var):
    """Closed forms, by name."""
    functions = {**{bound: BOUND[bound] for bound in ("moment", "jensen", "renyi")}, "kl": MEAN_KL}
    return {name: float(function(mean, log_var, mean)) for name, function in functions.items()}


# bounds on the divergence of the aggregate ----------------------------------------------------


def test_dense_overlaps_are_densities():
    mean, log_var, other_mean = posteriors(4, 2)
    overlaps = dense_log_overlaps(mean[:3], log_var[:3], other_mean, log_var)
    for i, j in np.ndindex(3, 4):
        covariance = np.diag(log_var[i].exp() + log_var[j].exp())
        density = multivariate_normal(other_mean[j], covariance).logpdf(mean[i])
        assert float(overlaps[i, j]) == pytest.approx(density, rel=1e-13)


@pytest.mark.parametrize("bound", DENSE)
@pytest.mark.parametrize(("n", "k"), [(1, 3), (2, 1), (9, 2), (3, 7)])
def test_bounds_equal_the_dense_reference(bound, n, k):
    tensors = posteriors(n, k)
    found = value_and_gradients(BOUND[bound], *tensors)
    expected = value_and_gradients(lambda *parts: dense_bound(bound, *parts), *tensors)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_moment_of_many_rows_equals_the_dense_reference():
    """It takes 2**16 rows to float64 at a time."""
    tensors = posteriors(70_000, 2)
    found = value_and_gradients(BOUND["moment"], *tensors)
    expected = value_and_gradients(lambda *parts: dense_bound("moment", *parts), *tensors)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("n", "k"), [(2, 1), (5, 1), (12, 1), (2, 2), (6, 2)])
@each_seed
def test_bounds_enclose_the_divergence_found_by_quadrature(seed, n, k):
    mean, log_var, _ = posteriors(n, k, seed)
    kl, value = quadrature_kl(mean, log_var), values(mean, log_var)
    assert 0 <= value["moment"] <= kl <= value["jensen"] <= value["renyi"]
    # what codes tell about their rows is the difference
    assert value["kl"] - math.log(n) <= kl <= value["kl"]


@pytest.mark.parametrize("n", [1, 6])
@pytest.mark.parametrize(
    ("mean", "var"),
    [([0.0], [1.0]), ([0.0] * 4, [1.0] * 4), ([0.7, -1.0, 0.1], [0.3, 1.0, 2.5])],
)
def test_posteriors_equal_to_one_gaussian(n, mean, var):
    m, s = torch.tensor(mean).double(), torch.tensor(var).double()
    kl = 0.5 * float((s + m.square() - 1 - s.log()).sum())
    found = values(m.repeat(n, 1), s.log().repeat(n, 1))
    assert found["moment"] == pytest.approx(kl, abs=1e-13)
    assert found["kl"] == pytest.approx(kl, abs=1e-13)
    for bound in ("jensen", "renyi"):
        assert found[bound] == pytest.approx(kl + GAP * len(m), abs=1e-13)


@pytest.mark.parametrize("equal_volumes", [True, False])
def test_posteriors_that_do_not_overlap(equal_volumes):
    n, k = 7, 2
    mean = 100 * torch.arange(n * k, dtype=torch.float64).reshape(n, k)
    tilt = torch.linspace(-1, 1, n, dtype=torch.float64)
    found = values(mean, torch.stack([tilt - 0.5, -tilt if equal_volumes else tilt], dim=1))
    expected = found["kl"] - math.log(n) + GAP * k
    assert found["jensen"] == pytest.approx(expected, rel=1e-12)
    if equal_volumes:
        assert found["renyi"] == pytest.approx(expected, rel=1e-12)
    else:
        assert found["renyi"] > expected + 0.1


def test_weighted_grid_of_narrow_gaussians_is_the_gaussian_that_it_tiles():
    # N(0, 1 - s) blurred by N(0, s) is the prior, whose overlap with N(m, s) is N(m; 0, 1 + s)
    s = 0.2
    mean = torch.linspace(-9, 9, 181, dtype=torch.float64)[:, None]
    log_var = torch.full_like(mean, math.log(s))
    log_weights = torch.log_softmax(-0.5 * mean[:, 0] ** 2 / (1 - s), dim=0)
    rows = log_mean_overlap(mean, log_var, mean, log_var, log_weights)
    expected = -0.5 * (mean[:, 0] ** 2 / (1 + s) + math.log(2 * math.pi * (1 + s)))
    torch.testing.assert_close(rows, expected, rtol=1e-9, atol=1e-9)
    # minus the Renyi entropy of the prior, and thus renyi's gap where the aggregate is Gaussian
    negative_entropy = torch.logsumexp(rows + log_weights, dim=0)
    cross = 0.5 * (math.log(2 * math.pi) + 1)
    assert float(negative_entropy) + cross == pytest.approx(GAP, abs=1e-12)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (4, 1), (3, 2)])
def test_monte_carlo_is_unbiased(n, k):
    mean, log_var, _ = posteriors(n, k)
    generator = generator_of(0)
    noise = torch.randn(1500, n, k, generator=generator, dtype=torch.float64)
    draws = mean + (0.5 * log_var).exp() * noise
    estimates = [float(BOUND["monte_carlo"](mean, log_var, z)) for z in draws]
    standard_error = np.std(estimates) / math.sqrt(len(estimates))
    assert standard_error < 0.03
    kl = quadrature_kl(mean, log_var)
    assert np.mean(estimates) == pytest.approx(kl, abs=4 * standard_error)


@pytest.mark.parametrize("bound", BOUNDS)
def test_bounds_do_not_change_when_rows_change_places_or_are_doubled(bound):
    tensors = posteriors(6, 2)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    for rows in (order, torch.cat([order, order])):
        other = BOUND[bound](*(part[rows] for part in tensors))
        torch.testing.assert_close(other, BOUND[bound](*tensors), rtol=1e-12, atol=1e-12)


# every objective ------------------------------------------------------------------------------


@each_objective
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("n", "k"), [(1, 3), (4, 2)])
def test_divergence_is_a_scalar_with_the_right_gradient(objective, training, n, k):
    value = divergence(objective, training=training)
    tensors = posteriors(n, k)
    assert value(*tensors).shape == ()
    if training and getattr(objective, "bound", "blend") != "blend":  # with terms of other rows
        assert all_finite(value_and_gradients(value, *tensors))
    else:
        assert torch.autograd.gradcheck(value, [part.requires_grad_() for part in tensors])


EXTREMES = {
    "narrow and near": (0.0, 1.0, -20.0),
    "narrow and far": (0.0, 1e4, -20.0),
    "wide": (0.0, 1.0, 10.0),
    "away from the prior": (1e4, 1.0, 0.0),
    "all the same": (0.5, 0.0, -20.0),
}


@each_objective
@pytest.mark.parametrize(("centre", "spread", "log_var"), EXTREMES.values(), ids=EXTREMES)
@pytest.mark.parametrize(("n", "k"), [(1, 2), (3, 8), (40, 16)])
def test_value_and_gradient_are_finite_in_float32(objective, centre, spread, log_var, n, k):
    noise = torch.randn(2, n, k, generator=generator_of(0))
    mean = centre + spread * noise[0]
    z = mean + math.exp(0.5 * log_var) * noise[1]
    found = value_and_gradients(divergence(objective), mean, torch.full((n, k), log_var), z)
    assert found[0].dtype == torch.float32
    assert all_finite(found)


@pytest.mark.parametrize("name", [*BOUND, "kl"])
def test_float32_and_float64_agree(name):
    measure = {**BOUND, "kl": MEAN_KL}[name]
    tensors = posteriors(20, 1 if name == "sliced" else 3)  # of one component all bases are alike
    value = measure(*(part.float() for part in tensors))
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(float(measure(*tensors)), rel=1e-5, abs=1e-6)


@each_objective
def test_weight_multiplies_the_divergence(objective):
    # of InfoVAE it multiplies the divergence that is left when no KL is charged, of a blend that of
    # a given share
    given = {"alpha": 1.0, "sliced_share": 0.5}
    full = {name: value for name, value in given.items() if name in objective.get_params()}
    one, two, none = (
        divergence(clone(objective).set_params(weight=weight, **full))(*posteriors(6, 2))
        for weight in (1.0, 2.5, 0.0)
    )
    assert float(one) != 0
    torch.testing.assert_close(two, 2.5 * one, rtol=1e-12, atol=0)
    assert torch.equal(none, torch.zeros_like(one))


@each_objective
def test_noise_comes_from_the_generator_of_the_batch(objective):
    before = torch.get_rng_state()
    first, second = (divergence(objective)(*posteriors(6, 2)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, second)


# WiSEALE --------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("bound", ["jensen", "blend"])
def test_automatic_weight_is_below_that_of_collapse(bound, k):
    n_features = [1, 2, 5, 10, 50, 1000, 10**6]
    built = [WiSEALE(bound).build(d, k) for d in n_features]
    weights = [divergence.weight * divergence.shares["jensen"] for divergence in built]
    assert all(0 < w < d / k for w, d in zip(weights, n_features, strict=True))
    assert weights == pytest.approx(sorted(weights))
    assert weights[-1] == pytest.approx(weights[-2])  # however many the features


@pytest.mark.parametrize(("d", "k"), [(4, 2), (10, 2), (10, 1), (300, 16), (10**6, 8)])
def test_automatic_weight_and_width_are_those_documented(d, k):
    sliced = min(25, 0.04 * d)
    weights = {bound: min(10, 0.08 * d / k) for bound in BOUNDS}
    weights |= {"sliced": sliced, "blend": min(1, 0.25 * d / k) + sliced}
    for bound, weight in weights.items():
        built = WiSEALE(bound).build(d, k)
        assert built.weight == pytest.approx(weight, rel=1e-12)
        assert built.width == (None if bound == "blend" else 4096)  # None: the batch alone
    assert weights["blend"] * WiSEALE().build(d, k).shares["sliced"] == pytest.approx(sliced)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0, "auto"])
def test_blend_adds_its_bounds_in_proportion(share):
    tensors = posteriors(6, 2)
    value = divergence(WiSEALE(weight=1.0, sliced_share=share))(*tensors)
    if share == "auto":  # 1 part of jensen, 0.04 * 20 of sliced
        share = 0.8 / 1.8
    jensen, sliced = (BOUND[bound](*tensors) for bound in ("jensen", "sliced"))
    torch.testing.assert_close(value, (1 - share) * jensen + share * sliced)


@pytest.mark.parametrize(("n_features", "k"), [(4, 2), (20, 2), (20, 16), (10**5, 8)])
def test_weight_beyond_the_budget_of_jensen_goes_to_sliced(n_features, k):
    auto = WiSEALE().build(n_features, k)
    budget = auto.weight * auto.shares["jensen"]
    for factor in (0.0, 0.1, 0.9, 1.1, 30.0):
        built = WiSEALE(weight=factor * auto.weight).build(n_features, k)
        assert sum(built.shares.values()) == pytest.approx(1)
        part = built.weight * built.shares["jensen"]
        assert part == pytest.approx(min(factor, 1) * budget)


# other objectives -----------------------------------------------------------------------------


def test_elbo_is_the_mean_divergence_of_the_posteriors():
    mean, log_var, z = posteriors(5, 3)
    prior = Normal(torch.zeros(3).double(), torch.ones(3).double())
    kl = kl_divergence(Normal(mean, (0.5 * log_var).exp()), prior).sum(dim=1)
    torch.testing.assert_close(MEAN_KL(mean, log_var, z), kl.mean(), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("alpha", "weight"), [(0.0, 1.0), (1.0, 0.5), (1.0, 7.0), (0.3, 5.0), (0.75, 0.25), (0.0, 3.0)]
)
def test_infovae_is_the_sum_of_elbo_and_wae(alpha, weight):
    tensors = posteriors(5, 3)
    value = divergence(InfoVAE(alpha=alpha, weight=weight))(*tensors)
    expected = (1 - alpha) * MEAN_KL(*tensors) + (alpha + weight - 1) * MMD(*tensors)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-14)


def naive_squared_mmd(a, b):
    """Sum over pairs of distinct rows, kernels summed over seven scales, in plain loops."""

    def kernel(u, v):
        squared = sum((x - y) ** 2 for x, y in zip(u, v, strict=True))
        scales = [factor * 2 * len(u) for factor in (0.1, 0.2, 0.5, 1, 2, 5, 10)]
        return sum(c / (c + squared) for c in scales)

    def within(rows):
        pairs = [(i, j) for i in range(len(rows)) for j in range(len(rows)) if i != j]
        if not pairs:
            return kernel(rows[0], rows[0])
        return sum(kernel(rows[i], rows[j]) for i, j in pairs) / len(pairs)

    across = sum(kernel(u, v) for u in a for v in b) / (len(a) * len(b))
    return within(a) + within(b) - 2 * across


@pytest.mark.parametrize(("n", "k"), [(5, 2), (3, 1), (1, 3), (1, 1)])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_wae_is_the_sum_over_pairs_with_draws_of_the_prior(n, k, dtype, error):
    _, _, z = tensors = posteriors(n, k, dtype=dtype)
    prior = torch.empty_like(z).normal_(generator=generator_of(0))
    expected = float(naive_squared_mmd(z.double(), prior.double()))
    assert float(MMD(*tensors)) == pytest.approx(expected, rel=error, abs=error)


def mmd_of(z, seed=0):
    return float(divergence(WassersteinMMD(weight=1.0), seed=seed)(z, z, z))


@pytest.mark.parametrize("n", [2, 10])
def test_mmd_of_the_prior_from_itself_is_zero_in_the_mean(n):
    draws = torch.randn(1000, n, 2, generator=generator_of(0), dtype=torch.float64)
    found = [mmd_of(z, seed + 1) for seed, z in enumerate(draws)]
    standard_error = np.std(found) / math.sqrt(len(found))
    assert np.mean(found) == pytest.approx(0, abs=4 * standard_error)


@pytest.mark.parametrize("change", [lambda z: z + 1, lambda z: 0.3 * z, lambda z: 3 * z])
def test_mmd_of_another_distribution_is_positive(change):
    z = torch.randn(500, 2, generator=generator_of(1), dtype=torch.float64)
    assert mmd_of(change(z)) > 20 * abs(mmd_of(z))
