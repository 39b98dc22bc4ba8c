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

    With ``neighbors``, numbers of the neighbours of each row, (n, k), the items are
    ``(x, index, x_neighbors)``, with one of the neighbours of each row of x, drawn at random.
    """

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        generator: torch.Generator,
        processes: Processes = ONE_PROCESS,
        neighbors: Tensor | None = None,
    ) -> None:
        self.rows, self.batch_size, self.generator = rows, batch_size, generator
        self.processes, self.neighbors = processes, neighbors

    def __len__(self) -> int:
        return min(-(-len(self.rows) // self.batch_size), len(self.rows) // self.processes.size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        order = torch.randperm(len(self.rows), generator=self.generator, device="cpu")
        if self.neighbors is not None:
            yield from self._with_neighbors(order, self.neighbors)
            return
        indices = on_host = order.to(self.rows.device).tensor_split(len(self))
        if not self.rows.is_resident:  # rows are read on the CPU, without waiting for the device
            on_host = order.tensor_split(len(self))
        local = map(self.processes.local_rows, on_host)
        yield from zip(self.rows.each(local), indices, strict=True)

    def _with_neighbors(self, order: Tensor, neighbors: Tensor) -> Iterator[tuple[Tensor, ...]]:
        shape, device = (len(order), 1), self.rows.device
        drawn = torch.randint(neighbors.shape[1], shape, generator=self.generator, device="cpu")
        chosen = neighbors[order].gather(1, drawn)[:, 0].long()
        batches = zip(order.tensor_split(len(self)), chosen.tensor_split(len(self)), strict=True)
        local = [torch.cat([*map(self.processes.local_rows, batch)]) for batch in batches]
        indices = order.to(device).tensor_split(len(self))
        if self.rows.is_resident:
            local = [rows.to(device) for rows in local]
        for both, index in zip(self.rows.each(local), indices, strict=True):
            x, x_neighbors = both.chunk(2)
            yield x, index, x_neighbors
