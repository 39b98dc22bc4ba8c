"""A likelihood of several likelihoods, each for some of the columns."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from ._base import NAME_CATEGORIES, Columns, Likelihood, Observation
from ._bernoulli import Bernoulli
from ._categorical import Categorical
from ._gaussian import Gaussian

__all__ = ["Mixed"]


class Mixed(Likelihood):
    """Columns with several likelihoods, independent given the code.

    Parameters
    ----------
    parts : list of (likelihood, columns)
        Likelihood objects and their columns: a slice, a range or a list of column numbers. Every
        column is in exactly one part.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_wiseale.likelihoods import Categorical, Gaussian, Mixed
    >>> mixed = Mixed([(Gaussian(), slice(0, 2)), (Categorical(), slice(2, 5))])
    >>> mixed.most_likely(np.array([[1.5, -0.3, 0.2, 0.7, 0.1]]))
    array([[ 1.5, -0.3,  0. ,  1. ,  0. ]])

    The likelihood of a table that a ``ColumnTransformer`` encodes:

    >>> from sklearn.compose import ColumnTransformer
    >>> from sklearn.preprocessing import OneHotEncoder
    >>> table = np.array([[1.2, 0], [0.3, 2], [2.1, 1]])
    >>> encoder = ColumnTransformer(
    ...     [("number", "passthrough", [0]), ("kind", OneHotEncoder(), [1])]
    ... )
    >>> Mixed.from_column_transformer(encoder.fit(table))
    Mixed(parts=[(Gaussian(), slice(0, 1, None)),
                 (Categorical(sizes=(3,)), slice(1, 4, None))])
    """

    _parameter_constraints: dict[str, list[Any]] = {"parts": [list, tuple]}

    def __init__(self, parts: Sequence[tuple[Likelihood, Any]]) -> None:
        self.parts = parts

    @classmethod
    def from_column_transformer(cls, transformer: Any) -> Mixed:
        """Create a likelihood for the output of a fitted ``ColumnTransformer``.

        Columns of a ``OneHotEncoder``, also at the end of a pipeline, become
        :class:`~sklearn_wiseale.likelihoods.Categorical`, or
        :class:`~sklearn_wiseale.likelihoods.Bernoulli` if a feature has only one column (a binary
        feature with ``drop="if_binary"``, or a single category). All others become
        :class:`~sklearn_wiseale.likelihoods.Gaussian`.

        Parameters
        ----------
        transformer : ColumnTransformer
            Fitted.

        Returns
        -------
        likelihood : Mixed

        Raises
        ------
        ValueError
            If it is not a ColumnTransformer, or if an encoder drops categories of a feature with
            more than two.
        """
        check_is_fitted(transformer)
        if not hasattr(transformer, "output_indices_"):
            raise ValueError(
                f"transformer must be a fitted ColumnTransformer. Got {type(transformer).__name__}."
            )
        parts: list[tuple[Likelihood, slice]] = []
        outputs = transformer.output_indices_.items()
        for name, columns in sorted(outputs, key=lambda item: item[1].start):
            if columns.stop == columns.start:
                continue
            step = transformer.named_transformers_[name]
            step = step[-1] if isinstance(step, Pipeline) else step
            if isinstance(step, OneHotEncoder):
                parts.extend(_one_hot_parts(name, step, columns.start))
            else:
                parts.append((Gaussian(), columns))
        return cls(parts)

    @property
    def scalable(self) -> bool:  # type: ignore[override]
        """Whether X may be scaled."""
        return all(likelihood.scalable for likelihood, _ in self.parts)

    @property
    def allow_nan(self) -> bool:  # type: ignore[override]
        """Whether X may have missing entries."""
        return all(likelihood.allow_nan for likelihood, _ in self.parts)

    def check_parameters(self) -> None:
        """Check the parts and their parameters."""
        super().check_parameters()
        for part in self.parts:
            pair = isinstance(part, (tuple, list)) and len(part) == 2
            if not pair or not isinstance(part[0], Likelihood):
                raise ValueError(
                    "The 'parts' parameter of Mixed must be a list of pairs "
                    "(likelihood object, columns), such as (Gaussian(), slice(0, 5)). "
                    f"Got {part!r} among them."
                )
            part[0].check_parameters()

    def _layout(self, n_features: int) -> list[tuple[Likelihood, np.ndarray]]:
        """Return the likelihoods and the numbers of their columns; each column is in one part."""
        self.check_parameters()
        layout, owner = [], np.full(n_features, -1)
        one_hot = any(isinstance(likelihood, Categorical) for likelihood, _ in self.parts)
        advice = f" {NAME_CATEGORIES}" if one_hot else ""
        for i, (likelihood, columns) in enumerate(self.parts):
            numbers = _column_numbers(columns, n_features, advice)
            if not len(numbers):
                raise ValueError(_bad_columns(f"the columns {columns!r} are empty", n_features))
            for column in numbers:
                if owner[column] >= 0:
                    raise ValueError(_bad_columns(f"column {column} is in two parts", n_features))
                owner[column] = i
            layout.append((likelihood, numbers))
        if (owner < 0).any():
            column = owner.argmin()
            raise ValueError(_bad_columns(f"column {column} is in no part", n_features, advice))
        return layout

    def scale_modes(self, scale: str | None, n_features: int) -> list[tuple[Columns, str | None]]:
        """Return the scaling of all parts."""
        return [
            (numbers[inner], mode)
            for likelihood, numbers in self._layout(n_features)
            for inner, mode in likelihood.scale_modes(scale, len(numbers))
        ]

    def check_support(self, X: Any, columns: np.ndarray | None = None) -> None:
        """Check the columns of each part."""
        numbers = np.arange(X.shape[1]) if columns is None else columns
        for likelihood, own in self._layout(len(numbers)):
            likelihood.check_support(X, numbers[own])

    def most_likely(self, X: np.ndarray) -> np.ndarray:
        likely = np.empty_like(X)
        for likelihood, own in self._layout(X.shape[1]):
            likely[:, own] = likelihood.most_likely(X[:, own])
        return likely

    def linear_start(self, mean: np.ndarray, loading: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        bias, weight = np.empty_like(mean), np.empty_like(loading)
        for likelihood, own in self._layout(len(mean)):
            bias[own], weight[own] = likelihood.linear_start(mean[own], loading[own])
        return bias, weight

    def linear_encoder(
        self, projection: np.ndarray, mean: np.ndarray, variance: np.ndarray
    ) -> np.ndarray:
        weight = np.empty_like(projection)
        for likelihood, own in self._layout(len(mean)):
            weight[:, own] = likelihood.linear_encoder(projection[:, own], mean[own], variance[own])
        return weight

    def build(
        self, residual_variance: np.ndarray, mean: np.ndarray, variance: np.ndarray
    ) -> MixedObservation:
        layout = self._layout(len(mean))
        statistics = residual_variance, mean, variance
        parts = [part.build(*(values[own] for values in statistics)) for part, own in layout]
        return MixedObservation(parts, [own for _, own in layout])


class MixedObservation(Observation):
    """Observations of several parts, independent given the code.

    Parameters
    ----------
    parts : list of Observation

    columns : list of ndarray of int
        Numbers of the columns of each part. Every column is in exactly one part.
    """

    place: Tensor

    def __init__(self, parts: list[Observation], columns: list[np.ndarray]) -> None:
        super().__init__()
        self.parts: Any = nn.ModuleList(parts)
        together = np.concatenate(columns)
        self.in_order = bool((np.diff(together) == 1).all())
        self.ranges: list[slice | None] = []  # None if the columns are no range
        for i, own in enumerate(columns):
            is_range = bool((np.diff(own) == 1).all())
            self.ranges.append(slice(int(own[0]), int(own[-1]) + 1) if is_range else None)
            self.register_buffer(f"columns_{i}", torch.from_numpy(own), persistent=False)
        # places of the columns among those of all parts, one part after the other
        place = torch.from_numpy(np.argsort(together))
        self.register_buffer("place", place, persistent=False)

    def split(self, values: Tensor | None) -> list[Any]:
        """Return the columns of each part."""
        if values is None:
            return [None] * len(self.parts)
        return [
            values[:, getattr(self, f"columns_{i}") if own is None else own]
            for i, own in enumerate(self.ranges)
        ]

    def call_parts(self, method: str, *arguments: Tensor | None, **options: Any) -> list[Any]:
        """Call a method of each part on its columns of the arguments."""
        own = zip(self.parts, *map(self.split, arguments), strict=True)
        return [getattr(part, method)(*values, **options) for part, *values in own]

    def join(self, pieces: list[Tensor]) -> Tensor:
        """Concatenate the columns of all parts in their original order."""
        together = torch.cat(pieces, dim=-1)
        return together if self.in_order else together[..., self.place]

    def log_prob(self, x: Tensor, output: Tensor, observed: Tensor | None = None) -> Tensor:
        return torch.stack(self.call_parts("log_prob", x, output, observed)).sum(dim=0)

    def log_prob_entries(self, x: Tensor, output: Tensor) -> Tensor:
        return self.join(self.call_parts("log_prob_entries", x, output))

    def mean(self, output: Tensor) -> Tensor:
        return self.join(self.call_parts("mean", output))

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.join(self.call_parts("sample", output, generator=generator))

    def information(self, output: Tensor, observed: Tensor | None = None) -> Tensor:
        return self.join(self.call_parts("information", output, observed))

    def information_entries(self, output: Tensor) -> Tensor:
        return self.information(output)

    def embed(self, x: Tensor) -> Tensor:
        return self.join(self.call_parts("embed", x))

    def masked(self, entries: Tensor, observed: Tensor | None) -> Tensor:
        return self.join(self.call_parts("masked", entries, observed))

    def update(self, x: Tensor, output: Tensor, observed: Tensor | None = None) -> None:
        self.call_parts("update", x, output, observed)

    def calibrate(self, x: Tensor, output: Tensor, observed: Tensor | None = None) -> None:
        self.call_parts("calibrate", x, output, observed)

    def noise_std(self) -> Tensor | None:
        stds = [part.noise_std() for part in self.parts]
        some = [std for std in stds if std is not None]
        if not some:
            return None
        noise = some[0].new_full(self.place.shape, torch.nan)
        for i, std in enumerate(stds):
            if std is not None:
                noise[getattr(self, f"columns_{i}")] = std
        return noise


def _column_numbers(columns: Any, n_features: int, advice: str) -> np.ndarray:
    """Return the column numbers of a slice, a range or a list."""
    try:
        numbers = np.arange(n_features)[columns] if isinstance(columns, slice) else columns
        numbers = np.asarray(numbers)
    except (TypeError, ValueError):  # slices of strings, lists of unequal length
        numbers = np.array(None)
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        raise ValueError(
            "The 'parts' parameter of Mixed must give columns as slices, ranges or lists of ints. "
            f"Got {columns!r} instead."
        )
    outside = (numbers < -n_features) | (numbers >= n_features)
    if outside.any():
        what = f"there is no column {numbers[outside][0]}"
        raise ValueError(_bad_columns(what, n_features, advice))
    return np.where(numbers < 0, numbers + n_features, numbers).astype(np.intp)


def _bad_columns(what: str, n_features: int, advice: str = "") -> str:
    return (
        f"The 'parts' parameter of Mixed must name each of the {n_features} columns of X exactly "
        f"once, but {what}.{advice}"
    )


def _one_hot_parts(name: str, encoder: OneHotEncoder, start: int) -> list[tuple[Likelihood, slice]]:
    """Return the parts for the columns of a fitted encoder, which begin at ``start``."""
    widths = []
    for i, size in enumerate(_category_counts(encoder)):
        dropped = encoder.drop_idx_ is not None and encoder.drop_idx_[i] is not None
        if dropped and (size > 2 or encoder.drop != "if_binary"):
            raise ValueError(
                f"The OneHotEncoder {name!r} drops a category (drop={encoder.drop!r}), so that its "
                "columns are not one-hot. Use drop=None, or drop='if_binary'."
            )
        widths.append(size - dropped)
    parts: list[tuple[Likelihood, slice]] = []
    for one_hot, run in groupby(widths, key=lambda width: width > 1):
        sizes = tuple(run)
        blocks = [(Categorical(sizes), sum(sizes))] if one_hot else [(Bernoulli(), 1)] * len(sizes)
        for likelihood, width in blocks:
            parts.append((likelihood, slice(start, start + width)))
            start += width
    return parts


def _category_counts(encoder: OneHotEncoder) -> list[int]:
    """Return the number of categories of each feature; infrequent ones count as one."""
    counts = [len(categories) for categories in encoder.categories_]
    rare = getattr(encoder, "infrequent_categories_", None) or [None] * len(counts)
    return [
        count if some is None else count - len(some) + 1
        for count, some in zip(counts, rare, strict=True)
    ]
