"""Who may import whom: one direction of flow, and one door for each framework."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import sklearn_wiseale

ROOT = Path(sklearn_wiseale.__file__).parent

#: Modules of the package that a module may import. A new module needs a row here.
INSIDE = {
    "__init__": {"_transformer"},
    "_arguments": set(),
    "_callbacks": set(),
    "_checkpoint": set(),
    "_checks": {"_data", "likelihoods", "networks", "objectives"},
    "_data": {"_ranks"},
    "_encoding": {"_parts", "likelihoods", "networks", "objectives"},
    "_evidence": {"_data", "likelihoods", "likelihoods._gaussian", "networks"},
    "_net": {"_callbacks", "_data", "_packed", "_ranks", "likelihoods", "objectives._base"},
    "_onnx": {"_checkpoint", "_data", "_net"},
    "_packed": set(),
    "_parts": set(),
    "_persistence": {
        "_checkpoint",
        "_checks",
        "_data",
        "_encoding",
        "_net",
        "_parts",
        "_start",
        "_states",
    },
    "_ranks": set(),
    "_start": {"_data", "_net", "_statistics", "likelihoods", "likelihoods._base", "networks"},
    "_states": {"_callbacks", "_net"},
    "_statistics": set(),
    "_tasks": {"_callbacks"},
    "_transformer": {
        "_arguments",
        "_callbacks",
        "_checkpoint",
        "_checks",
        "_data",
        "_evidence",
        "_net",
        "_onnx",
        "_persistence",
        "_ranks",
        "_start",
        "_states",
        "_statistics",
        "_tasks",
        "diagnostics",
        "likelihoods",
        "networks",
        "objectives",
    },
    "datasets": {"_arguments"},
    "diagnostics": {
        "_arguments",
        "_data",
        "objectives._aggregate",
        "objectives._base",
        "objectives._sliced",
    },
    "likelihoods": {
        "likelihoods._base",
        "likelihoods._bernoulli",
        "likelihoods._categorical",
        "likelihoods._gaussian",
        "likelihoods._mixed",
        "likelihoods._negative_binomial",
        "likelihoods._poisson",
    },
    "likelihoods._base": {"_data", "_parts"},
    "likelihoods._bernoulli": {"likelihoods._base"},
    "likelihoods._categorical": {"_arguments", "likelihoods._base"},
    "likelihoods._gaussian": {"_arguments", "likelihoods._base"},
    "likelihoods._mixed": {
        "likelihoods._base",
        "likelihoods._bernoulli",
        "likelihoods._categorical",
        "likelihoods._gaussian",
    },
    "likelihoods._negative_binomial": {"_arguments", "likelihoods._poisson"},
    "likelihoods._poisson": {"likelihoods._base"},
    "networks": {"networks._base", "networks._conv", "networks._mlp", "networks._modules"},
    "networks._base": {"_parts"},
    "networks._conv": {"_arguments", "networks._base"},
    "networks._mlp": {"_arguments", "networks._base"},
    "networks._modules": {"_packed", "networks._base"},
    "objectives": {
        "objectives._aggregate",
        "objectives._base",
        "objectives._baselines",
        "objectives._overlap",
    },
    "objectives._aggregate": {
        "_arguments",
        "objectives._bank",
        "objectives._base",
        "objectives._drawn",
        "objectives._gradient",
        "objectives._overlap",
        "objectives._sliced",
    },
    "objectives._bank": {"objectives._sides"},
    "objectives._base": {"_arguments", "_parts"},
    "objectives._baselines": {"_arguments", "objectives._base"},
    "objectives._drawn": {"objectives._sides"},
    "objectives._gradient": set(),
    "objectives._overlap": {
        "objectives._gradient",
        "objectives._pairs",
        "objectives._sides",
        "objectives._tiles",
    },
    "objectives._pairs": {"objectives._sides", "objectives._tiles"},
    "objectives._sides": set(),
    "objectives._sliced": {"objectives._gradient"},
    "objectives._tiles": {"objectives._sides"},
    "plotting": {
        "plotting._embedding",
        "plotting._reconstruction",
        "plotting._training",
        "plotting._traversal",
    },
    "plotting._base": set(),
    "plotting._embedding": {"_arguments", "plotting._base"},
    "plotting._reconstruction": {"_arguments", "plotting._base"},
    "plotting._training": {"plotting._base"},
    "plotting._traversal": {"_arguments", "plotting._base"},
}

_CHECKS = "sklearn.utils._param_validation"

#: Packages from outside that a module may import; of scikit-learn, what of it.
OUTSIDE = {
    "__init__": set(),
    "_arguments": {"numpy", "sklearn.utils"},
    "_callbacks": {"joblib", "torch", "skorch", "tqdm", "sklearn.exceptions"},
    "_checkpoint": {"numpy", "safetensors", "torch"},
    "_checks": {"numpy", "torch", "sklearn.base", "sklearn.utils"},
    "_data": {"numpy", "sklearn.utils", "torch"},
    "_encoding": {"numpy"},
    "_evidence": {"torch"},
    "_net": {"numpy", "torch", "skorch"},
    "_onnx": {"numpy", "onnx", "onnxscript", "torch"},
    "_packed": {"torch"},
    "_parts": {"sklearn.base"},
    "_persistence": {"numpy", "torch"},
    "_ranks": {"numpy", "torch"},
    "_start": {"numpy", "torch"},
    "_states": {"torch"},
    "_statistics": {"numpy", "scipy"},
    "_tasks": {"numpy", "skorch", "sklearn.callback"},
    "_transformer": {
        "joblib",
        "numpy",
        "scipy",
        "torch",
        "sklearn.base",
        "sklearn.exceptions",
        "sklearn.utils",
    },
    "datasets": {"numpy"},
    "diagnostics": {"numpy", "torch", "scipy", "sklearn.utils"},
    "likelihoods": set(),
    "likelihoods._base": {"numpy", "torch"},
    "likelihoods._bernoulli": {"numpy", "torch"},
    "likelihoods._categorical": {"numpy", "torch"},
    "likelihoods._gaussian": {"numpy", "torch", _CHECKS},
    "likelihoods._mixed": {
        "numpy",
        "torch",
        "sklearn.pipeline",
        "sklearn.preprocessing",
        "sklearn.utils",
    },
    "likelihoods._negative_binomial": {"numpy", "torch", _CHECKS},
    "likelihoods._poisson": {"numpy", "torch"},
    "networks": set(),
    "networks._base": {"torch"},
    "networks._conv": {"torch", _CHECKS},
    "networks._mlp": {"torch", _CHECKS},
    "networks._modules": {"joblib", "torch"},
    "objectives": set(),
    "objectives._aggregate": {"torch", _CHECKS},
    "objectives._bank": {"torch"},
    "objectives._base": {"torch"},
    "objectives._baselines": {"torch"},
    "objectives._drawn": {"torch"},
    "objectives._gradient": {"torch"},
    "objectives._overlap": {"torch"},
    "objectives._pairs": {"torch"},
    "objectives._sides": {"torch"},
    "objectives._sliced": {"torch"},
    "objectives._tiles": {"torch"},
    "plotting": set(),
    "plotting._base": {"matplotlib", "numpy", "sklearn.utils"},
    "plotting._embedding": {"matplotlib", "numpy", "scipy", "sklearn.utils"},
    "plotting._reconstruction": {"matplotlib", "numpy", "sklearn.metrics", "sklearn.utils"},
    "plotting._training": {"matplotlib", "numpy"},
    "plotting._traversal": {"matplotlib", "numpy", "scipy"},
}

#: Imported only where they are used, so that the package imports without them and quickly.
LATE = {"matplotlib", "tqdm", "onnx", "onnxscript", "pandas", "polars"}


def name_of(path):
    """Name of a module inside the package: ``objectives._base``, or ``__init__`` for its root."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


PATHS = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in PATHS.items()}
each_module = pytest.mark.parametrize("module", PATHS)


def absolute(module, node):
    """Full name of what a ``from ... import`` takes its names from."""
    if not node.level:
        return node.module
    package = ["sklearn_wiseale", *module.split(".")]
    if PATHS[module].name != "__init__.py" or module == "__init__":
        package = package[:-1]
    package = package[: len(package) - (node.level - 1)]
    return ".".join([*package, *filter(None, [node.module])])


def imports(module, nodes):
    """Full names of all that some of a module's nodes import."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = absolute(module, node)
            for alias in node.names:  # ``from . import _overlap`` imports a module
                inner = f"{source}.{alias.name}".removeprefix("sklearn_wiseale.")
                names.add(f"sklearn_wiseale.{inner}" if inner in PATHS else source)
    return names


def inside(module):
    names = imports(module, ast.walk(TREES[module]))
    ours = {name for name in names if name.split(".")[0] == "sklearn_wiseale"}
    return {name.partition(".")[2] or "__init__" for name in ours}


def outside(module):
    names = imports(module, ast.walk(TREES[module]))
    known = sys.stdlib_module_names | {"sklearn_wiseale"}
    return {name for name in names if name.split(".")[0] not in known}


def test_every_module_has_its_rules():
    assert set(INSIDE) == set(OUTSIDE) == set(PATHS)


@each_module
def test_module_imports_no_others_of_the_package_than_allowed(module):
    assert inside(module) <= INSIDE[module]


@each_module
def test_module_goes_out_by_its_own_doors(module):
    for name in outside(module):
        assert any(name == door or name.startswith(f"{door}.") for door in OUTSIDE[module]), name


def test_imports_have_one_direction():
    order = graphlib.TopologicalSorter(INSIDE).static_order()  # raises CycleError
    assert set(order) == set(INSIDE)


@pytest.mark.parametrize(
    ("framework", "doors"),
    [
        ("skorch", {"_net", "_callbacks", "_tasks"}),
        ("tqdm", {"_callbacks"}),
        ("onnx", {"_onnx"}),
        ("sklearn.base", {"_checks", "_parts", "_transformer"}),
        (
            "matplotlib",
            {
                "plotting._base",
                "plotting._embedding",
                "plotting._reconstruction",
                "plotting._training",
                "plotting._traversal",
            },
        ),
    ],
)
def test_framework_has_few_doors(framework, doors):
    assert {m for m, allowed in OUTSIDE.items() if framework in allowed} == doors


def at_import(body):
    """Statements that run when a module is imported, those inside classes and ``if`` included."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.If | ast.Try | ast.ClassDef):
            for part in ("body", "orelse", "finalbody"):
                yield from at_import(getattr(node, part, []))
            for handler in getattr(node, "handlers", []):
                yield from at_import(handler.body)


@each_module
def test_optional_packages_are_imported_where_they_are_used(module):
    names = imports(module, at_import(TREES[module].body))
    assert not {name.split(".")[0] for name in names} & LATE


@each_module
def test_nothing_happens_on_import(module):
    quiet = (
        ast.Import,
        ast.ImportFrom,
        ast.FunctionDef,
        ast.ClassDef,
        ast.Assign,
        ast.AnnAssign,
        ast.If,
        ast.Try,
        ast.Pass,
    )
    for node in at_import(TREES[module].body):
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        assert docstring or isinstance(node, quiet), f"line {node.lineno}: {ast.unparse(node)}"


@each_module
def test_public_names_exist(module):
    full = "sklearn_wiseale" if module == "__init__" else f"sklearn_wiseale.{module}"
    __import__(full)
    loaded = sys.modules[full]
    assert all(hasattr(loaded, name) for name in loaded.__all__)
    assert len(loaded.__all__) == len(set(loaded.__all__))


def test_import_leaves_global_settings_as_they_were():
    code = """
import logging, os, random, sys, warnings
import numpy, sklearn, skorch, torch

def settings():
    return (
        torch.get_rng_state().tolist(), torch.get_default_dtype(), torch.get_num_threads(),
        torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled(),
        numpy.random.get_state()[1].tolist(), numpy.geterr(), random.getstate(),
        sklearn.get_config(), list(warnings.filters), logging.getLogger().handlers,
        dict(os.environ), os.getcwd(), os.listdir(),
    )

import skorch.callbacks, sklearn.utils.validation, scipy.stats  # what these do is theirs
before, modules = settings(), set(sys.modules)
import sklearn_wiseale, sklearn_wiseale.datasets
assert settings() == before
late = (set(sys.modules) - modules) & set(sys.argv[1:])
assert not late, late
"""
    command = [sys.executable, "-c", code, *LATE]
    done = subprocess.run(command, cwd=ROOT.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
