"""What components are made of, and which columns make a row unlikely."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ._data.frames import index_of, library_named
from ._data.validation import check_count
from ._model.components import mean_loadings
from ._model.conditional import column_log_likelihoods
from ._model.inference import default_draws
from ._steps import EstimatorSteps
from ._training.parameters import TO_SCORE, TO_USE, enough_memory

__all__ = ["ExplanationMixin"]


class ExplanationMixin(EstimatorSteps):
    """Methods of a fitted estimator that explain components and rows by the columns of X."""

    @enough_memory(TO_USE)
    def loadings(self, X: Any = None, *, scaled: bool = False) -> Any:
        """Change of the reconstruction with each component: a mean derivative.

        For a linear decoder, these are the components of PCA times their standard deviations.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features), default=None
            Rows over whose codes the derivative is averaged: one row gives its local loadings. By
            default, up to 1,000 training rows, or draws from the prior after an interrupted
            ``fit``.

        scaled : bool, default=False
            Return changes in the scales of the columns, which are their standard deviations by
            default, so that columns can be compared.

        Returns
        -------
        loadings : ndarray of shape (n_components, n_features) or DataFrame
            In units of X per standard deviation of the component over the training rows. If X of
            ``fit`` was a dataframe with names, it is a dataframe. It has a column for each category
            with the change of its probability.

        Raises
        ------
        ValueError
            If X is invalid.

        Examples
        --------
        >>> from sklearn.datasets import load_wine
        >>> from sklearn_wiseale import WiSEALETransformer
        >>> wine = load_wine(as_frame=True).data
        >>> reducer = WiSEALETransformer(2, max_epochs=2, random_state=0).fit(wine)
        >>> reducer.loadings().loc["wisealetransformer0"].abs().idxmax()
        'proline'
        """
        check_is_fitted(self)
        codes = self._encode(self._rows_in_use(X))[0] if X is not None else self._kept_codes()
        per_unit = mean_loadings(self.net_.module_, codes)
        if not scaled:
            per_unit *= self._scaling.scale
        kept = self.__dict__.get("_aggregate")
        if kept is not None:
            per_unit *= kept[0].astype(np.float64).std(axis=0)[:, None]
        if self._components is not None:
            per_unit = self._components.sign[:, None] * per_unit[self._components.order]
        if self._image_shape is not None:
            return per_unit.reshape(-1, *self._image_shape)
        names = None if self._table is None else self._table.encoded_names
        return self._named(per_unit, names, self.get_feature_names_out())

    @enough_memory(TO_SCORE)
    def contributions(
        self,
        X: Any,
        *,
        reference: Any = None,
        n_draws: int | str = "auto",
        return_code: bool = False,
    ) -> Any:
        r"""Part of each column in the scores of rows.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        reference : array-like or sparse matrix of shape (n, n_features), default=None
            Ordinary rows, such as the training rows: their mean contributions are subtracted.
            Without them, a column's contribution also depends on its units and its noise.

        n_draws : int or "auto", default="auto"
            As in :meth:`score_samples`.

        return_code : bool, default=False
            Also return the part of the code.

        Returns
        -------
        contributions : ndarray of shape (n_samples, n_features) or DataFrame
            Nats: the column with the least contribution makes the row most unlikely. Missing
            entries contribute 0. If X of ``fit`` was a dataframe with names, it is a dataframe.

        code : ndarray of shape (n_samples,)
            Only with ``return_code=True``: what the code takes from the score. Without
            ``reference``, contributions and code of a row sum to its score.

        Raises
        ------
        ValueError
            If an argument is invalid.

        Notes
        -----
        The contribution of column j is :math:`\mathbb{E}_{p(z|x)} \log p(x_j|z)`. The part of the
        code is then :math:`-\mathrm{KL}(p(z|x) \,\|\, p(z))`, so that their sum is
        :math:`\log p(x)`. Expectations are over the weighted draws of :meth:`score_samples`.

        Examples
        --------
        >>> from sklearn.datasets import load_wine
        >>> from sklearn_wiseale import WiSEALETransformer
        >>> wine = load_wine(as_frame=True).data
        >>> reducer = WiSEALETransformer(2, max_epochs=2, random_state=0).fit(wine)
        >>> odd = wine[:1].assign(ash=9.0)
        >>> reducer.contributions(odd, reference=wine).loc[0].idxmin()
        'ash'
        """
        values, code = self._contributions(X, n_draws)
        if reference is not None:
            usual, usual_code = self._contributions(reference, n_draws)
            values, code = values - usual.mean(axis=0), code - usual_code.mean()
        if self._image_shape is not None:
            named = values.reshape(-1, *self._image_shape)
        else:
            names = None if self._table is None else self._table.names
            named = self._named(values, names, index_of(X))
        return (named, code) if return_code else named

    def _contributions(self, X: Any, n_draws: int | str) -> tuple[np.ndarray, np.ndarray]:
        """Contributions of the columns, (n, n_features_in_), and of the codes, (n,)."""
        rows = self._rows_in_use(X, float64=True)
        if n_draws == "auto":
            n_draws = default_draws(self._width)
        n_draws = check_count("n_draws", n_draws)
        model = self.net_.module_, rows, self.n_components_, n_draws
        values, code = column_log_likelihoods(*model, self._scaling.scale)
        self._refuse_overflow("contributions", values, rows.X)
        return (values if self._table is None else self._table.summed(values)), code

    def _kept_codes(self) -> np.ndarray:
        """Codes of training rows from the net, or draws from the prior if there are none."""
        self._ready_net()
        if "_aggregate" in self.__dict__:
            return self._aggregate[0]
        return np.random.RandomState(0).standard_normal((1000, self.n_components_))

    def _named(self, values: np.ndarray, names: Any, index: Any) -> Any:
        """Values as a dataframe if X of ``fit`` was one with names of columns, else as they are."""
        names = getattr(self, "feature_names_in_", None) if names is None else names
        if self._library is None or names is None:
            return values
        library = library_named(self._library)
        columns = [library.from_numbers(column, library.float64) for column in values.T]
        return library.frame(list(names), columns, index)
