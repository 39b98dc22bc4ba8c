r"""WiSE-ALE: the divergence of the aggregate posterior from the prior.

With posteriors :math:`q_i = \mathcal{N}(\mu_i, \operatorname{diag}(s_i))`, i = 1..N, and their
aggregate :math:`q = \frac1N \sum_i q_i`,

.. math::

    \mathrm{KL}(q \| p) = \mathbb{E}_q \log q + C, \qquad
    C = \tfrac{K}{2} \log 2\pi + \tfrac{1}{2N} \sum_{ik} (\mu_{ik}^2 + s_{ik}),

where only the first term has no closed form. It is replaced by one of the terms below, and
``moment`` <= KL <= ``jensen`` <= ``renyi``. The lower bound ``sliced``, a sum of divergences along
lines, is computed in ``_sliced``.

=============== ======================================================================
``moment``      :math:`-\frac12 \log\det(2\pi e S)`, S the aggregate's covariance
``monte_carlo`` :math:`\frac1N \sum_i \log \frac1N \sum_j q_j(z_i)`, z_i drawn from q_i
``jensen``      :math:`\frac1N \sum_i \log \frac1N \sum_j O_{ij}`
``renyi``       :math:`\log \frac1{N^2} \sum_{ij} O_{ij}`
=============== ======================================================================
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .._data.validation import Interval, StrOptions
from ._bank import PosteriorBank
from ._base import NON_NEGATIVE, Batch, Objective, Posterior
from ._drawn import drawn_overlap_and_gradient
from ._gradient import with_gradient
from ._neighbors import neighbor_contrast
from ._overlap.function import compute_log_mean_overlap, log_mean_overlap
from ._sliced import random_basis, sliced_kl, sliced_kl_and_gradient

__all__ = ["BOUNDS", "AggregateKL", "WiSEALE", "aggregate_kl_bound"]

BOUNDS = ("jensen", "renyi", "moment", "monte_carlo", "sliced")

#: Factor and limit of weight="auto", min(limit, factor * D / K): for a single bound, and for
#: "jensen" in "blend". Codes collapse at D / K.
_SINGLE, _BLENDED = (0.08, 10.0), (0.25, 1.0)
#: For "sliced" it is min(limit, factor * D), because the reconstruction term grows with D.
_SLICED = 0.04, 25.0
#: neighbors="auto", and the factor of D / K in neighbor_weight="auto".
_NEIGHBORS, _BY_NEIGHBORS = 10, 1.0
#: width="auto" of all bounds but "blend".
_AUTO_WIDTH = 4096
#: Largest number m of rows of "jensen" in "blend" with width="auto", and of m * n * K, in training.
_TRAINING_ROWS, _TRAINING_NUMBERS = 32, 2**17
#: Smallest number m of these rows, and otherwise largest number of m * n * K, in evaluation.
_EVALUATION_ROWS, _EVALUATION_NUMBERS = 4, 2**20
#: Rows that "moment" converts to float64 at a time.
_BLOCK_ROWS = 2**16


def cross_entropy(posterior: Posterior) -> Tensor:
    """Cross-entropy C of the aggregate and the prior: a scalar, nats."""
    mean, log_var = posterior
    second_moment = (mean.square() + log_var.exp()).sum() / len(mean)
    return 0.5 * (mean.shape[1] * math.log(2 * math.pi) + second_moment)


def moment_kl(posterior: Posterior, weights: Tensor | None = None) -> Tensor:
    """KL of the Gaussian with the aggregate's mean and covariance: a scalar in float64, nats.

    ``weights``, (n,), need not sum to 1; by default they are equal.

    The variances of the posteriors make the covariance S positive definite, even with fewer rows
    than components. S is not formed: a root of it is updated with each block of rows by a QR
    decomposition in float64, which is more accurate.
    """
    if weights is None:
        weights = posterior.mean.new_ones(len(posterior.mean))
    weights = _double(weights)
    split = (part.split(_BLOCK_ROWS) for part in (*posterior, weights / weights.sum()))
    blocks, zero = list(zip(*split, strict=True)), weights.new_zeros(())
    centre = sum((w @ _double(mean) for mean, _, w in blocks), start=zero)
    variance = sum((w @ _double(log_var).exp() for _, log_var, w in blocks), start=zero)
    root = torch.diag(variance.sqrt())  # S = root^T root
    for mean, _, w in blocks:
        rows = torch.cat([root, w.sqrt()[:, None] * (_double(mean) - centre)])
        root = torch.linalg.qr(rows, mode="reduced" if rows.requires_grad else "r").R
    second_moment = root.square().sum() + centre.square().sum()
    return 0.5 * (second_moment - len(root)) - root.diagonal().abs().log().sum()


def _double(part: Tensor) -> Tensor:
    """Convert to float64, on the CPU if the device is MPS, which has no float64."""
    return (part.cpu() if part.device.type == "mps" else part).double()


def aggregate_kl_bound(
    posterior: Posterior, bound: str, z: Tensor | None = None, basis: Tensor | None = None
) -> Tensor:
    """Bound on or estimate of KL(q || p) for the aggregate q of n posteriors.

    Parameters
    ----------
    posterior : Posterior of n rows

    bound : {"jensen", "renyi", "moment", "monte_carlo", "sliced"}

    z : Tensor of shape (n, K), default=None
        One draw from each posterior, for "monte_carlo" and "sliced".

    basis : Tensor of shape (K, K), default=None
        Orthonormal columns, the lines of "sliced".

    Returns
    -------
    Tensor, scalar
        Nats.
    """
    if bound == "moment":
        return moment_kl(posterior).to(posterior.mean)
    if bound == "sliced":
        assert z is not None
        assert basis is not None
        return sliced_kl(z, basis)
    if bound == "monte_carlo":
        assert z is not None
        log_means = log_mean_overlap(z, _log_var_of_points(z), *posterior)
    else:
        log_means = log_mean_overlap(*posterior)
    return _negative_entropy(log_means, bound) + cross_entropy(posterior)


def _negative_entropy(log_means: Tensor, bound: str) -> Tensor:
    """Estimate of E_q log q from the log mean overlap or density of each row: a scalar."""
    if bound == "renyi":
        return torch.logsumexp(log_means, dim=0) - math.log(len(log_means))
    return log_means.mean()


def _log_var_of_points(z: Tensor) -> Tensor:
    return torch.full_like(z, -math.inf)


class AggregateKL(nn.Module):
    r"""``weight`` times a weighted sum of bounds on KL(aggregate posterior || prior).

    At most one of the bounds is over pairs of posteriors.

    If ``width`` is None, the aggregate is that of the batch of n rows, and "jensen" is a mean over
    m of them (see Notes of :class:`WiSEALE`). The order of the batch is random in training, where
    the first m rows are taken; in evaluation more rows are drawn with batch.generator.

    With a width, the aggregate in training has the batch of n rows and up to ``width`` - n
    posteriors of earlier batches, which are stored in a bank. A row has the weight 1/N in its own
    sum, where N is the size of the data set, and the other rows share the rest. The expected sum
    is that over all N rows, and the sum is exact if all rows are present.

    Posteriors in the bank are constants, but their sums depend on the batch. The gradient of these
    sums by the batch is included, with the normalisers of their last visit, because a posterior
    must take its effect on the sums of other rows into account. With a bank of all rows the
    gradient is that of the full sum. A smaller bank is not scaled up to N rows here: the few
    overlapping pairs would be multiplied by N over the width, and so would their noise.
    """

    def __init__(
        self,
        shares: dict[str, float],
        weight: float,
        width: int | None,
        n_neighbors: int = 0,
        neighbor_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.shares = shares
        self.weight = weight
        self.width = width
        self.n_neighbors = n_neighbors
        self.neighbor_weight = neighbor_weight
        self.bank: PosteriorBank | None = None

    def reset(self) -> None:
        """Remove the posteriors of earlier batches, at the start of a fit."""
        self.bank = None

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the bank, which is filled again."""
        return {**self.__dict__, "_modules": {**self._modules, "bank": None}}

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Create the bank of a training state before its tensors are copied."""
        lines = state_dict.get(f"{prefix}bank.lines")
        if lines is not None and not len(lines):
            raise ValueError("it has a bank without lines")
        self.bank = None if lines is None else PosteriorBank(len(lines), False, lines)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def forward(self, posterior: Posterior, z: Tensor, batch: Batch) -> Tensor:
        """Return the divergence of the aggregate and the neighbours' term, a scalar, nats."""
        divergence = self._aggregate_kl(posterior, z, batch)
        if batch.neighbors is None:
            return divergence
        contrast = neighbor_contrast(posterior.mean, batch.neighbors.mean)
        return divergence + self.neighbor_weight * contrast

    def _aggregate_kl(self, posterior: Posterior, z: Tensor, batch: Batch) -> Tensor:
        """Return the divergence of the aggregate, a scalar, nats."""
        basis = random_basis(z, batch.generator) if "sliced" in self.shares else None
        if self.width is None:
            return self._drawn_kl(posterior, z, batch, basis)
        if not batch.training or batch.rows is None or self.width <= len(z):
            values = (
                share * aggregate_kl_bound(posterior, bound, z, basis)
                for bound, share in self.shares.items()
            )
            return self.weight * sum(values, start=z.new_zeros(()))
        bank = self._bank_for(posterior, z, batch.n_samples, self.width)
        bank.forget(batch.rows)
        lines, held = bank.held()
        known = _Known.of(lines, held)
        divergence, log_norm = z.new_zeros(()), torch.zeros_like(z[:, 0])
        for bound, share in self.shares.items():
            value, log_sums = _wide_kl(posterior, z, bound, known, batch.n_samples, basis)
            divergence = divergence + share * value
            log_norm = log_norm + log_sums
        bank.remember(batch.rows, torch.cat([*posterior, z, log_norm[:, None]], dim=1))
        return self.weight * divergence

    def _drawn_kl(
        self, posterior: Posterior, z: Tensor, batch: Batch, basis: Tensor | None
    ) -> Tensor:
        """Return the divergence of the batch's aggregate, with "jensen" over some rows."""
        mean, log_var = (part.detach() for part in posterior)
        n, k = mean.shape
        value = z.new_zeros(())
        by_mean = by_log_var = by_z = None
        if "jensen" in self.shares:
            share = self.weight * self.shares["jensen"]
            m = max(1, min(n, _TRAINING_ROWS, _TRAINING_NUMBERS // (n * k)))
            rows: slice | Tensor = slice(0, m)
            if not batch.training:  # the order of the rows is not random
                order = torch.randperm(n, generator=batch.generator, device=mean.device)
                rows = order[: max(_EVALUATION_ROWS, _EVALUATION_NUMBERS // (n * k))]
            overlap, by_mean, by_log_var = drawn_overlap_and_gradient(mean, log_var, rows)
            value = share * (overlap + cross_entropy(Posterior(mean, log_var)))
            by_mean = by_mean.add(mean, alpha=1 / n).mul_(share)
            by_log_var = by_log_var.add(log_var.exp(), alpha=0.5 / n).mul_(share)
        if "sliced" in self.shares:
            assert basis is not None
            share = self.weight * self.shares["sliced"]
            sliced, by_z = sliced_kl_and_gradient(z.detach(), basis)
            value = value + share * sliced
            by_z = by_z.mul_(share)
        parts = [(posterior.mean, by_mean), (posterior.log_var, by_log_var), (z, by_z)]
        inputs, gradients = zip(*((x, g) for x, g in parts if g is not None), strict=True)
        return with_gradient(value, inputs, gradients)

    def _bank_for(
        self, posterior: Posterior, z: Tensor, n_samples: int, width: int
    ) -> PosteriorBank:
        """Return the bank, a new one if it does not fit the data, the codes or the device."""
        all_rows = n_samples <= width
        capacity = n_samples if all_rows else width - len(z)
        bank = self.bank
        if (
            bank is None
            or bank.own_places != all_rows
            or (all_rows and bank.capacity != n_samples)
            or (bank.lines.device, bank.lines.dtype) != (z.device, z.dtype)
            or bank.lines.shape[1] != 3 * z.shape[1] + 1
        ):
            line = torch.cat([*posterior, z, z[:, :1]], dim=1)
            self.bank = bank = PosteriorBank(capacity, all_rows, line)
        return bank


class _Known(NamedTuple):
    """Posteriors in the bank."""

    mean: Tensor  # (a, K)
    log_var: Tensor  # (a, K)
    z: Tensor  # (a, K), one draw of each
    log_norm: Tensor  # (a, 1), log sum of the row when it was last in a batch
    held: Tensor  # (a,), 1, or 0 if the place is empty

    @classmethod
    def of(cls, lines: Tensor, held: Tensor) -> _Known:
        """Split the lines of the bank, (a, 3 K + 1)."""
        k = lines.shape[1] // 3
        mean, log_var, z, log_norm = lines.split([k, k, k, 1], dim=1)
        return cls(mean, log_var, z, log_norm, held)


class _Weights(NamedTuple):
    """Weights of the columns in the sums."""

    log_self: float  # of a row in its own sum, 1 / N
    log_others: Tensor  # scalar, of each other row of the batch
    log_known: Tensor  # (a,), of each posterior of the bank
    present: Tensor  # scalar, share of all N rows in the batch and the bank
    log_column_weights: Tensor  # (a,), of a row of the batch in the sums of the bank, normalised

    @classmethod
    def of(cls, n: int, known: _Known, n_samples: int) -> _Weights:
        """Return the weights for n rows of a batch, a bank, and n_samples rows in all."""
        n_columns = n + known.held.sum()  # a tensor, so that the host does not wait for the device
        others = torch.log((1 - 1 / n_samples) / (n_columns - 1).clamp(min=1))
        log_known = others + known.held.log()  # -inf for empty places
        present = n_columns / n_samples
        alone = n + len(known.mean) == 1
        shares = log_known + present.log() - known.log_norm[:, 0]
        return cls(0.0 if alone else -math.log(n_samples), others, log_known, present, shares)


def _wide_kl(
    posterior: Posterior,
    z: Tensor,
    bound: str,
    known: _Known,
    n_samples: int,
    basis: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Divergence of the aggregate of a batch and a bank, and the log sums over pairs, (n,)."""
    if bound == "moment":
        return _wide_moment_kl(posterior, known), torch.zeros_like(z[:, 0])
    if bound == "sliced":
        assert basis is not None
        return sliced_kl(z, basis, known.z, known.held), torch.zeros_like(z[:, 0])
    log_sums = _wide_log_sums(posterior, z, bound, known, _Weights.of(len(z), known, n_samples))
    return _negative_entropy(log_sums, bound) + cross_entropy(posterior), log_sums


def _wide_moment_kl(posterior: Posterior, known: _Known) -> Tensor:
    """``moment_kl`` of a batch and a bank."""
    rows = torch.ones_like(posterior.mean[:, 0])
    n_columns = len(rows) + known.held.sum()
    weights = torch.cat([rows, known.held])
    both = (torch.cat([a, b]) for a, b in zip(posterior, known[:2], strict=True))
    kl = moment_kl(Posterior(*both), weights).to(rows)
    # scale the gradient to that of a mean over the batch, as in other terms of the objective
    return kl.detach() + n_columns / len(rows) * (kl - kl.detach())


def _wide_log_sums(
    posterior: Posterior, z: Tensor, bound: str, known: _Known, weights: _Weights
) -> Tensor:
    """Log sums of overlaps, or of densities at z, of each row of a batch: (n,).

    Their gradient includes that of the log sums of the bank's rows.
    """
    n = len(z)
    within = weights.log_others.repeat(n, n).fill_diagonal_(weights.log_self)
    if bound == "monte_carlo":
        draws = z, _log_var_of_points(z)
        log_sums = log_mean_overlap(*draws, *posterior, within)
    else:
        log_sums = log_mean_overlap(*posterior, log_weights=within)
    if len(known.mean) == 0:
        return log_sums
    columns, by_column = (known.mean, known.log_var, weights.log_known), weights.log_column_weights
    if bound == "jensen":
        return compute_log_mean_overlap(*posterior, *columns, log_sums, by_column)
    if bound == "renyi":  # the double sum is symmetric: a pair with the bank is in it twice
        mean, log_var = (part + weights.present * (part - part.detach()) for part in posterior)
        return compute_log_mean_overlap(mean, log_var, *columns, log_sums)
    log_sums = compute_log_mean_overlap(*draws, *columns, log_sums)
    nothing, zero = torch.full_like(weights.log_known, -math.inf), torch.zeros_like(log_sums)
    known_draws = known.z, _log_var_of_points(known.z), nothing
    # the second term is zero and has the gradient of the densities at the bank's draws
    return log_sums + compute_log_mean_overlap(*posterior, *known_draws, zero, by_column)


class WiSEALE(Objective):
    r"""Wide-sample estimator: reconstruction + weight * KL(aggregate posterior || prior).

    .. math::

        \mathcal{L} = \frac1N \sum_i \mathbb{E}_{q_i} \log p(x_i | z)
                      - \text{weight} \cdot \mathrm{KL}\Big(\frac1N \sum_i q_i \,\Big\|\, p\Big)

    The ELBO compares every single posterior with the prior. WiSE-ALE compares their mixture: the
    posterior of a sample may be narrow and lie anywhere, if all posteriors together fill the prior.

    Parameters
    ----------
    bound : {"blend", "jensen", "renyi", "moment", "monte_carlo", "sliced"}, default="blend"
        How KL(q || p) is computed. "jensen" and the looser "renyi" are upper bounds; "moment"
        (the KL of the Gaussian with the same mean and covariance) and "sliced" (from draws that
        are projected on the lines of a random basis) are lower bounds. "monte_carlo" is an
        estimate from one draw of each posterior. "blend" is
        ``(1 - sliced_share) * jensen + sliced_share * sliced``.

    weight : float or "auto", default="auto"
        Factor of the divergence; 0 gives an autoencoder with noisy codes. "auto" depends on
        n_features and n_components, see Notes.

    width : int or "auto", default="auto"
        Number of posteriors in the aggregate in training: the batch, and posteriors of earlier
        batches. At most all rows. Numbers up to the batch size use the batch alone. "auto" is
        4096, but for "blend" it is the batch, with "jensen" over some of its rows, see Notes.

    sliced_share : float in [0, 1] or "auto", default="auto"
        Share of "sliced" in "blend"; other bounds ignore it. For "auto" see Notes.

    neighbors : int or "auto", default=0
        Number of nearest neighbours among the training rows that each row is kept close to, for
        maps. "auto" is 10; 0 leaves the term out. Its value is part of ``train_divergence`` in
        ``history_``. See Notes.

    neighbor_weight : float or "auto", default="auto"
        Factor of the neighbours' term. "auto" is n_features / n_components.

    See Also
    --------
    ELBO : Compares the posterior of every sample with the prior.

    Notes
    -----
    With many components, posteriors do not overlap, and "jensen" has the gradient of the ELBO: it
    keeps posteriors from becoming points, but hardly depends on how they lie relative to each
    other. "sliced" depends on that, and not on the width of single posteriors. "blend" uses both.

    With ``width="auto"``, the aggregate of "blend" is that of the batch of M rows, and "jensen" is
    a mean over m = max(1, min(M, 32, 2**17 // (M * K))) of them, drawn at random, each against all
    M. It is an unbiased estimate of "jensen" of the batch, whose expectation is an upper bound on
    KL(q || p), and so is its gradient. Up to log M nats of the mutual information of rows and
    codes, which the ELBO penalises, are free. An integer ``width`` gives a wider aggregate.

    Consider a linear model at its optimum with a Gaussian likelihood whose noise is learned, D
    features, K components and posteriors that do not overlap. If K components leave the residual
    R, its posterior variances are such that each component adds weight * noise variance, so that

    .. math::

        \text{noise variance} = R / (D - \text{weight} \cdot K).

    A weight above D / K makes the codes collapse. This does not apply to "sliced", which spreads
    the codes. ``weight="auto"`` is

    - ``min(1, 0.25 * D / K)`` of "jensen" plus ``min(25, 0.04 * D)`` of "sliced" for "blend".
      ``sliced_share="auto"`` divides smaller weights in the same proportion; of larger weights,
      the excess goes to "sliced";
    - ``min(25, 0.04 * D)`` for "sliced";
    - ``min(10, 0.08 * D / K)`` for the other bounds.

    With ``neighbors``, each training row is drawn together with one of its nearest neighbours,
    which are found once, among at most 65,536 rows and in at most 50 principal components. With
    codes :math:`\mu_i` of M rows, codes :math:`\nu_i` of their neighbours and the kernel
    :math:`k(a, b) = 1 / (1 + \tau \|a - b\|^2)`, the loss has the further term

    .. math::

        \text{neighbor weight} \cdot \frac1M \sum_i \log
        \frac{k(\mu_i, \nu_i) + \sum_{j \ne i} k(\mu_i, \mu_j)}{k(\mu_i, \nu_i)},

    with :math:`\tau` = 128 / variance of the codes, summed over components. It is the contrastive
    loss of van den Oord et al. with the kernel of t-SNE, which Damrich et al. compare with UMAP.
    It makes neighbours in maps of two components clearer, and on images the reconstruction too. On
    tables it may cost a little of the score, so it is off by default. New rows need no neighbours,
    and held-out rows are judged without the term. Classes given as y steer it, see
    :meth:`WiSEALETransformer.fit`. ``partial_fit`` does not support it.

    References
    ----------
    Damrich, Boehm, Hamprecht, Kobak (2023), *From t-SNE to UMAP with contrastive learning*,
    arXiv:2206.01816.

    Lin, Clark, Birke, Trigoni, Roberts (2019), *WiSE-ALE: Wide Sample Estimator for Approximate
    Latent Embedding*, arXiv:1902.06160.

    Nadjahi, Durmus, Chizat, Kolouri, Shahrampour, Simsekli (2020), *Statistical and Topological
    Properties of Sliced Probability Divergences*, arXiv:2003.05783.

    van den Oord, Li, Vinyals (2018), *Representation Learning with Contrastive Predictive Coding*,
    arXiv:1807.03748.

    Examples
    --------
    >>> from sklearn_wiseale import WiSEALETransformer
    >>> from sklearn_wiseale.objectives import WiSEALE
    >>> WiSEALETransformer(objective=WiSEALE(bound="moment", weight=5.0))
    WiSEALETransformer(objective=WiSEALE(bound='moment', weight=5.0))
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "bound": [StrOptions({"blend", *BOUNDS})],
        "weight": [*NON_NEGATIVE, StrOptions({"auto"})],
        "width": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "sliced_share": [Interval(Real, 0, 1, closed="both"), StrOptions({"auto"})],
        "neighbors": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "neighbor_weight": [*NON_NEGATIVE, StrOptions({"auto"})],
    }

    def __init__(
        self,
        bound: str = "blend",
        weight: float | str = "auto",
        width: int | str = "auto",
        sliced_share: float | str = "auto",
        neighbors: int | str = 0,
        neighbor_weight: float | str = "auto",
    ) -> None:
        self.bound = bound
        self.weight = weight
        self.width = width
        self.sliced_share = sliced_share
        self.neighbors = neighbors
        self.neighbor_weight = neighbor_weight

    def build(self, n_features: int, n_components: int) -> AggregateKL:
        self.check_parameters()
        ratio = n_features / n_components
        single, blended = (min(limit, part * ratio) for part, limit in (_SINGLE, _BLENDED))
        sliced = min(_SLICED[1], _SLICED[0] * n_features)
        auto_weight = {"blend": blended + sliced, "sliced": sliced}.get(self.bound, single)
        weight = auto_weight if self.weight == "auto" else float(self.weight)
        shares = {self.bound: 1.0}
        if self.bound == "blend":
            share = 1.0 - blended / max(weight, auto_weight)
            if self.sliced_share != "auto":
                share = float(self.sliced_share)
            shares = {"jensen": 1.0 - share, "sliced": share}
            shares = {bound: share for bound, share in shares.items() if share}
        if self.width != "auto":
            width: int | None = int(self.width)
        else:
            width = None if self.bound == "blend" else _AUTO_WIDTH
        n_neighbors = _NEIGHBORS if self.neighbors == "auto" else int(self.neighbors)
        automatic = self.neighbor_weight == "auto"
        by_neighbors = _BY_NEIGHBORS * ratio if automatic else float(self.neighbor_weight)
        return AggregateKL(shares, weight, width, n_neighbors, by_neighbors)
