"""Bernoulli likelihood of bits and grey values."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ._base import Likelihood, Observation, column_chunks, first_entry

__all__ = ["Bernoulli"]


class Bernoulli(Likelihood):
    """Bernoulli likelihood of data in [0, 1]: the decoder's outputs are logits.

    Values strictly between 0 and 1 are treated as probabilities, as is usual for grey pixels. The
    log-likelihood is then a cross-entropy, and not a normalised density.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_wiseale.likelihoods import Bernoulli
    >>> Bernoulli().most_likely(np.array([[0.2, 0.7]]))
    array([[0., 1.]])
    """

    def check_support(self, X: Any, columns: np.ndarray | None = None) -> None:
        """Raise a ValueError if X has values outside [0, 1]."""
        first, lows, highs = "", [], []
        for start, chunk in column_chunks(X, columns):
            low, high = np.fmin.reduce(chunk, axis=None), np.fmax.reduce(chunk, axis=None)
            lows.append(low)
            highs.append(high)
            if not first and (low < 0 or high > 1):
                bad = (chunk < 0) | (chunk > 1)
                _, column, row = first_entry(bad, chunk, start, columns)
                first = f"column {column}, row {row}"
        if first:
            raise ValueError(
                "X must lie in [0, 1] for the Bernoulli likelihood. Got values from "
                f"{np.fmin.reduce(lows):.6g} to {np.fmax.reduce(highs):.6g}, the first outside in "
                f"{first}: rescale X, or use likelihood='gaussian'."
            )

    def most_likely(self, X: np.ndarray) -> np.ndarray:
        """Return 1 for probabilities above one half, else 0."""
        return (X > 0.5).astype(X.dtype)

    def linear_start(self, mean: np.ndarray, loading: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Linearise the logit around the column means, which are clipped."""
        centre = mean.clip(0.02, 0.98)
        slope = np.maximum(centre * (1 - centre), 0.1)
        return np.log(centre / (1 - centre)), loading / slope[:, None]

    def build(
        self, residual_variance: np.ndarray, mean: np.ndarray, variance: np.ndarray
    ) -> BernoulliBits:
        self.check_parameters()
        return BernoulliBits()


class BernoulliBits(Observation):
    """Bernoulli observation: the decoder's outputs are logits."""

    def log_prob(self, x: Tensor, output: Tensor, observed: Tensor | None = None) -> Tensor:
        if observed is not None:
            return super().log_prob(x, output, observed)
        return -F.binary_cross_entropy_with_logits(output, x, reduction="none").sum(dim=1)

    def log_prob_entries(self, x: Tensor, output: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(output, x, reduction="none")

    def mean(self, output: Tensor) -> Tensor:
        return torch.sigmoid(output)

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return torch.bernoulli(torch.sigmoid(output), generator=generator)

    def information_entries(self, output: Tensor) -> Tensor:
        p = torch.sigmoid(output)
        return p * (1.0 - p)
