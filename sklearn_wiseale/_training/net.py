"""The training loop around reconstruction + divergence, in a net of skorch."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, EpochTimer, LRScheduler
from skorch.utils import TeeGenerator
from torch import Tensor, nn

from .._data.rows import Rows
from .._model.inference import decode, posterior
from .._model.module import VariationalModule, private_torch_rng
from ..networks._packing import pack, unpack
from ..objectives._base import Batch, Posterior
from .batches import ShuffledBatches
from .callbacks import LOSSES, BestLosses, BestState, Schedule, StopTraining, is_kept, with_defaults
from .distributed import ONE_PROCESS, Processes, current_processes
from .state import State, check_like, copied, load_optimizer

__all__ = [
    "Terms",
    "VariationalNet",
    "build_net",
]

#: Seed of the fixed draws with which the held-out rows of every epoch are judged.
_HELD_OUT_SEED = 20190215
#: Maximum number of training rows that calibrate the noise.
_NOISE_ROWS = 4096
#: Share of the present weights in their running average, which spans about 50 steps.
_AVERAGE_RATE = 0.02
#: Steps of fewer floating-point operations use one thread: a second one would mostly wait.
_ONE_THREAD = 5e8
#: Modules, which pickles hold as arrays.
_MODULES = ("module_", "criterion_")
#: Numbers that belong to the state.
_NUMBERS = ("seed", "lr", "batch_size", "n_samples_", "first_row_", "missing_")
#: Attributes that exist during training only.
_OF_TRAINING = (
    *("processes_", "average_", "order_generator_", "noise_generator_"),
    "held_out_losses_",
)
#: One thread at a time moves a net to another device.
_MOVE_LOCK = threading.Lock()


class Terms(NamedTuple):
    """The two terms of an objective, scalars in nats per row; the loss is their sum."""

    reconstruction: Tensor
    divergence: Tensor


class VariationalNet(NeuralNet):
    """skorch's ``NeuralNet`` for a :class:`VariationalModule` and a divergence.

    Optimizer, callbacks, history and parameters are skorch's. The loop is our own: a batch is rows
    and their numbers, and the sums of an epoch stay on the device until its end. Random numbers of
    an epoch follow from ``seed`` and from the number of the epoch.
    """

    processes_: Processes = ONE_PROCESS  # of the present call of train
    average_: dict[nn.Parameter, Tensor] | None = None  # running averages of the weights
    stop_reason_ = ""  # why the last call of train ended

    def __init__(
        self, module: nn.Module, criterion: nn.Module, *, seed: int, **kwargs: Any
    ) -> None:
        self.seed = seed
        self.device: str
        super().__init__(module, criterion, train_split=None, **kwargs)

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        return [("epoch_timer", EpochTimer())]

    def initialize(self) -> VariationalNet:
        """Initialise modules, optimiser and callbacks; return self."""
        super().initialize()
        self.n_samples_ = self.first_row_ = 0
        self.missing_ = False
        return self

    def torch_compile(self, module: Any, name: str) -> Any:
        """Compile encoder and decoder if ``compile=True``.

        They are compiled in place: the names of weights stay, and copies are not compiled.
        """
        if self.compile and name == "module":
            params = self.get_params_for("compile")
            for part in (module.encoder, module.decoder):
                part.compile(**params)
        return module

    # training -----------------------------------------------------------------------------

    def train(
        self,
        rows: Rows,
        held_out: Rows | None,
        epochs: int,
        *,
        n_samples: int,
        first_row: int = 0,
        neighbors: Tensor | None = None,
        resume: Callable[[VariationalNet], None] | None = None,
    ) -> None:
        """Train for some epochs, continuing from the present state.

        N, which divergences may use, is ``n_samples``. ``first_row`` counts the rows of earlier
        chunks; at 0, the divergence forgets other rows. ``neighbors``, (n, k), numbers neighbours
        of each row. ``resume`` loads the state of an earlier call with the same arguments, whose
        epochs count. All processes of a group train together.
        """
        processes = self.processes_ = current_processes()
        self.n_samples_, self.first_row_ = n_samples, first_row
        self.missing_ = rows.missing
        if first_row == 0 and hasattr(self.criterion_, "reset"):
            self.criterion_.reset()
        if not hasattr(self, "optimizer_"):  # removed by pickling or by a change of device
            self._initialize_optimizer()
        processes.copy_from_first(self._state_tensors())
        n_before = len(self.history)
        self.order_generator_ = torch.Generator()  # seeded anew at each epoch
        self.noise_generator_ = torch.Generator(self.device)
        if held_out is not None:
            self.average_ = {p: p.detach().clone() for p in self.module_.parameters()}
        self.stop_reason_ = "interrupted"
        self.notify("on_train_begin", X=(rows, held_out), y=None)
        try:
            if resume is not None:
                resume(self)
                epochs -= len(self.history) - n_before
            batches = ShuffledBatches(
                rows, self.batch_size, self.order_generator_, processes, neighbors
            )
            datasets = {"dataset_train": rows, "dataset_valid": held_out}
            with self._enough_threads():
                for _ in range(epochs):
                    self.notify("on_epoch_begin", **datasets)
                    self._train_epoch(batches)
                    if held_out is not None:
                        self._judge_epoch(held_out)
                    self.notify("on_epoch_end", **datasets)
            self.stop_reason_ = "max_epochs"
        except StopTraining as stop:
            self.stop_reason_ = str(stop)
        finally:
            if self.history and "train_loss" not in self.history[-1]:
                del self.history[-1]  # the row of an interrupted epoch
            self.notify("on_train_end", X=(rows, held_out), y=None)
            for name in _OF_TRAINING:
                self.__dict__.pop(name, None)
            self._set_training(False)
        processes.copy_from_first(self._state_tensors())

    @contextmanager
    def _enough_threads(self) -> Iterator[None]:
        """Inside, a CPU computes small steps with one thread, others with torch's number."""
        n_threads, layers = torch.get_num_threads(), [*self.module_.modules()]
        dense = all(isinstance(m, nn.Linear) for m in layers if [*m.parameters(recurse=False)])
        weights = sum(weight.numel() for weight in self.module_.parameters())
        small = dense and 6 * self.batch_size * weights < _ONE_THREAD  # forward and backward
        if n_threads == 1 or not small or torch.device(self.device).type != "cpu":
            yield
            return
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(n_threads)

    def _state_tensors(self) -> list[Tensor]:
        """Weights and running estimates, which are equal on all processes."""
        module = self.module_
        return [*module.parameters(), *module.buffers(), *self.criterion_.parameters()]

    def epochs_since(self, n_before: int) -> list[dict[str, float]]:
        """Rows of the history after the first ones, without skorch's lists of batches."""
        return [{k: v for k, v in row.items() if k != "batches"} for row in self.history[n_before:]]

    # state --------------------------------------------------------------------------------

    def state_dict(self) -> State:
        """Everything that the next epoch depends on, as tensors and plain numbers by name.

        The state includes that of callbacks with ``state_dict`` and ``load_state_dict``.
        """
        state: State = {
            "numbers": {name: getattr(self, name) for name in _NUMBERS},
            "module": self.module_.state_dict(),
            "divergence": self.criterion_.state_dict(),
            "callbacks": {name: part.state_dict() for name, part in self._stateful_callbacks()},
            "history": self.epochs_since(0),
        }
        if self.average_ is not None:
            state["average"] = {str(i): v for i, v in enumerate(self.average_.values())}
        if hasattr(self, "optimizer_"):
            states = self.optimizer_.state_dict()["state"]
            state["optimizer"] = {str(i): dict(values) for i, values in states.items()}
            state["rates"] = [float(group["lr"]) for group in self.optimizer_.param_groups]
        return state

    def load_state_dict(self, state: State) -> None:
        """Continue from a state of a net with the same parameters; raise an error for any other."""
        own = self.state_dict()
        for name in ("numbers", "module", "average"):
            check_like(state.get(name, {}), own.get(name, {}), name, finite=name == "module")
        self.__dict__.update(state["numbers"])
        self.module_.load_state_dict(state["module"])
        self.criterion_.load_state_dict(state.get("divergence", {}))
        self.criterion_.to(self.device)
        for name, average in own.get("average", {}).items():
            average.copy_(state["average"][name])
        if "optimizer" in own:
            load_optimizer(self.optimizer_, state["optimizer"])
            for group, rate in zip(self.optimizer_.param_groups, state["rates"], strict=True):
                group["lr"] = float(rate)
        for name, part in self._stateful_callbacks():
            part.load_state_dict(state["callbacks"][name])
        self.load_history(state["history"])

    def load_history(self, rows: list[dict[str, Any]]) -> None:
        """Replace the history by rows of ``epochs_since``."""
        if type(rows) is not list or not all(type(row) is dict for row in rows):
            raise ValueError(f"its history must be a list of rows. Got {rows!r:.80}")
        for row in rows:
            for name in LOSSES:
                used = name in row or f"{name}_best" in row
                if used and type(row.get(name)) is not float:
                    raise ValueError(f"its history must have numbers for {name!r}. Got {row!r:.80}")
        del self.history[:]
        for row in rows:
            self.history.new_epoch()
            for name, value in row.items():
                self.history.record(name, value)

    def _stateful_callbacks(self) -> list[tuple[str, Any]]:
        methods = ("state_dict", "load_state_dict")
        return [c for c in self.callbacks_ if all(hasattr(c[1], name) for name in methods)]

    def make_rollback(self) -> Callable[[], None]:
        """Return a function that restores the present state of the net."""
        attributes, state = self.__dict__.copy(), copied(self.state_dict())
        callbacks = [(part, vars(part).copy()) for _, part in self._stateful_callbacks()]

        def rollback() -> None:
            self.__dict__ = attributes
            for part, its_attributes in callbacks:
                part.__dict__ = its_attributes
            self.load_state_dict(state)

        return rollback

    # training -----------------------------------------------------------------------------

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Inside, the weights are their running averages, if there are any.

        Averages depend less on the last batches (Polyak and Juditsky 1992). There are averages if
        held-out rows select the state to keep.
        """

        def swap() -> None:
            for weight, average in (self.average_ or {}).items():
                average.data, weight.data = weight.data, average.data

        swap()
        try:
            yield
        finally:
            swap()

    def notify(self, method_name: str, **kwargs: Any) -> None:
        """Call the callbacks; an error or a stop at the end of an epoch holds for all processes."""
        if method_name != "on_epoch_end":
            self._notify_local(method_name, **kwargs)
            return
        reason = ""
        with self.processes_.raise_on_all():
            try:
                self._notify_local(method_name, **kwargs)
            except StopTraining as stop:
                reason = str(stop)
        reasons = [text for text in self.processes_.gather_objects(reason) if text]
        if reasons:
            raise StopTraining(reasons[0])

    def _notify_local(self, method_name: str, **kwargs: Any) -> None:
        """Call the callbacks; skorch's ``EarlyStopping`` stops by a KeyboardInterrupt."""
        getattr(self, method_name)(self, **kwargs)
        for _, callback in self.callbacks_:
            try:
                getattr(callback, method_name)(self, **kwargs)
            except KeyboardInterrupt:
                if method_name != "on_epoch_end" or not isinstance(callback, EarlyStopping):
                    raise
                raise StopTraining from None

    def on_batch_begin(
        self, net: Any, batch: Any = None, training: bool = False, **kw: Any
    ) -> None:
        """Record nothing: the history has one row for each epoch and none for batches."""

    def _train_epoch(self, batches: ShuffledBatches) -> None:
        """One step for each batch; record the means of the terms over all rows."""
        self.history.new_batch()  # one for the epoch: some of skorch's callbacks need it
        self._set_training(True)
        sums = torch.zeros(2, dtype=batches.rows.dtype, device=self.device)
        heard = {name: self._is_heard(name) for name in ("on_batch_begin", "on_batch_end")}
        hears_gradients = self._is_heard("on_grad_computed")
        with self._seeded_epoch():
            for batch in batches:
                if heard["on_batch_begin"]:
                    self.notify("on_batch_begin", batch=batch, training=True)
                self.optimizer_.zero_grad()
                terms = self.objective_terms(*batch)
                (terms.reconstruction + terms.divergence).backward()
                self.processes_.sum_gradients(self.module_, self.criterion_)
                if hears_gradients:
                    named = TeeGenerator(self.get_all_learnable_params())
                    self.notify(
                        "on_grad_computed", named_parameters=named, batch=batch, training=True
                    )
                self.optimizer_.step()
                if self.average_ is not None:
                    with torch.no_grad():
                        averages = [*self.average_.values()]
                        torch._foreach_lerp_(averages, [*self.average_], _AVERAGE_RATE)
                sums = sums.add(torch.stack(terms).detach(), alpha=len(batch[1]))
                if heard["on_batch_end"]:
                    self.notify("on_batch_end", batch=batch, training=True, y_pred=None)
            means = self.processes_.sum_terms(sums) / len(batches.rows)
        self._record("train", means.tolist())

    def _judge_epoch(self, held_out: Rows) -> None:
        """Record the means of the terms over held-out rows."""
        with self.averaged_weights():
            self.held_out_losses_, divergence = self.held_out_losses(held_out)
        self._record("valid", [float(self.held_out_losses_.mean()), divergence])

    def _record(self, prefix: str, means: list[float]) -> None:
        for name, value in zip(Terms._fields, means, strict=True):
            self.history.record(f"{prefix}_{name}", value)
        self.history.record(f"{prefix}_loss", sum(means))

    def _is_heard(self, method_name: str) -> bool:
        """Whether a callback has such a method; calling all of them takes longer than a step."""
        methods = (getattr(callback, method_name) for _, callback in self.callbacks_)
        silent = getattr(Callback, method_name)
        return any(getattr(method, "__func__", None) is not silent for method in methods)

    def _seeded_epoch(self) -> AbstractContextManager[None]:
        """Seed the order of rows and the noise by the number of the epoch.

        If a layer such as dropout may use torch's global generators, they are seeded inside,
        differently on each process.
        """
        sequence = np.random.SeedSequence([self.seed, len(self.history)])
        order, noise, layers = sequence.generate_state(3).tolist()
        self.order_generator_.manual_seed(order)
        self.noise_generator_.manual_seed(noise)
        if all(_draws_nothing(layer) for layer in self.module_.modules()):
            return nullcontext()
        return private_torch_rng(layers + self.processes_.rank, torch.device(self.device))

    def objective_terms(self, x: Tensor, index: Tensor, x_neighbors: Tensor | None = None) -> Terms:
        """Reconstruction and divergence of a training batch.

        With several processes, x of shape (n, n_features) is the local share of the batch, and
        ``index`` of shape (n_batch,) numbers all its rows. The reconstruction is then the share of
        the local rows in the mean over the batch; the divergence is that of the whole batch, with a
        gradient for the local rows. ``x_neighbors`` has one neighbour of each row of x.
        """
        module, observed, processes = self.module_, None, self.processes_
        if self.missing_:
            x, observed = module.observe(x)
        share, neighbors = len(x) / len(index), None
        with processes.averaged_updates(module.buffers, share):
            with module.precision():
                if x_neighbors is None:
                    found = module.encode(x, observed)
                else:
                    found, neighbors = self._encode_with_neighbors(x, observed, x_neighbors)
                    neighbors = processes.gather_posterior(neighbors, len(index))
                found = processes.gather_posterior(found, len(index))
                noise = torch.empty_like(found.mean).normal_(generator=self.noise_generator_)
                z = found.rsample(noise)  # (n_batch, n_components)
                output = module.decoder(processes.local_rows(z)).to(x.dtype)
            module.likelihood.update(x, output, observed)
        reconstruction = -share * module.likelihood.log_prob(x, output, observed).mean()
        if self.first_row_:
            index = index + self.first_row_
        batch = Batch(index, self.n_samples_, True, self.noise_generator_, neighbors)
        return Terms(reconstruction, self.criterion_(found, z, batch))

    def _encode_with_neighbors(
        self, x: Tensor, observed: Tensor | None, x_neighbors: Tensor
    ) -> tuple[Posterior, Posterior]:
        """Posteriors of rows and of their neighbours, from one pass through the encoder."""
        if observed is not None:
            x_neighbors, also = self.module_.observe(x_neighbors)
            observed = torch.cat([observed, also])
        both = self.module_.encode(torch.cat([x, x_neighbors]), observed)
        found, neighbors = zip(*(part.chunk(2) for part in both), strict=True)
        return Posterior(*found), Posterior(*neighbors)

    @torch.no_grad()
    def held_out_losses(self, rows: Rows) -> tuple[Tensor, float]:
        """Reconstruction of each held-out row, (n,), and the divergence.

        Draws are the same at every call. The observation noise is calibrated on these rows, so
        that noise learned from the training rows does not hide the quality of reconstructions.
        """
        x, output, observed, found, z = self._reconstruct(rows)
        likelihood = copy.deepcopy(self.module_.likelihood)
        likelihood.calibrate(x, output, observed)
        generator = torch.Generator(self.device).manual_seed(_HELD_OUT_SEED)
        batch = Batch(None, self.n_samples_, False, generator)
        divergence = self.criterion_(found, z, batch)
        losses = torch.cat([-likelihood.log_prob(x, output, observed), divergence.view(1)])
        self.processes_.copy_from_first([losses])
        losses = losses.cpu().double()
        return losses[:-1], float(losses[-1])

    @torch.no_grad()
    def calibrate_noise(self, held_out: Rows, rows: Rows) -> None:
        """Calibrate the likelihood on held-out rows.

        If training rows are less likely than these, nothing is overfitted and the held-out rows
        happen to be easy ones: then training rows count too.
        """
        few = rows.part(_NOISE_ROWS)
        given, more = (self._reconstruct(part)[:3] for part in (held_out, few))
        likelihood = self.module_.likelihood
        whole = copy.deepcopy(likelihood)
        likelihood.calibrate(*given)
        own, other = (likelihood.log_prob(*part).mean() for part in (given, more))
        if other < own:
            x, output = (torch.cat(pair) for pair in zip(given[:2], more[:2], strict=True))
            known = [part[2] for part in (given, more) if part[2] is not None]
            whole.calibrate(x, output, torch.cat(known) if known else None)
            likelihood.load_state_dict(whole.state_dict())

    def _reconstruct(self, rows: Rows) -> tuple[Tensor, Tensor, Tensor | None, Posterior, Tensor]:
        """Rows, the decoder's outputs, the observed entries, posteriors and their fixed draws."""
        self._set_training(False)
        found = posterior(self.module_, rows)
        generator = torch.Generator().manual_seed(_HELD_OUT_SEED)
        shape = found.mean.shape
        noise = torch.empty(shape, dtype=rows.dtype, device="cpu").normal_(generator=generator)
        z = found.rsample(noise.to(rows.device))
        x, observed = rows[slice(None)], None
        if rows.missing:
            x, observed = self.module_.observe(x)
        return x, decode(self.module_, z), observed, found, z

    def _not_supported(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(
            "The net of a WiSEALETransformer is trained and used by the estimator: call its fit, "
            "transform, inverse_transform or score_samples."
        )

    fit = partial_fit = forward = predict = predict_proba = _not_supported

    # device and pickling ------------------------------------------------------------------

    def to(self, device: torch.device) -> VariationalNet:
        """Move to a device, if not there already; the optimiser then starts anew."""
        with _MOVE_LOCK:
            if torch.device(self.device) != device:
                self.module_.to(device)
                self.criterion_.to(device)
                self.device = str(device)
                self.__dict__.pop("optimizer_", None)
        return self

    def snapshot(self) -> VariationalNet:
        """A net for inference only, with the state that this one would have after training."""
        net = object.__new__(type(self))
        net.__dict__ = {k: v for k, v in self.__dict__.items() if k not in _OF_TRAINING}
        net.callbacks_ = []
        net.module = net.module_ = copy.deepcopy(self.module_)
        for _, callback in self.callbacks_:
            if isinstance(callback, BestState) and hasattr(callback, "state_"):  # in training
                net.module_.load_state_dict(callback.state_)
        net._set_training(False)
        return net

    def without_callbacks(self) -> VariationalNet:
        """A net with the same state and without the user's callbacks."""
        net = object.__new__(type(self))
        net.__dict__ = {name: v for name, v in self.__dict__.items() if is_kept(name)}
        kinds = (EpochTimer, Schedule, BestLosses, BestState)
        own = [item for item in self.callbacks_ if isinstance(item[1], kinds)]
        if any(isinstance(callback, LRScheduler) for _, callback in self.callbacks_):
            own.append(("schedule", Schedule()))
        net.callbacks_, net.callbacks = own, [item for item in own if item[0] != "epoch_timer"]
        return net

    def __getstate__(self) -> dict[str, Any]:
        """State on the CPU, with tensors as numpy arrays, without the state of the optimiser."""
        left_out = {"optimizer_", "module", "criterion", *_OF_TRAINING}
        state = {k: v for k, v in self.__dict__.items() if k not in left_out}
        for name in _MODULES:
            state[name] = pack(state[name])
        state["device"] = "cpu"
        # the order of a set may vary: equal nets would have different pickles
        state["_params_to_validate"] = sorted(self._params_to_validate)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__dict__["_params_to_validate"] = set(state["_params_to_validate"])
        for name in _MODULES:
            module = unpack(state[name])
            self.__dict__[name] = self.__dict__[name.removesuffix("_")] = module


_KNOWN_LAYERS = (
    *(nn.Linear, nn.Conv2d, nn.Sequential, nn.Flatten, nn.Upsample),
    *(nn.SiLU, nn.ReLU, nn.GELU, nn.Tanh, nn.ELU),
)


def _draws_nothing(layer: nn.Module) -> bool:
    """Whether a layer is known to draw no random numbers."""
    return type(layer) in _KNOWN_LAYERS or type(layer).__module__.startswith("sklearn_wiseale.")


def build_net(
    module: VariationalModule,
    divergence: nn.Module,
    *,
    seed: int,
    lr: float,
    device: torch.device,
    net_params: dict[str, Any] | None,
    patience: int,
    tol: float,
) -> VariationalNet:
    """A net that is ready to train; raise a ValueError if skorch refuses ``net_params``."""
    params: dict[str, Any] = {"optimizer": torch.optim.AdamW, "verbose": 0, **(net_params or {})}
    if params["optimizer"] is torch.optim.AdamW:
        params.setdefault("optimizer__weight_decay", 1e-2)
        other = {f"optimizer__{name}" for name in ("foreach", "capturable", "differentiable")}
        if not other.intersection(params):  # which exclude the fused step
            params.setdefault("optimizer__fused", device.type in ("cpu", "cuda"))
    callbacks = with_defaults(params.pop("callbacks", None) or [], patience, tol)
    params |= {"device": str(device), "callbacks": callbacks}
    try:
        net = VariationalNet(module, divergence, seed=seed, lr=lr, **params)
        net.initialize()
        unknown = {name.split("__")[1] for name in params if name.startswith("callbacks__")}
        unknown -= {name for name, _ in net._uniquely_named_callbacks()}
        if unknown:
            raise ValueError(f"there is no callback of the name {min(unknown)!r}")
        return net
    except Exception as error:
        if not net_params:
            raise
        raise ValueError(
            "The 'net_params' parameter of WiSEALETransformer must hold parameters of a skorch "
            f"NeuralNet. Got {net_params!r} instead, with which it cannot be made: "
            f"{type(error).__name__}: {error}"
        ) from error
