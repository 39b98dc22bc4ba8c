"""WiSE-ALE dimensionality reduction for scikit-learn."""

from ._detector import WiSEALEDetector
from ._load import load
from ._transformer import WiSEALETransformer

__all__ = ["WiSEALEDetector", "WiSEALETransformer", "__version__", "load"]

__version__ = "0.1.0"
