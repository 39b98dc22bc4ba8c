"""Laws of the networks, and of the start that makes them principal component analysis."""

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.decomposition import PCA
from torch import nn

from sklearn_wiseale._data import Scaling
from sklearn_wiseale._start import build_module, column_scaling
from sklearn_wiseale._statistics import Moments, principal_axes
from sklearn_wiseale.likelihoods import LIKELIHOODS, Bernoulli, Gaussian
from sklearn_wiseale.networks import MLP, NETWORKS
from sklearn_wiseale.objectives import Posterior
from sklearn_wiseale.objectives._aggregate import aggregate_kl_bound

ACTIVATIONS = ["silu", "relu", "gelu", "tanh", "elu"]
WITH_SKIP = [
    MLP(hidden=(6, 4)),
    MLP(hidden=[5]),
    MLP(hidden=()),
    MLP(hidden=(6, 4), dropout=0.5),
    *(MLP(hidden=(4,), activation=activation) for activation in ACTIVATIONS),
]
WITHOUT_SKIP = [MLP(hidden=(6, 4), linear_skip=False), MLP(hidden=np.array([5]), linear_skip=False)]
CASES = WITH_SKIP + WITHOUT_SKIP

each_network = pytest.mark.parametrize("network", CASES, ids=repr)
each_with_skip = pytest.mark.parametrize("network", WITH_SKIP, ids=repr)
pytestmark = pytest.mark.usefixtures("float64_modules")


def rows_of(n, n_features, seed=0):
    return torch.from_numpy(np.random.RandomState(seed).standard_normal((n, n_features)))


def linear_map(n_in, n_out, seed=0):
    rng = np.random.RandomState(seed)
    return torch.from_numpy(rng.standard_normal((n_out, n_in))), torch.from_numpy(rng.rand(n_out))


# networks -------------------------------------------------------------------------------------


def test_every_public_network_has_a_case():
    assert {type(case) for case in CASES} == set(NETWORKS.values())


@each_network
def test_encoder_gives_two_numbers_a_component_and_decoder_the_outputs(network):
    encoder, decoder = network.build(7, 3, 11)
    assert encoder(rows_of(5, 7)).shape == (5, 6)
    assert decoder(rows_of(5, 3)).shape == (5, 11)


@each_network
def test_build_leaves_the_specification_as_it_was(network):
    params, text = network.get_params(), repr(network)
    network.build(7, 3, 11)
    assert all(network.get_params()[name] is value for name, value in params.items())
    assert repr(network) == text
    assert repr(clone(network)) == text


@each_network
def test_each_build_is_a_network_of_its_own(network):
    parts = [*network.build(7, 3, 11), *network.build(7, 3, 11)]
    parameters = [id(p) for part in parts for p in part.parameters()]
    assert len(parameters) == len(set(parameters))


@each_network
def test_the_seed_decides_the_weights(network):
    def weights(seed):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            parts = network.build(7, 3, 11)
        return torch.cat([p.detach().ravel() for part in parts for p in part.parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


@each_network
def test_rows_are_mapped_one_by_one(network):
    x = rows_of(6, 7)
    encoder = network.build(7, 3, 11)[0].eval()
    one_by_one = torch.cat([encoder(row[None]) for row in x])
    torch.testing.assert_close(encoder(x), one_by_one, rtol=1e-12, atol=1e-12)


@each_with_skip
def test_started_network_is_the_linear_map(network):
    encoder, decoder = network.build(7, 3, 11)
    for part, n_in, n_out in ((encoder, 7, 6), (decoder, 3, 11)):
        weight, bias = linear_map(n_in, n_out)
        part.start_linear(weight, bias)
        x = 100 * rows_of(5, n_in)
        for mode in (True, False):  # dropout changes nothing either
            output = part.train(mode)(x)
            torch.testing.assert_close(output, x @ weight.T + bias, rtol=1e-13, atol=1e-12)


@each_network
def test_started_network_learns_with_every_parameter(network):
    encoder, _ = network.build(7, 3, 11)
    encoder.start_linear(*linear_map(7, 6))
    encoder.eval()
    x, target = rows_of(50, 7), rows_of(50, 6, seed=1).square()
    optimizer = torch.optim.SGD(encoder.parameters(), lr=1e-2)
    losses = []
    for _ in range(2):  # the layers before a last one of zeros have a gradient after one step
        loss = (encoder(x) - target).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[1] < losses[0]
    assert all(parameter.grad.abs().max() > 0 for parameter in encoder.parameters())


@pytest.mark.parametrize("network", WITHOUT_SKIP, ids=repr)
def test_without_skip_the_start_is_the_bias(network):
    encoder, _ = network.build(7, 3, 11)
    x = rows_of(5, 7)
    weight, bias = linear_map(7, 6)
    encoder.start_linear(weight, torch.zeros(6))
    at_zero = encoder(x)
    encoder.start_linear(weight, bias)
    torch.testing.assert_close(encoder(x) - at_zero, bias.expand(5, 6), rtol=1e-12, atol=1e-12)


def second_difference(part, n_in):
    """What is left of f(x + y) - f(x) - f(y) + f(0): zero for linear maps alone."""
    x, y = 3 * rows_of(4, n_in), 3 * rows_of(4, n_in, seed=1)
    return part(x + y) - part(x) - part(y) + part(torch.zeros_like(x))


def test_without_hidden_layers_the_network_is_linear():
    for part, n_in in zip(MLP(hidden=()).build(7, 3, 11), (7, 3), strict=True):
        assert second_difference(part, n_in).abs().max() < 1e-12


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_hidden_layers_have_their_activation(activation):
    network = MLP(hidden=(8,), activation=activation, linear_skip=False)
    encoder, _ = network.build(7, 3, 11)
    first, last = (layer for layer in encoder.modules() if isinstance(layer, nn.Linear))
    x = rows_of(4, 7)
    expected = last(getattr(nn.functional, activation)(first(x)))
    torch.testing.assert_close(encoder(x), expected, rtol=1e-12, atol=1e-14)


def test_decoder_mirrors_the_encoder():
    encoder, decoder = MLP(hidden=(9, 5), linear_skip=False).build(7, 3, 11)

    def widths(part):
        layers = [layer for layer in part.modules() if isinstance(layer, nn.Linear)]
        return [layers[0].in_features, *(layer.out_features for layer in layers)]

    assert widths(encoder) == [7, 9, 5, 6]
    assert widths(decoder) == [3, 5, 9, 11]


def test_dropout_acts_in_training_alone():
    x = rows_of(5, 7)
    dropping, _ = MLP(hidden=(50,), dropout=0.5, linear_skip=False).build(7, 3, 11)
    assert not torch.equal(dropping(x), dropping(x))
    dropping.eval()
    assert torch.equal(dropping(x), dropping(x))
    keeping, _ = MLP(hidden=(50,), linear_skip=False).build(7, 3, 11)
    assert torch.equal(keeping(x), keeping(x))


@pytest.mark.parametrize(
    ("params", "allowed"),
    [
        ({"hidden": 5}, "array-like"),
        ({"hidden": "wide"}, "array-like"),
        ({"hidden": (0,)}, "integers >= 1"),
        ({"hidden": (8, -1)}, "integers >= 1"),
        ({"hidden": (2.5,)}, "integers >= 1"),
        ({"hidden": (True,)}, "integers >= 1"),
        ({"hidden": ("8",)}, "integers >= 1"),
        ({"hidden": (), "linear_skip": False}, "at least one layer"),
        ({"activation": "sine"}, "'silu'"),
        ({"activation": nn.ReLU}, "'silu'"),
        ({"linear_skip": "yes"}, "'bool'"),
        ({"dropout": 1.0}, r"\[0.0, 1.0\)"),
        ({"dropout": -0.1}, r"\[0.0, 1.0\)"),
        ({"dropout": math.nan}, r"\[0.0, 1.0\)"),
    ],
)
def test_bad_parameters_are_named(params, allowed):
    name, value = next(iter(params.items()))
    with pytest.raises(ValueError, match=f"'{name}' parameter of MLP must.*{allowed}") as error:
        MLP(**params).build(7, 3, 11)
    assert f"Got {value!r} instead" in str(error.value)


# the start ------------------------------------------------------------------------------------


def table(n=60, n_features=6, rank=None, seed=0):
    """Correlated columns of unequal scale, away from zero, of a given rank."""
    rng = np.random.RandomState(seed)
    rank = rank or n_features
    X = rng.standard_normal((n, rank)) * 0.6 ** np.arange(rank)
    X = X @ rng.standard_normal((rank, n_features))
    return X * np.array([1, 20, 0.1, 3, 1, 0.5, 2, 1])[:n_features] + 5


def started(X, n_components, mode="feature", likelihood=None, network=None):
    """A module at its start, and the scaled rows."""
    moments = Moments(X.shape[1]).update(X)
    scaling = column_scaling(moments, mode)
    scaled = scaling.apply(X)
    rng = np.random.RandomState(0)
    axes = principal_axes(moments, *scaling, n_components, lambda: [scaled], rng)
    module = build_module(
        moments,
        scaling,
        axes,
        n_components,
        likelihood or Gaussian(),
        network or MLP(hidden=(8,)),
        torch.float64,
    )
    return module.eval(), torch.from_numpy(scaled)


@pytest.mark.parametrize("mode", ["feature", "global", None])
@pytest.mark.parametrize("n_components", [1, 3, 6])
def test_start_reconstructs_exactly_as_pca(mode, n_components):
    module, x = started(table(), n_components, mode)
    reconstruction = module.decoder(module.encode(x).mean).detach().numpy()
    pca = PCA(n_components).fit(x.numpy())
    expected = pca.inverse_transform(pca.transform(x.numpy()))
    np.testing.assert_allclose(reconstruction, expected, rtol=0, atol=1e-9 * x.abs().max())


@pytest.mark.parametrize("mode", ["feature", "global", None])
@pytest.mark.parametrize("n_components", [1, 3, 6])
def test_aggregate_at_the_start_has_the_moments_of_the_prior(mode, n_components):
    module, x = started(table(), n_components, mode)
    posterior = module.encode(x)
    mean, log_var = (tensor.detach() for tensor in posterior)
    covariance = torch.cov(mean.T, correction=0) + torch.diag(log_var.exp().mean(dim=0))
    torch.testing.assert_close(mean.mean(dim=0), torch.zeros(n_components), rtol=0, atol=1e-9)
    identity = torch.eye(n_components)
    torch.testing.assert_close(covariance.reshape(identity.shape), identity, rtol=0, atol=1e-9)
    moment = aggregate_kl_bound(Posterior(mean, log_var), "moment")
    assert float(moment) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("mode", ["feature", "global", None])
@pytest.mark.parametrize("noise", ["shared", "feature"])
@pytest.mark.parametrize("n_components", [2, 6])
def test_noise_starts_at_the_mean_squared_residual_over_draws(mode, noise, n_components):
    module, x = started(table(), n_components, mode, Gaussian(noise))
    mean, log_var = module.encode(x)
    # of a quadratic function the corners of a cube have the Gaussian's expectation
    corners = itertools.product([-1.0, 1.0], repeat=n_components)
    draws = [mean + (0.5 * log_var).exp() * torch.tensor(corner) for corner in corners]
    squared = torch.stack([(x - module.decoder(z)).square() for z in draws]).mean(dim=(0, 1))
    expected = squared.mean()[None] if noise == "shared" else squared
    torch.testing.assert_close(
        module.likelihood.noise_variance, expected.detach(), rtol=1e-8, atol=1e-12
    )


@pytest.mark.parametrize("network", CASES, ids=repr)
def test_every_network_has_a_start_of_finite_loss(network):
    module, x = started(table(), 3, network=network)
    posterior = module.encode(x)
    output = module.decoder(posterior.mean)
    assert torch.isfinite(aggregate_kl_bound(posterior, "jensen"))
    assert torch.isfinite(module.likelihood.log_prob(x, output)).all()


@pytest.mark.parametrize("likelihood", LIKELIHOODS.values())
def test_start_is_better_than_the_column_means(likelihood):
    X = table()
    X = np.greater(X, X.mean(axis=0)).astype(float)  # a support that every likelihood has
    likelihood = likelihood()
    module, x = started(X, 3, likelihood.natural_scale, likelihood)
    at_means = module.decoder(torch.zeros(len(x), 3))
    at_codes = module.decoder(module.encode(x).mean)
    log_prob = module.likelihood.log_prob
    assert log_prob(x, at_codes).mean() > log_prob(x, at_means).mean()


def test_bernoulli_starts_at_the_column_means():
    X = (table() > 5) * 1.0
    module, x = started(X, 2, None, Bernoulli())
    mean = module.likelihood.mean(module.decoder(torch.zeros(1, 2)))[0]
    torch.testing.assert_close(mean.detach(), x.mean(dim=0), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("n", "n_features", "rank"), [(60, 6, 2), (60, 3, 3), (4, 6, 6), (2, 6, 6)]
)
def test_components_beyond_the_rank_keep_the_prior_and_are_not_decoded(n, n_features, rank):
    module, x = started(table(n, n_features, rank), 5)
    mean, log_var = (tensor.detach() for tensor in module.encode(x))
    used = min(rank, n - 1)
    assert torch.all(mean[:, :used].var(dim=0) > 0)
    torch.testing.assert_close(mean[:, used:], torch.zeros(n, 5 - used), rtol=0, atol=1e-12)
    torch.testing.assert_close(log_var[:, used:], torch.zeros(n, 5 - used), rtol=0, atol=1e-12)
    moved = mean.clone()
    moved[:, used:] += 10
    torch.testing.assert_close(module.decoder(mean), module.decoder(moved), rtol=1e-12, atol=0)
    torch.testing.assert_close(module.decoder(mean).detach(), x, rtol=0, atol=1e-6)
    moment = aggregate_kl_bound(Posterior(mean, log_var), "moment")
    assert float(moment) == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("value", [0.0, 7.0, 0.1])
def test_rows_that_are_all_equal_start_at_the_prior(value):
    module, x = started(np.full((9, 4), value), 2)
    posterior = module.encode(x)
    for tensor in (*posterior, *module.encode(x + 1)):
        torch.testing.assert_close(tensor, torch.zeros(9, 2), rtol=0, atol=1e-12)
    assert torch.isfinite(module.likelihood.log_prob(x, module.decoder(posterior.mean))).all()
    moment = aggregate_kl_bound(posterior, "moment").detach()
    assert float(moment) == pytest.approx(0, abs=1e-12)


# scaling --------------------------------------------------------------------------------------


def scaling_of(X, mode):
    return column_scaling(Moments(X.shape[1]).update(X), mode)


def test_scaling_by_feature_standardises_each_column():
    X = table()
    scaled = scaling_of(X, "feature").apply(X)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(scaled.var(axis=0), 1, rtol=1e-12)


def test_global_scaling_keeps_the_proportions_of_columns():
    X = table()
    scaled = scaling_of(X, "global").apply(X)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-12)
    assert scaled.var(axis=0).mean() == pytest.approx(1, rel=1e-12)
    ratio = scaled.var(axis=0) / X.var(axis=0)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-12)


def test_no_scaling_leaves_the_rows_as_they_are():
    X = table()
    np.testing.assert_array_equal(scaling_of(X, None).apply(X), X)


@pytest.mark.parametrize("mode", ["feature", "global"])
def test_constant_columns_are_centred_and_not_blown_up(mode):
    X = np.column_stack([table()[:, 0], np.full(60, 0.1)])
    scaling = scaling_of(X, mode)
    np.testing.assert_allclose(scaling.apply(X)[:, 1], 0, atol=1e-12)
    assert scaling.apply(X + np.array([0, 1.0]))[0, 1] == pytest.approx(1 / scaling.scale[1])
    if mode == "feature":
        assert scaling.scale[1] == 1
    assert isinstance(scaling, Scaling)
