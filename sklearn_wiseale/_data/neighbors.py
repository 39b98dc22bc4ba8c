"""Nearest neighbours of the training rows, for objectives that keep neighbours together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.validation import check_consistent_length, column_or_1d
from torch import Tensor

from .rows import Rows

__all__ = ["class_numbers", "nearest_neighbors"]

#: Distances are those in this many principal components, which this many rows determine.
_AXES, _AXES_ROWS = 50, 2**13
#: Neighbours are sought among this many rows, so that time grows linearly with the rows.
_MAX_CANDIDATES = 2**16
#: Number of a row without a class, as in sklearn.semi_supervised.
_NO_CLASS = -1


def nearest_neighbors(
    rows: Rows,
    n_neighbors: int,
    embed: Callable[[Tensor], Tensor],
    classes: np.ndarray | None = None,
) -> Tensor:
    """Numbers of the nearest neighbours of each row.

    Parameters
    ----------
    rows : Rows
        n training rows.

    n_neighbors : int
        Of fewer rows, all others are neighbours.

    embed : callable
        Maps scaled rows to those between which distances are Euclidean, without missing entries.

    classes : ndarray of int of shape (n,), default=None
        A row with a class has neighbours of the same class, if there are others.

    Returns
    -------
    Tensor of int32 of shape (n, min(n_neighbors, n - 1)), on the CPU
        In no order that matters.
    """
    points = _points(rows, embed)
    found = _nearest(points, n_neighbors)
    for number in () if classes is None else np.unique(classes[classes != _NO_CLASS]):
        members = np.flatnonzero(classes == number)
        if len(members) > 1:
            own = members[_nearest(points[members], n_neighbors)]
            found[members] = own[:, np.arange(found.shape[1]) % own.shape[1]]
    return torch.from_numpy(found)


def _points(rows: Rows, embed: Callable[[Tensor], Tensor]) -> np.ndarray:
    """Embedded rows, or their principal components: float32."""

    def embedded(x: Tensor) -> np.ndarray:
        return embed(x).numpy(force=True).astype(np.float32)

    some = embedded(rows.part(_AXES_ROWS)[slice(None)])
    if some.shape[1] <= _AXES or len(some) <= _AXES:
        return np.concatenate([embedded(x) for x in rows.chunks()])
    pca = PCA(_AXES, svd_solver="randomized", random_state=0).fit(some)
    return np.concatenate([pca.transform(embedded(x)) for x in rows.chunks()])


def _nearest(points: np.ndarray, n_neighbors: int) -> np.ndarray:
    """Numbers of the nearest other points, (n, min(n_neighbors, n - 1)), int32."""
    n = len(points)
    candidates = np.arange(n)
    if n > _MAX_CANDIDATES:
        order = np.random.RandomState(0).permutation(n)
        candidates = np.sort(order[:_MAX_CANDIDATES])
    k = min(n_neighbors, len(candidates) - 1)
    search = NearestNeighbors(n_neighbors=k + 1).fit(points[candidates])
    found = candidates[search.kneighbors(points, return_distance=False)].astype(np.int32)
    is_self = found == np.arange(n)[:, None]
    is_self[~is_self.any(axis=1), -1] = True  # the farthest one, where the row is not found
    return found[~is_self].reshape(n, k)


def _is_unknown(value: Any) -> bool:
    # NaN and pandas.NA do not equal themselves; the latter is no bool either
    return value is None or (value == value) is not True or value == _NO_CLASS


def class_numbers(y: Any, n_samples: int) -> np.ndarray | None:
    """Number of the class of each row, -1 for rows without one; None if y has no classes.

    -1, NaN, NA and None mark rows without a class. Numbers that are not integers are no classes.

    Raises a ValueError if y has not n_samples values.
    """
    values = column_or_1d(np.asarray(y))
    check_consistent_length(np.empty(n_samples), values)
    unknown = np.array([_is_unknown(value) for value in values.tolist()], dtype=bool)
    known = values[~unknown]
    is_number = np.issubdtype(known.dtype, np.floating)
    if not len(known) or (is_number and (known != np.round(known)).any()):
        return None
    classes = np.full(n_samples, _NO_CLASS)
    classes[~unknown] = np.unique(known.astype(str), return_inverse=True)[1]
    return classes
