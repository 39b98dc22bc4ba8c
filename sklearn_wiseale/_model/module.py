"""Encoder q(z|x), decoder and likelihood p(x|z)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..likelihoods import Observation
from ..objectives._base import Posterior

__all__ = [
    "LOG_VAR_RANGE",
    "VariationalModule",
    "private_torch_rng",
]

#: Log-variances leave this range only if training diverges. float32 can square and invert it.
LOG_VAR_RANGE = (-20.0, 10.0)

#: One thread at a time uses torch's global generators.
_RNG_LOCK = threading.RLock()


@contextmanager
def private_torch_rng(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators inside, and restore them afterwards.

    For code that accepts no generator: the initialisation of layers, and dropout.
    """
    cuda = [device] if device.type == "cuda" else []
    with _RNG_LOCK, torch.random.fork_rng(devices=cuda), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


class VariationalModule(nn.Module):
    """Encoder q(z|x), decoder and likelihood p(x|z).

    ``fill``, of shape (n_features,), replaces missing entries in the encoder's input, and ``flags``
    tells the posterior which entries are missing. With ``autocast``, encoder and decoder run in
    bfloat16; divergence and likelihood stay in float32.
    """

    fill: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Observation,
        fill: Tensor,
        flags: nn.Module | None = None,
        autocast: bool = False,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood
        self.register_buffer("fill", fill)
        self.flags = flags
        self.autocast = autocast

    def precision(self) -> AbstractContextManager[Any]:
        """The context in which encoder and decoder are called."""
        if not self.autocast:
            return nullcontext()
        return torch.autocast(self.fill.device.type, dtype=torch.bfloat16)

    def observe(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Rows with missing entries filled in, and which entries are observed.

        Both have the shape of x, (n, n_features).
        """
        observed = ~x.isnan()
        return x.where(observed, self.fill), observed

    def encode(self, x: Tensor, observed: Tensor | None = None) -> Posterior:
        """Posteriors of scaled rows x of shape (n, n_features)."""
        output = self.encoder(self.likelihood.embed(x))
        if observed is not None and self.flags is not None:
            output = output + self.flags((~observed).to(x.dtype))
        mean, log_var = output.chunk(2, dim=1)
        return Posterior(mean.to(x.dtype), log_var.clamp(*LOG_VAR_RANGE).to(x.dtype))
