"""What the objective, the likelihood and the network of an estimator have in common."""

from __future__ import annotations

from typing import Any

from sklearn.base import BaseEstimator

__all__ = ["Part"]


class Part(BaseEstimator):
    """A specification that an estimator holds and never changes.

    A part carries parameters and nothing else, so that ``clone``, ``repr``,
    ``get_params`` and ``GridSearchCV`` treat it as they treat any scikit-learn
    object. The estimator's ``fit`` calls ``build``, which returns the torch
    module that carries state. Parameters are checked there, not in ``__init__``.
    """

    _parameter_constraints: dict[str, list[Any]] = {}

    def check_parameters(self) -> None:
        """Check every parameter against ``_parameter_constraints``.

        Raises
        ------
        ValueError
            Names the parameter, what is allowed and the value given.
        """
        self._validate_params()
