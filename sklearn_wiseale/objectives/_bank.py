"""Posteriors of earlier batches, which make the aggregate wider than a batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ._overlap.gaussians import is_sync_free

__all__ = ["PosteriorBank"]


class PosteriorBank(nn.Module):
    """Stores one line of numbers, without gradient, for each of the last rows seen.

    Parameters
    ----------
    capacity : int
        Largest number of lines.

    own_places : bool
        Whether row i is always stored at place i; rows are then numbered below the capacity.
        Otherwise new rows replace the oldest ones.

    like : Tensor of shape (n, n_columns)
        Lines whose length, dtype and device the bank takes over.
    """

    rows: Tensor  # (capacity,), number of the row at each place, or -1
    lines: Tensor  # (capacity, n_columns)

    def __init__(self, capacity: int, own_places: bool, like: Tensor) -> None:
        super().__init__()
        self.capacity = capacity
        self.own_places = own_places
        self.register_buffer("rows", torch.full((self.capacity,), -1, device=like.device))
        self.register_buffer("lines", like.new_zeros(self.capacity, like.shape[1]))
        self.n_remembered = 0

    def forget(self, rows: Tensor) -> None:
        """Remove these rows."""
        if self.own_places:
            self.rows.index_fill_(0, rows, -1)
            return
        ordered = rows.sort().values
        nearest = torch.searchsorted(ordered, self.rows).clamp_(max=len(rows) - 1)
        self.rows.masked_fill_(ordered[nearest] == self.rows, -1)

    def remember(self, rows: Tensor, lines: Tensor) -> None:
        """Store one line for each of these rows, none of which may be in the bank."""
        rows, lines = rows[-self.capacity :], lines[-self.capacity :]
        places = rows
        if not self.own_places:
            first = self.n_remembered
            places = torch.arange(first, first + len(rows), device=rows.device) % self.capacity
        self.rows.index_copy_(0, places, rows)
        self.lines.index_copy_(0, places, lines.detach())
        self.n_remembered += len(rows)

    def held(self) -> tuple[Tensor, Tensor]:
        """Return lines, (a, n_columns), and for each 1 if its place is taken, 0 if it is empty.

        On a CPU, lines of empty places are left out. On other devices this would make the host
        wait.
        """
        held = self.rows >= 0
        if not is_sync_free(held):
            return self.lines, held.to(self.lines.dtype)
        chosen = held.nonzero()[:, 0]
        lines = self.lines if len(chosen) == self.capacity else self.lines.index_select(0, chosen)
        return lines, lines.new_ones(len(lines))

    def get_extra_state(self) -> Tensor:
        """Return the state that is in no buffer: ``own_places`` and ``n_remembered``."""
        return torch.tensor([int(self.own_places), self.n_remembered], device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Set the state that ``get_extra_state`` returned."""
        own_places, n_remembered = map(int, state.tolist())
        if not 0 <= n_remembered < 2**53:
            raise ValueError(f"it has a bank of {n_remembered} rows")
        self.own_places, self.n_remembered = bool(own_places), n_remembered
