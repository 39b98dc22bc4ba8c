"""Dataframes with columns of several kinds: as arrays, each column with its likelihood, and back.

Numbers and dates become one column of the array, categories a block of one-hot columns. Missing
entries become NaN.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from sklearn.preprocessing import OneHotEncoder

from .._data.frames import Field, FrameLibrary
from ..likelihoods import LIKELIHOODS, Categorical, Gaussian, Likelihood, Mixed

__all__ = ["Column", "Table", "has_only_numbers"]

#: A column has at most so many categories, and at most one for so many rows.
_MAX_CATEGORIES = 255
_ROWS_PER_CATEGORY = 5
_FEW_CATEGORIES = 20  # are allowed in any table


class Column(NamedTuple):
    """A column of a dataframe, and how it is represented."""

    name: Any
    dtype: Any  # of the dataframe's library
    likelihood: Likelihood
    categories: list[Any] | None  # None for numbers and dates
    step: float  # to a multiple of which decoded numbers are rounded, or 0
    origin: float  # is subtracted from numbers
    low: float  # least and largest number of the rows in fit
    high: float

    @property
    def width(self) -> int:
        """Columns of the array: none for a single category."""
        if self.categories is None:
            return 1
        return len(self.categories) if len(self.categories) > 1 else 0


class Table:
    """Columns of the dataframe that ``fit`` was given.

    Parameters
    ----------
    library : FrameLibrary
        The library of the dataframe.

    columns : list of Column
        In the order of the dataframe.

    Attributes
    ----------
    likelihood : Mixed
        Of the array.

    width : int
        Columns of the array.
    """

    def __init__(self, library: FrameLibrary, columns: Sequence[Column]) -> None:
        self.library, self.columns = library, list(columns)
        groups: dict[str, list[int]] = {}
        for number, column in enumerate(self.columns):
            if column.width:
                key = "" if column.categories else repr(column.likelihood)
                groups.setdefault(key, []).append(number)
        self.places = [slice(0, 0)] * len(self.columns)
        self.width, parts = 0, []
        for numbers in sorted(groups.values(), key=lambda group: self._is_category(group[0])):
            start = self.width
            for number in numbers:
                width = self.columns[number].width
                self.places[number] = slice(self.width, self.width + width)
                self.width += width
            likelihood = self.columns[numbers[0]].likelihood
            if self._is_category(numbers[0]):
                likelihood = Categorical(tuple(self.columns[n].width for n in numbers))
            parts.append((likelihood, slice(start, self.width)))
        self.likelihood = Mixed(parts)

    @classmethod
    def from_frame(
        cls, X: Any, library: FrameLibrary, likelihoods: Mapping[Any, str | Likelihood]
    ) -> Table:
        """Decide how each column of a dataframe is represented.

        Parameters
        ----------
        X : DataFrame

        library : FrameLibrary
            That of X.

        likelihoods : dict of column name to likelihood
            Of the columns that do not follow the rule: categorical for booleans, categories and
            texts, Gaussian for numbers and dates.

        Raises
        ------
        ValueError
            If a column cannot be represented, or a name is that of no column.
        """
        names = list(X.columns)
        unknown = [name for name in likelihoods if name not in names]
        if unknown:
            raise ValueError(
                "The 'likelihood' parameter of WiSEALETransformer must name columns of X. "
                f"Got {unknown[0]!r}; X has the columns {names!r}."
            )
        columns = [
            _column(name, library.column(X, number), library, likelihoods.get(name))
            for number, name in enumerate(names)
        ]
        table = cls(library, columns)
        if not table.width:
            raise ValueError("X must have a column with more than one category. Got none.")
        return table

    def _is_category(self, number: int) -> bool:
        return self.columns[number].categories is not None

    @property
    def names(self) -> list[Any]:
        """Names of the columns."""
        return [column.name for column in self.columns]

    @property
    def likelihood_names(self) -> dict[Any, str]:
        """Names of the columns' likelihoods, as ``likelihood=`` takes them."""
        names = {cls: name for name, cls in LIKELIHOODS.items()}
        return {
            column.name: names.get(type(column.likelihood), repr(column.likelihood))
            for column in self.columns
        }

    @cached_property
    def _encoder(self) -> OneHotEncoder:
        """One-hot codes of all columns with categories."""
        categories = [_objects(self.columns[n].categories or []) for n in self._category_numbers]
        first = np.array([[values[0] for values in categories]], dtype=object)
        encoder = OneHotEncoder(
            categories=categories, handle_unknown="ignore", sparse_output=False, dtype=np.float64
        )
        return encoder.fit(first)

    @cached_property
    def _category_numbers(self) -> list[int]:
        return [n for n, column in enumerate(self.columns) if column.categories and column.width]

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if not isinstance(v, OneHotEncoder)}

    # to arrays and back ---------------------------------------------------------------------

    def encode(self, X: Any, library: FrameLibrary) -> np.ndarray:
        """Rows of a dataframe with the table's columns: (n_samples, width), float64.

        Warns if a column has categories that the rows in ``fit`` did not have.
        """
        encoded = np.empty((len(X), self.width))
        for number, column in enumerate(self.columns):
            if column.categories is None:
                numbers = library.numbers(library.column(X, number))
                encoded[:, self.places[number].start] = numbers - column.origin
        if self._category_numbers and len(X):
            self._encode_categories(X, library, encoded)
        return encoded

    def _encode_categories(self, X: Any, library: FrameLibrary, encoded: np.ndarray) -> None:
        numbers = self._category_numbers
        values = np.empty((len(X), len(numbers)), dtype=object)
        missing = np.empty((len(X), len(numbers)), dtype=bool)
        for place, number in enumerate(numbers):
            column, missing[:, place] = library.values(library.column(X, number))
            values[:, place] = np.where(
                missing[:, place], _objects(self.columns[number].categories[:1]), column
            )
        start = self.places[numbers[0]].start
        one_hot = self._encoder.transform(values)
        starts = np.array([self.places[number].start - start for number in numbers])
        unknown = np.add.reduceat(one_hot, starts, axis=1) == 0
        sizes = [self.columns[number].width for number in numbers]
        one_hot[np.repeat(missing | unknown, sizes, axis=1)] = np.nan
        encoded[:, start : start + one_hot.shape[1]] = one_hot
        if unknown.any():
            names = [self.columns[n].name for n, some in zip(numbers, unknown.any(0)) if some]
            warnings.warn(
                f"X has categories that were not seen in fit, in the columns {names!r}. "
                "These entries are treated as missing.",
                UserWarning,
                stacklevel=2,
            )

    def decode(self, encoded: np.ndarray, *, index: Any = None, clip: bool = False) -> Any:
        """Rows of an array as a dataframe: most likely categories, rounded integers and dates.

        Parameters
        ----------
        encoded : ndarray of shape (n_samples, width)
            Values, or for categories probabilities.

        index : Index, default=None
            Of a pandas dataframe.

        clip : bool, default=False
            Keep numbers between the least and the largest of the rows in ``fit``.
        """
        columns = []
        for column, place in zip(self.columns, self.places, strict=True):
            block = encoded[:, place]
            if column.categories is None:
                numbers = block[:, 0] + column.origin
                if clip:
                    numbers = numbers.clip(column.low, column.high)
                if column.step:
                    base = column.origin
                    numbers = base + np.rint((numbers - base) / column.step) * column.step
                columns.append(self.library.from_numbers(numbers, column.dtype))
            else:
                chosen = block.argmax(axis=1) if column.width else np.zeros(len(block), int)
                values = _objects(column.categories or [None])[chosen]
                columns.append(self.library.from_values(values, column.dtype))
        return self.library.frame(self.names, columns, index)

    def probabilities(self, encoded: np.ndarray, *, index: Any = None) -> Any:
        """Rows of an array as a dataframe of float64: a column for each category."""
        names, columns = [], []
        for column, place in zip(self.columns, self.places, strict=True):
            if column.categories is None:
                names.append(column.name)
                numbers = encoded[:, place.start] + column.origin
                columns.append(self.library.from_numbers(numbers, self.library.float64))
                continue
            for i, category in enumerate(column.categories):
                share = encoded[:, place.start + i] if column.width else np.ones(len(encoded))
                names.append(f"{column.name}_{category}")
                columns.append(self.library.from_numbers(share, self.library.float64))
        return self.library.frame(names, columns, index)


def has_only_numbers(X: Any, library: FrameLibrary) -> bool:
    """Whether all columns of a dataframe are numbers."""
    fields = (library.field(library.column(X, number)) for number in range(X.shape[1]))
    return all(field.kind == "number" for field in fields)


def _column(
    name: Any, column: Any, library: FrameLibrary, asked: str | Likelihood | None
) -> Column:
    """How a column is represented."""
    field = library.field(column)
    if field.kind == "other":
        raise ValueError(
            "X must have columns of numbers, booleans, categories, texts or dates. Got the dtype "
            f"{field.dtype} in the column {name!r}: convert it, or leave it out."
        )
    if asked is None:
        asked = "gaussian" if field.kind in ("number", "date") else "categorical"
    likelihood = LIKELIHOODS[asked]() if isinstance(asked, str) else asked
    if isinstance(likelihood, Categorical):
        categories = _categories(name, column, library, field)
        return Column(name, field.dtype, likelihood, categories, 0.0, 0.0, 0.0, 0.0)
    if field.kind == "category":
        raise ValueError(
            f"The 'likelihood' parameter of WiSEALETransformer must be 'categorical' for the "
            f"column {name!r}, which has no numbers. Got {asked!r} instead."
        )
    numbers = library.numbers(column)
    known = numbers[np.isfinite(numbers)]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 0.0)
    origin = step = 0.0
    if field.kind == "date":
        origin, step = float(low), library.date_step(field.dtype, known)
    elif isinstance(likelihood, Gaussian) and (known == np.rint(known)).all():
        step = 1.0
    return Column(name, field.dtype, likelihood, None, step, origin, float(low), float(high))


def _categories(name: Any, column: Any, library: FrameLibrary, field: Field) -> list[Any]:
    """Categories of a column, those that its dtype declares or those that it has."""
    if field.kind == "boolean":
        return [False, True]
    values, missing = library.values(column)
    try:
        found = sorted(set(values[~missing].tolist()))
        categories = found if field.declared is None else field.declared
        sorted(categories)
    except TypeError as error:
        raise ValueError(
            "X must have categories of one type in a column, such as texts. Got several types in "
            f"the column {name!r}: convert it, for instance with astype(str)."
        ) from error
    few = max(_FEW_CATEGORIES, len(column) // _ROWS_PER_CATEGORY)
    limit = min(_MAX_CATEGORIES, few)
    if len(categories) > limit:
        raise ValueError(
            f"X must have at most {limit} categories in a column of {len(column)} rows. Got "
            f"{len(categories)} in the column {name!r}: merge rare ones, or leave the column out "
            "if it holds free text or names."
        )
    return categories


def _objects(values: Sequence[Any]) -> np.ndarray:
    """Values as a one-dimensional array of objects."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
