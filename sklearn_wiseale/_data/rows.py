"""Rows of X as scaled tensors, in chunks of bounded memory."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from sklearn.utils import assert_all_finite
from torch import Tensor
from torch.utils.data import Dataset

from .scaling import Scaling, TensorScaling

__all__ = [
    "RESIDENT_BYTES",
    "Rows",
    "ahead",
    "as_numpy",
    "chunk_length",
    "dense",
    "dense_chunks",
    "has_missing",
    "resident_bytes",
]

Given = TypeVar("Given")
Made = TypeVar("Made")

#: Maximum number of numbers in a chunk of rows.
_CHUNK_NUMBERS = 2**22
#: A row counts for at least this many numbers, because the network's layers are as wide.
_ROW_NUMBERS = 2**11
#: Maximum size of a scaled data set that is held as one tensor for training.
RESIDENT_BYTES = 2**29
#: On CUDA devices, the maximum is this share of the free memory: the network needs some too.
_RESIDENT_SHARE = 0.25
#: Devices that compute while the host reads, and the number of batches that it reads in advance.
_READING_AHEAD = ("cuda",)
_AHEAD = 2
#: Floating-point dtypes of torch that numpy has too.
_NUMPY_FLOATS = (torch.float16, torch.float32, torch.float64)


def chunk_length(n_features: int, draws: int = 1) -> int:
    """Maximum number of rows in a chunk, if each row becomes several draws."""
    return max(1, _CHUNK_NUMBERS // (max(_ROW_NUMBERS, n_features) * draws))


def as_numpy(X: Any, name: str = "X") -> Any:
    """A torch tensor on any device as ndarray; other values unchanged."""
    if not isinstance(X, Tensor):
        return X
    try:
        narrow = X.is_floating_point() and X.dtype not in _NUMPY_FLOATS
        return (X.float() if narrow else X).numpy(force=True)
    except (RuntimeError, TypeError) as error:
        raise TypeError(
            f"{name} must be a dense tensor of numbers. Got one of {X.dtype}, with the layout "
            f"{X.layout}, on the device {str(X.device)!r}: {str(error).splitlines()[0]}"
        ) from error


def dense(rows: Any, dtype: Any = np.float64) -> np.ndarray:
    """Rows as ndarray in C order; ``dtype=None`` keeps their dtype.

    Sums are rounded in the order of memory: with one order, equal rows have equal codes.
    """
    rows = rows.toarray() if hasattr(rows, "toarray") else rows
    return np.asarray(rows, dtype=dtype, order="C")


def dense_chunks(X: Any) -> Iterator[np.ndarray]:
    """Rows of X in float64 chunks."""
    step = chunk_length(X.shape[1])
    for start in range(0, X.shape[0], step):
        yield dense(X[start : start + step])


def has_missing(X: Any) -> bool:
    """Whether an entry of X, an ndarray, memmap or CSR matrix, is NaN."""
    if X.dtype.kind != "f":
        return False
    numbers = X.data if hasattr(X, "toarray") else X
    step = chunk_length(X.shape[1])
    return any(
        np.isnan(numbers[start : start + step]).any() for start in range(0, len(numbers), step)
    )


def resident_bytes(device: torch.device) -> int:
    """Maximum size of a scaled data set that is held as one tensor on the device."""
    if device.type != "cuda":
        return RESIDENT_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    reserved, used = torch.cuda.memory_reserved(device), torch.cuda.memory_allocated(device)
    return int(_RESIDENT_SHARE * (free + reserved - used))


def ahead(make: Callable[[Given], Made], given: Iterable[Given], n: int) -> Iterator[Made]:
    """``map(make, given)``, with a thread that makes up to n results in advance.

    The caller's thread iterates over ``given``. The other thread ends with the iteration, after the
    result that it is making.
    """
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(1, "sklearn_wiseale_ahead") as thread:
        context = copy_context()  # np.errstate, among others
        try:
            for item in given:
                waiting.append(thread.submit(context.run, make, item))
                if len(waiting) > n:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class Rows(Dataset):
    """Scaled rows of X, (n_samples, n_features), as tensors on a device.

    ``index`` selects rows; by default, all belong to this set. ``missing`` tells whether entries
    may be NaN. ``unchecked`` is the name of the estimator if X has not been checked for NaN and
    infinity: rows are then checked when they are read. With ``allow_nan``, NaN sets ``missing``.
    """

    def __init__(
        self,
        X: Any,
        scaling: Scaling,
        dtype: torch.dtype,
        device: torch.device,
        index: np.ndarray | None = None,
        *,
        missing: bool = False,
        unchecked: str | None = None,
        allow_nan: bool = False,
    ) -> None:
        self.X, self.scaling, self.dtype, self.device = X, scaling, dtype, device
        self.index = index
        self.missing, self.unchecked, self.allow_nan = missing, unchecked, allow_nan
        self._resident: Tensor | None = None

    def __len__(self) -> int:
        return self.X.shape[0] if self.index is None else len(self.index)

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        """Scaled rows of this set: (n, n_features)."""
        if self._resident is not None:
            return self._resident[rows]
        return self._placed(*self._read(rows))

    def each(self, selections: Iterable[slice | Tensor]) -> Iterator[Tensor]:
        """``self[rows]`` for each selection.

        For a GPU, a thread reads and scales in advance. The caller's thread checks the rows and
        copies them on the stream of all other work, so that nothing is used too early.
        """
        if self.is_resident or self.device.type not in _READING_AHEAD:
            yield from map(self.__getitem__, selections)
            return
        for scaled, suspect in ahead(self._read, selections, _AHEAD):
            yield self._placed(scaled, suspect)

    def _read(self, rows: slice | Tensor) -> tuple[Tensor, np.ndarray | None]:
        """Scaled rows in the host's memory, and the rows themselves if they must be checked."""
        numbers = rows.numpy(force=True) if isinstance(rows, Tensor) else rows
        chosen = dense(self.X[numbers if self.index is None else self.index[numbers]], None)
        scaled = self._tensor_scaling.apply(chosen)
        suspect = chosen if self.unchecked and not math.isfinite(scaled.sum()) else None
        return scaled.pin_memory() if self.device.type == "cuda" else scaled, suspect

    def _placed(self, scaled: Tensor, suspect: np.ndarray | None) -> Tensor:
        """Rows that have been read, on the device; the copy of pinned memory is asynchronous."""
        if suspect is not None:
            with np.errstate(invalid="ignore"):  # of the sum of opposite infinities
                assert_all_finite(
                    suspect,
                    allow_nan=self.allow_nan,
                    estimator_name=self.unchecked,
                    input_name="X",
                )
            self.missing = self.missing or bool(np.isnan(suspect).any())
        return scaled.to(self.device, non_blocking=self.device.type == "cuda")

    def part(self, n: int) -> Rows:
        """At most n of these rows, evenly spaced."""
        if len(self) <= n:
            return self
        chosen = np.linspace(0, len(self) - 1, n).astype(int)
        index = chosen if self.index is None else self.index[chosen]
        few = Rows(self.X, self.scaling, self.dtype, self.device, index, missing=self.missing)
        if self._resident is not None:
            few._resident = self._resident[torch.from_numpy(chosen).to(self.device)]
        return few

    @cached_property
    def _tensor_scaling(self) -> TensorScaling:
        return TensorScaling(self.scaling, self.X.dtype, self.dtype)

    @property
    def is_resident(self) -> bool:
        """Whether all rows are held as one tensor."""
        return self._resident is not None

    def chunks(self, draws: int = 1) -> Iterator[Tensor]:
        """All rows in order, in chunks of bounded size; see :func:`chunk_length`."""
        step = chunk_length(self.X.shape[1], draws)
        starts = range(0, len(self), step)
        yield from self.each(slice(start, min(start + step, len(self))) for start in starts)

    def make_resident(self) -> Rows:
        """Hold all rows as one tensor on the device if they are few enough; return self."""
        n_features = self.X.shape[1]
        itemsize = torch.finfo(self.dtype).bits // 8
        size = len(self) * n_features * itemsize
        if self._resident is None and size <= resident_bytes(self.device):
            held = torch.empty(len(self), n_features, dtype=self.dtype, device=self.device)
            start = 0
            for chunk in self.chunks():
                held[start : start + len(chunk)] = chunk
                start += len(chunk)
            self._resident = held
        return self
