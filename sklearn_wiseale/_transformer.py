"""The estimator: its parameters, and its public methods that do not return rows."""

from __future__ import annotations

import os
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ._data.neighbors import class_numbers
from ._data.validation import Interval, RealNotInt, StrOptions, check_count, check_seed
from ._explanation import ExplanationMixin
from ._generation import GenerationMixin
from ._model.components import unordered
from ._model.inference import default_draws, log_likelihoods
from ._persistence.onnx import export
from ._persistence.save import write
from ._steps import takes_chunks, uses_neighbors
from ._training.callbacks import EachEpoch
from ._training.distributed import current_processes
from ._training.outcome import warn_of_collapse, warn_of_end, warn_of_tails
from ._training.parameters import PARTS, TO_FIT, TO_SCORE, TO_USE, check_parameters, enough_memory
from ._training.sklearn_callbacks import CallbackSupportMixin, FitTask, with_callbacks
from .diagnostics import active_units
from .likelihoods import LIKELIHOODS, Likelihood
from .networks import NETWORKS, Network
from .objectives import OBJECTIVES, Objective

__all__ = ["WiSEALETransformer"]

#: Maximum number of rows for the upper bound of ``aggregate_kl_bounds_``.
_BOUND_ROWS = 1000
_BOUND_ROWS_OF_CHUNK = 256  # in partial_fit, which must stay cheap


class WiSEALETransformer(
    ExplanationMixin,
    GenerationMixin,
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    r"""Dimensionality reduction by a variational autoencoder with an aggregate prior.

    Codes are the means of the encoder's Gaussian posteriors :math:`q(z|x)`; a decoder maps codes
    back. Training maximises the log-likelihood of the reconstruction minus a divergence: by
    default, that of the *aggregate* posterior, the mixture of all :math:`q(z|x_i)`, from the prior
    :math:`\mathcal{N}(0, I)` (WiSE-ALE). Training starts from principal component analysis. The
    fitted state is the one with the lowest loss of held-out rows, the start included.

    X is an array, or a dataframe with numbers, categories, texts, booleans, dates and missing
    entries. Such a dataframe needs no encoder, and :meth:`inverse_transform`, :meth:`sample` and
    :meth:`impute` return dataframes with its columns and dtypes: see :ref:`tables`.

    Parameters
    ----------
    n_components : int, "auto" or float in (0, 1), default=2
        Dimensions of the codes. "auto" chooses the smallest number, up to 32, with which the score
        of held-out rows is within 0.2 nats and one standard error of the best one. A float is the
        share of the variance of held-out rows to reconstruct, with as few components as possible.
        Both take about ten fits; see :ref:`n-components`.

    objective : {"wiseale", "elbo", "infovae", "wae"} or Objective, default="wiseale"
        The objective to minimise; a string selects a class with its default parameters. See
        :mod:`sklearn_wiseale.objectives`.

    likelihood : str, Likelihood or dict of column name to either, default="auto"
        Observation model p(x|z): "gaussian", "student_t", "bernoulli", "poisson",
        "negative_binomial", "categorical" or an object. See :mod:`sklearn_wiseale.likelihoods`.
        "auto" is Gaussian for arrays and for dataframes of numbers. In dataframes of pandas or
        polars with other columns, booleans, categories and texts are categorical; numbers, dates
        and durations are Gaussian;
        ``inverse_transform`` and ``sample`` then return dataframes. A dict names the likelihoods
        of some columns, such as ``{"visits": "poisson"}``; the others follow the same rule.

    network : {"mlp"} or Network, default="mlp"
        Encoder and decoder. See :mod:`sklearn_wiseale.networks`.

    scale : {"auto", "feature", "robust", "global"} or None, default="auto"
        Internal scaling of X: "feature" standardises each column; "robust" does so with entries
        far from the others moved closer, and the start of training ignores how far they are;
        "global" centres each column and divides all by one number (images, spectra); None leaves
        X as it is. "auto" is "feature" for the Gaussian, "robust" for the Student-t likelihood
        and None for the others.

    max_epochs : int or "auto", default="auto"
        Passes over the training rows. "auto" aims at 600 steps, or ``10 * sqrt(n_samples)`` if
        that is more, in 2 to 60 passes.

    batch_size : int or "auto", default="auto"
        Maximum number of rows in a step, for each process. "auto" grows with n_samples, up to 256
        for all processes together.

    learning_rate : float or "auto", default="auto"
        Highest learning rate of AdamW. It is reached after 50 steps and, in ``fit``, falls to zero
        along a half cosine over the last three quarters. "auto" is ``8e-3 * sqrt(batch_size / 64)``
        up to 16 columns. Beyond, it is multiplied by ``sqrt(16 / n_features)``, but stays at least
        ``1e-3 * sqrt(batch_size / 64)``, which is also the rate of ``partial_fit``. More or wider
        layers than those of the default may need a lower one.

    early_stopping : bool or "auto", default="auto"
        Hold rows out, keep the state with their lowest loss, and stop when this loss no longer
        falls. States are running averages of the weights after each epoch. "auto" is True in
        ``fit`` and False in ``partial_fit``. The start is kept unless an epoch is better by one
        standard error of the rows' differences.

    validation_fraction : float, default=0.15
        Share of the rows to hold out, drawn at random: at most 2,048 rows (fewer for very wide
        data), at least 12 or, below 36 rows, a third. Scaling and the PCA start use all rows.

    n_iter_no_change : int, default=15
        Epochs without improvement after which training stops.

    tol : float, default=1e-4
        Fall of the held-out loss, in nats, that counts as improvement.

    warm_start : bool, default=False
        Let ``fit`` continue from the present weights and scaling. The parameters n_components,
        likelihood, network, scale and precision must then stay as they are.

    device : str or torch.device, default="auto"
        "auto" is CUDA if available, else MPS, else the CPU.

    precision : {"float32", "bfloat16", "float64"}, default="float32"
        "bfloat16" runs the networks under autocast and the objective in float32. With "float64",
        codes are float64 too.

    checkpoint : str or PathLike, default=None
        Directory to which ``fit`` writes its state after each epoch. If a fit with the same data
        and parameters was killed, the next one continues from its last epoch, with the same
        result. A fit that ends removes its file. Searches may share a directory. Your own
        callbacks start anew, unless they have ``state_dict`` and ``load_state_dict``.

    verbose : int, default=0
        1 shows a progress bar over epochs.

    random_state : int, RandomState instance or None, default=None
        Seed of weights, order of rows and noise. The global generators of numpy and torch stay as
        they are, except that None draws a seed from numpy's.

    net_params : dict, default=None
        Further parameters of the skorch net, e.g.
        ``{"optimizer__weight_decay": 0.1, "callbacks": [...]}``. Callbacks are not copied by
        ``fit``; ``clone`` makes new ones with the same arguments.

    Attributes
    ----------
    net_ : VariationalNet
        The trained skorch net; ``net_.module_`` has the encoder, the decoder and the likelihood.

    history_ : list of dict
        One dict for each epoch: ``train_reconstruction`` and ``train_divergence`` (nats per row, in
        scaled units), their sum ``train_loss``, the same with ``valid_`` if rows are held out,
        ``learning_rate`` and ``dur`` (seconds). The booleans ``train_loss_best`` and
        ``valid_loss_best`` tell whether the loss is the lowest so far.

    n_iter_ : int
        Epochs run: by the last ``fit``, or by all calls of ``partial_fit``.

    best_epoch_ : int
        Epoch of the last ``fit`` whose state was kept, from 1; 0 is the start. If no rows are held
        out, it is the last one.

    start_losses_ : dict
        ``valid_reconstruction``, ``valid_divergence`` and ``valid_loss`` of the start, before the
        first epoch; only if rows are held out.

    stop_reason_ : str
        Why the last ``fit`` ended: "max_epochs", "no_improvement" (of held-out rows),
        "diverged" (a loss that was not finite), "callback" or "interrupted". ``partial_fit``
        removes this attribute and the two above.

    n_components_ : int
        Number of components.

    n_features_in_ : int
        Columns of X.

    column_likelihoods_ : dict of column name to str
        Likelihood of each column; only if X was a dataframe with columns that are not numbers, or
        ``likelihood`` is a dict.

    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns, if X had string names.

    n_samples_seen_ : int
        Rows seen by ``fit`` and by all calls of ``partial_fit`` since.

    noise_scale_ : float or ndarray of shape (n_features,)
        Standard deviation of Gaussian noise, or scale of Student-t noise, in the units of X; only
        with these likelihoods.
        NaN for columns with another one.

    explained_variance_ratio_ : ndarray of shape (n_components,)
        Share of the variance, of columns as the estimator scales them, that the first k components
        reconstruct, less that of the first k - 1; the other components are at their means. A share
        may be negative. The rows are up to 1,000 of those of X, and fewer for more than 8
        components or for wide X. Components are sorted by the variance that is lost without each.
        As in PCA, the column with the largest slope rises with a component.

    aggregate_kl_bounds_ : AggregateKLBounds (lower, upper, n_upper)
        Bounds, in nats, on the divergence of the aggregate posterior from the prior: "moment" over
        all rows of X (for ``partial_fit``, of the last chunk), and "jensen" over ``n_upper`` rows
        drawn at random, which is an upper bound in expectation.

    See Also
    --------
    sklearn.decomposition.PCA : The linear method from which training starts.
    sklearn_wiseale.diagnostics.reconstruction_r2 : Share of variance reconstructed, for scoring.

    Notes
    -----
    The objective, with Gaussian posteriors :math:`q_i(z) = q(z|x_i)`, is

    .. math::

        \frac1N \sum_i \mathbb{E}_{q_i} \log p(x_i | z)
        - \text{weight} \cdot \mathrm{KL}\Big(\frac1N \sum_i q_i \,\Big\|\, p\Big).

    It may exceed the log-likelihood by up to log N nats, so it is not a bound; ``score`` is one.

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
        "n_components": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
            StrOptions({"auto"}),
        ],
        "objective": [StrOptions(set(OBJECTIVES)), Objective],
        "likelihood": [StrOptions({"auto", *LIKELIHOODS}), Likelihood, dict],
        "network": [StrOptions(set(NETWORKS)), Network],
        "scale": [StrOptions({"auto", "feature", "robust", "global"}), None],
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
        n_components: int | float | str = 2,
        *,
        objective: str | Objective = "wiseale",
        likelihood: str | Likelihood | dict[Any, str | Likelihood] = "auto",
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
    @enough_memory(TO_FIT)
    def fit(self, X: Any, y: Any = None) -> WiSEALETransformer:
        """Learn encoder and decoder from X.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            At least two rows. Sparse matrices are densified batch by batch. NaN marks a missing
            entry, which does not contribute. With ``network=Conv(...)``, X may hold images of shape
            (n_samples, C, H, W); every method then takes images, and ``inverse_transform`` and
            ``sample`` return them.

        y : array-like of shape (n_samples,), default=None
            Ignored, except with ``objective=WiSEALE(neighbors=...)``: rows are then kept close to
            rows of their class. -1, NaN and None mark rows without a class. Numbers that are not
            integers are no classes, and ignored.

        Returns
        -------
        self : WiSEALETransformer

        Raises
        ------
        ValueError
            If a parameter or X is invalid, or if y is used and has not n_samples values.

        MemoryError
            If the device's memory is too small. The message names the parameters to lower.

        Warns
        -----
        UserWarning
            If the start was kept after ``n_iter_no_change`` epochs or more, or if components are
            not in use, or if a few entries have nearly all of the variance of a column.

        ConvergenceWarning
            If the loss is no longer finite, or still fell when ``max_epochs="auto"`` ended the fit.

        Notes
        -----
        After an error, a fitted estimator is as before; after an interrupt, it is trained so far.

        If ``torch.distributed`` is set up, for example by ``accelerate``, all processes of the
        default group train one model and must call ``fit`` with the same X and parameters: see
        :ref:`ranks`.
        """
        processes = current_processes()
        task = FitTask(self, lambda: {"net_": self.net_.snapshot()}, heard=processes.is_first)
        with self._unchanged_on_error() as undo:
            with processes.raise_on_all():
                parts = check_parameters(self)
                warm = self.warm_start and hasattr(self, "net_")
                given, X = X, self._validate_rows(X, parts, reset=not warm)
                steered = y is not None and uses_neighbors(parts["objective"])
                classes = class_numbers(y, X.shape[0]) if steered else None
                params_hash = self._hash_parameters(processes, classes)  # before draws
                rng = check_seed(self.random_state)
            self._require_same_fit(processes, X)
            if not warm:
                self._set_n_components(X, given, processes)
            rng = processes.share_rng(rng)
            split_seed = rng.randint(np.iinfo(np.int32).max)
            missing = self._prepare_net(X, parts, undo if warm else None, rng, processes)
            if not warm:
                warn_of_tails(X, self._column_names(), self)
            self.n_samples_seen_ = X.shape[0]
            checkpoint, split_seed = processes.from_first(
                lambda: self._open_checkpoint(X, params_hash, warm, split_seed)
            )
            split_rng = np.random.RandomState(split_seed)
            train, held_out = self._split(X, split_rng, missing)
            neighbors = self._neighbors(train, classes, processes)
            task.begin(X, y)
            last = [("task", task)]
            if checkpoint and processes.is_first:
                writes = EachEpoch(lambda net: checkpoint.write(net, split_seed))
                last.append(("checkpoint", writes))
            resume = checkpoint.resume if checkpoint and checkpoint.state else None
            self._train(
                train,
                held_out,
                decays=True,
                extra_callbacks=last,
                neighbors=neighbors,
                resume=resume,
            )
            warn_of_end(self)
            codes = self._bound_aggregate(X, missing, processes, split_rng, _BOUND_ROWS)
            warn_of_collapse(active_units(codes), self)
            task.end()
            if checkpoint and processes.is_first:
                checkpoint.remove()
        return self

    @available_if(takes_chunks)
    @enough_memory(TO_FIT)
    def partial_fit(self, X: Any, y: Any = None) -> WiSEALETransformer:
        """Train for one pass over a chunk of rows.

        The first chunk sets scaling and the PCA start, so it should be representative: a column
        that is constant in it is never scaled. No rows are held out.

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
            If a parameter or X is invalid, or with ``early_stopping=True``.

        MemoryError
            If the device's memory is too small. The message names the parameters to lower.
        """
        processes = current_processes()
        with self._unchanged_on_error() as undo:
            with processes.raise_on_all():
                parts = check_parameters(self)
                self._refuse_chunks()
                first = not hasattr(self, "net_")
                self.n_components_ = int(self.n_components) if first else self.n_components_
                X = self._validate_rows(X, parts, reset=first)
                rng = check_seed(self.random_state if first else 0)
            self._require_same_fit(processes, X)
            rng = processes.share_rng(rng)
            missing = self._prepare_net(X, parts, None if first else undo, rng, processes)
            self.n_samples_seen_ += X.shape[0]
            self._train(self._training_rows(X, missing), None, decays=False)
            rng = np.random.RandomState(0)
            self._bound_aggregate(X, missing, processes, rng, _BOUND_ROWS_OF_CHUNK)
        return self

    # using ----------------------------------------------------------------------------------

    @enough_memory(TO_USE)
    def transform(self, X: Any) -> np.ndarray:
        """Means of the posteriors q(z|x): deterministic, and independent of other rows.

        For a row with missing entries (NaN), the code is the mode of p(z|x) given the observed
        entries, found from the encoder's mean. ``inverse_transform`` then fills in the others.

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
            If X is invalid, or has a row so far from the training rows that its code is not finite.
        """
        return self._codes(self._rows_in_use(X))[0]

    @enough_memory(TO_USE)
    def posterior(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the Gaussian posteriors q(z|x).

        For a row with missing entries (NaN), they are those of the Laplace approximation to
        p(z|x) given the observed entries: the mode, as in :meth:`transform`, and the standard
        deviations of the Gaussian with the curvature at the mode.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        mean, std : ndarray of shape (n_samples, n_components)
        """
        mean, log_var = self._codes(self._rows_in_use(X))
        return mean, np.exp(0.5 * log_var)

    @enough_memory(TO_SCORE)
    def score_samples(
        self, X: Any, *, n_draws: int | str = "auto", return_effective: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Importance-weighted bound on log p(x) of each row.

        Proposals are Gaussians with the curvature at the modes of p(z|x), found with the decoder.
        All rows and calls use the same draws, so a row's score depends on this row alone. The
        expected bound rises with ``n_draws``. For a linear decoder and Gaussian noise, it is exact
        up to the share of wider draws, which protect against light tails.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        n_draws : int or "auto", default="auto"
            Draws per row. "auto" is 64 up to 2,048 columns and falls to 8 at 16,384 columns: draws
            of wide rows cost more, and p(z|x) of wide rows is closer to the Gaussian proposal. If
            the effective sample size is far below ``n_draws``, use more draws.

        return_effective : bool, default=False
            Also return the effective sample size of the draws, between 1 and ``n_draws``. The
            bound is loose if it is near 1.

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
            n_draws = default_draws(self._width)
        n_draws = check_count("n_draws", n_draws)
        model = self.net_.module_, rows, self.n_components_
        found = log_likelihoods(*model, n_draws, self._scaling.scale)
        log_likelihood, effective = (part.to(self._dtype).numpy(force=True) for part in found)
        self._refuse_overflow("log-likelihoods", log_likelihood, rows.X)
        return (log_likelihood, effective) if return_effective else log_likelihood

    def score(self, X: Any, y: Any = None) -> float:
        """Mean of :meth:`score_samples`: nats per row, higher is better.

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

        The file is a safetensors file with a JSON header: unlike a pickle, reading it runs no code.
        It holds parameters, weights, scaling and ``history_``, but, like a pickle, not the state
        of the optimiser. A loaded estimator gives the same codes, reconstructions, samples and
        scores, and continues training like an unpickled one.

        Parameters
        ----------
        path : str or PathLike
            The directory must exist. An existing file is replaced once the new one is complete.

        Raises
        ------
        ValueError
            If a parameter cannot be stored, such as callbacks, an optimiser or options of
            ``torch.compile`` in ``net_params``, or if the estimator is of a subclass.

        FileNotFoundError
            If the directory does not exist.

        See Also
        --------
        sklearn_wiseale.load : Reads the file.

        Notes
        -----
        Your own code is not stored: pass torch modules of
        :class:`~sklearn_wiseale.networks.Modules` and parts of your own classes to ``load``. What
        they learn must be parameters or buffers of their modules. Callbacks of
        :mod:`sklearn.callback` and attributes that you have added are not stored.

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

        The file includes the scaling and takes any number of rows. All numbers are float32,
        whatever ``precision`` is.

        ========= ================================== =============================================
        part      input                              outputs
        ========= ================================== =============================================
        encoder   "X", (n_samples, n_features), in   "codes", as :meth:`transform` gives them, and
                  the units of X                     "std", (n_samples, n_components) each
        decoder   "codes", (n_samples, n_components) "X", (n_samples, n_features), as
                                                     :meth:`inverse_transform` gives it
        ========= ================================== =============================================

        After a ``fit`` on images, X holds images of shape (n_samples, C, H, W). A row with NaN
        has the code NaN: the search for the mode in :meth:`transform` is not exported. After a
        ``fit`` on a dataframe with columns that are not numbers, X holds the encoded columns
        (:ref:`table-files`).

        Parameters
        ----------
        path : str or PathLike
            The directory must exist. An existing file is replaced once the new one is complete.

        part : {"encoder", "decoder"}, default="encoder"

        Raises
        ------
        ImportError
            If onnx or onnxscript is not installed: ``pip install sklearn-wiseale[onnx]``.

        ValueError
            If ``part`` is invalid, or if torch cannot export your own network.

        FileNotFoundError
            If the directory does not exist.

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
        components = self._components or unordered(self.n_components_)
        model = self.net_.module_, self._scaling, self._image_shape, components
        export(path, part, *model)
