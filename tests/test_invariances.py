"""Changes that leave the codes as they are: of units, order, duplicates, and of other programs."""

import pickle
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from sklearn.model_selection import cross_validate

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.likelihoods import LIKELIHOODS, Gaussian
from sklearn_wiseale.networks import MLP, NETWORKS, Modules
from sklearn_wiseale.objectives import ELBO, OBJECTIVES, InfoVAE, WassersteinMMD, WiSEALE
from sklearn_wiseale.plotting import EmbeddingDisplay, ReconstructionDisplay, TrainingDisplay

N, D, EPOCHS, RATE = 40, 5, 3, 1e-3
RNG = np.random.RandomState(20190215)
X = RNG.standard_normal((N, 3)) @ RNG.standard_normal((3, D)) + 0.3 * RNG.standard_normal((N, D))
#: Objectives whose weights do not depend on the number of columns.
FIXED = [
    *(WiSEALE(bound=bound, weight=1.0) for bound in ("jensen", "moment", "monte_carlo")),
    *(WiSEALE(weight=1.0, sliced_share=0.5), ELBO(), InfoVAE(), WassersteinMMD()),
]
each_objective = pytest.mark.parametrize("objective", FIXED, ids=repr)
#: A linear network starts from PCA alone: no weight of it is drawn.
LINEAR = MLP(hidden=())
EPS = np.finfo(np.float64).eps


def reducer(n_components=2, **params):
    defaults = {"network": MLP(hidden=(6,)), "max_epochs": EPOCHS, "batch_size": 16}
    defaults |= {"learning_rate": RATE, "early_stopping": False, "random_state": 0}
    return WiSEALETransformer(n_components, **defaults | {"precision": "float64"} | params)


def assert_close_after_training(given, expected, error=EPS):
    """Equal but for rounding, of a relative error, that every step of training passes on.

    AdamW divides gradients by no less than its epsilon, 1e-8: rounding of gradients moves a
    weight by the rate times ``error / 1e-8`` a step at most, times the gradients' size (here below
    100). There are three steps an epoch. Rounding of all else is far smaller.
    """
    bound = 3 * EPOCHS * RATE * 100 * error / 1e-8
    np.testing.assert_allclose(given, expected, rtol=bound, atol=bound)


# units ------------------------------------------------------------------------------------------


@each_objective
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_units_that_are_powers_of_two_change_no_bit(objective, precision):
    """Every step up to the scaled rows is then exact."""
    units = 2.0 ** np.array([20, -9, 0, 1, -30])
    model = reducer(objective=objective, precision=precision).fit(X)
    other = reducer(objective=objective, precision=precision).fit(X * units)
    codes = model.transform(X)
    np.testing.assert_array_equal(other.transform(X * units), codes)
    np.testing.assert_array_equal(
        other.inverse_transform(codes), model.inverse_transform(codes) * units
    )
    np.testing.assert_array_equal(other.noise_scale_, model.noise_scale_ * units)
    assert other.aggregate_kl_bounds_ == model.aggregate_kl_bounds_
    change = other.score_samples(X * units) - model.score_samples(X)
    rounding = 10 * np.finfo(precision).eps * np.abs(np.log(units)).sum()
    np.testing.assert_allclose(change, -np.log(units).sum(), atol=rounding)


@each_objective
def test_any_units_and_offsets_leave_the_codes_alike(objective):
    units, offsets = np.array([3.0, 0.1, 1e6, 1e-7, 1.0]), np.array([1.0, -20.0, 1e7, 0.0, -3e2])
    model = reducer(objective=objective).fit(X)
    other = reducer(objective=objective).fit(X * units + offsets)
    # an offset of so many standard deviations costs the rows as many units in the last place
    lost = 1 + np.abs(offsets / (units * X.std(axis=0))).max()
    assert_close_after_training(
        other.transform(X * units + offsets), model.transform(X), lost * EPS
    )


def test_one_unit_for_all_columns_leaves_the_codes_of_global_scaling_as_they_are():
    codes = reducer(scale="global").fit(X).transform(X)
    other = reducer(scale="global").fit(X * 2.0**-40)
    np.testing.assert_array_equal(other.transform(X * 2.0**-40), codes)


# order and number of columns --------------------------------------------------------------------

ORDER = np.array([3, 0, 4, 2, 1])


def reordered_network(order, n_components=2):
    """A network with the same weights in any order of the columns that it maps."""
    torch.manual_seed(0)
    encoder, decoder = MLP(hidden=(6,)).build(D, n_components, D)
    for layer in (encoder.layers[0], encoder.skip):
        layer.weight.data = layer.weight.data[:, order]
    for layer in (decoder.last, decoder.skip):
        layer.weight.data, layer.bias.data = layer.weight.data[order], layer.bias.data[order]
    return Modules(encoder=encoder, decoder=decoder)


@pytest.fixture
def private_torch_state():
    with torch.random.fork_rng(devices=[]):
        yield


@each_objective
@pytest.mark.parametrize("noise", ["shared", "feature"])
@pytest.mark.parametrize("drawn", [False, True], ids=["linear", "drawn weights"])
@pytest.mark.usefixtures("private_torch_state")
def test_order_of_columns_does_not_matter_if_weights_follow_it(objective, noise, drawn):
    """Weights that are drawn belong to a place; of another order, the law is one of chance."""
    params = {"objective": objective, "likelihood": Gaussian(noise=noise)}
    networks = map(reordered_network, (np.arange(D), ORDER)) if drawn else [LINEAR] * 2
    model, other = (reducer(network=network, **params) for network in networks)
    codes = model.fit(X).transform(X)
    assert_close_after_training(other.fit(X[:, ORDER]).transform(X[:, ORDER]), codes)
    assert_close_after_training(
        other.inverse_transform(codes), model.inverse_transform(codes)[:, ORDER]
    )
    assert_close_after_training(other.noise_scale_, model.noise_scale_[ORDER])
    assert_close_after_training(other.score_samples(X[:, ORDER]), model.score_samples(X))


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("value", [0.1, -1e6 / 3, 0.0])
def test_a_constant_column_comes_back_to_the_last_bit(objective, precision, value):
    """Its scaled entries are zero, and so are the gradients of all that decodes it."""
    table = np.insert(X, 2, value, axis=1)
    model = reducer(objective=objective, precision=precision, learning_rate=0.1).fit(table)
    codes = np.vstack([model.transform(table), 100 * RNG.standard_normal((9, 2))])
    np.testing.assert_array_equal(model.inverse_transform(codes)[:, 2], value)


@each_objective
def test_a_constant_column_changes_no_code_where_the_number_of_columns_does_not_count(objective):
    """With as many components as columns PCA leaves no residual, and the noise is given."""
    params = {"objective": objective, "likelihood": Gaussian(noise=0.3), "network": LINEAR}
    table = np.insert(X, 2, 7.0, axis=1)
    codes = reducer(D, **params).fit_transform(X)
    assert_close_after_training(reducer(D, **params).fit_transform(table), codes)


# rows -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["feature", "global", None])
@pytest.mark.parametrize("times", [2, 5])
def test_the_start_does_not_depend_on_how_often_all_rows_are_there(scale, times):
    """Nor on their order: mean, variances and principal axes are those of the distribution."""
    still = partial(reducer, scale=scale, learning_rate=1e-300)
    repeated = np.tile(X, (times, 1))[np.random.RandomState(0).permutation(times * N)]
    model, other = still().fit(X), still().fit(repeated)
    np.testing.assert_allclose(other.transform(X), model.transform(X), rtol=1e-11, atol=1e-11)
    codes = model.transform(X)
    back = model.inverse_transform(codes)
    np.testing.assert_allclose(other.inverse_transform(codes), back, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_results_do_not_depend_on_chunks(likelihood, make_rows):
    """Chunks have 2,048 rows; those of score_samples, where each row makes 64 draws, have 32."""
    table = make_rows(LIKELIHOODS[likelihood](), 2060, D)
    model = reducer(likelihood=likelihood).fit(table[:N])

    def results(rows):
        mean, std = model.posterior(rows)
        return mean, std, model.inverse_transform(mean), model.score_samples(rows)

    part = slice(2030, 2060)
    for whole, few in zip(results(table), results(table[part]), strict=True):
        np.testing.assert_allclose(whole[part], few, rtol=1e-10, atol=1e-10)


# other programs ----------------------------------------------------------------------------------


def look_at(model, table):
    """Everything that reads a fitted estimator, plots included."""
    mean, _ = model.posterior(table)
    model.inverse_transform(mean)
    model.sample(3)
    model.score(table[:5])
    pickle.loads(pickle.dumps(model)).partial_fit(table)
    repr(model), model._repr_html_()
    EmbeddingDisplay.from_estimator(model, table, posterior="ellipses")
    ReconstructionDisplay.from_estimator(model, table, random_state=0)
    TrainingDisplay.from_estimator(model)
    plt.close("all")
    torch.rand(3), np.random.rand(3)  # and the user draws numbers of their own


@pytest.mark.parametrize(
    ("objective", "likelihood"),
    [
        *((name, "gaussian") for name in OBJECTIVES),
        *(("wiseale", name) for name in LIKELIHOODS if name != "gaussian"),
    ],
)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.usefixtures("private_torch_state")
def test_looking_on_changes_nothing(objective, likelihood, dropout, make_rows, capsys):
    """For every kind of model the seed alone decides: bars, plots and other draws do not."""
    table = make_rows(LIKELIHOODS[likelihood](), N, D)
    params = {"objective": objective, "likelihood": likelihood, "precision": "float32"}
    params["network"] = MLP(hidden=(6,), dropout=dropout)
    model, watched = reducer(**params), reducer(verbose=1, **params)
    for _ in range(2):
        model.partial_fit(table)
        watched.partial_fit(table)
        look_at(watched, table)
    torch.rand(1), np.random.rand(1)
    for method in ("partial_fit", "fit"):
        codes = getattr(model, method)(table).transform(table)
        np.testing.assert_array_equal(getattr(watched, method)(table).transform(table), codes)
        for row, other in zip(model.history_, watched.history_, strict=True):
            assert row | {"dur": 0} == other | {"dur": 0}
    assert "epoch" in capsys.readouterr().err


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_codes_are_the_same_bits_in_other_processes(objective):
    model = reducer(objective=objective, precision="float32")
    codes = []
    for n_jobs in (1, 2):
        searched = cross_validate(model, X, cv=3, n_jobs=n_jobs, return_estimator=True)
        codes.append(np.stack([fold.transform(X) for fold in searched["estimator"]]))
    np.testing.assert_array_equal(*codes)


PARTS = {"objective": OBJECTIVES, "likelihood": LIKELIHOODS, "network": NETWORKS}


@pytest.mark.parametrize(
    ("role", "name"), [(role, name) for role, parts in PARTS.items() for name in parts]
)
def test_a_string_stands_for_the_defaults_of_a_class(role, name, make_rows):
    kind = name if role == "likelihood" else "gaussian"
    table = make_rows(LIKELIHOODS[kind](), N, D)
    codes = [reducer(**{role: part}).fit_transform(table) for part in (name, PARTS[role][name]())]
    np.testing.assert_array_equal(*codes)
