"""What "auto" means: rows held out, rate and epochs; what few rows and small steps get."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.decomposition import PCA
from skorch.callbacks import Callback

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale._data.rows import Rows
from sklearn_wiseale._data.scaling import Scaling
from sklearn_wiseale.networks import MLP

LOADERS = {"wine": load_wine, "iris": load_iris, "breast_cancer": load_breast_cancer}


def r2(X, back):
    return 1 - ((X - back) ** 2).sum() / (X**2).sum()


@pytest.mark.filterwarnings("ignore:The start", "ignore:Training ended")
@pytest.mark.parametrize("n", [20, 39, 41])
def test_few_rows_are_hardly_ever_worse_than_pca(n):
    gains = []
    for name, load in LOADERS.items():
        order = np.random.RandomState(n).permutation(len(load().data))
        train, test = (load().data[part] for part in (order[:n], order[n:]))
        mean, std = train.mean(axis=0), train.std(axis=0)
        model = WiSEALETransformer(random_state=0).fit(train)
        back = (model.inverse_transform(model.transform(test)) - mean) / std
        train, test = (train - mean) / std, (test - mean) / std
        pca = PCA(2).fit(train)
        gains.append(r2(test, back) - r2(test, pca.inverse_transform(pca.transform(test))))
        assert gains[-1] > -0.1, name
    assert np.mean(gains) > -0.005


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_fewest_rows_hold_some_out(n):
    X = np.random.RandomState(0).standard_normal((n, 4))
    model = WiSEALETransformer(1, max_epochs=3, random_state=0).fit(X)
    assert "valid_loss" in model.history_[0]
    assert np.isfinite(model.score(X))


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_no_less_than_what_all_rows_leave(seed):
    """Wild rows among those trained on, and easy ones held out, do not make the model sure."""
    rng = np.random.RandomState(0)
    X = rng.standard_normal((150, 2)) @ rng.standard_normal((2, 6)) + rng.standard_normal((150, 6))
    X[:3] *= 15 * rng.standard_normal((3, 6))
    model = WiSEALETransformer(max_epochs=20, random_state=seed).fit(X)
    left = (X - model.inverse_transform(model.transform(X))) / X.std(axis=0)
    noise = model.noise_scale_ / X.std(axis=0)
    assert (noise**2).mean() > 0.95 * (left**2).mean()


class Threads(Callback):
    """Notes by how many threads steps are computed."""

    def __init__(self, seen):
        self.seen = seen

    def on_batch_begin(self, net, **kwargs):
        self.seen.add(torch.get_num_threads())


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("hidden", "n_threads"), [((16,), 1), ((2048, 2048), 2)])
def test_small_steps_are_computed_by_one_thread(hidden, n_threads):
    seen, X = set(), np.random.RandomState(0).standard_normal((100, 5))
    params = {"callbacks": [Threads(seen)]}
    WiSEALETransformer(network=MLP(hidden), max_epochs=1, net_params=params, device="cpu").fit(X)
    assert seen == {n_threads}
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_threads_are_as_before_after_an_error():
    class Failing(Callback):
        def on_batch_begin(self, net, **kwargs):
            raise RuntimeError("of the callback")

    model = WiSEALETransformer(net_params={"callbacks": [Failing()]}, device="cpu")
    with pytest.raises(RuntimeError, match="of the callback"):
        model.fit(np.eye(20))
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("n", "epochs"), [(60, 60), (1000, 60), (4000, 40)])
def test_automatic_epochs_are_those_documented(n, epochs):
    X = np.random.RandomState(0).standard_normal((n, 3))
    params = {"early_stopping": False, "network": MLP((4,)), "random_state": 0}
    model = WiSEALETransformer(**params).fit(X)
    steps = max(600, 10 * n**0.5)
    a_pass = -(-n // model.net_.batch_size)
    assert model.n_iter_ == epochs == min(60, -(-steps // a_pass))


@pytest.mark.parametrize(("n_columns", "rate"), [(3, 8e-3), (16, 8e-3), (64, 4e-3), (4000, 1e-3)])
def test_automatic_rate_is_that_documented(n_columns, rate):
    X = np.random.RandomState(0).standard_normal((512, n_columns))  # batches of 64
    params = {"early_stopping": False, "network": MLP((4,)), "random_state": 0}
    model = WiSEALETransformer(max_epochs=40, **params).fit(X)
    highest = max(row["learning_rate"] for row in model.history_)
    assert highest == pytest.approx(rate, rel=0.05)
    model = WiSEALETransformer(**params)
    for _ in range(8):
        model.partial_fit(X)
    assert model.history_[-1]["learning_rate"] == pytest.approx(1e-3)


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("index", [None, np.arange(5, 25)])
def test_a_part_of_rows_has_some_of_them_evenly_spaced(resident, index):
    X = np.random.RandomState(0).standard_normal((30, 2))
    scaling = Scaling(np.zeros(2), np.ones(2))
    rows = Rows(X, scaling, torch.float64, torch.device("cpu"), index)
    if resident:
        rows.make_resident()
    every = rows[slice(None)]
    assert rows.part(len(rows)) is rows
    few = rows.part(4)
    chosen = np.linspace(0, len(rows) - 1, 4).astype(int)
    assert len(few) == 4
    torch.testing.assert_close(few[slice(None)], every[torch.from_numpy(chosen)])
