"""Laws of the term that keeps neighbours together."""

import numpy as np
import pandas as pd
import pytest
import torch
from fuzzing import interrupt_fit
from sklearn.base import clone
from sklearn.datasets import load_digits, load_wine
from sklearn.manifold import trustworthiness
from sklearn.metrics import pairwise_distances
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_wiseale import WiSEALETransformer, load
from sklearn_wiseale._data.neighbors import nearest_neighbors
from sklearn_wiseale._data.rows import Rows
from sklearn_wiseale._data.scaling import Scaling
from sklearn_wiseale.likelihoods import Poisson
from sklearn_wiseale.networks import MLP
from sklearn_wiseale.objectives import Batch, Posterior, WiSEALE

SHORT = {"max_epochs": 3, "network": MLP(hidden=(16,)), "random_state": 0}
NEAR = WiSEALE(neighbors=4)


def contrast(mean, neighbor, weight=1.0):
    """The term of WiSEALE, through its divergence: with weight 0 nothing else is left."""
    divergence = WiSEALE(weight=0.0, neighbors=1, neighbor_weight=weight).build(5, mean.shape[1])
    posterior, neighbors = (Posterior(part, torch.zeros_like(part)) for part in (mean, neighbor))
    batch = Batch(None, len(mean), True, torch.Generator().manual_seed(0), neighbors)
    return divergence(posterior, mean, batch)


def dense(mean, neighbor, n_others=None):
    """The formula as it is written, with sums over the first rows."""
    tau = 128 / (mean - mean.mean(dim=0)).square().sum(dim=1).mean()

    def kernel(a, b):
        return 1 / (1 + tau * (a - b).square().sum(dim=-1))

    near, far = kernel(mean, neighbor), kernel(mean[:, None], mean[None, :n_others])
    far = far * (1 - torch.eye(*far.shape, dtype=mean.dtype))
    return ((near + far.sum(dim=1)) / near).log().mean()


@pytest.fixture(name="codes")
def make_codes(make_posterior):
    mean = make_posterior(9, 3).mean
    neighbor = mean + 0.3 * make_posterior(9, 3).mean
    return mean.requires_grad_(), neighbor.requires_grad_()


def test_term_is_its_formula(codes):
    torch.testing.assert_close(contrast(*codes), dense(*codes))
    torch.testing.assert_close(contrast(*codes, weight=3.0), 3 * dense(*codes))
    assert torch.autograd.gradcheck(contrast, codes)


def test_of_many_pairs_the_sum_is_over_some_rows(make_posterior):
    n = 4200
    n_others = 2**24 // n
    mean = make_posterior(n, 2).mean.requires_grad_()
    neighbor = (mean + 0.3 * make_posterior(n, 2).mean).detach().requires_grad_()
    expected = dense(mean, neighbor, n_others)
    torch.testing.assert_close(contrast(mean, neighbor), expected)
    found, wanted = (
        torch.autograd.grad(value, (mean, neighbor))
        for value in (contrast(mean, neighbor), expected)
    )
    torch.testing.assert_close(found, wanted)


def test_term_does_not_depend_on_place_or_scale(codes):
    moved = contrast(*(100 * part + 7 for part in codes))
    torch.testing.assert_close(moved, contrast(*codes))


def test_term_is_least_where_neighbours_meet(codes):
    mean, _ = codes
    others = mean.roll(1, dims=0)
    assert 0 < contrast(mean, mean) < contrast(mean, others)
    one = mean[:1]
    assert contrast(one, one) == 0
    assert torch.isfinite(contrast(one.expand(4, 3), one.expand(4, 3)))


def test_term_is_part_of_training_only():
    X = load_wine().data
    reducer = WiSEALETransformer(objective=WiSEALE(neighbors=4, neighbor_weight=1e3), **SHORT)
    first = reducer.fit(X).history_[0]
    assert first["train_divergence"] > 100 > first["valid_divergence"]


# neighbours -----------------------------------------------------------------------------------


def as_rows(X):
    return Rows(
        X, Scaling(np.zeros(X.shape[1]), np.ones(X.shape[1])), torch.float32, torch.device("cpu")
    )


@pytest.mark.parametrize(("n", "d", "k"), [(60, 3, 5), (60, 3, 100), (400, 80, 6), (2, 3, 4)])
def test_neighbours_are_the_nearest_rows(rng, n, d, k):
    X = rng.standard_normal((n, min(d, 20))) @ rng.standard_normal((min(d, 20), d))
    found = nearest_neighbors(as_rows(X), k, lambda x: x)
    distances = pairwise_distances(X)
    np.fill_diagonal(distances, np.inf)
    expected = distances.argsort(axis=1)[:, : min(k, n - 1)]
    np.testing.assert_array_equal(np.sort(found.numpy()), np.sort(expected))


def test_equal_rows_are_neighbours_and_no_row_is_its_own():
    found = nearest_neighbors(as_rows(np.repeat(np.eye(3), 6, axis=0)), 5, lambda x: x).numpy()
    assert (found // 6 == np.arange(18)[:, None] // 6).all()
    assert (found != np.arange(18)[:, None]).all()


def test_of_many_rows_some_are_candidates(rng):
    X = rng.uniform(size=(70_000, 2))
    found = nearest_neighbors(as_rows(X), 5, lambda x: x).numpy()
    assert (found != np.arange(len(X))[:, None]).all()
    apart = np.linalg.norm(X[found] - X[:, None], axis=2)
    assert apart.max() < 0.05
    assert len(np.unique(found)) <= 2**16


def test_classes_choose_the_neighbours(rng):
    X, classes = rng.standard_normal((90, 3)), rng.randint(-1, 3, 90)
    classes[7] = 5  # a class of one row
    plain = nearest_neighbors(as_rows(X), 6, lambda x: x).numpy()
    found = nearest_neighbors(as_rows(X), 6, lambda x: x, classes).numpy()
    without = (classes == -1) | (classes == 5)
    np.testing.assert_array_equal(found[without], plain[without])
    same = classes[found] == classes[:, None]
    assert same[~without].all()


# estimator ------------------------------------------------------------------------------------


def test_maps_keep_neighbours_and_reconstruct_as_well():
    train, test = train_test_split(load_digits().data, random_state=0)
    figures = []
    for neighbors in (0, "auto"):
        objective = WiSEALE(neighbors=neighbors)
        reducer = WiSEALETransformer(2, objective=objective, scale="global", random_state=0)
        codes = reducer.fit(train).transform(test)
        error = np.square(test - reducer.inverse_transform(codes)).mean()
        figures.append((trustworthiness(test, codes, n_neighbors=15), error))
    (plain, plain_error), (kept, error) = figures
    assert kept > plain + 0.005
    assert error < 1.02 * plain_error


@pytest.mark.parametrize(
    "y",
    [
        ["a", "b", "c"],
        [0, 1, -1],
        [0.0, 1.0, np.nan],
        np.array(["a", None, "b"], dtype=object),
        np.array(["a", pd.NA, "b"], dtype=object),
    ],
)
def test_classes_steer_the_codes(y):
    X, y = load_wine().data, np.resize(np.asarray(y), 178)
    reducer = WiSEALETransformer(objective=NEAR, **SHORT)
    without, given = reducer.fit_transform(X), clone(reducer).fit_transform(X, y)
    assert np.abs(without - given).max() > 1e-4
    piped = make_pipeline(clone(reducer)).fit_transform(X, y)
    np.testing.assert_array_equal(piped, given)


def test_y_is_ignored_without_the_term_or_without_classes(require_same):
    X, y = load_wine(return_X_y=True)
    plain = WiSEALETransformer(**SHORT)
    require_same(clone(plain).fit(X), clone(plain).fit(X, y), X)
    near = WiSEALETransformer(objective=NEAR, **SHORT)
    numbers = np.random.RandomState(0).uniform(size=len(X))
    require_same(clone(near).fit(X), clone(near).fit(X, numbers), X)
    require_same(clone(near).fit(X), clone(near).fit(X, np.full(len(X), -1)), X)


def test_y_of_another_length_and_chunks_are_refused():
    X = load_wine().data
    near = WiSEALETransformer(objective=NEAR, **SHORT)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        near.fit(X, np.zeros(5))
    assert not hasattr(near, "partial_fit")
    with pytest.raises(AttributeError) as refusal:
        near.partial_fit(X)
    assert "neighbors=4" in str(refusal.value.__cause__)
    assert hasattr(near.set_params(objective=WiSEALE()), "partial_fit")


def test_rows_are_read_from_disk_or_held_alike(tmp_path, monkeypatch, require_same):
    X = StandardScaler().fit_transform(load_wine().data)
    near = WiSEALETransformer(objective=NEAR, **SHORT)
    held = clone(near).fit(X)
    monkeypatch.setattr("sklearn_wiseale._data.rows.RESIDENT_BYTES", 0)
    stored = np.memmap(tmp_path / "X", dtype=X.dtype, mode="w+", shape=X.shape)
    stored[:] = X
    require_same(held, clone(near).fit(stored), X)


@pytest.mark.parametrize("likelihood", ["gaussian", Poisson()])
def test_missing_entries(likelihood):
    X = np.round(load_wine().data)
    X[np.random.RandomState(0).uniform(size=X.shape) < 0.2] = np.nan
    reducer = WiSEALETransformer(objective=NEAR, likelihood=likelihood, **SHORT).fit(X)
    assert np.isfinite(reducer.transform(X)).all()


def test_tables_files_and_continued_training(tmp_path):
    frame = load_wine(as_frame=True).frame.assign(kind=lambda wine: wine.target.astype(str))
    near = WiSEALETransformer(objective=NEAR, **SHORT, warm_start=True).fit(frame)
    near.save(tmp_path / "model")
    before = near.transform(frame)
    np.testing.assert_array_equal(load(tmp_path / "model").transform(frame), before)
    assert np.abs(near.fit(frame).transform(frame) - before).max() > 0
    few = WiSEALETransformer(1, objective=NEAR, **SHORT).fit([[0.0, 1.0], [1.0, 3.0], [2.0, 2.0]])
    assert few.n_iter_ >= 1


def test_checkpoint_of_other_classes_is_not_used(tmp_path, require_same):
    X, y = load_wine(return_X_y=True)
    near = WiSEALETransformer(objective=NEAR, **SHORT)
    interrupt_fit(clone(near).set_params(checkpoint=tmp_path), X, 2)
    resumed = clone(near).set_params(checkpoint=tmp_path).fit(X, y)
    require_same(resumed.set_params(checkpoint=None), clone(near).fit(X, y), X)
