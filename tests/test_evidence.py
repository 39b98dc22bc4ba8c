"""Laws of the evidence: closed form for linear decoders, quadrature, the bound property."""

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from torch import nn

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale._model.evidence import log_evidence
from sklearn_wiseale.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    Categorical,
    Gaussian,
    Mixed,
    NegativeBinomial,
    Poisson,
    StudentT,
)
from sklearn_wiseale.networks import MLP, Modules, SkipMLP

CASES = [
    Gaussian(0.4),
    Gaussian("feature"),
    StudentT(3.0),
    Bernoulli(),
    Poisson(),
    NegativeBinomial(0.5),
    Categorical(),
    Mixed([(Gaussian(0.4), [0, 2]), (Poisson(), [1])]),
]
each_likelihood = pytest.mark.parametrize("likelihood", CASES, ids=repr)
pytestmark = [
    pytest.mark.usefixtures("float64_modules"),
    pytest.mark.filterwarnings("ignore:.* components? only"),
]


def estimator(decoder, likelihood, X, k, mean=0.0, precision="float64", module=None):
    """An estimator with these weights, whose encoder gives the same mean for all rows."""
    encoder = nn.Linear(X.shape[1], 2 * k)
    nn.init.zeros_(encoder.weight)
    nn.init.constant_(encoder.bias, mean)
    settings = {"learning_rate": 1e-300, "max_epochs": 1, "early_stopping": False, "scale": None}
    network = Modules(encoder=encoder, decoder=decoder)
    settings |= {"network": network, "precision": precision, "random_state": 0}
    model = WiSEALETransformer(k, likelihood=likelihood, **settings).fit(X)
    model.net_.module_.decoder.load_state_dict(decoder.state_dict())
    if module is not None:
        model.net_.module_.likelihood.load_state_dict(module.state_dict())
    return model


def linear_model(k=2, sd=0.5, size=1.0, n_features=5):
    """Decoder W z + b and Gaussian noise, rows, and their density."""
    rng = np.random.RandomState(0)
    decoder = nn.Linear(k, n_features)
    weight, bias = rng.standard_normal((n_features, k)), rng.standard_normal(n_features)
    decoder.weight.data, decoder.bias.data = torch.from_numpy(weight), torch.from_numpy(bias)
    normal = multivariate_normal(bias, weight @ weight.T + sd**2 * np.eye(n_features))
    X = size * normal.rvs(size=7, random_state=rng)
    return decoder, Gaussian(sd), X, normal.logpdf(X)


def nonlinear_model(likelihood, k=1, n=5, seed=0):
    """A decoder whose posterior is no Gaussian, and rows that it draws."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _, decoder = MLP(hidden=(8,), activation="tanh", linear_skip=False).build(3, k, 3)
        for parameter in decoder.parameters():
            parameter.data *= 2.0
        module = likelihood.build(np.array([0.2, 0.1, 0.3]), np.ones(3), np.ones(3)).double()
        x = module.sample(decoder(torch.randn(n, k)).detach())
    return estimator(decoder, likelihood, x.numpy(), k, module=module), x.numpy()


def evidence_by_quadrature(model, X):
    """log of the integral of p(x|z) N(z; 0, 1) over a fine grid of one-dimensional z."""
    module, x = model.net_.module_, torch.from_numpy(X)
    z = torch.linspace(-9, 9, 4001)[:, None]
    log_prior = -0.5 * (z[:, 0] ** 2 + math.log(2 * math.pi)).numpy()
    with torch.no_grad():
        output = module.decoder(z)
        log_prob = [module.likelihood.log_prob(row.expand(4001, -1), output).numpy() for row in x]
    return logsumexp(np.array(log_prob) + log_prior, axis=1) + math.log(18 / 4000)


def scores(model, X, n_draws):
    """Scores and their standard errors; draws come in pairs of like weight, half of them tell."""
    value, effective = model.score_samples(X, n_draws=n_draws, return_effective=True)
    return value, np.sqrt(np.maximum(n_draws / effective - 1, 0) / (n_draws / 2))


# linear decoders ------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("size", [1.0, 1e4], ids=["rows", "outliers"])
def test_evidence_of_linear_decoders_is_the_closed_form(k, size):
    *parts, X, expected = linear_model(k, size=size)
    model = estimator(*parts, X, k)
    for n_draws in (1, 7):  # of eight draws one is wide, and the weights are unequal
        value, effective = model.score_samples(X, n_draws=n_draws, return_effective=True)
        np.testing.assert_allclose(value, expected, rtol=1e-9)
        np.testing.assert_allclose(effective, n_draws, rtol=1e-9 * max(1, size / 10))
    value, error = scores(model, X, 20_000)
    assert np.all(error < 0.01)
    assert np.all(np.abs(value - expected) < 4.5 * error + 1e-9 * np.abs(expected))


def test_evidence_does_not_depend_on_the_start():
    *parts, X, _ = linear_model()
    near, far = (estimator(*parts, X, 2, mean).score_samples(X) for mean in (0.0, 30.0))
    np.testing.assert_allclose(near, far, rtol=1e-10)


def test_evidence_of_narrow_noise_is_accurate_in_float32():
    *parts, X, _ = linear_model(sd=1e-2)
    expected = estimator(*parts, X, 2).score_samples(X)
    model = estimator(*parts, X, 2, precision="float32")
    value, effective = model.score_samples(X, return_effective=True)
    np.testing.assert_allclose(value, expected, rtol=0, atol=1e-2)
    assert np.all(effective > 32)


@pytest.mark.parametrize("size", [1.0, 1e6, 1e12, 1e200])
def test_evidence_of_parallel_and_large_columns_is_a_number(size):
    """The curvature is singular to rounding, or beyond float64: the bound is poor."""
    decoder, likelihood, X, _ = linear_model(k=3, sd=1e-3)
    nn.init.constant_(decoder.weight, size / 3)
    module = likelihood.build(*np.ones((3, 5))).double()
    noise = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    value, _ = log_evidence(decoder, module, torch.from_numpy(X), torch.zeros(7, 3), noise)
    assert (value < math.inf).all()


def test_the_search_costs_one_pass_a_step_and_one_for_its_jacobian():
    """The mode of a linear decoder is one step away: no other is made."""
    *parts, X, _ = linear_model()
    model, rows = estimator(*parts, X, 2, mean=1.0), []
    hook = lambda module, inputs, output: rows.append(len(output))  # noqa: E731
    model.net_.module_.decoder.register_forward_hook(hook)
    model.score_samples(X, n_draws=64)
    assert rows == [7] * 4 + [7 * 64]


def test_draws_are_normal_in_pairs_of_opposite_sign():
    """Where the decoder is constant, p(z|x) is the prior; one draw in eight is twice as wide."""
    decoder, likelihood, X, _ = linear_model()
    nn.init.zeros_(decoder.weight)
    model, seen = estimator(decoder, likelihood, X, 2), []
    hook = lambda module, inputs, output: seen.append(inputs[0].detach())  # noqa: E731
    model.net_.module_.decoder.register_forward_hook(hook)
    model.score_samples(X[:1], n_draws=20_000)
    z = torch.cat(seen)[-20_000:]
    torch.testing.assert_close(z[:10_000], -z[10_000:], rtol=0, atol=1e-12)
    assert len(set(map(tuple, z.tolist()))) == 20_000
    wide = torch.arange(20_000) % 8 == 7
    for draws in (z[~wide], z[wide] / 2):
        covariance, error = draws.T @ draws / len(draws), 4.5 * math.sqrt(4 / len(draws))
        torch.testing.assert_close(covariance, torch.eye(2), rtol=0, atol=error)


# any decoder ----------------------------------------------------------------------------------


def test_every_public_likelihood_has_a_case():
    assert {type(case) for case in CASES} >= set(LIKELIHOODS.values())


@each_likelihood
@pytest.mark.parametrize("seed", [0, 1])
def test_evidence_equals_quadrature(likelihood, seed):
    model, X = nonlinear_model(likelihood, seed=seed)
    value, error = scores(model, X, 40_000)
    assert np.all(error < 0.05)
    assert np.all(np.abs(value - evidence_by_quadrature(model, X)) < 4.5 * error)


REPEATS = 300


@each_likelihood
def test_evidence_is_a_bound_that_rises_with_the_draws_and_whose_exponential_is_unbiased(
    likelihood,
):
    """With draws that are fresh each time."""
    model, X = nonlinear_model(likelihood, n=3)
    module, x, expected = model.net_.module_, torch.from_numpy(X), evidence_by_quadrature(model, X)
    x, start, means = x.repeat(REPEATS, 1), torch.zeros(REPEATS * len(x), 1), []
    for n_draws in (1, 4, 8, 24):
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(len(x), n_draws, 1, generator=generator)
        value, _ = log_evidence(module.decoder, module.likelihood, x, start, noise)
        gap = value.numpy().reshape(REPEATS, -1) - expected
        assert np.all(gap.mean(axis=0) <= 4 * gap.std(axis=0) / math.sqrt(REPEATS))
        if n_draws >= 8:  # with wide draws among them the variance of the weights is known
            ratio = np.exp(gap)
            error = 4.5 * ratio.std(axis=0) / math.sqrt(REPEATS)
            assert np.all(np.abs(ratio.mean(axis=0) - 1) < error)
        means.append(gap.mean())
    assert means == sorted(means)


@each_likelihood
@pytest.mark.parametrize("k", [1, 3])
def test_rows_are_independent_of_each_other(likelihood, k):
    model, X = nonlinear_model(likelihood, k=k)
    together = model.score_samples(X, n_draws=32, return_effective=True)
    alone = [model.score_samples(row[None], n_draws=32, return_effective=True) for row in X]
    np.testing.assert_allclose(together, np.hstack(alone), rtol=1e-9)


@each_likelihood
@pytest.mark.parametrize("n_draws", [1, 2, 9, 64])
def test_effective_sample_size_lies_between_one_and_the_draws(likelihood, n_draws):
    model, X = nonlinear_model(likelihood, k=2)
    value, effective = model.score_samples(X, n_draws=n_draws, return_effective=True)
    assert value.shape == effective.shape == (5,)
    assert np.all((effective >= 1 - 1e-9) & (effective <= n_draws * (1 + 1e-9)))


def test_probabilities_of_all_binary_rows_sum_to_one():
    model, _ = nonlinear_model(Bernoulli())
    X = np.array(list(np.ndindex(2, 2, 2)), dtype=float)
    value, error = scores(model, X, 20_000)
    error = (np.exp(value) * error).sum()
    assert np.exp(value).sum() == pytest.approx(1, abs=4.5 * error)
    assert error < 1e-2


def test_score_leaves_no_gradient_and_no_random_state():
    model, X = nonlinear_model(Gaussian(0.4))
    model.net_.module_.zero_grad()
    before = torch.get_rng_state()
    first, again = (model.score_samples(X, n_draws=8) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.net_.module_.parameters())


# wide rows ------------------------------------------------------------------------------------


def own_decoder(k, n_features):
    """A perceptron with another map after it."""

    class OwnDecoder(SkipMLP):
        def forward(self, x):
            return super().forward(x).tanh()

    return OwnDecoder(k, [6], n_features, MLP())


def perceptron(**params):
    return lambda k, n_features: MLP(**params).build(n_features, k, n_features)[1]


#: Likelihood, decoder, columns, and whether rows are used in coordinates in which they are short.
WIDE = {
    "shared": (Gaussian(), perceptron(hidden=(6,)), 200, True),
    "feature": (Gaussian("feature"), perceptron(hidden=(6,)), 200, True),
    "fixed": (Gaussian(0.3), perceptron(hidden=(6, 5), activation="tanh"), 200, True),
    "linear": (Gaussian(), perceptron(hidden=()), 200, True),
    "no skip": (Gaussian(), perceptron(hidden=(6,), linear_skip=False), 200, True),
    "bernoulli": (Bernoulli(), perceptron(hidden=(6,)), 200, False),
    "own forward": (Gaussian(), own_decoder, 200, False),
    "narrow": (Gaussian(), perceptron(hidden=(6,)), 72, False),
}


@pytest.mark.parametrize("case", WIDE)
def test_wide_rows_are_shortened_where_that_changes_nothing(case):
    likelihood, make, n_features, shortened = WIDE[case]
    torch.manual_seed(0)
    decoder = make(3, n_features)
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.5)
    variance = np.linspace(0.1, 2.0, n_features)
    module = likelihood.build(variance, np.zeros(n_features), variance)
    with torch.no_grad():
        X = module.sample(decoder(torch.randn(7, 3))).numpy()
    found, widths = [], []
    for part in (decoder, nn.Sequential(decoder)):  # which is not known as a perceptron
        model, seen = estimator(part, likelihood, X, 3, module=module), set()
        hook = lambda module, inputs, output, seen=seen: seen.add(output.shape[1])  # noqa: E731
        model.net_.module_.decoder.register_forward_hook(hook)
        before = [value.clone() for value in model.net_.module_.decoder.state_dict().values()]
        found.append(model.score_samples(X, n_draws=16, return_effective=True))
        widths.append(max(seen, default=0))
        assert all(map(torch.equal, before, model.net_.module_.decoder.state_dict().values()))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-9)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-6)
    assert widths[1] == n_features
    assert (widths[0] < 10) == shortened


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_scores_of_wide_rows_do_not_depend_on_their_neighbours(likelihood, missing):
    X = (np.random.RandomState(0).rand(20, 300) > 0.5).astype(float)
    X[::3, 5] = np.nan if missing else 1.0
    params = {"network": MLP(hidden=(4,)), "precision": "float64", "max_epochs": 2}
    model = WiSEALETransformer(2, likelihood=likelihood, **params).fit(X)
    alone = np.hstack([model.score_samples(row[None]) for row in X])
    np.testing.assert_allclose(model.score_samples(X), alone, rtol=1e-9)
    in_chunks = model.score_samples(np.tile(X, (7, 1)))  # of 32 rows
    np.testing.assert_allclose(in_chunks, np.tile(alone, 7), rtol=1e-9)


@pytest.mark.parametrize(
    ("n_features", "n_draws"), [(1, 64), (2048, 64), (2049, 56), (8000, 16), (20_000, 8)]
)
def test_automatic_draws_are_fewer_for_wide_rows(n_features, n_draws):
    X = np.random.RandomState(0).standard_normal((4, n_features))
    fast = {"network": MLP(hidden=()), "max_epochs": 1, "random_state": 0}
    model = WiSEALETransformer(1, early_stopping=False, **fast).fit(X)
    expected = model.score_samples(X, n_draws=n_draws)
    np.testing.assert_array_equal(model.score_samples(X), expected)
