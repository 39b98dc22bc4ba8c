"""The meaning of "auto": rows held out, batch size, learning rate, epochs.

The numbers were set by measurement, with ``examples/benchmarks/speed.py``.
"""

from __future__ import annotations

import numpy as np

__all__ = ["batch_size", "learning_rate", "n_epochs", "split_rows"]

#: Maximum numbers of held-out rows and of numbers in them.
_MAX_HELD_OUT = 2048
_MAX_HELD_OUT_NUMBERS = 2**24
#: Of few rows, up to a third is held out, to have at least this many.
_FEW_HELD_OUT = 12
#: Limits of the batch size, and the number of batches to aim at.
_BATCH_SIZES = (32, 256)
_BATCHES = 8
#: Highest learning rate for a batch of 64 rows, and the number of columns up to which it holds.
_RATE = 8e-3
_FAST_COLUMNS = 16
#: Constant learning rate of partial_fit, whose end is not known.
_HELD_RATE = 1e-3
#: max_epochs="auto": fewest steps to aim at, their factor of the square root of n_samples, and the
#: limits of the number of epochs.
_STEPS = 600
_STEPS_A_ROOT = 10.0
_EPOCHS = (2, 60)


def split_rows(
    n: int, n_features: int, fraction: float, rng: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Sorted numbers of the rows to train on and of the rows to hold out.

    Raises a ValueError if no row is left to train on.
    """
    most = min(_MAX_HELD_OUT, max(1, _MAX_HELD_OUT_NUMBERS // n_features))
    n_held_out = min(max(1, round(fraction * n), min(_FEW_HELD_OUT, n // 3)), most)
    if n_held_out >= n:
        raise ValueError(
            f"validation_fraction={fraction} of n_samples={n} leaves no row to train on. Lower "
            "it, or use early_stopping=False."
        )
    order = rng.permutation(n)
    return np.sort(order[n_held_out:]), np.sort(order[:n_held_out])


def batch_size(asked: int | str, n: int, n_processes: int) -> int:
    """Rows of a step in all processes together; the parameter counts those of each process."""
    if asked != "auto":
        return min(int(asked) * n_processes, n)
    return int(np.clip(2 ** np.round(np.log2(n / _BATCHES)), *_BATCH_SIZES))


def learning_rate(asked: float | str, batch: int, n_features: int, *, decays: bool) -> float:
    """Highest rate of the schedule, which decays to zero in ``fit`` and not in ``partial_fit``."""
    if asked != "auto":
        return float(asked)
    rate = _RATE if decays else _HELD_RATE
    rate *= (_FAST_COLUMNS / max(n_features, _FAST_COLUMNS)) ** 0.5
    return max(rate, _HELD_RATE) * (batch / 64) ** 0.5


def n_epochs(asked: int | str, n: int, batch: int) -> int:
    """Maximum number of epochs of a fit."""
    if asked != "auto":
        return int(asked)
    steps = max(_STEPS, _STEPS_A_ROOT * n**0.5)
    return int(np.clip(np.ceil(steps / -(-n // batch)), *_EPOCHS))
