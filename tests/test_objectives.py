"""Laws of the divergences: dense references, known values, bounds, gradients."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.base import clone

from sklearn_wiseale.objectives import (
    ELBO,
    OBJECTIVES,
    Batch,
    InfoVAE,
    Objective,
    Posterior,
    WassersteinMMD,
    WiSEALE,
    _aggregate,
    log_mean_overlap,
)
from sklearn_wiseale.objectives._aggregate import BOUNDS, aggregate_kl_bound
from sklearn_wiseale.objectives._base import standard_normal_kl
from sklearn_wiseale.objectives._baselines import squared_mmd
from sklearn_wiseale.objectives._sliced import random_basis

GAP = 0.5 * (1 - math.log(2))  # of jensen, per component, in the limits where it is exact
CASES = [WiSEALE(bound=bound) for bound in ("blend", *BOUNDS)] + [
    objective() for objective in OBJECTIVES.values() if objective is not WiSEALE
]

each_objective = pytest.mark.parametrize("objective", CASES, ids=repr)
each_bound = pytest.mark.parametrize("bound", BOUNDS)


def batch_of(n, seed=0, *, training=False):
    """The batch of all n rows, whose noise is the same at each call."""
    generator = torch.Generator().manual_seed(seed)
    return Batch(torch.arange(n), n_samples=n, training=training, generator=generator)


def draw(posterior, seed=1):
    """One draw of each posterior, differentiable, the same at each call."""
    noise = np.random.RandomState(seed).standard_normal(posterior.mean.shape)
    return posterior.rsample(torch.as_tensor(noise, dtype=posterior.mean.dtype))


def built(objective, n_features=20, n_components=2):
    return objective.build(n_features, n_components)


def divergence_of(objective, posterior, *, n_features=20, training=False):
    n, k = posterior.mean.shape
    divergence = built(objective, n_features, k)
    return divergence(posterior, draw(posterior), batch_of(n, training=training))


def bound_of(posterior, bound, z, basis=None):
    """``aggregate_kl_bound`` along the axes, unless a basis is given."""
    basis = torch.eye(z.shape[1], dtype=z.dtype) if basis is None else basis
    return aggregate_kl_bound(posterior, bound, z, basis)


def basis_of_batch(posterior):
    """The basis that a divergence draws from the generator of ``batch_of``."""
    return random_basis(posterior.mean, batch_of(len(posterior.mean)).generator)


def leaves(*tensors):
    return [tensor.clone().requires_grad_() for tensor in tensors]


# independent references -----------------------------------------------------------------------


def dense_overlaps(mean, log_var, other_mean, other_log_var):
    """Overlaps, pair by pair, as densities of scipy's multivariate normal: (M, A), log."""
    log_overlap = np.empty((len(mean), len(other_mean)))
    for i in range(len(mean)):
        for j in range(len(other_mean)):
            covariance = np.diag(np.exp(log_var[i]) + np.exp(other_log_var[j]))
            normal = multivariate_normal(other_mean[j], covariance)
            log_overlap[i, j] = normal.logpdf(mean[i])
    return log_overlap


def dense_upper_bounds(mean, log_var):
    """(jensen, renyi) of the aggregate of the rows."""
    n, k = mean.shape
    log_overlap = dense_overlaps(mean, log_var, mean, log_var)
    cross = 0.5 * k * math.log(2 * math.pi) + (mean**2 + np.exp(log_var)).sum() / (2 * n)
    jensen = np.mean(logsumexp(log_overlap, axis=1) - math.log(n)) + cross
    renyi = logsumexp(log_overlap) - 2 * math.log(n) + cross
    return jensen, renyi


def dense_moment(mean, log_var):
    """KL(N(m, S) || N(0, I)), m and S those of the aggregate."""
    k = mean.shape[1]
    m = mean.mean(axis=0)
    s = np.diag(np.exp(log_var).mean(axis=0)) + np.cov(mean.T, bias=True).reshape(k, k)
    return 0.5 * (np.trace(s) + m @ m - k - np.linalg.slogdet(s)[1])


def quadrature_kl(mean, log_var, n_points=801):
    """KL of the mixture to N(0, I) by the trapezoidal rule on a grid, for K = 1 or 2."""
    k = mean.shape[1]
    width = 9 * np.exp(0.5 * log_var)
    axes = [
        np.linspace((mean - width)[:, d].min(), (mean + width)[:, d].max(), n_points)
        for d in range(k)
    ]
    log_parts = np.zeros((len(mean),) + (n_points,) * k)
    log_prior = np.zeros((n_points,) * k)
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


def numpy_mixture(seed, n, k):
    rng = np.random.RandomState(seed)
    return rng.normal(0.2, 1.1, (n, k)), rng.normal(-1.0, 0.7, (n, k))


def as_posterior(mean, log_var):
    return Posterior(torch.as_tensor(mean), torch.as_tensor(log_var))


# the bounds -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "k"), [(1, 3), (2, 1), (9, 2), (3, 7)])
def test_closed_forms_equal_the_dense_reference(make_posterior, n, k):
    posterior = make_posterior(n, k)
    mean, log_var = (tensor.numpy() for tensor in posterior)
    jensen, renyi = dense_upper_bounds(mean, log_var)
    expected = {"jensen": jensen, "renyi": renyi, "moment": dense_moment(mean, log_var)}
    for bound, value in expected.items():
        assert float(aggregate_kl_bound(posterior, bound)) == pytest.approx(value, abs=1e-10)


@pytest.mark.parametrize(("n", "k"), [(2, 1), (5, 1), (12, 1), (2, 2), (6, 2)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_bounds_enclose_the_divergence_found_by_quadrature(seed, n, k):
    mean, log_var = numpy_mixture(seed, n, k)
    kl = quadrature_kl(mean, log_var, 1601 if k == 1 else 401)
    posterior = as_posterior(mean, log_var)
    value = {b: float(aggregate_kl_bound(posterior, b)) for b in ("moment", "jensen", "renyi")}
    assert 0 <= value["moment"] <= kl
    assert kl <= value["jensen"] <= value["renyi"]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_divergence_of_the_aggregate_is_the_mean_divergence_less_the_information(seed):
    mean, log_var = numpy_mixture(seed, 5, 2)
    kl = quadrature_kl(mean, log_var, 401)
    mean_kl = float(standard_normal_kl(as_posterior(mean, log_var)).mean())
    assert mean_kl - math.log(5) <= kl <= mean_kl


def test_gradient_of_moment_does_not_depend_on_the_size_of_blocks(make_posterior, monkeypatch):
    gradients, posterior = [], make_posterior(25, 3)
    for block_rows in (2**16, 7):
        monkeypatch.setattr(_aggregate, "_BLOCK_ROWS", block_rows)
        parts = [part.clone().requires_grad_() for part in posterior]
        aggregate_kl_bound(Posterior(*parts), "moment").backward()
        gradients.append(torch.stack([part.grad for part in parts]))
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("k", [1, 4])
def test_all_posteriors_equal_to_the_prior(k):
    posterior = as_posterior(np.zeros((6, k)), np.zeros((6, k)))
    assert float(aggregate_kl_bound(posterior, "moment")) == pytest.approx(0, abs=1e-14)
    assert float(aggregate_kl_bound(posterior, "jensen")) == pytest.approx(GAP * k, abs=1e-13)
    assert float(aggregate_kl_bound(posterior, "renyi")) == pytest.approx(GAP * k, abs=1e-13)
    assert float(standard_normal_kl(posterior).mean()) == 0


def test_all_posteriors_equal_to_one_gaussian():
    m, s = np.array([0.7, -1.0, 0.1]), np.array([0.3, 1.0, 2.5])
    kl = 0.5 * (s + m**2 - 1 - np.log(s)).sum()
    posterior = as_posterior(np.tile(m, (5, 1)), np.tile(np.log(s), (5, 1)))
    assert float(aggregate_kl_bound(posterior, "moment")) == pytest.approx(kl, abs=1e-13)
    assert float(aggregate_kl_bound(posterior, "jensen")) == pytest.approx(kl + GAP * 3, abs=1e-13)
    assert float(aggregate_kl_bound(posterior, "renyi")) == pytest.approx(kl + GAP * 3, abs=1e-13)
    assert float(standard_normal_kl(posterior).mean()) == pytest.approx(kl, abs=1e-13)


@pytest.mark.parametrize("equal_volumes", [True, False])
def test_posteriors_that_do_not_overlap(equal_volumes):
    n, k = 7, 2
    mean = np.arange(n * k, dtype=float).reshape(n, k) * 100
    tilt = np.linspace(-1, 1, n)
    log_var = np.stack([tilt - 0.5, -tilt if equal_volumes else tilt], axis=1)
    posterior = as_posterior(mean, log_var)
    mean_kl = float(standard_normal_kl(posterior).mean())
    expected = mean_kl - math.log(n) + GAP * k
    jensen = float(aggregate_kl_bound(posterior, "jensen"))
    renyi = float(aggregate_kl_bound(posterior, "renyi"))
    assert jensen == pytest.approx(expected, rel=1e-12)
    if equal_volumes:
        assert renyi == pytest.approx(expected, rel=1e-12)
    else:
        assert renyi > expected + 0.1


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
def test_monte_carlo_is_unbiased(make_posterior, n, k):
    posterior = make_posterior(n, k)
    kl = quadrature_kl(*(tensor.numpy() for tensor in posterior), 1601 if k == 1 else 401)
    # a mixture of many copies of the same posteriors is the same mixture
    generator = torch.Generator().manual_seed(0)
    estimates = []
    for _ in range(1500):
        noise = torch.empty_like(posterior.mean).normal_(generator=generator)
        z = posterior.rsample(noise)
        estimates.append(float(aggregate_kl_bound(posterior, "monte_carlo", z)))
    standard_error = np.std(estimates) / math.sqrt(len(estimates))
    assert standard_error < 0.03
    assert np.mean(estimates) == pytest.approx(kl, abs=4 * standard_error)


@each_bound
def test_bounds_do_not_change_when_rows_change_places_or_are_doubled(make_posterior, bound):
    posterior = make_posterior(6, 2)
    z = draw(posterior)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    value = bound_of(posterior, bound, z)
    for rows in (order, torch.cat([order, order])):
        other = bound_of(Posterior(*(t[rows] for t in posterior)), bound, z[rows])
        torch.testing.assert_close(other, value, rtol=1e-12, atol=1e-12)


@each_bound
def test_bounds_have_the_right_gradient(make_posterior, bound):
    def value(mean, log_var):
        posterior = Posterior(mean, log_var)
        return bound_of(posterior, bound, draw(posterior))

    assert torch.autograd.gradcheck(value, leaves(*make_posterior(4, 3)))


@pytest.mark.parametrize("bound", ["jensen", "renyi"])
@pytest.mark.parametrize(("n", "k"), [(1, 2), (6, 3)])
def test_gradients_of_the_upper_bounds_equal_their_closed_form(make_posterior, bound, n, k):
    posterior = make_posterior(n, k)
    mean, log_var = (tensor.numpy() for tensor in posterior)
    s = np.exp(log_var)
    d = mean[:, None, :] - mean[None, :, :]
    t = s[:, None, :] + s[None, :, :]
    by_mean = -d / t
    by_log_var = -0.5 * s[:, None, :] * (1 / t - d**2 / t**2)
    log_overlap = dense_overlaps(mean, log_var, mean, log_var)
    if bound == "jensen":
        share = np.exp(log_overlap - logsumexp(log_overlap, axis=1, keepdims=True)) / n
    else:
        share = np.exp(log_overlap - logsumexp(log_overlap))
    pairs = (share + share.T)[:, :, None]
    expected = [
        (pairs * by_mean).sum(axis=1) + mean / n,
        (pairs * by_log_var).sum(axis=1) + s / (2 * n),
    ]
    tensors = leaves(*posterior)
    value = aggregate_kl_bound(Posterior(*tensors), bound)
    for gradient, wanted in zip(torch.autograd.grad(value, tensors), expected, strict=True):
        np.testing.assert_allclose(gradient.numpy(), wanted, rtol=1e-10, atol=1e-13)


# every objective ------------------------------------------------------------------------------


@each_objective
def test_divergence_is_a_scalar_with_the_right_gradient(make_posterior, objective):
    def value(mean, log_var):
        return divergence_of(objective, Posterior(mean, log_var))

    posterior = make_posterior(4, 2)
    assert value(*posterior).shape == ()
    assert torch.autograd.gradcheck(value, leaves(*posterior))


@each_objective
@pytest.mark.parametrize("training", [True, False])
def test_one_row_is_enough(make_posterior, objective, training):
    tensors = leaves(*make_posterior(1, 3))
    value = divergence_of(objective, Posterior(*tensors), training=training)
    assert torch.isfinite(value)
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(value, tensors))


def test_with_one_row_the_aggregate_is_that_posterior(make_posterior):
    posterior = make_posterior(1, 3)
    kl = float(standard_normal_kl(posterior))
    assert float(aggregate_kl_bound(posterior, "moment")) == pytest.approx(kl, abs=1e-12)
    for bound in ("jensen", "renyi"):
        value = float(aggregate_kl_bound(posterior, bound))
        assert value == pytest.approx(kl + GAP * 3, abs=1e-12)


EXTREMES = {
    "narrow and near": (0.0, 1.0, -20.0),
    "narrow and far": (0.0, 1e4, -20.0),
    "wide": (0.0, 1.0, 10.0),
    "away from the prior": (1e4, 1.0, 0.0),
    "all the same": (0.5, 0.0, -20.0),
}


@each_objective
@pytest.mark.parametrize("extreme", EXTREMES)
@pytest.mark.parametrize(("n", "k"), [(1, 2), (3, 8), (40, 16)])
def test_value_and_gradient_are_finite_in_float32(objective, extreme, n, k):
    centre, spread, log_var = EXTREMES[extreme]
    generator = torch.Generator().manual_seed(0)
    mean = centre + spread * torch.randn(n, k, generator=generator)
    tensors = leaves(mean, torch.full((n, k), log_var))
    value = divergence_of(objective, Posterior(*tensors))
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(value, tensors))


MEASURES = {
    **{
        bound: lambda posterior, bound=bound: bound_of(posterior, bound, draw(posterior))
        for bound in BOUNDS
    },
    "kl": lambda posterior: standard_normal_kl(posterior).mean(),
    "mmd": lambda posterior: squared_mmd(draw(posterior), draw(posterior, seed=2)),
}


@pytest.mark.parametrize("measure", MEASURES)
def test_float32_and_float64_agree(make_posterior, measure):
    posterior = make_posterior(20, 3)
    expected = MEASURES[measure](posterior)
    value = MEASURES[measure](Posterior(*(tensor.float() for tensor in posterior)))
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(float(expected), rel=1e-5, abs=1e-6)


@each_objective
def test_weight_multiplies_the_divergence(make_posterior, objective):
    # of InfoVAE it multiplies the divergence that is left when no KL is charged, of a blend that of
    # a given share
    given = {"alpha": 1.0, "sliced_share": 0.5}
    full = {name: value for name, value in given.items() if name in objective.get_params()}
    posterior = make_posterior(6, 2)
    one, two, none = (
        divergence_of(clone(objective).set_params(weight=weight, **full), posterior)
        for weight in (1.0, 2.5, 0.0)
    )
    assert float(one) != 0
    torch.testing.assert_close(two, 2.5 * one, rtol=1e-12, atol=0)
    assert torch.equal(none, torch.zeros_like(one))


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("bound", ["jensen", "blend"])
def test_automatic_weight_is_a_number_below_that_of_collapse(bound, k):
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
        divergence = WiSEALE(bound).build(d, k)
        assert divergence.weight == pytest.approx(weight, rel=1e-12)
        assert divergence.width == (None if bound == "blend" else 4096)  # None: the batch alone
    assert weights["blend"] * WiSEALE().build(d, k).shares["sliced"] == pytest.approx(sliced)


def test_elbo_charges_the_mean_divergence_of_the_posteriors(make_posterior):
    posterior = make_posterior(5, 3)
    normals = torch.distributions.Normal(posterior.mean, (0.5 * posterior.log_var).exp())
    prior = torch.distributions.Normal(torch.zeros(3).double(), torch.ones(3).double())
    kl = torch.distributions.kl_divergence(normals, prior).sum(dim=1)
    value = divergence_of(ELBO(weight=1.0), posterior)
    torch.testing.assert_close(value, kl.mean(), rtol=1e-12, atol=0)


def test_infovae_that_charges_for_all_information_is_the_elbo(make_posterior):
    posterior = make_posterior(5, 3)
    expected = divergence_of(ELBO(weight=1.0), posterior)
    value = divergence_of(InfoVAE(alpha=0.0, weight=1.0), posterior)
    torch.testing.assert_close(value, expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("weight", [0.5, 7.0])
def test_infovae_that_charges_for_none_is_wae(make_posterior, weight):
    posterior = make_posterior(5, 3)
    expected = divergence_of(WassersteinMMD(weight=weight), posterior)
    value = divergence_of(InfoVAE(alpha=1.0, weight=weight), posterior)
    torch.testing.assert_close(value, expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize(("alpha", "weight"), [(0.3, 5.0), (0.75, 0.25), (0.0, 3.0)])
def test_infovae_is_the_sum_of_its_two_ends(make_posterior, alpha, weight):
    posterior = make_posterior(5, 3)
    kl = divergence_of(ELBO(weight=1.0), posterior)
    mmd = divergence_of(WassersteinMMD(weight=1.0), posterior)
    value = divergence_of(InfoVAE(alpha=alpha, weight=weight), posterior)
    expected = (1 - alpha) * kl + (alpha + weight - 1) * mmd
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-14)


@each_bound
def test_wiseale_charges_the_bound_on_the_aggregate(make_posterior, bound):
    posterior = make_posterior(6, 2)
    value = divergence_of(WiSEALE(bound=bound, weight=1.0), posterior)
    expected = bound_of(posterior, bound, draw(posterior), basis=basis_of_batch(posterior))
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0, "auto"])
def test_blend_lies_between_its_bounds_in_the_proportion_asked_for(make_posterior, share):
    posterior = make_posterior(6, 2)
    value = divergence_of(WiSEALE(weight=1.0, sliced_share=share), posterior)
    if share == "auto":  # 1 part of jensen, 0.04 * 20 of sliced
        share = 0.8 / 1.8
    jensen = aggregate_kl_bound(posterior, "jensen")
    sliced = bound_of(posterior, "sliced", draw(posterior), basis=basis_of_batch(posterior))
    torch.testing.assert_close(value, (1 - share) * jensen + share * sliced)


@pytest.mark.parametrize(("n_features", "k"), [(4, 2), (20, 2), (20, 16), (10**5, 8)])
def test_blend_leaves_to_the_sliced_bound_what_the_budget_of_the_other_does_not_cover(
    n_features, k
):
    auto = WiSEALE().build(n_features, k)
    budget = auto.weight * auto.shares["jensen"]
    for factor in (0.0, 0.1, 0.9, 1.1, 30.0):
        divergence = WiSEALE(weight=factor * auto.weight).build(n_features, k)
        assert sum(divergence.shares.values()) == pytest.approx(1)
        part = divergence.weight * divergence.shares["jensen"]
        assert part == pytest.approx(min(factor, 1) * budget)


@each_objective
def test_noise_of_a_divergence_comes_from_the_generator_it_is_given(make_posterior, objective):
    posterior = make_posterior(6, 2)
    before = torch.get_rng_state()
    first, second = (divergence_of(objective, posterior) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, second)


@pytest.mark.parametrize("cls", OBJECTIVES.values())
def test_defaults_are_those_documented(cls, defaults_of):
    own, said = defaults_of(cls)
    assert own == said


def test_the_base_leaves_the_divergence_to_its_children():
    with pytest.raises(NotImplementedError):
        Objective().build(4, 2)


def test_names_of_the_objectives():
    named = {"wiseale": WiSEALE, "elbo": ELBO, "infovae": InfoVAE, "wae": WassersteinMMD}
    assert named == OBJECTIVES


@each_objective
def test_build_leaves_the_specification_as_it_was(objective):
    before = repr(objective), objective.get_params()
    built(objective)
    assert (repr(objective), objective.get_params()) == before
    assert repr(clone(objective)) == before[0]


@each_objective
@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf, "heavy", None])
def test_weight_must_be_a_number_that_is_not_negative(objective, weight):
    objective = clone(objective).set_params(weight=weight)
    with pytest.raises(ValueError, match=r"'weight' parameter of .* \[0.*inf\)") as error:
        built(objective)
    assert f"Got {weight!r} instead" in str(error.value)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (WiSEALE(bound="tight"), "'bound' parameter of WiSEALE must be .*'jensen'.*Got 'tight'"),
        (WiSEALE(bound=None), "'bound' parameter of WiSEALE must be .*Got None"),
        (InfoVAE(alpha=1.5), r"'alpha' parameter of InfoVAE must be .*\[0.*1.*\].*Got 1.5"),
        (InfoVAE(alpha=-0.1), "'alpha' parameter of InfoVAE must be .*Got -0.1"),
        (InfoVAE(alpha=0.4, weight=0.5), "'weight' parameter of InfoVAE .* 0.6.*Got 0.5"),
    ],
)
def test_bad_parameters_are_named(objective, message):
    with pytest.raises(ValueError, match=message):
        built(objective)


# maximum mean discrepancy ---------------------------------------------------------------------


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


@pytest.mark.parametrize(("n", "m", "k"), [(5, 4, 2), (1, 3, 1), (1, 1, 3)])
def test_mmd_equals_the_sum_over_pairs(rng, n, m, k):
    a, b = rng.standard_normal((n, k)), rng.standard_normal((m, k))
    value = squared_mmd(torch.from_numpy(a), torch.from_numpy(b))
    assert float(value) == pytest.approx(naive_squared_mmd(a, b), rel=1e-12)


def test_mmd_does_not_depend_on_where_both_samples_are(rng):
    z, y = (torch.from_numpy(np.round(64 * rng.standard_normal((60, 3))) / 64) for _ in range(2))
    far = [(sample + 1024).float() for sample in (z, y)]  # exact in float32
    torch.testing.assert_close(squared_mmd(*far), squared_mmd(z, y).float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [2, 10])
def test_mmd_of_the_prior_from_itself_is_zero_in_the_mean(n):
    generator = torch.Generator().manual_seed(0)
    values = [
        float(squared_mmd(*torch.randn(2, n, 2, generator=generator, dtype=torch.float64)))
        for _ in range(1000)
    ]
    standard_error = np.std(values) / math.sqrt(len(values))
    assert np.mean(values) == pytest.approx(0, abs=4 * standard_error)


@pytest.mark.parametrize("change", [lambda z: z + 1, lambda z: 0.3 * z, lambda z: 3 * z])
def test_mmd_of_another_distribution_is_positive(change):
    generator = torch.Generator().manual_seed(0)
    z, prior = torch.randn(2, 500, 2, generator=generator, dtype=torch.float64)
    assert float(squared_mmd(change(z), prior)) > 20 * abs(float(squared_mmd(z, prior)))
