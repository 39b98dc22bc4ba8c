"""Laws of the likelihoods: normalisation, moments, information, calibrated noise.

A likelihood with its own support gets a row in ``CASES`` and an entry in ``support``.
"""

import math

import numpy as np
import pytest
import torch
from scipy import sparse, stats
from sklearn.base import clone

from sklearn_wiseale.likelihoods import LIKELIHOODS, NOISE_FLOOR, Bernoulli, Gaussian

CASES = [Gaussian("shared"), Gaussian("feature"), Gaussian(0.7), Bernoulli()]
LEARNED = [Gaussian("shared"), Gaussian("feature")]
RESIDUALS = np.array([0.2, 0.9])  # variances of the two columns at the start

each_likelihood = pytest.mark.parametrize("likelihood", CASES, ids=repr)
each_learned = pytest.mark.parametrize("likelihood", LEARNED, ids=repr)


def built(likelihood, residual_variance=RESIDUALS):
    return likelihood.build(residual_variance).double()


@pytest.fixture
def output(rng):
    """Outputs of a decoder for five rows of two columns."""
    return torch.from_numpy(rng.standard_normal((5, 2)))


def support(likelihood, output):
    """All pairs of values x given one row of output, (m, 2), and their weights in an integral."""
    if isinstance(likelihood, Gaussian):
        grid = torch.linspace(-14, 14, 281, dtype=torch.float64)
        axes = [centre + grid for centre in output]
        cell = 0.1**2
    else:
        axes = [torch.tensor([0.0, 1.0]).double()] * 2
        cell = 1.0
    return torch.cartesian_prod(*axes), cell


def expectation(likelihood, module, output, function):
    """E[function(x)] under p(x|output) for one row of output, the last axis summed over x."""
    x, cell = support(likelihood, output)
    probability = module.log_prob(x, output.expand_as(x)).exp() * cell
    return (function(x) * probability[:, None]).sum(dim=0)


def test_every_public_likelihood_has_a_case():
    assert {type(case) for case in CASES} == set(LIKELIHOODS.values())


# every likelihood -----------------------------------------------------------------------------


@each_likelihood
def test_probabilities_sum_to_one(likelihood, output):
    module = built(likelihood)
    for row in output:
        total = expectation(likelihood, module, row, torch.ones_like)
        torch.testing.assert_close(total, torch.ones(2).double(), rtol=1e-10, atol=0)


@each_likelihood
def test_mean_is_the_expectation(likelihood, output):
    module = built(likelihood)
    for row, mean in zip(output, module.mean(output), strict=True):
        expected = expectation(likelihood, module, row, lambda x: x)
        torch.testing.assert_close(mean, expected, rtol=1e-10, atol=1e-10)


@each_likelihood
def test_draws_have_the_moments_of_the_density(likelihood, output):
    module, n = built(likelihood), 20_000
    row = output[0]
    generator = torch.Generator().manual_seed(0)
    x = module.sample(row.expand(n, 2), generator)
    assert x.shape == (n, 2)
    first, second, fourth = (
        expectation(likelihood, module, row, lambda x, p=p: x**p) for p in (1, 2, 4)
    )
    error = 4.5 * ((second - first**2) / n).sqrt()
    assert torch.all((x.mean(dim=0) - first).abs() < error)
    error = 4.5 * ((fourth - second**2) / n).sqrt()
    assert torch.all((x.square().mean(dim=0) - second).abs() < error)


@each_likelihood
def test_draws_come_from_the_generator_that_is_given(likelihood, output):
    module = built(likelihood)
    before = torch.get_rng_state()
    first, second, other = (
        module.sample(output, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@each_likelihood
def test_information_is_the_mean_square_of_the_score(likelihood, output):
    module = built(likelihood)
    for row, information in zip(output, module.information(output), strict=True):

        def squared_score(x, row=row):
            free = row.expand_as(x).clone().requires_grad_()
            return torch.autograd.grad(module.log_prob(x, free).sum(), free)[0].square()

        expected = expectation(likelihood, module, row, squared_score)
        torch.testing.assert_close(information, expected, rtol=1e-9, atol=0)


@each_likelihood
def test_score_has_mean_zero(likelihood, output):
    module = built(likelihood)
    for row in output:

        def score(x, row=row):
            free = row.expand_as(x).clone().requires_grad_()
            return torch.autograd.grad(module.log_prob(x, free).sum(), free)[0]

        mean = expectation(likelihood, module, row, score)
        torch.testing.assert_close(mean, torch.zeros(2).double(), rtol=0, atol=1e-10)


@each_likelihood
def test_log_prob_equals_scipys(likelihood, output, rng):
    module = built(likelihood)
    if isinstance(likelihood, Bernoulli):
        x = rng.randint(0, 2, (5, 2)).astype(float)
        terms = stats.bernoulli.logpmf(x, 1 / (1 + np.exp(-output.numpy())))
    else:
        x = rng.standard_normal((5, 2))
        terms = stats.norm.logpdf(x, output.numpy(), np.sqrt(module.noise_variance.numpy()))
    value = module.log_prob(torch.from_numpy(x), output)
    np.testing.assert_allclose(value.numpy(), terms.sum(axis=1), rtol=1e-12)


@each_likelihood
def test_log_prob_has_the_right_gradient(likelihood, output):
    module, x = built(likelihood), torch.tensor([[0.0, 1.0]] * 5).double()
    free = output.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda output: module.log_prob(x, output), [free])


@each_likelihood
def test_extreme_outputs_have_finite_densities_and_gradients(likelihood):
    module = likelihood.build(RESIDUALS).float()
    x = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    output = torch.tensor([[1e4, -1e4], [1e4, 1e-30]], requires_grad=True)
    value = module.log_prob(x, output)
    assert torch.isfinite(value).all()
    assert torch.isfinite(torch.autograd.grad(value.sum(), output)[0]).all()
    assert torch.isfinite(module.mean(output)).all()
    assert torch.all(module.information(output) >= 0)


@each_likelihood
def test_linear_start_has_the_mean_and_the_slope_asked_for(likelihood, rng):
    mean, loading = rng.uniform(0.3, 0.7, 4), rng.standard_normal((4, 2))
    bias, weight = (torch.from_numpy(a) for a in likelihood.linear_start(mean, loading))
    module = built(likelihood, np.ones(4))

    def decoded(z):
        return module.mean((bias + weight @ z)[None])[0]

    z = torch.zeros(2).double()
    np.testing.assert_allclose(decoded(z).numpy(), mean, rtol=1e-12)
    slope = torch.autograd.functional.jacobian(decoded, z)
    np.testing.assert_allclose(slope.numpy(), loading, rtol=1e-12)


@each_likelihood
def test_linear_start_at_the_edge_of_the_support_is_finite(likelihood):
    for array in likelihood.linear_start(np.array([0.0, 1.0]), np.ones((2, 3))):
        assert np.isfinite(array).all()


@each_likelihood
def test_build_leaves_the_specification_and_its_argument_as_they_were(likelihood, output):
    before, residuals = likelihood.get_params(), RESIDUALS.copy()
    module = likelihood.build(residuals)
    module.update(torch.zeros(5, 2), output)
    module.calibrate(torch.zeros(5, 2), output)
    assert likelihood.get_params() == before
    assert repr(clone(likelihood)) == repr(likelihood)
    np.testing.assert_array_equal(residuals, RESIDUALS)


# support --------------------------------------------------------------------------------------


def test_gaussian_takes_any_range():
    Gaussian().check_support(np.array([-1e30, 1e30]))


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.2, 0.2)])
def test_bernoulli_takes_the_unit_interval(low, high):
    Bernoulli().check_support(np.array([[low, high]]))
    Bernoulli().check_support(sparse.csr_array([[low, high]]))


@pytest.mark.parametrize(("low", "high"), [(-0.001, 1.0), (0.0, 255.0)])
def test_bernoulli_refuses_anything_else(low, high):
    with pytest.raises(ValueError, match=r"X must lie in \[0, 1\]") as error:
        Bernoulli().check_support(np.array([[low, high]]))
    assert f"from {low:g} to {high:g}" in str(error.value)


def test_bernoulli_reads_grey_values_as_probabilities(output, rng):
    module, grey = built(Bernoulli()), torch.from_numpy(rng.uniform(size=(5, 2)))
    zeros, ones = torch.zeros(5, 1).double(), torch.ones(5, 1).double()
    for d in range(2):
        column, logit = grey[:, [d]], output[:, [d]]
        expected = column * module.log_prob(ones, logit)[:, None]
        expected = expected + (1 - column) * module.log_prob(zeros, logit)[:, None]
        torch.testing.assert_close(module.log_prob(column, logit), expected[:, 0])


# learned noise --------------------------------------------------------------------------------


def mean_squares(likelihood, x, output):
    """The variance of largest likelihood: the mean squared residual of what shares one."""
    squared = (x - output).square()
    return squared.mean()[None] if likelihood.noise == "shared" else squared.mean(dim=0)


def mean_log_prob(module, x, output, factor=1.0):
    """Mean log-density with the noise variance multiplied by ``factor``."""
    before = module.noise_variance.clone()
    module.noise_variance.mul_(factor)
    value = float(module.log_prob(x, output).mean())
    module.noise_variance.copy_(before)
    return value


@pytest.fixture
def residual_data(rng):
    output = torch.from_numpy(rng.standard_normal((40, 2)))
    return output + torch.from_numpy(rng.standard_normal((40, 2)) * [0.1, 2.0]), output


@each_learned
def test_noise_starts_at_the_residuals_given(likelihood):
    expected = [RESIDUALS.mean()] if likelihood.noise == "shared" else RESIDUALS
    np.testing.assert_allclose(built(likelihood).noise_variance.numpy(), expected, rtol=1e-12)


@each_learned
def test_updates_converge_to_the_variance_of_largest_likelihood(likelihood, residual_data):
    module, before = built(likelihood), built(likelihood).noise_variance
    expected = mean_squares(likelihood, *residual_data)
    module.update(*residual_data)
    first = module.noise_variance.clone()
    for _ in range(2000):
        module.update(*residual_data)
    torch.testing.assert_close(module.noise_variance, expected, rtol=1e-8, atol=0)
    # one step goes part of the way
    assert torch.all((first - before) / (expected - before) > 0)
    assert torch.all((first - before) / (expected - before) < 1)


@each_learned
def test_the_variance_converged_to_is_the_best(likelihood, residual_data):
    module = built(likelihood)
    module.noise_variance.copy_(mean_squares(likelihood, *residual_data))
    best = mean_log_prob(module, *residual_data)
    for d in range(module.noise_variance.numel()):
        for factor in (0.97, 1.03):
            changed = torch.ones_like(module.noise_variance)
            changed[d] = factor
            assert mean_log_prob(module, *residual_data, changed) < best


@each_learned
def test_calibration_finds_the_best_common_factor(likelihood, residual_data):
    module = built(likelihood)
    before = module.noise_variance.clone()
    module.calibrate(*residual_data)
    factor = module.noise_variance / before
    torch.testing.assert_close(factor, factor[:1].expand_as(factor), rtol=1e-12, atol=0)
    best = mean_log_prob(module, *residual_data)
    for change in (0.97, 1.03):
        assert mean_log_prob(module, *residual_data, change) < best
    module.calibrate(*residual_data)  # nothing is left to gain
    torch.testing.assert_close(module.noise_variance, factor * before, rtol=1e-12, atol=0)


@each_learned
def test_noise_has_a_floor(likelihood, output):
    module = likelihood.build(np.zeros(2))
    floor = torch.full_like(module.noise_variance, NOISE_FLOOR**2)
    torch.testing.assert_close(module.noise_variance, floor)
    for _ in range(2000):
        module.update(output, output)
    torch.testing.assert_close(module.noise_variance, floor)
    module.calibrate(output, output)
    torch.testing.assert_close(module.noise_variance, floor)
    assert torch.isfinite(module.log_prob(output, output)).all()


@pytest.mark.parametrize("likelihood", [Gaussian(0.7), Gaussian(1e-5), Bernoulli()], ids=repr)
def test_what_is_not_learned_stays(likelihood, residual_data):
    module = built(likelihood)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    module.update(*residual_data)
    module.calibrate(*residual_data)
    assert set(module.state_dict()) == set(before)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("noise", [0.7, 1e-5])
def test_fixed_noise_is_the_standard_deviation_given(noise):
    module = built(Gaussian(noise))
    torch.testing.assert_close(module.noise_variance, torch.tensor([noise**2]).double())


@each_learned
def test_noise_is_estimated_outside_the_graph(likelihood, residual_data):
    x, output = residual_data
    output = output.clone().requires_grad_()
    module = built(likelihood)
    module.update(x, output)
    module.calibrate(x, output)
    assert not module.noise_variance.requires_grad
    assert list(module.parameters()) == []


@pytest.mark.parametrize("noise", [0.0, -1.0, math.nan, math.inf, "rows", None])
def test_bad_noise_is_named(noise):
    with pytest.raises(ValueError, match="'noise' parameter of Gaussian must be") as error:
        Gaussian(noise=noise).build(RESIDUALS)
    for word in ("'shared'", "'feature'", "[1e-06, inf)", f"Got {noise!r} instead"):
        assert word in str(error.value)
