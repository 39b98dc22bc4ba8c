"""A network of the user's torch modules."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import joblib
import torch
from torch import Tensor, nn

from ._base import Network
from ._packing import pack, unpack

__all__ = ["Modules"]


class Modules(Network):
    """Your own encoder and decoder.

    Each is a torch module, a class of modules, or a function that returns one. A module is copied,
    so that every fit starts from its weights. A class or function is called as
    ``encoder(n_features, n_components)`` or ``decoder(n_components, n_outputs)``.

    Parameters
    ----------
    encoder : nn.Module or callable
        Maps scaled rows, (n, n_features), to means and log-variances side by side,
        (n, 2 * n_components).

    decoder : nn.Module or callable
        Maps codes, (n, n_components), to the unbounded input of the likelihood, (n, n_outputs):
        means for the Gaussian, logits for the Bernoulli likelihood.

    Notes
    -----
    Weights are converted to the estimator's ``precision``. Encoder and decoder are copied
    separately: the copies share no layers.

    If a module has a method ``start_linear(weight, bias)``, it is called with the linear map of
    principal component analysis. Otherwise training starts from the weights of the module.

    To pickle a fitted estimator, define the classes of its modules at the top level of a module
    that can be imported.

    Instances that are scripted, traced or parametrised (``spectral_norm``) can be fitted, but
    training cannot continue with ``partial_fit``, ``warm_start`` or a checkpoint, because their
    pickles cannot be compared. Use a function that creates them.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from torch import nn
    >>> from sklearn_wiseale import WiSEALETransformer
    >>> from sklearn_wiseale.networks import Modules
    >>> def encoder(n_features, n_components):
    ...     return nn.Sequential(
    ...         nn.Linear(n_features, 32), nn.ReLU(), nn.Linear(32, 2 * n_components)
    ...     )
    >>> def decoder(n_components, n_outputs):
    ...     return nn.Sequential(nn.Linear(n_components, 32), nn.ReLU(), nn.Linear(32, n_outputs))
    >>> network = Modules(encoder=encoder, decoder=decoder)
    >>> reducer = WiSEALETransformer(network=network, max_epochs=5, random_state=0)
    >>> reducer.fit_transform(load_wine().data).shape
    (178, 2)
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "encoder": [nn.Module, callable],
        "decoder": [nn.Module, callable],
    }

    def __init__(
        self,
        encoder: nn.Module | Callable[[int, int], nn.Module],
        decoder: nn.Module | Callable[[int, int], nn.Module],
    ) -> None:
        self.encoder = encoder
        self.decoder = decoder

    def build(
        self, n_features: int, n_components: int, n_outputs: int
    ) -> tuple[nn.Module, nn.Module]:
        """Return encoder and decoder, as copies of instances or from callables.

        Raises
        ------
        TypeError
            If a callable does not return a torch module.

        ValueError
            If a module fails, or its output has another shape.
        """
        self.check_parameters()
        encoder = _make("encoder", self.encoder, n_features, n_components)
        decoder = _make("decoder", self.decoder, n_components, n_outputs)
        meaning = f"means and log-variances of {n_components} components"
        _check_shape("encoder", encoder, n_features, 2 * n_components, meaning)
        meaning = "the input of the likelihood"
        _check_shape("decoder", decoder, n_components, n_outputs, meaning)
        return encoder, decoder

    def __getstate__(self) -> dict[str, Any]:
        """Return encoder and decoder in a form whose pickle, and hash, depends on values only."""
        return {name: _packed(value) for name, value in super().__getstate__().items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({name: _unpacked(value) for name, value in state.items()})


def _make(name: str, part: Any, n_in: int, n_out: int) -> nn.Module:
    """Return a new module."""
    if isinstance(part, nn.Module):
        return copy.deepcopy(part)
    try:
        module = part(n_in, n_out)
    except Exception as error:
        raise ValueError(
            f"The '{name}' of Modules could not be made by {_label(part)}({n_in}, {n_out}): "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"The '{name}' of Modules must be a torch.nn.Module, a class of modules or a function "
            f"that returns a module. {_label(part)} returned {module!r}."
        )
    # a function may return the same module in every call
    return module if isinstance(part, type) else copy.deepcopy(module)


def _label(part: Any) -> str:
    return getattr(part, "__name__", None) or repr(part)


@torch.no_grad()
def _check_shape(name: str, module: nn.Module, n_in: int, n_out: int, meaning: str) -> None:
    """Apply a module to two rows; a copy of it, since a forward pass may change buffers."""
    lazy = any(nn.parameter.is_lazy(p) for p in module.parameters())
    # lazy layers are initialised here, in the module itself
    trial = module if lazy else copy.deepcopy(module).to(torch.get_default_dtype())
    modes = [(layer, layer.training) for layer in trial.modules()]
    device = next((p.device for p in trial.parameters()), torch.device("cpu"))
    try:
        output = trial.eval()(torch.zeros(2, n_in, device=device))
    except Exception as error:
        raise ValueError(
            f"The '{name}' of Modules failed on rows of shape (2, {n_in}): "
            f"{type(error).__name__}: {error}"
        ) from error
    finally:
        for layer, mode in modes:
            layer.training = mode
    got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if got != (2, n_out):
        raise ValueError(
            f"The '{name}' of Modules must map (n, {n_in}) to (n, {n_out}): {meaning}. "
            f"Got {got} for n = 2."
        )


class _ByValue:
    """A callable that pickle cannot import by name, such as a lambda, pickled by cloudpickle."""

    def __init__(self, part: Any) -> None:
        self.get = joblib.wrap_non_picklable_objects(lambda: part)


def _packed(part: Any) -> Any:
    part = pack(part)
    try:
        pickle.dumps(part)
    except Exception:
        return _ByValue(part)
    return part


def _unpacked(part: Any) -> Any:
    return unpack(part.get() if isinstance(part, _ByValue) else part)
