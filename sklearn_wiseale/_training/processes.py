"""The processes that make one fit together: this one alone, or those of a group.

Training asks an object of this module for whatever depends on the number of processes.
:class:`OneProcess` leaves all things as they are; ``distributed.ProcessGroup`` exchanges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from torch import Tensor, nn

from ..objectives._base import Posterior

__all__ = ["ONE_PROCESS", "OneProcess"]

Result = TypeVar("Result")


class OneProcess:
    """A single process, and the methods that every kind of group has.

    Methods that exchange data must be called by all processes in the same order.
    """

    rank = 0
    size = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def local_slice(self, n: int) -> slice:
        """Which of n rows this process takes; shares differ by at most one row."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def local_rows(self, rows: Any) -> Any:
        """The share of this process in rows that all processes have."""
        return rows

    def gather_posterior(self, local: Posterior, n: int) -> Posterior:
        """The posteriors of all n rows; only the local ones carry a gradient."""
        return local

    def share_of_mean(self, local_mean: Tensor, share: float) -> Tensor:
        """What the mean over local rows contributes to the mean over all rows."""
        return local_mean

    def sum_terms(self, sums: Tensor) -> Tensor:
        """Sums over all rows of reconstruction and divergence, from the local ones."""
        return sums

    @contextmanager
    def averaged_updates(
        self, buffers: Callable[[], Iterable[Tensor]], share: float
    ) -> Iterator[None]:
        """Average updates of running estimates over the batch.

        Parameters
        ----------
        buffers : callable
            Returns the estimates. Integer buffers are left alone.

        share : float
            Share of the local rows in the batch.
        """
        yield

    def sum_gradients(self, module: nn.Module, divergence: nn.Module) -> None:
        """Add up the gradients of all processes."""

    def gather_objects(self, local: Any) -> list[Any]:
        """The objects of all processes, which must be picklable."""
        return [local]

    def from_first(self, make: Callable[[], Result]) -> Result:
        """Result of a function that only the first process calls; its error is raised on all."""
        return make()

    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors by those of the first process."""

    def share_rng(self, rng: np.random.RandomState) -> np.random.RandomState:
        """A generator with the state of the first process's."""
        return rng

    @contextmanager
    def raise_on_all(self) -> Iterator[None]:
        """Raise on all processes what is raised inside on one, so that none waits for ever.

        Nothing may be exchanged inside.
        """
        yield

    def require_same(self, values: dict[str, Any]) -> None:
        """Raise a ValueError on all processes unless they have equal values."""

    def encode_rows(
        self, encode: Callable[[Any, int], Sequence[np.ndarray]], X: Any, like: Tensor
    ) -> Sequence[np.ndarray]:
        """``encode(X, 0)``: each process encodes its share of the rows.

        Parameters
        ----------
        encode : callable
            Takes rows and the number of the first of them; returns arrays of one shape.

        X : array of shape (n_samples, n_features)

        like : Tensor
            On the device through which results are exchanged.
        """
        return encode(X, 0)


ONE_PROCESS = OneProcess()
