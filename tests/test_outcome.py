"""What a fit says of itself: the best epoch, the start, the reason of its end, and warnings."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_wine, make_swiss_roll
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback, EarlyStopping

from sklearn_wiseale import WiSEALETransformer, load
from sklearn_wiseale.likelihoods import Gaussian, Mixed, StudentT
from sklearn_wiseale.networks import MLP

X = load_wine().data
NAMES = ["valid_reconstruction", "valid_divergence", "valid_loss"]
OUTCOME = ("best_epoch_", "start_losses_", "stop_reason_")


def make(n_components=2, **params):
    defaults = {"network": MLP(hidden=(16,)), "max_epochs": 20, "random_state": 0}
    return WiSEALETransformer(n_components, **defaults | params)


def held_out_losses(estimator):
    """From that of the start on."""
    losses = [row["valid_loss"] for row in estimator.history_[-estimator.n_iter_ :]]
    return np.array([estimator.start_losses_["valid_loss"], *losses])


@pytest.mark.filterwarnings("ignore:The start")
@pytest.mark.parametrize("params", [{}, {"tol": 1e6, "n_iter_no_change": 4}, {"warm_start": True}])
def test_the_best_epoch_is_that_of_the_lowest_loss(params):
    estimator = make(**params).fit(X)
    for _ in range(2):
        losses = held_out_losses(estimator)
        # a warm start can be so good that the best epochs are not better beyond chance
        unchanged = "warm_start" in params and len(estimator.history_) > estimator.n_iter_
        assert unchanged or estimator.best_epoch_ == losses.argmin()
        assert losses[estimator.best_epoch_] <= losses[0]
        assert losses.argmin() > 0
        assert estimator.history_[-1].keys() >= set(NAMES)
        estimator.fit(X[::-1])


def test_losses_of_the_start_are_those_of_a_fit_that_learns_nothing():
    estimator = make(learning_rate=1e-12, max_epochs=1).fit(X)
    assert list(estimator.start_losses_) == NAMES
    for name, value in estimator.start_losses_.items():
        assert estimator.history_[0][name] == pytest.approx(value, rel=1e-4)
    total = estimator.start_losses_["valid_reconstruction"]
    total += estimator.start_losses_["valid_divergence"]
    assert estimator.start_losses_["valid_loss"] == pytest.approx(total)
    assert estimator.start_losses_ == make().fit(X).start_losses_


def test_without_held_out_rows_the_last_epoch_is_given_back():
    estimator = make(early_stopping=False, max_epochs=3).fit(X)
    assert estimator.best_epoch_ == estimator.n_iter_ == 3
    assert not hasattr(estimator, "start_losses_")


class StopOnce(Callback):
    def __init__(self, stops):
        self.stops = stops

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 7 and self.stops.pop():
            raise KeyboardInterrupt


def test_a_checkpoint_keeps_the_best_epoch(tmp_path):
    callback = StopOnce([False, True])
    estimator = make(checkpoint=tmp_path, net_params={"callbacks": [callback]})
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X)
    assert len(list(tmp_path.iterdir())) == 1
    whole = make().fit(X)
    estimator.fit(X)
    assert [getattr(estimator, n) for n in OUTCOME] == [getattr(whole, n) for n in OUTCOME]


class Interrupt(Callback):
    def on_epoch_end(self, net, **kwargs):
        raise KeyboardInterrupt


REASONS = {
    "max_epochs": {"max_epochs": 2},
    "no_improvement": {"tol": 1e6, "n_iter_no_change": 3},
    "callback": {
        "net_params": {"callbacks": [EarlyStopping("train_loss", patience=2, threshold=1e9)]}
    },
    "diverged": {"learning_rate": 1e12, "early_stopping": False},
    "interrupted": {"net_params": {"callbacks": [Interrupt()]}},
}


@pytest.mark.filterwarnings("ignore:Training diverged")
@pytest.mark.parametrize("reason", REASONS)
def test_the_reason_of_the_end(reason):
    estimator = make(**REASONS[reason])
    if reason == "interrupted":
        with pytest.raises(KeyboardInterrupt):
            estimator.fit(X)
    else:
        estimator.fit(X)
    assert estimator.stop_reason_ == reason


def test_the_outcome_is_saved_and_is_that_of_fit_alone(tmp_path):
    estimator = make().fit(X)
    estimator.save(tmp_path / "model")
    for again in (load(tmp_path / "model"), pickle.loads(pickle.dumps(estimator))):
        for name in OUTCOME:
            assert getattr(again, name) == getattr(estimator, name)
    estimator.partial_fit(X)
    assert not any(hasattr(estimator, name) for name in OUTCOME)
    estimator.save(tmp_path / "model")
    assert not any(hasattr(load(tmp_path / "model"), name) for name in OUTCOME)


# warnings ---------------------------------------------------------------------------------------


def test_a_start_that_training_does_not_improve_is_warned_of():
    rng = np.random.RandomState(0)
    plane = rng.randn(100, 2) @ rng.randn(2, 6) + 0.1 * rng.randn(100, 6)
    params = {"learning_rate": 20.0, "n_iter_no_change": 5}
    with pytest.warns(UserWarning, match="^The start .*was given back: in 5 epochs the loss"):
        estimator = make(**params).fit(plane)
    assert (estimator.best_epoch_, estimator.stop_reason_) == (0, "no_improvement")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The start ")
        make(**params).fit(plane)
    assert make(**params | {"max_epochs": 2}).fit(plane).best_epoch_ == 0  # too few to say


def test_an_automatic_end_that_comes_too_early_is_warned_of(monkeypatch):
    roll = make_swiss_roll(300, random_state=0)[0]
    monkeypatch.setattr("sklearn_wiseale._training.plan._EPOCHS", (8, 8))
    with pytest.warns(ConvergenceWarning, match="Training ended after 8 .* Try max_epochs=16"):
        estimator = make(max_epochs="auto").fit(roll)
    assert estimator.stop_reason_ == "max_epochs"
    late = held_out_losses(estimator)
    assert late[:7].min() - late.min() > 0.1 * (late[0] - late.min())
    make(max_epochs=8).fit(roll)  # who says so means it


@pytest.mark.parametrize("name", ["wine", "noise"])
def test_ordinary_fits_by_default_warn_of_nothing(name):
    rows = {"wine": X, "noise": np.random.RandomState(0).standard_normal((200, 5))}[name]
    reason = WiSEALETransformer(random_state=0).fit(rows).stop_reason_
    assert reason in ("no_improvement", "max_epochs")


@pytest.mark.parametrize("likelihood", ["gaussian", "mixed", "student_t"])
def test_columns_of_which_a_few_entries_have_the_variance_are_named(likelihood):
    rows = pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])])
    rows.iloc[::80, [1, 4]] = 1e4
    rows.iloc[::80, 2] = 5.0  # ten standard deviations off
    if likelihood == "mixed":
        rest = Gaussian(), list(range(1, X.shape[1]))
        likelihood = Mixed([(StudentT(), [0]), rest])
    estimator = make(likelihood=likelihood, max_epochs=2)
    if likelihood == "student_t":
        estimator.fit(rows)  # and no warning
        return
    with pytest.warns(UserWarning, match="more than 95% .* of column 'x1', 'x4', and .*student_t"):
        estimator.fit(rows)
    make(max_epochs=2).fit(rows.iloc[:49])  # too few to tell


def test_the_bar_says_why_it_ended_early(capsys):
    make(verbose=1, tol=1e6, n_iter_no_change=3).fit(X)
    assert "stopped early: held-out loss no longer falls" in capsys.readouterr().err
    make(verbose=1, max_epochs=3).fit(X)
    assert "stopped" not in capsys.readouterr().err
