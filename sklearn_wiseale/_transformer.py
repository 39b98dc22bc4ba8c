"""The estimator: arrays in, arrays out."""

from __future__ import annotations

import os
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils.validation import check_is_fitted

from ._data.rows import has_missing
from ._data.validation import (
    Interval,
    RealNotInt,
    StrOptions,
    check_codes,
    check_count,
    check_seed,
)
from ._model.inference import default_draws, log_likelihoods
from ._persistence.onnx import export
from ._persistence.save import write
from ._steps import EstimatorSteps
from ._training.callbacks import (
    EachEpoch,
)
from ._training.group import current_processes
from ._training.outcome import warn_of_collapse
from ._training.parameters import PARTS, check_parameters, enough_memory
from ._training.sklearn_callbacks import CallbackSupportMixin, FitTask, with_callbacks
from .diagnostics import active_units
from .likelihoods import LIKELIHOODS, Likelihood
from .networks import NETWORKS, Network
from .objectives import OBJECTIVES, Objective

__all__ = ["WiSEALETransformer"]

#: Rows from which the upper bound of ``aggregate_kl_bounds_`` is computed, at most.
_BOUND_ROWS = 1000
_BOUND_ROWS_OF_CHUNK = 256  # of partial_fit, which must stay cheap
#: What to do where memory is short.
_TO_FIT = (
    "Lower batch_size, the width of the objective or the layers of the network, or use "
    "device='cpu': memory is too small for this fit."
)
_TO_USE = "Free some memory, or set_params(device='cpu'): rows are taken in small parts already."
_TO_SCORE = "Lower n_draws, free some memory, or set_params(device='cpu')."


class WiSEALETransformer(
    EstimatorSteps,
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
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

    aggregate_kl_bounds_ : AggregateKLBounds (lower, upper, n_upper)
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
        processes = current_processes()
        task = FitTask(self, lambda: {"net_": self.net_.snapshot()}, heard=processes.is_first)
        with self._unchanged_on_error() as undo:
            with processes.raise_on_all():
                parts = check_parameters(self)
                warm = self.warm_start and hasattr(self, "net_")
                X = self._validate_rows(X, reset=not warm)
                params_hash = self._hash_parameters(processes)  # before random numbers are drawn
                rng = check_seed(self.random_state)
            self._require_same_fit(processes, X)
            rng = processes.share_rng(rng)
            split_seed = rng.randint(np.iinfo(np.int32).max)
            if warm:
                undo.append(self._ready_net().make_rollback())
                self._continue_training(parts)
                missing = has_missing(X)
            else:
                missing = self._start(X, parts, rng, processes)
            self.n_samples_seen_ = X.shape[0]
            checkpoint = processes.from_first(lambda: self._open_checkpoint(X, params_hash, warm))
            if checkpoint:
                split_seed = checkpoint.stored_seed(split_seed)
            split_rng = np.random.RandomState(split_seed)
            train, held_out = self._split(X, split_rng, missing)
            task.begin(X, y)
            last = [("task", task)]
            if checkpoint and processes.is_first:
                writes = EachEpoch(lambda net: checkpoint.write(net, split_seed))
                last.append(("checkpoint", writes))
            resume = checkpoint.resume if checkpoint and checkpoint.state else None
            self._train(train, held_out, decays=True, extra_callbacks=last, resume=resume)
            self._warn_of_end()
            codes = self._encode_training_rows(X, missing, processes)
            self._bound_aggregate(*codes, split_rng, _BOUND_ROWS)
            n_active = active_units(codes[0])
            objective = self._built["objective"]
            warn_of_collapse(n_active, self.n_components_, self._n_axes, objective)
            task.end()
            if checkpoint and processes.is_first:
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
        processes = current_processes()
        with self._unchanged_on_error() as undo:
            with processes.raise_on_all():
                parts = check_parameters(self)
                if self.early_stopping is True:
                    raise ValueError(
                        "partial_fit does not support early_stopping=True: there is no held-out "
                        "set. Use early_stopping='auto' or False."
                    )
                first = not hasattr(self, "net_")
                X = self._validate_rows(X, reset=first)
                rng = check_seed(self.random_state if first else 0)
            self._require_same_fit(processes, X)
            if first:
                missing = self._start(X, parts, processes.share_rng(rng), processes)
            else:
                undo.append(self._ready_net().make_rollback())
                self._continue_training(parts)
                missing = has_missing(X)
            self.n_samples_seen_ += X.shape[0]
            self._train(self._training_rows(X, missing), None, decays=False)
            codes = self._encode_training_rows(X, missing, processes)
            self._bound_aggregate(*codes, np.random.RandomState(0), _BOUND_ROWS_OF_CHUNK)
        return self

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
        return self._encode(self._rows_in_use(X))[0]

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
        Z = check_codes(X, self.n_components_, self._dtype, type(self).__name__)
        return self._decode(Z, lambda likelihood, output: likelihood.mean(output))

    @enough_memory(_TO_USE)
    def posterior(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the Gaussian posteriors q(z|x).

        For a row with missing entries (NaN), they are those of the Laplace approximation to
        p(z|x) given the observed entries: its mode, as in :meth:`transform`, and the standard
        deviations of the Gaussian with the curvature there.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        mean, std : ndarray of shape (n_samples, n_components)
        """
        mean, log_var = self._encode(self._rows_in_use(X))
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
        return self._decode(Z, lambda likelihood, output: likelihood.sample(output, generator))

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
        rows = self._rows_in_use(X, float64=True)
        if n_draws == "auto":
            n_draws = default_draws(self.n_features_in_)
        n_draws = check_count("n_draws", n_draws)
        model = self.net_.module_, rows, self.n_components_
        found = log_likelihoods(*model, n_draws, self._scaling.scale)
        log_likelihood, effective = (part.to(self._dtype).numpy(force=True) for part in found)
        self._refuse_overflow("log-likelihoods", log_likelihood, rows.X)
        return (log_likelihood, effective) if return_effective else log_likelihood

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
        write(path, self)

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
        model = self.net_.module_, self._scaling, self._image_shape, self.n_components_
        export(path, part, *model)

    # scikit-learn ---------------------------------------------------------------------------
