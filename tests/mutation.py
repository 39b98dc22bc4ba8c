"""Mutation testing: small errors put into the mathematics, one at a time, and who notices.

    python tests/mutation.py --sample 400 --jobs 2
    python tests/mutation.py --again survived,error     # after a test was added

A mutant differs from a module by one operator, number, condition, argument, call or returned
value. A sample of them is drawn, the same for the same seed and in proportion to the modules'
mutants; a larger sample contains a smaller one. Left out are docstrings, annotations,
``__all__``, error messages, ``assert``, and ``strict=True`` of a zip.

Each mutant is imported in place of its module in a process of its own, forked from one that has
imported all libraries. Only tests that execute the mutated statement are run, quick and different
ones first, until one fails; one that takes 20 times its processor time, and 10 seconds, has failed
too.
"""

from __future__ import annotations

import argparse
import ast
import copy
import csv
import hashlib
import importlib.abc
import importlib.util
import json
import math
import os
import random
import signal
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "sklearn_wiseale"
RESULTS = ROOT / "examples/benchmarks/results/mutation.csv"
#: Folders whose modules are mutated, and the files of tests that must notice.
TESTS = {
    "objectives": ["parts", "objectives", "width", "diagnostics", "overlap", "drawn", "neighbors"],
    "likelihoods": ["parts", "likelihoods", "missing", "kinds"],
}
SURVIVED, KILLED, TIMEOUT, ERROR = 0, 1, 2, 3
OUTCOMES = {SURVIVED: "survived", KILLED: "killed", TIMEOUT: "timeout", ERROR: "error"}
MODULES = {"torch", "math", "np", "F", "nn"}

COMPARISONS = {
    ast.Lt: [ast.LtE, ast.GtE],
    ast.LtE: [ast.Lt, ast.Gt],
    ast.Gt: [ast.GtE, ast.LtE],
    ast.GtE: [ast.Gt, ast.Lt],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is],
    ast.In: [ast.NotIn],
    ast.NotIn: [ast.In],
}
ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.MatMult: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}


class Mutant(NamedTuple):
    """One change of one module."""

    module: str
    line: int
    mutation: str
    statement: range  # lines of the statement, of a compound one without its body
    in_function: bool
    place: tuple[Any, str, int | None]  # node, field and index of what is replaced
    new: Any

    def code(self, tree: ast.Module) -> CodeType:
        """The module with the change."""
        parent, field, index = self.place
        old = getattr(parent, field)
        new = self.new if index is None else [*old[:index], self.new, *old[index + 1 :]]
        setattr(parent, field, new)
        try:
            fixed = ast.fix_missing_locations(tree)
            return compile(fixed, str(PACKAGE / self.module), "exec", dont_inherit=True)
        finally:
            setattr(parent, field, old)


def changed(node: Any, **fields: Any) -> Any:
    """A shallow copy of a node with other fields."""
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def variants(node: Any, parent: Any, field: str) -> Any:
    """What a node may be replaced by, and how that is called."""
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            for other in COMPARISONS[type(op)]:
                yield changed(node, ops=[*node.ops[:i], other(), *node.ops[i + 1 :]])
    elif isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in ARITHMETIC:
        yield changed(node, op=ARITHMETIC[type(node.op)]())
    elif isinstance(node, ast.BoolOp):
        yield changed(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.UAdd):
        yield node.operand
    elif isinstance(node, ast.Constant):
        value = node.value
        if isinstance(value, bool):
            yield changed(node, value=not value)
        elif isinstance(value, int):
            yield changed(node, value=value + 1)
        elif isinstance(value, float):
            yield changed(node, value=2 * value if value else 1.0)
        elif isinstance(value, str):
            yield changed(node, value=f"not {value}")
    elif isinstance(node, ast.Call):
        for i in range(len(node.keywords) if ast.unparse(node.func) != "zip" else 0):
            yield changed(node, keywords=[*node.keywords[:i], *node.keywords[i + 1 :]])
        called = node.func
        if isinstance(called, ast.Attribute) and not isinstance(parent, ast.Expr):
            owner = called.value
            if not (isinstance(owner, ast.Name) and owner.id in MODULES):
                yield owner
    elif isinstance(node, ast.Raise) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ):
        yield ast.Pass()
    elif isinstance(node, ast.Return) and ast.unparse(node) not in ("return", "return None"):
        yield changed(node, value=ast.Constant(None))
    if field in ("test", "ifs") and not isinstance(node, (ast.UnaryOp, ast.Compare)):
        yield ast.UnaryOp(ast.Not(), node)


def skipped(node: Any, parent: Any, field: str) -> bool:
    """Whether a node is no part of what is computed."""
    if field in ("annotation", "returns") or isinstance(node, (ast.Assert, ast.JoinedStr)):
        return True
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
        return True
    if isinstance(parent, ast.Raise) or (isinstance(node, ast.keyword) and node.arg == "strict"):
        return True
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)  # a docstring


def mutants_of(module: str, tree: ast.Module) -> list[Mutant]:
    """All mutants of a module, in the order of its source."""
    found: list[Mutant] = []
    names: dict[tuple[int, str], int] = defaultdict(int)

    def visit(parent: Any, statement: range, in_function: bool) -> None:
        for field, value in ast.iter_fields(parent):
            inside = in_function
            if isinstance(parent, (ast.FunctionDef, ast.Lambda)):
                inside = in_function or field == "body"
            for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if not isinstance(node, ast.AST) or skipped(node, parent, field):
                    continue
                lines = statement
                if isinstance(node, ast.stmt):
                    body = getattr(node, "body", None)
                    stop = body[0].lineno if isinstance(body, list) else node.end_lineno + 1
                    lines = range(node.lineno, max(stop, node.lineno + 1))
                for new in variants(node, parent, field):
                    old_text, new_text = (" ".join(ast.unparse(n).split()) for n in (node, new))
                    text = f"{old_text} -> {new_text}"
                    names[node.lineno, text] += 1
                    if names[node.lineno, text] > 1:
                        text += f" (no. {names[node.lineno, text]})"
                    place = parent, field, index
                    found.append(Mutant(module, node.lineno, text, lines, inside, place, new))
                visit(node, lines, inside)

    visit(tree, range(0), False)
    return found


def sample_of(mutants: list[Mutant], share: float, seed: int) -> list[Mutant]:
    """A part of a module's mutants, of which a larger share draws the same and more."""
    order = random.Random(seed).sample(range(len(mutants)), len(mutants))
    return [mutants[i] for i in order[: math.ceil(share * len(mutants))]]


class Imported(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports a mutant in place of its module."""

    def __init__(self, mutant: Mutant, tree: ast.Module) -> None:
        name = mutant.module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        self.name, self.path = f"sklearn_wiseale.{name}", PACKAGE / mutant.module
        self.code = mutant.code(tree)

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(
            name,
            self.path,
            loader=self,
            submodule_search_locations=(
                [str(self.path.parent)] if self.path.name == "__init__.py" else None
            ),
        )

    def exec_module(self, module: Any) -> None:
        exec(self.code, module.__dict__)


def in_package(frame: Any) -> str | None:
    """The module of a frame, if it is one that is mutated."""
    path = frame.f_code.co_filename
    module = path[len(str(PACKAGE)) + 1 :] if path.startswith(str(PACKAGE)) else ""
    return module if module.split("/")[0] in TESTS else None


class Reach:
    """A pytest plugin: which lines of the package each test executes, and how long it takes."""

    def __init__(self) -> None:
        self.tests: dict[str, dict[str, Any]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Any:
        for name, module in list(sys.modules.items()):
            if name.startswith("sklearn_wiseale"):  # what is cached is executed by all
                for value in list(vars(module).values()):
                    if hasattr(value, "cache_clear"):
                        value.cache_clear()
        lines: dict[str, set[int]] = defaultdict(set)

        def trace(frame: Any, event: str, _: Any) -> Any:
            module = in_package(frame)
            if module is None:
                return None
            lines[module].add(frame.f_lineno)
            return trace

        began = time.perf_counter()
        sys.settrace(trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            seconds = time.perf_counter() - began
            found = {module: sorted(numbers) for module, numbers in lines.items()}
            self.tests[item.nodeid] = {"seconds": seconds, "lines": found}


class Judge:
    """A pytest plugin: runs the tests that execute a mutant, with a limit of time."""

    def __init__(self, mutant: Mutant, reach: dict[str, Any]) -> None:
        self.mutant, self.reach = mutant, reach
        for number in (signal.SIGPROF, signal.SIGALRM):
            signal.signal(number, lambda *_: os._exit(TIMEOUT))

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Select tests; the quickest case of each function comes first, then the others."""
        rank = {f"test_{name}.py": i for i, name in enumerate(files_for(self.mutant))}
        seen: set[str] = set()
        keys = {}
        for item in sorted(items, key=self.seconds):
            function = item.nodeid.split("[")[0]
            keys[item] = function in seen, rank[item.path.name], self.seconds(item)
            seen.add(function)
        items[:] = sorted(filter(self.executes, items), key=keys.__getitem__)

    def seconds(self, item: Any) -> float:
        return self.reach.get(item.nodeid, {"seconds": 0.0})["seconds"]

    def executes(self, item: Any) -> bool:
        """Whether a test executes the statement; one outside of functions is for all."""
        lines = self.reach.get(item.nodeid, {"lines": {}})["lines"].get(self.mutant.module, [])
        return not self.mutant.in_function or not set(lines).isdisjoint(self.mutant.statement)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: Any) -> None:
        limit = 20 * self.seconds(item)
        signal.setitimer(signal.ITIMER_PROF, 10 + limit)  # of the processor's time
        signal.setitimer(signal.ITIMER_REAL, 600 + limit)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            os.write(2, f"   {report.nodeid}\n".encode())


class Children:
    """Forked processes, a few at a time."""

    def __init__(self, jobs: int) -> None:
        self.jobs, self.running = jobs, {}

    def fork(self, task: Any, done: Any) -> None:
        """Run a task that returns an exit status, and then ``done`` with it."""
        while len(self.running) >= self.jobs:
            self.wait()
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            status = ERROR
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                status = task()
            except BaseException as error:
                os.write(2, f"   {type(error).__name__}: {error}\n".encode())
            finally:
                os._exit(status)
        self.running[pid] = done

    def wait(self) -> None:
        pid, status = os.wait()
        self.running.pop(pid)(os.waitstatus_to_exitcode(status))

    def finish(self) -> None:
        while self.running:
            self.wait()


def files_for(mutant: Mutant) -> list[str]:
    return TESTS[mutant.module.split("/")[0]]


def run_tests(files: list[str], plugin: Any) -> int:
    paths = [str(ROOT / "tests" / f"test_{name}.py") for name in files]
    options = ["-q", "-s", "-x", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
    return int(pytest.main([*paths, *options], plugins=[plugin]))


def find_reach(children: Children) -> dict[str, Any]:
    """What each test executes; it is kept in files named after the sources."""
    folder = Path(tempfile.gettempdir()) / f"mutation-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    common = [path for own in TESTS for path in sorted((PACKAGE / own).glob("*.py"))]
    common += [ROOT / "tests/conftest.py", ROOT / "tests/references.py"]
    paths = []
    for name in dict.fromkeys(name for files in TESTS.values() for name in files):
        sources = [*common, ROOT / "tests" / f"test_{name}.py"]
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
        paths.append(folder / f"{name}-{digest[:16]}.json")

        def task(name: str = name, path: Path = paths[-1]) -> int:
            reach = Reach()
            status = run_tests([name], reach)
            path.write_text(json.dumps(reach.tests))
            return status

        if not paths[-1].exists():
            children.fork(task, lambda status, name=name: print("traced", name, status, flush=True))
    children.finish()
    return {test: value for path in paths for test, value in json.loads(path.read_text()).items()}


def judge(mutant: Mutant, tree: ast.Module, reach: dict[str, Any]) -> int:
    """Run the tests of a mutant in this process."""
    sys.meta_path.insert(0, Imported(mutant, tree))
    status = run_tests(files_for(mutant), Judge(mutant, reach))
    return SURVIVED if status in (0, 5) else KILLED  # 5: no test executes it


def read(path: Path) -> dict[tuple[str, int, str], str]:
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        return {(r["module"], int(r["line"]), r["mutation"]): r["outcome"] for r in rows}


def write(path: Path, outcomes: dict[tuple[str, int, str], str]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["module", "line", "mutation", "outcome"])
        writer.writerows((*key, outcome) for key, outcome in sorted(outcomes.items()))


def summary(outcomes: dict[tuple[str, int, str], str]) -> None:
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for (module, _, _), outcome in outcomes.items():
        counts[module][0] += outcome in ("killed", "timeout")
        counts[module][1] += 1
    for module, (killed, n) in sorted(counts.items()):
        print(f"{module:40} {killed:4} of {n:4}")
    killed, n = (sum(c) for c in zip(*counts.values(), strict=True))
    print(f"{killed} of {n} killed: {killed / n:.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sample", type=int, default=400, help="mutants, over all modules")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="part of the names of modules")
    parser.add_argument("--again", default="", help="outcomes whose mutants are tried again")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()

    os.environ["OMP_NUM_THREADS"] = "1"
    sys.path.insert(0, str(ROOT))
    for name in ("pandas", "polars", "scipy.stats", "skorch", "sklearn.pipeline", "torch"):
        importlib.import_module(name)

    modules = sorted(p for folder in TESTS for p in (PACKAGE / folder).glob("*.py"))
    trees, mutants = {}, {}
    for path in modules:
        module = path.relative_to(PACKAGE).as_posix()
        trees[module] = ast.parse(path.read_text(), str(path))
        mutants[module] = mutants_of(module, trees[module])
    total = sum(map(len, mutants.values()))
    share = min(1.0, options.sample / total)
    chosen = [m for own in mutants.values() for m in sample_of(own, share, options.seed)]
    print(f"{total} mutants, {len(chosen)} in the sample", flush=True)

    outcomes = read(options.results)
    everything = {m[:3]: m for own in mutants.values() for m in own}
    outcomes = {key: outcome for key, outcome in outcomes.items() if key in everything}
    todo = [m for m in chosen if m[:3] not in outcomes]
    if options.again:
        again = options.again.split(",")
        todo = [everything[key] for key, outcome in outcomes.items() if outcome in again]
    todo = [m for m in todo if options.only in m.module]
    random.Random(options.seed).shuffle(todo)
    children = Children(options.jobs)
    reach = find_reach(children)
    for mutant in todo:

        def done(status: int, mutant: Mutant = mutant) -> None:
            outcome = OUTCOMES.get(status, "killed")  # else by a signal
            outcomes[mutant[:3]] = outcome
            print(f"{outcome:9} {mutant.module}:{mutant.line}: {mutant.mutation}", flush=True)
            write(options.results, outcomes)

        children.fork(lambda m=mutant: judge(m, trees[m.module], reach), done)
    children.finish()
    summary(outcomes)


if __name__ == "__main__":
    main()
