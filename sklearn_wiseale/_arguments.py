"""What single arguments may be; each refusal names the argument, what is allowed and the value."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval as _Interval

__all__ = ["Interval", "are_counts", "check_count", "check_seed"]


class Interval(_Interval):
    """scikit-learn's, which takes booleans for the numbers 0 and 1."""

    def is_satisfied_by(self, val: Any) -> bool:
        """Whether a value is a number of the interval."""
        return not isinstance(val, bool) and super().is_satisfied_by(val)


def are_counts(values: Any, least: int = 1) -> bool:
    """Whether values are a sequence of ints >= least, or an empty one."""
    return np.iterable(values) and all(
        isinstance(v, Integral) and not isinstance(v, bool) and int(v) >= least for v in values
    )


def check_count(name: str, value: Any, least: int = 1) -> int:
    """Return value if it is an int >= least; else raise a ValueError that names it."""
    if not are_counts([value], least):
        raise ValueError(f"{name} must be an int >= {least}. Got {value!r}.")
    return int(value)


def check_seed(random_state: Any) -> np.random.RandomState:
    """Return the generator that random_state stands for, as scikit-learn's check does."""
    try:
        return check_random_state(random_state)
    except ValueError as error:
        raise ValueError(
            "random_state must be an int from 0 to 2**32 - 1, a RandomState instance or None. "
            f"Got {random_state!r}."
        ) from error
