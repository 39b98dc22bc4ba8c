"""Laws of the networks, and of the start that makes them principal component analysis."""

import copy
import itertools
import math
import pickle
import re

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback
from torch import nn

from sklearn_wiseale import WiSEALETransformer, load
from sklearn_wiseale.likelihoods import LIKELIHOODS, Gaussian
from sklearn_wiseale.networks import MLP, Conv, Modules

ACTIVATIONS = ["silu", "relu", "gelu", "tanh", "elu"]


class Encoder(nn.Module):
    """A class as Modules takes it."""

    def __init__(self, n_features, n_components):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_features, 8), nn.Tanh())
        self.mean, self.log_var = nn.Linear(8, n_components), nn.Linear(8, n_components)

    def forward(self, x):
        hidden = self.layers(x)
        return torch.cat([self.mean(hidden), self.log_var(hidden)], dim=1)


class LinearStart(nn.Linear):
    """A module that takes part in the start as principal component analysis."""

    def start_linear(self, weight, bias):
        with torch.no_grad():
            self.weight.copy_(weight)
            self.bias.copy_(bias)


def linear_encoder(n_features, n_components):
    return LinearStart(n_features, 2 * n_components)


def decoder(n_components, n_outputs):
    return nn.Sequential(nn.Linear(n_components, 8), nn.Tanh(), nn.Linear(8, n_outputs))


WITH_SKIP = [
    MLP(hidden=(6, 4)),
    MLP(hidden=[5]),
    MLP(hidden=()),
    MLP(hidden=(6, 4), dropout=0.5),
    *(MLP(hidden=(4,), activation=activation) for activation in ACTIVATIONS),
    Conv(image_shape=(1, 8, 8)),
    Conv(image_shape=(3, 9, 8), channels=(4, 6)),
    Conv(image_shape=[2, 8, 11], channels=[1], activation="tanh"),
    Modules(encoder=linear_encoder, decoder=LinearStart),
]
WITHOUT_SKIP = [
    MLP(hidden=(6, 4), linear_skip=False),
    MLP(hidden=np.array([5]), linear_skip=False),
    Conv(image_shape=(2, 8, 9), channels=np.array([3, 2]), linear_skip=False),
]
#: Networks that have no ``start_linear``.
AS_GIVEN = [Modules(encoder=Encoder, decoder=decoder)]
CASES = WITH_SKIP + WITHOUT_SKIP + AS_GIVEN


def name_of(network):
    """The same in every process, which the addresses in a repr are not."""
    return re.sub(" at 0x[0-9a-f]+", "", repr(network))


each_network = pytest.mark.parametrize("network", CASES, ids=name_of)
each_with_skip = pytest.mark.parametrize("network", WITH_SKIP, ids=name_of)
pytestmark = [
    pytest.mark.usefixtures("float64_modules"),
    # a network that does not start as PCA may need more than the few epochs of these fits
    pytest.mark.filterwarnings("ignore:Of . components only"),
]


def sizes(network):
    """Features, components and outputs of a case."""
    n_pixels = math.prod(getattr(network, "image_shape", ()))
    return (n_pixels, 3, 2 * n_pixels) if isinstance(network, Conv) else (7, 3, 11)


def built(network):
    return network.build(*sizes(network))


def parts_of(network):
    """Encoder and decoder, with the lengths of their inputs and outputs."""
    n_features, k, n_outputs = sizes(network)
    encoder, decoder = built(network)
    return [(encoder, n_features, 2 * k), (decoder, k, n_outputs)]


def rows_of(n, n_features, seed=0):
    return torch.from_numpy(np.random.RandomState(seed).standard_normal((n, n_features)))


def linear_map(n_in, n_out, seed=0):
    rng = np.random.RandomState(seed)
    return torch.from_numpy(rng.standard_normal((n_out, n_in))), torch.from_numpy(rng.rand(n_out))


# networks -------------------------------------------------------------------------------------


@each_network
def test_shapes_and_precisions(network):
    for dtype in (torch.float32, torch.float64):
        for part, n_in, n_out in parts_of(network):
            output = part.to(dtype)(100 * rows_of(5, n_in).to(dtype))
            assert output.shape == (5, n_out)
            assert output.dtype == dtype
            assert torch.isfinite(output).all()


@each_network
def test_each_build_has_its_own_weights_drawn_by_the_seed(network):
    def weights(seed):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return [p for part in built(network) for p in part.parameters()]

    first, second, other = weights(0), weights(0), weights(1)
    assert len(set(map(id, first + second))) == 2 * len(first)
    assert all(map(torch.equal, first, second))
    assert not all(map(torch.equal, first, other))


@each_network
def test_rows_are_mapped_one_by_one(network):
    for part, n_in, _ in parts_of(network):
        x = rows_of(6, n_in)
        part.eval()
        one_by_one = torch.cat([part(row[None]) for row in x])
        torch.testing.assert_close(part(x), one_by_one, rtol=1e-12, atol=1e-12)


@each_with_skip
def test_started_network_is_the_linear_map(network):
    for part, n_in, n_out in parts_of(network):
        weight, bias = linear_map(n_in, n_out)
        part.start_linear(weight, bias)
        x = 100 * rows_of(5, n_in)
        for mode in (True, False):  # dropout changes nothing either
            output = part.train(mode)(x)
            torch.testing.assert_close(output, x @ weight.T + bias, rtol=1e-12, atol=1e-11)


@each_network
def test_started_network_learns_with_every_parameter(network):
    for part, n_in, n_out in parts_of(network):
        if hasattr(part, "start_linear"):
            part.start_linear(*linear_map(n_in, n_out))
        part.eval()
        x, target = rows_of(50, n_in), rows_of(50, n_out, seed=1).square()
        optimizer = torch.optim.SGD(part.parameters(), lr=1e-3)
        losses = []
        for _ in range(2):  # the layers before a last one of zeros have a gradient after one step
            loss = (part(x) - target).square().mean()
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert losses[1] < losses[0]
        assert all(parameter.grad.abs().max() > 0 for parameter in part.parameters())


@pytest.mark.parametrize("network", WITHOUT_SKIP, ids=name_of)
def test_without_skip_the_start_is_the_bias(network):
    for part, n_in, n_out in parts_of(network):
        x = rows_of(5, n_in)
        weight, bias = linear_map(n_in, n_out)
        part.start_linear(weight, torch.zeros(n_out))
        at_zero = part(x)
        part.start_linear(weight, bias)
        expected = bias.expand(5, n_out)
        torch.testing.assert_close(part(x) - at_zero, expected, rtol=1e-12, atol=1e-12)


def test_without_hidden_layers_the_network_is_linear():
    for part, n_in in zip(MLP(hidden=()).build(7, 3, 11), (7, 3), strict=True):
        x, y = 3 * rows_of(4, n_in), 3 * rows_of(4, n_in, seed=1)
        bend = part(x + y) - part(x) - part(y) + part(torch.zeros_like(x))
        assert bend.abs().max() < 1e-12


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


# images ---------------------------------------------------------------------------------------

IMAGE_SHAPES = [
    *((1, 8, 8), (3, 8, 8), (1, 9, 9), (1, 8, 31), (2, 17, 8), (3, 12, 21)),
    *((1, 28, 28), (3, 32, 32), (1, 33, 47), (3, 64, 64)),
]


@pytest.mark.parametrize("image_shape", IMAGE_SHAPES, ids=str)
@pytest.mark.parametrize("channels", ["auto", (2, 2, 2)])
def test_conv_maps_images_of_every_size(image_shape, channels):
    n_pixels = math.prod(image_shape)
    encoder, decoder = Conv(image_shape, channels).build(n_pixels, 2, n_pixels)
    assert encoder(rows_of(2, n_pixels)).shape == (2, 4)
    assert decoder(rows_of(2, 2)).shape == (2, n_pixels)


def conv_layers(part):
    return [layer for layer in part.modules() if isinstance(layer, nn.Conv2d)]


def maps_of(part, x):
    """Outputs of the convolutions for one batch."""
    maps = []
    for layer in conv_layers(part):
        layer.register_forward_hook(lambda layer, x, y, maps=maps: maps.append(y))
    part(x)
    return maps


@pytest.mark.parametrize(
    ("side", "channels", "smallest"),
    [
        (8, (32,), 4),
        (15, (32, 64), 4),
        (28, (32, 64), 7),
        (29, (32, 64, 128), 4),
        (64, (32, 64, 128, 128), 4),
        (96, (32, 64, 128, 128), 6),
    ],
)
def test_auto_channels_halve_until_few_pixels_are_left(side, channels, smallest):
    image_shape = (1, side, 2 * side)
    encoder, decoder = Conv(image_shape=image_shape).build(2 * side**2, 2, 2 * side**2)
    assert tuple(layer.out_channels for layer in conv_layers(encoder)) == channels
    assert maps_of(encoder, rows_of(1, 2 * side**2))[-1].shape[2] == smallest
    assert conv_layers(decoder)[0].in_channels == channels[-1]


def test_decoder_has_the_sizes_of_the_encoder_in_reverse():
    network = Conv(image_shape=(2, 13, 22), channels=(3, 4, 5), linear_skip=False)
    down, up = (
        [tuple(y.shape[2:]) for y in maps_of(part, rows_of(1, n_in))]
        for part, n_in in zip(network.build(572, 2, 572), (572, 2), strict=True)
    )
    assert down == [(7, 11), (4, 6), (2, 3)]
    assert up == [(4, 6), (7, 11), (13, 22), (13, 22)]


def test_rows_are_images_in_c_order():
    """A pixel of a row reaches the codes through those of the first map that are beside it."""
    network = Conv(image_shape=(2, 9, 12), channels=(1,), linear_skip=False)
    encoder, _ = network.build(216, 2, 216)
    image = torch.zeros(2, 9, 12)
    (black,) = maps_of(encoder, image.reshape(1, -1))
    image[1, 4, 6] = 1.0
    (one_pixel,) = maps_of(encoder, image.reshape(1, -1))
    assert (one_pixel - black)[0, 0].nonzero().tolist() == [[2, 3]]


def test_maps_of_several_numbers_a_pixel_come_one_after_the_other():
    """The same weights for the second half of the maps give the same second half of outputs."""
    _, decoder = Conv(image_shape=(3, 8, 9), channels=(4,), linear_skip=False).build(216, 2, 432)
    last = conv_layers(decoder)[-1]
    with torch.no_grad():
        last.weight[3:] = last.weight[:3]
    output = decoder(rows_of(4, 2))
    assert output.std() > 0
    torch.testing.assert_close(output[:, :216], output[:, 216:], rtol=0, atol=1e-14)


def test_conv_has_the_gradient_of_its_function():
    network = Conv(image_shape=(1, 8, 9), channels=(2,), linear_skip=False)
    encoder, decoder = network.build(72, 1, 72)
    assert torch.autograd.gradcheck(encoder, rows_of(1, 72).requires_grad_())
    assert torch.autograd.gradcheck(decoder, rows_of(1, 1).requires_grad_())


def test_rows_in_chunks_are_mapped_as_all_at_once():
    parts = Conv(image_shape=(3, 64, 64), linear_skip=False).build(12288, 2, 12288)
    for part, n_in in zip(parts, (12288, 2), strict=True):
        assert part.chunk == 128
        x = rows_of(5, n_in)
        at_once = part(x).detach()
        part.chunk, lengths = 2, []
        part.layers.register_forward_hook(lambda layer, args, y, n=lengths: n.append(len(y)))
        with torch.no_grad():
            torch.testing.assert_close(part(x), at_once, rtol=1e-12, atol=1e-12)
        assert lengths == [2, 2, 1]


def test_activations_stay_small():
    """What a step on 64 x 64 pixels in colour keeps for its backward pass, float32, a batch of 128.

    Two rows stand for the batch.
    """
    held = 0

    def count(tensor):
        nonlocal held
        held += tensor.numel() * (tensor.shape[0] == 2)
        return tensor

    encoder, decoder = Conv(image_shape=(3, 64, 64)).build(12288, 16, 12288)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        decoder(encoder(rows_of(2, 12288))[:, :16])
    assert 4 * 64 * held < 400 * 2**20


def test_outputs_that_make_no_images_are_refused():
    with pytest.raises(ValueError, match=r"192 outputs or a whole multiple.* asks for 200\."):
        Conv(image_shape=(3, 8, 8)).build(192, 2, 200)
    with pytest.raises(ValueError, match=r"features, 65\. Got \(1, 8, 8\).*makes 64\."):
        Conv(image_shape=(1, 8, 8)).build(65, 2, 65)


# the user's modules ---------------------------------------------------------------------------


def with_norm(n_in, n_out):
    """A module with buffers that a forward pass in training mode changes."""
    return nn.Sequential(nn.Linear(n_in, 5), nn.BatchNorm1d(5), nn.Linear(5, n_out))


class Counter(nn.Linear):
    """A module with a buffer that every forward pass changes."""

    def __init__(self, n_in, n_out):
        super().__init__(n_in, n_out)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return super().forward(x)


def test_instances_are_copied_and_start_every_build_as_they_are():
    network = Modules(encoder=with_norm(7, 6), decoder=Counter(3, 11))
    given = {
        name: copy.deepcopy(value.state_dict()) for name, value in network.get_params().items()
    }
    for _ in range(2):
        for name, part in zip(("encoder", "decoder"), built(network), strict=True):
            assert part is not getattr(network, name)
            assert part.training
            for state in (part.state_dict(), getattr(network, name).state_dict()):
                assert all(torch.equal(state[key], value) for key, value in given[name].items())
            with torch.no_grad():
                for parameter in part.parameters():
                    parameter += 1


def test_training_mode_is_left_as_it_was():
    encoder = with_norm(7, 6)
    encoder[1].eval()
    part, _ = built(Modules(encoder=encoder, decoder=decoder))
    assert [layer.training for layer in part.modules()] == [True, True, False, True]
    part, _ = built(Modules(encoder=lambda n, k: nn.LazyLinear(2 * k), decoder=decoder))
    assert part.training
    assert part.weight.shape == (6, 7)


def test_a_function_that_returns_one_module_gives_copies():
    module = nn.Linear(7, 6)
    network = Modules(encoder=lambda n, k: module, decoder=decoder)
    parts = [built(network)[0], built(network)[0]]
    assert parts[0] is not parts[1]
    assert module not in parts


def test_layers_that_share_weights_share_them_in_copies():
    encoder = nn.Sequential(nn.Linear(7, 7), nn.Linear(7, 7), nn.Linear(7, 6))
    encoder[1].weight = encoder[0].weight
    network = pickle.loads(pickle.dumps(clone(Modules(encoder=encoder, decoder=decoder))))
    part, _ = built(network)
    assert part[1].weight is part[0].weight


class Recurrent(nn.Module):
    def __init__(self, n_features, n_components):
        super().__init__()
        self.layer = nn.GRU(n_features, 2 * n_components, batch_first=True)

    def forward(self, x):
        return self.layer(x[:, None])[0][:, 0]


def local_class():
    class Local(nn.Linear):
        def __init__(self, n_features, n_components):
            super().__init__(n_features, 2 * n_components)

    return Local


ENCODERS = {
    "class": lambda: Encoder,
    "function": lambda: linear_encoder,
    "lambda": lambda: lambda n, k: nn.Linear(n, 2 * k),
    "local class": local_class,
    "instance": lambda: nn.Linear(7, 6),
    "instance of a local class": lambda: local_class()(7, 3),
    "bfloat16": lambda: nn.Linear(7, 6).to(torch.bfloat16),
    "buffers": lambda: with_norm(7, 6),
    "recurrent": lambda: Recurrent(7, 3),
    "lazy": lambda: nn.LazyLinear(6),
}


@pytest.mark.parametrize("kind", ENCODERS)
def test_modules_survive_clone_and_pickle(kind):
    network = Modules(encoder=ENCODERS[kind](), decoder=decoder)
    copies = [clone(network), pickle.loads(pickle.dumps(network)), copy.deepcopy(network)]
    assert len({joblib.hash(each) for each in [network, *copies]}) == 1
    assert "Modules(" in repr(network)
    for each in copies:
        if not isinstance(network.encoder, nn.Module):
            assert built(each)[0](rows_of(5, 7)).shape == (5, 6)
            continue
        first, second = network.encoder.state_dict(), each.encoder.state_dict()
        assert list(first) == list(second)
        for value, again in zip(first.values(), second.values(), strict=True):
            if not nn.parameter.is_lazy(value):
                assert value.dtype == again.dtype
                assert torch.equal(value, again)
        assert built(each)[0].double().eval()(rows_of(5, 7)).shape == (5, 6)


def test_other_weights_have_another_hash():
    modules = [nn.Linear(7, 6), nn.Linear(7, 6)]
    hashes = {joblib.hash(Modules(encoder=module, decoder=decoder)) for module in modules}
    assert len(hashes) == 2


class Failing(nn.Module):
    def forward(self, x):
        raise RuntimeError("out of ideas")


class Pair(nn.Linear):
    def forward(self, x):
        return super().forward(x), x


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"encoder": max}, TypeError, "'encoder' of Modules must be a torch.nn.Module.*max.* 7"),
        ({"encoder": lambda n: n}, ValueError, "'encoder'.*could not be made by <lambda>.7, 3."),
        ({"encoder": nn.ReLU}, ValueError, "'encoder'.*could not be made by ReLU.*TypeError"),
        (
            {"encoder": nn.Linear(7, 3)},
            ValueError,
            r"'encoder' of Modules must map \(n, 7\) to \(n, 6\): means and log-variances of "
            r"3 components\. Got \(2, 3\) for n = 2\.",
        ),
        (
            {"decoder": nn.Sequential(nn.Linear(3, 8), nn.Unflatten(1, (1, 2, 4)))},
            ValueError,
            r"'decoder' of Modules must map \(n, 3\) to \(n, 11\).*Got \(2, 1, 2, 4\) for n = 2",
        ),
        ({"encoder": nn.Flatten(0)}, ValueError, r"Got \(14,\) for n = 2"),
        ({"encoder": Pair(7, 6)}, ValueError, "Got tuple for n = 2"),
        (
            {"encoder": nn.Linear(8, 6)},
            ValueError,
            r"'encoder' of Modules failed on rows of shape \(2, 7\): RuntimeError: mat1",
        ),
        ({"decoder": Failing()}, ValueError, r"'decoder'.*\(2, 3\): RuntimeError: out of ideas"),
    ],
)
def test_modules_that_do_not_fit_are_named(params, error, message):
    network = Modules(**{"encoder": Encoder, "decoder": decoder} | params)
    with pytest.raises(error, match=message) as raised:
        built(network)
    if "out of ideas" in message:
        assert str(raised.value.__cause__) == "out of ideas"


# in the estimator -----------------------------------------------------------------------------

DIGITS = load_digits().data[:300]
FITTED = {
    "mlp": MLP(hidden=(8,)),
    "conv": Conv(image_shape=(1, 8, 8), channels=(4,)),
    "classes": Modules(encoder=Encoder, decoder=nn.Linear),
    "functions": Modules(encoder=linear_encoder, decoder=decoder),
    "lambdas": Modules(
        encoder=lambda n, k: nn.Linear(n, 2 * k), decoder=lambda k, n: nn.Linear(k, n)
    ),
    "instances": Modules(encoder=with_norm(64, 4).float(), decoder=nn.Linear(2, 64).float()),
}
each_fitted = pytest.mark.parametrize("name", FITTED)


def estimator(name, **params):
    settings = {"max_epochs": 2, "batch_size": 64, "scale": "global", "random_state": 0}
    return WiSEALETransformer(network=FITTED[name], **settings | params)


@each_fitted
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_fit_is_repeatable_and_survives_pickle_and_clone(name, precision):
    model = estimator(name, precision=precision).fit(DIGITS)
    codes = model.transform(DIGITS)
    assert codes.shape == (300, 2)
    assert codes.dtype == precision
    assert {p.dtype for p in model.net_.module_.parameters()} == {getattr(torch, precision)}
    assert np.isfinite(model.inverse_transform(codes)).all()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).transform(DIGITS), codes)
    np.testing.assert_array_equal(clone(model).fit(DIGITS).transform(DIGITS), codes)
    np.testing.assert_array_equal(model.fit(DIGITS).transform(DIGITS), codes)


@each_fitted
def test_training_continues(name):
    model = estimator(name).partial_fit(DIGITS[:150])
    before = model.transform(DIGITS)
    model = pickle.loads(pickle.dumps(model.partial_fit(DIGITS[150:]))).partial_fit(DIGITS)
    assert model.n_samples_seen_ == 600
    assert not np.array_equal(model.transform(DIGITS), before)
    longer = estimator(name, warm_start=True, max_epochs=1).fit(DIGITS).fit(DIGITS)
    assert len(longer.history_) == 2


def test_other_modules_are_refused_while_training_goes_on():
    model = estimator("instances").partial_fit(DIGITS)
    model.set_params(network__decoder=nn.Linear(2, 64))
    with pytest.raises(ValueError, match="'network' parameter of WiSEALETransformer must stay"):
        model.partial_fit(DIGITS)


def test_search_reaches_the_parameters_of_networks():
    grid = [
        {"network": [FITTED["conv"]], "network__channels": [(4,), "auto"]},
        {"network": [FITTED["instances"], FITTED["lambdas"]]},
        {"network": [FITTED["classes"]], "network__decoder": [nn.Linear, decoder]},
    ]
    search = GridSearchCV(estimator("mlp", max_epochs=1), grid, cv=2, error_score="raise")
    search.fit(DIGITS)
    assert len(search.cv_results_["params"]) == 6
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


class Stop(Callback):
    """Interrupts the end of the second epoch, before it is written to a checkpoint."""

    n_epochs = 0

    def on_epoch_end(self, net, **kwargs):
        Stop.n_epochs += 1
        if Stop.n_epochs == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["conv", "instances", "functions"])
def test_a_stopped_fit_continues_from_its_checkpoint(name, tmp_path, monkeypatch):
    """With equal weights elsewhere in memory, as a new process has them."""
    monkeypatch.setattr(Stop, "n_epochs", 0)
    whole = estimator(name, checkpoint=tmp_path / "whole").fit(DIGITS)
    params = {"net_params": {"callbacks": [("stop", Stop())]}}
    first = estimator(name, checkpoint=tmp_path / "stopped", **params)
    second = pickle.loads(pickle.dumps(first))
    with pytest.raises(KeyboardInterrupt):
        first.fit(DIGITS)
    second.fit(DIGITS)
    assert Stop.n_epochs == 3  # of two epochs, one was left
    np.testing.assert_array_equal(second.transform(DIGITS), whole.transform(DIGITS))


def test_number_of_features_and_of_pixels_must_agree():
    with pytest.raises(ValueError, match=r"features, 63\. Got \(1, 8, 8\) instead.*makes 64"):
        estimator("conv").fit(DIGITS[:, :63])


# the start ------------------------------------------------------------------------------------


def table(n=60, n_features=6, rank=None, seed=0):
    """Correlated columns of unequal scale, away from zero, of a given rank."""
    rng = np.random.RandomState(seed)
    rank = rank or n_features
    X = rng.standard_normal((n, rank)) * 0.6 ** np.arange(rank)
    X = X @ rng.standard_normal((rank, n_features))
    return X * np.array([1, 20, 0.1, 3, 1, 0.5, 2, 1])[:n_features] + 5


class Start(Callback):
    """Keeps the module as it is before training."""

    def on_train_begin(self, net, **kwargs):
        self.module = copy.deepcopy(net.module_).eval()


def started(X, n_components, scale="feature", **params):
    """An estimator whose codes and reconstructions are those of the start."""
    still = {"learning_rate": 1e-300, "max_epochs": 1, "early_stopping": False, "random_state": 0}
    still |= {"network": MLP(hidden=(8,)), "precision": "float64", "scale": scale}
    return WiSEALETransformer(n_components, **still | params).fit(X)


def module_at_start(X, n_components, scale="feature", **params):
    """The module at the start, and the rows as it sees them."""
    start = Start()
    started(X, n_components, scale, net_params={"callbacks": [("start", start)]}, **params)
    return start.module, torch.from_numpy(scaled(X, scale))


def scaled(rows, scale, X=None):
    """Rows in the units in which columns of X are used."""
    X = rows if X is None else X
    if scale is None:
        return rows
    std = X.std(axis=0) if scale == "feature" else np.sqrt(X.var(axis=0).mean())
    return (rows - X.mean(axis=0)) / std


def moments_of(posterior):
    """Mean and covariance of the aggregate."""
    mean, std = posterior
    return mean.mean(axis=0), np.cov(mean.T, bias=True) + np.diag((std**2).mean(axis=0))


each_scale = pytest.mark.parametrize("scale", ["feature", "global", None])


@each_scale
@pytest.mark.parametrize("n_components", [1, 3, 6])
def test_start_is_pca_with_the_moments_of_the_prior(scale, n_components):
    X = table()
    model = started(X, n_components, scale)
    x = scaled(X, scale)
    pca = PCA(n_components).fit(x)
    expected = pca.inverse_transform(pca.transform(x))
    back = scaled(model.inverse_transform(model.transform(X)), scale, X)
    np.testing.assert_allclose(back, expected, rtol=0, atol=1e-9 * np.abs(x).max())
    mean, covariance = moments_of(model.posterior(X))
    np.testing.assert_allclose(mean, 0, atol=1e-9)
    np.testing.assert_allclose(covariance, np.eye(n_components), atol=1e-9)


@each_scale
@pytest.mark.parametrize("noise", ["shared", "feature"])
@pytest.mark.parametrize("n_components", [2, 6])
def test_noise_starts_at_the_mean_squared_residual_over_draws(scale, noise, n_components):
    module, x = module_at_start(table(), n_components, scale, likelihood=Gaussian(noise))
    mean, log_var = module.encode(x)
    # the corners of a cube have the moments of a Gaussian up to the third
    corners = itertools.product([-1.0, 1.0], repeat=n_components)
    draws = [mean + (0.5 * log_var).exp() * torch.tensor(corner) for corner in corners]
    squared = torch.stack([(x - module.decoder(z)).square() for z in draws]).mean(dim=(0, 1))
    expected = squared.mean()[None] if noise == "shared" else squared
    found = module.likelihood.noise_std().square()
    torch.testing.assert_close(found, expected.detach(), rtol=1e-8, atol=1e-12)


@each_network
def test_every_network_has_a_start_of_finite_loss(network):
    X = np.random.RandomState(0).standard_normal((60, sizes(network)[0])) + 5
    model = started(X, 3, network=network)
    assert np.isfinite(model.history_[0]["train_loss"])
    assert np.isfinite(model.score(X))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_start_is_better_than_the_column_means(likelihood):
    X = np.eye(6)[table().argsort(axis=0).argmax(axis=1)]  # every likelihood allows it
    scale = "feature" if likelihood == "gaussian" else None
    module, x = module_at_start(X, 3, scale, likelihood=likelihood)
    at_means = module.decoder(torch.zeros(len(x), 3))
    at_codes = module.decoder(module.encode(x).mean)
    log_prob = module.likelihood.log_prob
    assert log_prob(x, at_codes).mean() > log_prob(x, at_means).mean()


def test_bernoulli_starts_at_the_column_means():
    X = (table() > 5) * 1.0
    mean = started(X, 2, None, likelihood="bernoulli").inverse_transform(np.zeros((1, 2)))
    np.testing.assert_allclose(mean[0], X.mean(axis=0), rtol=1e-12)


@pytest.mark.parametrize(
    ("n", "n_features", "rank"), [(60, 6, 2), (60, 3, 3), (4, 6, 6), (2, 6, 6)]
)
def test_components_beyond_the_rank_keep_the_prior_and_are_not_decoded(n, n_features, rank):
    X = table(n, n_features, rank)
    model, used = started(X, 5), min(rank, n - 1)
    mean, std = model.posterior(X)
    assert (mean[:, :used].var(axis=0) > 0).all()
    np.testing.assert_allclose(mean[:, used:], 0, atol=1e-12)
    np.testing.assert_allclose(std[:, used:], 1, atol=1e-12)
    moved = mean + 10 * (np.arange(5) >= used)
    back = model.inverse_transform(mean)
    np.testing.assert_allclose(model.inverse_transform(moved), back, rtol=1e-12)
    np.testing.assert_allclose(scaled(back, "feature", X), scaled(X, "feature"), atol=1e-6)
    centre, covariance = moments_of((mean, std))
    np.testing.assert_allclose(centre, 0, atol=1e-8)
    np.testing.assert_allclose(covariance, np.eye(5), atol=1e-8)


@pytest.mark.parametrize("value", [0.0, 7.0, 0.1])
def test_rows_that_are_all_equal_start_at_the_prior(value):
    X = np.full((9, 4), value)
    model = started(X, 2)
    for rows in (X, X + 1):
        mean, std = model.posterior(rows)
        np.testing.assert_allclose(mean, 0, atol=1e-12)
        np.testing.assert_allclose(std, 1, atol=1e-12)
    assert np.isfinite(model.score(X))


@each_scale
def test_columns_are_scaled_by_their_deviations(scale):
    """The noise of unit variance, in the units of the columns, is the scale."""
    X = np.column_stack([table(), np.full(60, 0.1)])
    model = started(X, 2, scale, likelihood=Gaussian(1.0))
    std = X.std(axis=0)
    expected = {"feature": np.where(std > 1e-12, std, 1), "global": np.sqrt(X.var(axis=0).mean())}
    wanted = np.broadcast_to(expected.get(scale, 1.0), 7)
    np.testing.assert_allclose(model.noise_scale_, wanted, rtol=1e-12)
    at_zero = model.inverse_transform(np.zeros((1, 2)))[0]
    np.testing.assert_allclose(at_zero, X.mean(axis=0), rtol=1e-9)
    assert at_zero[-1] == 0.1


# images as arrays -----------------------------------------------------------------------------


IMAGES = DIGITS.reshape(-1, 1, 8, 8)


def test_images_come_back_in_their_shape():
    of_images, of_rows = (estimator("conv").fit(X) for X in (IMAGES, DIGITS))
    codes = of_images.transform(IMAGES)
    np.testing.assert_array_equal(codes, of_rows.transform(DIGITS))
    for given in (DIGITS, torch.from_numpy(IMAGES)):  # either kind may be used later
        np.testing.assert_array_equal(of_images.transform(given), codes)
    np.testing.assert_array_equal(of_rows.transform(IMAGES), codes)
    rebuilt = of_images.inverse_transform(codes)
    assert rebuilt.shape == IMAGES.shape
    np.testing.assert_array_equal(rebuilt.reshape(-1, 64), of_rows.inverse_transform(codes))
    assert of_images.sample(3, random_state=0).shape == (3, 1, 8, 8)
    assert of_rows.sample(3, random_state=0).shape == (3, 64)
    np.testing.assert_array_equal(of_images.score_samples(IMAGES), of_rows.score_samples(DIGITS))
    assert of_images.n_features_in_ == 64
    assert of_images.set_output(transform="pandas").transform(IMAGES[:2]).shape == (2, 2)


def test_images_in_chunks_and_after_a_pickle():
    chunks = estimator("conv")
    for part in (IMAGES[:150], IMAGES[150:]):
        chunks.partial_fit(part)
    assert chunks.inverse_transform(chunks.transform(IMAGES)).shape == IMAGES.shape
    again = pickle.loads(pickle.dumps(chunks))
    assert again.inverse_transform(again.transform(IMAGES)).shape == IMAGES.shape


def test_images_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"image_shape=\(1, 8, 8\).*Got \(300, 8, 8, 1\)"):
        estimator("conv").fit(IMAGES.reshape(-1, 8, 8, 1))
    with pytest.raises(ValueError, match="dim 4"):
        WiSEALETransformer(2).fit(IMAGES)


# layers by the size of the data ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "widths"),
    [((10_000, 256), [512, 256, 128]), ((9_999, 256), [256, 256]), ((10_000, 255), [256, 256])],
)
def test_automatic_layers_are_those_documented(shape, widths, tmp_path):
    X = np.random.RandomState(0).standard_normal(shape).astype(np.float32)
    params = {"max_epochs": 1, "random_state": 0, "warm_start": True}
    reducer = WiSEALETransformer(2, **params).fit(X)
    layers = reducer.net_.module_.encoder.layers
    assert [layer.out_features for layer in layers if isinstance(layer, nn.Linear)] == widths
    told = WiSEALETransformer(2, network=MLP(hidden=widths), **params).fit(X)
    few = X[:200]
    np.testing.assert_array_equal(reducer.transform(few), told.transform(few))
    # the layers stay when training goes on with fewer rows, and in files
    reducer.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.transform(few), reducer.transform(few))
    for model in (reducer, loaded):
        model.fit(few)
        assert [layer.out_features for layer in model.net_.module_.encoder.layers[::2]] == widths
    assert MLP().for_data(*shape).hidden == tuple(widths)
