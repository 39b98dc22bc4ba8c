"""The training engine: skorch's loop around reconstruction + divergence."""

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

from ._callbacks import BestLosses, BestState, Schedule, StopTraining, is_kept
from ._data import Rows, ShuffledBatches
from ._packed import pack, unpack
from ._ranks import ALONE, Ranks
from .likelihoods import Observation
from .objectives._base import Batch, Posterior

__all__ = ["VariationalModule", "VariationalNet", "private_torch_rng"]

#: log-variances leave this range only by divergence; float32 still squares and inverts it.
LOG_VAR_RANGE = (-20.0, 10.0)
#: Seed of the fixed draws with which every epoch's held-out rows are judged.
_HELD_OUT_SEED = 20190215
#: Training rows that have a say in the noise that is given back, at most.
_NOISE_ROWS = 4096
#: Share of the present weights in the running average that held-out rows judge: 50 steps.
_AVERAGE_RATE = 0.02
#: A step of fewer floating-point operations is computed by one thread: a second one would mostly
#: wait.
_ONE_THREAD = 5e8
#: What a net holds of torch's that pickles hold as arrays.
_MODULES = ("module_", "criterion_")
_GENERATORS = ("order_generator_", "noise_generator_")
#: torch's global generators can be borrowed by one thread at a time.
_RNG_LOCK = threading.RLock()
#: A net is moved to another device by one thread at a time.
_MOVE_LOCK = threading.Lock()


@contextmanager
def private_torch_rng(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators inside, and leave them as they were.

    For what accepts no generator: the initialisation of layers, and dropout.
    """
    cuda = [device] if device.type == "cuda" else []
    with _RNG_LOCK, torch.random.fork_rng(devices=cuda), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


class VariationalModule(nn.Module):
    """Encoder q(z|x), decoder and likelihood p(x|z)."""

    fill: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Observation,
        fill: Tensor,
        flags: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood
        self.register_buffer("fill", fill)  # (n_features,), stands for what is not observed
        self.flags = flags  # tells the posterior which entries are not observed

    def observe(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Rows without NaN, and which entries are observed: (n, n_features) each."""
        observed = ~x.isnan()
        return x.where(observed, self.fill), observed

    def encode(self, x: Tensor, observed: Tensor | None = None) -> Posterior:
        """Posteriors of scaled rows x of shape (n, n_features)."""
        output = self.encoder(self.likelihood.embed(x))
        if observed is not None and self.flags is not None:
            output = output + self.flags((~observed).to(x.dtype))
        mean, log_var = output.chunk(2, dim=1)
        return Posterior(mean, log_var.clamp(*LOG_VAR_RANGE))


class Terms(NamedTuple):
    """The two terms of an objective, scalars in nats a row; the loss is their sum."""

    reconstruction: Tensor
    divergence: Tensor


class VariationalNet(NeuralNet):
    """skorch's ``NeuralNet`` for a :class:`VariationalModule` and a divergence.

    Overrides what a batch is (rows and their numbers, taken at once), what a step computes, and
    what an epoch records: sums that stay on the device, read once an epoch. ``train`` takes the
    place of ``fit``, which would swallow a keyboard interrupt.

    Parameters
    ----------
    module, criterion : VariationalModule and divergence, built

    seed : int
        Of the two generators, one for the order of rows (CPU), one for noise (device).

    autocast : bool, default=False
        Run encoder and decoder in bfloat16; divergence and likelihood stay in float32.

    **kwargs : as in skorch
    """

    ranks_: Ranks = ALONE  # of the present call of train
    stop_reason_ = ""  # why the last call of train ended

    def __init__(
        self, module: nn.Module, criterion: nn.Module, *, seed: int, autocast: bool, **kwargs: Any
    ) -> None:
        self.seed = seed
        self.autocast = autocast
        self.device: str
        super().__init__(module, criterion, train_split=None, **kwargs)

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        return [("epoch_timer", EpochTimer())]

    def initialize(self) -> VariationalNet:
        """Initialise modules, optimiser, callbacks and generators; return self."""
        super().initialize()
        order, noise = np.random.SeedSequence(self.seed).generate_state(2).tolist()
        self.order_generator_ = torch.Generator().manual_seed(order)
        self.noise_generator_ = torch.Generator(self.device).manual_seed(noise)
        self.n_samples_ = self.first_row_ = 0
        self.missing_ = False
        return self

    def torch_compile(self, module: Any, name: str) -> Any:
        """Compile encoder and decoder, which are what is called, where ``compile=True``.

        In place: names of weights stay, and a copy or a pickle is not compiled.
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
        resume: Callable[[], int] | None = None,
    ) -> None:
        """Train for some epochs, going on from the present state.

        Where there is a process group, all its ranks train together.

        Parameters
        ----------
        rows : Rows

        held_out : Rows or None
            Judged after each epoch.

        epochs : int

        n_samples : int
            N, the size of the whole data set, which the divergence may use.

        first_row : int, default=0
            Number of the first of these rows among all that training has seen since it began;
            0 is a beginning, at which the divergence forgets other rows.

        resume : callable, default=None
            Takes over the state of an earlier call with the same arguments, to go on from; its
            epochs, which are returned, count.
        """
        ranks = self.ranks_ = Ranks.present()
        self.n_samples_, self.first_row_ = n_samples, first_row
        self.missing_ = rows.missing
        if first_row == 0 and hasattr(self.criterion_, "reset"):
            self.criterion_.reset()
        if not hasattr(self, "optimizer_"):  # dropped by pickling or by a change of device
            self._initialize_optimizer()
        ranks.copy_from_first(self._state_tensors())
        self.average_ = None
        if held_out is not None:
            self.average_ = {p: p.detach().clone() for p in self.module_.parameters()}
        self.stop_reason_ = "interrupted"
        self.notify("on_train_begin", X=(rows, held_out), y=None)
        try:
            if resume is not None:
                epochs -= resume()
            with self._enough_threads():
                self.fit_loop((rows, held_out), epochs=epochs)
            self.stop_reason_ = "max_epochs"
        except StopTraining as stop:
            self.stop_reason_ = str(stop)
        finally:
            if self.history and "train_loss" not in self.history[-1]:
                del self.history[-1]  # of an epoch that was interrupted
            self.notify("on_train_end", X=(rows, held_out), y=None)
            self.average_ = None
            for name in ("ranks_", "held_out_losses_"):
                self.__dict__.pop(name, None)
            self._set_training(False)
        ranks.copy_from_first(self._state_tensors())

    @contextmanager
    def _enough_threads(self) -> Iterator[None]:
        """On a CPU, compute small steps by one thread; larger ones by as many as torch has."""
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
        """Weights and running estimates: what ranks must have in common."""
        module = self.module_
        return [*module.parameters(), *module.buffers(), *self.criterion_.parameters()]

    def epochs_since(self, n_before: int) -> list[dict[str, float]]:
        """Figures of the epochs after so many, without skorch's lists of batches."""
        return [{k: v for k, v in row.items() if k != "batches"} for row in self.history[n_before:]]

    def record_epochs(self, history: list[dict[str, Any]]) -> None:
        """Append to the history what ``epochs_since`` gave."""
        for row in history:
            self.history.new_epoch()
            for name, value in row.items():
                self.history.record(name, value)

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Inside, the weights are their running average over the last steps, if there is one.

        Averages depend less on the last batches (Polyak and Juditsky 1992); they are kept where
        held-out rows choose the state that is given back.
        """
        if self.average_ is None:
            yield
            return
        self._swap_average()
        try:
            yield
        finally:
            self._swap_average()

    def _swap_average(self) -> None:
        for weight, average in (self.average_ or {}).items():
            average.data, weight.data = weight.data, average.data

    def get_split_datasets(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Pass on the pair that ``train`` hands in: rows to train on, rows held out."""
        return X

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Return shuffled batches for training, the rows themselves for validation."""
        if not training:
            return dataset
        return ShuffledBatches(dataset, self.batch_size, self.order_generator_, self.ranks_)

    def notify(self, method_name: str, **kwargs: Any) -> None:
        """Call the callbacks; after an epoch an error or a stop on one rank is one on all."""
        if method_name != "on_epoch_end" or self.ranks_.size == 1:
            self._notify_own(method_name, **kwargs)
            return
        reason = ""
        with self.ranks_.together():
            try:
                self._notify_own(method_name, **kwargs)
            except StopTraining as stop:
                reason = str(stop)
        reasons = [text for text in self.ranks_.objects(reason) if text]
        if reasons:
            raise StopTraining(reasons[0])

    def _notify_own(self, method_name: str, **kwargs: Any) -> None:
        """Call the callbacks; skorch's ``EarlyStopping`` stops by a KeyboardInterrupt."""
        try:
            super().notify(method_name, **kwargs)
        except KeyboardInterrupt:
            stops = any(isinstance(callback, EarlyStopping) for _, callback in self.callbacks_)
            if method_name != "on_epoch_end" or not stops:
                raise
            raise StopTraining from None

    def on_batch_begin(
        self, net: Any, batch: Any = None, training: bool = False, **kw: Any
    ) -> None:
        """Record nothing: the history has one row an epoch and does not grow by batch."""

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **params: Any
    ) -> None:
        """One pass over the batches; the terms' means go into the history."""
        if iterator is None:
            return
        if training:
            self.history.new_batch()  # one an epoch, which some of skorch's callbacks look for
            self._set_training(True)
            with self._layer_rng():
                means = self._training_pass(iterator)
        else:
            with self.averaged_weights():
                self.held_out_losses_, divergence = self.held_out_losses(iterator)
            means = [float(self.held_out_losses_.mean()), divergence]
        for name, value in zip(Terms._fields, means, strict=True):
            self.history.record(f"{prefix}_{name}", value)
        self.history.record(f"{prefix}_loss", sum(means))

    def _training_pass(self, batches: ShuffledBatches) -> list[float]:
        """One step for each batch; means of the terms over all rows."""
        sums = torch.zeros(2, dtype=batches.rows.dtype, device=self.device)
        begin, end = self._is_heard("on_batch_begin"), self._is_heard("on_batch_end")
        self.hears_gradients_ = self._is_heard("on_grad_computed")
        for batch in batches:
            if begin:
                self.notify("on_batch_begin", batch=batch, training=True)
            terms = self.train_step(batch)
            sums = sums.add(torch.stack(terms).detach(), alpha=len(batch[1]))
            if end:
                self.notify("on_batch_end", batch=batch, training=True, y_pred=None)
        if self.ranks_.size > 1:  # each has its part of the one term, and the whole of the other
            sums = self.ranks_.total(sums / sums.new_tensor([1.0, self.ranks_.size]))
        return (sums / len(batches.rows)).tolist()

    def _is_heard(self, method_name: str) -> bool:
        """Whether a callback has a method of its own: a step is short beside a call of all."""
        methods = (getattr(callback, method_name) for _, callback in self.callbacks_)
        silent = getattr(Callback, method_name)
        return any(getattr(method, "__func__", None) is not silent for method in methods)

    def _layer_rng(self) -> AbstractContextManager[None]:
        """Private global generators where a layer may draw from them, as dropout does."""
        if all(_draws_nothing(layer) for layer in self.module_.modules()):
            return nullcontext()
        seed = self._draw_seed() + self.ranks_.rank
        return private_torch_rng(seed, torch.device(self.device))

    def _draw_seed(self) -> int:
        return int(torch.randint(2**31, (), generator=self.order_generator_, device="cpu"))

    @torch.no_grad()
    def _update_average(self) -> None:
        assert self.average_ is not None
        torch._foreach_lerp_([*self.average_.values()], [*self.average_], _AVERAGE_RATE)

    def train_step(self, batch: tuple[Tensor, Tensor], **params: Any) -> Terms:
        """One optimiser step."""
        x, index = batch
        self.optimizer_.zero_grad()
        terms = self.objective_terms(x, index)
        (terms.reconstruction + terms.divergence).backward()
        self.ranks_.sum_gradients(self.module_, self.criterion_)
        if self.hears_gradients_:
            named = TeeGenerator(self.get_all_learnable_params())
            self.notify("on_grad_computed", named_parameters=named, batch=batch, training=True)
        self.optimizer_.step()
        if self.average_ is not None:
            self._update_average()
        return terms

    def objective_terms(self, x: Tensor, index: Tensor) -> Terms:
        """Reconstruction and divergence of a training batch.

        Parameters
        ----------
        x : Tensor of shape (n, n_features)
            With several ranks, this rank's part of the batch. The term of reconstruction is then
            its share in the mean over the batch; the divergence is that of the whole batch, with
            a gradient for this rank's rows.

        index : Tensor of shape (n,)
            Numbers of the rows of the whole batch.
        """
        module, observed, ranks = self.module_, None, self.ranks_
        if self.missing_:
            x, observed = module.observe(x)
        share = len(x) / len(index)
        with ranks.averaged(module.buffers, share):
            with self._precision():
                posterior = _in_dtype(module.encode(x, observed), x.dtype)
                if ranks.size > 1:
                    both = ranks.gather(torch.cat(posterior, dim=1), len(index))
                    posterior = Posterior(*both.chunk(2, dim=1))
                noise = torch.empty_like(posterior.mean).normal_(generator=self.noise_generator_)
                z = posterior.rsample(noise)  # (n, n_components)
                output = module.decoder(ranks.own(z)).to(x.dtype)
            module.likelihood.update(x, output, observed)
        reconstruction = -module.likelihood.log_prob(x, output, observed).mean()
        if ranks.size > 1:
            reconstruction = share * reconstruction
        if self.first_row_:
            index = index + self.first_row_
        batch = Batch(index, self.n_samples_, True, self.noise_generator_)
        return Terms(reconstruction, self.criterion_(posterior, z, batch))

    @torch.no_grad()
    def held_out_losses(self, rows: Rows) -> tuple[Tensor, float]:
        """Reconstruction of each row kept out of training, (n,), and the divergence.

        Draws are the same at every call. The observation noise is calibrated on these rows, so
        that a network that begins to overfit is judged by what it reconstructs, not by noise
        learned from its training rows.
        """
        x, output, observed, posterior, z = self._reconstruct(rows)
        likelihood = copy.deepcopy(self.module_.likelihood)
        likelihood.calibrate(x, output, observed)
        generator = torch.Generator(self.device).manual_seed(_HELD_OUT_SEED)
        batch = Batch(None, self.n_samples_, False, generator)
        divergence = self.criterion_(posterior, z, batch)
        losses = torch.cat([-likelihood.log_prob(x, output, observed), divergence.view(1)])
        self.ranks_.copy_from_first([losses])
        losses = losses.cpu().double()
        return losses[:-1], float(losses[-1])

    @torch.no_grad()
    def calibrate_noise(self, held_out: Rows, rows: Rows) -> None:
        """Set the likelihood's running estimates for use, by rows that were not trained on.

        Where training rows are less likely than those, nothing is overfitted, and held-out rows
        happen to be the easy ones: then all rows count.
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
        """Rows, the decoder's outputs, what is observed; posteriors and their fixed draws."""
        self._set_training(False)
        posterior = self.posterior(rows)
        generator = torch.Generator().manual_seed(_HELD_OUT_SEED)
        shape = posterior.mean.shape
        noise = torch.empty(shape, dtype=rows.dtype, device="cpu").normal_(generator=generator)
        z = posterior.rsample(noise.to(rows.device))
        x, observed = rows[slice(None)], None
        if rows.missing:
            x, observed = self.module_.observe(x)
        return x, self.decode(z), observed, posterior, z

    # inference ----------------------------------------------------------------------------

    @torch.no_grad()
    def posterior(self, rows: Rows) -> Posterior:
        """Posteriors of all rows, on the device, in chunks of bounded memory."""
        whole: Posterior | None = None
        start = 0
        with self._precision():
            for x in rows.chunks():
                observation = self.module_.observe(x) if rows.missing else (x,)
                part = _in_dtype(self.module_.encode(*observation), x.dtype)
                if whole is None:  # at once: small results between large chunks scatter the heap
                    shape = len(rows), part.mean.shape[1]
                    whole = Posterior(x.new_empty(shape), x.new_empty(shape))
                for tensor, values in zip(whole, part, strict=True):
                    tensor[start : start + len(x)] = values
                start += len(x)
        assert whole is not None
        return whole

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Outputs of the decoder for all rows of z."""
        with self._precision():
            return self.module_.decoder(z).to(z.dtype)

    def _precision(self) -> AbstractContextManager[Any]:
        if not self.autocast:
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16)

    # device and pickling ------------------------------------------------------------------

    def to(self, device: torch.device) -> VariationalNet:
        """Move to a device, if not there already; the optimiser starts anew there."""
        with _MOVE_LOCK:
            if torch.device(self.device) != device:
                self.module_.to(device)
                self.criterion_.to(device)
                self.device = str(device)
                seed = self._draw_seed()
                self.noise_generator_ = torch.Generator(device).manual_seed(seed)
                self.__dict__.pop("optimizer_", None)
        return self

    def snapshot(self) -> VariationalNet:
        """A net for inference alone, as this one would be if training stopped now."""
        net = object.__new__(type(self))
        net.__dict__ = {**self.__dict__, "callbacks_": [], "average_": None, "ranks_": ALONE}
        net.module = net.module_ = copy.deepcopy(self.module_)
        for _, callback in self.callbacks_:
            if isinstance(callback, BestState) and hasattr(callback, "state_"):  # in training
                net.module_.load_state_dict(callback.state_)
        net._set_training(False)
        return net

    def without_callbacks(self) -> VariationalNet:
        """A net that has the same state, and of callbacks only those that are not the user's."""
        net = object.__new__(type(self))
        net.__dict__ = {name: v for name, v in self.__dict__.items() if is_kept(name)}
        kinds = (EpochTimer, Schedule, BestLosses, BestState)
        own = [item for item in self.callbacks_ if isinstance(item[1], kinds)]
        if any(isinstance(callback, LRScheduler) for _, callback in self.callbacks_):
            own.append(("schedule", Schedule()))
        net.callbacks_, net.callbacks = own, [item for item in own if item[0] != "epoch_timer"]
        return net

    def on_cpu(self) -> VariationalNet:
        """Return the net; where it is on another device, a copy without the optimiser."""
        if torch.device(self.device).type == "cpu":
            return self
        net = object.__new__(type(self))  # copy.copy would pack the modules
        net.__dict__ = {**self.__dict__, "noise_generator_": None}
        net.module = net.module_ = copy.deepcopy(self.module_)
        net.criterion = net.criterion_ = copy.deepcopy(self.criterion_)
        net.order_generator_ = torch.Generator()
        net.order_generator_.set_state(self.order_generator_.get_state())
        return net.to(torch.device("cpu"))

    def __getstate__(self) -> dict[str, Any]:
        """Without the optimiser's state, twice the weights; tensors as numpy arrays."""
        state = {**self.on_cpu().__dict__}
        for name in ("optimizer_", "module", "criterion"):
            state.pop(name, None)
        for name in _MODULES:
            state[name] = pack(state[name])
        for name in _GENERATORS:
            state[name] = state[name].get_state().numpy()
        # skorch's set: equal ones may have other orders, and then equal nets other pickles
        state["_params_to_validate"] = sorted(self._params_to_validate)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__dict__["_params_to_validate"] = set(state["_params_to_validate"])
        for name in _MODULES:
            module = unpack(state[name])
            self.__dict__[name] = self.__dict__[name.removesuffix("_")] = module
        for name in _GENERATORS:
            generator = torch.Generator()
            generator.set_state(torch.from_numpy(np.array(state[name])))
            self.__dict__[name] = generator


_KNOWN_LAYERS = (
    *(nn.Linear, nn.Conv2d, nn.Sequential, nn.Flatten, nn.Upsample),
    *(nn.SiLU, nn.ReLU, nn.GELU, nn.Tanh, nn.ELU),
)


def _draws_nothing(layer: nn.Module) -> bool:
    """Whether a layer is known to draw no random numbers."""
    return type(layer) in _KNOWN_LAYERS or type(layer).__module__.startswith("sklearn_wiseale.")


def _in_dtype(posterior: Posterior, dtype: torch.dtype) -> Posterior:
    return Posterior(posterior.mean.to(dtype), posterior.log_var.to(dtype))
