"""Laws of the evidence: closed form for linear decoders, quadrature, the bound property."""

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from torch import nn

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale._data import rows as _data
from sklearn_wiseale._model import evidence as _evidence
from sklearn_wiseale._model.evidence import ShortRows, log_evidence, proposal_noise
from sklearn_wiseale._model.inference import default_draws
from sklearn_wiseale.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    Categorical,
    Gaussian,
    Mixed,
    NegativeBinomial,
    Poisson,
)
from sklearn_wiseale.networks import MLP, SkipMLP

CASES = [
    Gaussian(0.4),
    Gaussian("feature"),
    Bernoulli(),
    Poisson(),
    NegativeBinomial(0.5),
    Categorical(),
    Mixed([(Gaussian(0.4), [0, 2]), (Poisson(), [1])]),
]
each_likelihood = pytest.mark.parametrize("likelihood", CASES, ids=repr)
pytestmark = pytest.mark.usefixtures("float64_modules")


def linear_model(n_features=5, k=2, sd=0.5, seed=0):
    """Decoder W z + b and Gaussian noise, with W, b and the closed-form evidence of rows."""
    rng = np.random.RandomState(seed)
    weight, bias = rng.standard_normal((n_features, k)), rng.standard_normal(n_features)
    decoder = nn.Linear(k, n_features)
    with torch.no_grad():
        decoder.weight.copy_(torch.from_numpy(weight))
        decoder.bias.copy_(torch.from_numpy(bias))
    covariance = weight @ weight.T + sd**2 * np.eye(n_features)
    x = torch.from_numpy(rng.multivariate_normal(bias, covariance, size=7))
    expected = multivariate_normal(bias, covariance).logpdf(x.numpy())
    return decoder, Gaussian(sd).build(*np.ones((3, n_features))), x, expected


def nonlinear_model(likelihood, k=1, n=5, seed=0):
    """A decoder of random weights, bent enough that the posterior is no Gaussian, and rows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _, decoder = MLP(hidden=(8,), activation="tanh", linear_skip=False).build(3, k, 3)
        with torch.no_grad():
            for parameter in decoder.parameters():
                parameter.mul_(2.0)
        module = likelihood.build(np.array([0.2, 0.1, 0.3]), np.ones(3), np.ones(3)).double()
        x = module.sample(decoder(torch.randn(n, k)).detach())
    return decoder, module, x


def evidence_by_quadrature(decoder, likelihood, x):
    """log of the integral of p(x|z) N(z; 0, 1) over a fine grid of one-dimensional z."""
    z = torch.linspace(-9, 9, 4001, dtype=torch.float64)[:, None]
    log_prior = -0.5 * (z[:, 0] ** 2 + math.log(2 * math.pi)).numpy()
    with torch.no_grad():
        output = decoder(z)
        log_likelihood = [likelihood.log_prob(row.expand(4001, -1), output).numpy() for row in x]
    return logsumexp(np.array(log_likelihood) + log_prior, axis=1) + math.log(18 / 4000)


@torch.no_grad()
def evidence(decoder, likelihood, x, start, noise):
    return log_evidence(decoder, likelihood, x, start, noise)


def start_of(x, k):
    return torch.zeros(len(x), k, dtype=x.dtype)


def standard_error(effective, n_draws):
    """Of the log of the mean weight; draws come in pairs of like weight, half of them tell."""
    relative_variance = n_draws / effective - 1
    return torch.sqrt(relative_variance / (n_draws / 2)).numpy()


# linear decoders ------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 5])
def test_linear_gaussian_evidence_is_the_closed_form(k):
    decoder, likelihood, x, expected = linear_model(k=k)
    n_draws = 20_000
    value, effective = evidence(decoder, likelihood, x, start_of(x, k), proposal_noise(n_draws, k))
    error = standard_error(effective, n_draws)
    assert np.all(error < 0.01)
    assert np.all(np.abs(value.numpy() - expected) < 4.5 * error)


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("n_draws", [1, 7])
def test_linear_gaussian_evidence_is_exact_without_the_wide_draws(monkeypatch, k, n_draws):
    monkeypatch.setattr(_evidence, "_WIDE_SHARE", 10**9)
    decoder, likelihood, x, expected = linear_model(k=k)
    value, effective = evidence(decoder, likelihood, x, start_of(x, k), proposal_noise(n_draws, k))
    np.testing.assert_allclose(value.numpy(), expected, rtol=1e-10)
    np.testing.assert_allclose(effective.numpy(), n_draws, rtol=1e-10)


def test_linear_gaussian_evidence_does_not_depend_on_the_start():
    decoder, likelihood, x, _ = linear_model()
    noise = proposal_noise(64, 2)
    near, _ = evidence(decoder, likelihood, x, start_of(x, 2), noise)
    far, _ = evidence(decoder, likelihood, x, start_of(x, 2) + 30.0, noise)
    torch.testing.assert_close(near, far, rtol=1e-10, atol=0)


def test_evidence_of_narrow_noise_is_accurate_in_float32():
    decoder, likelihood, x, _ = linear_model(sd=1e-2)
    noise = proposal_noise(64, 2)
    expected, _ = evidence(decoder, likelihood, x, start_of(x, 2), noise)
    decoder, likelihood, x = decoder.float(), likelihood.float(), x.float()
    value, effective = evidence(decoder, likelihood, x, start_of(x, 2), noise)
    assert value.dtype == torch.float64
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-2)
    assert torch.all(effective > 32)


def test_linear_gaussian_evidence_of_outliers_is_exact_too(monkeypatch):
    monkeypatch.setattr(_evidence, "_WIDE_SHARE", 10**9)
    decoder, likelihood, x, _ = linear_model()
    weight, bias = (parameter.detach().numpy() for parameter in decoder.parameters())
    covariance = weight @ weight.T + 0.5**2 * np.eye(5)
    far = 1e4 * x
    value, _ = evidence(decoder, likelihood, far, start_of(x, 2), proposal_noise(8, 2))
    expected = multivariate_normal(bias, covariance).logpdf(far.numpy())
    np.testing.assert_allclose(value.numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("size", [1.0, 1e6, 1e12, 1e200])
def test_evidence_of_columns_that_are_parallel_and_large_is_a_number(size):
    """The curvature is singular to rounding, or beyond float64; a bound there is, if a poor one."""
    decoder, likelihood, x, _ = linear_model(k=3, sd=1e-3)
    with torch.no_grad():
        decoder.weight.fill_(size / 3)
    value, _ = evidence(decoder, likelihood, x, start_of(x, 3), proposal_noise(8, 3))
    assert (value < math.inf).all()


# any decoder ----------------------------------------------------------------------------------


def test_every_public_likelihood_has_a_case():
    assert {type(case) for case in CASES} >= set(LIKELIHOODS.values())


@each_likelihood
@pytest.mark.parametrize("seed", [0, 1])
def test_evidence_equals_quadrature(likelihood, seed):
    decoder, module, x = nonlinear_model(likelihood, seed=seed)
    expected = evidence_by_quadrature(decoder, module, x)
    n_draws = 40_000
    value, effective = evidence(decoder, module, x, start_of(x, 1), proposal_noise(n_draws, 1))
    error = standard_error(effective, n_draws)
    assert np.all(error < 0.05)
    assert np.all(np.abs(value.numpy() - expected) < 4.5 * error)


REPEATS = 150


def repeated_gap(decoder, module, x, n_draws):
    """Estimates from draws that are fresh each time, less the truth: (REPEATS, n)."""
    generator = torch.Generator().manual_seed(0)
    noises = torch.randn(REPEATS, n_draws, 1, generator=generator, dtype=torch.float64)
    start = start_of(x, 1)
    values = [evidence(decoder, module, x, start, noise)[0].numpy() for noise in noises]
    return np.stack(values) - evidence_by_quadrature(decoder, module, x)


@each_likelihood
@pytest.mark.parametrize("n_draws", [1, 8, 24])
def test_evidence_is_a_bound_in_the_mean_and_its_exponential_unbiased(likelihood, n_draws):
    decoder, module, x = nonlinear_model(likelihood, n=3)
    gap = repeated_gap(decoder, module, x, n_draws)
    assert np.all(gap.mean(axis=0) <= 4 * gap.std(axis=0) / math.sqrt(REPEATS))
    if n_draws >= 8:  # with wide draws among them the weights have a variance to speak of
        ratio = np.exp(gap)
        error = 4.5 * ratio.std(axis=0) / math.sqrt(REPEATS)
        assert np.all(np.abs(ratio.mean(axis=0) - 1) < error)


@each_likelihood
def test_bound_rises_with_the_number_of_draws(likelihood):
    decoder, module, x = nonlinear_model(likelihood, n=3)
    means = [repeated_gap(decoder, module, x, n_draws).mean() for n_draws in (1, 4, 16)]
    assert means[0] < means[1] < means[2]


@each_likelihood
@pytest.mark.parametrize("k", [1, 3])
def test_rows_are_independent_of_each_other(likelihood, k):
    decoder, module, x = nonlinear_model(likelihood, k=k)
    start, noise = 0.1 * torch.arange(5.0)[:, None].expand(5, k), proposal_noise(32, k)
    together = evidence(decoder, module, x, start, noise)
    alone = [evidence(decoder, module, x[[i]], start[[i]], noise) for i in range(5)]
    for whole, parts in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(whole, torch.cat(parts), rtol=1e-9, atol=0)


@each_likelihood
@pytest.mark.parametrize("n_draws", [1, 2, 9, 64])
def test_effective_sample_size_lies_between_one_and_the_draws(likelihood, n_draws):
    decoder, module, x = nonlinear_model(likelihood, k=2)
    value, effective = evidence(decoder, module, x, start_of(x, 2), proposal_noise(n_draws, 2))
    assert value.shape == effective.shape == (5,)
    assert torch.all(effective >= 1 - 1e-9)
    assert torch.all(effective <= n_draws * (1 + 1e-9))


def test_probabilities_of_all_binary_rows_sum_to_one():
    decoder, module, _ = nonlinear_model(Bernoulli())
    x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * 3)
    value, effective = evidence(decoder, module, x, start_of(x, 1), proposal_noise(20_000, 1))
    error = (value.exp().numpy() * standard_error(effective, 20_000)).sum()
    assert float(value.exp().sum()) == pytest.approx(1, abs=4.5 * error)
    assert error < 1e-2


def test_evidence_leaves_no_gradient_and_no_random_state_behind():
    decoder, module, x = nonlinear_model(Gaussian(0.4))
    before = torch.get_rng_state()
    value, _ = evidence(decoder, module, x, start_of(x, 1), proposal_noise(8, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert not value.requires_grad
    assert all(parameter.grad is None for parameter in decoder.parameters())


# the draws ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_draws", [1, 2, 7, 64])
def test_draws_are_the_same_at_each_call(n_draws):
    noise = proposal_noise(n_draws, 3)
    assert noise.shape == (n_draws, 3)
    assert noise.dtype == torch.float64
    assert torch.equal(noise, proposal_noise(n_draws, 3))


def test_draws_come_in_pairs_of_opposite_sign():
    noise = proposal_noise(64, 3)
    ordered = sorted(map(tuple, noise.tolist()))
    assert sorted(map(tuple, (-noise).tolist())) == ordered
    assert len(set(ordered)) == 64


def test_draws_are_standard_normal():
    noise = proposal_noise(20_000, 2)
    assert noise.mean(dim=0).abs().max() < 1e-12
    covariance = noise.T @ noise / 20_000
    torch.testing.assert_close(covariance, torch.eye(2), rtol=0, atol=4.5 * math.sqrt(2 / 10_000))


# wide rows ------------------------------------------------------------------------------------


WIDE = {
    "shared": (Gaussian(), MLP(hidden=(6,))),
    "feature": (Gaussian("feature"), MLP(hidden=(6,))),
    "fixed": (Gaussian(0.3), MLP(hidden=(6, 5), activation="tanh")),
    "no perceptron": (Gaussian(), MLP(hidden=())),
    "no skip": (Gaussian(), MLP(hidden=(6,), linear_skip=False)),
}


def wide_model(case, n_features=200, n_components=3):
    """Decoder of random weights and more columns than it has ways to bend, and rows of it."""
    specification, network = WIDE[case]
    torch.manual_seed(0)
    _, decoder = network.build(n_features, n_components, n_features)
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.5)
    variance = np.linspace(0.1, 2.0, n_features)
    likelihood = specification.build(variance, np.zeros(n_features), variance)
    with torch.no_grad():
        x = likelihood.sample(decoder(torch.randn(7, n_components)))
    return decoder, likelihood, x


@pytest.mark.parametrize("case", WIDE)
def test_short_rows_have_the_evidence_of_the_whole(case):
    decoder, likelihood, x = wide_model(case)
    noise, start = proposal_noise(16, 3), start_of(x, 3)
    expected, expected_size = evidence(decoder, likelihood, x, start, noise)
    short = ShortRows.where_they_pay(decoder, likelihood)
    assert short is not None
    rows, left = short.shorten(x)
    assert rows.shape[1] < 10
    value, size = evidence(short.decoder, short.likelihood, rows, start, noise)
    torch.testing.assert_close(value + left, expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(size, expected_size, rtol=1e-6, atol=0)


def test_short_rows_leave_the_model_as_it_was():
    decoder, likelihood, _ = wide_model("shared")
    before = [value.clone() for value in decoder.state_dict().values()]
    short = ShortRows.where_they_pay(decoder, likelihood)
    with torch.no_grad():
        for parameter in short.decoder.parameters():
            parameter.zero_()
    assert all(map(torch.equal, before, decoder.state_dict().values()))
    assert all(parameter.requires_grad for parameter in decoder.parameters())


def test_only_wide_rows_of_gaussians_and_perceptrons_are_shortened():
    decoder, likelihood, _ = wide_model("shared")
    assert ShortRows.where_they_pay(decoder, Bernoulli().build(*np.ones((3, 200)))) is None
    assert ShortRows.where_they_pay(nn.Sequential(decoder), likelihood) is None
    assert ShortRows.where_they_pay(*wide_model("shared", n_features=72)[:2]) is None

    class OwnDecoder(SkipMLP):
        def forward(self, x):
            return super().forward(x).tanh()

    own = OwnDecoder(3, [6], 200, MLP())
    assert ShortRows.where_they_pay(own, likelihood) is None


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_scores_of_wide_rows_do_not_depend_on_chunks_or_neighbours(
    likelihood, missing, monkeypatch
):
    X = (np.random.RandomState(0).rand(20, 300) > 0.5).astype(float)
    X[::3, 5] = np.nan if missing else 1.0
    model = WiSEALETransformer(
        2, likelihood=likelihood, network=MLP(hidden=(4,)), precision="float64", max_epochs=2
    ).fit(X)
    expected = model.score_samples(X)
    alone = np.hstack([model.score_samples(row[None]) for row in X])
    np.testing.assert_allclose(alone, expected, rtol=1e-9)
    monkeypatch.setattr(_data, "_CHUNK_NUMBERS", 3 * _data._ROW_NUMBERS)
    np.testing.assert_allclose(model.score_samples(X), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("n_features", "n_draws"),
    [(1, 64), (2048, 64), (2049, 56), (8000, 16), (20_000, 8), (10**6, 8)],
)
def test_automatic_draws_are_64_and_fewer_of_wide_rows(n_features, n_draws):
    assert default_draws(n_features) == n_draws


def test_a_step_costs_one_forward_pass_with_its_jacobian_and_two_without():
    """The linear decoder's mode is one step away: where the next promises nothing, none is made."""
    decoder, likelihood, x, _ = linear_model()
    rows = []
    decoder.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    evidence(decoder, likelihood, x, start_of(x, 2), proposal_noise(64, 2))
    assert rows == [7] * 4 + [7 * 64]
