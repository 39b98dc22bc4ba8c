"""Convolutions beside a linear skip, for images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .._data.validation import StrOptions, are_counts
from ._base import ACTIVATIONS, Network

__all__ = ["Conv", "SkipConv"]

#: Images have at least so many rows and columns of pixels.
_LEAST_SIDE = 8
#: channels="auto" halves until the smaller side has at most so many pixels, ...
_AUTO_SIDE = 7
#: ... begins with so many channels and doubles them up to so many.
_AUTO_CHANNELS = (32, 128)
#: Width of the layer between the smallest map and the codes, in encoder and decoder.
_HEAD_WIDTH = 256
#: Numbers in the largest maps of the rows that are mapped at once where nothing is trained: 64 MB.
_CHUNK_NUMBERS = 2**24


class Conv(Network):
    """Convolutional network beside a linear skip, for images given as rows.

    Each stage of the encoder halves height and width, rounding up, by a 3 x 3 convolution of
    stride 2. The decoder goes through the same sizes in reverse: it repeats pixels to the next
    size and smooths them by a 3 x 3 convolution. With the skip, training starts as principal
    component analysis: the last layer starts at zero.

    Parameters
    ----------
    image_shape : tuple of int (channels, height, width)
        What a row of X is, in C order: channel after channel, in each of them line after line of
        pixels. Height and width are at least 8, even or odd.

    channels : tuple of int or "auto", default="auto"
        Channels after each of the encoder's stages. "auto" halves until the smaller side has 4 to
        7 pixels, with 32, 64, then 128 channels: (32, 64) for 28 x 28 pixels.

    activation : {"silu", "relu", "gelu", "tanh", "elu"}, default="gelu"
        Nonlinearity after each hidden layer.

    linear_skip : bool, default=True
        Add a linear map from input to output.

    Notes
    -----
    Pixels share their noise and the scale of their values: use ``scale="global"`` with the
    Gaussian likelihood.

    Where the likelihood reads several numbers a pixel, the decoder gives as many images, one after
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
        """Check every parameter, and that no stage is left without pixels to halve."""
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
        most = math.ceil(math.log2(min(shape[1:])))  # from then on a side has a single pixel
        if len(self.channels) > most:
            raise ValueError(
                f"The 'channels' parameter of Conv must have at most {most} stages for images of "
                f"{shape[1]} x {shape[2]} pixels. Got {self.channels!r} instead."
            )

    def build(
        self, n_features: int, n_components: int, n_outputs: int
    ) -> tuple[SkipConv, SkipConv]:
        """Return encoder and decoder, freshly initialised."""
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
        after = [max(widths[0] // 2, 1), *widths]  # few at full size, where numbers are many
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
        """Channels after each stage."""
        if not isinstance(self.channels, str):
            return [int(width) for width in self.channels]
        side = min(size)
        widths: list[int] = []
        while side > _AUTO_SIDE:
            side = (side + 1) // 2
            widths.append(min(_AUTO_CHANNELS[0] * 2 ** len(widths), _AUTO_CHANNELS[1]))
        return widths


class SkipConv(nn.Module):
    """``layers(x) + Linear(x)``, or ``layers(x) + bias``: rows (n, n_in) to (n, n_out).

    ``last``, the last layer with weights, has no bias of its own and starts at zero where there
    is a linear skip. Without gradients, ``chunk`` rows are mapped at a time: maps take many times
    the memory of a row.
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
        """Rows (n, n_in) to (n, n_out)."""
        if torch.is_grad_enabled() or len(x) <= self.chunk:
            return self.layers(x) + self.skip(x)
        return torch.cat([self.layers(part) + self.skip(part) for part in x.split(self.chunk)])

    @torch.no_grad()
    def start_linear(self, weight: Tensor, bias: Tensor) -> None:
        """Become ``weight @ x + bias``, if there is a skip; else only the bias is taken over."""
        if isinstance(self.skip, nn.Linear):
            self.skip.weight.copy_(weight)
        self.skip.bias.copy_(bias)


class Maps(nn.Module):
    """Rows (n, c * h * w) in C order to maps (n, c, h, w), in memory pixel by pixel.

    That is the order in which maps are resized fastest; the layers after it keep it.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """Rows to maps."""
        return x.unflatten(1, self.shape).contiguous(memory_format=torch.channels_last)


class Offset(nn.Module):
    """A bias of shape (n_out,), for every x."""

    def __init__(self, n_out: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        """Return the bias."""
        return self.bias
