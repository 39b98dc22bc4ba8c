"""Columns of pandas and polars dataframes as numbers or values, and back in their own dtypes."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Field", "FrameLibrary", "library_named", "library_of", "number_columns"]


#: A day in units of numpy's dates.
_DAYS = {"D": 1, "s": 86400, "ms": 86400 * 10**3, "us": 86400 * 10**6, "ns": 86400 * 10**9}


class Field(NamedTuple):
    """What a column of a dataframe holds."""

    kind: str  # "number", "date", "boolean", "category", or "other", which no model takes
    dtype: Any  # of the library
    declared: list[Any] | None = None  # categories that the dtype names, in their order


class FrameLibrary:
    """What this package does with dataframes of one library."""

    name: str
    advice: str  # about columns that no model takes
    _float64: str

    def field(self, column: Any) -> Field:
        """Describe a column."""
        raise NotImplementedError

    def column(self, X: Any, number: int) -> Any:
        """The column with a number."""
        raise NotImplementedError

    def numbers(self, column: Any) -> np.ndarray:
        """A column of numbers, dates or booleans as float64; NaN where an entry is missing.

        Dates and durations count in the unit of their dtype.
        """
        raise NotImplementedError

    def values(self, column: Any) -> tuple[np.ndarray, np.ndarray]:
        """Entries of a column as Python objects, and whether each is missing."""
        raise NotImplementedError

    def from_numbers(self, numbers: np.ndarray, dtype: Any) -> Any:
        """A column of a dtype from numbers, which may be NaN only where the dtype has nulls."""
        raise NotImplementedError

    def from_values(self, values: np.ndarray, dtype: Any) -> Any:
        """A column of a dtype from Python objects; None is a missing entry."""
        raise NotImplementedError

    def frame(self, names: Sequence[Any], columns: Sequence[Any], index: Any = None) -> Any:
        """A dataframe of columns that the two methods above have made."""
        raise NotImplementedError

    def fill(self, X: Any, filled: Any) -> Any:
        """X with its missing entries taken from ``filled``, a dataframe of as many rows."""
        raise NotImplementedError

    def date_step(self, dtype: Any, dates: np.ndarray) -> float:
        """The largest step, up to a day, of which all differences of dates are multiples."""
        day = self.day(dtype)
        steps = (dates - dates.min(initial=np.inf)).astype(np.int64)
        return float(np.gcd.reduce(steps, initial=day))

    def day(self, dtype: Any) -> int:
        """A day in the unit of a dtype of dates."""
        raise NotImplementedError

    @property
    def float64(self) -> Any:
        """The dtype of probabilities."""
        return self.dtype(self._float64)

    def describe(self, dtype: Any) -> Any:
        """A dtype as a text, or as a list ``[name, parameters]``, which JSON can hold."""
        raise NotImplementedError

    def dtype(self, description: Any) -> Any:
        """The dtype of a description; ValueError or TypeError if there is none."""
        raise NotImplementedError


def library_of(X: Any) -> FrameLibrary | None:
    """The library of a dataframe, or None for what is no dataframe of pandas or polars."""
    for library in (PandasLibrary(), PolarsLibrary()):
        module = sys.modules.get(library.name)  # where X is such a frame, it has been imported
        if module is not None and isinstance(X, module.DataFrame):
            return library
    return None


def index_of(X: Any) -> Any:
    """The index of a dataframe or a series of pandas, else None."""
    return X.index if hasattr(X, "iloc") else None


def library_named(name: str) -> FrameLibrary:
    """The library with a name, or a ValueError."""
    for library in (PandasLibrary(), PolarsLibrary()):
        if library.name == name:
            return library
    raise ValueError(f"dataframes must be of pandas or polars. Got {name!r}.")


def number_columns(library: FrameLibrary, X: Any, *others: Any) -> tuple[list[Any], Any]:
    """Names of X's columns of numbers and dates, and these columns of X and of other dataframes.

    The columns are float64 arrays of shape (n_samples, n_columns), with NaN for missing entries.

    Raises
    ------
    ValueError
        If X has no such columns.
    """
    columns = [library.column(X, number) for number in range(X.shape[1])]
    kinds = [library.field(column).kind for column in columns]
    numbers = [number for number, kind in enumerate(kinds) if kind in ("number", "date")]
    if not numbers:
        raise ValueError(
            f"X must have a column of numbers or dates. Got the columns {list(X.columns)!r}."
        )
    arrays = [
        np.stack([library.numbers(library.column(frame, number)) for number in numbers], axis=1)
        for frame in (X, *others)
    ]
    return [X.columns[number] for number in numbers], arrays


class PandasLibrary(FrameLibrary):
    """Dataframes of pandas."""

    name = "pandas"
    advice = (
        "convert it (dates with pandas.to_datetime, periods with dt.to_timestamp(), values of "
        "other kinds to texts with astype(str)), or leave it out"
    )
    _float64 = "float64"

    def field(self, column: Any) -> Field:
        import pandas as pd

        dtype, types = column.dtype, pd.api.types
        if isinstance(dtype, pd.CategoricalDtype):
            return Field("category", dtype, dtype.categories.astype(object).tolist())
        if _dictionary_of(dtype) is not None:
            return Field("category", dtype)
        if str(dtype).startswith("string_view"):  # of which pandas knows nothing
            return Field("other", dtype)
        if types.is_object_dtype(dtype):
            return Field(_kind_of_objects(column), dtype)
        if types.is_bool_dtype(dtype):
            return Field("boolean", dtype)
        if _date_code(dtype):
            return Field("date", dtype)
        if types.is_string_dtype(dtype):
            return Field("category", dtype)
        number = types.is_numeric_dtype(dtype) and not types.is_complex_dtype(dtype)
        return Field("number" if number else "other", dtype)

    def column(self, X: Any, number: int) -> Any:
        return X.iloc[:, number]

    def numbers(self, column: Any) -> np.ndarray:
        code = _date_code(column.dtype)
        if not code:
            return column.to_numpy(dtype=np.float64, na_value=np.nan)
        missing = column.isna().to_numpy()
        if _is_arrow_day(column.dtype):
            column = column.astype("timestamp[ms][pyarrow]")
        dates = column.astype(code) if code[0] == "m" else _as_utc(column).astype(code)
        return np.where(missing, np.nan, dates.to_numpy().view(np.int64).astype(np.float64))

    def values(self, column: Any) -> tuple[np.ndarray, np.ndarray]:
        return column.astype(object).to_numpy(), column.isna().to_numpy()

    def from_numbers(self, numbers: np.ndarray, dtype: Any) -> Any:
        import pandas as pd

        missing, code = np.isnan(numbers), _date_code(dtype)
        known = np.where(missing, 0, numbers)
        if code:
            known = np.maximum(known, -(2.0**63) + 2.0**10)  # -2^63 stands for a missing entry
            column = pd.Series(_whole_numbers(known, np.dtype(np.int64)).view(code)).mask(missing)
            zone = _zone_of(dtype)
            if zone is not None:
                column = column.dt.tz_localize("UTC").dt.tz_convert(zone)
            if _is_arrow_day(dtype):
                column = column.astype("timestamp[ms][pyarrow]")
        elif pd.api.types.is_bool_dtype(dtype):
            column = pd.Series(known >= 0.5)
        elif pd.api.types.is_integer_dtype(dtype):
            inner = getattr(dtype, "subtype", dtype)  # of a sparse column
            bits = np.dtype(getattr(dtype, "numpy_dtype", inner))
            column = pd.Series(_whole_numbers(known, bits))
        else:
            numbers = _within_digits(numbers, getattr(dtype, "pyarrow_dtype", None))
            return pd.Series(numbers).mask(missing).astype(dtype)
        if missing.any() and not code:
            column = column.astype(object).mask(missing, pd.NA)
        return column.astype(dtype)

    def from_values(self, values: np.ndarray, dtype: Any) -> Any:
        import pandas as pd

        arrow = _dictionary_of(dtype)
        if arrow is None:
            return pd.Series(values, dtype=object).astype(dtype)
        import pyarrow

        entries = pyarrow.array(values.tolist(), arrow.value_type).dictionary_encode()
        return pd.Series(entries.cast(arrow), dtype=dtype)

    def frame(self, names: Sequence[Any], columns: Sequence[Any], index: Any = None) -> Any:
        import pandas as pd

        frame = pd.concat(list(columns), axis=1)
        frame.columns = names if isinstance(names, pd.Index) else pd.Index(list(names))
        if index is not None:
            frame.index = index
        return frame

    def fill(self, X: Any, filled: Any) -> Any:
        result = X.copy()
        for number in range(X.shape[1]):
            column = X.iloc[:, number]
            missing = column.isna().to_numpy()
            if missing.any():
                new = filled.iloc[:, number]
                if self.field(column).kind == "number":  # which astype would not round
                    new = self.from_numbers(self.numbers(new), column.dtype)
                new = new.astype(column.dtype)
                new.index = column.index
                result.isetitem(number, column.where(~missing, new))
        return result

    def day(self, dtype: Any) -> int:
        return _DAYS[_date_code(dtype)[3:-1]]

    def describe(self, dtype: Any) -> Any:
        import pandas as pd

        if isinstance(dtype, pd.CategoricalDtype):
            categories = dtype.categories
            inner = self.describe(categories.dtype)
            return ["category", [dtype.ordered, inner, categories.astype(object).tolist()]]
        if isinstance(dtype, pd.StringDtype):
            return "str" if dtype.na_value is not pd.NA else f"string[{dtype.storage}]"
        arrow = isinstance(dtype, pd.ArrowDtype)
        return ["arrow", [str(dtype.pyarrow_dtype)]] if arrow else str(dtype)

    def dtype(self, description: Any) -> Any:
        import pandas as pd

        if isinstance(description, str):
            if not re.fullmatch(_PANDAS_DTYPES, description):
                raise ValueError(f"pandas has no dtype {description!r} that is used here")
            return pd.api.types.pandas_dtype(description)
        kind, content = description
        if kind == "arrow":
            return pd.ArrowDtype(_arrow_type(*content))
        ordered, inner, categories = content
        index = pd.Index(pd.Series(categories, dtype=object).astype(self.dtype(inner)))
        return pd.CategoricalDtype(index, ordered=ordered)


class PolarsLibrary(FrameLibrary):
    """Dataframes of polars."""

    name = "polars"
    advice = "convert it, for instance with cast(polars.String), or leave it out"
    _float64 = "Float64"

    def field(self, column: Any) -> Field:
        import polars as pl

        dtype = column.dtype
        if isinstance(dtype, pl.Enum):
            return Field("category", dtype, dtype.categories.to_list())
        if isinstance(dtype, pl.String | pl.Categorical):
            return Field("category", dtype)
        if isinstance(dtype, pl.Boolean):
            return Field("boolean", dtype)
        if dtype.is_temporal():
            return Field("date", dtype)
        return Field("number" if dtype.is_numeric() else "other", dtype)

    def column(self, X: Any, number: int) -> Any:
        return X.to_series(number)

    def numbers(self, column: Any) -> np.ndarray:
        import polars as pl

        if column.dtype.is_temporal():
            column = column.to_physical()
        return column.cast(pl.Float64).to_numpy().astype(np.float64)

    def values(self, column: Any) -> tuple[np.ndarray, np.ndarray]:
        missing = column.is_null()
        if column.dtype.is_float():
            missing = missing | column.is_nan().fill_null(False)
        values = np.empty(len(column), dtype=object)
        values[:] = column.to_list()
        return values, missing.to_numpy()

    def from_numbers(self, numbers: np.ndarray, dtype: Any) -> Any:
        import polars as pl

        numbers = _within_digits(numbers, dtype)
        column = pl.Series(numbers, dtype=pl.Float64, nan_to_null=True)
        if dtype == pl.Boolean:
            return column >= 0.5
        if not (dtype.is_temporal() or dtype.is_integer()):
            return column.cast(dtype)
        if dtype == pl.Time:
            numbers = numbers.clip(0, self.day(dtype) - 1)
        physical = pl.Series([], dtype=dtype).to_physical().dtype
        name = str(physical).lower()
        bits = np.dtype(name.replace("128", "64"))  # more than float64 counts exactly
        whole = pl.Series(_whole_numbers(np.nan_to_num(numbers), bits)).cast(dtype)
        return whole.zip_with(column.is_not_null(), pl.Series([None], dtype=dtype))

    def from_values(self, values: np.ndarray, dtype: Any) -> Any:
        import polars as pl

        texts = isinstance(dtype, pl.String | pl.Categorical | pl.Enum)
        try:
            return pl.Series(values.tolist(), dtype=pl.String if texts else dtype).cast(dtype)
        except pl.exceptions.PolarsError as error:  # which is no ValueError
            raise ValueError(str(error)) from error

    def frame(self, names: Sequence[Any], columns: Sequence[Any], index: Any = None) -> Any:
        import polars as pl

        return pl.DataFrame(dict(zip(names, columns, strict=True)))

    def fill(self, X: Any, filled: Any) -> Any:
        columns = []
        for old in X.iter_columns():
            missing = old.is_null()
            if old.dtype.is_float():
                missing = missing | old.is_nan().fill_null(False)
            new = filled[old.name] if missing.any() else old
            if missing.any() and self.field(old).kind == "number":  # which a cast would not round
                new = self.from_numbers(self.numbers(new), old.dtype)
            new = new.cast(old.dtype)
            columns.append(old.zip_with(~missing, new))
        return X.with_columns(columns)

    def day(self, dtype: Any) -> int:
        return _DAYS[getattr(dtype, "time_unit", "D" if str(dtype) == "Date" else "ns")]

    def describe(self, dtype: Any) -> Any:
        parameters = {
            "Datetime": ("time_unit", "time_zone"),
            "Duration": ("time_unit",),
            "Decimal": ("precision", "scale"),
            "Enum": ("categories",),
        }
        name = type(dtype).__name__
        if name not in parameters:
            return name
        values = [getattr(dtype, parameter) for parameter in parameters[name]]
        return [name, [v if isinstance(v, int | str | None) else v.to_list() for v in values]]

    def dtype(self, description: Any) -> Any:
        import polars as pl

        name, parameters = (description, []) if isinstance(description, str) else description
        if name not in _POLARS_DTYPES or not hasattr(pl, name):
            raise ValueError(f"polars has no dtype {name!r} that is used here")
        if name == "Decimal" and not all(type(n) is int and 0 <= n <= 38 for n in parameters):
            raise ValueError(f"polars has no decimal numbers with {parameters!r} digits")
        return getattr(pl, name)(*parameters)


_POLARS_DTYPES = {
    *("Boolean", "String", "Categorical", "Enum", "Date", "Datetime", "Duration", "Time"),
    *("Decimal", "Float16", "Float32", "Float64"),
    *(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64, 128)),
}
_ZONE = r"(?!dateutil)[\w+:/-]+"  # names of time zones, and no paths of files
_PANDAS_DTYPES = "|".join(
    [
        *("object", "str", r"string\[(python|pyarrow)\]", "bool(ean)?", "[<>][iuf][248]"),
        *("[fF]loat(16|32|64|128)", "(ui|i|UI|I)nt(8|16|32|64)"),
        r"Sparse\[(float|int)(32|64), [\w.-]+\]",
        rf"datetime64\[[mun]?s(, {_ZONE})?\]|timedelta64\[[mun]?s\]",
    ]
)


def _date_code(dtype: Any) -> str:
    """Numpy's code of a dtype of dates or durations of pandas, such as "M8[us]"; "" of others."""
    import pandas as pd

    kind = getattr(dtype, "kind", "")
    if _is_arrow_day(dtype):
        return "M8[ms]"
    if isinstance(dtype, pd.ArrowDtype):
        text = str(dtype)  # such as "timestamp[us, tz=UTC][pyarrow]"
        if kind not in "mM" or not text.startswith(("timestamp", "duration")):
            return ""
        return f"{kind}8[{text.partition('[')[2].partition(']')[0].partition(',')[0]}]"
    return f"{kind}8[{np.datetime_data(dtype.base)[0]}]" if kind and kind in "mM" else ""


def _dictionary_of(dtype: Any) -> Any:
    """The type of pyarrow's dictionaries in a dtype of pandas, or None."""
    arrow = getattr(dtype, "pyarrow_dtype", None)
    return arrow if str(arrow).startswith("dictionary<") else None


def _arrow_type(name: str) -> Any:
    """The type of pyarrow with a name; ValueError if there is none that is used here."""
    import pyarrow

    if found := re.fullmatch(r"decimal(32|64|128|256)\((\d\d?), (-?\d\d?)\)", name):
        bits, *digits = map(int, found.groups())
        return getattr(pyarrow, f"decimal{bits}")(*digits)
    if found := re.fullmatch(rf"timestamp\[([mun]?s), tz=({_ZONE})\]", name):
        return pyarrow.timestamp(*found.groups())
    if found := re.fullmatch(r"dictionary<values=(\w+), indices=(\w+), ordered=([01])>", name):
        values, indices, ordered = found.groups()
        return pyarrow.dictionary(_arrow_type(indices), _arrow_type(values), ordered == "1")
    return pyarrow.type_for_alias(name)


def _is_arrow_day(dtype: Any) -> bool:
    """Whether a dtype of pandas is one of pyarrow's dates without a time."""
    return str(dtype) in ("date32[day][pyarrow]", "date64[ms][pyarrow]")


def _zone_of(dtype: Any) -> Any:
    """Time zone of a dtype of dates, or None."""
    return getattr(dtype, "tz", None) or getattr(getattr(dtype, "pyarrow_dtype", None), "tz", None)


def _as_utc(column: Any) -> Any:
    """Dates in UTC, without a time zone."""
    if _zone_of(column.dtype) is None:
        return column
    return column.dt.tz_convert("UTC").dt.tz_localize(None)


def _whole_numbers(numbers: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Numbers rounded to the nearest integer that a dtype holds."""
    limits = np.iinfo(dtype)
    top = float(limits.max)
    if int(top) > limits.max:
        top = float(np.nextafter(top, 0))
    return np.rint(numbers).clip(float(limits.min), top).astype(dtype)


def _within_digits(numbers: np.ndarray, dtype: Any) -> np.ndarray:
    """Numbers clipped to those that a dtype of decimal numbers holds."""
    digits, scale = getattr(dtype, "precision", None), getattr(dtype, "scale", None)
    if digits is None or scale is None:
        return numbers
    top = 10.0 ** (digits - scale) * (1 - max(10.0**-digits, 1e-15))
    return numbers.clip(-top, top)


def _kind_of_objects(column: Any) -> str:
    """Kind of a column of Python objects."""
    import pandas as pd

    inferred = pd.api.types.infer_dtype(column, skipna=True)
    if inferred in ("integer", "floating", "mixed-integer-float"):
        return "number"
    simple = (str, bool, int, float, np.bool_, np.number)
    known = column[column.notna()]
    return "category" if all(isinstance(value, simple) for value in known) else "other"
