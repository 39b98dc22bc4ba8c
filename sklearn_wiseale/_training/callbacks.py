"""What happens between the epochs: learning rate, best state, finite guard, progress."""

from __future__ import annotations

import inspect
import math
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import joblib
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback, LRScheduler

from .state import check_like, copied

__all__ = [
    "BestLosses",
    "BestState",
    "EachEpoch",
    "ProgressBar",
    "Schedule",
    "StopTraining",
    "clone_callbacks",
    "describe_callbacks",
    "is_kept",
    "refuse_pickling",
    "with_defaults",
]


#: Reasons for the end of training, for the progress bar.
_REASONS = {
    "max_epochs": "ended",
    "no_improvement": "stopped early: held-out loss no longer falls",
    "diverged": "stopped early: loss no longer finite",
    "callback": "stopped early by a callback",
    "interrupted": "interrupted",
}


#: Number of standard errors by which an epoch must be better than the start.
_STANDARD_ERRORS = 1.0


class StopTraining(Exception):
    """Ends training early; the message becomes ``stop_reason_``."""

    def __init__(self, reason: str = "callback") -> None:
        super().__init__(reason)


class Schedule(Callback):
    """Increase the learning rate over ``warm_up`` steps, hold it, and let it decay to zero.

    The rate falls along a half cosine over the share ``decay`` of the present fit. Warm-up counts
    the steps of all calls. ``horizon_`` is the number of steps of the present fit; in
    ``partial_fit``, it is None, and the rate does not decay.
    """

    def __init__(self, learning_rate: float = 1e-3, warm_up: int = 50, decay: float = 0.75) -> None:
        self.learning_rate = learning_rate
        self.warm_up = warm_up
        self.decay = decay
        self.horizon_: int | None = None
        self.step_ = 0  # in all calls
        self.begin_ = 0  # first step of the present call

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        self.begin_ = self.step_

    def on_batch_begin(
        self, net: Any, batch: Any = None, training: bool | None = None, **kwargs: Any
    ) -> None:
        rate = self.learning_rate * self.factor()
        for group in net.optimizer_.param_groups:
            group["lr"] = rate
        self.step_ += 1

    def state_dict(self) -> dict[str, Any]:
        """Steps of all calls, and the first step of the present call."""
        return {"step": self.step_, "begin": self.begin_}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a ``state_dict``."""
        check_like(state, self.state_dict(), "schedule")
        self.step_, self.begin_ = state["step"], state["begin"]

    def factor(self) -> float:
        """Factor of the learning rate at the present step."""
        factor = min(1.0, (self.step_ + 1) / self.warm_up)
        if self.horizon_:
            remaining = 1.0 - (self.step_ - self.begin_) / self.horizon_
            factor *= 0.5 - 0.5 * math.cos(math.pi * min(1.0, max(0.0, remaining / self.decay)))
        return factor

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        net.history.record("learning_rate", net.optimizer_.param_groups[0]["lr"])


#: Losses of an epoch, in the order of :class:`BestLosses`.
LOSSES = ("train_loss", "valid_loss")


class BestLosses(Callback):
    """Records whether an epoch has the lowest loss so far, as skorch's ``Checkpoint`` needs it."""

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        row = net.history[-1]
        for name in LOSSES:
            if name in row:
                best = f"{name}_best"
                earlier = (old[name] for old in reversed(net.history) if old.get(best))
                net.history.record(best, row[name] < next(earlier, math.inf))


class BestState(Callback):
    """Keeps the best state and restores it at the end; stops training if there is no progress.

    With held-out rows, the best state has their lowest loss, among the running averages of the
    weights after each epoch and the state before the first. Without, it is the latest finite one.
    An epoch must be better than the start by some standard errors of the rows' differences: with
    few rows, some epoch seems better by chance. A loss that is not finite ends training with a
    ConvergenceWarning. Training also stops after ``patience`` epochs in which the held-out loss did
    not fall by more than ``tol``.
    """

    def __init__(self, patience: int, tol: float) -> None:
        self.patience = patience
        self.tol = tol
        self.best_epoch_ = 0  # of the present call, from 1; 0 is the start
        self.start_: dict[str, float] = {}  # held-out losses of the start

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        _, self.held_out_ = X
        self.state_: dict[str, Any]  # tensors and extra state of the module
        self.best_loss_ = self.reference_ = math.inf
        self.waited_ = 0
        self.first_ = len(net.history)  # epochs of earlier calls
        self.start_ = {}
        if self.held_out_ is not None:
            self.start_losses_, divergence = net.held_out_losses(self.held_out_)
            terms = [float(self.start_losses_.mean()), divergence]
            self.best_loss_ = self.reference_ = sum(terms)
            names = ("valid_reconstruction", "valid_divergence", "valid_loss")
            self.start_ = dict(zip(names, [*terms, sum(terms)], strict=True))
        self._keep(net)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        row = net.history[-1]
        loss = row["train_loss"] + row.get("valid_loss", 0.0)
        if not (math.isfinite(loss) and _finite(net.module_)):
            warnings.warn(
                f"Training diverged in epoch {row['epoch']} (loss {row['train_loss']:g}); the last "
                "finite state was kept. Lower learning_rate, or look for extreme values in X.",
                ConvergenceWarning,
                stacklevel=2,
            )
            net.__dict__.pop("optimizer_", None)  # its moments are no longer finite either
            raise StopTraining("diverged")
        if self.held_out_ is None:
            self._keep(net)
            return
        if row["valid_loss"] < self.best_loss_ and self._beats_start(net):
            self.best_loss_ = row["valid_loss"]
            self._keep(net)
        if row["valid_loss"] < self.reference_ - self.tol:  # absolute: losses may be negative
            self.reference_ = row["valid_loss"]
            self.waited_ = 0
            return
        self.waited_ += 1
        if self.waited_ >= self.patience:
            raise StopTraining("no_improvement")

    def _beats_start(self, net: Any) -> bool:
        """Whether the last epoch is better than the start by more than chance explains."""
        gains = self.start_losses_ - net.held_out_losses_  # (n,), of the reconstruction
        gain = self.start_["valid_loss"] - net.history[-1]["valid_loss"]
        if len(gains) == 1:
            return False
        return gain > _STANDARD_ERRORS * float(gains.std()) / math.sqrt(len(gains))

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        net.module_.load_state_dict(self.state_)
        if self.held_out_ is not None:
            net.calibrate_noise(self.held_out_, X[0])
            del self.start_losses_
        del self.state_, self.held_out_  # pickles hold no second copy of weights and no data

    def state_dict(self) -> dict[str, Any]:
        """Numbers and state of the best epoch so far; empty after training."""
        if not hasattr(self, "state_"):
            return {}
        names = ("best_epoch", "best_loss", "reference", "waited")
        return {**{name: getattr(self, f"{name}_") for name in names}, "best": self.state_}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a ``state_dict``."""
        own = self.state_dict()
        check_like(state, own, "best_state", finite=True)
        for name, value in state.items():
            if name != "best":
                setattr(self, f"{name}_", value)
        if own:
            devices = {k: v.device for k, v in own["best"].items() if isinstance(v, torch.Tensor)}
            best = state["best"].items()
            self.state_ = {k: v.to(devices[k]) if k in devices else v for k, v in best}

    def _keep(self, net: Any) -> None:
        self.best_epoch_ = len(net.history) - self.first_
        with net.averaged_weights():
            self.state_ = copied(net.module_.state_dict())


@torch.no_grad()
def _finite(module: torch.nn.Module) -> bool:
    tensors = [value for value in module.state_dict().values() if isinstance(value, torch.Tensor)]
    sums = [tensor.sum() for tensor in tensors if tensor.is_floating_point()]
    return bool(torch.stack([s.to(sums[0].device) for s in sums]).isfinite().all())  # one wait


def with_defaults(callbacks: list[Any], patience: int, tol: float) -> list[Any]:
    """The user's skorch callbacks between ours: the schedule first, the best state last.

    The best state may stop training, and callbacks after it would miss the end of the epoch. A
    ``LRScheduler`` of the user replaces the schedule.
    """
    own = any(isinstance(part, LRScheduler) or part is LRScheduler for part in _alone(callbacks))
    first = [] if own else [("schedule", Schedule())]
    losses = ("best_losses", BestLosses())
    return [*first, losses, *callbacks, ("best_state", BestState(patience, tol))]


def _alone(callbacks: list[Any]) -> list[Any]:
    """Callbacks, instances or classes, without their names."""
    return [item[-1] if isinstance(item, (tuple, list)) else item for item in callbacks]


def _parameters(callback: Any) -> dict[str, Any]:
    """Arguments with which a callback was made.

    skorch's ``get_params`` returns all attributes whose names do not end in an underscore.
    """
    given = inspect.signature(type(callback)).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in given):
        return callback.get_params(deep=False)
    return {parameter.name: getattr(callback, parameter.name) for parameter in given}


def clone_callbacks(callbacks: list[Any]) -> list[Any]:
    """New callbacks with the same arguments, which are not copied.

    Each fit of a search then has callbacks of its own, while objects such as a writer or a trial
    are shared. Raises a ValueError if the arguments of a callback are not its attributes.
    """

    def made_anew(callback: Any) -> Any:
        if isinstance(callback, type):
            return callback
        try:
            return type(callback)(**_parameters(callback))
        except Exception as error:
            raise ValueError(
                "The 'net_params' parameter of WiSEALETransformer must have callbacks that can be "
                "made anew for a clone: each argument of __init__ must be an attribute of the same "
                f"name. Got {type(callback).__name__} instead: {type(error).__name__}: {error}"
            ) from error

    named = [item if isinstance(item, (tuple, list)) else (item,) for item in callbacks]
    cloned = [(*name, made_anew(callback)) for *name, callback in named]
    return [item if len(item) == 2 else item[0] for item in cloned]


def is_kept(name: str) -> bool:
    """Whether a parameter of the net remains without the user's callbacks."""
    first, *rest = name.split("__")
    return first != "callbacks" or rest[:1] in (["schedule"], ["best_losses"], ["best_state"])


def describe_callbacks(callbacks: list[Any]) -> list[Any]:
    """Types of callbacks, with their parameters that are numbers, texts or None."""
    described = []
    for callback in _alone(callbacks):
        try:
            params = {} if isinstance(callback, type) else _parameters(callback)
        except AttributeError:
            params = {}
        plain = (bool, int, float, str, type(None))
        kind = callback if isinstance(callback, type) else type(callback)
        known = {name: value for name, value in params.items() if isinstance(value, plain)}
        described.append([kind.__qualname__, known])
    return described


def refuse_pickling(callbacks: list[Any]) -> None:
    """Raise a TypeError for a callback that cannot be pickled without loss.

    cloudpickle, which joblib uses for workers, can hold more than pickle.
    """
    for callback in _alone(callbacks):
        if isinstance(callback, type):
            continue
        storages = (getattr(value, "storage", None) for value in vars(callback).values())
        try:
            if any(type(storage).__name__ == "InMemoryStorage" for storage in storages):
                raise TypeError("a trial of Optuna in this process's memory, which others lack")
            pickle.dumps(joblib.wrap_non_picklable_objects(callback))
        except Exception as error:
            raise TypeError(
                "The 'net_params' parameter of WiSEALETransformer must have callbacks that can be "
                "pickled. Got "
                f"{type(callback).__name__} instead: {error}. Use n_jobs=1, or remove it with "
                "set_params(net_params=None)."
            ) from error


class ProgressBar(Callback):
    """A progress bar over the epochs, in terminals and notebooks."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        from tqdm.auto import tqdm

        self.bar_ = tqdm(total=self.epochs, unit="epoch", desc="WiSEALETransformer")

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        row = net.history[-1]
        shown = {
            "loss": row["train_loss"],
            "reconstruction": row["train_reconstruction"],
            "divergence": row["train_divergence"],
        }
        if "valid_loss" in row:
            shown["validation"] = row["valid_loss"]
        self.bar_.set_postfix({name: f"{value:.4g}" for name, value in shown.items()})
        self.bar_.update()

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        if self.bar_.n < self.epochs and net.stop_reason_:
            self.bar_.set_description_str(f"WiSEALETransformer, {_REASONS[net.stop_reason_]}")
        self.bar_.close()
        self.bar_ = None


class EachEpoch(Callback):
    """Calls a function with the net after each epoch and after all other callbacks."""

    def __init__(self, function: Callable[[Any], None]) -> None:
        self.function = function

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self.function(net)
