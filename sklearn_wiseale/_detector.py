"""Outlier detection with the density that a transformer has learned, and nearest neighbours."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.validation import check_is_fitted

from ._data.rows import Rows, has_missing
from ._data.validation import Interval, StrOptions, check_seed
from ._model.inference import default_draws, log_likelihoods
from ._steps import EstimatorSteps
from ._training.parameters import TO_SCORE, enough_memory
from ._transformer import WiSEALETransformer

__all__ = ["WiSEALEDetector"]

#: Distances are measured from here, as shares of their median among training rows: equal rows,
#: which tables of integers have many of, have no infinite density.
_LEAST_DISTANCE = 0.1
#: Scaled distance under which a row is taken for a kept one, and largest scaled number.
_SAME, _LARGEST = 1e-6, 1e150


class WiSEALEDetector(OutlierMixin, BaseEstimator):
    r"""Outlier detection by the density that a transformer learns, and by nearest neighbours.

    The score of a row joins two distances: that to the model, from the density of
    :meth:`WiSEALETransformer.score_samples`, which follows the structure of all rows together; and
    that to the nearest training rows, which is local.

    It is best trained with usual rows. Outliers among the training rows raise the scores of rows
    like them.

    Parameters
    ----------
    transformer : WiSEALETransformer, default=None
        Its clone is fitted. None is ``WiSEALETransformer()``, with two components: one to four were
        alike on nine data sets, more did worse.

    contamination : "auto" or float, default="auto"
        Share of outliers among the training rows, in (0, 0.5]: so many of them have scores below
        ``offset_``. "auto" takes for outliers the rows with distances, ``exp(-score)``, above
        Tukey's fence :math:`Q_3 + 1.5 (Q_3 - Q_1)`, with the quartiles of the training rows: few
        rows if there are no outliers, and as many as there are up to a quarter.

    distance : {"both", "model", "neighbors"}, default="both"
        The distances that make the score. "model" keeps no training rows.

    n_neighbors : int, default=3
        Neighbours whose distances count, unless ``distance="model"``.

    max_rows : int, default=10000
        Maximum number of training rows, drawn at random, that are kept for their distances. They
        are part of pickles.

    random_state : int, RandomState instance or None, default=None
        Seed of the transformer's fit and of the rows to keep. None takes that of the transformer.

    Attributes
    ----------
    transformer_ : WiSEALETransformer
        The fitted clone of ``transformer``.

    offset_ : float
        Score below which rows are outliers: ``decision_function`` is ``score_samples`` minus this.

    neighbors_ : NearestNeighbors
        The kept training rows, in the scaled units of the transformer; not with
        ``distance="model"``.

    n_features_in_ : int
        Columns of X.

    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns, if X had string names.

    See Also
    --------
    WiSEALETransformer.score_samples : The density of the model.
    sklearn.neighbors.LocalOutlierFactor : Distances relative to those of the neighbours.
    sklearn.ensemble.IsolationForest : Trees that look at one column at a time.

    Notes
    -----
    With D columns, the distances :math:`d_j` of a row to its k nearest training rows, in scaled
    units, and the largest density :math:`p_{\max}` of a training row, the score is

    .. math::

        -\frac1k \sum_{j=1}^k \log(d_j + \varepsilon) - \log \sqrt{1 + m^2 / D}, \qquad
        m^2 = 2 \log \frac{p_{\max}}{p(x)}.

    Multiplied by D, the first term is the nearest-neighbour estimate of the log-density
    (Loftsgaarden and Quesenberry 1965), averaged over j, up to a constant. If the density is
    Gaussian, m is the Mahalanobis distance; the second term has the tails of a multivariate
    Student t. Data have heavy tails: with the square of m in place of its logarithm, a far value in
    one column would outweigh everything else. :math:`\varepsilon` is a tenth of the median distance
    among training rows, so that rows that are equal do not stand out.

    A training row that was kept is no neighbour of its own: a row that equals a kept one has the
    next neighbour instead. Missing entries are filled with their expected values given the others:
    they make no row unusual.

    Scores are computed in float64, also for a transformer with ``precision="float32"``, so that a
    row's score does not depend on other rows, and far rows have finite scores. A row too far for
    float64 has the score ``-inf``.

    References
    ----------
    Loftsgaarden, Quesenberry (1965), *A Nonparametric Estimate of a Multivariate Density Function*,
    Annals of Mathematical Statistics 36.

    Tukey (1977), *Exploratory Data Analysis*.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_wine
    >>> from sklearn_wiseale import WiSEALEDetector
    >>> X = load_wine().data
    >>> detector = WiSEALEDetector(random_state=0).fit(X)
    >>> unusual = X[:2].copy()
    >>> unusual[0, 0] = 20.0
    >>> detector.predict(unusual)
    array([-1,  1])
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "transformer": [WiSEALETransformer, None],
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        "distance": [StrOptions({"both", "model", "neighbors"})],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "max_rows": [Interval(Integral, 2, None, closed="left")],
        "random_state": ["random_state"],
    }

    transformer_: WiSEALETransformer
    neighbors_: NearestNeighbors
    offset_: float
    n_features_in_: int
    feature_names_in_: np.ndarray
    _least: float  # added to distances, scaled units
    _highest: float  # log-density of a training row, scaled units

    _doc_link_module = "sklearn_wiseale"
    _doc_link_template = EstimatorSteps._doc_link_template

    def __init__(
        self,
        transformer: WiSEALETransformer | None = None,
        *,
        contamination: str | float = "auto",
        distance: str = "both",
        n_neighbors: int = 3,
        max_rows: int = 10_000,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.transformer = transformer
        self.contamination = contamination
        self.distance = distance
        self.n_neighbors = n_neighbors
        self.max_rows = max_rows
        self.random_state = random_state

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "offset_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags = (self.transformer or WiSEALETransformer()).__sklearn_tags__().input_tags
        return tags

    def fit(self, X: Any, y: Any = None) -> WiSEALEDetector:
        """Fit the transformer, keep training rows, and find the offset.

        Parameters
        ----------
        X : array-like, sparse matrix or DataFrame of shape (n_samples, n_features)
            At least two rows, as for :meth:`WiSEALETransformer.fit`.

        y : ignored
            Present for scikit-learn's conventions.

        Returns
        -------
        self : WiSEALEDetector

        Raises
        ------
        ValueError
            If a parameter or X is invalid.
        """
        self._validate_params()
        transformer = clone(self.transformer or WiSEALETransformer())
        given = self.random_state is not None
        rng = check_seed(self.random_state if given else transformer.random_state)
        if given:
            transformer.set_params(random_state=rng.randint(np.iinfo(np.int32).max))
        transformer.fit(X)
        for name in ("offset_", "neighbors_", "_highest", "feature_names_in_"):
            self.__dict__.pop(name, None)
        self.transformer_ = transformer
        self.n_features_in_ = transformer.n_features_in_
        if hasattr(transformer, "feature_names_in_"):
            self.feature_names_in_ = transformer.feature_names_in_
        model, rows = self._rows(X)
        if self.distance != "model":
            self._keep(rows, rng)
        scores = self._scores(model, rows)
        share = self.contamination
        if isinstance(share, str):
            low, high = np.percentile(np.exp(-scores), [25, 75])
            self.offset_ = float(-np.log(high + 1.5 * (high - low)))
        else:
            self.offset_ = float(np.percentile(scores, 100.0 * share))
        return self

    @enough_memory(TO_SCORE)
    def score_samples(self, X: Any) -> np.ndarray:
        """How usual rows are: the lower, the more unusual.

        Parameters
        ----------
        X : array-like, sparse matrix or DataFrame of shape (n_samples, n_features)

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Minus the logarithms of the distances. A row's score depends on this row alone.

        Raises
        ------
        ValueError
            If X is invalid.
        """
        check_is_fitted(self)
        return self._scores(*self._rows(X))

    def decision_function(self, X: Any) -> np.ndarray:
        """:meth:`score_samples` minus ``offset_``: negative for outliers.

        Parameters
        ----------
        X : array-like, sparse matrix or DataFrame of shape (n_samples, n_features)

        Returns
        -------
        decision : ndarray of shape (n_samples,)
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """1 for usual rows, -1 for outliers.

        Parameters
        ----------
        X : array-like, sparse matrix or DataFrame of shape (n_samples, n_features)

        Returns
        -------
        labels : ndarray of int, of shape (n_samples,)
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    # steps ----------------------------------------------------------------------------------

    def _rows(self, X: Any) -> tuple[WiSEALETransformer, Rows]:
        """The transformer in float64, and scaled rows without missing entries."""
        model = self.transformer_._in_float64()
        rows = model._rows_in_use(X, estimator=self)
        if has_missing(rows.X):
            rows = model._rows_in_use(model.impute(X), estimator=self)
        return model, rows

    def _keep(self, rows: Rows, rng: np.random.RandomState) -> None:
        """Keep some rows, and find the distance that is added to all."""
        chosen = np.arange(len(rows))
        if len(rows) > self.max_rows:
            chosen = np.sort(rng.choice(len(rows), self.max_rows, replace=False))
        kept = np.empty((len(chosen), rows.X.shape[1]))
        start = 0
        for x in rows.chunks():
            here = slice(*np.searchsorted(chosen, [start, start + len(x)]))
            kept[here] = x.numpy(force=True)[chosen[here] - start]
            start += len(x)
        n_neighbors = min(self.n_neighbors, len(kept) - 1)
        self.neighbors_ = NearestNeighbors(n_neighbors=n_neighbors).fit(kept)
        distances, _ = self.neighbors_.kneighbors()
        self._least = max(_LEAST_DISTANCE * float(np.median(distances)), _SAME)

    def _scores(self, model: WiSEALETransformer, rows: Rows) -> np.ndarray:
        scores = np.zeros(len(rows))
        if self.distance != "neighbors":
            scores -= self._log_distance_to_model(model, rows)
        if self.distance != "model":
            scores -= np.concatenate([self._log_distances(x) for x in rows.chunks()])
        return np.where(np.isnan(scores), -np.inf, scores)

    def _log_distance_to_model(self, model: WiSEALETransformer, rows: Rows) -> np.ndarray:
        """Logarithm of the square root of 1 + m^2 / D: (n,)."""
        width = rows.X.shape[1]
        given = model.net_.module_, rows, model.n_components_, default_draws(width)
        log_density = log_likelihoods(*given, np.ones(width))[0].numpy(force=True)
        if not hasattr(self, "_highest"):  # in fit
            self._highest = float(log_density.max())
        squared = 2 * np.maximum(self._highest - log_density, 0.0)
        return 0.5 * np.log1p(squared / width)

    def _log_distances(self, x: torch.Tensor) -> np.ndarray:
        """Mean logarithm of the distances of scaled rows to the nearest kept ones: (n,)."""
        n_neighbors = self.neighbors_.n_neighbors
        near = x.numpy(force=True).clip(-_LARGEST, _LARGEST)
        distances, _ = self.neighbors_.kneighbors(near, n_neighbors=n_neighbors + 1)
        itself = distances[:, :1] <= _SAME
        distances = np.where(itself, distances[:, 1:], distances[:, :-1])
        return np.log(distances + self._least).mean(axis=1)
