"""The contract of a likelihood, and functions that several likelihoods share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._data.rows import chunk_length, dense
from .._data.validation import Part

__all__ = [
    "Columns",
    "Likelihood",
    "Observation",
    "batch_mean",
    "column_chunks",
    "first_entry",
    "log_weight",
]

#: Advice for a number of one-hot columns that does not match the likelihood.
NAME_CATEGORIES = (
    "In cross-validation, a fold may lack a category: name all categories in "
    "OneHotEncoder(categories=...), so that each fold has the same columns."
)
#: Columns of an array: a slice, or their numbers.
Columns = slice | np.ndarray


class Observation(nn.Module):
    """p(x|z), given the decoder's ``output`` of shape (n, n_features) for the codes z.

    ``observed`` is a boolean tensor of the shape of x, or None if all entries are observed.
    Missing entries of x are any finite numbers and contribute nothing.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn_wiseale.likelihoods import Poisson
    >>> ones = np.ones(2)
    >>> observation = Poisson().build(residual_variance=ones, mean=ones, variance=ones)
    >>> log_rates = torch.zeros(1, 2)
    >>> observation.mean(log_rates)
    tensor([[1., 1.]])
    >>> observation.log_prob(torch.tensor([[0.0, 1.0]]), log_rates)
    tensor([-2.])
    """

    def log_prob(self, x: Tensor, output: Tensor, observed: Tensor | None = None) -> Tensor:
        """Log-density of rows x, (n, n_features), summed over features: (n,), nats."""
        return self.masked(self.log_prob_entries(x, output), observed).sum(dim=1)

    def log_prob_entries(self, x: Tensor, output: Tensor) -> Tensor:
        """Contribution of each entry of x to the log-density: (n, n_features), nats."""
        raise NotImplementedError

    def mean(self, output: Tensor) -> Tensor:
        """E[x|z], of shape (n, n_features)."""
        raise NotImplementedError

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One draw of x|z per row, of shape (n, n_features)."""
        raise NotImplementedError

    def information(self, output: Tensor, observed: Tensor | None = None) -> Tensor:
        """Fisher information about each output, (n, n_features), which the score needs.

        If outputs are not independent, it is the diagonal of the information matrix.
        """
        return self.masked(self.information_entries(output), observed)

    def information_entries(self, output: Tensor) -> Tensor:
        """Fisher information of rows without missing entries: (n, n_features)."""
        raise NotImplementedError

    def embed(self, x: Tensor) -> Tensor:
        """Input of the encoder for rows x, of the same shape: by default x itself."""
        return x

    def update(self, x: Tensor, output: Tensor, observed: Tensor | None = None) -> None:
        """Update running estimates, if any, with a training batch."""

    def calibrate(self, x: Tensor, output: Tensor, observed: Tensor | None = None) -> None:
        """Set running estimates, if any, from rows that were held out."""

    def noise_std(self) -> Tensor | None:
        """Standard deviation of Gaussian, or scale of Student-t noise in scaled units, or None.

        Its shape is (1,) if all columns share it, else (n_features,), with NaN for columns of other
        likelihoods.
        """
        return None

    def masked(self, entries: Tensor, observed: Tensor | None) -> Tensor:
        """Set the contributions of missing entries, (n, n_features), to zero."""
        return entries if observed is None else entries.where(observed, 0.0)


class Likelihood(Part):
    """Base class of likelihoods: a specification of p(x|z).

    Examples
    --------
    Laplace noise of a fixed width, in standard deviations of a column. Without the methods
    ``sample`` and ``information_entries``, the estimator cannot sample and score.

    >>> import math
    >>> from sklearn_wiseale import WiSEALETransformer
    >>> from sklearn_wiseale.likelihoods import Likelihood, Observation
    >>> class LaplaceNoise(Observation):
    ...     def __init__(self, width):
    ...         super().__init__()
    ...         self.width = width
    ...     def log_prob_entries(self, x, output):
    ...         return -(x - output).abs() / self.width - math.log(2 * self.width)
    ...     def mean(self, output):
    ...         return output
    >>> class Laplace(Likelihood):
    ...     natural_scale = "feature"
    ...     scalable = True
    ...     def __init__(self, width=0.5):
    ...         self.width = width
    ...     def build(self, residual_variance, mean, variance):
    ...         return LaplaceNoise(self.width)
    >>> X = [[float(i), float(i % 3)] for i in range(12)]
    >>> reducer = WiSEALETransformer(1, likelihood=Laplace(), max_epochs=2, random_state=0)
    >>> reducer.fit(X).inverse_transform([[0.0]]).shape
    (1, 2)
    """

    #: The scaling for ``scale="auto"``: "feature", "robust", "global" or None.
    natural_scale: str | None = None
    #: Whether X may be scaled; counts and probabilities may not.
    scalable = False
    #: Whether X may have missing entries.
    allow_nan = True

    def scale_modes(self, scale: str | None, n_features: int) -> list[tuple[Columns, str | None]]:
        """Return groups of columns with their scaling, for the estimator's parameter ``scale``."""
        mode = self.natural_scale if scale == "auto" else scale
        return [(slice(0, n_features), mode)]

    def check_support(self, X: Any, columns: np.ndarray | None = None) -> None:
        """Raise a ValueError if X has values without a density; NaN is ignored.

        Parameters
        ----------
        X : ndarray, memmap or CSR matrix of shape (n_samples, n_columns)

        columns : ndarray of int, default=None
            Numbers of the columns of X that have this likelihood; by default all.
        """

    def most_likely(self, X: np.ndarray) -> np.ndarray:
        """Return the values of largest probability, such as labels, from means.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            Means in the units of X, as ``inverse_transform`` returns them.

        Returns
        -------
        X_likely : ndarray of shape (n_samples, n_features)
        """
        return X.copy()

    def linear_start(self, mean: np.ndarray, loading: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return bias and weight of a linear decoder with means close to ``loading @ z + mean``.

        Parameters
        ----------
        mean : ndarray of shape (n_features,)

        loading : ndarray of shape (n_features, n_components)

        Returns
        -------
        bias : ndarray of shape (n_features,)

        weight : ndarray of shape (n_features, n_components)
        """
        return mean, loading

    def linear_encoder(
        self, projection: np.ndarray, mean: np.ndarray, variance: np.ndarray
    ) -> np.ndarray:
        """Return the weight W of a linear encoder, (m, n_features).

        ``W @ (embed(x) - embed(mean))`` is equal to ``projection @ (x - mean)`` to first order
        around the mean.

        Parameters
        ----------
        projection : ndarray of shape (m, n_features)

        mean, variance : ndarray of shape (n_features,)
            Of each scaled column.
        """
        return projection

    def build(
        self, residual_variance: np.ndarray, mean: np.ndarray, variance: np.ndarray
    ) -> Observation:
        """Return the torch module, with estimates at their initial values.

        Parameters
        ----------
        residual_variance : ndarray of shape (n_features,)
            Mean squared residual of each scaled column at the start of training.

        mean, variance : ndarray of shape (n_features,)
            Of each scaled column.
        """
        raise NotImplementedError


def log_weight(mean: np.ndarray, loading: np.ndarray) -> np.ndarray:
    r"""Return weights w of log-outputs whose exponentials are close to ``loading @ z + mean``.

    Small weights are ``loading / mean``. For normal z, the exponential has mean m and variance
    :math:`m^2 (e^{|w|^2} - 1)`: the rows of w are scaled so that this is the variance of the linear
    map (Aitchison and Ho 1989, *The multivariate Poisson-log normal distribution*).
    """
    slope = loading / mean[:, None]
    squared = np.square(slope).sum(axis=1, keepdims=True)
    return slope * np.sqrt(np.log1p(squared) / np.where(squared > 0, squared, 1.0))


def column_chunks(X: Any, columns: np.ndarray | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """Yield dense chunks of rows of bounded size, each with the number of its first row."""
    step = chunk_length(X.shape[1])
    for start in range(0, X.shape[0], step):
        chunk = dense(X[start : start + step], None)
        yield start, chunk if columns is None else chunk[:, columns]


def first_entry(
    bad: np.ndarray, chunk: np.ndarray, start: int, columns: np.ndarray | None
) -> tuple[Any, int, int]:
    """Return the first bad entry of a chunk: its value, and its column and row in X."""
    row, column = np.argwhere(bad)[0].tolist()
    return chunk[row, column], column if columns is None else int(columns[column]), start + row


def batch_mean(values: Tensor, observed: Tensor | None, running: Tensor) -> Tensor:
    """Mean over a batch, in the shape of a running mean: (1,) or (n_features,).

    Missing entries count with the running mean, which they thereby leave unchanged.
    """
    if observed is not None:
        values = values.where(observed, running)
    return values.mean() if running.numel() == 1 else values.mean(dim=0)
