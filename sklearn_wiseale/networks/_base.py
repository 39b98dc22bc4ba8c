"""The contract of a network."""

from __future__ import annotations

from torch import nn

from .._data.validation import Part

__all__ = ["ACTIVATIONS", "Network"]

#: Strings accepted as ``activation``.
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "silu": nn.SiLU,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
}


class Network(Part):
    """Base class of networks: a specification of encoder and decoder.

    Examples
    --------
    >>> from torch import nn
    >>> from sklearn_wiseale import WiSEALETransformer
    >>> from sklearn_wiseale.networks import Network
    >>> class Narrow(Network):
    ...     def __init__(self, hidden=4):
    ...         self.hidden = hidden
    ...     def build(self, n_features, n_components, n_outputs):
    ...         def layers(n_in, n_out):
    ...             inner = nn.Linear(n_in, self.hidden)
    ...             return nn.Sequential(inner, nn.ReLU(), nn.Linear(self.hidden, n_out))
    ...         return layers(n_features, 2 * n_components), layers(n_components, n_outputs)
    >>> X = [[float(i), float(i % 3)] for i in range(12)]
    >>> reducer = WiSEALETransformer(1, network=Narrow(), max_epochs=2, random_state=0)
    >>> reducer.fit_transform(X).shape
    (12, 1)
    """

    def for_data(self, n_samples: int, n_features: int) -> Network:
        """Return the network for training data of this size, with parameters that are "auto" set.

        By default, it is this network.
        """
        return self

    def build(
        self, n_features: int, n_components: int, n_outputs: int
    ) -> tuple[nn.Module, nn.Module]:
        """Return encoder and decoder, newly initialised.

        Each may have a method ``start_linear(weight, bias)``, which makes it the linear map with
        this weight, (n_out, n_in), and bias, (n_out,), before training.
        """
        raise NotImplementedError
