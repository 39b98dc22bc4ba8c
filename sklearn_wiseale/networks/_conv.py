"""Convolutions with a linear skip connection, for images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .._data.validation import StrOptions, are_counts
from ._base import ACTIVATIONS, Network

__all__ = ["Conv", "SkipConv"]

#: Smallest height and width of images.
_LEAST_SIDE = 8
#: channels="auto": stages are added until the smaller side has at most this many pixels. The first
#: stage has 32 channels, and each following one twice as many, up to 128.
_AUTO_SIDE, _AUTO_CHANNELS = 7, (32, 128)
#: Width of the layer between the smallest maps and the codes.
_HEAD_WIDTH = 256
#: Size of the largest maps of the rows that are mapped at once without gradients: 64 MB in float32.
_CHUNK_NUMBERS = 2**24


class Conv(Network):
    """Convolutional network with a linear skip connection, for images given as rows.

    Each stage of the encoder halves height and width, rounding up, with a 3 x 3 convolution of
    stride 2. The decoder has the same sizes in reverse order. Its stages repeat pixels and apply a
    3 x 3 convolution. With the skip connection, the last layer starts at zero, so that training
    starts from principal component analysis.

    Parameters
    ----------
    image_shape : tuple of int (channels, height, width)
        Shape of the image in a row of X, in C order. Height and width are at least 8.

    channels : tuple of int or "auto", default="auto"
        Channels after each stage of the encoder. "auto" has stages until the smaller side has 4 to
        7 pixels, with 32, 64, then 128 channels: (32, 64) for 28 x 28 pixels.

    activation : {"silu", "relu", "gelu", "tanh", "elu"}, default="gelu"
        Nonlinearity after each hidden layer.

    linear_skip : bool, default=True
        Add a linear map from input to output.

    Notes
    -----
    All pixels have the same units: use ``scale="global"`` with the Gaussian likelihood.

    If the likelihood has several outputs per feature, the decoder returns several images, one after
    the other.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_wiseale import WiSEALETransformer
    >>> from sklearn_wiseale.networks import Conv
    >>> X = load_digits().data  # rows of 64 pixels
    >>> network = Conv(image_shape=(1, 8, 8), channels=(16,))
    >>> reducer = WiSEALETransformer(network=network, scale="global", max_epochs=1, random_state=0)
    >>> reducer.fit_transform(X).shape
    (1797, 2)
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "image_shape": ["array-like"],
        "channels": ["array-like", StrOptions({"auto"})],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "linear_skip": ["boolean"],
    }

    def __init__(
        self,
        image_shape: Sequence[int],
        channels: Sequence[int] | str = "auto",
        activation: str = "gelu",
        linear_skip: bool = True,
    ) -> None:
        self.image_shape = image_shape
        self.channels = channels
        self.activation = activation
        self.linear_skip = linear_skip

    def check_parameters(self) -> None:
        """Check every parameter, and that the images are large enough for all stages."""
        super().check_parameters()
        shape = self.image_shape
        if not are_counts(shape) or len(shape) != 3:
            raise ValueError(
                "The 'image_shape' parameter of Conv must be three integers >= 1: channels, "
                f"height, width. Got {self.image_shape!r} instead."
            )
        if min(shape[1:]) < _LEAST_SIDE:
            raise ValueError(
                "The 'image_shape' parameter of Conv must have height and width >= "
                f"{_LEAST_SIDE}. Got {self.image_shape!r} instead."
            )
        if isinstance(self.channels, str):
            return
        if not are_counts(self.channels) or not len(self.channels):
            raise ValueError(
                "The 'channels' parameter of Conv must be 'auto' or a sequence of one or more "
                f"integers >= 1. Got {self.channels!r} instead."
            )
        most = math.ceil(math.log2(min(shape[1:])))  # then a side has a single pixel
        if len(self.channels) > most:
            raise ValueError(
                f"The 'channels' parameter of Conv must have at most {most} stages for images of "
                f"{shape[1]} x {shape[2]} pixels. Got {self.channels!r} instead."
            )

    def build(
        self, n_features: int, n_components: int, n_outputs: int
    ) -> tuple[SkipConv, SkipConv]:
        self.check_parameters()
        n_channels, *size = (int(length) for length in self.image_shape)
        n_pixels = math.prod([n_channels, *size])
        if n_features != n_pixels:
            raise ValueError(
                "The 'image_shape' parameter of Conv must multiply to the number of features, "
                f"{n_features}. Got {self.image_shape!r} instead, which makes {n_pixels}."
            )
        if n_outputs % n_pixels:
            raise ValueError(
                f"Conv gives {n_pixels} outputs or a whole multiple of it, of image_shape="
                f"{self.image_shape!r}. The likelihood asks for {n_outputs}."
            )
        sizes, widths = [size], self._widths(size)
        for _ in widths:
            sizes.append([(side + 1) // 2 for side in sizes[-1]])
        smallest = (widths[-1], *sizes[-1])
        activation = ACTIVATIONS[self.activation]

        down: list[nn.Module] = [Maps((n_channels, *size))]
        for before, width in zip([n_channels, *widths], widths, strict=False):
            down += [nn.Conv2d(before, width, 3, stride=2, padding=1), activation()]
        n_flat = math.prod(smallest)
        down += [nn.Flatten(), nn.Linear(n_flat, _HEAD_WIDTH), activation()]
        down.append(nn.Linear(_HEAD_WIDTH, 2 * n_components, bias=False))

        up: list[nn.Module] = [nn.Linear(n_components, _HEAD_WIDTH), activation()]
        up += [nn.Linear(_HEAD_WIDTH, n_flat), activation(), Maps(smallest)]
        after = [max(widths[0] // 2, 1), *widths]  # few at full size, to save memory
        for stage in reversed(range(len(widths))):
            up.append(nn.Upsample(size=tuple(sizes[stage]), mode="nearest"))
            up += [nn.Conv2d(after[stage + 1], after[stage], 3, padding=1), activation()]
        n_maps = n_outputs // math.prod(size)
        up += [nn.Conv2d(after[0], n_maps, 3, padding=1, bias=False), nn.Flatten()]

        chunk = max(1, _CHUNK_NUMBERS // (widths[0] * math.prod(size)))
        skip = self.linear_skip
        encoder = SkipConv(n_features, down, down[-1], 2 * n_components, skip, chunk)
        return encoder, SkipConv(n_components, up, up[-2], n_outputs, skip, chunk)

    def _widths(self, size: list[int]) -> list[int]:
        """Return the channels after each stage."""
        if not isinstance(self.channels, str):
            return [int(width) for width in self.channels]
        side = min(size)
        widths: list[int] = []
        while side > _AUTO_SIDE:
            side = (side + 1) // 2
            widths.append(min(_AUTO_CHANNELS[0] * 2 ** len(widths), _AUTO_CHANNELS[1]))
        return widths


class SkipConv(nn.Module):
    """Maps x, (n, n_in), to ``layers(x) + Linear(x)`` or ``layers(x) + bias``, (n, n_out).

    ``last``, the last layer with weights, has no bias, and starts at zero if there is a linear
    skip. Without gradients, ``chunk`` rows are mapped at a time to limit memory.
    """

    def __init__(
        self,
        n_in: int,
        layers: list[nn.Module],
        last: nn.Module,
        n_out: int,
        linear_skip: bool,
        chunk: int,
    ) -> None:
        super().__init__()
        self.chunk = chunk
        self.layers = nn.Sequential(*layers)
        self.skip = nn.Linear(n_in, n_out) if linear_skip else Offset(n_out)
        if linear_skip:
            for weight in last.parameters():
                nn.init.zeros_(weight)

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or len(x) <= self.chunk:
            return self.layers(x) + self.skip(x)
        return torch.cat([self.layers(part) + self.skip(part) for part in x.split(self.chunk)])

    @torch.no_grad()
    def start_linear(self, weight: Tensor, bias: Tensor) -> None:
        """Set the map to ``weight @ x + bias`` if there is a linear skip, else set the bias."""
        if isinstance(self.skip, nn.Linear):
            self.skip.weight.copy_(weight)
        self.skip.bias.copy_(bias)


class Maps(nn.Module):
    """Reshapes rows (n, c * h * w) to maps (n, c, h, w), in torch's channels-last format.

    Maps are resized fastest in this format, and the following layers keep it.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, self.shape).contiguous(memory_format=torch.channels_last)


class Offset(nn.Module):
    """Returns a bias of shape (n_out,) for every x."""

    def __init__(self, n_out: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        return self.bias
