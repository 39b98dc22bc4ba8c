"""Damage files in many ways, load them, and report the outcomes: a script, and parts for tests.

    python tests/fuzzing.py FOLDER SEED N_FILES

The script is a process of its own, so that a crash, a hang or an allocation is seen from outside.
The last file stays in the folder. The standard output is one JSON object.
"""

import contextlib
import faulthandler
import functools
import json
import os
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import torch
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of

from sklearn_wiseale import WiSEALETransformer, load
from sklearn_wiseale.likelihoods import Categorical, Gaussian, Mixed, NegativeBinomial, Poisson
from sklearn_wiseale.networks import MLP, Conv
from sklearn_wiseale.objectives import WiSEALE

N, D = 24, 6
#: Fifty files that take longer, in seconds, count as a hang.
PATIENCE = 60
#: Share of checkpoints among the files: a fit takes longer than a load.
CHECKPOINTS = 0.15
TEXT = "sklearn_wiseale"  # entry of safetensors' metadata that holds our header

TWIST = np.random.RandomState(3)
MIXED = [(Categorical(), np.array([5, 0])), (Gaussian("feature"), slice(1, 3)), (Poisson(), [3])]
FILES = {
    "plain": {},
    "elbo": {"objective": "elbo", "likelihood": Gaussian(noise="feature"), "scale": "global"},
    "infovae": {"objective": "infovae", "likelihood": "bernoulli", "precision": "float64"},
    "wae": {"objective": "wae", "likelihood": "poisson", "network": MLP((3, 2), "tanh", False)},
    "renyi": {"objective": WiSEALE("renyi", width=np.int64(9)), "random_state": TWIST},
    "categorical": {"likelihood": Categorical((2, 4)), "network": MLP(hidden=(), dropout=0.1)},
    "mixed": {
        "likelihood": Mixed([*MIXED, (NegativeBinomial(0.3), range(4, 5))]),
        "early_stopping": True,
    },
    "missing": {"likelihood": "negative_binomial"},
    "images": {"network": Conv((1, 8, 8), (2,)), "scale": "global", "n_components": 1},
    "net params": {
        "net_params": {"optimizer__betas": (0.8, 0.9), "compile": False, "callbacks": None},
        "checkpoint": Path("unused"),
    },
    "pandas table": {"likelihood": {"count": "poisson", "size": Gaussian("feature")}},
    "polars table": {"early_stopping": True},
}
RESUMED = {
    "blend": {"early_stopping": True},
    "wide": {"objective": WiSEALE(width=4096), "early_stopping": True},
    "ring": {"objective": WiSEALE("monte_carlo", width=9), "batch_size": 8},
    "moment": {"objective": WiSEALE("moment"), "likelihood": Gaussian(noise=0.5)},
    "sgd": {"net_params": {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9}},
}


def make(**params):
    defaults = {"network": MLP(hidden=(3,)), "max_epochs": 2, "random_state": 0, "device": "cpu"}
    return WiSEALETransformer(**{**defaults, "early_stopping": False, **params})


def table(library):
    """Columns of several kinds, with missing entries."""
    rng = np.random.RandomState(2)
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.randint(9999, size=N), unit="min")
    X = pd.DataFrame(
        {
            "size": rng.standard_normal(N).round(2),
            "count": rng.poisson(3, N),
            "day": days.tz_localize("Europe/Rome"),
            "home": pd.Categorical(rng.choice(["rents", "owns"], N), ["rents", "owns", "?"]),
        }
    )
    X.loc[3, ["size", "day", "home"]] = None
    if library == "pandas":
        X["town"] = rng.choice(["Rome", "Oslo"], N)
        X["member"], X["only"] = rng.random_sample(N) < 0.5, "one"
        words = pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string()))
        return X.astype({"town": words, "size": pd.ArrowDtype(pa.decimal128(9, 2))})
    return pl.from_pandas(X).with_columns(
        pl.col("home").cast(pl.Enum(["rents", "owns", "?"])),
        pl.col("size").cast(pl.Decimal(9, 2)),
        pl.col("day").dt.time(),
    )


@functools.cache
def rows(case):
    if case.endswith("table"):
        return table(case.split()[0])
    rng = np.random.RandomState(1)
    if case == "images":
        return rng.random_sample((N, 1, 8, 8)).astype(np.float32)
    X = rng.randint(0, 2, (N, D)).astype(float)
    if case == "categorical":
        X = np.hstack([np.eye(2)[rng.randint(2, size=N)], np.eye(4)[rng.randint(4, size=N)]])
    if case == "mixed":
        X[:, 0] = 1 - X[:, 5]
    if case == "missing":
        X[rng.random_sample(X.shape) < 0.1] = np.nan
    return X


def interrupt_fit(estimator, X, n_files=1):
    """Fit until so many checkpoints are written; an interrupt ends the fit."""
    replace, written = os.replace, []

    def replace_and_stop(*paths):
        replace(*paths)
        written.append(paths)
        if len(written) == n_files:
            raise KeyboardInterrupt

    os.replace = replace_and_stop
    try:
        with contextlib.suppress(KeyboardInterrupt):
            estimator.fit(X)
    finally:
        os.replace = replace
    assert len(written) == n_files
    return estimator


def corpus(folder):
    """Undamaged files by name: saved estimators and checkpoints."""
    saved, resumed = {}, {}
    for name, params in FILES.items():
        fitted = make(**{**params, "checkpoint": None}).fit(rows(name))
        fitted.set_params(**params).save(folder / "whole")
        saved[name] = folder / "damaged", (folder / "whole").read_bytes()
    for name, params in RESUMED.items():
        interrupt_fit(make(checkpoint=folder / name, **params), rows(name))
        (path,) = (folder / name).iterdir()
        resumed[name] = path, path.read_bytes()
    return saved, resumed


# files taken apart and put together ---------------------------------------------------------------


def take_apart(file):
    """Header of safetensors, our header inside it, and the numbers of the tensors."""
    length = int.from_bytes(file[:8], "little")
    outer = json.loads(file[8 : 8 + length])
    return outer, json.loads(outer["__metadata__"][TEXT]), file[8 + length :]


def framed(text, data):
    raw = text.encode("utf-8", "surrogatepass")
    return len(raw).to_bytes(8, "little") + raw + data


def put_together(outer, inner, data):
    """A file from its parts; ``inner`` may be text."""
    text = inner if isinstance(inner, str) else json.dumps(inner)
    metadata = outer.get("__metadata__")
    if isinstance(metadata, dict):
        outer = {**outer, "__metadata__": {**metadata, TEXT: text}}
    return framed(json.dumps(outer), data)


def with_tensors(file, tensors):
    return bytes_of(tensors, metadata=take_apart(file)[0]["__metadata__"])


def find(tree, path):
    """Container and key of an entry of our header, which may be new; dicts are encoded as lists."""
    for i, name in enumerate(path):
        if isinstance(tree, dict) and set(tree) == {"dict"}:
            pairs = tree["dict"]
            if name not in dict(pairs):
                pairs.append([name, None])
            tree, name = next(pair for pair in pairs if pair[0] == name), 1
        if i == len(path) - 1:
            return tree, name
        tree = tree[name]


DROP = object()


def change(file, place, value):
    """A file with another entry: a tensor, or a value of the header; DROP removes it.

    A place that ends in a slash or a dot stands for several tensors. A function changes them.
    """
    tensors = tensors_of(file)
    names = [name for name in tensors if name == place or (place[-1] in "/." and place in name)]
    if names or isinstance(value, torch.Tensor):
        for name in names or [place]:
            tensors[name] = value(tensors[name]) if callable(value) else value
        return with_tensors(file, {k: v for k, v in tensors.items() if v is not DROP})
    outer, inner, data = take_apart(file)
    path = place.split("/")
    tree, key = find(inner, path)
    if value is not DROP:
        tree[key] = value
    elif isinstance(tree, dict):
        del tree[key]
    else:
        parent, name = find(inner, path[:-1])
        parent[name]["dict"].remove(tree)
    return put_together(outer, inner, data)


def places(tree):
    """Containers and keys of all that a tree of dicts and lists holds, near the root first."""
    trees = [tree]
    for inner in trees:
        for key in inner if isinstance(inner, dict) else range(len(inner)):
            yield inner, key
            if isinstance(inner[key], dict | list):
                trees.append(inner[key])


def fresh(value):
    return json.loads(json.dumps(value))


def one_of(values, rng):
    return values[rng.randint(len(values))]


def pick(tree, rng):
    """A random place, more often near the root."""
    found = list(places(tree))
    return found[rng.randint(1 + rng.randint(len(found)))]


def nested(depth):
    value = 1
    for _ in range(depth):
        value = {"tuple": [value]}
    return value


def encoded(**entries):
    return {"dict": [[name, value] for name, value in entries.items()]}


HOSTILE = ["os.system", "subprocess.Popen", "builtins.eval", "torch.load", "__reduce__", "evil"]
COMMAND = "__import__('os').system('touch evil')"
DEEP = "[" * 3000 + "]" * 3000
GAUSSIAN = {"part": ["Gaussian", {}]}
#: One value of each type: for some entry each of them is wrong.
WRONG = [None, 3, -1, 10**30, float("nan"), "text", [1, [2.5]], {}]
#: Contents that a decoder must not trust.
JUNK = [
    *WRONG,
    *(
        True,
        10**12,
        0.5,
        1e308,
        float("inf"),
        "",
        COMMAND,
        [],
        {"tuple": [1]},
        0,
        1,
        2,
        7,
        625,
        10**6,
        10**9,
        2**31,
        2**53,
        2**63,
        2**64,
        -(10**12),
        -0.5,
        1e-320,
        1e38,
    ),
    *("ü\n\0", "\ud800", "1", "nan", "x" * 20_000, "../../evil", [[1, 2]] * 50, [0] * 5000),
    *("cuda:99", "meta", "hpu", "privateuseone", "float64", "polars", "auto", "feature", "poisson"),
    *HOSTILE,
    *({"part": [name, {"args": COMMAND}]} for name in HOSTILE),
    *({"part": [name, {}]} for name in ("Modules", "Network", "Likelihood", "Part", "Gaussian")),
    *({"part": ["MLP", {"hidden": {"tuple": sizes}}]} for sizes in ([10**9], [30_000, 30_000])),
    {"part": ["MLP", {"hidden": {"range": [1, 3000, 1]}}]},
    {"part": ["Conv", {"image_shape": [1, 10**5, 10**5], "channels": [10**5]}]},
    {"part": ["Conv", {"image_shape": [1, 8, 8], "channels": [20_000, 20_000]}]},
    {"part": ["Categorical", {"sizes": [2, 10**9]}]},
    {"part": ["Categorical", {"sizes": {"random_state": [[0] * 624, 0, 0, 0.0]}}]},
    {"part": ["Mixed", {"parts": [[GAUSSIAN, {"range": [0, 2**20, 1]}]] * 9}]},
    {"part": ["Mixed", {"parts": [[GAUSSIAN, {"slice": [None, None, 0]}]]}]},
    {"part": ["WiSEALE", {"bound": "jensen", "width": 10**12, "weight": 1e308}]},
    *({"tuple": value} for value in ([], 3, [10**12, 10**12], [0.5, "a"])),
    *({"slice": value} for value in ([None] * 3, [0, 10**12, 1], ["a", {}, 2])),
    *({"range": value} for value in ([0, 6, 1], [0, 2**21, 1], [0, 1, 0])),
    *({"array": ["<f8", shape, [1.0]]} for shape in ([1], [], [2**40], [-1, -1], [1] * 70)),
    *({"numpy": ["<f8", float("nan")]}, {"numpy": ["<U99", "a"]}, {"dtype": "V1000000000"}),
    *({"numpy_type": "object"}, {"path": "\0"}, {"handed_back": ["evil", "evil()"]}),
    {"random_state": [[2**32 - 1] * 624, 624, 1, float("nan")]},
    nested(200),
    encoded(compile=True, compile__options=encoded(**{"cpp.cxx": {"tuple": [None, "evil"]}})),
    encoded(compile="yes", compile__mode="evil", optimizer="SGD"),
    encoded(optimizer__lr=3, optimizer__betas=[2, "a"], optimizer__fused=True),
    encoded(callbacks=[{"tuple": ["evil", {"numpy_type": "<f8"}]}]),
    encoded(callbacks__best_state=None, callbacks__schedule__step_="a"),
    encoded(module__encoder=COMMAND, torch_load_kwargs=[], warm_start=3),
]


# ways to damage a file: its bytes, those of another one, and a generator --------------------------


def flip_bits(file, other, rng):
    damaged = bytearray(file)
    for _ in range(rng.choice([1, 1, 1, 2, 8, 64])):
        damaged[rng.randint(len(damaged))] ^= 1 << rng.randint(8)
    return bytes(damaged)


def flip_header(file, other, rng):
    """Bytes of the header become others that JSON knows."""
    damaged, length = bytearray(file), int.from_bytes(file[:8], "little")
    for _ in range(rng.choice([1, 1, 2, 5])):
        damaged[8 + rng.randint(length)] = one_of(b'0123456789-.eE[]{},:"\\ntf ', rng)
    return bytes(damaged)


def cut(file, other, rng):
    length = rng.choice([rng.randint(len(file)), rng.randint(16), len(file) - 1 - rng.randint(64)])
    return file[:length]


def extend(file, other, rng):
    return file + one_of([bytes(1 + rng.randint(99)), file, rng.bytes(1000), b"}", other], rng)


def splice(file, other, rng):
    """A piece is removed, inserted, repeated, or overwritten."""
    i, j = sorted(rng.randint(len(file) + 1, size=2))
    j = min(j, i + 200)
    pieces = [b"", file[i:j] * 2, bytes(j - i), rng.bytes(j - i), other[i:j], b"\xff" * (j - i)]
    return file[:i] + one_of(pieces, rng) + file[j:]


def change_length(file, other, rng):
    """Another length of the header."""
    length = int.from_bytes(file[:8], "little")
    wrong = [0, 1, 2, length - 1, length + 1, length + 8, 2**24, 100_000_000, 2**31, 2**32 + length]
    wrong += [2**63, 2**64 - 1, len(file), len(file) - 8, int(rng.randint(2 * len(file)))]
    return one_of(wrong, rng).to_bytes(8, "little") + file[8:]


def mix_files(file, other, rng):
    """Headers and numbers of two files."""
    ours, theirs = take_apart(file), take_apart(other)
    swapped = rng.randint(3)
    return put_together(*((theirs if i == swapped else ours)[i] for i in range(3)))


def edit(tree, rng, other):
    """An entry becomes another, is lost, is new, or is copied from elsewhere."""
    container, key = pick(tree, rng)
    old, kind = container[key], rng.randint(12)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, dict):
        container[one_of([*HOSTILE, "", "__class__", f"{key}/"], rng)] = old
    elif kind <= 4:
        there, name = pick(one_of([tree, other], rng), rng)
        container[key] = fresh(there[name])
    elif kind == 5:
        container[key] = one_of([[old], {"tuple": [old]}, {"tuple": old}, str(old)], rng)
    elif kind <= 7 and type(old) in (int, float):
        container[key] = one_of([old + 1, old - 1, -old, float(old), 10 * old, str(old)], rng)
    else:
        container[key] = fresh(one_of(JUNK, rng))


def change_layout(file, other, rng):
    """Names, dtypes, shapes and offsets that do not belong to the numbers; a name twice."""
    (outer, inner, data), (theirs, _, _) = take_apart(file), take_apart(other)
    text = outer.pop("__metadata__")
    name = one_of(list(outer), rng)
    if rng.random_sample() < 0.2:
        dtypes = "BOOL U8 I8 I16 U16 F16 BF16 I32 U32 F64 I64 U64 F8_E4M3 F8_E8M0 F4 F6_E2M3 C64"
        outer[name]["dtype"] = one_of(dtypes.split(), rng)
    elif rng.random_sample() < 0.8:
        edit(outer, rng, theirs)
    else:
        text = json.dumps({**outer, "__metadata__": text})
        return framed(text[:-1] + f", {json.dumps(name)}: {{}}}}", data)
    return put_together({**outer, "__metadata__": text}, inner, data)


def change_tensors(file, other, rng):
    """Other tensors, in a file whose parts agree."""
    tensors = tensors_of(file)
    names = sorted(tensors)
    for _ in range(rng.choice([1, 1, 1, 3])):
        name = one_of(names, rng)
        old = tensors[name]
        if old.ndim and old.numel() and rng.random_sample() < 0.5:
            new = old.clone()
            values = [0, 1, 7, 100, -(2**62) if old.dtype == torch.int64 else 1]
            if old.is_floating_point():
                values = [0.0, -1.0, 1e-30, 1e30, 3e38, torch.nan, torch.inf, -torch.inf]
            some = torch.from_numpy(rng.random_sample(tuple(old.shape)) < rng.choice([0.1, 1.0]))
            new[some] = one_of(values, rng)
        elif rng.random_sample() < 0.5:
            dtypes = ("float16", "bfloat16", "float32", "float64", "int32", "int64", "bool")
            new = old.to(getattr(torch, one_of(dtypes, rng)), copy=True)
        else:
            shapes = [(), (0,), (1,), (3, 2), (0, 5), (*old.shape, 1), (1, *old.shape), (700,)]
            shapes += [old.shape[::-1], (old.numel(),), [n + 1 for n in old.shape]]
            new = torch.ones(one_of(shapes, rng), dtype=old.dtype)
        tensors[one_of([name, name, name, one_of(names, rng), "evil"], rng)] = new
    if rng.random_sample() < 0.2:
        del tensors[one_of(names, rng)]
    if rng.random_sample() < 0.2:
        theirs = tensors_of(other)
        name = one_of(sorted(theirs), rng)
        tensors[name] = theirs[name]
    return with_tensors(file, tensors)


def change_header(file, other, rng):
    (outer, inner, data), (_, theirs, _) = take_apart(file), take_apart(other)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        edit(inner, rng, theirs)
    return put_together(outer, inner, data)


def change_parameters(file, other, rng):
    """Parameters of estimators, in both places where a file has them."""
    outer, inner, data = take_apart(file)
    if "parameters" not in inner:
        return change_header(file, other, rng)
    name, value = one_of(list(inner["parameters"]), rng), one_of(JUNK, rng)
    for where in ("parameters", "built"):
        inner[where][name] = value
    if name == "n_components":
        inner["attributes"]["n_components_"] = value
    return put_together(outer, inner, data)


def change_text(file, other, rng):
    """Our header as text that is no JSON, or unusual JSON."""
    outer, inner, data = take_apart(file)
    name, text = one_of(list(inner), rng), json.dumps(inner)
    twice = f'"{name}": {json.dumps(one_of(JUNK, rng))}'
    texts = [
        *(DEEP, "{" + f'"attributes": {DEEP}, ' + text[1:], "null", f'"{COMMAND}"'),
        text[:-1] + f', "{name}": ' + '{"tuple": [' * 800 + "]}" * 800 + "}",
        text[:-1] + ', "state": ' + "9" * 6000 + "}",
        text[:-1] + ', "state": 1e999, "attributes": -Infinity}',
        *("{" + twice + ", " + text[1:], text[:-1] + ", " + twice + "}", text + text),
        *(text[: rng.randint(len(text))], text.replace('"', "'"), "\ufeff" + text),
        text.replace("WiSEALETransformer", one_of(HOSTILE, rng)),
        *(text.replace('"format_version": 2', f'"format_version": {x}') for x in ("true", "2e0")),
    ]
    return put_together(outer, one_of(texts, rng), data)


WAYS = [
    *(flip_bits, flip_header, cut, extend, splice, change_length, mix_files, change_layout),
    *(change_tensors, change_header, change_header, change_parameters, change_text),
]


# what a file may do -------------------------------------------------------------------------------

#: Audit events without consequences: access to attributes, and frames of warnings and errors.
HARMLESS = {"object.__getattr__", "sys._getframe", "builtins.id"}
#: ``inspect`` parses this, but does not run it, for the parameters of a class without ``__init__``.
SIGNATURE = b"def foo(self, *args, **kwargs): pass"


class Watch:
    """Python's audit events while a file is loaded."""

    def __init__(self):
        self.active, self.seen = False, Counter()
        sys.addaudithook(self.hear)

    def hear(self, event, arguments):
        if not self.active or event in HARMLESS:
            return
        if event == "import":
            # the module of a kind of device, and data of time zones
            harmless = arguments[0].startswith(("torch.", "tzdata"))
        elif event == "open":
            harmless = "zoneinfo" in str(arguments[0])  # the file of a time zone
        else:
            harmless = event == "compile" and arguments[0] == SIGNATURE
        if not harmless:
            self.seen[f"{event} {arguments!r}"[:200]] += 1

    def __enter__(self):
        self.active = True

    def __exit__(self, *_):
        self.active = False

    def take(self):
        seen, self.seen = self.seen, Counter()
        return dict(seen)


def memory():
    """Largest size so far in MB: of address space, and of resident memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if "kB" in line}
    return sizes["VmPeak"], sizes["VmHWM"]


def use_loaded(path, X, watch=None):
    """Load a file and use all methods; codes must be finite."""
    with watch or contextlib.nullcontext():
        estimator = load(path)
    try:
        Z = np.asarray(estimator.transform(X))
    except ValueError:
        return "refused X"
    assert np.isfinite(Z).all(), "codes are not finite"
    repr(estimator), estimator.get_feature_names_out()
    with warnings.catch_warnings(action="ignore"):
        estimator.inverse_transform(Z), estimator.sample(2, random_state=0)
        estimator.score_samples(X), estimator.impute(X), estimator.impute(X, 1, random_state=0)
        estimator.save(path.with_name("again"))
        load(path.with_name("again"))
    return "worked"


def use_checkpoint(path, name):
    """Resume from a checkpoint; if it is refused, it stays, and the estimator too."""
    estimator, X = make(checkpoint=path.parent, **RESUMED[name]), rows(name)
    before, content = set(vars(estimator)), path.read_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of divergence, or of unused components
            Z = estimator.fit(X).transform(X)
    except ValueError:
        unchanged = path.read_bytes() == content and set(vars(estimator)) == before
        assert unchanged, "the file or the estimator has changed"
        raise
    assert np.isfinite(Z).all(), "codes are not finite"
    assert not path.exists(), "the fit has ended and its checkpoint is still there"
    return "worked"


def attempt(use, *arguments):
    """The outcome, and the message of the error if there was one."""
    try:
        return use(*arguments), ""
    except ValueError as error:
        return "refused", str(error)
    except BaseException:
        return "failed", "\n".join(traceback.format_exc().splitlines()[-8:])[-1000:]


def main(folder, seed, n_files):
    torch.set_num_threads(1)
    os.fsync = lambda file: None  # takes most of the time, and is not tested here
    time.time = lambda: 0.0  # files have durations; each run has the same files
    faulthandler.enable()
    watch = Watch()
    with warnings.catch_warnings(action="ignore"):  # of fits that are too short to use all codes
        saved, resumed = corpus(folder)
    warnings.simplefilter("error")
    with watch:
        eval("open(os.devnull, 'rb').close()")
    assert {event.split()[0] for event in watch.take()} == {"compile", "exec", "open"}

    def use(name, path):
        if name in resumed:
            return attempt(use_checkpoint, path, name)
        return attempt(use_loaded, path, rows(name), watch)

    for files in (saved, saved, resumed):  # undamaged; late imports happen here
        for name, (path, file) in files.items():
            path.write_bytes(file)
            outcome = use(name, path)
            assert outcome == ("worked", ""), f"{name}: {outcome}"
    watch.take()

    outcomes, failures, large, messages = Counter(), [], [], set()
    start, before = time.perf_counter(), memory()
    largest = before[0]
    for index in range(n_files):
        rng = np.random.RandomState([seed, index])
        way = one_of(WAYS, rng)
        kind, files = "file", saved
        if rng.random_sample() < CHECKPOINTS:
            kind, files = "checkpoint", resumed
        name = one_of(list(files), rng)
        path, whole = files[name]
        path.write_bytes(way(whole, one_of(list(files.values()), rng)[1], rng))
        if index % 50 == 0:  # each call starts a thread
            faulthandler.dump_traceback_later(PATIENCE, exit=True)
        started = time.process_time()
        outcome, message = use(name, path)
        seconds, events, size = time.process_time() - started, watch.take(), memory()[0]
        trial = [index, name, way.__name__]
        if outcome == "failed" or len(message) > 2000 or events or seconds > 5:
            failures.append([*trial, outcome, message, events, seconds])
        if size > largest + 20:
            large.append([*trial, round(size - largest)])
        largest = max(largest, size)
        messages.add(message.replace(str(path), "")[:80])
        outcomes.update([f"{kind}: {outcome}", f"{way.__name__}: {outcome}"])
        if len(failures) > 200:
            break
    faulthandler.cancel_dump_traceback_later()
    report = {
        "n_files": index + 1,
        "outcomes": outcomes,
        "failures": failures,
        "large": large,
        "grown MB": [now - then for now, then in zip(memory(), before, strict=True)],
        "messages": len(messages),
        "ms a file": 1000 * (time.perf_counter() - start) / n_files,
        "left": sorted(path.name for path in folder.iterdir()),
    }
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
