"""What training does where the user leaves it open: rows held out, batches, rate, epochs.

The numbers were set by measurement, with ``examples/benchmarks/speed.py``.
"""

from __future__ import annotations

import numpy as np

__all__ = ["batch_size", "learning_rate", "n_epochs", "split_rows"]

#: At most so many rows, and so many numbers, are held out.
_MAX_HELD_OUT = 2048
_MAX_HELD_OUT_NUMBERS = 2**24
#: Up to a third of few rows is held out, to have so many to judge by.
_FEW_HELD_OUT = 12
#: Rows of a batch, and the share of all rows that it aims at.
_BATCH_SIZES = (32, 256)
_BATCHES = 8
#: Highest learning rate of a batch of 64 rows, and the columns up to which it is that high.
_RATE = 8e-3
_FAST_COLUMNS = 64
#: Learning rate of partial_fit, whose end is not known: it is held.
_HELD_RATE = 1e-3
#: Steps that max_epochs="auto" aims at, at least; the factor of the square root of n_samples; and
#: the epochs that it allows itself.
_STEPS = 600
_STEPS_A_ROOT = 10.0
_EPOCHS = (2, 60)


def split_rows(
    n: int, n_features: int, fraction: float, rng: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the rows to train on and of the rows held out, each in order.

    Raises
    ------
    ValueError
        If no row is left to train on.
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
    """Rows of a step, of all processes together; a number is that of each process."""
    if asked != "auto":
        return min(int(asked) * n_processes, n)
    return int(np.clip(2 ** np.round(np.log2(n / _BATCHES)), *_BATCH_SIZES))


def learning_rate(asked: float | str, batch: int, n_features: int, *, decays: bool) -> float:
    """Highest rate of the schedule, which decays to zero in ``fit`` and not in ``partial_fit``."""
    if asked != "auto":
        return float(asked)
    rate = _RATE if decays else _HELD_RATE
    rate *= (_FAST_COLUMNS / max(n_features, _FAST_COLUMNS)) ** 0.75
    return max(rate, _HELD_RATE) * (batch / 64) ** 0.5


def n_epochs(asked: int | str, n: int, batch: int) -> int:
    """Epochs of a fit, at most."""
    if asked != "auto":
        return int(asked)
    steps = max(_STEPS, _STEPS_A_ROOT * n**0.5)
    return int(np.clip(np.ceil(steps / -(-n // batch)), *_EPOCHS))
