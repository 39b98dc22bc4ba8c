"""The private steps of which the public methods of the estimator are made."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from numbers import Integral
from typing import Any

import joblib
import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from ._data.frames import library_of
from ._data.neighbors import nearest_neighbors
from ._data.rows import Rows, chunk_length, dense, has_missing
from ._data.scaling import Scaling
from ._data.validation import check_rows, image_rows, refuse_empty_frames, validate_data
from ._model.components import Components, order_components, rows_to_order
from ._model.inference import decode, posterior, refine
from ._model.module import private_torch_rng
from ._model.start import (
    build_module,
    column_limits,
    column_moments,
    column_scaling,
    scaled_axes,
    weight_dtype,
)
from ._model.tables import Table, has_only_numbers
from ._model_selection import choose_n_components
from ._persistence.checkpoint import Checkpoint
from ._training.callbacks import (
    BestState,
    ProgressBar,
    clone_callbacks,
    describe_callbacks,
    is_kept,
    refuse_pickling,
)
from ._training.distributed import Processes, current_processes
from ._training.net import VariationalNet, build_net
from ._training.parameters import check_scale, find_device, resolve
from ._training.plan import batch_size, learning_rate, n_epochs, split_rows
from .diagnostics import AggregateKLBounds, aggregate_kl
from .likelihoods import LIKELIHOODS, Likelihood
from .networks import Network
from .objectives import Objective, WiSEALE

__all__ = ["EstimatorSteps", "takes_chunks", "uses_neighbors"]


class EstimatorSteps(BaseEstimator):
    """Steps of fitting, and of using what was fitted.

    :class:`~sklearn_wiseale.WiSEALETransformer` adds the parameters and the public methods.
    """

    n_components: int | float | str
    objective: str | Objective
    likelihood: str | Likelihood | dict[Any, str | Likelihood]
    network: str | Network
    scale: str | None
    max_epochs: int | str
    batch_size: int | str
    learning_rate: float | str
    early_stopping: bool | str
    validation_fraction: float
    n_iter_no_change: int
    tol: float
    device: str | torch.device
    precision: str
    checkpoint: str | os.PathLike[str] | None
    verbose: int
    net_params: dict[str, Any] | None

    n_features_in_: int
    n_components_: int
    n_samples_seen_: int
    net_: VariationalNet
    _scaling: Scaling
    _inverse_dtype: type[np.floating]
    _built: dict[str, Any]  # what the fitted state was built from
    _net_params: dict[str, Any] | None  # that net_ was built with
    _image_shape: tuple[int, ...] | None  # of the images that fit was given, if not rows
    _table: Table | None = None  # of the dataframe that fit was given, if it has more than numbers
    _library: str | None = None  # of the dataframe that fit was given
    _components: Components | None = None  # of the codes, if these are not those of the net
    _aggregate: np.ndarray  # means and log-variances of training rows, (2, m, n_components)

    # scikit-learn and files -------------------------------------------------------------------

    _doc_link_module = "sklearn_wiseale"
    _doc_link_template = property(lambda self: _page_of_class())

    def __sklearn_clone__(self) -> Any:
        """A clone with new callbacks, which are made with the same arguments as the old ones."""
        bare, callbacks = copy.copy(self), self._callbacks()
        if self.net_params and callbacks:
            bare.net_params = {k: v for k, v in self.net_params.items() if k != "callbacks"}
        cloned = super(EstimatorSteps, bare).__sklearn_clone__()
        if callbacks:
            cloned.net_params["callbacks"] = clone_callbacks(callbacks)
        return cloned

    def __copy__(self) -> EstimatorSteps:
        copied = object.__new__(type(self))
        copied.__dict__ = self.__dict__.copy()
        return copied

    def __getstate__(self) -> dict[str, Any]:
        """State for pickles, without callbacks that are no longer in net_params."""
        refuse_pickling(self._callbacks())
        state = {**super().__getstate__()}
        state.pop("_mixture", None)
        if "net_" in state:
            state["net_"], state["_net_params"] = self._stored_net()
        return state

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "net_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        likelihood: Any = self.likelihood
        if isinstance(likelihood, str) and likelihood not in ("auto", *LIKELIHOODS):
            likelihood = None
        likelihood = resolve("likelihood", likelihood)
        tags.input_tags.allow_nan = bool(getattr(likelihood, "allow_nan", False))
        codes = "float64" if self.precision == "float64" else "float32"
        tags.transformer_tags.preserves_dtype = [codes]
        return tags

    @property
    def column_likelihoods_(self) -> dict[Any, str]:
        """Likelihood of each column, if fit was given a dataframe with more than numbers."""
        if self._table is None:
            raise AttributeError("fit was given no dataframe with columns that are not numbers")
        return self._table.likelihood_names

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    # fitting ------------------------------------------------------------------------------

    def _stored_net(self) -> tuple[VariationalNet, dict[str, Any] | None]:
        """The net and its parameters, without callbacks that are no longer in net_params."""
        net, params = self.net_, self._net_params
        if params and params.get("callbacks") and not self._callbacks():
            net = net.without_callbacks()
            params = {name: value for name, value in params.items() if is_kept(name)}
        return net, params

    def _callbacks(self) -> list[Any]:
        """The user's callbacks of skorch."""
        callbacks = self.net_params.get("callbacks") if isinstance(self.net_params, dict) else None
        return callbacks if isinstance(callbacks, list) else []

    @contextmanager
    def _unchanged_on_error(self) -> Iterator[list[Callable[[], None]]]:
        """Restore the attributes if an error is raised inside.

        Functions in the list restore what the attributes hold. After an interrupt, the attributes
        are restored only if training has not begun; else the estimator is usable, trained so far.
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

    def _require_same_fit(self, processes: Processes, X: Any) -> None:
        """Raise a ValueError on all processes if they do not all make the same fit."""
        if processes.size == 1:
            return
        plain = (bool, int, float, str, type(None))
        params = {k: v for k, v in self.get_params().items() if isinstance(v, plain)}
        for name in ("checkpoint", "device", "random_state", "verbose"):
            params.pop(name, None)
        processes.require_same({"X": _fingerprint(X), "net_": hasattr(self, "net_"), **params})
        if X.shape[0] < processes.size:
            raise ValueError(
                f"X must have a row for each of {processes.size} processes. "
                f"Got n_samples={X.shape[0]}."
            )

    def _set_n_components(self, X: Any, given: Any, processes: Processes) -> None:
        """Set ``n_components_``, for a validated X and the one that ``fit`` was given."""
        asked = self.n_components
        if not isinstance(asked, Integral):
            if processes.size > 1:
                raise ValueError(
                    f"n_components must be an int for several processes. Got {asked!r}."
                )
            images = None if self._image_shape is None else X.reshape(-1, *self._image_shape)
            rows = given if self._table is not None else X if images is None else images
            asked = choose_n_components(self, rows, X.shape[1], asked)
        self.n_components_ = int(asked)

    def _refuse_chunks(self) -> None:
        """Raise a ValueError if a parameter needs all rows at once, for ``partial_fit``."""
        if self.early_stopping is True:
            raise ValueError(
                "partial_fit does not support early_stopping=True: there is no held-out set. Use "
                "early_stopping='auto' or False."
            )
        if not isinstance(self.n_components, Integral):
            raise ValueError(
                f"n_components must be an int for partial_fit. Got {self.n_components!r}."
            )

    def _hash_parameters(self, processes: Processes, classes: np.ndarray | None) -> str:
        """Hash of the parameters, and of the classes, on which the course of a fit depends."""
        if self.checkpoint is None:
            return ""
        params = self.get_params(deep=False)
        if self.batch_size != "auto":  # the same fit, whatever the number of processes
            params["batch_size"] = int(self.batch_size) * processes.size
        if self._callbacks():
            described = describe_callbacks(self._callbacks())
            params["net_params"] = {**params["net_params"], "callbacks": described}
        params = {k: v for k, v in params.items() if k not in ("checkpoint", "verbose", "device")}
        return joblib.hash(params if classes is None else [params, classes])

    def _open_checkpoint(
        self, X: Any, params_hash: str, warm: bool, seed: int
    ) -> tuple[Checkpoint | None, int]:
        """The checkpoint of this fit, and the seed of its split, which may be a stored one."""
        if self.checkpoint is None:
            return None, seed
        state = self.net_.module_.state_dict() if warm else {}
        weights = [value.numpy(force=True) for value in state.values() if torch.is_tensor(value)]
        fingerprint = joblib.hash([params_hash, _fingerprint(X), *self._scaling, *weights])
        checkpoint = Checkpoint(self.checkpoint, fingerprint)
        return checkpoint, checkpoint.stored_seed(seed)

    def _prepare_net(
        self,
        X: Any,
        parts: dict[str, Any],
        undo: list[Callable[[], None]] | None,
        rng: np.random.RandomState,
        processes: Processes,
    ) -> bool:
        """Build the net or, with ``undo``, keep it; return whether X has missing entries."""
        if undo is None:
            return self._start(X, parts, rng, processes)
        undo.append(self._ready_net().make_rollback())
        self._continue_training(parts)
        return has_missing(X)

    def _continue_training(self, parts: dict[str, Any]) -> None:
        """Take over a changed objective; refuse other changes of what the net was built from."""
        for name, built in self._built.items():
            now = parts.get(name, getattr(self, name))
            if name == "network" and isinstance(getattr(now, "hidden", None), str):
                now = clone(now).set_params(hidden=getattr(built, "hidden", now.hidden))
            if joblib.hash(now) == joblib.hash(built):
                continue
            if name != "objective":
                raise ValueError(
                    f"The '{name}' parameter of WiSEALETransformer must stay {built!r} while "
                    f"training goes on from a fitted state. Got {now!r} instead: set it back, or "
                    "call fit with warm_start=False."
                )
            divergence = now.build(self._width, self.n_components_)
            self.net_.criterion_ = divergence.to(self.net_.device)
            self._built = {**self._built, name: now}

    def _start(
        self, X: Any, parts: dict[str, Any], rng: np.random.RandomState, processes: Processes
    ) -> bool:
        """Scaling, network and its start from PCA; return whether X has missing entries."""
        likelihood = parts["likelihood"]
        parts["network"] = parts["network"].for_data(*X.shape)
        modes = likelihood.scale_modes(self.scale, X.shape[1])
        limits = column_limits(X, modes)
        moments = column_moments(X, self._column_names(), processes, limits)
        self._scaling = column_scaling(moments, modes)
        narrow = np.float32 if self._scaling.fits_float32 else np.float64
        self._inverse_dtype = np.result_type(X.dtype, narrow).type

        def axes_and_seed() -> tuple[Any, int]:
            axes = scaled_axes(X, moments, self._scaling, self.n_components_, rng, limits)
            return axes, int(rng.randint(np.iinfo(np.int32).max))

        axes, seed = processes.from_first(axes_and_seed)
        model = likelihood, parts["network"], self.precision
        with private_torch_rng(seed, torch.device("cpu")):
            module = build_module(moments, self._scaling, axes, self.n_components_, *model)
            divergence = parts["objective"].build(X.shape[1], self.n_components_)
        if not all(estimate.isfinite().all() for estimate in module.likelihood.buffers()):
            dtype = str(weight_dtype(self.precision)).removeprefix("torch.")
            raise ValueError(
                f"X must have variances that {dtype} can hold as scale={self.scale!r} leaves "
                "them. Got standard deviations up to "
                f"{np.sqrt(moments.variance.max()):.1g}: rescale X."
            )
        batch = batch_size(self.batch_size, X.shape[0], processes.size)
        rate = learning_rate(self.learning_rate, batch, X.shape[1], decays=True)
        self.net_ = build_net(
            module,
            divergence,
            seed=seed,
            lr=rate,
            device=find_device(self.device, self.precision),
            net_params=self.net_params,
            patience=self.n_iter_no_change,
            tol=self.tol,
        )
        fixed = {name: getattr(self, name) for name in ("n_components", "scale", "precision")}
        self._built = {**fixed, **parts}
        self._net_params = self.net_params and dict(self.net_params)
        self.__dict__.pop("_components", None)
        self._n_axes = len(axes.variance)
        self.n_samples_seen_ = 0
        self.history_: list[dict[str, float]] = []
        return moments.missing

    def _column_names(self) -> np.ndarray | None:
        """Names of the columns that the network sees, if they have names."""
        if self._table is not None:
            return self._table.encoded_names
        return getattr(self, "feature_names_in_", None)

    def _split(self, X: Any, rng: np.random.RandomState, missing: bool) -> tuple[Rows, Rows | None]:
        """Rows to train on, and rows held out or None."""
        if not self.early_stopping:
            return self._training_rows(X, missing).make_resident(), None
        numbers = split_rows(X.shape[0], X.shape[1], self.validation_fraction, rng)
        train, held_out = (self._training_rows(X, missing, part) for part in numbers)
        return train.make_resident(), held_out.make_resident()

    def _neighbors(
        self, rows: Rows, classes: np.ndarray | None, processes: Processes
    ) -> torch.Tensor | None:
        """Neighbours of the training rows, (n, k), if the objective asks for them."""
        n_neighbors = getattr(self.net_.criterion_, "n_neighbors", 0)
        if not n_neighbors or len(rows) < 2:
            return None
        if classes is not None and rows.index is not None:
            classes = classes[rows.index]
        module = self._ready_net().module_

        @torch.no_grad()
        def embed(x: torch.Tensor) -> torch.Tensor:
            return module.likelihood.embed(module.observe(x)[0] if rows.missing else x)

        return processes.from_first(lambda: nearest_neighbors(rows, n_neighbors, embed, classes))

    def _train(
        self,
        rows: Rows,
        held_out: Rows | None,
        *,
        decays: bool,
        extra_callbacks: Any = (),
        neighbors: torch.Tensor | None = None,
        resume: Callable[[VariationalNet], None] | None = None,
    ) -> None:
        """Train, and set the attributes of training even when interrupted.

        With ``decays``, as in ``fit``, the learning rate falls to zero; else there is one epoch.
        """
        net, processes, n = self._ready_net(), current_processes(), len(rows)
        if n < processes.size:
            raise ValueError(
                f"X must have a row to train on for each of {processes.size} processes. "
                f"Got {n} of them."
            )
        net.batch_size = batch_size(self.batch_size, n, processes.size)
        epochs = n_epochs(self.max_epochs, n, net.batch_size) if decays else 1
        callbacks = dict(net.callbacks_)
        if "schedule" in callbacks:
            rate = self.learning_rate, net.batch_size, self._width
            callbacks["schedule"].learning_rate = learning_rate(*rate, decays=decays)
            callbacks["schedule"].horizon_ = epochs * -(-n // net.batch_size) if decays else None
        if "best_state" in callbacks:
            callbacks["best_state"].patience = self.n_iter_no_change
            callbacks["best_state"].tol = self.tol
        before, n_before = net.callbacks_, len(net.history)
        shows_bar = self.verbose and processes.is_first
        bar = [("progress", ProgressBar(epochs))] if shows_bar else []
        net.callbacks_ = [*bar, *before, *extra_callbacks]
        outdated = "aggregate_kl_bounds_", "explained_variance_ratio_", "_aggregate", "_mixture"
        for name in outdated:
            self.__dict__.pop(name, None)
        try:
            seen = self.n_samples_seen_
            first_row = 0 if decays else seen - n
            place: dict[str, Any] = {"n_samples": seen, "first_row": first_row}
            net.train(rows, held_out, epochs, **place, neighbors=neighbors, resume=resume)
        finally:
            net.callbacks_ = before
            new = net.epochs_since(n_before)
            self.history_ = self.history_ + new
            self.n_iter_ = len(new) if decays else len(self.history_)
            self._set_outcome_attributes(callbacks.get("best_state") if decays else None)
            self._set_noise_scale()

    def _set_outcome_attributes(self, best_state: BestState | None) -> None:
        """Set the attributes about the end of ``fit``; ``partial_fit`` removes them."""
        for name in ("best_epoch_", "start_losses_", "stop_reason_"):
            self.__dict__.pop(name, None)
        if best_state is not None and hasattr(best_state, "best_epoch_"):  # an epoch began
            self.best_epoch_ = min(best_state.best_epoch_, self.n_iter_)
            self.stop_reason_ = self.net_.stop_reason_
            if best_state.start_:
                self.start_losses_ = dict(best_state.start_)

    def _set_noise_scale(self) -> None:
        """Set ``noise_scale_``, in the units of X, if the likelihood has Gaussian noise."""
        self.__dict__.pop("noise_scale_", None)
        noise = self.net_.module_.likelihood.noise_std()
        if noise is None:
            return
        std = noise.numpy(force=True).astype(np.float64) * self._scaling.scale
        modes = self._built["likelihood"].scale_modes(self._built["scale"], len(std))
        by_column = noise.numel() > 1 or any(mode == "feature" for _, mode in modes)
        if self._table is not None:
            std = self._table.by_column(std)
        self.noise_scale_ = std if by_column else float(std[0])

    def _bound_aggregate(
        self, X: Any, missing: bool, processes: Processes, rng: np.random.RandomState, n_rows: int
    ) -> np.ndarray:
        """Set ``aggregate_kl_bounds_``, the upper from at most ``n_rows`` rows; return codes.

        The posteriors of these rows are kept: ``sample`` draws codes from a mixture like theirs.
        The rows also set the order of the components. Codes here are those of the net.
        """

        def encode(X: Any, first: int) -> tuple[np.ndarray, np.ndarray]:
            return self._encode(self._training_rows(X, missing), first)

        mean, log_var = processes.encode_rows(encode, X, self.net_.module_.fill)
        chosen = np.arange(len(mean))
        if len(mean) > n_rows:
            chosen = np.sort(rng.choice(len(mean), n_rows, replace=False))
        self.aggregate_kl_bounds_ = AggregateKLBounds(
            aggregate_kl(mean, log_var, method="moment"),
            aggregate_kl(mean[chosen], log_var[chosen], method="jensen"),
            len(chosen),
        )
        self._aggregate = np.stack([mean[chosen], log_var[chosen]])
        some = rows_to_order(chosen, X.shape[1], self.n_components_)

        def order() -> tuple[Components, np.ndarray]:
            rows = self._training_rows(X, missing, some)
            return order_components(self.net_.module_, rows, mean[some])

        self._components, self.explained_variance_ratio_ = processes.from_first(order)
        return mean

    # rows -----------------------------------------------------------------------------------

    def _validate_rows(self, X: Any, parts: dict[str, Any], *, reset: bool) -> Any:
        """Check X of a fit; return an ndarray, memmap or CSR matrix of any real dtype.

        The likelihood among the parts becomes that of the columns, if these are of several kinds.
        """
        X, image_shape = image_rows(X, self._built["network"] if not reset else parts["network"])
        X = self._from_frame(X, reset=reset)
        table, asked = self._table, {} if self.likelihood == "auto" else self.likelihood
        if table is not None and repr(table.asked) == repr(asked):
            parts["likelihood"] = table.likelihood
        likelihood = parts["likelihood"] if reset else self._built["likelihood"]
        finite = "allow-nan" if likelihood.allow_nan else True
        X = check_rows(self, X, reset=reset, finite=finite, names=table is None)
        likelihood.check_support(X)
        if reset:
            self._image_shape = image_shape
        return X

    def _from_frame(self, X: Any, *, reset: bool, estimator: BaseEstimator | None = None) -> Any:
        """The array of a dataframe with columns of several kinds; everything else as it is."""
        library = library_of(X)
        if reset:
            self._table = None
            self.__dict__.pop("_library", None)
            named = isinstance(self.likelihood, dict)
            if named and library is None:
                raise ValueError(
                    "The 'likelihood' parameter of WiSEALETransformer must be no dict unless X is "
                    f"a dataframe of pandas or polars. Got {self.likelihood!r}, and X of "
                    f"{type(X).__name__}."
                )
            if library is None:
                return X
            self._library = library.name
            if not named and self.likelihood != "auto":
                return X
            refuse_empty_frames(X)
            if not named and has_only_numbers(X, library):
                return X
            asked = self.likelihood if isinstance(self.likelihood, dict) else {}
            validate_data(self, X, reset=True, skip_check_array=True)
            self._table = Table.from_frame(X, library, asked)
            check_scale(self.scale, self._table.likelihood)
        if self._table is None:
            return X
        if library is None:
            raise ValueError(
                "X must be a dataframe with the columns that it had in fit, "
                f"{self._table.names!r}. Got {type(X).__name__}."
            )
        refuse_empty_frames(X)
        validate_data(estimator or self, X, reset=False, skip_check_array=True)
        return self._table.encode(X, library)

    def _training_rows(self, X: Any, missing: bool, index: np.ndarray | None = None) -> Rows:
        """Rows of a validated X; ``missing`` tells whether entries are missing."""
        device = torch.device(self._ready_net().device)
        return Rows(X, self._scaling, self._dtype, device, index, missing=missing)

    def _rows_in_use(
        self, X: Any, *, float64: bool = False, estimator: BaseEstimator | None = None
    ) -> Rows:
        """Rows of X; each chunk is checked for NaN and infinity when it is read.

        With ``float64``, they are on the CPU if the net's device does not support float64. Errors
        about the columns name ``estimator``, by default this one.
        """
        check_is_fitted(self)
        named = estimator or self
        X, _ = image_rows(X, self._built["network"])
        X = self._from_frame(X, reset=False, estimator=named)
        X = check_rows(named, X, reset=False, finite=False, names=self._table is None)
        self._built["likelihood"].check_support(X)
        return self._rows(X, float64=float64)

    def _rows(self, X: Any, *, float64: bool = False) -> Rows:
        device = torch.device(self._ready_net().device)
        return Rows(
            X,
            self._scaling,
            self._dtype,
            torch.device("cpu") if float64 and device.type == "mps" else device,
            unchecked=type(self).__name__,
            allow_nan=self._built["likelihood"].allow_nan,
        )

    def _encode(self, rows: Rows, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Means and log-variances from the net; ``first`` is the number of the first row in X."""
        found = posterior(self._ready_net().module_, rows)
        if rows.missing and rows.unchecked:
            refine(self.net_.module_, found, rows)
        mean, log_var = (part.numpy(force=True) for part in found)
        self._refuse_overflow("codes", mean + log_var, rows.X, first)
        return mean, log_var

    def _codes(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Means and log-variances of rows, components in order."""
        mean, log_var = self._encode(rows)
        if self._components is None:
            return mean, log_var
        return self._components.from_net(mean), log_var[:, self._components.order]

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

    def _decode(self, Z: np.ndarray, read: Callable[[Any, torch.Tensor], torch.Tensor]) -> Any:
        """Rows of an array, in the units of X: ``read`` takes likelihood and decoder's output."""
        net = self._ready_net()
        X = np.empty((len(Z), self._width), dtype=self._inverse_dtype)
        step = chunk_length(self._width)
        with torch.no_grad(), np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(Z), step):
                part = slice(start, start + step)
                z = torch.from_numpy(np.array(Z[part], order="C")).to(net.device, self._dtype)
                output = read(net.module_.likelihood, decode(net.module_, z))
                X[part] = self._scaling.invert(output.numpy(force=True))
                self._refuse_overflow("decoded rows", X[part], Z[part], start)
        return X

    def _like_fit(self, X: np.ndarray, index: Any = None) -> Any:
        """Rows of an array in the form of those in ``fit``: as images, or as a dataframe."""
        if self._table is not None:
            return self._table.decode(X, index)
        return X if self._image_shape is None else X.reshape(len(X), *self._image_shape)

    @property
    def _width(self) -> int:
        """Columns of X as an array."""
        return len(self._scaling.scale)

    @property
    def _dtype(self) -> torch.dtype:
        return weight_dtype(self._built["precision"])

    def _in_float64(self) -> Any:
        """A copy that computes in float64; on the CPU if the device does not support it."""
        twin, net = copy.copy(self), self._ready_net().snapshot()
        if torch.device(net.device).type == "mps":
            twin.device = net.device = "cpu"
            net.module_.cpu()
        net.module_.double().autocast = False
        twin.net_, twin.precision = net, "float64"
        twin._built = {**self._built, "precision": "float64"}
        return twin

    def _ready_net(self) -> VariationalNet:
        """The net, moved to the current value of ``device``.

        For "cuda" without a number, each thread has its own GPU: the net stays where it is.
        """
        device = find_device(self.device, self.precision)
        if ":" in str(self.device) or torch.device(self.net_.device).type != device.type:
            self.net_.to(device)
        return self.net_


def uses_neighbors(objective: Any) -> bool:
    """Whether an objective keeps neighbours together, for which it needs all rows."""
    return isinstance(objective, WiSEALE) and objective.neighbors != 0


def takes_chunks(estimator: EstimatorSteps) -> bool:
    """Whether ``partial_fit`` is available; raise an AttributeError that tells why it is not."""
    if uses_neighbors(estimator.objective):
        raise AttributeError(
            "partial_fit is not available with neighbors, which are sought among all rows. Got "
            f"objective={estimator.objective!r}: use neighbors=0, or fit."
        )
    return True


def _fingerprint(X: Any) -> str:
    """Hash of the shape, the dtype and some rows of X."""
    some = np.unique(np.linspace(0, X.shape[0] - 1, 256).astype(int))
    return joblib.hash([f"{X.shape} {X.dtype}", dense(X[some])])


def _page_of_class() -> str:
    """Address of a class's documentation, from the package's metadata, or ""."""
    with suppress(metadata.PackageNotFoundError):
        for entry in metadata.metadata("sklearn-wiseale").get_all("Project-URL", []):
            label, _, address = entry.partition(", ")
            if label == "Documentation":
                return address.rstrip("/") + "/generated/{estimator_module}.{estimator_name}.html"
    return ""
