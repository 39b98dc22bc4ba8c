"""From what a file holds to a fitted estimator."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch

from .._data.scaling import Scaling
from .._model.module import private_torch_rng
from .._model.start import blank_module
from .._training.net import VariationalNet, build_net
from .._training.parameters import check_parameters, find_device
from .._training.state import State, load_module, split_state
from ..diagnostics import AggregateKLBounds
from ..networks import Modules
from .save import Stored

__all__ = ["restore"]

Estimator = TypeVar("Estimator")
#: Components that a file may claim without having as many numbers.
_FEW_COMPONENTS = 2**16


def restore(stored: Stored, cls: type[Estimator], device: str | torch.device) -> Estimator:
    """The fitted estimator that a file describes.

    Parameters
    ----------
    stored : Stored

    cls : class
        The one that the file must name.

    device : str or torch.device
        "auto" stands for the stored one, if it is available here.

    Raises
    ------
    ValueError
        If parameters are not allowed, or do not fit the tensors.
    """
    kind: Any = cls
    if stored.name != kind.__name__:
        raise ValueError(f"it names the class {stored.name!r}, which this release does not have")
    unknown = (set(stored.parameters) | set(stored.built)) - set(kind._get_param_names())
    if unknown:
        raise ValueError(f"it has parameters that this release does not have: {sorted(unknown)}")
    estimator = kind(**stored.parameters)
    estimator.device = _available_device(estimator.device, estimator.precision, device)
    check_parameters(estimator)
    fitted = kind(**{**stored.parameters, **stored.built, "device": "cpu"})
    parts = check_parameters(fitted)
    attributes, state = dict(stored.attributes), dict(stored.state)
    n_features, k = attributes["n_features_in_"], attributes["n_components_"]
    tensors, _ = split_state(state["module"])
    most = max(_FEW_COMPONENTS, sum(tensor.numel() for tensor in tensors.values()))
    if k != fitted.n_components or not attributes["_n_axes"] <= k <= most:
        raise ValueError(f"it cannot have {k} components")
    if "feature_names_in_" in attributes:
        attributes["feature_names_in_"] = np.array(attributes["feature_names_in_"], dtype=object)
    if "aggregate_kl_bounds_" in attributes:
        bounds = AggregateKLBounds(*attributes["aggregate_kl_bounds_"])
        attributes["aggregate_kl_bounds_"] = bounds
    scaling = _scaling(state.pop("scaling"), n_features)
    fixed = {name: stored.built[name] for name in ("n_components", "scale", "precision")}
    net = _net(fitted, parts, state, n_features, int(k))
    estimator.__dict__.update(
        attributes,
        net_=net,
        history_=net.epochs_since(0),
        _scaling=scaling,
        _built={**fixed, **parts},
        _net_params=stored.built["net_params"],
    )
    return estimator


def _net(
    fitted: Any, parts: dict[str, Any], state: State, n_features: int, n_components: int
) -> VariationalNet:
    """The net as a pickle would give it back, on the CPU."""
    network = parts["network"]
    of_package = type(network).__module__.split(".")[0] == __name__.split(".")[0]
    known = of_package and not isinstance(network, Modules)
    with private_torch_rng(0, torch.device("cpu")):
        module = blank_module(
            n_features,
            n_components,
            parts["likelihood"],
            network,
            fitted.precision,
            missing="flags.weight" in state["module"],
            device=torch.device("meta" if known else "cpu"),
        )
        divergence = parts["objective"].build(n_features, n_components)
    load_module(module, state["module"], "module", finite=known)
    net_params = dict(fitted.net_params or {})
    compiles = net_params.pop("compile", False)
    net = build_net(
        module,
        divergence,
        seed=0,
        lr=1e-3,
        device=torch.device("cpu"),
        net_params=net_params,
        patience=fitted.n_iter_no_change,
        tol=fitted.tol,
    )
    net.__dict__.pop("optimizer_", None)  # the optimiser begins anew
    net.load_state_dict(state)
    net.compile = compiles  # in later fits; as one that is unpickled, this net is not compiled
    net._set_training(False)
    return net


def _available_device(stored: Any, precision: Any, asked: Any) -> Any:
    """The device that is asked for, or that of the file, if it is available here."""
    if asked != "auto" or type(stored) is not str:
        return stored if asked == "auto" else asked
    try:
        find_device(stored, precision)
    except ValueError:
        return "auto"
    return stored


def _scaling(tensors: State, n_features: int) -> Scaling:
    """Scaling of the columns, if it is one."""
    for name in ("shift", "scale"):
        tensor = tensors.get(name)
        if tensor is None or tensor.dtype != torch.float64 or tensor.shape != (n_features,):
            raise ValueError(f"its tensor 'scaling/{name}' must be {n_features} float64 numbers")
    scaling = Scaling(tensors["shift"].numpy(), tensors["scale"].numpy())
    if not (np.isfinite(scaling).all() and (scaling.scale > 0).all()):
        raise ValueError("its scaling must be finite and positive")
    return scaling
