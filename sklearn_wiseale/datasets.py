"""Synthetic data with known factors."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np

from ._data.validation import check_count, check_seed

__all__ = ["make_sine_waves"]


def make_sine_waves(
    n_samples: int = 1000,
    n_timesteps: int = 100,
    *,
    amplitude: float | tuple[float, float] = (0.5, 1.0),
    frequency: float | tuple[float, float] = (1.0, 3.0),
    phase: float | tuple[float, float] = (0.0, 2 * math.pi),
    noise: float = 0.05,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Noisy sine waves, each with its own amplitude, frequency and phase.

    Row i, on the regular grid :math:`t_j = j / \text{n\_timesteps}` of the unit interval, is

    .. math::

        x_{ij} = a_i \sin(2 \pi f_i t_j + \varphi_i) + \varepsilon_{ij}, \qquad
        \varepsilon_{ij} \sim \mathcal{N}(0, \text{noise}^2),

    with three independent factors, uniformly distributed on their ranges. The synthetic experiment
    of the WiSE-ALE paper embeds such waves; its ranges are not the defaults here. Waves of a single
    frequency lie in a plane. Waves of different frequencies lie on a curved surface, which needs
    more linear components than there are factors.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of waves.

    n_timesteps : int, default=100
        Points in time at which each wave is sampled.

    amplitude : float or tuple (low, high), default=(0.5, 1.0)
        Range of the amplitude, or a fixed one, in units of X. At least 0.

    frequency : float or tuple (low, high), default=(1.0, 3.0)
        Range of the frequency, or a fixed one, in cycles per unit interval. At least 0 and at most
        ``n_timesteps / 2``; higher frequencies give the same rows as lower ones.

    phase : float or tuple (low, high), default=(0.0, 2 * pi)
        Range of the phase, or a fixed one, in radians.

    noise : float, default=0.05
        Standard deviation of the Gaussian noise, in units of X.

    random_state : int, RandomState instance or None, default=None
        For the factors and the noise. Waves of the same seed have the same factors for any
        ``noise``.

    Returns
    -------
    X : ndarray of shape (n_samples, n_timesteps)
        The waves, float64.

    y : ndarray of shape (n_samples, 3)
        Amplitude, frequency and phase of each wave.

    Raises
    ------
    ValueError
        If a count is not an int >= 1, a range is not a finite number or an ordered pair of them
        within its limits, or ``noise`` is not a finite number >= 0.

    References
    ----------
    Lin, Clark, Birke, Trigoni, Roberts (2019), *WiSE-ALE: Wide Sample Estimator for Approximate
    Latent Embedding*, arXiv:1902.06160.

    Examples
    --------
    >>> from sklearn_wiseale.datasets import make_sine_waves
    >>> X, y = make_sine_waves(200, 50, frequency=2.0, noise=0.0, random_state=0)
    >>> X.shape, y.shape
    ((200, 50), (200, 3))
    >>> bool((abs(X).max(axis=1) <= y[:, 0]).all())  # no wave exceeds its amplitude
    True
    """
    n_samples = check_count("n_samples", n_samples)
    n_timesteps = check_count("n_timesteps", n_timesteps)
    if not (_is_finite_number(noise) and noise >= 0):
        raise ValueError(f"noise must be a finite number >= 0. Got {noise!r}.")
    ranges = (
        _range("amplitude", amplitude, 0.0, math.inf),
        _range("frequency", frequency, 0.0, n_timesteps / 2),
        _range("phase", phase, -math.inf, math.inf),
    )
    rng = check_seed(random_state)
    low, high = np.transpose(ranges)
    factors = rng.uniform(low, high, size=(n_samples, 3))
    a, f, phi = factors.T[:, :, None]  # (n_samples, 1) each
    time = np.arange(n_timesteps) / n_timesteps
    waves = a * np.sin(2 * np.pi * f * time + phi)
    return waves + noise * rng.standard_normal(waves.shape), factors


def _is_finite_number(value: Any) -> bool:
    """Return whether a value is a real number, and not infinite, NaN or a boolean."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _range(name: str, value: Any, lowest: float, highest: float) -> tuple[float, float]:
    """Return the range of a factor as (low, high), after a check of its limits."""
    ends: Any = (value, value) if np.isscalar(value) else value
    try:
        low, high = ends
        allowed = _is_finite_number(low) and _is_finite_number(high)
        allowed = allowed and lowest <= low <= high <= highest
    except (TypeError, ValueError):
        allowed = False
    if allowed:
        return float(low), float(high)
    limits = [f">= {lowest:g}"] if math.isfinite(lowest) else []
    limits += [f"<= {highest:g}"] if math.isfinite(highest) else []
    within = f", each {' and '.join(limits)}" if limits else ""
    raise ValueError(
        f"{name} must be a finite number or a pair (low, high) of them with low <= high{within}. "
        f"Got {value!r}."
    )
