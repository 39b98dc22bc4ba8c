"""WiSE-ALE dimensionality reduction for scikit-learn."""

from ._transformer import WiSEALETransformer, load

__all__ = ["WiSEALETransformer", "__version__", "load"]

__version__ = "0.1.0"
