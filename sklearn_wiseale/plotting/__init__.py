"""Displays of a fitted transformer, in scikit-learn's manner; they need matplotlib."""

from ._embedding import EmbeddingDisplay
from ._explanation import ContributionsDisplay, ExplainedVarianceDisplay, LoadingsDisplay
from ._reconstruction import ReconstructionDisplay
from ._training import TrainingDisplay
from ._traversal import TraversalDisplay

__all__ = [
    "ContributionsDisplay",
    "EmbeddingDisplay",
    "ExplainedVarianceDisplay",
    "LoadingsDisplay",
    "ReconstructionDisplay",
    "TrainingDisplay",
    "TraversalDisplay",
]
