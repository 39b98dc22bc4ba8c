"""From rows of X to scaled batches of tensors: no copy of X as a whole, no per-row collate."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from sklearn.utils import assert_all_finite
from torch import Tensor
from torch.utils.data import Dataset

from ._ranks import ALONE, Ranks

__all__ = [
    "Rows",
    "Scaling",
    "ShuffledBatches",
    "TensorScaling",
    "ahead",
    "as_numpy",
    "chunk_length",
    "dense",
    "has_missing",
    "resident_bytes",
]

Given = TypeVar("Given")
Made = TypeVar("Made")

#: A chunk of rows holds at most this many numbers,
_CHUNK_NUMBERS = 2**22
#: and a row counts for at least so many, because the network's layers are as wide.
_ROW_NUMBERS = 2**11
#: Up to this size the scaled data set is held as one tensor for training,
RESIDENT_BYTES = 2**29
#: on CUDA devices up to this share of the memory that is free: the network needs some too.
_RESIDENT_SHARE = 0.25
#: Devices that compute while the host reads, and how many batches it reads in advance.
_READING_AHEAD = ("cuda",)
_AHEAD = 2
#: numpy has no other real dtypes of torch, such as bfloat16.
_NUMPY_FLOATS = (torch.float16, torch.float32, torch.float64)


def chunk_length(n_features: int, draws: int = 1) -> int:
    """Rows a chunk may hold when each is turned into that many draws."""
    return max(1, _CHUNK_NUMBERS // (max(_ROW_NUMBERS, n_features) * draws))


def as_numpy(X: Any, name: str = "X") -> Any:
    """A torch tensor, wherever it is, as ndarray; all else as it is."""
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
    """Rows as ndarray in C order, whatever holds them; ``dtype=None`` leaves theirs.

    Sums are rounded in the order of memory: in one order, equal rows give equal codes.
    """
    rows = rows.toarray() if hasattr(rows, "toarray") else rows
    return np.asarray(rows, dtype=dtype, order="C")


def has_missing(X: Any) -> bool:
    """Whether an entry of X, ndarray, memmap or CSR matrix, is NaN: by chunks."""
    if X.dtype.kind != "f":
        return False
    numbers = X.data if hasattr(X, "toarray") else X
    step = chunk_length(X.shape[1])
    return any(
        np.isnan(numbers[start : start + step]).any() for start in range(0, len(numbers), step)
    )


def resident_bytes(device: torch.device) -> int:
    """Up to this size the scaled data set is held as one tensor on the device."""
    if device.type != "cuda":
        return RESIDENT_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    reserved, used = torch.cuda.memory_reserved(device), torch.cuda.memory_allocated(device)
    return int(_RESIDENT_SHARE * (free + reserved - used))


def ahead(make: Callable[[Given], Made], given: Iterable[Given], n: int) -> Iterator[Made]:
    """``map(make, given)``, of which a thread makes up to n in advance.

    What ``given`` yields is taken in the caller's thread. The thread ends with the iteration,
    however that ends, once it has made what it is at.
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


class Scaling(NamedTuple):
    """Columns are used as ``(X - shift) / scale``."""

    shift: np.ndarray  # (n_features,)
    scale: np.ndarray  # (n_features,), positive

    def apply(self, X: np.ndarray) -> np.ndarray:
        """From the units of X, float64, to scaled units."""
        return (X - self.shift) / self.scale

    def invert(self, X: np.ndarray) -> np.ndarray:
        """From scaled units back to the units of X, float64."""
        return X.astype(np.float64) * self.scale + self.shift

    @property
    def fits_float32(self) -> bool:
        """Whether float32 holds the numbers of the scaling, with room to spare."""
        shift, scale = np.abs(self.shift).max(), self.scale
        return bool(shift < 1e30 and scale.min() > 1e-30 and scale.max() < 1e30)


class TensorScaling:
    """A :class:`Scaling` of numpy rows to tensors of a dtype, as exact as that dtype allows.

    Rows that float32 holds exactly are scaled in float32. The shift then comes in two parts:
    ``x - high`` does not cancel as ``x - shift`` would with a rounded shift, and what is left of
    it is added when all is scaled.
    """

    def __init__(self, scaling: Scaling, kind: np.dtype, dtype: torch.dtype) -> None:
        exact = np.can_cast(kind, np.float32) and scaling.fits_float32
        self.kind = np.float32 if exact and dtype == torch.float32 else np.float64
        high = scaling.shift.astype(self.kind)
        rest = (high - scaling.shift) / scaling.scale
        numbers = (part.astype(self.kind) for part in (high, scaling.scale, rest))
        self.high, self.scale, self.rest = map(torch.from_numpy, numbers)
        self.dtype = dtype
        self.is_identity = not scaling.shift.any() and bool((scaling.scale == 1).all())

    def apply(self, X: np.ndarray) -> Tensor:
        """From the units of X to scaled units; X stays as it is."""
        rows = _as_tensor(X, self.kind)
        if self.is_identity:
            return rows.to(self.dtype, copy=True)
        scaled = rows.sub(self.high)
        return torch.addcdiv(self.rest, scaled, self.scale, out=scaled).to(self.dtype)


def _as_tensor(X: np.ndarray, kind: Any) -> Tensor:
    """X, or a copy where torch could not look at it: both are only read."""
    with np.errstate(over="ignore"):  # of long doubles
        X = np.asarray(X, dtype=kind)
    if not X.flags.writeable or min(X.strides, default=0) < 0 or not X.dtype.isnative:
        X = np.array(X, dtype=kind, order="C")
    return torch.from_numpy(X)


class Rows(Dataset):
    """Scaled rows of X as tensors on a device.

    Parameters
    ----------
    X : ndarray, memmap or CSR matrix of shape (n_samples, n_features)

    scaling : Scaling

    dtype : torch.dtype

    device : torch.device

    index : ndarray of int, default=None
        The rows that belong to this set; by default all.

    missing : bool, default=False
        Whether entries may be NaN, which is what is not observed.

    unchecked : str, default=None
        Name of the estimator whose input X is, if nobody has looked for NaN and infinity yet:
        rows are then looked at when they are taken, while a cache holds them. Where NaN is
        found and ``allow_nan``, ``missing`` becomes true; all else is an error.

    allow_nan : bool, default=False
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
        """``self[rows]`` of one selection after the other.

        A thread reads and scales in advance for a device that computes meanwhile. What it has
        read is checked and copied here: on the stream of all else, so that nothing is used early.
        """
        if self.is_resident or self.device.type not in _READING_AHEAD:
            yield from map(self.__getitem__, selections)
            return
        for scaled, suspect in ahead(self._read, selections, _AHEAD):
            yield self._placed(scaled, suspect)

    def _read(self, rows: slice | Tensor) -> tuple[Tensor, np.ndarray | None]:
        """Scaled rows in the host's memory; and themselves if they have to be looked at."""
        numbers = rows.numpy(force=True) if isinstance(rows, Tensor) else rows
        chosen = dense(self.X[numbers if self.index is None else self.index[numbers]], None)
        scaled = self._tensor_scaling.apply(chosen)
        suspect = chosen if self.unchecked and not math.isfinite(scaled.sum()) else None
        return scaled.pin_memory() if self.device.type == "cuda" else scaled, suspect

    def _placed(self, scaled: Tensor, suspect: np.ndarray | None) -> Tensor:
        """What has been read, on the device; nobody waits for the copy of pinned memory."""
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


class ShuffledBatches:
    """Iterable over ``(x, index)``, reshuffled at each pass.

    Batch sizes differ by at most one row, so that no epoch ends in a batch too small for an
    aggregate and no row is left out. With several ranks the index is that of the whole batch, x
    the rank's part of it: only that is read.

    Parameters
    ----------
    rows : Rows

    batch_size : int
        Largest batch, of all ranks together; but a batch has a row for each rank.

    generator : torch.Generator
        On the CPU; the order of rows is the same on every device and rank.

    ranks : Ranks, default=ALONE
    """

    def __init__(
        self, rows: Rows, batch_size: int, generator: torch.Generator, ranks: Ranks = ALONE
    ) -> None:
        self.rows, self.batch_size, self.generator = rows, batch_size, generator
        self.ranks = ranks

    def __len__(self) -> int:
        return min(-(-len(self.rows) // self.batch_size), len(self.rows) // self.ranks.size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.rows), generator=self.generator, device="cpu")
        parts = taken = order.to(self.rows.device).tensor_split(len(self))
        if not self.rows.is_resident:  # numbers are read on the CPU: nothing waits for the device
            taken = order.tensor_split(len(self))
        yield from zip(self.rows.each(map(self.ranks.own, taken)), parts, strict=True)
