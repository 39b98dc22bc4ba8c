"""Multilayer perceptrons with a linear skip connection."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from sklearn.base import clone
from torch import Tensor, nn

from .._data.validation import Interval, StrOptions, are_counts
from ._base import ACTIVATIONS, Network

__all__ = ["MLP", "SkipMLP"]

#: hidden="auto", for much data and for other data; examples/benchmarks/maps.py, mnist.py.
_LARGE, _USUAL = (512, 256, 128), (256, 256)
#: Least numbers of rows and of columns of much data.
_LARGE_ROWS, _LARGE_COLUMNS = 10_000, 256


class MLP(Network):
    """Multilayer perceptron with a linear skip connection, for tables and small images.

    The decoder mirrors the encoder. With the skip connection, the last layer of the perceptron
    starts at zero, so that training starts from principal component analysis.

    Parameters
    ----------
    hidden : tuple of int or "auto", default="auto"
        Widths of the hidden layers of the encoder. The decoder has the reverse order. "auto" is
        (512, 256, 128) for training data of at least 10,000 rows and 256 columns, such as images,
        and (256, 256) for others.

    activation : {"silu", "relu", "gelu", "tanh", "elu"}, default="gelu"
        Nonlinearity after each hidden layer.

    linear_skip : bool, default=True
        Add a linear map from input to output.

    dropout : float in [0, 1), default=0.0
        Probability of dropping a hidden unit in a training step.

    Examples
    --------
    >>> from sklearn_wiseale.networks import MLP
    >>> MLP(hidden=(512, 256))
    MLP(hidden=(512, 256))
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "hidden": ["array-like", StrOptions({"auto"})],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "linear_skip": ["boolean"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        hidden: Sequence[int] | str = "auto",
        activation: str = "gelu",
        linear_skip: bool = True,
        dropout: float = 0.0,
    ) -> None:
        self.hidden = hidden
        self.activation = activation
        self.linear_skip = linear_skip
        self.dropout = dropout

    def check_parameters(self) -> None:
        """Check every parameter; ``hidden`` must be "auto" or a sequence of integers >= 1."""
        super().check_parameters()
        if isinstance(self.hidden, str):
            return
        if not are_counts(self.hidden):
            raise ValueError(
                "The 'hidden' parameter of MLP must be 'auto' or a sequence of integers >= 1. "
                f"Got {self.hidden!r} instead."
            )
        if not len(self.hidden) and not self.linear_skip:
            raise ValueError(
                "The 'hidden' parameter of MLP must have at least one layer if "
                f"linear_skip=False. Got {self.hidden!r} instead."
            )

    def for_data(self, n_samples: int, n_features: int) -> MLP:
        if not isinstance(self.hidden, str):
            return self
        large = n_samples >= _LARGE_ROWS and n_features >= _LARGE_COLUMNS
        return clone(self).set_params(hidden=_LARGE if large else _USUAL)

    def build(self, n_features: int, n_components: int, n_outputs: int) -> tuple[SkipMLP, SkipMLP]:
        self.check_parameters()
        widths = [int(width) for width in self.for_data(0, n_features).hidden]
        encoder = SkipMLP(n_features, widths, 2 * n_components, self)
        return encoder, SkipMLP(n_components, widths[::-1], n_outputs, self)


class SkipMLP(nn.Module):
    """Maps x, (n, n_in), to ``Linear(x) + Linear(... activation(Linear(x)))``, (n, n_out).

    :class:`MLP` builds this module. Use it in your own networks for a perceptron that can start as
    a linear map.

    Parameters
    ----------
    n_in, n_out : int
        Numbers of inputs and outputs.

    widths : list of int
        Widths of the hidden layers.

    spec : MLP
        Its ``activation``, ``dropout`` and ``linear_skip`` are used.

    Examples
    --------
    >>> import torch
    >>> from sklearn_wiseale.networks import MLP, SkipMLP
    >>> layers = SkipMLP(5, [8], 2, MLP(activation="tanh"))
    >>> layers.start_linear(torch.zeros(2, 5), torch.tensor([1.0, 2.0]))
    >>> layers(torch.ones(1, 5)).tolist()
    [[1.0, 2.0]]
    """

    def __init__(self, n_in: int, widths: list[int], n_out: int, spec: MLP) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in zip([n_in, *widths], widths, strict=False):
            layers += [nn.Linear(before, width), ACTIVATIONS[spec.activation]()]
            if spec.dropout:
                layers.append(nn.Dropout(spec.dropout))
        self.skip = nn.Linear(n_in, n_out) if spec.linear_skip else None
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(widths[-1], n_out) if widths else None
        if self.skip is not None and self.last is not None:
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map rows (n, n_in) to (n, n_out)."""
        parts = []
        if self.skip is not None:
            parts.append(self.skip(x))
        if self.last is not None:
            parts.append(self.last(self.layers(x)))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    @torch.no_grad()
    def start_linear(self, weight: Tensor, bias: Tensor) -> None:
        """Set the map to ``weight @ x + bias`` if there is a linear skip, else set the bias."""
        if self.skip is not None:
            self.skip.weight.copy_(weight)
            self.skip.bias.copy_(bias)
        elif self.last is not None:
            self.last.bias.copy_(bias)

    @property
    def readout(self) -> tuple[Tensor, Tensor]:
        """Affine map at the end of the network: weight (n_out, m) and bias (n_out,)."""
        parts = [part for part in (self.skip, self.last) if part is not None]
        bias = torch.stack([part.bias for part in parts]).sum(dim=0)
        return torch.cat([part.weight for part in parts], dim=1), bias

    def with_readout(self, weight: Tensor, bias: Tensor) -> SkipMLP:
        """Return a copy with this affine map at its end, to any number of outputs."""
        other = copy.copy(self)
        other._modules = dict(self._modules)
        for name in ("skip", "last"):
            part = getattr(self, name)
            if part is not None:
                own, weight = weight.tensor_split([part.in_features], dim=1)
                linear = nn.Linear(own.shape[1], own.shape[0], device="meta")
                linear.weight, linear.bias = nn.Parameter(own), nn.Parameter(bias)
                setattr(other, name, linear)
                bias = torch.zeros_like(bias)
        return copy.deepcopy(other).to(own.dtype)
