"""scikit-learn's own callbacks, if its version has them: a task for each fit and each epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from skorch.callbacks import Callback

from .callbacks import StopTraining

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # before scikit-learn 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """In place of scikit-learn's."""

    def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
        """Return the method as it is."""
        return method


__all__ = ["CallbackSupportMixin", "FitTask", "with_callbacks"]


class FitTask(Callback):
    """Tells scikit-learn's callbacks when the fit and its epochs begin and end.

    Training stops if a callback returns True at the end of an epoch. ``snapshot`` returns the
    attributes that the estimator would have if training stopped now. With ``heard=False``, as in
    all processes but the first, no callback is told.
    """

    def __init__(
        self, estimator: Any, snapshot: Callable[[], dict[str, Any]], *, heard: bool = True
    ) -> None:
        self.estimator = estimator
        self.snapshot = snapshot
        self.fit_: Any = None
        self.epoch_: Any = None
        if heard and hasattr(estimator, "_init_callback_context"):
            self.fit_ = estimator._init_callback_context(max_subtasks=None)

    def begin(self, X: Any, y: Any) -> None:
        """The fit has begun; X is checked."""
        # callbacks that score pass over tasks without a target, which our score does not need
        target = (lambda: np.zeros(X.shape[0])) if y is None else y
        self.data_ = {"estimator": self.estimator, "X": X, "y": target}
        if self.fit_ is not None:
            self.fit_.call_on_fit_task_begin(**self.data_)

    def end(self) -> None:
        """The fit has ended."""
        if self.fit_ is not None:
            self.fit_.call_on_fit_task_end(**self.data_, reconstruction_attributes=self.snapshot)

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Open the epoch's task."""
        if self.fit_ is not None:
            self.epoch_ = self.fit_.subcontext(task_name="epoch")
            self.epoch_.call_on_fit_task_begin(**self.data_)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Close the epoch's task, and stop if a callback says so."""
        if self._close_epoch():
            raise StopTraining

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Close the task of an epoch that was the last."""
        self._close_epoch()

    def _close_epoch(self) -> bool:
        task, self.epoch_ = self.epoch_, None
        if task is None:
            return False
        return task.call_on_fit_task_end(**self.data_, reconstruction_attributes=self.snapshot)
