"""The estimator: arrays in, arrays out."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from numbers import Integral, Real
from typing import Any, NamedTuple

import joblib
import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array
from sklearn.utils._param_validation import RealNotInt, StrOptions
from sklearn.utils.validation import check_is_fitted

from ._arguments import Interval, check_count, check_seed
from ._callbacks import (
    BestState,
    EachEpoch,
    ProgressBar,
    clone_callbacks,
    describe_callbacks,
    is_kept,
    refuse_pickling,
    with_defaults,
)
from ._checkpoint import Checkpoint, fingerprint_of
from ._checks import (
    PARTS,
    check_parameters,
    check_rows,
    enough_memory,
    find_device,
    image_rows,
    refuse_dates,
    resolve,
)
from ._data import Rows, as_numpy, chunk_length, dense, has_missing
from ._evidence import ShortRows, log_evidence, posterior_mode, proposal_noise, search_arrays
from ._net import VariationalModule, VariationalNet, private_torch_rng
from ._onnx import export
from ._persistence import read, write
from ._ranks import Ranks
from ._start import build_module, column_scaling
from ._states import restore_training, rewinder, training_state
from ._statistics import Axes, Moments, principal_axes
from ._tasks import CallbackSupportMixin, FitTask, with_callbacks
from .diagnostics import active_units, aggregate_kl
from .likelihoods import LIKELIHOODS, Likelihood
from .networks import NETWORKS, Network
from .objectives import OBJECTIVES, Objective

__all__ = ["AggregateKLBounds", "WiSEALETransformer", "load"]

#: No more rows, and no more numbers, than these are held out.
_MAX_HELD_OUT = 2048
#: Of few rows up to a third is held out, to have so many to judge by.
_FEW_HELD_OUT = 12
_MAX_HELD_OUT_NUMBERS = 2**24
#: Rows from which the upper bound of ``aggregate_kl_bounds_`` is computed, at most.
_BOUND_ROWS = 1000
_BOUND_ROWS_OF_CHUNK = 256  # of partial_fit, which must stay cheap
#: learning_rate="auto" where the end is not known, and the rate is held: of partial_fit.
_HELD_RATE = 1e-3
#: learning_rate="auto" of a batch of 64 rows, and the columns up to which it is that high.
_AUTO_RATE = 8e-3
_FAST_COLUMNS = 64
#: Steps that max_epochs="auto" aims at, and the epochs it allows itself.
_AUTO_STEPS = 600
_AUTO_STEPS_A_ROOT = 10.0  # and so many times the square root of n_samples, if that is more
_AUTO_EPOCHS = (2, 60)
#: n_draws="auto" allows itself so many draws, and draws times columns.
_AUTO_DRAWS = (8, 64)
_AUTO_DRAWN_NUMBERS = 2**17
#: Share of the whole fall of the held-out loss that is too much for the last quarter of epochs.
_LATE_SHARE = 0.1
#: What to do where memory is short.
_TO_FIT = (
    "Lower batch_size, the width of the objective or the layers of the network, or use "
    "device='cpu': memory is too small for this fit."
)
_TO_USE = "Free some memory, or set_params(device='cpu'): rows are taken in small parts already."
_TO_SCORE = "Lower n_draws, free some memory, or set_params(device='cpu')."


class AggregateKLBounds(NamedTuple):
    """Bounds on KL(aggregate posterior || prior) in nats."""

    lower: float  # "moment", over all rows
    upper: float  # "jensen", over n_upper of them
    n_upper: int


class WiSEALETransformer(
    CallbackSupportMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    r"""Dimensionality reduction by a variational autoencoder with an aggregate prior.

    Codes are the means of the encoder's Gaussian posteriors :math:`q(z|x)`; a decoder maps codes
    back. Training maximises the likelihood of the reconstruction less a divergence, by default
    that of the *aggregate* posterior, the mixture of all :math:`q(z|x_i)`, from the prior
    :math:`\mathcal{N}(0, I)` (WiSE-ALE). It starts from principal component analysis, and
    gives back the state in which held-out rows have the lowest loss, the start included.

    Parameters
    ----------
    n_components : int, default=2
        Dimensions of the codes.

    objective : {"wiseale", "elbo", "infovae", "wae"} or Objective, default="wiseale"
        What is minimised; a string stands for the class's defaults. See
        :mod:`sklearn_wiseale.objectives`.

    likelihood : str or Likelihood, default="gaussian"
        Observation model p(x|z): "gaussian", "bernoulli", "poisson", "negative_binomial",
        "categorical" or an object. See :mod:`sklearn_wiseale.likelihoods`.

    network : {"mlp"} or Network, default="mlp"
        Encoder and decoder. See :mod:`sklearn_wiseale.networks`.

    scale : {"auto", "feature", "global"} or None, default="auto"
        How X is scaled inside: "feature" standardises each column; "global" centres each column
        and divides all by one number (images, spectra); None leaves X as it is. "auto" is the
        likelihood's choice: "feature" for the Gaussian, None for the others.

    max_epochs : int or "auto", default="auto"
        Passes over the training rows. "auto" aims at 600 steps, or at ``10 * sqrt(n_samples)``
        where that is more, in 2 to 60 passes.

    batch_size : int or "auto", default="auto"
        Rows a step, at most; with several processes, of each. "auto" grows with n_samples, up to
        256 of all processes together.

    learning_rate : float or "auto", default="auto"
        Of AdamW, at its highest: warmed up over 50 steps and, in ``fit``, lowered to zero along a
        half cosine over the last three quarters. "auto" is ``8e-3 * sqrt(batch_size / 64)``. Beyond
        64 columns that times ``(64 / n_features) ** 0.75``, but not below
        ``1e-3 * sqrt(batch_size / 64)``, which is also the rate that ``partial_fit`` holds.

    early_stopping : bool or "auto", default="auto"
        Hold rows out, give back the state in which they have the lowest loss, of running averages
        of the weights after each epoch, and stop when it no longer falls. "auto" does so in
        ``fit``, whatever the number of rows, and not in ``partial_fit``. The start is given back
        unless an epoch beats it by one standard error of the rows' differences.

    validation_fraction : float, default=0.15
        Share of the rows held out, drawn at random; at most 2,048 rows, fewer of very wide data.
        Of few rows more are held out: 12, or a third where there are fewer than 36. Scaling and
        the PCA start use all rows.

    n_iter_no_change : int, default=15
        Epochs without improvement after which training stops.

    tol : float, default=1e-4
        Fall of the held-out loss, in nats, that counts as improvement.

    warm_start : bool, default=False
        Let ``fit`` go on from the present weights and scaling. Of the parameters that shape them
        (n_components, likelihood, network, scale, precision) none may then change.

    device : str or torch.device, default="auto"
        "auto" takes CUDA, then MPS, then the CPU; or any torch device.

    precision : {"float32", "bfloat16", "float64"}, default="float32"
        "bfloat16" runs the networks under autocast, the objective in float32. "float64" also
        gives float64 codes.

    checkpoint : str or PathLike, default=None
        Directory to which ``fit`` writes its state after each epoch. Where a fit with the same
        data and parameters has been killed, it goes on from the last epoch and ends as it would
        have; a fit that ends removes its file. Searches may share a directory. Callbacks of your
        own begin anew.

    verbose : int, default=0
        1 shows a progress bar over epochs.

    random_state : int, RandomState instance or None, default=None
        Seeds weights, order of rows and noise. numpy's and torch's global generators are left as
        they are, except that None draws a seed from numpy's.

    net_params : dict, default=None
        Merged last into the parameters of the skorch net, e.g.
        ``{"optimizer__weight_decay": 0.1, "callbacks": [...]}``. Callbacks are used as they are;
        a clone has its own, made with the same objects.

    Attributes
    ----------
    net_ : VariationalNet
        The trained skorch net; ``net_.module_`` has the encoder, the decoder and the likelihood.

    history_ : list of dict
        One an epoch, plain numbers: ``train_reconstruction`` and ``train_divergence`` (nats a row,
        scaled units), their sum ``train_loss``, the same with ``valid_`` where rows are held out,
        ``learning_rate`` and ``dur`` (seconds); and, as booleans, ``train_loss_best`` and
        ``valid_loss_best``: whether the loss is the lowest so far.

    n_iter_ : int
        Epochs run: by the last ``fit``, or by all calls of ``partial_fit``.

    best_epoch_ : int
        Epoch of the last ``fit`` whose state was given back, from 1; 0 is the start. Where no
        rows are held out it is the last one.

    start_losses_ : dict
        ``valid_reconstruction``, ``valid_divergence`` and ``valid_loss`` of the start, before the
        first epoch of ``history_``; only where rows are held out.

    stop_reason_ : str
        Why the last ``fit`` ended: "max_epochs", "no_improvement" (of held-out rows),
        "diverged" (a loss that was not finite), "callback" or "interrupted". This and the two
        above are of ``fit``; ``partial_fit`` removes them.

    n_features_in_ : int
        Columns of X.

    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns, where X had string names.

    n_samples_seen_ : int
        Rows seen by ``fit`` and by all calls of ``partial_fit`` since.

    noise_scale_ : float or ndarray of shape (n_features,)
        Standard deviation of the Gaussian noise in the units of X; only with that likelihood.
        NaN for columns that have another.

    aggregate_kl_bounds_ : tuple (lower, upper, n_upper)
        Bounds on the divergence of the aggregate posterior from the prior, nats: "moment" over
        all rows of X (of ``partial_fit``: over the last chunk) and "jensen" over ``n_upper``
        of them drawn at random; on a sample it is still an upper bound in expectation.

    See Also
    --------
    sklearn.decomposition.PCA : The linear method that this one starts from.
    sklearn_wiseale.diagnostics.reconstruction_r2 : Share of variance reconstructed, for scoring.

    Notes
    -----
    The objective, with Gaussian posteriors :math:`q_i(z) = q(z|x_i)`, is

    .. math::

        \frac1N \sum_i \mathbb{E}_{q_i} \log p(x_i | z)
        - \text{weight} \cdot \mathrm{KL}\Big(\frac1N \sum_i q_i \,\Big\|\, p\Big).

    It may exceed the log-likelihood by up to log N nats and is no bound on it; ``score`` is.

    References
    ----------
    Lin, Clark, Birke, Trigoni, Roberts (2019), *WiSE-ALE: Wide Sample Estimator for Approximate
    Latent Embedding*, arXiv:1902.06160.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn_wiseale import WiSEALETransformer
    >>> X = load_wine().data
    >>> reducer = WiSEALETransformer(n_components=2, max_epochs=5, random_state=0).fit(X)
    >>> Z = reducer.transform(X)
    >>> Z.shape
    (178, 2)
    >>> reducer.inverse_transform(Z).shape
    (178, 13)
    >>> reducer.sample(3, random_state=0).shape
    (3, 13)
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "objective": [StrOptions(set(OBJECTIVES)), Objective],
        "likelihood": [StrOptions(set(LIKELIHOODS)), Likelihood],
        "network": [StrOptions(set(NETWORKS)), Network],
        "scale": [StrOptions({"auto", "feature", "global"}), None],
        "max_epochs": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "early_stopping": ["boolean", StrOptions({"auto"})],
        "validation_fraction": [Interval(RealNotInt, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "device": [str, torch.device],
        "precision": [StrOptions({"float32", "bfloat16", "float64"})],
        "checkpoint": [str, os.PathLike, None],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
        "net_params": [dict, None],
    }
    _doc_link_module = "sklearn_wiseale"
    _doc_link_template = property(lambda self: _page_of_class())
    _built: dict[str, Any]  # what the fitted state was built from
    _net_params: dict[str, Any] | None  # that net_ was built with
    _image_shape: tuple[int, ...] | None  # of the images that fit was given, if not rows

    def __init__(
        self,
        n_components: int = 2,
        *,
        objective: str | Objective = "wiseale",
        likelihood: str | Likelihood = "gaussian",
        network: str | Network = "mlp",
        scale: str | None = "auto",
        max_epochs: int | str = "auto",
        batch_size: int | str = "auto",
        learning_rate: float | str = "auto",
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.15,
        n_iter_no_change: int = 15,
        tol: float = 1e-4,
        warm_start: bool = False,
        device: str | torch.device = "auto",
        precision: str = "float32",
        checkpoint: str | os.PathLike[str] | None = None,
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
        net_params: dict[str, Any] | None = None,
    ) -> None:
        self.n_components = n_components
        self.objective = objective
        self.likelihood = likelihood
        self.network = network
        self.scale = scale
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.device = device
        self.precision = precision
        self.checkpoint = checkpoint
        self.verbose = verbose
        self.random_state = random_state
        self.net_params = net_params

    def set_params(self, **params: Any) -> WiSEALETransformer:
        """Set parameters of the estimator and, as ``part__name``, of its parts.

        Parameters
        ----------
        **params : dict

        Returns
        -------
        self : WiSEALETransformer

        Raises
        ------
        ValueError
            If a part's parameter is set while the part is given as a string.
        """
        for key in params:
            name, _, inner = key.partition("__")
            part = params.get(name, getattr(self, name, None))
            if inner and name in PARTS and isinstance(part, str):
                example = PARTS[name].get(part, next(iter(PARTS[name].values()))).__name__
                raise ValueError(
                    f"{key!r} cannot be set while {name}={part!r} is a string, which stands for "
                    f"the defaults. Pass an object, for instance {name}={example}()."
                )
        return super().set_params(**params)

    def __sklearn_clone__(self) -> WiSEALETransformer:
        """A clone; its callbacks are made anew, with the objects that these were made with."""
        bare, callbacks = copy.copy(self), self._callbacks()
        if self.net_params and callbacks:
            bare.net_params = {k: v for k, v in self.net_params.items() if k != "callbacks"}
        cloned = super(WiSEALETransformer, bare).__sklearn_clone__()
        if callbacks:
            cloned.net_params["callbacks"] = clone_callbacks(callbacks)
        return cloned

    def __copy__(self) -> WiSEALETransformer:
        copied = object.__new__(type(self))
        copied.__dict__ = self.__dict__.copy()
        return copied

    def __getstate__(self) -> dict[str, Any]:
        """For pickles, which callbacks that are no longer in net_params are left out of."""
        refuse_pickling(self._callbacks())
        state = {**super().__getstate__()}
        if "net_" in state:
            state["net_"], state["_net_params"] = self._stored_net()
        return state

    def _stored_net(self) -> tuple[VariationalNet, dict[str, Any] | None]:
        """The net and what it was built with, callbacks left out that net_params no longer has."""
        net, params = self.net_, self._net_params
        if params and params.get("callbacks") and not self._callbacks():
            net = net.without_callbacks()
            params = {name: value for name, value in params.items() if is_kept(name)}
        return net, params

    def _callbacks(self) -> list[Any]:
        """The user's callbacks of skorch."""
        callbacks = self.net_params.get("callbacks") if isinstance(self.net_params, dict) else None
        return callbacks if isinstance(callbacks, list) else []

    # fitting ------------------------------------------------------------------------------

    @with_callbacks
    @enough_memory(_TO_FIT)
    def fit(self, X: Any, y: Any = None) -> WiSEALETransformer:
        """Learn encoder and decoder from X.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            At least two rows. Sparse matrices are densified batch by batch. NaN is an entry that
            was not observed: it counts for nothing. With ``network=Conv(...)`` also images of
            shape (n_samples, C, H, W); every method then takes them, and ``inverse_transform``
            and ``sample`` give them back.

        y : ignored
            Present for scikit-learn's conventions.

        Returns
        -------
        self : WiSEALETransformer

        Raises
        ------
        ValueError
            If a parameter or X is not what is allowed.

        MemoryError
            If the device's memory is too small; the message says which parameters to lower.

        Warns
        -----
        UserWarning
            If the start was given back after ``n_iter_no_change`` epochs or more, or components
            are not in use.

        ConvergenceWarning
            If the loss is no longer finite, or ``max_epochs="auto"`` ended a fit that was still
            improving.

        Notes
        -----
        After any error a fitted state is as it was. An interrupt leaves what has been trained so
        far.

        Where ``torch.distributed`` has been set up, as by ``accelerate``, all processes of the
        default group make one fit together, and have to call ``fit`` with the same X and
        parameters: see :ref:`ranks`.
        """
        ranks = Ranks.present()
        task = FitTask(self, lambda: {"net_": self.net_.snapshot()}, heard=ranks.first)
        with self._unchanged_on_error() as undo:
            with ranks.together():
                parts = check_parameters(self)
                going_on = self.warm_start and hasattr(self, "net_")
                X = self._validated(X, reset=not going_on)
                given = self._hash_parameters()  # before random numbers are drawn
                rng = check_seed(self.random_state)
            self._require_same_on(ranks, X)
            rng = ranks.share_rng(rng)
            split_seed = rng.randint(np.iinfo(np.int32).max)  # the same where a fit goes on
            if going_on:
                undo.append(rewinder(self._ready_net()))
                self._go_on(parts)
                missing = has_missing(X)
            else:
                missing = self._start(X, parts, rng)
            self.n_samples_seen_ = X.shape[0]
            checkpoint = ranks.from_first(lambda: self._open_checkpoint(X, given, going_on))
            split_rng, resume = np.random.RandomState(split_seed), None
            saved = ranks.from_first(lambda: checkpoint.read() if checkpoint else None)
            if checkpoint and saved:
                with checkpoint.reading():
                    split_seed = int(saved[1]["split_seed"])
                    split_rng = np.random.RandomState(split_seed)
                resume = self._resumer(checkpoint, saved)
            train, held_out = self._split(X, split_rng, missing)
            task.begin(X, y)
            last = [("task", task)]
            if checkpoint and ranks.first:
                last.append(("checkpoint", self._writer(checkpoint, split_seed)))
            n_epochs = self._n_epochs(len(train))
            self._train(train, held_out, n_epochs, horizon=True, last=last, resume=resume)
            self._warn_of_the_end()
            mean, log_var = self._encode_by_ranks(X, missing)
            self._bound_aggregate(mean, log_var, split_rng, _BOUND_ROWS)
            self._warn_of_collapse(mean)
            task.end()
            if checkpoint and ranks.first:
                checkpoint.remove()
        return self

    @enough_memory(_TO_FIT)
    def partial_fit(self, X: Any, y: Any = None) -> WiSEALETransformer:
        """Train for one pass over a chunk of rows.

        The first chunk settles scaling and the PCA start, so it should be representative: a
        column that is constant in it is never scaled.
        The divergence is told the number of rows seen so far. No rows are held out.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            At least two rows in the first chunk.

        y : ignored
            Present for scikit-learn's conventions.

        Returns
        -------
        self : WiSEALETransformer

        Raises
        ------
        ValueError
            If a parameter or X is not what is allowed, or with ``early_stopping=True``.

        MemoryError
            If the device's memory is too small; the message says which parameters to lower.
        """
        ranks = Ranks.present()
        with self._unchanged_on_error() as undo:
            with ranks.together():
                parts = check_parameters(self)
                if self.early_stopping is True:
                    raise ValueError(
                        "partial_fit does not support early_stopping=True: there is no held-out "
                        "set. Use early_stopping='auto' or False."
                    )
                first = not hasattr(self, "net_")
                X = self._validated(X, reset=first)
                rng = check_seed(self.random_state if first else 0)
            self._require_same_on(ranks, X)
            if first:
                missing = self._start(X, parts, ranks.share_rng(rng))
            else:
                undo.append(rewinder(self._ready_net()))
                self._go_on(parts)
                missing = has_missing(X)
            self.n_samples_seen_ += X.shape[0]
            self._train(self._rows(X, missing), None, 1, horizon=False)
            codes, chunk_rng = self._encode_by_ranks(X, missing), np.random.RandomState(0)
            self._bound_aggregate(*codes, chunk_rng, _BOUND_ROWS_OF_CHUNK)
        return self

    @contextmanager
    def _unchanged_on_error(self) -> Iterator[list[Callable[[], None]]]:
        """Put the attributes back as they were if what is inside raises an error.

        The list that is given takes functions that put back what attributes hold. An interrupt
        puts all back as long as training has not begun, and otherwise leaves a usable estimator,
        trained so far.
        """
        before, undo = self.__dict__.copy(), list[Callable[[], None]]()
        try:
            yield undo
        except BaseException as error:
            began = self.__dict__.get("history_") is not before.get("history_")
            if isinstance(error, Exception) or not began:
                self.__dict__ = before
                for step in undo:
                    step()
            raise

    def _require_same_on(self, ranks: Ranks, X: Any) -> None:
        """Raise a ValueError on all ranks where they do not all mean the same fit."""
        if ranks.size == 1:
            return
        some = np.unique(np.linspace(0, X.shape[0] - 1, 256).astype(int))
        plain = (bool, int, float, str, type(None))
        params = {k: v for k, v in self.get_params().items() if isinstance(v, plain)}
        for name in ("checkpoint", "device", "random_state", "verbose"):
            params.pop(name, None)
        rows = fingerprint_of([f"{X.shape} {X.dtype}", dense(X[some])])
        ranks.require_same({"X": rows, "net_": hasattr(self, "net_"), **params})
        if X.shape[0] < ranks.size:
            raise ValueError(
                f"X must have a row for each of {ranks.size} processes. Got n_samples={X.shape[0]}."
            )

    def _hash_parameters(self) -> str:
        """Hash of the parameters on which the course of a fit depends."""
        if self.checkpoint is None:
            return ""
        params = self.get_params(deep=False)
        if self.batch_size != "auto":  # the same fit, whatever the number of processes
            params["batch_size"] = int(self.batch_size) * Ranks.present().size
        if self._callbacks():
            described = describe_callbacks(self._callbacks())
            params["net_params"] = {**params["net_params"], "callbacks": described}
        return joblib.hash(
            {k: v for k, v in params.items() if k not in ("checkpoint", "verbose", "device")}
        )

    def _open_checkpoint(self, X: Any, given: str, going_on: bool) -> Checkpoint | None:
        """The checkpoint of this fit: of these data and parameters, from this state."""
        if self.checkpoint is None:
            return None
        some = np.unique(np.linspace(0, X.shape[0] - 1, 256).astype(int))
        state = self.net_.module_.state_dict() if going_on else {}
        fingerprint = fingerprint_of(
            [given, f"{X.shape} {X.dtype}", *self._scaling, dense(X[some])]
            + [value.numpy(force=True) for value in state.values() if torch.is_tensor(value)]
        )
        try:
            return Checkpoint(self.checkpoint, fingerprint)
        except OSError as error:
            raise ValueError(
                "The 'checkpoint' parameter of WiSEALETransformer must be a directory that can be "
                f"written to, or None. Got {self.checkpoint!r} instead: {error}"
            ) from error

    def _writer(self, checkpoint: Checkpoint, split_seed: int) -> EachEpoch:
        """A callback that writes the training state."""
        n_before = len(self.net_.history)

        def write(net: VariationalNet) -> None:
            tensors, header = training_state(net, n_before)
            try:
                checkpoint.write(tensors, {"split_seed": split_seed, **header})
            except OSError as error:
                warnings.warn(
                    f"The checkpoint {str(checkpoint.path)!r} could not be written; training goes "
                    f"on without: {error}",
                    RuntimeWarning,
                    stacklevel=2,
                )

        return EachEpoch(write)

    def _resumer(self, checkpoint: Checkpoint, saved: Any) -> Callable[[], int]:
        """A function that takes over what a checkpoint has saved."""

        def resume() -> int:
            with checkpoint.reading():
                return restore_training(self.net_, *saved)

        return resume

    def _go_on(self, parts: dict[str, Any]) -> None:
        """Refuse what cannot change between calls; take over an objective that has changed."""
        for name, built in self._built.items():
            now = parts.get(name, getattr(self, name))
            if joblib.hash(now) == joblib.hash(built):
                continue
            if name != "objective":
                raise ValueError(
                    f"The '{name}' parameter of WiSEALETransformer must stay {built!r} while "
                    f"training goes on from a fitted state. Got {now!r} instead: set it back, or "
                    "call fit with warm_start=False."
                )
            self.net_.criterion_ = self._divergence(now).to(self.net_.device)
            self._built = {**self._built, name: now}

    def _divergence(self, objective: Objective) -> torch.nn.Module:
        return objective.build(self.n_features_in_, self.n_components)

    def _validated(self, X: Any, *, reset: bool, finite: bool = True) -> Any:
        """X checked, as ndarray, memmap or CSR matrix, of whatever real dtype it has."""
        built = {} if reset else self._built
        likelihood = built.get("likelihood") or resolve("likelihood", self.likelihood)
        X, image_shape = image_rows(X, built.get("network") or self.network)
        look = "allow-nan" if likelihood.allow_nan else True
        X = check_rows(self, X, reset=reset, finite=finite and look)
        likelihood.check_support(X)
        if reset:
            self._image_shape = image_shape
        return X

    def _start(self, X: Any, parts: dict[str, Any], rng: np.random.RandomState) -> bool:
        """Scaling, network and its start from PCA; return whether X has missing entries."""
        ranks, moments = Ranks.present(), _moments(X, getattr(self, "feature_names_in_", None))
        likelihood = parts["likelihood"]
        modes = likelihood.scale_modes(self.scale, X.shape[1])
        self._scaling = column_scaling(moments, modes)
        narrow = np.float32 if self._scaling.fits_float32 else np.float64
        self._inverse_dtype = np.result_type(X.dtype, narrow)

        def chunks() -> Iterator[np.ndarray]:
            for chunk in _dense_chunks(X):
                yield self._scaling.apply(np.where(np.isnan(chunk), moments.mean, chunk))

        def axes_and_seed() -> tuple[Axes, int]:
            sparse = X if issparse(X) and not moments.missing else None
            axes = principal_axes(moments, *self._scaling, self.n_components, chunks, rng, sparse)
            return axes, int(rng.randint(np.iinfo(np.int32).max))

        axes, seed = ranks.from_first(axes_and_seed)
        dtype = torch.float64 if self.precision == "float64" else torch.float32
        with private_torch_rng(seed, torch.device("cpu")):
            module = build_module(
                moments,
                self._scaling,
                axes,
                self.n_components,
                likelihood,
                parts["network"],
                dtype,
            )
            divergence = self._divergence(parts["objective"])
        if not all(estimate.isfinite().all() for estimate in module.likelihood.buffers()):
            raise ValueError(
                f"X must have variances that {str(dtype).removeprefix('torch.')} can hold as "
                f"scale={self.scale!r} leaves them. Got standard deviations up to "
                f"{np.sqrt(moments.variance.max()):.1g}: rescale X."
            )
        rate = self._learning_rate(self._batch_size(X.shape[0]))
        self.net_ = self._build_net(module, divergence, rate, seed)
        fixed = {name: getattr(self, name) for name in ("n_components", "scale", "precision")}
        self._built = {**fixed, **parts}
        self._net_params = self.net_params and dict(self.net_params)
        self.n_components_ = self.n_components
        self._n_axes = len(axes.variance)
        self.n_samples_seen_ = 0
        self.history_: list[dict[str, float]] = []
        return moments.missing

    def _build_net(
        self, module: VariationalModule, divergence: torch.nn.Module, rate: float, seed: int
    ) -> VariationalNet:
        device = find_device(self.device, self.precision)
        params: dict[str, Any] = {
            "optimizer": torch.optim.AdamW,
            "verbose": 0,
            **(self.net_params or {}),
        }
        if params["optimizer"] is torch.optim.AdamW:
            params.setdefault("optimizer__weight_decay", 1e-2)
            other = {f"optimizer__{name}" for name in ("foreach", "capturable", "differentiable")}
            if not other.intersection(params):  # which exclude the fused step
                params.setdefault("optimizer__fused", device.type in ("cpu", "cuda"))
        callbacks = params.pop("callbacks", None) or []
        try:
            net = VariationalNet(
                module,
                divergence,
                seed=seed,
                autocast=self.precision == "bfloat16",
                device=str(device),
                lr=rate,
                callbacks=with_defaults(callbacks, self.n_iter_no_change, self.tol),
                **params,
            )
            net.initialize()
            unknown = {name.split("__")[1] for name in params if name.startswith("callbacks__")}
            unknown -= {name for name, _ in net._uniquely_named_callbacks()}
            if unknown:
                raise ValueError(f"there is no callback of the name {min(unknown)!r}")
            return net
        except Exception as error:
            if not self.net_params:
                raise
            raise ValueError(
                "The 'net_params' parameter of WiSEALETransformer must hold parameters of a skorch "
                f"NeuralNet. Got {self.net_params!r} instead, with which it cannot be made: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _split(self, X: Any, rng: np.random.RandomState, missing: bool) -> tuple[Rows, Rows | None]:
        """Rows to train on and rows held out, or None."""
        n = X.shape[0]
        if not self.early_stopping:
            return self._rows(X, missing).make_resident(), None
        most = min(_MAX_HELD_OUT, max(1, _MAX_HELD_OUT_NUMBERS // X.shape[1]))
        n_held_out = min(
            max(1, round(self.validation_fraction * n), min(_FEW_HELD_OUT, n // 3)), most
        )
        if n_held_out >= n:
            raise ValueError(
                f"validation_fraction={self.validation_fraction} of n_samples={n} leaves no row "
                "to train on. Lower it, or use early_stopping=False."
            )
        order = rng.permutation(n)
        held_out, train = np.sort(order[:n_held_out]), np.sort(order[n_held_out:])
        train_rows, held_out_rows = (self._rows(X, missing, part) for part in (train, held_out))
        return train_rows.make_resident(), held_out_rows.make_resident()

    def _rows(self, X: Any, missing: bool, index: np.ndarray | None = None) -> Rows:
        device = torch.device(self._ready_net().device)
        return Rows(X, self._scaling, self._dtype, device, index, missing=missing)

    def _batch_size(self, n: int) -> int:
        """Rows a step, of all ranks together."""
        if self.batch_size != "auto":
            return min(int(self.batch_size) * Ranks.present().size, n)
        return int(np.clip(2 ** np.round(np.log2(n / 8)), 32, 256))

    def _learning_rate(self, batch_size: int, rate: float = _AUTO_RATE) -> float:
        if self.learning_rate != "auto":
            return float(self.learning_rate)
        rate = rate * (_FAST_COLUMNS / max(self.n_features_in_, _FAST_COLUMNS)) ** 0.75
        return max(rate, _HELD_RATE) * (batch_size / 64) ** 0.5

    def _n_epochs(self, n: int) -> int:
        if self.max_epochs != "auto":
            return int(self.max_epochs)
        steps_per_epoch = -(-n // self._batch_size(n))
        steps = max(_AUTO_STEPS, _AUTO_STEPS_A_ROOT * n**0.5)
        return int(np.clip(np.ceil(steps / steps_per_epoch), *_AUTO_EPOCHS))

    def _train(
        self,
        rows: Rows,
        held_out: Rows | None,
        n_epochs: int,
        *,
        horizon: bool,
        last: Any = (),
        resume: Any = None,
    ) -> None:
        """Train, and report what came of it even when interrupted."""
        ranks = Ranks.present()
        if len(rows) < ranks.size:
            raise ValueError(
                f"X must have a row to train on for each of {ranks.size} processes. "
                f"Got {len(rows)} of them."
            )
        net = self._ready_net()
        net.batch_size = self._batch_size(len(rows))
        callbacks = dict(net.callbacks_)
        if "schedule" in callbacks:
            rate = _AUTO_RATE if horizon else _HELD_RATE
            callbacks["schedule"].learning_rate = self._learning_rate(net.batch_size, rate)
            steps = n_epochs * -(-len(rows) // net.batch_size)
            callbacks["schedule"].horizon_ = steps if horizon else None
        if "best_state" in callbacks:
            callbacks["best_state"].patience = self.n_iter_no_change
            callbacks["best_state"].tol = self.tol
        before, n_before = net.callbacks_, len(net.history)
        bar = [("progress", ProgressBar(n_epochs))] if self.verbose and ranks.first else []
        net.callbacks_ = [*bar, *before, *last]
        self.__dict__.pop("aggregate_kl_bounds_", None)
        try:
            seen = self.n_samples_seen_
            first_row = 0 if horizon else seen - len(rows)
            net.train(rows, held_out, n_epochs, n_samples=seen, first_row=first_row, resume=resume)
        finally:
            net.callbacks_ = before
            new = net.epochs_since(n_before)
            self.history_ = self.history_ + new
            self.n_iter_ = len(new) if horizon else len(self.history_)
            self._set_outcome(dict(before).get("best_state") if horizon else None)
            self._set_noise_scale()

    def _set_outcome(self, best_state: BestState | None) -> None:
        """Attributes that say what became of a fit; of ``partial_fit`` there is none to say."""
        for name in ("best_epoch_", "start_losses_", "stop_reason_"):
            self.__dict__.pop(name, None)
        if best_state is not None and hasattr(best_state, "best_epoch_"):  # an epoch began
            self.best_epoch_ = min(best_state.best_epoch_, self.n_iter_)
            self.stop_reason_ = self.net_.stop_reason_
            if best_state.start_:
                self.start_losses_ = dict(best_state.start_)

    def _set_noise_scale(self) -> None:
        """Standard deviation of Gaussian noise in the units of X, if there is such noise."""
        self.__dict__.pop("noise_scale_", None)
        noise = self.net_.module_.likelihood.noise_std()
        if noise is None:
            return
        std = noise.numpy(force=True).astype(np.float64) * self._scaling.scale
        modes = self._built["likelihood"].scale_modes(self._built["scale"], len(std))
        by_column = noise.numel() > 1 or any(mode == "feature" for _, mode in modes)
        self.noise_scale_ = std if by_column else float(std[0])

    def _bound_aggregate(
        self, mean: np.ndarray, log_var: np.ndarray, rng: np.random.RandomState, n_rows: int
    ) -> None:
        """Bounds on the divergence of the aggregate of all rows, the upper one of some of them."""
        chosen = np.arange(len(mean))
        if len(mean) > n_rows:
            chosen = np.sort(rng.choice(len(mean), n_rows, replace=False))
        self.aggregate_kl_bounds_ = AggregateKLBounds(
            aggregate_kl(mean, log_var, method="moment"),
            aggregate_kl(mean[chosen], log_var[chosen], method="jensen"),
            len(chosen),
        )

    def _warn_of_the_end(self) -> None:
        """Warn where training was of no use, or where its end came too early.

        A number of epochs that the user has chosen is taken as meant.
        """
        if "start_losses_" not in self.__dict__:
            return
        losses = [self.start_losses_["valid_loss"]]
        losses += [row["valid_loss"] for row in self.history_[-self.n_iter_ :]]
        useless = self.best_epoch_ == 0 and min(losses) == losses[0]
        if useless and self.n_iter_ >= self.n_iter_no_change:
            warnings.warn(
                "The start (PCA, with the default network) was given back: in "
                f"{self.n_iter_} epochs the loss of held-out rows did not fall below that of the "
                "start. X may have no structure beyond it; or lower learning_rate, or the weight "
                f"of objective={self._built['objective']}.",
                UserWarning,
                stacklevel=2,
            )
        elif self.max_epochs == "auto" and self.stop_reason_ == "max_epochs":
            late = min(losses[: 1 + 3 * self.n_iter_ // 4]) - min(losses)
            if late > max(self.tol, _LATE_SHARE * (losses[0] - min(losses))):
                warnings.warn(
                    f"Training ended after {self.n_iter_} epochs, as max_epochs='auto' has it, "
                    f"while the loss of held-out rows still fell, by {late:.2g} nats in the last "
                    "quarter of them. "
                    f"Try max_epochs={2 * self.n_iter_}.",
                    ConvergenceWarning,
                    stacklevel=2,
                )

    def _warn_of_collapse(self, mean: np.ndarray) -> None:
        """Warn where components are not in use."""
        n_active = active_units(mean)
        if n_active < self.n_components_:
            if n_active < self._n_axes:
                advice = (
                    f"Lower n_components, or the weight of objective={self._built['objective']}, "
                    "or train for longer."
                )
            else:
                advice = f"X has variance for {self._n_axes} only: lower n_components."
            warnings.warn(
                f"Of {self.n_components_} components only {n_active} are in use: the codes of the "
                f"others hardly vary (variance below 0.01). {advice}",
                UserWarning,
                stacklevel=2,
            )

    # using ----------------------------------------------------------------------------------

    @enough_memory(_TO_USE)
    def transform(self, X: Any) -> np.ndarray:
        """Means of the posteriors q(z|x): deterministic, each row by itself.

        Of a row with missing entries (NaN) it is the mode of p(z|x) given the others, found from
        the encoder's mean; ``inverse_transform`` then fills them in.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components)
            float32, or float64 with ``precision="float64"``.

        Raises
        ------
        ValueError
            If X is not what is allowed, or has a row so far from those in ``fit`` that its code is
            not finite.
        """
        return self._encode(self._checked(X))[0]

    @enough_memory(_TO_USE)
    def inverse_transform(self, X: Any) -> np.ndarray:
        """Means of p(x|z), in the units of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Codes, for instance from :meth:`transform`; a dataframe of them is accepted.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features)
            Expected values given the codes. In float32 where the training data fit into that
            without loss and with room to spare, else in float64.

        Raises
        ------
        ValueError
            If X has another number of columns than the codes, or rows decode to what is not finite.
        """
        check_is_fitted(self)
        return self._decoded(
            self._checked_codes(X), lambda likelihood, output: likelihood.mean(output)
        )

    @enough_memory(_TO_USE)
    def posterior(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the Gaussian posteriors q(z|x).

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        mean, std : ndarray of shape (n_samples, n_components)
        """
        mean, log_var = self._encode(self._checked(X))
        return mean, np.exp(0.5 * log_var)

    @enough_memory(_TO_USE)
    def sample(self, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """Draw from the model: codes from the prior, then rows from p(x|z), noise included.

        ``inverse_transform`` of normal codes gives the same rows without the noise.

        Parameters
        ----------
        n_samples : int, default=1

        random_state : int, RandomState instance or None, default=None
            None draws from numpy's global generator.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            In the units of X.
        """
        check_is_fitted(self)
        n_samples = check_count("n_samples", n_samples)
        rng = check_seed(random_state)
        Z = rng.standard_normal((n_samples, self.n_components_))
        device = self._ready_net().device
        generator = torch.Generator(device).manual_seed(int(rng.randint(np.iinfo(np.int32).max)))
        return self._decoded(Z, lambda likelihood, output: likelihood.sample(output, generator))

    @enough_memory(_TO_SCORE)
    def score_samples(
        self, X: Any, *, n_draws: int | str = "auto", return_effective: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Importance-weighted bound on log p(x) of each row.

        Proposals are the Gaussians of curvature at the modes of p(z|x), found from the decoder;
        the draws are the same for every row and call, so that a row's score depends on the row
        alone. The bound rises with ``n_draws`` in expectation. For a linear decoder and Gaussian
        noise it is exact up to the share of draws that are taken wider, as a defence.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        n_draws : int or "auto", default="auto"
            Draws a row. "auto" is 64 up to 2,048 columns, then fewer, 8 from 16,384 on: each costs
            more, and the wider the rows, the closer p(z|x) is to the Gaussian that proposes.
            Where the effective sample size is far below ``n_draws``, take more draws.

        return_effective : bool, default=False
            Also return the effective sample size of the draws, between 1 and ``n_draws``. Near
            1, the bound is loose.

        Returns
        -------
        log_likelihood : ndarray of shape (n_samples,)
            Nats; with a Gaussian likelihood a log-density in the units of X.

        effective : ndarray of shape (n_samples,)
            Only with ``return_effective=True``.

        References
        ----------
        Burda, Grosse, Salakhutdinov (2016), *Importance Weighted Autoencoders*,
        arXiv:1509.00519, equation 8.
        """
        X = self._checked(X)
        n_draws = self._n_draws if n_draws == "auto" else check_count("n_draws", n_draws)
        net = self._ready_net()
        module = net.module_
        if torch.device(net.device).type == "mps":  # has no float64, which the weights need
            module = copy.deepcopy(module).cpu()
        device = next(module.parameters()).device
        rows = self._unchecked_rows(X, device)
        noise = proposal_noise(n_draws, self.n_components_).to(device)
        short, parts = ShortRows.where_they_pay(module.decoder, module.likelihood), []
        with torch.no_grad():
            for x in rows.chunks(draws=search_arrays(self.n_components_, n_draws)):
                x, observed = module.observe(x) if rows.missing else (x, None)
                model, start = module, module.encode(x, observed).mean
                log_volume = self._log_volume(observed)
                if short and observed is None:
                    x, left = short.shorten(x)
                    model, log_volume = short, log_volume - left
                given = model.decoder, model.likelihood, x, start.to(x.dtype), noise, observed
                log_density, draws = log_evidence(*given)
                parts.append((log_density - log_volume, draws))
        evidence, effective = (torch.cat(part) for part in zip(*parts, strict=True))
        log_likelihood = evidence.to(self._dtype).numpy(force=True)
        self._refuse_overflow("log-likelihoods", log_likelihood, X)
        if not return_effective:
            return log_likelihood
        return log_likelihood, effective.to(self._dtype).numpy(force=True)

    def score(self, X: Any, y: Any = None) -> float:
        """Mean of :meth:`score_samples`: nats a row, higher is better.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        y : ignored
            Present for scikit-learn's conventions.

        Returns
        -------
        score : float
        """
        return float(np.mean(self.score_samples(X), dtype=np.float64))

    # saving ---------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to a file that :func:`sklearn_wiseale.load` reads.

        A safetensors file with a JSON header: unlike a pickle, reading it runs no code. It holds
        what a pickle holds, which is all but the optimiser's state: parameters, weights, scaling,
        noise, ``history_`` and the generators. So a loaded estimator gives the same codes,
        reconstructions, samples and scores, and goes on training as an unpickled one would.

        Parameters
        ----------
        path : str or PathLike
            Of a directory that is there. An existing file is replaced once the new one is whole.

        Raises
        ------
        ValueError
            If a parameter cannot be stored, as callbacks, an optimiser or options of
            ``torch.compile`` in ``net_params``; or of a subclass of the estimator.

        FileNotFoundError
            If the directory is not there.

        See Also
        --------
        sklearn_wiseale.load : Reads the file.

        Notes
        -----
        Code of your own is not stored: torch modules of
        :class:`~sklearn_wiseale.networks.Modules` and classes of parts that you have written are
        handed back to ``load``. What such parts learn must be parameters or buffers of their
        modules. Callbacks of :mod:`sklearn.callback` and attributes that you have added are left
        out.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from sklearn.datasets import load_wine
        >>> from sklearn_wiseale import WiSEALETransformer, load
        >>> X = load_wine().data
        >>> reducer = WiSEALETransformer(max_epochs=2, random_state=0).fit(X)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     reducer.save(Path(folder, "wine.safetensors"))
        ...     again = load(Path(folder, "wine.safetensors"))
        >>> bool((again.transform(X) == reducer.transform(X)).all())
        True
        """
        check_is_fitted(self)
        write(self, path)

    def export_onnx(self, path: str | os.PathLike[str], part: str = "encoder") -> None:
        """Write the encoder or the decoder as an ONNX file, for use without Python or torch.

        Scaling is part of the file, and the number of rows is free. All numbers are float32,
        whatever ``precision`` is.

        ========= ================================== =============================================
        part      input                              outputs
        ========= ================================== =============================================
        encoder   "X", (n_samples, n_features), in   "codes", as :meth:`transform` gives them, and
                  the units of X                     "std", (n_samples, n_components) each
        decoder   "codes", (n_samples, n_components) "X", (n_samples, n_features), as
                                                     :meth:`inverse_transform` gives it
        ========= ================================== =============================================

        Where ``fit`` was given images, X are images of shape (n_samples, C, H, W). A row with NaN
        has the code NaN: the search for its mode, which :meth:`transform` makes, is not exported.

        Parameters
        ----------
        path : str or PathLike
            Of a directory that is there. An existing file is replaced once the new one is whole.

        part : {"encoder", "decoder"}, default="encoder"

        Raises
        ------
        ImportError
            If onnx or onnxscript is not installed: ``pip install sklearn-wiseale[onnx]``.

        ValueError
            If there is no such part, or torch cannot export a network of your own.

        FileNotFoundError
            If the directory is not there.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from sklearn.datasets import load_wine
        >>> from sklearn_wiseale import WiSEALETransformer
        >>> reducer = WiSEALETransformer(max_epochs=2, random_state=0).fit(load_wine().data)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     reducer.export_onnx(Path(folder, "encoder.onnx"))
        ...     sorted(path.name for path in Path(folder).iterdir())
        ['encoder.onnx']
        """
        check_is_fitted(self)
        given = self.net_.module_, self._scaling, self._image_shape, self.n_components_
        export(path, part, *given)

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    @property
    def _n_draws(self) -> int:
        """Draws of each row for its score, a multiple of 8: the share of wide ones is the same."""
        return int(np.clip(_AUTO_DRAWN_NUMBERS // self.n_features_in_ // 8 * 8, *_AUTO_DRAWS))

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.net_.module_.parameters()).dtype

    def _ready_net(self) -> VariationalNet:
        """The net, on the device that is asked for now: an estimator may have been moved.

        Of GPUs without a number each thread has its own: the net stays on the one where it is.
        """
        device = find_device(self.device, self.precision)
        if ":" in str(self.device) or torch.device(self.net_.device).type != device.type:
            self.net_.to(device)
        return self.net_

    def _checked(self, X: Any) -> Any:
        """X checked, but for values that are not finite."""
        check_is_fitted(self)
        return self._validated(X, reset=False, finite=False)

    def _encode(
        self, X: Any, missing: bool | None = None, first: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Means and log-variances of validated rows, of which the first has a number.

        Rows of which nobody knows whether entries are missing are looked at, and refined.
        """
        net = self._ready_net()
        rows = self._unchecked_rows(X) if missing is None else self._rows(X, missing)
        posterior = net.posterior(rows)
        if missing is None and rows.missing:
            self._refine(posterior.mean, rows)
        mean, log_var = (part.numpy(force=True) for part in posterior)
        self._refuse_overflow("codes", mean + log_var, X, first)
        return mean, log_var

    def _encode_by_ranks(self, X: Any, missing: bool) -> tuple[np.ndarray, np.ndarray]:
        """The same, of rows in training, each rank its part of them."""
        ranks, n = Ranks.present(), X.shape[0]
        if ranks.size == 1:
            return self._encode(X, missing)
        with ranks.together():
            own = np.stack(self._encode(ranks.own(X), missing, ranks.part(n).start), axis=1)
        both = ranks.gather(torch.from_numpy(own).to(self.net_.device), n).numpy(force=True)
        return both[:, 0], both[:, 1]

    def _refuse_overflow(self, what: str, results: np.ndarray, X: Any, first: int = 0) -> None:
        """Raise a ValueError if a row of X has a result that is not finite.

        ``first`` is the number of the first row here among all that the user gave.
        """
        lost = ~np.isfinite(results.reshape(len(results), -1)).all(axis=1)
        if lost.any():
            row = int(lost.argmax())
            largest = np.nanmax(np.abs(dense(X[row : row + 1], None)), initial=0)
            raise ValueError(
                f"X must have values for which {what} stay finite in {results.dtype}. Got values "
                f"up to {largest:.3g} in row {first + row}: leave it out, or rescale X."
            )

    def _unchecked_rows(self, X: Any, device: torch.device | None = None) -> Rows:
        """Rows of X, in which nobody has looked for NaN and infinity yet."""
        return Rows(
            X,
            self._scaling,
            self._dtype,
            device or torch.device(self._ready_net().device),
            unchecked=type(self).__name__,
            allow_nan=self._built["likelihood"].allow_nan,
        )

    def _log_volume(self, observed: torch.Tensor | None) -> torch.Tensor:
        """Log of the scales of all columns, or of a row's observed ones: (), or (n,)."""
        logs = torch.from_numpy(np.log(self._scaling.scale))
        if observed is None:
            return logs.sum()
        return observed.double() @ logs.to(observed.device)

    def _refine(self, mean: torch.Tensor, rows: Rows) -> None:
        """Move the codes of rows with missing entries to the mode given the others."""
        module, start = self._ready_net().module_, 0
        for x in rows.chunks(draws=search_arrays(self.n_components_)):
            x, observed = module.observe(x)
            chosen = (~observed.all(dim=1)).nonzero()[:, 0]
            if len(chosen):
                given = x[chosen], mean[start + chosen], observed[chosen]
                mode = posterior_mode(module.decoder, module.likelihood, *given)
                mean[start + chosen] = mode
            start += len(x)

    def _checked_codes(self, X: Any) -> np.ndarray:
        dtype = np.float64 if self._dtype == torch.float64 else np.float32
        # what the dtype cannot hold is refused as infinite
        with np.errstate(over="ignore", invalid="ignore"):
            X = check_array(as_numpy(X), dtype="numeric", input_name="X")
            refuse_dates(X)
            X = check_array(X, dtype=dtype, input_name="X")
        if X.shape[1] != self.n_components_:
            raise ValueError(
                f"X has {X.shape[1]} columns, but {type(self).__name__} has codes of "
                f"{self.n_components_} components."
            )
        return X

    def _decoded(self, Z: np.ndarray, read: Callable[[Any, torch.Tensor], torch.Tensor]) -> Any:
        """What ``read`` makes of the likelihood and the decoder's output, in the units of X."""
        net = self._ready_net()
        X = np.empty((len(Z), self.n_features_in_), dtype=self._inverse_dtype)
        step = chunk_length(self.n_features_in_)
        with torch.no_grad(), np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(Z), step):
                part = slice(start, start + step)
                z = torch.from_numpy(np.array(Z[part], order="C")).to(net.device, self._dtype)
                output = read(net.module_.likelihood, net.decode(z))
                X[part] = self._scaling.invert(output.numpy(force=True))
                self._refuse_overflow("decoded rows", X[part], Z[part], start)
        return X if self._image_shape is None else X.reshape(len(X), *self._image_shape)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "net_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        named = isinstance(self.likelihood, str)
        likelihood = LIKELIHOODS.get(self.likelihood) if named else self.likelihood
        tags.input_tags.allow_nan = bool(getattr(likelihood, "allow_nan", False))
        codes = "float64" if self.precision == "float64" else "float32"
        tags.transformer_tags.preserves_dtype = [codes]
        return tags


def load(
    path: str | os.PathLike[str],
    device: str | torch.device = "auto",
    *,
    objective: Objective | None = None,
    likelihood: Likelihood | None = None,
    network: Network | None = None,
) -> WiSEALETransformer:
    """Read an estimator that :meth:`WiSEALETransformer.save` has written.

    No code in the file is run, whoever has written it: classes are looked up by name among those
    of this package, and shapes are compared with the tensors before anything is built.

    Parameters
    ----------
    path : str or PathLike

    device : str or torch.device, default="auto"
        Becomes the parameter ``device`` of the estimator. "auto" keeps the one that it was saved
        with or, where that is not available here, stands for itself.

    objective, likelihood, network : object, default=None
        Handed back where they are code of your own, which is not stored: for instance
        ``network=Modules(encoder, decoder)``, equal to the one that was fitted.

    Returns
    -------
    estimator : WiSEALETransformer
        Fitted.

    Raises
    ------
    FileNotFoundError
        If there is no such file.

    ValueError
        If it is damaged, of another kind or of a newer release; if a part has to be handed back,
        or does not fit the weights; or if there is no such device.

    See Also
    --------
    WiSEALETransformer.save : Writes the file.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_wine
    >>> from sklearn_wiseale import WiSEALETransformer, load
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "wine.safetensors")
    ...     WiSEALETransformer(3, max_epochs=2, random_state=0).fit(load_wine().data).save(file)
    ...     load(file)
    WiSEALETransformer(max_epochs=2, n_components=3, random_state=0)
    """
    handed_back = {"objective": objective, "likelihood": likelihood, "network": network}
    known = {"WiSEALETransformer": WiSEALETransformer}
    return read(path, device, handed_back, estimators=known, bounds=AggregateKLBounds)


def _page_of_class() -> str:
    """Address of a class's page in the documentation that the package's metadata name, if any."""
    with suppress(metadata.PackageNotFoundError):
        for entry in metadata.metadata("sklearn-wiseale").get_all("Project-URL", []):
            label, _, address = entry.partition(", ")
            if label == "Documentation":
                return address.rstrip("/") + "/generated/{estimator_module}.{estimator_name}.html"
    return ""


def _moments(X: Any, names: np.ndarray | None) -> Moments:
    """Moments of all rows of X, each rank having looked at its part of them.

    ``names`` are those of the columns, where they have some.

    Raises
    ------
    ValueError
        If a column has none, or one that float64 cannot hold.
    """
    ranks, moments = Ranks.present(), Moments(X.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):
        with ranks.together():
            for chunk in _dense_chunks(ranks.own(X)):
                moments.update(chunk)
        moments, *others = ranks.objects(moments)
        for other in others:
            moments.merge(other)
    empty = np.flatnonzero(moments.observed == 0)
    if len(empty):
        shown = ", ".join(map(str, empty[:5]) if names is None else map(repr, names[empty[:5]]))
        more = f" and {len(empty) - 5} others" if len(empty) > 5 else ""
        raise ValueError(
            "X must have an observed value in every column. Got only NaN in column "
            f"{shown}{more}: leave it out."
        )
    if not np.isfinite(moments.variance).all():
        raise ValueError(
            "X must have variances that float64 can hold. Got values of the order of "
            f"{max(abs(X.min()), abs(X.max())):.1g}: rescale X."
        )
    return moments


def _dense_chunks(X: Any) -> Iterator[np.ndarray]:
    """Rows of X in float64 chunks."""
    step = chunk_length(X.shape[1])
    for start in range(0, X.shape[0], step):
        yield dense(X[start : start + step])
