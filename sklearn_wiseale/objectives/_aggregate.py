r"""WiSE-ALE: the divergence of the aggregate posterior from the prior.

With posteriors :math:`q_i = \mathcal{N}(\mu_i, \operatorname{diag}(s_i))`, i = 1..N, and their
aggregate :math:`q = \frac1N \sum_i q_i`,

.. math::

    \mathrm{KL}(q \| p) = \mathbb{E}_q \log q + C, \qquad
    C = \tfrac{K}{2} \log 2\pi + \tfrac{1}{2N} \sum_{ik} (\mu_{ik}^2 + s_{ik}),

where only the first term lacks a closed form. Four estimates of it, ordered where they are bounds
(``moment`` <= KL <= ``jensen`` <= ``renyi``); ``sliced``, a lower bound of another make, is a sum
of divergences along lines:

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
from ._overlap.function import compute_log_mean_overlap, log_mean_overlap
from ._sliced import random_basis, sliced_kl, sliced_kl_and_gradient

__all__ = ["BOUNDS", "AggregateKL", "WiSEALE", "aggregate_kl_bound"]

BOUNDS = ("jensen", "renyi", "moment", "monte_carlo", "sliced")

# weight="auto": a part of the weight D / K at which codes collapse, and its upper limit
_ALONE = 0.08, 10.0
_BLENDED = 0.25, 1.0
# that of "sliced", a part of D: reconstruction weighs D times a logarithm of its error
_SLICED = 0.04, 25.0
_AUTO_WIDTH = 4096
#: Rows of a batch that are drawn for "jensen" in "blend", where width is "auto";
_DRAWN = 32
#: fewer where their pair-dimensions are more than this, many more where rows are judged.
_DRAWN_NUMBERS, _JUDGED_NUMBERS = 2**17, 2**20
_FEWEST_JUDGED = 4
#: Rows that "moment" takes to float64 at a time.
_BLOCK_ROWS = 2**16


def cross_entropy(posterior: Posterior) -> Tensor:
    """Cross-entropy C of the aggregate relative to the prior: a scalar, nats."""
    mean, log_var = posterior
    second_moment = (mean.square() + log_var.exp()).sum() / len(mean)
    return 0.5 * (mean.shape[1] * math.log(2 * math.pi) + second_moment)


def moment_kl(posterior: Posterior, weights: Tensor | None = None) -> Tensor:
    """KL of the Gaussian with the aggregate's mean and covariance: a scalar in float64, nats.

    Weights, (n,), are of any sum; by default they are equal.

    The posteriors' own variances keep the covariance S positive definite even when there are
    fewer rows than components, where the covariance of draws would be singular. S is never
    formed: the QR decomposition of a root of it, in float64, keeps digits that S would lose. It
    is merged with each block of rows.
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
    """In float64; on the CPU in place of MPS, which has no float64."""
    return (part.cpu() if part.device.type == "mps" else part).double()


def aggregate_kl_bound(
    posterior: Posterior, bound: str, z: Tensor | None = None, basis: Tensor | None = None
) -> Tensor:
    """Bound or estimate of KL(q || p) for the aggregate of the given posteriors.

    Parameters
    ----------
    posterior : Posterior of n rows

    bound : {"jensen", "renyi", "moment", "monte_carlo", "sliced"}

    z : Tensor of shape (n, K), default=None
        One draw from each posterior; needed by "monte_carlo" and "sliced".

    basis : Tensor of shape (K, K), default=None
        The lines of "sliced", orthonormal columns.

    Returns
    -------
    Tensor, scalar
        In nats.
    """
    if bound == "moment":
        return moment_kl(posterior).to(posterior.mean)
    if bound == "sliced":
        assert z is not None
        assert basis is not None
        return sliced_kl(z, basis)
    mean, log_var = posterior
    if bound == "monte_carlo":
        assert z is not None
        points = torch.full_like(z, -math.inf)  # log-variance of a point
        negative_entropy = log_mean_overlap(z, points, mean, log_var).mean()
    elif bound == "jensen":
        negative_entropy = log_mean_overlap(mean, log_var).mean()
    else:
        rows = log_mean_overlap(mean, log_var)
        negative_entropy = torch.logsumexp(rows, dim=0) - math.log(len(rows))
    return negative_entropy + cross_entropy(posterior)


class AggregateKL(nn.Module):
    r"""``weight`` times bounds on KL(aggregate posterior || prior), each with its share.

    At most one of them is over pairs of posteriors.

    Where ``width`` is None, the aggregate is that of the batch of n rows alone, and "jensen" is a
    mean over m of them, drawn at random, of sums over all n: unbiased for "jensen" of the batch,
    and so is its gradient. In training these are the first m = max(1, min(n, 32, 2**17 // (n K)))
    rows of the batch, whose order is random; in evaluation batch.generator draws many more. The
    batch's "jensen" is an upper bound in expectation, and leaves up to log n nats uncharged.

    With a width, the aggregate in training is that of a batch of n rows and of ``width`` - n
    posteriors of earlier batches, held in a bank. A row counts for 1/N in its own sum, N being
    the size of the data set, and the others share the rest: so the sum is that over all N rows in
    expectation, and exactly where they are all there.

    Posteriors in the bank are constants. The terms of their own rows, which have the batch among
    their columns, enter the gradient with the normaliser of their last visit: without them a
    posterior would feel what it does to its own row and not what it does to others. With a bank
    of all rows the gradient is that of the full sum. With fewer, the rows at hand are not taken
    to stand for the others in this second role: the few terms that overlap would be scaled up
    by N over the width, and their noise with them.
    """

    def __init__(self, shares: dict[str, float], weight: float, width: int | None) -> None:
        super().__init__()
        self.shares = shares
        self.weight = weight
        self.width = width
        self.bank: PosteriorBank | None = None

    def reset(self) -> None:
        """Forget the posteriors of earlier batches: another fit begins."""
        self.bank = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the bank, which fills again."""
        return {**self.__dict__, "_modules": {**self._modules, "bank": None}}

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Make room for the bank of a training state before it is filled from it."""
        lines = state_dict.get(f"{prefix}bank.lines")
        if lines is not None and not len(lines):
            raise ValueError("it has a bank without lines")
        self.bank = None if lines is None else PosteriorBank(len(lines), False, lines)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def forward(self, posterior: Posterior, z: Tensor, batch: Batch) -> Tensor:
        """Divergence of the aggregate: a scalar, nats."""
        basis = None
        if "sliced" in self.shares:
            basis = random_basis(z, batch.generator)
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
            value, rows = _wide_kl(posterior, z, bound, known, batch.n_samples, basis)
            divergence = divergence + share * value
            log_norm = log_norm + rows
        bank.remember(batch.rows, torch.cat([*posterior, z, log_norm[:, None]], dim=1))
        return self.weight * divergence

    def _drawn_kl(
        self, posterior: Posterior, z: Tensor, batch: Batch, basis: Tensor | None
    ) -> Tensor:
        """Divergence of the aggregate of the batch, "jensen" over some of its rows."""
        mean, log_var = (part.detach() for part in posterior)
        n, k = mean.shape
        value = z.new_zeros(())
        by_mean = by_log_var = by_z = None
        if "jensen" in self.shares:
            share = self.weight * self.shares["jensen"]
            rows: slice | Tensor = slice(0, max(1, min(n, _DRAWN, _DRAWN_NUMBERS // (n * k))))
            if not batch.training:  # which come in an order of their own
                order = torch.randperm(n, generator=batch.generator, device=mean.device)
                rows = order[: max(_FEWEST_JUDGED, _JUDGED_NUMBERS // (n * k))]
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
        """The bank, made anew where data, codes or device ask for another."""
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
    """Posteriors that a bank holds."""

    mean: Tensor  # (a, K)
    log_var: Tensor  # (a, K)
    z: Tensor  # (a, K), a draw of each
    log_norm: Tensor  # (a, 1), each one's own row when it was last computed
    held: Tensor  # (a,), 1 or 0

    @classmethod
    def of(cls, lines: Tensor, held: Tensor) -> _Known:
        """From the bank's lines: mean, log-variance, draw and normaliser side by side."""
        k = lines.shape[1] // 3
        return cls(
            lines[:, :k], lines[:, k : 2 * k], lines[:, 2 * k : 3 * k], lines[:, 3 * k :], held
        )


class _Weights(NamedTuple):
    """What columns count for in the sum of a row."""

    log_self: float  # the row itself, 1 / N
    log_others: Tensor  # scalar; each other row of the batch
    log_known: Tensor  # (a,), each posterior of the bank
    present: Tensor  # scalar, the part of all N rows that is at hand
    log_column_weights: Tensor  # (a,), of a row in the sums of the bank's posteriors, over these

    @classmethod
    def of(cls, n: int, known: _Known, n_samples: int) -> _Weights:
        """For a batch of n rows of a data set of n_samples, and a bank."""
        n_columns = n + known.held.sum()  # a tensor: nothing waits for the device
        others = torch.log((1 - 1 / n_samples) / (n_columns - 1).clamp(min=1))
        log_known = others + known.held.log()  # -inf where nothing is held
        present = n_columns / n_samples
        alone = n + len(known.mean) == 1
        shares = log_known + present.log() - known.log_norm[:, 0]
        return cls(0.0 if alone else -math.log(n_samples), others, log_known, present, shares)

    def within(self, n: int) -> Tensor:
        """Log-weights of the batch in its own sums: (n, n)."""
        return self.log_others.repeat(n, n).fill_diagonal_(self.log_self)


def _wide_kl(
    posterior: Posterior,
    z: Tensor,
    bound: str,
    known: _Known,
    n_samples: int,
    basis: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Divergence of the aggregate of a batch and a bank; log sums of the rows over pairs, (n,)."""
    if bound == "moment":
        return _wide_moment_kl(posterior, known), torch.zeros_like(z[:, 0])
    if bound == "sliced":
        assert basis is not None
        return sliced_kl(z, basis, known.z, known.held), torch.zeros_like(z[:, 0])
    weights = _Weights.of(len(z), known, n_samples)
    if bound == "jensen":
        rows = _wide_overlap(posterior, known, weights)
        negative_entropy = rows.mean()
    elif bound == "renyi":
        rows = _wide_symmetric_overlap(posterior, known, weights)
        negative_entropy = torch.logsumexp(rows, dim=0) - math.log(len(rows))
    else:
        rows = _wide_density(z, posterior, known, weights)
        negative_entropy = rows.mean()
    return negative_entropy + cross_entropy(posterior), rows


def _wide_moment_kl(posterior: Posterior, known: _Known) -> Tensor:
    """``moment_kl`` of a batch and a bank."""
    rows = torch.ones_like(posterior.mean[:, 0])
    n_columns = len(rows) + known.held.sum()
    weights = torch.cat([rows, known.held])
    both = (torch.cat([a, b]) for a, b in zip(posterior, known[:2], strict=True))
    kl = moment_kl(Posterior(*both), weights).to(rows)
    # a row has the n-th part of a batch in its gradient, as in other terms of the objective
    return kl.detach() + n_columns / len(rows) * (kl - kl.detach())


def _wide_overlap(posterior: Posterior, known: _Known, weights: _Weights) -> Tensor:
    """Log sums of overlaps: (n,); with the gradient of the sums of the bank's rows as well."""
    rows = log_mean_overlap(*posterior, log_weights=weights.within(len(posterior.mean)))
    if len(known.mean) == 0:
        return rows
    return compute_log_mean_overlap(
        *posterior,
        known.mean,
        known.log_var,
        weights.log_known,
        start=rows,
        log_column_weights=weights.log_column_weights,
    )


def _wide_symmetric_overlap(posterior: Posterior, known: _Known, weights: _Weights) -> Tensor:
    """Log sums of overlaps: (n,); with a gradient for a sum that is symmetric in all pairs.

    A pair with the bank counts in it in both its roles.
    """
    rows = log_mean_overlap(*posterior, log_weights=weights.within(len(posterior.mean)))
    if len(known.mean) == 0:
        return rows
    mean, log_var = (part + weights.present * (part - part.detach()) for part in posterior)
    return compute_log_mean_overlap(
        mean, log_var, known.mean, known.log_var, weights.log_known, start=rows
    )


def _wide_density(z: Tensor, posterior: Posterior, known: _Known, weights: _Weights) -> Tensor:
    """Log densities of the aggregate at the draws z: (n,)."""
    points, known_points = (torch.full_like(t, -math.inf) for t in (z, known.z))
    rows = log_mean_overlap(z, points, *posterior, weights.within(len(z)))
    if len(known.mean) == 0:
        return rows
    rows = compute_log_mean_overlap(
        z, points, known.mean, known.log_var, weights.log_known, start=rows
    )
    nothing = torch.full_like(weights.log_known, -math.inf)
    return rows + compute_log_mean_overlap(
        posterior.mean,
        posterior.log_var,
        known.z,
        known_points,
        nothing,
        start=torch.zeros_like(rows),
        log_column_weights=weights.log_column_weights,
    )  # 0, but for its gradient


class WiSEALE(Objective):
    r"""Wide-sample estimator: reconstruction + weight * KL(aggregate posterior || prior).

    .. math::

        \mathcal{L} = \frac1N \sum_i \mathbb{E}_{q_i} \log p(x_i | z)
                      - \text{weight} \cdot \mathrm{KL}\Big(\frac1N \sum_i q_i \,\Big\|\, p\Big)

    Where the ELBO asks every single posterior to look like the prior, this asks it of their
    mixture: a sample's posterior may be narrow and lie anywhere as long as the bulk of the
    codes fills the prior.

    Parameters
    ----------
    bound : {"blend", "jensen", "renyi", "moment", "monte_carlo", "sliced"}, default="blend"
        How KL(q || p) is computed. "jensen" and the looser "renyi" are upper bounds; "moment"
        (the KL of the Gaussian with the same mean and covariance) and "sliced" (of draws,
        projected on the lines of a random basis) are lower bounds, and "monte_carlo" is an
        estimate from one draw of each posterior. "blend" lies between two of the bounds:
        ``(1 - sliced_share)`` parts of "jensen", ``sliced_share`` of "sliced".

    weight : float or "auto", default="auto"
        Multiplies the divergence; 0 leaves an autoencoder with noise on its codes. "auto" is a
        rule in n_features and n_components, see Notes.

    width : int or "auto", default="auto"
        Posteriors in the aggregate in training, those of the batch included; the others come
        from earlier batches. At most all rows. 1, as any number up to the batch size, leaves
        the batch alone. "auto" is the batch alone for "blend", which then takes "jensen" over some
        of its rows, see Notes; it is 4096 for the others.

    sliced_share : float in [0, 1] or "auto", default="auto"
        Part of "sliced" in "blend", see Notes for "auto"; other bounds ignore it.

    See Also
    --------
    ELBO : Charges for every sample's own posterior.

    Notes
    -----
    Where components are many, posteriors do not overlap, and "jensen" has the ELBO's gradient: it
    keeps posteriors from becoming needles, and hardly sees how they lie among each other.
    "sliced" sees just that, and leaves their width alone. Hence "blend".

    With ``width="auto"``, "blend" takes the batch of M rows as the aggregate, and "jensen" over 32
    rows of it drawn at random, each against all M. That is unbiased for "jensen" of the batch, and
    so is its gradient. Where M * K is large there are fewer: max(1, min(M, 32, 2**17 // (M * K))).
    The batch's bound is an upper bound in expectation, and at most log M nats of what codes tell
    about their rows go uncharged. A number for ``width`` brings the wider aggregate back.

    With a Gaussian likelihood whose noise is learned, D features, K components and non-overlapping
    posteriors, a linear model at its optimum has posterior variances such that each component
    adds weight * noise variance to the residual R that K components leave, so that

    .. math::

        \text{noise variance} = R / (D - \text{weight} \cdot K).

    A weight above D / K makes the codes collapse. Bounds other than "sliced", which asks for
    spread, use part of that budget. With ``weight="auto"`` the weight is

    - ``min(1, 0.25 * D / K)`` of "jensen" plus ``min(25, 0.04 * D)`` of "sliced" for "blend".
      ``sliced_share="auto"`` divides smaller weights in the same proportion; of a larger one all
      that is beyond goes to "sliced";
    - ``min(25, 0.04 * D)`` for "sliced" alone, ``min(10, 0.08 * D / K)`` for the others.

    References
    ----------
    Lin, Clark, Birke, Trigoni, Roberts (2019), *WiSE-ALE: Wide Sample Estimator for Approximate
    Latent Embedding*, arXiv:1902.06160.

    Nadjahi, Durmus, Chizat, Kolouri, Shahrampour, Simsekli (2020), *Statistical and Topological
    Properties of Sliced Probability Divergences*, arXiv:2003.05783.

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
    }

    def __init__(
        self,
        bound: str = "blend",
        weight: float | str = "auto",
        width: int | str = "auto",
        sliced_share: float | str = "auto",
    ) -> None:
        self.bound = bound
        self.weight = weight
        self.width = width
        self.sliced_share = sliced_share

    def build(self, n_features: int, n_components: int) -> AggregateKL:
        """Return the divergence as a torch module."""
        self.check_parameters()
        ratio = n_features / n_components
        alone, blended = (min(limit, part * ratio) for part, limit in (_ALONE, _BLENDED))
        sliced = min(_SLICED[1], _SLICED[0] * n_features)
        auto_weight = {"blend": blended + sliced, "sliced": sliced}.get(self.bound, alone)
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
        return AggregateKL(shares, weight, width)
