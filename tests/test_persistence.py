"""A file gives back the estimator that a pickle gives back, and can do nothing else."""

import copy
import json
import os
import pickle
import pickletools
import re
import resource
from importlib import metadata
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn

from sklearn_wiseale import WiSEALETransformer, load
from sklearn_wiseale._persistence.file import read_file, write_file
from sklearn_wiseale._persistence.header import decode, encode
from sklearn_wiseale._training.callbacks import BestState
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
TWELVE = 10**12


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

#: Parameters of estimators, and the rows they are fitted on where those are special.
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


def same_values(one, other):
    if isinstance(one, np.random.RandomState):
        one, other = (str(state.get_state(legacy=False)) for state in (one, other))
    return type(one) is type(other) and (repr(one) == repr(other))


def same(one, other, X):
    """Whether two estimators agree in all that they say of rows X and of themselves."""
    Z = one.transform(X)
    np.testing.assert_array_equal(Z, other.transform(X))
    assert Z.dtype == other.transform(X).dtype
    for mine, its in zip(one.posterior(X), other.posterior(X), strict=True):
        np.testing.assert_array_equal(mine, its)
    for read in (
        lambda estimator: estimator.inverse_transform(Z),
        lambda estimator: estimator.sample(5, random_state=1),
        lambda estimator: estimator.score_samples(X, n_draws=4),
    ):
        mine, its = read(one), read(other)
        np.testing.assert_array_equal(mine, its)
        assert (mine.dtype, mine.shape) == (its.dtype, its.shape)
    addresses = "0x[0-9A-F]+"  # of a RandomState
    assert re.sub(addresses, "", repr(one)) == re.sub(addresses, "", repr(other))
    ours, theirs = one.get_params(), other.get_params()
    assert ours.keys() == theirs.keys()
    assert all(same_values(ours[name], theirs[name]) for name in ours)
    assert vars(one).keys() == vars(other).keys()
    assert one.history_ == other.history_
    assert one.get_feature_names_out().tolist() == other.get_feature_names_out().tolist()
    counts = ("n_iter_", "n_features_in_", "n_samples_seen_", "_n_axes", "_image_shape")
    assert all(getattr(one, name) == getattr(other, name) for name in counts)
    bounds = one.aggregate_kl_bounds_, other.aggregate_kl_bounds_
    assert bounds[0] == bounds[1]
    assert type(bounds[0]) is type(bounds[1])
    if hasattr(one, "noise_scale_"):
        np.testing.assert_array_equal(one.noise_scale_, other.noise_scale_)
        assert type(one.noise_scale_) is type(other.noise_scale_)
    if hasattr(one, "feature_names_in_"):
        assert one.feature_names_in_.dtype == other.feature_names_in_.dtype == object
        assert one.feature_names_in_.tolist() == other.feature_names_in_.tolist()


@pytest.fixture(scope="module")
def fitted(make_rows):
    X = make_rows(Gaussian(), N, D)
    return reducer().fit(X), X


@pytest.fixture
def file(fitted, tmp_path):
    fitted[0].save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


# what a file gives back ---------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_a_file_gives_back_what_a_pickle_does(case, make_rows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X = rows(case, make_rows)
    estimator = clone(reducer(**CASES[case]))
    estimator = estimator.partial_fit(X) if case == "counts" else estimator.fit(X)
    path = tmp_path / "model"
    estimator.save(path)
    pickled = pickle.loads(pickle.dumps(estimator))
    loaded = load(path)
    same(loaded, pickled, X)
    assert clone(loaded).get_params().keys() == loaded.get_params().keys()
    same(pickle.loads(pickle.dumps(loaded)), pickled, X)
    loaded.save(str(tmp_path / "again"))
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
    if case != "names":  # early_stopping=True
        continue_training(loaded.partial_fit, pickled.partial_fit, X)
        same(loaded, pickled, X)
    assert {found.name for found in tmp_path.iterdir() if found.is_file()} == {"again", "model"}


def continue_training(one, other, X):
    """Two ways of training, with the same state of the global generator."""
    for train in (one, other):
        np.random.seed(0)
        train(X)
    for train in (one, other):  # epochs differ in how long they took
        for row in train.__self__.history_:
            row.pop("dur")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_warm_start_goes_on_from_a_file(objective, fitted, tmp_path):
    X = fitted[1]
    estimator = reducer(objective=objective, warm_start=True).fit(X).partial_fit(X)
    estimator.save(tmp_path / "model")
    loaded, pickled = load(tmp_path / "model"), pickle.loads(pickle.dumps(estimator))
    continue_training(loaded.fit, pickled.fit, X)
    same(loaded, pickled, X)
    with pytest.raises(ValueError, match=r"'n_components' parameter .* must stay 2"):
        loaded.set_params(n_components=3).fit(X)


def test_parameters_changed_since_the_fit(fitted, tmp_path):
    """What the state was built from is stored beside the parameters."""
    estimator, X = copy.deepcopy(fitted[0]), fitted[1]
    net_params = {"optimizer__weight_decay": 0.5}
    changed = {"n_components": 5, "objective": ELBO(3), "net_params": net_params, "scale": None}
    estimator.set_params(**changed, network=Conv((1, 8, 8))).save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    same(loaded, estimator, X)
    assert loaded.net_.get_params()["optimizer__weight_decay"] == 1e-2
    original = fitted[0].get_params(deep=False)
    continue_training(
        loaded.set_params(**original).partial_fit,
        pickle.loads(pickle.dumps(estimator)).set_params(**original).partial_fit,
        X,
    )


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


def test_nothing_is_unpickled(file, fitted, monkeypatch):
    load(file)  # imports what torch imports late

    def refuse(*args, **kwargs):
        raise AssertionError("unpickled")

    for module in (pickle, torch, joblib):
        for name in ("load", "loads", "Unpickler", "_Unpickler", "_load", "_loads"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, refuse)
    same(load(file), fitted[0], fitted[1])


def test_pickle_has_no_filled_sets_whose_order_may_change(fitted):
    """Equal estimators have equal pickles, whatever the hashes of strings."""
    opcodes = {
        opcode for opcode, _, _ in pickletools.genops(pickle.dumps(fitted[0].net_, protocol=4))
    }
    assert not {"FROZENSET", "ADDITEMS"} & {opcode.name for opcode in opcodes}


def test_file_is_little_more_than_the_weights(tmp_path):
    X = np.random.RandomState(0).random_sample((60, 784))
    estimator = WiSEALETransformer(max_epochs=10, random_state=0).fit(X)
    estimator.save(tmp_path / "model")
    size = (tmp_path / "model").stat().st_size
    weights = sum(4 * part.numel() for part in estimator.net_.module_.state_dict().values())
    assert weights < size < weights + 50_000


def test_header_says_what_is_in_the_file(file, fitted):
    header = read_file(file, "estimator")[1]
    assert header["class"] == "WiSEALETransformer"
    assert header["versions"]["torch"] == metadata.version("torch")
    assert set(header["parameters"]) == set(fitted[0].get_params(deep=False))
    assert header["parameters"]["network"] == {
        "part": ["MLP", {**MLP().get_params(), "hidden": {"tuple": [6]}}]
    }


# values of parameters -----------------------------------------------------------------------------

VALUES = [
    None,
    True,
    2**70,
    0.1 + 0.2,
    float("inf"),
    "ü\n",
    [1, [2.0, None]],
    (),
    (1, (2, [3])),
    {"a": (1,), "tuple": [1]},
    slice(None, 3, np.int64(2)),
    range(3, 9, 2),
    np.float32(0.1),
    np.float64(1e-300),
    np.int8(-3),
    np.uint64(2**64 - 1),
    np.bool_(True),
    np.str_("text"),
    np.array([[1.5, np.inf]], np.float32),
    np.array(3),
    np.zeros((0, 4), ">i4"),
    np.array([True, False]),
    np.dtype(np.float32),
    np.dtype(">f8"),
    np.int16,
    Path("a") / "b",
    Mixed(
        [(Gaussian(noise=np.float32(0.1)), slice(0, 5)), (Categorical((2, 3)), np.arange(5, 10))]
    ),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_come_back_exactly(value):
    again = decode(json.loads(json.dumps(encode(value, "value"))))
    assert type(again) is type(value)
    assert repr(again) == repr(value)
    if isinstance(value, np.ndarray):
        assert (again.dtype, again.shape) == (value.dtype, value.shape)
        np.testing.assert_array_equal(again, value)
    if isinstance(value, np.float32 | np.float64):
        assert again == value


@pytest.mark.parametrize("n_draws", [0, 1, 700])
def test_random_states_come_back_exactly(n_draws):
    state = np.random.RandomState(5)
    state.standard_normal(n_draws)
    again = decode(json.loads(json.dumps(encode(state, "random_state"))))
    assert np.array_equal(again.standard_normal(9), state.standard_normal(9))


@pytest.mark.parametrize(
    "value",
    [
        object(),
        print,
        {1: 2},
        {1, 2},
        b"bytes",
        1j,
        np.array([None]),
        np.datetime64("2020"),
        np.datetime64,
        np.random.RandomState(np.random.PCG64(0)),
    ],
)
def test_values_that_cannot_be_stored_are_named(value):
    with pytest.raises(ValueError, match=r"net_params\['x'\]\[0\].*cannot be stored"):
        encode({"x": [value]}, "net_params")


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"tuple": [1], "list": []},
        {"tuple": 3},
        {"object": "os.system"},
        {"part": ["Modules", {}]},
        {"part": ["system", {}]},
        {"part": ["MLP", {"command": "x"}]},
        {"part": "MLP"},
        {"dict": [["a"]]},
        {"dict": [[1, 2]]},
        {"slice": [1]},
        {"range": [0, TWELVE, 1]},
        {"range": [0, 1.5, 1]},
        {"range": [0, 5, 0]},
        {"array": ["<f8", [TWELVE], [1.0]]},
        {"array": ["<f8", [1], ["1"]]},
        {"array": ["|O", [1], [1]]},
        {"array": ["|i1", [1], [300]]},
        {"array": ["<f8", [-1, -1], [1.0]]},
        {"numpy": ["<f8", [1.0]]},
        {"numpy": ["<U1000000000", "a"]},
        {"dtype": "O"},
        {"numpy_type": "object"},
        {"path": 3},
        {"random_state": [[1] * 624, 10**6, 0, 0.0]},
        {"random_state": [[1] * 623, 0, 0, 0.0]},
        {"random_state": [[-1] * 624, 0, 0, 0.0]},
    ],
    ids=repr,
)
def test_contents_that_nobody_wrote_are_refused(content):
    with pytest.raises(ValueError, match="it "):
        decode(content)
    with pytest.raises(ValueError, match="it "):
        decode([{"tuple": [content]}])


@pytest.mark.parametrize(
    "net_params",
    [{"optimizer": torch.optim.SGD}, {"callbacks": [pytest]}, {"own": OwnObjective()}],
)
def test_net_params_that_cannot_be_stored_are_named(net_params, fitted, tmp_path):
    estimator = copy.deepcopy(fitted[0])
    estimator.net_params = net_params
    with pytest.raises(ValueError, match=f"net_params\\['{next(iter(net_params))}'\\].*cannot"):
        estimator.save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["compile__options", "compile__backend"])
def test_files_name_no_programs(name, fitted, file):
    """Among the options of torch's compiler is the program that it calls."""
    net_params = {"compile": True, name: {"cpp.cxx": (None, "evil")}}
    estimator = copy.deepcopy(fitted[0]).set_params(net_params=net_params)
    with pytest.raises(ValueError, match=f"{name}.*may name programs"):
        estimator.save(file)
    for where in ("parameters", "built"):
        state, header = read_file(file, "estimator")
        header[where]["net_params"] = encode(net_params, "net_params")
        write_file(file.with_name("hostile"), state, header)
        refused(file.with_name("hostile"), f"{name}.*may name programs")


def test_loading_compiles_nothing(fitted, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("compiled")

    estimator = copy.deepcopy(fitted[0])
    estimator.net_params = estimator._net_params = {"compile": True, "compile__dynamic": True}
    estimator.net_.compile = True
    estimator.save(tmp_path / "model")
    monkeypatch.setattr(nn.Module, "compile", refuse)
    loaded = load(tmp_path / "model")
    same(loaded, estimator, fitted[1])
    assert loaded.net_.compile is True
    with pytest.raises(ValueError, match="compiled"):
        loaded.fit(fitted[1])


# code of one's own --------------------------------------------------------------------------------

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
def test_own_code_is_handed_back(case, fitted, tmp_path):
    X = fitted[1]
    estimator = reducer(**{name: make() for name, make in OWN[case].items()}).fit(X)
    estimator.save(tmp_path / "model")
    kind = type(getattr(estimator, next(iter(OWN[case])))).__name__
    name = next(iter(OWN[case]))
    with pytest.raises(ValueError, match=rf"(?s)model'.*its .* not stored.*{name}={kind}\("):
        load(tmp_path / "model")
    loaded = load(tmp_path / "model", **{name: make() for name, make in OWN[case].items()})
    pickled = pickle.loads(pickle.dumps(estimator))
    if case == "instances":  # the weights that a fit begins with are in no file
        loaded.network = pickled.network
    same(loaded, pickled, X)
    if case != "instances":
        continue_training(loaded.partial_fit, pickled.partial_fit, X)
        same(loaded, pickled, X)


def test_modules_that_do_not_fit_are_refused(fitted, tmp_path):
    reducer(network=Modules(encoder, decoder)).fit(fitted[1]).save(tmp_path / "model")

    def wide(n_features, n_components):
        return nn.Sequential(nn.Linear(n_features, 7), nn.Tanh(), nn.Linear(7, 2 * n_components))

    for wrong in (Modules(wide, decoder), Modules(encoder, encoder), MLP(), MLP):
        with pytest.raises(ValueError, match="model' cannot be loaded"):
            load(tmp_path / "model", network=wrong)


def test_parts_that_are_stored_need_not_be_handed_back(file):
    with pytest.raises(ValueError, match="its network cannot be handed back"):
        load(file, network=MLP())


class Annotated(nn.Linear):
    """Has a state that no file holds."""

    def get_extra_state(self):
        return object()

    def set_extra_state(self, state):
        pass


def test_state_that_is_no_tensor_is_named(fitted, tmp_path):
    network = Modules(encoder, Annotated)
    estimator = reducer(network=network).fit(fitted[1])
    with pytest.raises(ValueError, match=r"_extra_state'\] cannot be stored"):
        estimator.save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_an_interrupted_fit_is_stored_as_far_as_it_came(fitted, tmp_path, monkeypatch):
    estimator = reducer(max_epochs=9).fit(fitted[1])

    def interrupt(self, net, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(BestState, "on_epoch_end", interrupt)
    with pytest.raises(KeyboardInterrupt):
        estimator.partial_fit(fitted[1])
    estimator.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert hasattr(fitted[0], "aggregate_kl_bounds_")
    assert not hasattr(loaded, "aggregate_kl_bounds_")
    assert np.array_equal(loaded.transform(fitted[1]), estimator.transform(fitted[1]))


def test_subclasses_and_unfitted_estimators_are_not_saved(fitted, tmp_path):
    with pytest.raises(ValueError, match="OwnTransformer cannot be saved"):
        OwnTransformer(max_epochs=1).fit(fitted[1]).save(tmp_path / "model")
    with pytest.raises(NotFittedError):
        reducer().save(tmp_path / "model")


# devices ------------------------------------------------------------------------------------------


def test_device_is_kept_or_replaced(fitted, file, tmp_path):
    assert load(file).device == "auto"
    assert load(file, device="cpu").device == "cpu"
    assert load(file, "cpu").net_.device == "cpu"
    for wrong in ("abacus", "meta", "cuda:77"):
        with pytest.raises(ValueError, match="'device' parameter"):
            load(file, device=wrong)
    elsewhere = copy.deepcopy(fitted[0]).set_params(device="cpu")
    elsewhere.save(tmp_path / "cpu")
    assert load(tmp_path / "cpu").device == "cpu"


def test_file_from_an_absent_device_loads(file, fitted):
    state, header = read_file(file, "estimator")
    header["parameters"]["device"] = "cuda:77"
    write_file(file, state, header)
    loaded = load(file)
    assert loaded.device == "auto"
    np.testing.assert_array_equal(loaded.transform(fitted[1]), fitted[0].transform(fitted[1]))


def test_file_from_a_device_that_torch_has_no_code_for(file, fitted):
    state, header = read_file(file, "estimator")
    header["parameters"]["device"] = "hpu"
    write_file(file, state, header)
    assert load(file).device == "auto"
    with pytest.raises(ValueError, match="'device' parameter"):
        load(file, device="hpu")


def test_net_on_another_device_is_saved_as_a_pickle_is(fitted, tmp_path):
    """Here the device is one in name only."""
    elsewhere = copy.deepcopy(fitted[0])
    elsewhere.net_.device = "cuda"
    elsewhere.save(tmp_path / "model")
    assert elsewhere.net_.device == "cuda"
    loaded, pickled = load(tmp_path / "model"), pickle.loads(pickle.dumps(elsewhere))
    assert loaded.net_.device == "cpu"
    same(loaded, pickled, fitted[1])
    continue_training(loaded.partial_fit, pickled.partial_fit, fitted[1])
    same(loaded, pickled, fitted[1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_file_from_a_gpu(fitted, tmp_path):
    estimator = reducer(device="cuda").fit(fitted[1])
    estimator.save(tmp_path / "model")
    pickled = pickle.loads(pickle.dumps(estimator))
    assert load(tmp_path / "model").device == "cuda"
    same(load(tmp_path / "model"), pickled, fitted[1])
    on_cpu = load(tmp_path / "model", device="cpu")
    assert on_cpu.net_.device == "cpu"
    same(on_cpu, pickled.set_params(device="cpu"), fitted[1])


# writing ------------------------------------------------------------------------------------------


def test_failed_save_leaves_what_was_there(file, fitted, monkeypatch):
    content = file.read_bytes()

    def fail(*args):
        raise OSError("no space")

    for broken in ("os.fsync", "os.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(broken, fail)
            with pytest.raises(OSError, match="no space"):
                fitted[0].save(file)
        assert file.read_bytes() == content
        assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_save_needs_a_directory_and_a_file(fitted, tmp_path):
    with pytest.raises(FileNotFoundError, match="directory of the file must exist"):
        fitted[0].save(tmp_path / "nowhere" / "model")
    with pytest.raises(IsADirectoryError, match="not of a directory"):
        fitted[0].save(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="needs permissions as POSIX has them")
def test_file_has_the_permissions_of_new_files(file, tmp_path):
    (tmp_path / "other").write_text("")
    assert file.stat().st_mode == (tmp_path / "other").stat().st_mode


# files that are not what they say -----------------------------------------------------------------


def refused(path, match=""):
    """Loading raises a ValueError that names the file, soon and without much memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=f"(?s){path.name}'.*{match}"):
        load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 200_000  # kB


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing")


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("exploded"),)


@pytest.mark.parametrize("kind", ["pickle", "torch", "joblib", "empty", "text", "zeros", "header"])
def test_files_of_other_kinds(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "file"
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


def test_directory_is_refused(tmp_path):
    refused(tmp_path)


def test_truncated_file(file):
    content = file.read_bytes()
    for length in (1, 8, 100, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        refused(file, "damaged")
    file.write_bytes(content + b"more")
    refused(file, "damaged")


EMPTY = '{"format_version": 2, "kind": "estimator", "state": {"dict": []}}'


@pytest.mark.parametrize(
    ("metadata", "match"),
    [
        (None, "another kind"),
        ({"format": "pt"}, "another kind"),
        ({"sklearn_wiseale": "{"}, "another kind"),
        ({"sklearn_wiseale": "[" * 10**5}, "another kind"),
        ({"sklearn_wiseale": "[1]"}, "format version"),
        ({"sklearn_wiseale": '{"format_version": 3}'}, "another release"),
        ({"sklearn_wiseale": '{"format_version": 1}'}, "another release"),
        ({"sklearn_wiseale": '{"format_version": NaN}'}, "format version"),
        ({"sklearn_wiseale": '{"format_version": 2}'}, "of the kind 'estimator'"),
        ({"sklearn_wiseale": '{"format_version": 2, "kind": "checkpoint"}'}, "'checkpoint'"),
        ({"sklearn_wiseale": EMPTY}, "the class None"),
    ],
)
def test_foreign_headers(metadata, match, tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "file", metadata=metadata)
    refused(tmp_path / "file", match)


def deep(record, *path):
    """Set an entry far inside a header: names, and at last its value."""
    *names, last, value = path
    for name in names:
        record = record[name]
    record[last] = value


def n_components(value):
    def change(state, header):
        for where in ("parameters", "built"):
            header[where]["n_components"] = value
        header["attributes"]["n_components_"] = value

    return change


def entry(*path):
    return lambda state, header: deep(header, *path)


def attribute(name, value):
    return entry("attributes", name, value)


def built(name, value):
    return entry("built", name, value)


def tensor(*path):
    return lambda state, header: deep(state, *path)


def without(room, name):
    return lambda state, header: state[room].pop(name)


def mlp(**params):
    encoded = {
        name: encode(value, name) for name, value in {**MLP().get_params(), **params}.items()
    }
    return built("network", {"part": ["MLP", encoded]})


WEIGHT = "module", "encoder.skip.weight"
CHANGES = {
    "class": (entry("class", "Popen"), "the class 'Popen'"),
    "class type": (entry("class", 3), "the class 3"),
    "no fitted": (lambda s, h: h.pop("attributes"), "'attributes' must be a dict"),
    "no parameters": (entry("parameters", []), "'parameters' must be a dict"),
    "unknown parameter": (entry("parameters", "shell", 1), "shell"),
    "unknown built": (entry("built", "shell", 1), "shell"),
    "lost built": (lambda s, h: h["built"].pop("scale"), "scale"),
    "part": (built("network", {"part": ["Popen", {}]}), "Popen"),
    "wrong part": (built("network", {"part": ["ELBO", {}]}), "'network' parameter"),
    "modules": (built("network", {"part": ["Modules", {"encoder": 1}]}), "Modules"),
    "handed back": (built("network", {"handed_back": 3}), "handed_back that cannot be read"),
    "handed back too": (built("network", {"handed_back": ["A", "B"]}), "A"),
    "many components": (n_components(TWELVE), "components"),
    "more components": (n_components(10**9), "components"),
    "some components": (n_components(10**4), "shape"),
    "no components": (n_components(0), "n_components"),
    "negative components": (n_components(-1), "n_components"),
    "NaN components": (n_components(float("nan")), "n_components"),
    "true components": (n_components(True), "n_components"),
    "text components": (n_components("2"), "n_components"),
    "other components": (n_components(3), "shape"),
    "two truths": (attribute("n_components_", 3), "3 components"),
    "features": (attribute("n_features_in_", TWELVE), "numbers"),
    "no features": (attribute("n_features_in_", 0), "numbers"),
    "samples": (attribute("n_samples_seen_", -1), "n_samples_seen_"),
    "iterations": (attribute("n_iter_", 1.5), "n_iter_"),
    "axes": (attribute("_n_axes", 3), "components"),
    "image": (attribute("_image_shape", {"tuple": [1, TWELVE, 8]}), "pixels"),
    "image type": (attribute("_image_shape", [1, 2, 4]), "_image_shape"),
    "dtype": (attribute("_inverse_dtype", "|O"), "O"),
    "names": (attribute("feature_names_in_", ["a"]), "names of 8 features"),
    "history": (tensor("history", [[["a"], [[1, 2]]]]), "cannot"),
    "history type": (tensor("history", {}), "cannot"),
    "history rows": (tensor("history", [3]), "cannot"),
    "bounds": (attribute("aggregate_kl_bounds_", [1]), "bounds"),
    "noise": (attribute("noise_scale_", encode(np.ones(3), "")), "noise_scale"),
    "output": (
        attribute("_sklearn_output_config", {"dict": [["transform", 3]]}),
        "_sklearn_output_config",
    ),
    "another attribute": (attribute("shell", 1), "shell"),
    "seed": (tensor("numbers", "seed", "1"), "seed"),
    "batches": (tensor("numbers", "batch_size", None), "batch_size"),
    "schedule": (tensor("callbacks", "schedule", None), "cannot"),
    "schedule step": (tensor("callbacks", "schedule", "step", float("nan")), "step"),
    "hidden": (mlp(hidden=(TWELVE,)), "must have the shape"),
    "more hidden": (mlp(hidden=(TWELVE, TWELVE)), "cannot"),
    "many hidden": (mlp(hidden=(6, 6)), "lacks"),
    "none hidden": (mlp(hidden=()), "besides"),
    "hidden type": (mlp(hidden="6"), "hidden"),
    "NaN hidden": (mlp(hidden=(float("nan"),)), "hidden"),
    "activation": (mlp(activation="system"), "activation"),
    "conv": (
        built("network", encode(Conv((1, 8, 8), (TWELVE,)), "network")),
        "image_shape",
    ),
    "sizes": (
        built("likelihood", encode(Categorical((2, TWELVE)), "likelihood")),
        "sum to the number of columns",
    ),
    "columns": (
        built("likelihood", encode(Mixed([(Gaussian(), slice(0, TWELVE))] * 2), "likelihood")),
        "two parts",
    ),
    "likelihood": (
        built("likelihood", encode(Gaussian("feature"), "likelihood")),
        "noise_variance",
    ),
    "precision": (built("precision", "float64"), "float64"),
    "unknown precision": (built("precision", "float8"), "precision"),
    "reserved": (built("net_params", {"dict": [["module", 1]]}), "net_params"),
    "unknown net_params": (built("net_params", {"dict": [["shell", 1]]}), "shell"),
    "device": (entry("parameters", "device", 3), "device"),
    "no weight": (without(*WEIGHT), "lacks tensors"),
    "no shift": (without("scaling", "shift"), "lacks .* of 'scaling': shift"),
    "transposed": (tensor(*WEIGHT, torch.ones(D, 4)), "must have the shape"),
    "half": (tensor(*WEIGHT, torch.ones(4, D, dtype=torch.float16)), "float32"),
    "NaN weight": (tensor(*WEIGHT, torch.full((4, D), torch.nan)), "finite"),
    "another": (tensor("module", "encoder.more", torch.ones(2)), "besides"),
    "flags": (tensor("module", "flags.weight", torch.ones(2, 7)), "must have the shape"),
    "scale": (tensor("scaling", "scale", torch.zeros(D).double()), "positive"),
    "NaN shift": (tensor("scaling", "shift", torch.full((D,), torch.nan).double()), "finite"),
    "shift": (tensor("scaling", "shift", torch.zeros(D)), "float64"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_files_are_refused(change, file):
    state, header = read_file(file, "estimator")
    apply, match = CHANGES[change]
    apply(state, header)
    write_file(file, state, header)
    refused(file, match)


def test_unchanged_copy_is_accepted(file, fitted):
    write_file(file, *read_file(file, "estimator"))
    same(load(file), fitted[0], fitted[1])
