"""Overlaps of Gaussian posteriors: log of their mean, in bounded memory."""

from .function import log_mean_overlap

__all__ = ["log_mean_overlap"]
