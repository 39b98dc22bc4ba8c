"""The user's callbacks of skorch in net_params."""

import copy
import itertools
import pickle
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from fuzzing import interrupt_fit
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    GradientNormClipping,
    LRScheduler,
    ParamMapper,
    PrintLog,
    TensorBoard,
)

from sklearn_wiseale import WiSEALETransformer, load
from sklearn_wiseale.networks import MLP

X = load_wine().data


class Recorder(Callback):
    """Notes the losses, in its own list and in a given one."""

    def __init__(self, given=None):
        self.given, self.losses = given, []

    def on_epoch_end(self, net, **kwargs):
        for losses in (self.losses, self.given):
            if losses is not None:
                losses.append(net.history[-1]["train_loss"])


class Prune(Callback):
    """Reports to a trial of Optuna."""

    def __init__(self, trial):
        self.trial = trial

    def on_epoch_end(self, net, **kwargs):
        import optuna

        row = net.history[-1]
        self.trial.report(row["valid_loss"], row["epoch"])
        if self.trial.should_prune():
            raise optuna.TrialPruned


class Holder(Callback):
    """Holds what cannot be pickled."""

    def __init__(self, held):
        self.held = held


def one(net, X, y=None):
    return 1.0


def silent(text):
    pass


def make(*callbacks, **params):
    defaults = {"network": MLP(hidden=(6,)), "max_epochs": 3, "random_state": 0}
    given = {"net_params": {"callbacks": list(callbacks)}} if callbacks else {}
    return WiSEALETransformer(2, **defaults | given | params)


CODES = make().fit(X).transform(X)


def search(estimator, **params):
    grid = {"n_components": [1, 2]}
    return GridSearchCV(estimator, grid, cv=2, error_score="raise", **params).fit(X)


def test_an_instance_is_used_as_it_is():
    recorder = Recorder()
    estimator = make(("recorder", recorder), max_epochs=300, n_iter_no_change=2).fit(X)
    assert estimator.n_iter_ < 300
    assert recorder.losses == [row["train_loss"] for row in estimator.history_]
    assert dict(estimator.net_.callbacks_)["recorder"] is recorder
    assert estimator.net_params == {"callbacks": [("recorder", recorder)]}


def test_a_class_is_built():
    estimator = make(Recorder, net_params={"callbacks": [Recorder], "callbacks__Recorder": None})
    assert "Recorder" not in dict(estimator.fit(X).net_.callbacks_)
    (recorder,) = [c for n, c in make(Recorder).fit(X).net_.callbacks_ if n == "Recorder"]
    assert len(recorder.losses) == 3


def test_a_clone_has_callbacks_of_its_own_made_with_the_same_objects():
    shared, recorder = [], Recorder()
    estimator = make(recorder, ("shared", Recorder(shared)), PrintLog)
    cloned = clone(estimator)
    own, (name, other), kind = cloned.net_params["callbacks"]
    assert (name, kind) == ("shared", PrintLog)
    assert own is not recorder
    assert other.given is shared
    cloned.set_params(net_params={"callbacks": [own, (name, other)]}).fit(X)
    assert recorder.losses == []
    assert own.losses == shared != []
    assert estimator.net_params["callbacks"][0] is recorder


def test_a_callback_that_cannot_be_made_anew_is_named():
    class Hidden(Callback):
        def __init__(self, path):
            self._path = path

    estimator = make(Hidden("here")).fit(X)
    with pytest.raises(ValueError, match=r"'net_params' .*made anew for a clone.* Got Hidden"):
        clone(estimator)


CALLBACKS = {
    "recorder": lambda folder: Recorder(),
    "class": lambda folder: Recorder,
    "checkpoint": lambda folder: Checkpoint(dirname=folder),
    "scoring": lambda folder: EpochScoring(one, name="one"),
    "stopping": lambda folder: EarlyStopping(patience=2),
    "clipping": lambda folder: GradientNormClipping(10.0),
    "freezing": lambda folder: ParamMapper("nothing*"),
    "printing": lambda folder: PrintLog(sink=silent),
    "rate": lambda folder: LRScheduler("StepLR", step_size=1, gamma=0.5),
}


@pytest.mark.parametrize("name", CALLBACKS)
def test_callbacks_in_a_fit_a_clone_a_copy_and_searches(name, tmp_path):
    estimator = make(CALLBACKS[name](tmp_path)).fit(X)
    codes = estimator.transform(X)
    if name == "rate":
        (group,) = estimator.net_.optimizer_.param_groups
        assert group["lr"] == pytest.approx(0.5**3 * estimator.net_.lr)
    for again in (clone(estimator).fit(X), estimator.fit(X)):
        np.testing.assert_array_equal(again.transform(X), codes)
    for copied in (copy.deepcopy(estimator), pickle.loads(pickle.dumps(estimator))):
        np.testing.assert_array_equal(copied.transform(X), codes)
        np.testing.assert_array_equal(copied.fit(X).transform(X), codes)
    alone = search(make(CALLBACKS[name](tmp_path)))
    workers = search(make(CALLBACKS[name](tmp_path)), n_jobs=2)
    for key in ("split0_test_score", "split1_test_score"):
        np.testing.assert_allclose(alone.cv_results_[key], workers.cv_results_[key], rtol=1e-4)


def test_what_cannot_be_pickled_works_alone_and_is_named_for_workers(tmp_path):
    held = Holder(threading.Lock())
    estimator = make(held).fit(X)
    search(make(held))
    message = "'net_params' .*callbacks that can be pickled.* Got Holder instead: "
    for call in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match=message):
            call(estimator)
    with pytest.raises(pickle.PicklingError) as caught:
        search(make(held), n_jobs=2)
    assert "Got Holder instead" in str(caught.value.__cause__)
    assert "held" not in copy.copy(estimator).get_params()  # a shallow copy is free to have it


def test_left_out_of_net_params_it_is_left_out_of_files(tmp_path):
    held = Holder(threading.Lock())
    estimator = make(held, LRScheduler("StepLR", step_size=1)).fit(X)
    with pytest.raises(ValueError, match=r"callbacks.*cannot be stored"):
        estimator.save(tmp_path / "model")
    estimator.set_params(net_params=None)
    estimator.save(tmp_path / "model")
    loaded, unpickled = load(tmp_path / "model"), pickle.loads(pickle.dumps(estimator))
    for again in (loaded, unpickled):
        np.testing.assert_array_equal(again.transform(X), estimator.transform(X))
        assert not any(isinstance(part, Holder) for _, part in again.net_.callbacks_)
    codes = [again.partial_fit(X).transform(X) for again in (loaded, unpickled)]
    np.testing.assert_array_equal(*codes)
    assert any(isinstance(part, Holder) for _, part in estimator.net_.callbacks_)


class Dying(Recorder):
    """Interrupts the second epoch, once."""

    def on_epoch_end(self, net, **kwargs):
        super().on_epoch_end(net)
        if len(self.losses) == 2:
            raise KeyboardInterrupt


def test_a_checkpoint_is_found_again_whatever_callbacks_have_noted(tmp_path):
    dying = Dying()
    with pytest.raises(KeyboardInterrupt):
        make(dying, checkpoint=tmp_path).fit(X)
    assert len(list(tmp_path.iterdir())) == 1
    resumed = make(dying, checkpoint=tmp_path).fit(X)
    assert len(dying.losses) == 2 + 2  # the first epoch was not run again
    np.testing.assert_array_equal(resumed.transform(X), CODES)


def test_a_checkpoint_belongs_to_the_parameters_of_callbacks(tmp_path):
    for gamma in (0.5, 0.1):
        rate = LRScheduler("StepLR", step_size=1, gamma=gamma)
        interrupt_fit(make(rate, checkpoint=tmp_path), X)
    assert len(list(tmp_path.iterdir())) == 2


def best_so_far(losses):
    return [bool(loss < min([np.inf, *losses[:i]])) for i, loss in enumerate(losses)]


@pytest.mark.parametrize("early_stopping", [True, False])
def test_best_losses_are_recorded_as_skorch_does(early_stopping):
    estimator = make(max_epochs=12, early_stopping=early_stopping, warm_start=True).fit(X).fit(X)
    names = ["train_loss", "valid_loss"] if early_stopping else ["train_loss"]
    for name in names:
        losses = [row[name] for row in estimator.history_]
        assert [row[f"{name}_best"] for row in estimator.history_] == best_so_far(losses)
        assert estimator.net_.history[:, f"{name}_best"] == best_so_far(losses)
    assert ("valid_loss_best" in estimator.history_[0]) == early_stopping


def test_skorchs_checkpoint_keeps_the_best_epoch_by_default(tmp_path):
    checkpoint = Checkpoint(dirname=tmp_path)
    estimator = make(checkpoint, max_epochs=5).fit(X)
    assert (tmp_path / "params.pt").exists()
    assert checkpoint.get_formatted_files(estimator.net_)["f_params"].endswith("params.pt")


# packages that the extra "interoperation" installs -----------------------------------------------


def test_optunas_pruner_in_memory_hears_all_reports():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial):
        rate = trial.suggest_categorical("learning_rate", [1e-3, 1e-9])
        return clone(make(Prune(trial), learning_rate=rate, max_epochs=4)).fit(X).score(X)

    sampler = optuna.samplers.GridSampler({"learning_rate": [1e-3, 1e-9]}, seed=0)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=1)
    study = optuna.create_study(direction="minimize", sampler=sampler, pruner=pruner)
    study.enqueue_trial({"learning_rate": 1e-3})
    study.optimize(objective, n_trials=3)
    first = study.trials[0]
    assert sorted(first.intermediate_values) == [1, 2, 3, 4]
    states = {t.params["learning_rate"]: t.state.name for t in study.trials}
    assert states == {1e-3: "COMPLETE", 1e-9: "PRUNED"}
    with pytest.raises(pickle.PicklingError) as caught:
        search(make(Prune(study.ask())), n_jobs=2)
    assert "Got Prune instead: a trial of Optuna" in str(caught.value.__cause__)


def recipe(name):
    """The script in the user guide after a label."""
    text = Path(__file__, "..", "..", "docs", "guide.rst").resolve().read_text()
    block = text.split(f".. _{name}:")[1].split(".. code-block:: python\n")[1]
    lines = list(itertools.takewhile(lambda line: not line or line[0] == " ", block.splitlines()))
    return textwrap.dedent("\n".join(lines))


RECIPES = {
    "optuna": ("optuna", "early_stopping=True", "n_trials=20", "n_trials=2"),
    "tensorboard": ("torch.utils.tensorboard", "random_state=0", "", ""),
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_of_the_guide(name, tmp_path, monkeypatch):
    module, params, many, few = RECIPES[name]
    pytest.importorskip(module, exc_type=ImportError)
    monkeypatch.chdir(tmp_path)
    found = {"X": X}
    script = recipe(name).replace(params, f"{params}, max_epochs=3").replace(many, few)
    exec(script, found)
    if name == "optuna":
        assert [len(trial.intermediate_values) for trial in found["study"].trials] == [3, 3]
    else:
        assert list((tmp_path / "runs" / "wine").iterdir())
        again = pickle.loads(pickle.dumps(found["reducer"]))
        np.testing.assert_array_equal(again.transform(X), found["reducer"].transform(X))


def test_tensorboard_is_written_to(tmp_path):
    board = pytest.importorskip("torch.utils.tensorboard", exc_type=ImportError)
    with board.SummaryWriter(tmp_path) as writer:
        logger = TensorBoard(writer, close_after_train=False)
        estimator = make(logger).fit(X)
        clone(estimator).fit(X)
        search(make(logger))
        with pytest.raises(pickle.PicklingError) as caught:
            search(make(logger), n_jobs=2)
        assert "Got TensorBoard instead" in str(caught.value.__cause__)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path)).Reload()
    assert {"Loss/train_loss", "Loss/valid_loss", "learning_rate"} <= set(events.Tags()["scalars"])
    values = [event.value for event in events.Scalars("Loss/train_loss")][:3]
    np.testing.assert_allclose(values, [row["train_loss"] for row in estimator.history_], rtol=1e-5)


class Counting(Callback):
    """A callback with a state of its own."""

    def __init__(self):
        self.count_ = 0

    def on_epoch_end(self, net, **kwargs):
        self.count_ += 1
        net.history.record("count", self.count_)

    def state_dict(self):
        return {"count": self.count_, "tensor": torch.tensor([float(self.count_)])}

    def load_state_dict(self, state):
        assert float(state["tensor"]) == state["count"]
        self.count_ = state["count"]


def test_the_state_of_a_callback_is_kept_in_checkpoints(tmp_path):
    interrupt_fit(make(Counting(), checkpoint=tmp_path, max_epochs=5), X, 3)
    resumed = make(Counting(), checkpoint=tmp_path, max_epochs=5).fit(X)
    assert [row["count"] for row in resumed.history_] == [1, 2, 3, 4, 5]


def test_methods_of_skorch_without_a_meaning_are_refused():
    net = make().fit(X).net_
    for method in (net.fit, net.partial_fit, net.forward, net.predict, net.predict_proba):
        with pytest.raises(NotImplementedError, match="transform"):
            method(X)
