"""Rows that the model makes up: decoded codes, draws, and missing entries filled in."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.utils.validation import check_is_fitted

from ._data.frames import index_of, library_of
from ._data.rows import Rows, dense
from ._data.validation import check_codes, check_count, check_seed
from ._model.conditional import (
    codes_given,
    conditional_draws,
    conditional_means,
    fit_mixture,
    mixture_codes,
)
from ._steps import EstimatorSteps
from ._training.parameters import TO_USE, enough_memory

__all__ = ["GenerationMixin"]


class GenerationMixin(EstimatorSteps):
    """Methods of a fitted estimator that return rows."""

    @enough_memory(TO_USE)
    def inverse_transform(self, X: Any, *, probabilities: bool = False) -> Any:
        """Means of p(x|z), in the units of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Codes, for instance from :meth:`transform`.

        probabilities : bool, default=False
            For a dataframe with columns that are not numbers, return the probability of each
            category in a column of its own, and numbers that are not rounded.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features) or DataFrame
            Expected values given the codes: float32 if it holds the training data without loss and
            with room to spare, else float64. If ``fit`` was given a dataframe with columns that are
            not numbers, it is a dataframe with the same columns and dtypes: the most likely
            categories, rounded integers and dates, and the index of X if X has one.

        Raises
        ------
        ValueError
            If X has not ``n_components_`` columns, if decoded rows are not finite, or if
            probabilities are asked for where no column has categories.
        """
        check_is_fitted(self)
        if probabilities and self._table is None:
            raise ValueError(
                "probabilities must be False unless fit was given a dataframe with columns that "
                f"are not numbers. Got {probabilities!r}."
            )
        Z = check_codes(X, self.n_components_, self._dtype, type(self).__name__)
        if self._components is not None:
            Z = self._components.to_net(Z)
        decoded = self._decode(Z, lambda likelihood, output: likelihood.mean(output))
        index = index_of(X)
        if probabilities and self._table is not None:
            return self._table.probabilities(decoded, index)
        return self._like_fit(decoded, index)

    @enough_memory(TO_USE)
    def sample(
        self,
        n_samples: int = 1,
        random_state: Any = None,
        *,
        given: Mapping[Any, Any] | None = None,
        codes: str = "aggregate",
    ) -> Any:
        """Draw rows from the model: first codes, then rows from p(x|z), noise included.

        For rows without noise, pass codes to ``inverse_transform``.

        Parameters
        ----------
        n_samples : int, default=1

        random_state : int, RandomState instance or None, default=None
            None draws from numpy's global generator.

        given : dict of column to value, default=None
            Fixed values, by name or number of the column: the other entries are drawn from
            p(x | given).

        codes : {"aggregate", "prior"}, default="aggregate"
            Where codes are drawn: from a Gaussian mixture fitted to the posteriors of up to 1,000
            training rows, or from the prior, which the posteriors together resemble but do not
            equal. After ``partial_fit``, the rows are those of the last chunk. After an interrupted
            ``fit`` there are none, and codes come from the prior.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features) or DataFrame
            In the units of X. If ``fit`` was given a dataframe with columns that are not numbers,
            it is a dataframe with the same columns and dtypes. Numbers stay between the least and
            the largest of the training rows, and are rounded to their grid, such as cents or steps
            of 0.5.

        Raises
        ------
        ValueError
            If an argument is invalid.
        """
        check_is_fitted(self)
        n_samples = check_count("n_samples", n_samples)
        if codes not in ("aggregate", "prior"):
            raise ValueError(f"codes must be 'aggregate' or 'prior'. Got {codes!r}.")
        row = None if given is None else self._given_row(given)
        rng = check_seed(random_state)
        device = self._ready_net().device
        mixture = self._code_mixture() if codes == "aggregate" else None
        if row is not None:
            rows = self._rows(row[None], float64=True)
            Z = codes_given(self.net_.module_, rows, mixture, n_samples, rng)
        elif mixture is None:
            Z = rng.standard_normal((n_samples, self.n_components_))
        else:
            Z = mixture_codes(mixture, n_samples, rng)
        generator = torch.Generator(device).manual_seed(int(rng.randint(np.iinfo(np.int32).max)))
        X = self._decode(Z, lambda likelihood, output: likelihood.sample(output, generator))
        if self._table is not None:
            X = self._table.snap(self._table.clip(X))
        if row is not None:
            X = np.where(np.isnan(row), X, row.astype(X.dtype))
        return self._like_fit(X)

    @enough_memory(TO_USE)
    def impute(self, X: Any, n_draws: int | None = None, random_state: Any = None) -> Any:
        """Fill missing entries; all others stay as they are.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Missing entries are NaN, or None in a dataframe.

        n_draws : int, default=None
            None fills in the means of p(missing | observed), or the most likely categories. A
            number returns as many copies of X, each filled with a draw of all missing entries of a
            row together, for multiple imputation.

        random_state : int, RandomState instance or None, default=None
            Of the draws. None draws from numpy's global generator.

        Returns
        -------
        X_filled : ndarray, sparse matrix or DataFrame like X, or a list of them
            Of the kind of X: a dataframe keeps its columns, dtypes and index.

        Raises
        ------
        ValueError
            If an argument is invalid.

        References
        ----------
        Mattei, Frellsen (2019), *MIWAE: Deep Generative Modelling and Imputation of Incomplete
        Data Sets*, arXiv:1812.02633, equations 12 and 13.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.datasets import load_wine
        >>> from sklearn_wiseale import WiSEALETransformer
        >>> X = load_wine().data.copy()
        >>> X[0, 3] = np.nan
        >>> reducer = WiSEALETransformer(max_epochs=2, random_state=0).fit(X)
        >>> int(np.isnan(reducer.impute(X)).sum())
        0
        >>> len(reducer.impute(X, n_draws=5, random_state=0))
        5
        """
        rows = self._rows_in_use(X, float64=True)
        module = self.net_.module_
        if n_draws is None:
            pieces = conditional_means(module, rows, self.n_components_)
            return self._filled(X, rows, [(numbers, mean) for numbers, mean in pieces])
        n_draws, rng = check_count("n_draws", n_draws), check_seed(random_state)
        seed = int(rng.randint(np.iinfo(np.int32).max))
        generator = torch.Generator(rows.device).manual_seed(seed)
        drawn = list(conditional_draws(module, rows, self.n_components_, n_draws, generator))
        return [
            self._filled(X, rows, [(numbers, draws[i]) for numbers, draws in drawn], drawn=True)
            for i in range(n_draws)
        ]

    def _code_mixture(self) -> Any:
        """Mixture of the codes of training rows, fitted at first use, or None."""
        if "_aggregate" in self.__dict__ and "_mixture" not in self.__dict__:
            self._mixture = fit_mixture(self._aggregate)
        return self.__dict__.get("_mixture")

    def _given_row(self, given: Mapping[Any, Any]) -> np.ndarray:
        """A row with the given values and NaN for all others: (n_columns,), float64."""
        if not isinstance(given, Mapping) or not given:
            raise ValueError(f"given must be a dict of columns to values. Got {given!r}.")
        if self._table is not None:
            return self._table.encode_given(given)
        names = list(getattr(self, "feature_names_in_", range(self._width)))
        row = np.full(self._width, np.nan)
        for name, value in given.items():
            if name not in names:
                raise ValueError(f"given must name columns of X. Got {name!r}.")
            try:
                row[names.index(name)] = number = float(value)
            except (TypeError, ValueError):
                number = np.nan
            if not np.isfinite(number):
                raise ValueError(
                    f"given must have a finite number for the column {name!r}. Got {value!r}."
                )
        self._built["likelihood"].check_support(row[None])
        return row

    def _filled(
        self,
        X: Any,
        rows: Rows,
        pieces: list[tuple[torch.Tensor, torch.Tensor]],
        *,
        drawn: bool = False,
    ) -> Any:
        """X with its missing entries from pieces of rows in scaled units, with their numbers."""
        library = library_of(X)
        if not pieces and library is not None and self._table is None:
            return copy.copy(X)
        numbers, values = np.arange(0), np.empty((0, rows.X.shape[1]))
        if pieces:
            numbers = torch.cat([piece[0] for piece in pieces]).numpy(force=True)
            values = torch.cat([piece[1] for piece in pieces]).numpy(force=True)
            values = self._scaling.invert(values)
            self._refuse_overflow("filled rows", values, rows.X[numbers])
        if library is None:
            return _filled_array(X, rows.X, numbers, values)
        if self._table is not None:
            encoded = rows.X.copy()
            values = self._table.clip(values)
            encoded[numbers] = self._table.snap(values) if drawn else values
            return library.fill(X, self._table.decode(encoded))
        filled = np.zeros(rows.X.shape)
        filled[numbers] = values
        columns = [library.from_numbers(column, library.float64) for column in filled.T]
        return library.fill(X, library.frame(list(X.columns), columns))


def _filled_array(X: Any, checked: Any, numbers: np.ndarray, values: np.ndarray) -> Any:
    """An array, a sparse matrix or a list with values in place of the NaN in some of its rows."""
    if issparse(X):
        filled = checked.copy()
        row = np.repeat(np.arange(filled.shape[0]), np.diff(filled.indptr))
        place = np.zeros(filled.shape[0], dtype=int)
        place[numbers] = np.arange(len(numbers))
        missing = np.isnan(filled.data)
        filled.data[missing] = values[place[row[missing]], filled.indices[missing]]
        return filled.asformat(X.format)
    filled = dense(checked, None).copy()
    filled[numbers] = np.where(np.isnan(filled[numbers]), values, filled[numbers])
    return filled.reshape(np.shape(X)) if np.ndim(X) == 4 else filled
