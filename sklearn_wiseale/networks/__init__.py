"""Networks: the encoder and the decoder.

A network is a specification whose ``build`` returns the pair; the encoder maps scaled rows to
``(n, 2 * n_components)``, means beside log-variances, the decoder maps codes to ``n_outputs``
numbers a row, which the likelihood reads.
"""

from ._base import Network
from ._conv import Conv
from ._mlp import MLP, SkipMLP
from ._modules import Modules

__all__ = ["MLP", "NETWORKS", "Conv", "Modules", "Network", "SkipMLP"]

#: What the strings accepted by ``WiSEALETransformer(network=...)`` stand for.
NETWORKS: dict[str, type[Network]] = {"mlp": MLP}
