"""A fitted estimator in one file: how it is written, checked and built again.

Nothing in a file is executed. The header has names and numbers, and names are looked up among the
classes of this package. Shapes are compared with the tensors before anything is built.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Mapping
from functools import cache
from importlib import metadata
from numbers import Integral
from typing import Any

import numpy as np
import torch

from .._data.scaling import Scaling
from .._data.validation import Part
from .._model.components import Components
from .._model.module import private_torch_rng
from .._model.start import blank_module, weight_dtype
from .._model.tables import Table
from .._training.net import build_net
from .._training.parameters import PARTS, check_parameters, find_device
from .._training.state import State, check_like, split_state
from ..diagnostics import AggregateKLBounds
from ..networks import Modules
from .file import as_path, check_target, read_file, reading, write_file
from .header import Foreign, ForeignPartError, decode, encode, shown

__all__ = ["read", "write"]

_PACKAGES = ("sklearn-wiseale", "torch", "scikit-learn", "skorch", "numpy", "safetensors")
#: Settings of ``torch.compile`` that a file may have.
_COMPILE = {f"compile__{name}" for name in ("mode", "dynamic", "fullgraph")}
_FLOATS = {np.dtype(code).str: np.dtype(code) for code in "fdg"}
#: Up to this many components, a file needs no tensors of that size.
_FEW_COMPONENTS = 2**16


def _is_count(value: Any) -> bool:
    integer = isinstance(value, Integral) and not isinstance(value, bool)
    return integer and 0 <= int(value) < 2**63


def _is_dict_of(kind: type) -> Callable[[Any], bool]:
    return lambda value: type(value) is dict and set(map(type, value.values())) <= {kind}


def _is_array_of(dtype: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, np.ndarray) and value.dtype == dtype


#: Fitted attributes that files hold besides the net and the scaling, and what each may be.
_ATTRIBUTES: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("n_features_in_", "n_components_", "n_samples_seen_"), _is_count),
    **dict.fromkeys(("n_iter_", "_n_axes"), _is_count),
    "_inverse_dtype": lambda value: value in _FLOATS,
    "_image_shape": lambda value: (
        value is None or (type(value) is tuple and all(map(_is_count, value)))
    ),
    "best_epoch_": _is_count,
    "start_losses_": _is_dict_of(float),
    "stop_reason_": lambda value: type(value) is str,
    "noise_scale_": lambda value: type(value) is float or _is_array_of(np.float64)(value),
    "feature_names_in_": lambda value: type(value) is list and set(map(type, value)) <= {str},
    "aggregate_kl_bounds_": lambda value: (
        type(value) is tuple and list(map(type, value)) == [float, float, int]
    ),
    "explained_variance_ratio_": _is_array_of(np.float64),
    "_components": lambda value: (
        type(value) is tuple and len(value) == 2 and all(map(_is_array_of(np.int64), value))
    ),
    "_sklearn_output_config": _is_dict_of(str),
    "_library": lambda value: value in ("pandas", "polars"),
    "_table": lambda value: type(value) is dict,
}
#: Attributes that every file has.
_ALWAYS = tuple(_ATTRIBUTES)[:7]


# writing ----------------------------------------------------------------------------------


def write(path: str | os.PathLike[str], estimator: Any) -> None:
    """Write a fitted estimator; see ``WiSEALETransformer.save``."""
    kind = type(estimator)
    if kind.__module__.split(".")[0] != __name__.split(".")[0]:
        raise ValueError(
            f"{kind.__name__} cannot be saved: it is no class of sklearn_wiseale. Pickle it "
            "instead."
        )
    check_parameters(estimator)
    target = check_target(path)
    net, net_params = estimator._stored_net()
    parameters, fitted = estimator.get_params(deep=False), vars(estimator)
    if isinstance(parameters["device"], torch.device):
        parameters["device"] = str(parameters["device"])
    attributes = {name: fitted[name] for name in _ATTRIBUTES if name in fitted}
    attributes["_inverse_dtype"] = np.dtype(estimator._inverse_dtype).str
    if "feature_names_in_" in attributes:
        attributes["feature_names_in_"] = list(map(str, estimator.feature_names_in_))
    if attributes.pop("_table", None) is not None:
        attributes["_table"] = estimator._table.describe()
    header = {
        "kind": "estimator",
        "class": kind.__name__,
        "versions": {package: _version(package) for package in _PACKAGES},
        "parameters": _encoded(parameters),
        "built": _encoded({**estimator._built, "net_params": net_params}),
        "attributes": {name: encode(value, name) for name, value in attributes.items()},
    }
    state = {k: v for k, v in net.state_dict().items() if k not in ("optimizer", "rates")}
    state["divergence"] = copy.deepcopy(net.criterion_).state_dict()  # without a bank
    scaling = estimator._scaling._asdict().items()
    state["scaling"] = {name: torch.from_numpy(np.array(value)) for name, value in scaling}
    if "_aggregate" in fitted:
        state["aggregate"] = {"posteriors": torch.from_numpy(estimator._aggregate)}
    write_file(target, state, header)


@cache
def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # run from a folder that is not installed
        return None


def _encoded(parameters: dict[str, Any]) -> dict[str, Any]:
    """Encoded parameters, in which parts that cannot be stored are named only."""
    _refuse_programs(parameters["net_params"])
    encoded = {}
    for name, value in parameters.items():
        try:
            encoded[name] = encode(value, name)
        except ForeignPartError:
            if name not in PARTS:
                raise
            encoded[name] = encode(Foreign(type(value).__name__, repr(value)[:200]), name)
    return encoded


def _refuse_programs(net_params: Any) -> None:
    """Raise a ValueError for settings of ``torch.compile`` that may name programs."""
    names = net_params if isinstance(net_params, dict) else {}
    unsafe = {name for name in names if str(name).startswith("compile__")} - _COMPILE
    if unsafe:
        raise ValueError(
            f"net_params {shown(sorted(unsafe))} cannot be stored: backends and options of "
            "torch.compile may name programs, which files must not do"
        )


# reading ----------------------------------------------------------------------------------


def read(
    path: str | os.PathLike[str],
    cls: type[Any],
    device: str | torch.device,
    handed_back: Mapping[str, Part | None],
) -> Any:
    """Read an estimator of a class; see :func:`sklearn_wiseale.load`."""
    state, header = read_file(as_path(path), "estimator")
    with reading(f"{str(path)!r} cannot be loaded"):
        if header.get("class") != cls.__name__:
            raise ValueError(
                f"it names the class {shown(header.get('class'))}, which this release does not have"
            )
        parameters, built, attributes = (
            _decoded(header, entry) for entry in ("parameters", "built", "attributes")
        )
        unknown = (set(parameters) | set(built)) - set(cls._get_param_names())
        if unknown:
            raise ValueError(
                f"it has parameters that this release does not have: {sorted(unknown)}"
            )
        _refuse_programs(parameters.get("net_params"))
        _refuse_programs(built.get("net_params"))
        _take_parts(parameters, built, handed_back)
        estimator = cls(**parameters)
        estimator.device = _available_device(estimator.device, estimator.precision, device)
        check_parameters(estimator)
        _restore_attributes(attributes)
        fitted = cls(**{**parameters, **built, "device": "cpu"})
        fixed = {name: built[name] for name in ("n_components", "scale", "precision")}
        estimator.__dict__.update(attributes, _built=fixed, _net_params=built["net_params"])
        _restore_net(estimator, fitted, state)
        return estimator


def _decoded(header: dict[str, Any], entry: str) -> dict[str, Any]:
    """Values of an entry of a header."""
    if type(header.get(entry)) is not dict:
        raise ValueError(f"its entry {entry!r} must be a dict. Got {shown(header.get(entry))}")
    return {name: decode(value) for name, value in header[entry].items()}


def _take_parts(
    parameters: dict[str, Any], built: dict[str, Any], handed_back: Mapping[str, Part | None]
) -> None:
    """Put in the parts that are handed back; raise a ValueError if one is missing or unused."""
    both = [*parameters.items(), *built.items()]
    foreign = {name: value for name, value in both if isinstance(value, Foreign)}
    lacking = {name: part for name, part in foreign.items() if handed_back.get(name) is None}
    if lacking:
        call = ", ".join(f"{name}={part.kind}(...)" for name, part in lacking.items())
        raise ValueError(
            f"its code of your own is not stored: call load(path, {call}), with parts equal to "
            f"those that were saved: {'; '.join(part.text for part in lacking.values())}"
        )
    unused = {name for name, part in handed_back.items() if part is not None} - set(foreign)
    if unused:
        raise ValueError(
            f"its {' and '.join(sorted(unused))} cannot be handed back: the file has its own. "
            "Use set_params after loading"
        )
    for found in (parameters, built):
        for name in foreign:
            if isinstance(found.get(name), Foreign):
                found[name] = handed_back[name]


def _restore_attributes(attributes: dict[str, Any]) -> None:
    """Check types and consistency of fitted attributes, and put in what files hold differently."""
    lacking = sorted(set(_ALWAYS) - set(attributes))
    if lacking:
        raise ValueError(f"it lacks the attributes {lacking}")
    for name, value in attributes.items():
        if name not in _ATTRIBUTES or not _ATTRIBUTES[name](value):
            raise ValueError(f"its attribute {name!r} cannot be {shown(value)}")
    n_features, shape = attributes["n_features_in_"], attributes["_image_shape"]
    if shape is not None and math.prod(shape) != n_features:
        raise ValueError(f"images of the shape {shown(shape)} have not {n_features} pixels")
    attributes["_inverse_dtype"] = _FLOATS[attributes["_inverse_dtype"]].type
    names, bounds = (attributes.get(name) for name in ("feature_names_in_", "aggregate_kl_bounds_"))
    if names is not None:
        attributes["feature_names_in_"] = np.array(names, dtype=object)
        if len(names) != n_features:
            raise ValueError(f"it must have the names of {n_features} features")
    if bounds is not None:
        attributes["aggregate_kl_bounds_"] = AggregateKLBounds(*bounds)
    if np.shape(attributes.get("noise_scale_", 0.0)) not in ((), (n_features,)):
        raise ValueError(f"its attribute 'noise_scale_' must have {n_features} numbers")
    if "_components" in attributes:
        attributes["_components"] = Components(*attributes["_components"])
    described = attributes.setdefault("_table", None)
    if described is not None:
        attributes["_table"] = table = Table.from_description(described)
        if len(table.columns) != n_features:
            raise ValueError(f"its table must have {n_features} columns")
        named = all(type(name) is str for name in table.names)
        if names != (table.names if named else None):
            raise ValueError("its table must have the names of the features")


def _available_device(stored: Any, precision: Any, asked: Any) -> Any:
    """The device asked for, or that of the file, if it is available here."""
    if asked != "auto" or type(stored) is not str:
        return stored if asked == "auto" else asked
    try:
        find_device(stored, precision)
    except ValueError:
        return "auto"
    return stored


def _restore_net(estimator: Any, fitted: Any, state: State) -> None:
    """Set what fit builds, on the CPU: built from parameters, compared with a state and filled."""
    parts = check_parameters(fitted)
    n_features, k = estimator.n_features_in_, int(estimator.n_components_)
    if estimator._table is not None:
        n_features = estimator._table.width
    n_numbers = sum(tensor.numel() for tensor in split_state(state["module"])[0].values())
    asked = fitted.n_components if isinstance(fitted.n_components, Integral) else k
    if k != asked or not estimator._n_axes <= k <= max(n_numbers, _FEW_COMPONENTS):
        raise ValueError(f"it cannot have {k} components")
    column = torch.empty(n_features, dtype=torch.float64, device="meta")
    check_like(state["scaling"], {"shift": column, "scale": column}, "scaling", finite=True)
    scaling = Scaling(*(state["scaling"][name].numpy() for name in Scaling._fields))
    if not (scaling.scale > 0).all():
        raise ValueError("its scaling must be positive")
    if "aggregate" in state:
        n_rows, dtype = estimator.aggregate_kl_bounds_.n_upper, weight_dtype(fitted.precision)
        posteriors = torch.empty(2, n_rows, k, dtype=dtype, device="meta")
        check_like(state["aggregate"], {"posteriors": posteriors}, "aggregate", finite=True)
        estimator._aggregate = state["aggregate"]["posteriors"].numpy()
    network = parts["network"]
    of_package = type(network).__module__.split(".")[0] == __name__.split(".")[0]
    is_known = of_package and not isinstance(network, Modules)
    model = n_features, k, parts["likelihood"], network, fitted.precision
    missing, device = "flags.weight" in state["module"], "meta" if is_known else "cpu"
    with private_torch_rng(0, torch.device("cpu")):
        module = blank_module(*model, missing=missing, device=torch.device(device))
        divergence = parts["objective"].build(n_features, k)
    check_like(state["module"], module.state_dict(), "module", finite=True)
    module.load_state_dict(state["module"], assign=is_known)
    net_params = dict(fitted.net_params or {})
    compiles = net_params.pop("compile", False)
    fixed: dict[str, Any] = {"seed": 0, "lr": 1e-3, "device": torch.device("cpu")}
    stopping = {"patience": fitted.n_iter_no_change, "tol": fitted.tol}
    net = build_net(module, divergence, net_params=net_params, **fixed, **stopping)
    net.__dict__.pop("optimizer_", None)  # training starts with a new one
    net.load_state_dict(state)
    net.compile = compiles  # used by later fits; like an unpickled net, this one is not compiled
    net._set_training(False)
    if estimator._components is not None:
        estimator._components.check(k, estimator.__dict__.get("explained_variance_ratio_"))
    estimator.net_, estimator.history_, estimator._scaling = net, net.epochs_since(0), scaling
    estimator._built |= parts
