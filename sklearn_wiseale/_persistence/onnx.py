"""Encoder and decoder as ONNX files, in the units of X."""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._data.scaling import Scaling, TensorScaling
from .._model.components import Components
from .._model.module import VariationalModule
from .file import check_target, write_bytes

__all__ = ["export"]


class _Encoder(nn.Module):
    """Rows in the units of X to means and standard deviations of the posteriors.

    The scaling is that of :class:`TensorScaling`. A row with a missing entry has the code NaN.
    """

    high: Tensor
    scale: Tensor
    rest: Tensor
    order: Tensor
    sign: Tensor

    def __init__(self, module: VariationalModule, scaling: Scaling, components: Components) -> None:
        super().__init__()
        self.module = module
        self.register_buffer("order", torch.from_numpy(components.order))
        self.register_buffer("sign", torch.from_numpy(components.sign).float())
        of_tensors = TensorScaling(scaling, np.dtype(np.float32), torch.float32)
        for name in ("high", "scale", "rest"):
            self.register_buffer(name, getattr(of_tensors, name).float())

    def forward(self, X: Tensor) -> tuple[Tensor, Tensor]:
        rows = X.flatten(1)
        mean, log_var = self.module.encode((rows - self.high) / self.scale + self.rest)
        missing = rows.isnan().any(dim=1, keepdim=True)
        mean, std = mean[:, self.order] * self.sign, torch.exp(0.5 * log_var)[:, self.order]
        return mean.masked_fill(missing, torch.nan), std.masked_fill(missing, torch.nan)


class _Decoder(nn.Module):
    """Codes to the means of p(x|z), in the units of X."""

    scale: Tensor
    shift: Tensor
    place: Tensor
    sign: Tensor

    def __init__(
        self,
        module: VariationalModule,
        scaling: Scaling,
        components: Components,
        image_shape: tuple[int, ...] | None,
    ) -> None:
        super().__init__()
        self.register_buffer("place", torch.from_numpy(np.argsort(components.order)))
        self.register_buffer("sign", torch.from_numpy(components.sign).float())
        self.decoder, self.likelihood = module.decoder, module.likelihood
        self.image_shape = image_shape
        self.register_buffer("scale", torch.from_numpy(scaling.scale).float())
        self.register_buffer("shift", torch.from_numpy(scaling.shift).float())

    def forward(self, codes: Tensor) -> Tensor:
        rows = self.likelihood.mean(self.decoder((codes * self.sign)[:, self.place]))
        rows = rows * self.scale + self.shift
        return rows if self.image_shape is None else rows.unflatten(1, self.image_shape)


def export(
    path: str | os.PathLike[str],
    part: str,
    module: VariationalModule,
    scaling: Scaling,
    image_shape: tuple[int, ...] | None,
    components: Components,
) -> None:
    """Write the encoder or the decoder; see ``WiSEALETransformer.export_onnx``."""
    if part not in ("encoder", "decoder"):
        raise ValueError(f"part must be 'encoder' or 'decoder'. Got {part!r}.")
    target = check_target(path)
    _require_packages()
    if not scaling.fits_float32:
        raise ValueError(
            "X cannot be scaled in float32, as ONNX files do. Rescale X and fit again."
        )
    module = copy.deepcopy(module).cpu().float().eval()
    if part == "encoder":
        shape = image_shape or (len(scaling.shift),)
        content = _converted(_Encoder(module, scaling, components), shape, "X", ["codes", "std"])
    else:
        whole = _Decoder(module, scaling, components, image_shape)
        content = _converted(whole, components.order.shape, "codes", ["X"])
    write_bytes(target, content)


def _require_packages() -> None:
    """Raise an ImportError that says what to install."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "export_onnx needs the packages onnx and onnxscript: pip install sklearn-wiseale[onnx]"
        ) from error


def _converted(whole: nn.Module, shape: tuple[int, ...], given: str, results: list[str]) -> bytes:
    """An ONNX file of a module that takes any number of rows of a shape."""
    some = torch.zeros(3, *shape, device="cpu")  # torch.export may take 0 and 1 for constants
    with _quiet():
        try:
            # torch.onnx.export of older torch would fall back on tracing, for these 3 rows only
            dynamic = ({0: torch.export.Dim("n_samples", max=2**31)},)
            traced = torch.export.export(whole, (some,), dynamic_shapes=dynamic, strict=False)
            program: Any = torch.onnx.export(
                traced,
                dynamo=True,
                verbose=False,
                external_data=False,
                input_names=[given],
                output_names=results,
            )
        except Exception as error:
            raise ValueError(
                "The network cannot be exported: torch.export failed, for instance because the "
                f"control flow depends on values. {type(error).__name__}: "
                f"{str(error).strip().splitlines()[0] if str(error).strip() else ''}"
            ) from error
    model = program.model_proto
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]  # paths of source files, among others
    model.producer_name = "sklearn_wiseale"
    return model.SerializeToString()


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, hide the exporter's warnings and messages about its own work."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.device("cpu"), torch.enable_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
