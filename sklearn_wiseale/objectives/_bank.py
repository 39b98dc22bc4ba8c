"""Posteriors of earlier batches, kept so that the aggregate is wider than a batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ._overlap.gaussians import is_sync_free

__all__ = ["PosteriorBank"]


class PosteriorBank(nn.Module):
    """What was last known of the rows seen last: numbers without gradient, one line a row.

    A row is held once at most.

    Parameters
    ----------
    capacity : int
        Lines held at most.

    own_places : bool
        Whether each row has a place of its own, rows being numbered below the capacity; else
        places are taken in turn, and the oldest line gives way.

    like : Tensor of shape (n, n_columns)
        Lines from which the bank takes their length, dtype and device.
    """

    rows: Tensor  # (capacity,), the row that a place holds, or -1
    lines: Tensor  # (capacity, n_columns)

    def __init__(self, capacity: int, own_places: bool, like: Tensor) -> None:
        super().__init__()
        self.capacity = capacity
        self.own_places = own_places
        self.register_buffer("rows", torch.full((self.capacity,), -1, device=like.device))
        self.register_buffer("lines", like.new_zeros(self.capacity, like.shape[1]))
        self.n_remembered = 0

    def forget(self, rows: Tensor) -> None:
        """Give up what is held of these rows."""
        if self.own_places:
            self.rows.index_fill_(0, rows, -1)
            return
        ordered = rows.sort().values
        nearest = torch.searchsorted(ordered, self.rows).clamp_(max=len(rows) - 1)
        self.rows.masked_fill_(ordered[nearest] == self.rows, -1)

    def remember(self, rows: Tensor, lines: Tensor) -> None:
        """Hold one line for each of these rows, of which nothing may be held yet."""
        rows, lines = rows[-self.capacity :], lines[-self.capacity :]
        places = rows
        if not self.own_places:
            first = self.n_remembered
            places = torch.arange(first, first + len(rows), device=rows.device) % self.capacity
        self.rows.index_copy_(0, places, rows)
        self.lines.index_copy_(0, places, lines.detach())
        self.n_remembered += len(rows)

    def held(self) -> tuple[Tensor, Tensor]:
        """Lines, and for each 1 if it is held and 0 if it is not.

        On a CPU only those that are held; elsewhere the selection would wait for the device.
        """
        held = self.rows >= 0
        if not is_sync_free(held):
            return self.lines, held.to(self.lines.dtype)
        chosen = held.nonzero()[:, 0]
        lines = self.lines if len(chosen) == self.capacity else self.lines.index_select(0, chosen)
        return lines, lines.new_ones(len(lines))

    def get_extra_state(self) -> Tensor:
        """What is no buffer: whether rows have places of their own, and how many came."""
        return torch.tensor([int(self.own_places), self.n_remembered], device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Take over what ``get_extra_state`` gave."""
        own_places, n_remembered = map(int, state.tolist())
        if not 0 <= n_remembered < 2**53:
            raise ValueError(f"it has a bank of {n_remembered} rows")
        self.own_places, self.n_remembered = bool(own_places), n_remembered
