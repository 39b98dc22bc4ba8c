"""Who may import whom: one direction of flow, and one door for each framework."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import sklearn_wiseale

ROOT = Path(sklearn_wiseale.__file__).parent

#: Rooms in the order in which X goes through them; each may use those before it, and itself.
LAYERS = [
    {"_data"},
    {"objectives", "networks"},
    {"likelihoods", "diagnostics"},
    {"_model"},
    {"_training"},
    {"_persistence"},
    {"_model_selection"},
    {"_steps"},
    {"_generation", "_explanation"},
    {"_transformer"},
    {"_load", "_detector"},
    {"__init__"},
]
#: Rooms that use the public face of an estimator, and of the package only the checks of arguments
#: and of the columns of a dataframe.
FACE = {"plotting", "datasets"}
OF_ARGUMENTS = {"_data.validation", "_data.frames"}

#: Packages and modules from outside that only these rooms or modules import.
DOORS = {
    "skorch": {"_training"},
    "sklearn.callback": {"_training.sklearn_callbacks"},
    "sklearn.utils._param_validation": {"_data.validation"},
    "torch.distributed": {"_training.distributed"},
    "safetensors": {"_persistence.file"},
    "onnx": {"_persistence.onnx"},
    "onnxscript": {"_persistence.onnx"},
    "matplotlib": {"plotting"},
    "tqdm": {"_training.callbacks"},
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
            names.update(f"{source}.{alias.name}" for alias in node.names)
    return names


def inside(module):
    """Modules of the package that a module imports, or imports names from."""
    names = imports(module, ast.walk(TREES[module]))
    ours = {name.partition(".")[2] for name in names if name.split(".")[0] == "sklearn_wiseale"}
    return {name if name in PATHS else name.rpartition(".")[0] or "__init__" for name in ours}


def outside(module):
    names = imports(module, ast.walk(TREES[module]))
    known = sys.stdlib_module_names | {"sklearn_wiseale"}
    return {name for name in names if name.split(".")[0] not in known}


def room_of(module):
    return module.split(".")[0]


def level_of(room):
    return next(level for level, rooms in enumerate(LAYERS) if room in rooms)


@each_module
def test_rooms_use_only_those_before_them(module):
    room, used = room_of(module), inside(module)
    if room in FACE:
        assert {name for name in used if room_of(name) != room} <= OF_ARGUMENTS
        return
    for name in used:
        before = level_of(room_of(name)) < level_of(room)
        assert before or room_of(name) == room, name


def test_imports_have_one_direction():
    order = graphlib.TopologicalSorter({module: inside(module) for module in PATHS})
    assert set(order.static_order()) == set(PATHS)  # raises CycleError


@pytest.mark.parametrize("framework", DOORS)
def test_framework_has_its_doors_alone(framework):
    inner = f"{framework}."
    users = {m for m in PATHS if any(f"{n}.".startswith(inner) for n in outside(m))}
    assert users
    for module in users:
        assert {module, room_of(module)} & DOORS[framework], module


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
