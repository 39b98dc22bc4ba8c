"""The contract of a likelihood, and what several of them share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._data.rows import chunk_length, dense
from .._data.validation import Part

__all__ = ["Columns", "Likelihood", "Observation", "column_chunks", "first_entry", "log_weight"]

#: What to do where a fold of a search has fewer one-hot columns than the likelihood was made for.
NAME_CATEGORIES = (
    "If these are the rows of a fold, which may lack a category: name all categories in "
    "OneHotEncoder(categories=...), so that each fold has the same columns."
)
#: Columns of an array: a range, or their numbers.
Columns = slice | np.ndarray


class Observation(nn.Module):
    """p(x|z), given the decoder's ``output`` of shape (n, n_features) for the codes z.

    ``observed`` is None where all of x is, or a boolean tensor of the shape of x; what is not
    observed holds any finite number, and counts for nothing.

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
        """Log-density of rows x of shape (n, n_features), summed over features: (n,), nats."""
        return self.masked(self.log_prob_entries(x, output), observed).sum(dim=1)

    def log_prob_entries(self, x: Tensor, output: Tensor) -> Tensor:
        """What each entry of x adds to the log-density: (n, n_features), nats."""
        raise NotImplementedError

    def mean(self, output: Tensor) -> Tensor:
        """E[x|z], of shape (n, n_features)."""
        raise NotImplementedError

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One draw of x|z for each row, of shape (n, n_features)."""
        raise NotImplementedError

    def information(self, output: Tensor, observed: Tensor | None = None) -> Tensor:
        """Fisher information about each output, of shape (n, n_features); the score needs it.

        Of outputs that are not independent it is the diagonal.
        """
        return self.masked(self.information_entries(output), observed)

    def information_entries(self, output: Tensor) -> Tensor:
        """What a wholly observed row tells about each output: (n, n_features)."""
        raise NotImplementedError

    def embed(self, x: Tensor) -> Tensor:
        """What the encoder sees of rows x, of the same shape: by default x itself."""
        return x

    def update(self, x: Tensor, output: Tensor, observed: Tensor | None = None) -> None:
        """Take a training batch into running estimates, if there are any."""

    def calibrate(self, x: Tensor, output: Tensor, observed: Tensor | None = None) -> None:
        """Set running estimates by rows that were held out, if there are any."""

    def noise_std(self) -> Tensor | None:
        """Standard deviation of Gaussian noise in scaled units, None where there is none.

        Of shape (1,) where all columns share one, else (n_features,), NaN where a column has
        another likelihood.
        """
        return None

    def masked(self, entries: Tensor, observed: Tensor | None) -> Tensor:
        """Entries of shape (n, n_features), zero where they do not count."""
        return entries if observed is None else entries.where(observed, 0.0)


class Likelihood(Part):
    """Base of all likelihoods: a specification of p(x|z).

    Examples
    --------
    Laplace noise of a fixed width, in standard deviations of a column. (``sample`` and the score
    would need ``sample`` and ``information_entries`` too.)

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

    #: Scaling of X that ``scale="auto"`` stands for: "feature", "global" or None.
    natural_scale: str | None = None
    #: Whether scaled data still have a density; counts and probabilities do not.
    scalable = False
    #: Whether its observations can leave out entries that are not observed.
    allow_nan = True

    def scale_modes(self, scale: str | None, n_features: int) -> list[tuple[Columns, str | None]]:
        """Ranges of columns and how each is scaled, given the estimator's parameter ``scale``."""
        mode = self.natural_scale if scale == "auto" else scale
        return [(slice(0, n_features), mode)]

    def check_support(self, X: Any, columns: np.ndarray | None = None) -> None:
        """Raise a ValueError when some of X has no density; NaN is passed over.

        Parameters
        ----------
        X : ndarray, memmap or CSR matrix of shape (n_samples, n_columns)

        columns : ndarray of int, default=None
            Numbers of those columns of X that this likelihood describes; by default all.
        """

    def most_likely(self, X: np.ndarray) -> np.ndarray:
        """Values of largest probability, given means: hard labels of what has labels.

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
        """Bias and weight of a linear decoder whose mean is close to ``loading @ z + mean``.

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
        """Weight of a linear encoder of what the observation embeds.

        Times ``embed(x) - embed(mean)`` it agrees with ``projection @ (x - mean)`` to first order
        about the mean.

        Parameters
        ----------
        projection : ndarray of shape (m, n_features)

        mean, variance : ndarray of shape (n_features,)
            As ``build`` is given them.
        """
        return projection

    def build(
        self, residual_variance: np.ndarray, mean: np.ndarray, variance: np.ndarray
    ) -> Observation:
        """Return the observation model with its estimates at their starting values.

        Parameters
        ----------
        residual_variance : ndarray of shape (n_features,)
            Mean squared residual of each scaled column at the start of training.

        mean, variance : ndarray of shape (n_features,)
            Of each scaled column.
        """
        raise NotImplementedError


def log_weight(mean: np.ndarray, loading: np.ndarray) -> np.ndarray:
    r"""Weights w of outputs whose exponentials have about the slopes ``loading`` at ``mean``.

    ``loading / mean`` where that is small. The exponential of a wider normal variable has the
    variance :math:`m^2 (e^{|w|^2} - 1)` about its mean m: rows are shortened to have that of the
    linear map (Aitchison and Ho 1989, *The multivariate Poisson-log normal distribution*).
    """
    slope = loading / mean[:, None]
    squared = np.square(slope).sum(axis=1, keepdims=True)
    return slope * np.sqrt(np.log1p(squared) / np.where(squared > 0, squared, 1.0))


def column_chunks(X: Any, columns: np.ndarray | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """Some columns of X as dense chunks of rows of bounded size, with their first row's number."""
    step = chunk_length(X.shape[1])
    for start in range(0, X.shape[0], step):
        chunk = dense(X[start : start + step], None)
        yield start, chunk if columns is None else chunk[:, columns]


def first_entry(
    bad: np.ndarray, chunk: np.ndarray, start: int, columns: np.ndarray | None
) -> tuple[Any, int, int]:
    """The first entry of a chunk that is bad: its value, its column and its row in X."""
    row, column = np.argwhere(bad)[0].tolist()
    return chunk[row, column], column if columns is None else int(columns[column]), start + row
