"""The contract of all networks."""

from __future__ import annotations

from torch import nn

from .._parts import Part

__all__ = ["ACTIVATIONS", "Network"]

#: What the strings accepted as ``activation`` stand for.
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "silu": nn.SiLU,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
}


class Network(Part):
    """Base of all networks: a specification of encoder and decoder."""

    def build(
        self, n_features: int, n_components: int, n_outputs: int
    ) -> tuple[nn.Module, nn.Module]:
        """Return encoder and decoder, freshly initialised.

        Both have a method ``start_linear(weight, bias)``, or lack it: with it the module becomes
        the linear map of that ``weight`` (out, in) and ``bias`` (out,), from where it learns.
        """
        raise NotImplementedError
