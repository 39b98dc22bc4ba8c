"""WiSE-ALE dimensionality reduction for scikit-learn."""

from ._transformer import WiSEALETransformer

__all__ = ["WiSEALETransformer", "__version__"]

__version__ = "0.1.0"
