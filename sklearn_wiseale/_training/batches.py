"""Shuffled batches of rows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .._data.rows import Rows
from .distributed import ONE_PROCESS, Processes

__all__ = ["ShuffledBatches"]


class ShuffledBatches:
    """Iterable over ``(x, index)``, reshuffled at each pass.

    Sizes of batches differ by at most one row, so that no batch is too small for an aggregate and
    no row is left out. ``batch_size`` is the largest batch of all processes together; each process
    has at least one row in it. ``index`` numbers the rows of the whole batch; ``x`` is the local
    share. The generator is on the CPU, so that all devices and processes have the same order.
    """

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        generator: torch.Generator,
        processes: Processes = ONE_PROCESS,
    ) -> None:
        self.rows, self.batch_size, self.generator = rows, batch_size, generator
        self.processes = processes

    def __len__(self) -> int:
        return min(-(-len(self.rows) // self.batch_size), len(self.rows) // self.processes.size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.rows), generator=self.generator, device="cpu")
        indices = on_host = order.to(self.rows.device).tensor_split(len(self))
        if not self.rows.is_resident:  # rows are read on the CPU, without waiting for the device
            on_host = order.tensor_split(len(self))
        local = map(self.processes.local_rows, on_host)
        yield from zip(self.rows.each(local), indices, strict=True)
