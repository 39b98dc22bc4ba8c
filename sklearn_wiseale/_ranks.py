"""The processes of one fit, where torch.distributed has been set up: data-parallel training.

Every rank takes its part of each batch, computes its posteriors and shares them; from there on all
know the posteriors of the whole batch, and each computes the whole divergence, of which only its
own posteriors carry a gradient. So the ranks' gradients add up to that of the whole batch, exactly
and for any divergence, and nothing flows back through the exchange.

This is why modules are not wrapped in ``DistributedDataParallel``, as accelerate's ``prepare`` and
skorch's ``AccelerateMixin`` would: it takes means of gradients where these are parts of one sum, it
knows one ``forward`` where here are an encoder and a decoder, and of running estimates it keeps
those of the first rank. The exchange itself is torch's, and its set-up accelerate's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, distributed, nn

__all__ = ["ALONE", "Ranks"]

Result = TypeVar("Result")


class Ranks(NamedTuple):
    """The place of a process among those of a fit; alone, methods leave things as they are.

    Methods that exchange something have to be called by all ranks in the same order.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def present(cls) -> Ranks:
        """The ranks of the process group, or this process alone where there is none."""
        if distributed.is_available() and distributed.is_initialized():
            return cls(distributed.get_rank(), distributed.get_world_size())
        return ALONE

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes files and shows progress."""
        return self.rank == 0

    # parts ----------------------------------------------------------------------------------

    def part(self, n: int) -> slice:
        """Which of n rows are this rank's; parts differ by at most one row."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def own(self, rows: Any) -> Any:
        """Of rows that all ranks have, those that are this one's."""
        return rows if self.size == 1 else rows[self.part(rows.shape[0])]

    def gather(self, own: Tensor, n: int) -> Tensor:
        """The n rows of all ranks, of which this rank's own carry a gradient."""
        if self.size == 1:
            return own
        whole = own.new_zeros(n, *own.shape[1:])
        whole[self.part(n)] = own.detach()
        distributed.all_reduce(whole)  # of parts of unequal length; adding zeros rounds nothing
        whole[self.part(n)] = own
        return whole

    # sums -----------------------------------------------------------------------------------

    def total(self, own: Tensor) -> Tensor:
        """Sum over ranks."""
        if self.size > 1:
            own = own.detach().clone()
            distributed.all_reduce(own)
        return own

    @contextmanager
    def averaged(self, buffers: Callable[[], Iterable[Tensor]], share: float) -> Iterator[None]:
        """Running estimates that each rank updates inside become their mean over the batch.

        Parameters
        ----------
        buffers : callable
            Returns them; of those that are no floating point numbers nothing is taken.

        share : float
            Of this rank in the rows of the batch.
        """
        if self.size == 1:
            yield
            return
        before = [(b, b.detach().clone()) for b in buffers() if b.is_floating_point()]
        yield
        if before:
            changes = [share * (buffer.detach() - old).flatten() for buffer, old in before]
            changes = self.total(torch.cat(changes)).split([len(change) for change in changes])
            for (buffer, old), change in zip(before, changes, strict=True):
                buffer.data.copy_(old + change.view_as(old))  # unseen by autograd, as is right

    def sum_gradients(self, module: nn.Module, criterion: nn.Module) -> None:
        """Add up the gradients of a module, to which each rank has contributed its rows.

        A criterion's own weights have the gradient of the whole batch on every rank: of these
        the mean is taken, which differs from each by rounding at most.
        """
        if self.size == 1:
            return
        sums, exchanges = [], []
        for part, factor in ((module, 1.0), (criterion, 1 / self.size)):
            for p in part.parameters():
                if p.requires_grad:  # without a gradient here, another rank's rows may have one
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

    # agreement ------------------------------------------------------------------------------

    def objects(self, own: Any) -> list[Any]:
        """What each rank has: anything that can be pickled."""
        if self.size == 1:
            return [own]
        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, own)
        return found

    def from_first(self, make: Callable[[], Result]) -> Result:
        """What a function returns on the first rank; if it raises an error, all do."""
        if self.size == 1:
            return make()
        made: list[Any] = [None]
        with self.together():
            if self.first:
                made = [make()]
        distributed.broadcast_object_list(made, src=0)
        return made[0]

    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors by those of the first rank."""
        if self.size > 1:
            for tensor in tensors:
                distributed.broadcast(tensor.detach(), src=0)

    def share_rng(self, rng: np.random.RandomState) -> np.random.RandomState:
        """A generator that draws on every rank what the first one's draws."""
        if self.size == 1:
            return rng
        state = self.from_first(lambda: rng.get_state(legacy=False))
        if not self.first:  # others' own, which may be numpy's global one, stays as it is
            rng = np.random.RandomState(0)
            rng.set_state(state)
        return rng

    @contextmanager
    def together(self) -> Iterator[None]:
        """What raises an error inside on one rank raises one on all: none waits for ever.

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
        texts = self.objects(failure and f"{type(failure).__name__}: {failure}")
        if failure is not None:
            raise failure
        for rank, text in enumerate(texts):
            if text is not None:
                raise RuntimeError(f"Process {rank} of {self.size} has failed: {text}")

    def require_same(self, what: dict[str, Any]) -> None:
        """Raise a ValueError on all ranks unless they have the same of everything named."""
        for rank, other in enumerate(self.objects(what)):
            different = sorted(name for name in what if other[name] != what[name])
            if different:
                raise ValueError(
                    f"All {self.size} processes of the group must fit together, with the same X "
                    f"and parameters. Those of process {rank} differ from those of process "
                    f"{self.rank} in: {', '.join(different)}."
                )


ALONE = Ranks()
