"""scikit-learn's callbacks: what they are told, and what they may do."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_wiseale import WiSEALETransformer

callback = pytest.importorskip("sklearn.callback")


class Recorder:
    """Notes the tasks, and stops after some epochs."""

    def __init__(self, stop_after=None):
        self.events, self.scores, self.stop_after = [], [], stop_after

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.events.append(("begin", context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
        self.events.append(("end", context.task_name, context.task_id))
        self.scores.append(fitted_estimator.score(X, y))
        self.codes = fitted_estimator.transform(X)
        return self.stop_after is not None and context.task_id + 1 == self.stop_after


@pytest.fixture(scope="module", name="X")
def data():
    rng = np.random.RandomState(0)
    return rng.randn(80, 3) @ rng.randn(3, 6) + 0.3 * rng.randn(80, 6)


def make(**params):
    return WiSEALETransformer(**{"max_epochs": 3, "random_state": 0, **params})


def test_tasks_are_told_in_order(X):
    recorder = Recorder()
    estimator = make(early_stopping=False).set_callbacks(recorder).fit(X)
    epochs = [(what, "epoch", number) for number in range(3) for what in ("begin", "end")]
    fit = [("begin", "fit", 0), *epochs, ("end", "fit", 0)]
    assert recorder.events == ["setup", *fit, "teardown"]
    assert recorder.scores[-1] == recorder.scores[-2] == estimator.score(X)
    assert np.array_equal(recorder.codes, estimator.transform(X))


def test_callbacks_change_no_fit(X):
    told = make().set_callbacks(Recorder()).fit(X)
    assert np.array_equal(told.transform(X), make().fit(X).transform(X))


def test_a_callback_stops_training(X):
    estimator = make(max_epochs=20).set_callbacks(Recorder(stop_after=2)).fit(X)
    assert estimator.n_iter_ == 2


def test_last_epoch_is_ended_where_patience_ends_training(X):
    recorder = Recorder()
    params = {"max_epochs": 30, "n_iter_no_change": 1, "tol": 1e6, "early_stopping": True}
    estimator = make(**params).set_callbacks(recorder).fit(X)
    assert estimator.n_iter_ < 30
    begun = [event for event in recorder.events if event[0] == "begin"]
    ended = [event for event in recorder.events if event[0] == "end"]
    assert len(begun) == len(ended)
    assert recorder.events[-2:] == [("end", "fit", 0), "teardown"]


def test_a_failing_callback_leaves_the_fitted_state(X):
    class Failing(Recorder):
        def on_fit_task_end(self, estimator, context):
            raise RuntimeError("of the callback")

    estimator = make().fit(X)
    before = estimator.transform(X)
    failing = Failing()
    estimator.set_callbacks(failing)
    with pytest.raises(RuntimeError, match="of the callback"):
        estimator.fit(X + 1)
    assert failing.events[-1] == "teardown"
    assert np.array_equal(estimator.transform(X), before)


def test_fitted_with_callbacks_it_pickles_and_refits(X):
    estimator = make().set_callbacks(Recorder()).fit(X).fit(X)
    again = pickle.loads(pickle.dumps(estimator))
    assert np.array_equal(again.transform(X), estimator.transform(X))
    assert np.array_equal(clone(estimator).fit(X).transform(X), estimator.transform(X))


def test_in_a_pipeline_and_a_search(X):
    recorder = Recorder()
    pipeline = make_pipeline(StandardScaler(), make().set_callbacks(recorder)).fit(X)
    assert ("end", "epoch", 2) in recorder.events
    GridSearchCV(pipeline, {"wisealetransformer__n_components": [1, 2]}, cv=2).fit(X)


def log_likelihood(estimator, X, y):
    return estimator.score(X)


def test_scoring_monitor_scores_every_epoch(X):
    monitor = callback.ScoringMonitor(scoring={"log_likelihood": log_likelihood})
    estimator = make().set_callbacks(monitor).fit(X)
    scores = [row["log_likelihood"] for row in monitor.get_logs().data]
    assert len(scores) == 1 + 3
    assert scores[0] == estimator.score(X)
