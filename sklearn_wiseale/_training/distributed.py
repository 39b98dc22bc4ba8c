"""The processes that make one fit together: this one alone, or those of torch.distributed.

Training is data-parallel. Each process takes a share of every batch, computes its posteriors and
exchanges them. All processes then know the posteriors of the whole batch, and each computes the
whole divergence, in which only its own posteriors carry a gradient. The gradients of all processes
add up to the gradient of the whole batch, exactly and for any divergence, and the backward pass
sends nothing.

For this reason modules are not wrapped in ``DistributedDataParallel``, as accelerate's ``prepare``
and skorch's ``AccelerateMixin`` do. It averages gradients, while these are parts of one sum. It
expects one ``forward``, while this model has an encoder and a decoder. It keeps the running
estimates of the first process only. The exchange is torch's, and its set-up can be accelerate's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, distributed, nn

from ..objectives._base import Posterior

__all__ = ["ONE_PROCESS", "Processes", "current_processes"]

Result = TypeVar("Result")


class Processes:
    """The processes of a fit, seen from one of them; a single process exchanges nothing.

    Methods that exchange data must be called by all processes in the same order.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def local_slice(self, n: int) -> slice:
        """Which of n rows this process takes; shares differ by at most one row."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def local_rows(self, rows: Any) -> Any:
        """The share of this process in rows that all processes have."""
        return rows if self.size == 1 else rows[self.local_slice(rows.shape[0])]

    # one step of training -----------------------------------------------------------------

    def gather_posterior(self, local: Posterior, n: int) -> Posterior:
        """The posteriors of all n rows; only the local ones carry a gradient."""
        if self.size == 1:
            return local
        both = self._gather_rows(torch.cat(local, dim=1), n)
        return Posterior(*both.chunk(2, dim=1))

    def _gather_rows(self, local: Tensor, n: int) -> Tensor:
        whole = local.new_zeros(n, *local.shape[1:])
        whole[self.local_slice(n)] = local.detach()
        distributed.all_reduce(whole)  # shares differ in length; adding zeros is exact
        whole[self.local_slice(n)] = local
        return whole

    def _sum(self, local: Tensor) -> Tensor:
        total = local.detach().clone()
        distributed.all_reduce(total)
        return total

    def sum_terms(self, sums: Tensor) -> Tensor:
        """Sums over all rows; every process knows the whole divergence, which counts once."""
        return sums if self.size == 1 else self._sum(sums / sums.new_tensor([1.0, self.size]))

    @contextmanager
    def averaged_updates(
        self, buffers: Callable[[], Iterable[Tensor]], share: float
    ) -> Iterator[None]:
        """Average updates of running estimates over the batch; the local rows are a share of it."""
        exchanged = buffers() if self.size > 1 else ()
        before = [(b, b.detach().clone()) for b in exchanged if b.is_floating_point()]
        yield
        if before:
            changes = [share * (buffer.detach() - old).flatten() for buffer, old in before]
            total = self._sum(torch.cat(changes)).split([len(change) for change in changes])
            for (buffer, old), change in zip(before, total, strict=True):
                buffer.data.copy_(old + change.view_as(old))  # not part of the graph

    def sum_gradients(self, module: nn.Module, divergence: nn.Module) -> None:
        """Add up the gradients of a module, to which each process contributes its rows.

        Every process has the whole gradient of the divergence's own weights. These are averaged,
        which removes differences of rounding.
        """
        if self.size == 1:
            return
        sums, exchanges = [], []
        for part, factor in ((module, 1.0), (divergence, 1 / self.size)):
            for p in part.parameters():
                if p.requires_grad:  # another process may have a gradient where this has none
                    gradient = p.grad if p.grad is not None else torch.zeros_like(p)
                    gradient = gradient.contiguous()
                    if factor < 1:
                        gradient.mul_(factor)
                    sums.append((p, gradient))
                    exchanges.append(distributed.all_reduce(gradient, async_op=True))
        for exchange in exchanges:
            exchange.wait()
        for p, gradient in sums:
            if p.grad is not None or gradient.any():
                p.grad = gradient

    # a whole fit --------------------------------------------------------------------------

    def gather_objects(self, local: Any) -> list[Any]:
        """The objects of all processes, which must be picklable."""
        found = [local] * self.size
        if self.size > 1:
            distributed.all_gather_object(found, local)
        return found

    def from_first(self, make: Callable[[], Result]) -> Result:
        """Result of a function that only the first process calls; its error is raised on all."""
        made: list[Any] = [None]
        with self.raise_on_all():
            if self.is_first:
                made = [make()]
        if self.size > 1:
            distributed.broadcast_object_list(made, src=0)
        return made[0]

    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors by those of the first process."""
        for tensor in tensors if self.size > 1 else ():
            distributed.broadcast(tensor.detach(), src=0)

    def share_rng(self, rng: np.random.RandomState) -> np.random.RandomState:
        """A generator with the state of the first process's."""
        state = self.from_first(lambda: rng.get_state(legacy=False))
        if not self.is_first:  # the others' own, which may be numpy's global one, is left alone
            rng = np.random.RandomState(0)
            rng.set_state(state)
        return rng

    @contextmanager
    def raise_on_all(self) -> Iterator[None]:
        """Raise on all processes what is raised inside on one, so that none waits for ever.

        Nothing may be exchanged inside.
        """
        if self.size == 1:
            yield
            return
        failure: Exception | None = None
        try:
            yield
        except Exception as error:
            failure = error
        texts = self.gather_objects(failure and f"{type(failure).__name__}: {failure}")
        if failure is not None:
            raise failure
        for rank, text in enumerate(texts):
            if text is not None:
                raise RuntimeError(f"Process {rank} of {self.size} has failed: {text}")

    def require_same(self, values: dict[str, Any]) -> None:
        """Raise a ValueError on all processes unless they have equal values."""
        for rank, other in enumerate(self.gather_objects(values)):
            different = sorted(name for name in values if other[name] != values[name])
            if different:
                raise ValueError(
                    f"All {self.size} processes of the group must fit together, with the same X "
                    f"and parameters. Those of process {rank} differ from those of process "
                    f"{self.rank} in: {', '.join(different)}."
                )

    def encode_rows(
        self, encode: Callable[[Any, int], Sequence[np.ndarray]], X: Any, like: Tensor
    ) -> Sequence[np.ndarray]:
        """``encode(X, 0)``, two arrays of one shape, of which each process computes its rows.

        ``encode`` takes rows and the number of the first one. Results are exchanged on the device
        of ``like``.
        """
        if self.size == 1:
            return encode(X, 0)
        n = X.shape[0]
        with self.raise_on_all():
            local = np.stack(encode(self.local_rows(X), self.local_slice(n).start), axis=1)
        both = self._gather_rows(torch.from_numpy(local).to(like.device), n).numpy(force=True)
        return both[:, 0], both[:, 1]


ONE_PROCESS = Processes()


def current_processes() -> Processes:
    """The processes of torch.distributed's default group, if there is one; else this one."""
    if distributed.is_available() and distributed.is_initialized():
        return Processes(distributed.get_rank(), distributed.get_world_size())
    return ONE_PROCESS
