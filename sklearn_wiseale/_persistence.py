"""A fitted estimator in one safetensors file: tensors, and a JSON header that says what they are.

Nothing in a file is executed: the header has names and numbers, and names are looked up among the
classes of this package.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Mapping
from importlib import metadata
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ._checkpoint import DAMAGE, as_path, check_target, read_file, reason_of, write_file
from ._checks import PARTS, check_parameters, find_device
from ._data import Scaling
from ._encoding import ForeignPartError, decode, encode, shown
from ._net import VariationalNet, private_torch_rng
from ._parts import Part
from ._start import blank_module
from ._states import require_finite, require_like, set_generator_state

__all__ = ["read", "write"]

_KIND = "estimator"
_PACKAGES = ("sklearn-wiseale", "torch", "scikit-learn", "skorch", "numpy", "safetensors")
#: Fitted attributes in the header besides those that are texts, arrays or records,
_COUNTS = ("n_features_in_", "n_components_", "n_samples_seen_", "n_iter_", "_n_axes")
#: and what a net knows besides its modules.
_NET = ("seed", "lr", "batch_size", "n_samples_", "first_row_", "missing_")
#: Settings of ``torch.compile`` that a file may have.
_COMPILE = {f"compile__{name}" for name in ("mode", "dynamic", "fullgraph")}
_FLOATS = {np.dtype(code).str: np.dtype(code) for code in "fdg"}
#: Components that a file may claim without having as many numbers.
_FEW_COMPONENTS = 2**16


# writing ----------------------------------------------------------------------------------


def write(estimator: Any, path: str | os.PathLike[str]) -> None:
    """Write a fitted estimator; see ``WiSEALETransformer.save``."""
    target = check_target(path)
    write_file(target, *_taken_apart(estimator))


def _taken_apart(estimator: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header."""
    name = type(estimator).__name__
    if type(estimator).__module__.split(".")[0] != __name__.split(".")[0]:
        raise ValueError(
            f"{name} cannot be saved: it is no class of sklearn_wiseale. Pickle it instead."
        )
    check_parameters(estimator)
    net, net_params = estimator._stored_net()
    net = net.on_cpu()
    tensors = {
        "scaling/shift": torch.from_numpy(np.array(estimator._scaling.shift)),
        "scaling/scale": torch.from_numpy(np.array(estimator._scaling.scale)),
        "generator/order": net.order_generator_.get_state(),
        "generator/noise": net.noise_generator_.get_state(),
    }
    criterion = copy.deepcopy(net.criterion_)  # without a bank, as in a pickle
    for part, module in (("module", net.module_), ("criterion", criterion)):
        for key, value in module.state_dict().items():
            if not isinstance(value, Tensor):
                raise ValueError(
                    f"{name} cannot be saved: of the {part}'s state {key!r} is a "
                    f"{type(value).__name__}, and files hold tensors. Pickle it instead."
                )
            tensors[f"{part}/{key}"] = value
    fitted = _fitted(estimator)
    noise = vars(estimator).get("noise_scale_")
    if isinstance(noise, np.ndarray):
        tensors["noise_scale"] = torch.from_numpy(np.array(noise))
    elif noise is not None:
        fitted["noise_scale_"] = float(noise)
    parameters = estimator.get_params(deep=False)
    if isinstance(parameters["device"], torch.device):
        parameters["device"] = str(parameters["device"])
    built = {**estimator._built, "net_params": net_params}
    header = {
        "kind": _KIND,
        "class": name,
        "versions": {package: _version(package) for package in _PACKAGES},
        "parameters": _encoded(parameters),
        "built": _encoded(built),
        "fitted": fitted,
        "net": {key: encode(getattr(net, key), f"net_.{key}") for key in _NET},
        "schedule": _schedule(net.callbacks_),
    }
    return tensors, header


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # run from a folder that is not installed
        return None


def _encoded(parameters: dict[str, Any]) -> dict[str, Any]:
    """Parameters; parts that cannot be stored by what they were."""
    _refuse_programs(parameters["net_params"])
    encoded = {}
    for name, value in parameters.items():
        try:
            encoded[name] = encode(value, name)
        except ForeignPartError:
            if name not in PARTS:
                raise
            encoded[name] = {"handed_back": [type(value).__name__, repr(value)[:200]]}
    return encoded


def _refuse_programs(net_params: dict[str, Any] | None) -> None:
    """Raise a ValueError for settings of ``torch.compile`` among which programs may be named."""
    names = {name for name in net_params or {} if str(name).startswith("compile__")} - _COMPILE
    if names:
        raise ValueError(
            f"net_params {shown(sorted(names))} cannot be stored: backends and options of "
            "torch.compile may name programs, which files must not do"
        )


def _fitted(estimator: Any) -> dict[str, Any]:
    """Fitted attributes."""
    state = vars(estimator)
    fitted: dict[str, Any] = {name: encode(state[name], name) for name in _COUNTS}
    fitted["_inverse_dtype"] = np.dtype(state["_inverse_dtype"]).str
    fitted["_image_shape"] = encode(state["_image_shape"], "_image_shape")
    fitted["history_"] = _rows_by_names(state["history_"])
    for name in ("best_epoch_", "start_losses_", "stop_reason_"):
        if name in state:
            fitted[name] = encode(state[name], name)
    if "feature_names_in_" in state:
        fitted["feature_names_in_"] = list(map(str, state["feature_names_in_"]))
    if "aggregate_kl_bounds_" in state:
        fitted["aggregate_kl_bounds_"] = list(state["aggregate_kl_bounds_"])
    if "_sklearn_output_config" in state:  # of set_output
        fitted["set_output"] = encode(state["_sklearn_output_config"], "set_output")
    return fitted


def _rows_by_names(history: list[dict[str, Any]]) -> list[list[Any]]:
    """Runs of rows that have the same names, which are then written once."""
    runs: list[list[Any]] = []
    for row in history:
        names = list(row)
        if not runs or runs[-1][0] != names:
            runs.append([names, []])
        runs[-1][1].append([encode(value, f"history_ ({name!r})") for name, value in row.items()])
    return runs


def _schedule(callbacks: list[Any]) -> dict[str, Any] | None:
    """Where the learning rate's schedule stands, if it is ours."""
    return next((part.state() for name, part in callbacks if name == "schedule"), None)


# reading ----------------------------------------------------------------------------------


def read(
    path: str | os.PathLike[str],
    device: str | torch.device,
    handed_back: Mapping[str, Part | None],
    *,
    estimators: Mapping[str, type],
    bounds: type,
) -> Any:
    """Read what ``write`` has written; see ``sklearn_wiseale.load``.

    Parameters
    ----------
    path, device : see ``load``

    handed_back : dict of str to Part or None
        Objective, likelihood and network of the user's own.

    estimators : dict of str to class
        Classes that a file may name.

    bounds : class
        Of ``aggregate_kl_bounds_``.
    """
    find_device(device, "float32")
    tensors, header = read_file(as_path(path))
    try:
        with torch.device("cpu"):
            restored = _Restored(tensors, header, handed_back)
            return restored.estimator(estimators, bounds, device)
    except DAMAGE as error:
        raise ValueError(f"{str(path)!r} cannot be loaded: {reason_of(error)}") from error


def _entry(record: dict[str, Any], name: str, *kinds: type) -> Any:
    """An entry of a header, of one of some types."""
    if name not in record:
        raise ValueError(f"its header lacks the entry {name!r}")
    value = record[name]
    if type(value) not in kinds:
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"its entry {name!r} must be of type {wanted}. Got {shown(value)}")
    return value


class _Restored:
    """What a file says, checked on its way to an estimator.

    Parameters
    ----------
    tensors, header : as ``read_file`` gives them

    handed_back : dict of str to Part or None
    """

    def __init__(
        self, tensors: dict[str, Tensor], header: dict[str, Any], handed_back: Mapping[str, Any]
    ) -> None:
        if header.get("kind") != _KIND:
            what = "a checkpoint of fit" if "fingerprint" in header else "a file of another kind"
            raise ValueError(f"it must be written by save, but it is {what}")
        self.tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        self.header = header
        self.fitted = _entry(header, "fitted", dict)
        self.handed_back = handed_back
        self.used: set[str] = set()
        self.lacking: dict[str, list[str]] = {}

    def estimator(self, estimators: Mapping[str, type], bounds: type, device: Any) -> Any:
        """The estimator."""
        name = _entry(self.header, "class", str)
        if name not in estimators:
            raise ValueError(f"it names the class {name!r}, which this release does not have")
        cls: Any = estimators[name]
        known = set(cls._get_param_names())
        parameters, built = self._parameters("parameters", known), self._parameters("built", known)
        self._refuse_wrong_parts()
        estimator = cls(**parameters)
        estimator.device = self._device(estimator.device, estimator.precision, device)
        check_parameters(estimator)
        builder = cls(**{**parameters, **built, "device": "cpu"})
        parts = check_parameters(builder)
        state = self._attributes(builder, bounds)
        scaling = Scaling(state.pop("shift"), state.pop("scale"))
        builder.n_features_in_ = state["n_features_in_"]
        shaping = ("n_components", "scale", "precision")
        estimator.__dict__.update(
            state,
            net_=self._net(builder, parts, state["history_"]),
            _scaling=scaling,
            _built={**{key: built[key] for key in shaping}, **parts},
            _net_params=built["net_params"],
        )
        return estimator

    def _parameters(self, where: str, known: set[str]) -> dict[str, Any]:
        """Parameters, those parts that are not in the file being handed back."""
        encoded = _entry(self.header, where, dict)
        if set(encoded) - known:
            raise ValueError(
                "it has parameters that this release does not have: "
                f"{shown(sorted(set(encoded) - known))}"
            )
        parameters = {}
        for name, value in encoded.items():
            if name in PARTS and type(value) is dict and set(value) == {"handed_back"}:
                parameters[name] = self._handed_back(name, value["handed_back"])
            else:
                parameters[name] = decode(value)
        if isinstance(parameters.get("net_params"), dict):
            _refuse_programs(parameters["net_params"])
        return parameters

    def _handed_back(self, name: str, what: Any) -> Any:
        right = type(what) is list and list(map(type, what)) == [str, str]
        if not right:
            raise ValueError(f"it has a {name} that cannot be read: {shown(what)}")
        given = self.handed_back.get(name)
        self.used.add(name)
        if given is None:
            self.lacking[name] = what
        return given

    def _refuse_wrong_parts(self) -> None:
        """Raise a ValueError if parts have not been handed back, or without need."""
        if self.lacking:
            are = "is" if len(self.lacking) == 1 else "are"
            names = " and ".join(self.lacking)
            call = ", ".join(f"{name}={kind}(...)" for name, (kind, _) in self.lacking.items())
            what = "; ".join(text for _, text in self.lacking.values())
            raise ValueError(
                f"its {names} {are} not stored, being code of your own, and must be handed back: "
                f"load(path, {call}). What was saved had {what}"
            )
        unused = {name for name, part in self.handed_back.items() if part is not None} - self.used
        if unused:
            raise ValueError(
                f"its {' and '.join(sorted(unused))} cannot be handed back: the file has its own. "
                "Use set_params after loading"
            )

    def _device(self, stored: Any, precision: Any, asked: Any) -> Any:
        """The device that is asked for, or that of the file, if it is here."""
        if asked != "auto" or type(stored) is not str:
            return stored if asked == "auto" else asked
        try:
            find_device(stored, precision)
        except ValueError:
            return "auto"
        return stored

    def _attributes(self, builder: Any, bounds: type) -> dict[str, Any]:
        """Fitted attributes, and shift and scale."""
        fitted = self.fitted
        state = {name: self._count(name) for name in _COUNTS}
        n_features, k = state["n_features_in_"], state["n_components_"]
        most = max(_FEW_COMPONENTS, sum(tensor.numel() for tensor in self.tensors.values()))
        if k != builder.n_components or not state["_n_axes"] <= k <= most:
            raise ValueError(f"it cannot have {k} components")
        state["shift"] = self._numbers("scaling/shift", n_features)
        state["scale"] = scale = self._numbers("scaling/scale", n_features)
        if not (np.isfinite([state["shift"], scale]).all() and (scale > 0).all()):
            raise ValueError("its scaling must be finite and positive")
        if "noise_scale" in self.tensors:
            state["noise_scale_"] = self._numbers("noise_scale", n_features)
        elif "noise_scale_" in fitted:
            state["noise_scale_"] = _entry(fitted, "noise_scale_", float)
        state["history_"] = self._history()
        if "best_epoch_" in fitted:
            state["best_epoch_"] = self._count("best_epoch_")
        if "stop_reason_" in fitted:
            state["stop_reason_"] = _entry(fitted, "stop_reason_", str)
        if "start_losses_" in fitted:
            state["start_losses_"] = losses = decode(fitted["start_losses_"])
            if type(losses) is not dict or not set(map(type, losses.values())) <= {float}:
                raise ValueError(f"its entry 'start_losses_' must be of numbers. Got {losses}")
        state["_inverse_dtype"] = _FLOATS[_entry(fitted, "_inverse_dtype", str)]
        state["_image_shape"] = shape = decode(fitted.get("_image_shape"))
        if shape is not None and (type(shape) is not tuple or math.prod(shape) != n_features):
            raise ValueError(f"images of the shape {shown(shape)} have not {n_features} pixels")
        if "feature_names_in_" in fitted:
            names = _entry(fitted, "feature_names_in_", list)
            if len(names) != n_features or not all(type(name) is str for name in names):
                raise ValueError(f"it must have the names of {n_features} features")
            state["feature_names_in_"] = np.array(names, dtype=object)
        if "aggregate_kl_bounds_" in fitted:
            values = _entry(fitted, "aggregate_kl_bounds_", list)
            if list(map(type, values)) != [float, float, int]:
                raise ValueError(f"it has no bounds, but {shown(values)}")
            state["aggregate_kl_bounds_"] = bounds(*values)
        if "set_output" in fitted:
            state["_sklearn_output_config"] = config = decode(_entry(fitted, "set_output", dict))
            if type(config) is not dict or not set(map(type, config.values())) <= {str}:
                raise ValueError(f"its entry 'set_output' must name containers. Got {config}")
        return state

    def _count(self, name: str) -> Any:
        value = decode(_entry(self.fitted, name, int, dict))
        right = (
            isinstance(value, Integral) and not isinstance(value, bool) and 0 <= int(value) < 2**63
        )
        if not right:
            raise ValueError(f"its entry {name!r} must be an int >= 0. Got {shown(value)}")
        return value

    def _numbers(self, name: str, n_features: int) -> np.ndarray:
        """A tensor of a float64 number for each feature."""
        tensor = self.tensors.pop(name, None)
        if tensor is None or tensor.dtype != torch.float64 or tensor.shape != (n_features,):
            raise ValueError(f"its tensor {name!r} must be {n_features} numbers in float64")
        return tensor.numpy()

    def _history(self) -> list[dict[str, Any]]:
        history = []
        for run in _entry(self.fitted, "history_", list):
            names, rows = run if type(run) is list and len(run) == 2 else (None, None)
            if type(names) is not list or type(rows) is not list:
                raise ValueError("its entry 'history_' must be of pairs of names and rows")
            for row in rows:
                if type(row) is not list or len(row) != len(names):
                    raise ValueError(f"its entry 'history_' has a row without all of {names}")
                history.append({str(k): decode(v) for k, v in zip(names, row, strict=True)})
        return history

    def _net(
        self, builder: Any, parts: dict[str, Any], history: list[dict[str, Any]]
    ) -> VariationalNet:
        """The net as a pickle would give it back, on the CPU."""
        entries = _entry(self.header, "net", dict)
        own_network = "handed_back" not in _entry(self.header, "built", dict)["network"]
        n_features, k = builder.n_features_in_, int(builder.n_components)
        with private_torch_rng(0, torch.device("cpu")):
            module = blank_module(
                n_features,
                k,
                parts["likelihood"],
                parts["network"],
                torch.float64 if builder.precision == "float64" else torch.float32,
                missing="module/flags.weight" in self.tensors,
                device=torch.device("meta" if own_network else "cpu"),
            )
            divergence = parts["objective"].build(n_features, k)
        self._fill(module, "module", check=own_network)
        self._fill(divergence, "criterion", check=False)
        rate, seed = _entry(entries, "lr", float, int), _entry(entries, "seed", int)
        net_params = dict(builder.net_params or {})
        compiles = net_params.pop("compile", False)
        builder.net_params = net_params
        net = builder._build_net(module, divergence, rate, seed)
        net.compile = compiles  # in later fits; as one that is unpickled, this net is not compiled
        for name in ("order", "noise"):
            state = self.tensors.pop(f"generator/{name}", None)
            if state is None:
                raise ValueError(f"it lacks the tensor 'generator/{name}'")
            set_generator_state(getattr(net, f"{name}_generator_"), state)
        if self.tensors:
            raise ValueError(f"it has tensors that belong to nothing: {shown([*self.tensors])}")
        for name in ("batch_size", "n_samples_", "first_row_"):
            setattr(net, name, _entry(entries, name, int))
        net.missing_, net.average_ = _entry(entries, "missing_", bool), None
        self._go_on(net, history)
        return net

    def _go_on(self, net: VariationalNet, history: list[dict[str, Any]]) -> None:
        """History and schedule; the optimiser begins anew."""
        net.record_epochs(history)
        schedule = dict(net.callbacks_).get("schedule")
        if schedule is not None:
            stored = _entry(self.header, "schedule", dict)
            schedule.restore({name: _entry(stored, name, int) for name in ("step", "begin")})
        net.__dict__.pop("optimizer_", None)
        net._set_training(False)

    def _fill(self, module: nn.Module, part: str, *, check: bool) -> None:
        """Give a module its weights and buffers, if they are those that it has."""
        prefix = f"{part}/"
        own = [name for name in self.tensors if name.startswith(prefix)]
        found = {name.removeprefix(prefix): self.tensors.pop(name) for name in own}
        wanted = module.state_dict()
        for names, problem in (
            (wanted.keys() - found.keys(), "lacks"),
            (found.keys() - wanted.keys(), "has, besides those that its parameters ask for,"),
        ):
            if names and (part == "module" or "extra_state" not in str(names)):
                raise ValueError(f"it {problem} tensors of the {part}: {shown(sorted(names))}")
        for name, tensor in found.items():
            expected = wanted.get(name)
            if not isinstance(expected, Tensor) or name.endswith("_extra_state"):
                continue
            require_like(prefix + name, tensor, expected)
            if check:
                require_finite(prefix + name, tensor)
        module.load_state_dict(found, assign=check)
