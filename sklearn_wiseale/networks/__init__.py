"""Networks: the encoder and the decoder.

A network is a specification whose ``build`` returns both. The encoder maps scaled rows to
``(n, 2 * n_components)``, means and log-variances side by side. The decoder maps codes to
``(n, n_outputs)``, the input of the likelihood.
"""

from ._base import Network
from ._conv import Conv
from ._mlp import MLP, SkipMLP
from ._modules import Modules

__all__ = ["MLP", "NETWORKS", "Conv", "Modules", "Network", "SkipMLP"]

#: Strings accepted by ``WiSEALETransformer(network=...)``.
NETWORKS: dict[str, type[Network]] = {"mlp": MLP}
