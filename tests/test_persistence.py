"""A file gives back the same estimator as a pickle, and runs no code."""

import copy
import os
import pickle
import pickletools
import resource
from importlib import metadata
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from fuzzing import DROP, change, take_apart
from safetensors.torch import save_file
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from skorch.callbacks import Callback
from torch import nn

from sklearn_wiseale import WiSEALETransformer, load
from sklearn_wiseale.likelihoods import (
    LIKELIHOODS,
    Categorical,
    Gaussian,
    Mixed,
    NegativeBinomial,
    Poisson,
)
from sklearn_wiseale.networks import MLP, Conv, Modules
from sklearn_wiseale.objectives import ELBO, OBJECTIVES, WiSEALE

N, D = 50, 8
HUGE = 10**12


def encoder(n_features, n_components):
    return nn.Sequential(nn.Linear(n_features, 6), nn.Tanh(), nn.Linear(6, 2 * n_components))


def decoder(n_components, n_outputs):
    return nn.Sequential(nn.Linear(n_components, 6), nn.BatchNorm1d(6), nn.Linear(6, n_outputs))


class OwnObjective(ELBO):
    pass


class OwnLikelihood(Gaussian):
    pass


class OwnNetwork(MLP):
    pass


class OwnTransformer(WiSEALETransformer):
    pass


def reducer(**params):
    defaults = {"network": MLP(hidden=(6,)), "max_epochs": 2, "random_state": 0}
    return WiSEALETransformer(**{**defaults, **params})


MIXED = Mixed(
    [
        (Categorical(), np.array([5, 0, 6])),
        (Gaussian("feature"), slice(1, 3)),
        (Poisson(), [3, 7]),
        (NegativeBinomial(np.float32(0.3)), range(4, 5)),
    ]
)
TWIST = np.random.RandomState(3)
TWIST.standard_normal(3)

CASES = {
    **{name: {"objective": name} for name in OBJECTIVES},
    "renyi": {"objective": WiSEALE("renyi", weight=np.float64(2), width=np.int64(30))},
    **{name: {"likelihood": name} for name in LIKELIHOODS},
    "noise of features": {"likelihood": Gaussian(noise="feature"), "scale": "global"},
    "fixed noise": {"likelihood": Gaussian(noise=0.5), "scale": None},
    "blocks": {"likelihood": Categorical(sizes=[3, 5])},
    "mixed": {"likelihood": MIXED},
    "linear": {"network": MLP(hidden=())},
    "no skip": {"network": MLP(hidden=(5, 4), activation="tanh", linear_skip=False, dropout=0.1)},
    "default network": {"network": "mlp"},
    "conv": {"network": Conv((1, 8, 8), channels=(3,)), "scale": "global"},
    "images": {"network": Conv((1, 8, 8), (3, 2), "elu"), "scale": "global"},
    "missing": {"early_stopping": False},
    "float64": {"precision": "float64"},
    "bfloat16": {"precision": "bfloat16"},
    "no seed": {"random_state": None},
    "random state": {"random_state": TWIST},
    "names": {"n_components": 3, "early_stopping": True, "validation_fraction": 0.3},
    "counts": {"likelihood": "poisson", "precision": "float64"},
    "optimiser": {
        "net_params": {"optimizer__betas": (0.8, 0.99), "callbacks": None},
        "learning_rate": 0.01,
        "batch_size": 16,
    },
    "checkpoint": {"checkpoint": Path("unused-folder"), "verbose": 0},
    "no schedule": {"net_params": {"callbacks__schedule": None}},
}


def rows(case, make_rows):
    likelihood = CASES[case].get("likelihood", "gaussian")
    likelihood = LIKELIHOODS[likelihood]() if isinstance(likelihood, str) else likelihood
    X = make_rows(likelihood, N, 64 if case in ("conv", "images") else D)
    if case == "missing":
        X[np.random.RandomState(1).random_sample(X.shape) < 0.2] = np.nan
    if case == "images":
        return X.reshape(N, 1, 8, 8).astype(np.float32)
    return pd.DataFrame(X, columns=list("abcdefgh")) if case == "names" else X


def pickled(estimator):
    return pickle.loads(pickle.dumps(estimator))


@pytest.fixture(scope="module")
def fitted(make_rows):
    X = make_rows(Gaussian(), N, D)
    return reducer().fit(X), X


@pytest.fixture
def file(fitted, tmp_path):
    fitted[0].save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.fixture
def require_same_training(require_same):
    """Two ways of training give the same, from the same state of the global generator."""

    def train(one, other, X):
        for method in (one, other):
            np.random.seed(0)
            method(X)
        require_same(one.__self__, other.__self__, X)

    return train


# round trips --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_a_file_gives_back_what_a_pickle_does(
    case, make_rows, tmp_path, monkeypatch, require_same, require_same_training
):
    monkeypatch.chdir(tmp_path)
    X = rows(case, make_rows)
    estimator = clone(reducer(**CASES[case]))
    estimator = estimator.partial_fit(X) if case == "counts" else estimator.fit(X)
    path = tmp_path / "model"
    estimator.save(path)
    expected, loaded = pickled(estimator), load(path)
    require_same(loaded, expected, X)
    assert clone(loaded).get_params().keys() == loaded.get_params().keys()
    require_same(pickled(loaded), expected, X)
    loaded.save(str(tmp_path / "again"))
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
    if case != "names":  # partial_fit refuses early_stopping=True
        require_same_training(loaded.partial_fit, expected.partial_fit, X)
    assert {found.name for found in tmp_path.iterdir() if found.is_file()} == {"again", "model"}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_warm_start_goes_on_from_a_file(objective, fitted, tmp_path, require_same_training):
    X = fitted[1]
    estimator = reducer(objective=objective, warm_start=True).fit(X).partial_fit(X)
    estimator.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    require_same_training(loaded.fit, pickled(estimator).fit, X)
    with pytest.raises(ValueError, match=r"'n_components' parameter .* must stay 2"):
        loaded.set_params(n_components=3).fit(X)


def test_parameters_changed_since_the_fit(fitted, tmp_path, require_same, require_same_training):
    estimator, X = copy.deepcopy(fitted[0]), fitted[1]
    net_params = {"optimizer__weight_decay": 0.5}
    changed = {"n_components": 5, "objective": ELBO(3), "net_params": net_params, "scale": None}
    estimator.set_params(**changed, network=Conv((1, 8, 8))).save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    require_same(loaded, estimator, X)
    assert loaded.net_.get_params()["optimizer__weight_decay"] == 1e-2
    original = fitted[0].get_params(deep=False)
    loaded, expected = (model.set_params(**original) for model in (loaded, pickled(estimator)))
    require_same_training(loaded.partial_fit, expected.partial_fit, X)


def test_output_container_is_kept(fitted, tmp_path):
    estimator = copy.deepcopy(fitted[0]).set_output(transform="pandas")
    estimator.save(tmp_path / "model")
    codes = load(tmp_path / "model").transform(fitted[1])
    pd.testing.assert_frame_equal(codes, estimator.transform(fitted[1]))


def test_global_generators_are_left_alone(file):
    before = torch.get_rng_state(), str(np.random.get_state(legacy=False))
    load(file)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == str(np.random.get_state(legacy=False))


def test_nothing_is_unpickled(file, fitted, monkeypatch, require_same):
    load(file)  # imports what torch imports late

    def refuse(*args, **kwargs):
        raise AssertionError("unpickled")

    with monkeypatch.context() as patch:
        for module in (pickle, torch, joblib):
            for name in ("load", "loads", "Unpickler", "_Unpickler", "_load", "_loads"):
                if hasattr(module, name):
                    patch.setattr(module, name, refuse)
        loaded = load(file)
    require_same(loaded, pickled(fitted[0]), fitted[1])


def test_pickle_has_no_filled_sets_whose_order_may_change(fitted):
    """Equal estimators have equal pickles, whatever the hashes of strings."""
    opcodes = pickletools.genops(pickle.dumps(fitted[0].net_, protocol=4))
    assert not {"FROZENSET", "ADDITEMS"} & {opcode.name for opcode, _, _ in opcodes}


def test_file_is_little_more_than_the_weights(tmp_path):
    X = np.random.RandomState(0).random_sample((60, 784))
    estimator = WiSEALETransformer(max_epochs=10, random_state=0).fit(X)
    estimator.save(tmp_path / "model")
    size = (tmp_path / "model").stat().st_size
    weights = sum(4 * part.numel() for part in estimator.net_.module_.state_dict().values())
    assert weights < size < weights + 50_000


def test_header_names_the_contents(file, fitted):
    header = take_apart(file.read_bytes())[1]
    assert header["kind"] == "estimator"
    assert header["class"] == "WiSEALETransformer"
    assert header["versions"]["torch"] == metadata.version("torch")
    assert set(header["parameters"]) == set(fitted[0].get_params(deep=False))
    assert header["parameters"]["network"] == {
        "part": ["MLP", {**MLP().get_params(), "hidden": {"tuple": [6]}}]
    }


# values of parameters -----------------------------------------------------------------------------

#: A parameter of skorch's net that takes any value.
FREE = "torch_load_kwargs"
VALUES = [
    *(None, True, 2**70, 0.1 + 0.2, float("inf"), "ü\n", [1, [2.0, None]], (), (1, (2, [3]))),
    *({"a": (1,), "tuple": [1]}, slice(None, 3, np.int64(2)), range(3, 9, 2)),
    *(np.float32(0.1), np.float64(1e-300), np.int8(-3), np.uint64(2**64 - 1), np.bool_(True)),
    *(np.str_("text"), np.array([[1.5, np.inf]], np.float32), np.array(3)),
    *(np.zeros((0, 4), ">i4"), np.array([True, False]), np.dtype(np.float32), np.dtype(">f8")),
    *(np.int16, Path("a") / "b"),
    Mixed(
        [(Gaussian(noise=np.float32(0.1)), slice(0, 5)), (Categorical((2, 3)), np.arange(5, 10))]
    ),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_come_back_exactly(value, fitted, tmp_path):
    fitted[0].set_params(net_params={FREE: value}).save(tmp_path / "model")
    fitted[0].set_params(net_params=None)
    found = load(tmp_path / "model").net_params[FREE]
    assert type(found) is type(value)
    assert repr(found) == repr(value)
    if isinstance(value, np.ndarray):
        assert (found.dtype, found.shape) == (value.dtype, value.shape)
        np.testing.assert_array_equal(found, value)
    if isinstance(value, np.float32 | np.float64):
        assert found == value


@pytest.mark.parametrize("n_draws", [0, 1, 700])
def test_random_states_come_back_exactly(n_draws, fitted, tmp_path):
    state = np.random.RandomState(5)
    state.standard_normal(n_draws)
    copy.deepcopy(fitted[0]).set_params(random_state=state).save(tmp_path / "model")
    again = load(tmp_path / "model").random_state
    assert np.array_equal(again.standard_normal(9), state.standard_normal(9))


@pytest.mark.parametrize(
    ("net_params", "name"),
    [
        *(
            ({FREE: {"x": [value]}}, f"net_params['{FREE}']['x'][0]")
            for value in (
                *(object(), print, {1: 2}, {1, 2}, b"bytes", 1j, np.array([None])),
                *(np.datetime64("2020"), np.datetime64, OwnObjective()),
                np.random.RandomState(np.random.PCG64(0)),
            )
        ),
        ({"optimizer": torch.optim.SGD}, "net_params['optimizer']"),
        ({"callbacks": [Callback()]}, "net_params['callbacks'][0]"),
        ({"compile": True, "compile__options": {"cpp.cxx": (None, "evil")}}, "compile__options"),
        ({"compile": True, "compile__backend": "evil"}, "compile__backend"),
    ],
)
def test_values_that_cannot_be_stored_are_named(net_params, name, fitted, tmp_path):
    """Options of torch's compiler may name the program that it calls."""
    estimator = copy.copy(fitted[0]).set_params(net_params=net_params)
    with pytest.raises(ValueError, match="cannot be stored") as error:
        estimator.save(tmp_path / "model")
    assert name in str(error.value)
    assert not list(tmp_path.iterdir())


def refused(path, match=""):
    """Loading raises a ValueError that names the file, soon and without much memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=f"(?s){path.name}'.*{match}"):
        load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 200_000  # kB


@pytest.mark.parametrize(
    "content",
    [
        *({}, {"tuple": [1], "list": []}, {"tuple": 3}, {"object": "os.system"}),
        *({"part": content} for content in (["Modules", {}], ["system", {}], "MLP")),
        {"part": ["MLP", {"command": "x"}]},
        *({"dict": [["a"]]}, {"dict": [[1, 2]]}, {"slice": [1]}),
        *({"range": ends} for ends in ([0, HUGE, 1], [0, 1.5, 1], [0, 5, 0])),
        *({"array": ["<f8", shape, [1.0]]} for shape in ([HUGE], [-1, -1])),
        *({"array": content} for content in (["<f8", [1], ["1"]], ["|O", [1], [1]])),
        {"array": ["|i1", [1], [300]]},
        *({"numpy": ["<f8", [1.0]]}, {"numpy": ["<U1000000000", "a"]}, {"path": 3}),
        *({"dtype": "O"}, {"numpy_type": "object"}),
        {"random_state": [[1] * 624, 10**6, 0, 0.0]},
        *({"random_state": [words, 0, 0, 0.0]} for words in ([1] * 623, [-1] * 624)),
    ],
    ids=repr,
)
def test_contents_that_nobody_wrote_are_refused(content, file):
    whole = file.read_bytes()
    for value in (content, [{"tuple": [content]}]):
        net_params = {"dict": [[FREE, value]]}
        file.write_bytes(change(whole, "parameters/net_params", net_params))
        refused(file, "it ")


@pytest.mark.parametrize("where", ["parameters", "built"])
@pytest.mark.parametrize("name", ["compile__options", "compile__backend"])
def test_files_name_no_programs(name, where, file):
    evil = {"dict": [["compile", True], [name, {"tuple": [None, "evil"]}]]}
    file.write_bytes(change(file.read_bytes(), f"{where}/net_params", evil))
    refused(file, f"{name}.*may name programs")


def test_loading_compiles_nothing(fitted, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("compiled")

    X = fitted[1]
    params = {"compile": True, "compile__dynamic": True}
    with monkeypatch.context() as patch:
        patch.setattr(nn.Module, "compile", lambda *args, **kwargs: None)
        estimator = reducer(net_params=params).fit(X)
    estimator.save(tmp_path / "model")
    monkeypatch.setattr(nn.Module, "compile", refuse)
    loaded = load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.transform(X), estimator.transform(X))
    assert loaded.net_.compile is True
    with pytest.raises(ValueError, match="compiled"):
        loaded.fit(X)


# parts of the user's own --------------------------------------------------------------------------

OWN = {
    "functions": {"network": lambda: Modules(encoder, decoder)},
    "instances": {"network": lambda: Modules(encoder(D, 2), decoder(2, D))},
    "network": {"network": lambda: OwnNetwork(hidden=(4,))},
    "likelihood": {"likelihood": OwnLikelihood},
    "objective": {"objective": OwnObjective},
    "mixed": {
        "likelihood": lambda: Mixed([(OwnLikelihood(), slice(3)), (Gaussian(), range(3, D))])
    },
    "all": {
        "network": lambda: Modules(encoder, decoder),
        "likelihood": OwnLikelihood,
        "objective": OwnObjective,
    },
}


@pytest.mark.parametrize("case", OWN)
def test_own_code_is_handed_back(case, fitted, tmp_path, require_same, require_same_training):
    X = fitted[1]
    with torch.random.fork_rng():
        torch.manual_seed(0)  # for modules that are built here
        estimator = reducer(**{name: make() for name, make in OWN[case].items()})
    estimator.fit(X).save(tmp_path / "model")
    name = next(iter(OWN[case]))
    kind = type(getattr(estimator, name)).__name__
    with pytest.raises(ValueError, match=rf"(?s)model'.*its .* not stored.*{name}={kind}\("):
        load(tmp_path / "model")
    loaded = load(tmp_path / "model", **{name: make() for name, make in OWN[case].items()})
    expected = pickled(estimator)
    if case == "instances":  # no file has the weights that a fit begins with
        loaded.network = expected.network
    require_same(loaded, expected, X)
    if case != "instances":
        require_same_training(loaded.partial_fit, expected.partial_fit, X)


def test_parts_that_do_not_fit_are_refused(fitted, file, tmp_path):
    reducer(network=Modules(encoder, decoder)).fit(fitted[1]).save(tmp_path / "model")

    def wide(n_features, n_components):
        return nn.Sequential(nn.Linear(n_features, 7), nn.Tanh(), nn.Linear(7, 2 * n_components))

    for wrong in (Modules(wide, decoder), Modules(encoder, encoder), MLP(), MLP):
        with pytest.raises(ValueError, match="model' cannot be loaded"):
            load(tmp_path / "model", network=wrong)
    with pytest.raises(ValueError, match="its network cannot be handed back"):
        load(file, network=MLP())


class Annotated(nn.Linear):
    """A layer whose state is no tensor."""

    def get_extra_state(self):
        return object()

    def set_extra_state(self, state):
        pass


def test_what_is_not_saved(fitted, tmp_path):
    estimator = reducer(network=Modules(encoder, Annotated)).fit(fitted[1])
    with pytest.raises(ValueError, match=r"_extra_state'\] cannot be stored"):
        estimator.save(tmp_path / "model")
    with pytest.raises(ValueError, match="OwnTransformer cannot be saved"):
        OwnTransformer(max_epochs=1).fit(fitted[1]).save(tmp_path / "model")
    with pytest.raises(NotFittedError):
        reducer().save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


class Interrupt(Callback):
    def on_epoch_end(self, net, **kwargs):
        raise KeyboardInterrupt


def test_an_interrupted_fit_is_stored_as_far_as_it_came(fitted, tmp_path):
    estimator = reducer(net_params={"callbacks": [Interrupt()]})
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(fitted[1])
    estimator.set_params(net_params=None).save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert hasattr(fitted[0], "aggregate_kl_bounds_")
    assert not hasattr(loaded, "aggregate_kl_bounds_")
    assert np.array_equal(loaded.transform(fitted[1]), estimator.transform(fitted[1]))


# devices ------------------------------------------------------------------------------------------


def test_device_is_kept_or_replaced(fitted, file):
    assert load(file).device == "auto"
    assert load(file, device="cpu").device == "cpu"
    assert load(file, "cpu").net_.device == "cpu"
    for wrong in ("abacus", "meta", "cuda:77", "hpu"):
        with pytest.raises(ValueError, match="'device' parameter"):
            load(file, device=wrong)
    copy.deepcopy(fitted[0]).set_params(device="cpu").save(file)
    assert load(file).device == "cpu"


@pytest.mark.parametrize("device", ["cuda:77", "hpu"])  # absent; torch has no code for it
def test_file_from_another_device_loads(device, file, fitted):
    file.write_bytes(change(file.read_bytes(), "parameters/device", device))
    loaded = load(file)
    assert loaded.device == "auto"
    np.testing.assert_array_equal(loaded.transform(fitted[1]), fitted[0].transform(fitted[1]))


def test_net_on_another_device_is_stored_as_on_the_cpu(
    fitted, tmp_path, require_same, require_same_training
):
    """Here the device is one in name only."""
    elsewhere, X = copy.deepcopy(fitted[0]), fitted[1]
    elsewhere.net_.device = "cuda"
    elsewhere.save(tmp_path / "model")
    loaded, unpickled = load(tmp_path / "model"), pickled(elsewhere)
    assert elsewhere.net_.device == "cuda"
    assert loaded.net_.device == unpickled.net_.device == "cpu"
    require_same(loaded, unpickled, X)
    require_same(loaded, pickled(fitted[0]), X)
    require_same_training(loaded.partial_fit, unpickled.partial_fit, X)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_file_from_a_gpu(fitted, tmp_path, require_same):
    estimator = reducer(device="cuda").fit(fitted[1])
    estimator.save(tmp_path / "model")
    assert load(tmp_path / "model").device == "cuda"
    require_same(load(tmp_path / "model"), pickled(estimator), fitted[1])
    on_cpu = load(tmp_path / "model", device="cpu")
    assert on_cpu.net_.device == "cpu"
    require_same(on_cpu, pickled(estimator).set_params(device="cpu"), fitted[1])


# damaged files -----------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="needs permissions as POSIX has them")
def test_file_has_the_permissions_of_new_files(file, tmp_path):
    (tmp_path / "other").write_text("")
    assert file.stat().st_mode == (tmp_path / "other").stat().st_mode


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("exploded"),)


@pytest.mark.parametrize("kind", ["pickle", "torch", "joblib", "empty", "text", "zeros", "header"])
def test_files_of_other_kinds(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "file"
    with pytest.raises(FileNotFoundError):
        load(path)
    if kind == "torch":
        torch.save(Bomb(), path)
    elif kind == "joblib":
        joblib.dump(Bomb(), path)
    else:
        of_kind = {"pickle": pickle.dumps(Bomb()), "text": b"a text " * 99, "zeros": bytes(99)}
        of_kind["header"] = (2**62).to_bytes(8, "little") + b"{}"
        path.write_bytes(of_kind.get(kind, b""))
    refused(path)
    assert not Path("exploded").exists()
    refused(tmp_path)  # a directory


def test_truncated_file(file):
    content = file.read_bytes()
    for length in (1, 8, 100, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        refused(file, "damaged")
    file.write_bytes(content + b"more")
    refused(file, "damaged")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        *((text, "another kind") for text in (None, "{", "[" * 10**5)),
        *((text, "format version") for text in ("[1]", "{}", '{"format_version": NaN}')),
        *((f'{{"format_version": {v}}}', "another release") for v in (0, 1, 3, '"2"', "null")),
        ('{"format_version": 2}', "of the kind 'estimator'"),
        ('{"format_version": 2, "kind": "checkpoint"}', "'checkpoint'"),
        ('{"format_version": 2, "kind": "estimator", "state": {"dict": []}}', "the class None"),
    ],
)
def test_foreign_headers(text, match, tmp_path):
    headers = [None, {"format": "pt"}] if text is None else [{"sklearn_wiseale": text}]
    for header in headers:
        save_file({"a": torch.ones(1)}, tmp_path / "file", metadata=header)
        refused(tmp_path / "file", match)


def stored(value):
    """A parameter or a part as files have it."""
    if isinstance(value, tuple):
        return {"tuple": list(map(stored, value))}
    if isinstance(value, slice):
        return {"slice": [value.start, value.stop, value.step]}
    if isinstance(value, list):
        return list(map(stored, value))
    if not hasattr(value, "get_params"):
        return value
    params = {name: stored(part) for name, part in value.get_params(deep=False).items()}
    return {"part": [type(value).__name__, params]}


NETWORK, LIKELIHOOD, WEIGHT = "built/network", "built/likelihood", "module/encoder.skip.weight"
#: An entry of a file, its value, and a part of the message. The value is of the right type, or
#: the message is a promise: all other wrong types are tested in test_fuzz.py.
CHANGES = [
    ("class", "Popen", "the class 'Popen'"),
    ("class", 3, "the class 3"),
    ("attributes", DROP, "'attributes' must be a dict"),
    ("parameters", [], "'parameters' must be a dict"),
    ("parameters/shell", 1, "shell"),
    ("built/shell", 1, "shell"),
    ("attributes/shell", 1, "shell"),
    ("built/scale", DROP, "scale"),
    (NETWORK, {"part": ["Popen", {}]}, "Popen"),
    (NETWORK, {"part": ["ELBO", {}]}, "'network' parameter"),
    (NETWORK, {"part": ["Modules", {"encoder": 1}]}, "Modules"),
    (NETWORK, {"handed_back": 3}, "handed_back that cannot be read"),
    (NETWORK, {"handed_back": ["A", "B"]}, "A"),
    *((NETWORK, stored(MLP(hidden=(HUGE,) * n)), "cannot|must have the shape") for n in (1, 2)),
    (NETWORK, stored(MLP(hidden=(6, 6))), "lacks"),
    (NETWORK, stored(MLP(hidden=())), "besides"),
    (NETWORK, stored(MLP(hidden=(float("nan"),))), "hidden"),
    (NETWORK, stored(MLP(activation="system")), "activation"),
    (NETWORK, stored(Conv((1, 8, 8), (HUGE,))), "image_shape"),
    (LIKELIHOOD, stored(Categorical((2, HUGE))), "sum to the number of columns"),
    (LIKELIHOOD, stored(Mixed([(Gaussian(), slice(0, HUGE))] * 2)), "two parts"),
    (LIKELIHOOD, stored(Gaussian("feature")), "noise_variance"),
    ("built/precision", "float64", "float64"),
    ("built/precision", "float8", "precision"),
    ("built/net_params", {"dict": [["module", 1]]}, "net_params"),
    ("built/net_params", {"dict": [["shell", 1]]}, "shell"),
    ("parameters/device", 3, "device"),
    *(("n_components", value, "components") for value in (HUGE, 10**9)),
    *(("n_components", value, "shape") for value in (10**4, 3)),
    *(("n_components", value, "n_components") for value in (0, -1, float("nan"), True, "2")),
    ("attributes/n_components_", 3, "3 components"),
    *(("attributes/n_features_in_", value, "numbers") for value in (HUGE, 0)),
    ("attributes/n_samples_seen_", -1, "n_samples_seen_"),
    ("attributes/n_iter_", 1.5, "n_iter_"),
    ("attributes/_n_axes", 3, "components"),
    ("attributes/_image_shape", {"tuple": [1, HUGE, 8]}, "pixels"),
    ("attributes/_image_shape", [1, 2, 4], "_image_shape"),
    ("attributes/_inverse_dtype", "|O", "O"),
    ("attributes/feature_names_in_", ["a"], "names of 8 features"),
    ("attributes/aggregate_kl_bounds_", [1], "bounds"),
    ("attributes/noise_scale_", {"array": ["<f8", [3], [1.0] * 3]}, "noise_scale"),
    (
        "attributes/_sklearn_output_config",
        {"dict": [["transform", 3]]},
        "_sklearn_output_config",
    ),
    ("state/history", [[["a"], [[1, 2]]]], "cannot"),
    ("state/history", {"dict": []}, "cannot"),
    ("state/history", [3], "cannot"),
    ("state/numbers/seed", "1", "seed"),
    ("state/numbers/batch_size", None, "batch_size"),
    ("state/callbacks/schedule", None, "cannot"),
    ("state/callbacks/schedule/step", float("nan"), "step"),
    (WEIGHT, DROP, "lacks tensors"),
    ("scaling/shift", DROP, "lacks .* of 'scaling': shift"),
    (WEIGHT, torch.ones(D, 4), "must have the shape"),
    (WEIGHT, torch.ones(4, D, dtype=torch.float16), "float32"),
    (WEIGHT, torch.full((4, D), torch.nan), "finite"),
    ("module/encoder.more", torch.ones(2), "besides"),
    ("module/flags.weight", torch.ones(2, 7), "must have the shape"),
    ("scaling/scale", torch.zeros(D).double(), "positive"),
    ("scaling/shift", torch.full((D,), torch.nan).double(), "finite"),
    ("scaling/shift", torch.zeros(D), "float64"),
]


@pytest.mark.parametrize(("place", "value", "match"), CHANGES)
def test_changed_files_are_refused(place, value, match, file):
    changed, places = file.read_bytes(), [place]
    if place == "n_components":
        places = ["parameters/n_components", "built/n_components", "attributes/n_components_"]
    for part in places:
        changed = change(changed, part, value)
    file.write_bytes(changed)
    refused(file, match)
