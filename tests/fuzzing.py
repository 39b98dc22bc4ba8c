"""Damage files in many ways, load them, and report what came of it: a script.

    python tests/fuzzing.py FOLDER SEED N_FILES [FIRST]

It is a process of its own, so that a crash, a hang or an allocation is seen from outside. The last
file is left in the folder. On the standard output is one JSON object.
"""

import faulthandler
import json
import os
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of

from sklearn_wiseale import WiSEALETransformer, load
from sklearn_wiseale._persistence.checkpoint import Checkpoint
from sklearn_wiseale.likelihoods import Categorical, Gaussian, Mixed, NegativeBinomial, Poisson
from sklearn_wiseale.networks import MLP, Conv
from sklearn_wiseale.objectives import WiSEALE

N, D = 24, 6
#: Seconds after which one of fifty files counts as one that hangs.
PATIENCE = 60
#: Share of the files that are checkpoints: a fit takes longer than a load.
CHECKPOINTS = 0.15
TEXT = "sklearn_wiseale"  # entry of the metadata that holds our header

MIXED = Mixed(
    [
        (Categorical(), np.array([5, 0])),
        (Gaussian("feature"), slice(1, 3)),
        (Poisson(), [3]),
        (NegativeBinomial(0.3), range(4, 5)),
    ]
)
TWIST = np.random.RandomState(3)
FILES = {
    "plain": {},
    "elbo": {"objective": "elbo", "likelihood": Gaussian(noise="feature"), "scale": "global"},
    "infovae": {"objective": "infovae", "likelihood": "bernoulli", "precision": "float64"},
    "wae": {"objective": "wae", "likelihood": "poisson", "network": MLP((3, 2), "tanh", False)},
    "renyi": {"objective": WiSEALE("renyi", width=np.int64(9)), "random_state": TWIST},
    "categorical": {"likelihood": Categorical((2, 4)), "network": MLP(hidden=(), dropout=0.1)},
    "mixed": {"likelihood": MIXED, "early_stopping": True},
    "missing": {"likelihood": "negative_binomial"},
    "images": {"network": Conv((1, 8, 8), (2,)), "scale": "global", "n_components": 1},
    "net params": {
        "net_params": {"optimizer__betas": (0.8, 0.9), "compile": False, "callbacks": None},
        "checkpoint": Path("unused"),
    },
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


def rows(case):
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


def corpus(folder):
    """Files of all kinds as they should be, by name: saved estimators and checkpoints."""
    saved, resumed = {}, {}
    for name, params in FILES.items():
        make(**{**params, "checkpoint": None}).fit(rows(name)).set_params(**params).save(
            folder / "whole"
        )
        saved[name] = (folder / "whole").read_bytes()
    for name, params in RESUMED.items():
        write, home = Checkpoint.write, folder / name

        def write_and_die(self, *args, write=write):
            write(self, *args)
            raise KeyboardInterrupt

        Checkpoint.write = write_and_die
        try:
            make(checkpoint=home, **params).fit(rows(name))
        except KeyboardInterrupt:
            (path,) = home.iterdir()
            resumed[name] = path, path.read_bytes()
        finally:
            Checkpoint.write = write
    return saved, resumed


# files taken apart and put together ---------------------------------------------------------------


def apart(file):
    """Header of safetensors, the header of ours inside it, and the numbers."""
    length = int.from_bytes(file[:8], "little")
    outer = json.loads(file[8 : 8 + length])
    return outer, json.loads(outer["__metadata__"][TEXT]), file[8 + length :]


def framed(text, data):
    raw = text.encode("utf-8", "surrogatepass")
    return len(raw).to_bytes(8, "little") + raw + data


def together(outer, inner, data):
    """A file again; ``inner`` may be text already."""
    text = inner if isinstance(inner, str) else json.dumps(inner)
    metadata = outer.get("__metadata__")
    if isinstance(metadata, dict):
        outer = {**outer, "__metadata__": {**metadata, TEXT: text}}
    return framed(json.dumps(outer), data)


def places(tree, path=()):
    """Paths of all that a tree of lists and dicts holds."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


def pick(tree, rng):
    """A place, those near the root more often: its container and key."""
    for _ in range(rng.randint(1, 9)):
        keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        if not keys:
            break
        key = keys[rng.randint(len(keys))]
        inside = tree[key]
        if not (isinstance(inside, (dict, list)) and inside) or rng.random_sample() < 0.15:
            return tree, key
        tree = inside
    return (tree, None) if not tree else (tree, next(places(tree))[0])


DEEP = "[" * 3000 + "]" * 3000


def nested(depth):
    value = 1
    for _ in range(depth):
        value = {"tuple": [value]}
    return value


def shelled(**net_params):
    return {"dict": [[name, value] for name, value in net_params.items()]}


HOSTILE = ["os.system", "subprocess.Popen", "builtins.eval", "torch.load", "__reduce__", "evil"]
COMMAND = "__import__('os').system('touch evil')"
JUNK = [
    *(None, True, False, 0, -1, 1, 2, 3, 7, 624, 625, 65536, 10**6, 10**8, 10**9, 10**12),
    *(2**31 - 1, 2**31, 2**53, 2**63, 2**64, 10**30, -(10**12), 0.0, -0.5, 1.5, 1e-320, 1e38),
    *(1e308, float("nan"), float("inf"), -float("inf")),
    *("", " ", "a", "ü\n\0", "\ud800", "1", "nan", "x" * 20_000, "../../evil", "/dev/zero"),
    *([], {}, [[]], [None], [1, [2.5]], {"": 0}, [[1, 2]] * 50, [0] * 5000),
    *("cpu", "cuda", "cuda:99", "meta", "mps", "xpu", "hpu", "mtia", "lazy", "privateuseone"),
    *("float64", "bfloat16", "pandas", "polars", "default", "auto", "feature", "elbo", "poisson"),
    *HOSTILE,
    COMMAND,
    *({"part": [name, {"args": COMMAND}]} for name in HOSTILE),
    *({"part": [name, {}]} for name in ("Modules", "Network", "Likelihood", "Part", "Gaussian")),
    {"part": ["MLP", {"hidden": {"tuple": [10**9]}}]},
    {"part": ["MLP", {"hidden": {"tuple": [10**6] * 40}}]},
    {"part": ["MLP", {"hidden": {"tuple": [30_000, 30_000]}}]},
    {"part": ["MLP", {"hidden": {"range": [1, 3000, 1]}}]},
    {"part": ["Conv", {"image_shape": [1, 10**5, 10**5], "channels": [10**5]}]},
    {"part": ["Conv", {"image_shape": [1, 8, 8], "channels": [20_000, 20_000]}]},
    {"part": ["Categorical", {"sizes": [2, 10**9]}]},
    {"part": ["Categorical", {"sizes": {"random_state": [[0] * 624, 0, 0, 0.0]}}]},
    {"part": ["Mixed", {"parts": [[{"part": ["Gaussian", {}]}, {"range": [0, 2**20, 1]}]] * 9}]},
    {"part": ["Mixed", {"parts": [[{"part": ["Poisson", {}]}, {"slice": [None, None, 0]}]]}]},
    {"part": ["WiSEALE", {"bound": "jensen", "width": 10**12, "weight": 1e308}]},
    *({"tuple": value} for value in ([], [1], [3, 2], 3, [10**12, 10**12], [0.5, "a"])),
    *({"slice": value} for value in ([None] * 3, [0, 10**12, 1], ["a", {}, 2], [0, 6, 0])),
    *({"range": value} for value in ([0, 6, 1], [0, 2**20, 1], [0, 2**21, 1], [0, 1, 0])),
    *(
        {"numpy": value}
        for value in (["<f8", float("nan")], ["<i8", 2], ["<U99", "a"], ["|i1", 999])
    ),
    *({"array": ["<f8", shape, [1.0]]} for shape in ([1], [], [2**40], [-1, -1], [1] * 70)),
    *({"dtype": name} for name in ("<f4", "O", "V1000000000")),
    *({"numpy_type": name} for name in ("<f4", "|b1", "object")),
    {"numpy_text": "elbo"},
    {"path": "/"},
    {"path": "\0"},
    {"handed_back": ["evil", "evil()"]},
    {"random_state": [[2**32 - 1] * 624, 624, 1, float("nan")]},
    {"random_state": [[0] * 624, 0, 0, 0.0]},
    nested(40),
    nested(200),
    shelled(compile=True, compile__options=shelled(**{"cpp.cxx": {"tuple": [None, "evil"]}})),
    shelled(compile=True, compile__backend="evil"),
    shelled(compile="yes", compile__mode="evil"),
    shelled(optimizer="SGD"),
    shelled(optimizer={"numpy_type": "<f8"}),
    shelled(optimizer__lr=3, callbacks=[]),
    shelled(optimizer__betas=[2, "a"], optimizer__fused=True),
    shelled(optimizer__fused=False, optimizer__capturable=True),
    shelled(callbacks=HOSTILE),
    shelled(callbacks=[{"tuple": ["evil", {"numpy_type": "<f8"}]}]),
    shelled(callbacks__best_state=None, callbacks__schedule=COMMAND),
    shelled(callbacks__schedule__warm_up=0, callbacks__schedule__step_="a"),
    shelled(module__encoder=COMMAND, criterion__weight=1e308),
    shelled(use_caching=COMMAND, warm_start=3, classes=COMMAND, torch_load_kwargs=[]),
]


def fresh(value):
    return json.loads(json.dumps(value))


def junk(rng):
    return fresh(JUNK[rng.randint(len(JUNK))])


# ways to damage a file: of the file as it should be, another one, and a generator -----------------


def flip_bits(file, other, rng):
    damaged = bytearray(file)
    for _ in range(rng.choice([1, 1, 1, 2, 8, 64])):
        damaged[rng.randint(len(damaged))] ^= 1 << rng.randint(8)
    return bytes(damaged)


def flip_header(file, other, rng):
    """Bytes of the header become others that JSON knows, or any."""
    damaged, length = bytearray(file), int.from_bytes(file[:8], "little")
    for _ in range(rng.choice([1, 1, 2, 5])):
        known = b'0123456789-.eE[]{},:"\\ntf '
        byte = known[rng.randint(len(known))] if rng.random_sample() < 0.8 else rng.randint(256)
        damaged[8 + rng.randint(length)] = byte
    return bytes(damaged)


def cut(file, other, rng):
    length = rng.choice([rng.randint(len(file)), rng.randint(16), len(file) - 1 - rng.randint(64)])
    return file[:length]


def extend(file, other, rng):
    return file + [bytes(1 + rng.randint(99)), file, rng.bytes(1000), b"}", other][rng.randint(5)]


def splice(file, other, rng):
    """A piece is left out, put in, repeated, or filled with zeros."""
    i, j = sorted(rng.randint(len(file) + 1, size=2))
    j = min(j, i + 200)
    pieces = [b"", file[i:j] * 2, bytes(j - i), rng.bytes(j - i), other[i:j], b"\xff" * (j - i)]
    return file[:i] + pieces[rng.randint(len(pieces))] + file[j:]


def lie_about_length(file, other, rng):
    length = int.from_bytes(file[:8], "little")
    lies = [0, 1, 2, length - 1, length + 1, length + 8, 2**24, 100_000_000, 2**31, 2**32 + length]
    lies += [2**63, 2**64 - 1, len(file), len(file) - 8, rng.randint(2 * len(file))]
    return int(lies[rng.randint(len(lies))]).to_bytes(8, "little") + file[8:]


def mate(file, other, rng):
    """Header of one file, numbers of another."""
    outer, inner, data = apart(file)
    their_outer, their_inner, their_data = apart(other)
    kind = rng.randint(3)
    if kind == 0:
        return together(outer, inner, their_data)
    if kind == 1:
        return together(outer, their_inner, data)
    return together(their_outer, inner, their_data)


def lie_about_tensors(file, other, rng):
    """Names, dtypes, shapes and offsets that do not belong to the numbers."""
    outer, inner, data = apart(file)
    names = [name for name in outer if name != "__metadata__"]
    one, two = (names[i] for i in rng.randint(len(names), size=2))
    kind = rng.randint(9)
    if kind == 0:
        outer[one], outer[two] = outer[two], outer[one]
    elif kind == 1:
        dtypes = "BOOL U8 I8 I16 U16 F16 BF16 I32 U32 F32 F64 I64 U64 F8_E4M3 F8_E5M2 F8_E8M0"
        dtypes = f"{dtypes} F4 F6_E2M3 F6_E3M2 C64 evil".split()
        outer[one]["dtype"] = dtypes[rng.randint(len(dtypes))]
    elif kind == 2:
        shape = outer[one]["shape"]
        shapes = [shape[::-1], [*shape, 1], [], [0], [2**62, 4], [2**32, 2**32], [10**12], [-1]]
        shapes += [shape[1:], [1, *shape], [int(np.prod(shape))], [1] * 70, ["1"], [1.5], None]
        outer[one]["shape"] = shapes[rng.randint(len(shapes))]
    elif kind == 3:
        begin, end = outer[one]["data_offsets"]
        lies = [[begin, end + 4], [begin - 4, end], [end, begin], [0, len(data)], [begin, 2**63]]
        lies += [outer[two]["data_offsets"], [-1, 3], [begin], [2**64, 2**65], [begin + 1, end + 1]]
        outer[one]["data_offsets"] = lies[rng.randint(len(lies))]
    elif kind == 4:
        del outer[one]
    elif kind == 5:
        outer[["evil", one + "x", "", "module/", "scaling/x", "\0"][rng.randint(6)]] = outer.pop(
            one
        )
    elif kind == 6:
        outer["module/more"] = outer[one]
    else:
        tree, key = pick(outer, rng)
        if key is not None:
            tree[key] = junk(rng)
    if rng.random_sample() < 0.5:
        return together(outer, inner, data)
    text = json.dumps(outer)
    where = text.find(json.dumps(one) + ":")  # the name twice
    return framed(text[: max(where, 1)] + f"{json.dumps(one)}: {{}}," + text[max(where, 1) :], data)


def change_tensors(file, other, rng):
    """Other tensors, in a file whose parts agree."""
    tensors, (outer, _, _) = tensors_of(file), apart(file)
    names = sorted(tensors)
    for _ in range(rng.choice([1, 1, 1, 3])):
        name = names[rng.randint(len(names))]
        old = tensors[name]
        if old.ndim and old.numel() and rng.random_sample() < 0.5:  # of the same shape and dtype
            new = old.clone()
            if old.is_floating_point():
                values = [0.0, -1.0, 1e-30, 1e30, 3e38, torch.nan, torch.inf, -torch.inf]
            else:
                values = [0, 1, 7, 100, -(2**62) if old.dtype == torch.int64 else 1]
            some = torch.from_numpy(rng.random_sample(tuple(old.shape)) < rng.choice([0.1, 1.0]))
            new[some] = values[rng.randint(len(values))]
        elif rng.random_sample() < 0.5:
            dtypes = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32]
            dtypes += [torch.int64, torch.uint8, torch.bool]
            new = old.to(dtypes[rng.randint(len(dtypes))], copy=True)
        else:
            shapes = [(), (0,), (1,), (3, 2), (0, 5), (*old.shape, 1), (1, *old.shape), (700,)]
            shapes += [old.shape[::-1], (old.numel(),), [n + 1 for n in old.shape]]
            new = torch.ones(shapes[rng.randint(len(shapes))], dtype=old.dtype)
        tensors[[name, names[rng.randint(len(names))], "evil"][rng.choice([0, 0, 0, 1, 2])]] = new
    if rng.random_sample() < 0.2:
        del tensors[names[rng.randint(len(names))]]
    if rng.random_sample() < 0.2:
        theirs = tensors_of(other)
        name = sorted(theirs)[rng.randint(len(theirs))]
        tensors[name] = theirs[name]
    return bytes_of(tensors, metadata=outer["__metadata__"])


def change_header(file, other, rng):
    """Entries of our header become others, are lost, are new, or change places."""
    outer, inner, data = apart(file)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        tree, key = pick(inner, rng)
        if key is None:
            continue
        old, kind = tree[key], rng.randint(12)
        if kind == 0:
            del tree[key]
        elif kind == 1 and isinstance(tree, dict):
            names = [*HOSTILE, "", "__class__", "__dict__", "n_components", "ü", key + "_"]
            tree[names[rng.randint(len(names))]] = junk(rng)
        elif kind == 1 or kind == 2:
            there, name = pick(inner, rng)
            if name is not None:
                tree[key], there[name] = fresh(there[name]), fresh(old)
        elif kind == 3:
            their_tree, their_key = pick(apart(other)[1], rng)
            tree[key] = their_tree[their_key] if their_key is not None else their_tree
        elif kind == 4:
            tree[key] = [[old], {"tuple": [old]}, {"tuple": old}, {"dict": [["a", old]]}, str(old)][
                rng.randint(5)
            ]
        elif kind <= 6 and type(old) in (int, float):
            near = [old + 1, old - 1, -old, float(old), 10 * old, old == old, str(old)]
            tree[key] = near[rng.randint(len(near))]
        else:
            tree[key] = junk(rng)
    return together(outer, inner, data)


def change_parameters(file, other, rng):
    """What estimators and parts are made of, in both places where a file has it."""
    outer, inner, data = apart(file)
    if "parameters" not in inner:
        return change_header(file, other, rng)
    names = list(inner["parameters"])
    name, value = names[rng.randint(len(names))], junk(rng)
    for where in ("parameters", "built"):
        inner[where][name] = fresh(value)
    if name == "n_components":
        inner["attributes"]["n_components_"] = fresh(value)
    return together(outer, inner, data)


def change_text(file, other, rng):
    """Our header as text that is no JSON, or JSON of an odd kind."""
    outer, inner, data = apart(file)
    names = list(inner)
    name, value = names[rng.randint(len(names))], junk(rng)
    text = json.dumps(inner)
    double = f'"{name}": {json.dumps(value)}'
    texts = [
        DEEP,
        "{" + f'"attributes": {DEEP}, ' + text[1:],
        text[:-1] + f', "{name}": ' + '{"tuple": [' * 800 + "]}" * 800 + "}",
        text[:-1] + ', "state": ' + "9" * 6000 + "}",
        text[:-1] + ', "state": 1e999, "attributes": -Infinity}',
        "{" + double + ", " + text[1:],
        text[:-1] + ", " + double + "}",
        text.replace(": ", " "),
        text[: rng.randint(len(text))],
        text + text,
        "\ufeff" + text,
        text.replace('"', "'"),
        text.replace("0", "\u0660"),
        "null",
        '"' + COMMAND + '"',
        text.replace("WiSEALETransformer", HOSTILE[rng.randint(len(HOSTILE))]),
        text.replace("estimator", "checkpoint"),
        text.replace('"format_version": 1', '"format_version": true'),
        text.replace('"format_version": 1', '"format_version": 1e0'),
    ]
    return together(outer, texts[rng.randint(len(texts))], data)


WAYS = [
    flip_bits,
    flip_header,
    cut,
    extend,
    splice,
    lie_about_length,
    mate,
    lie_about_tensors,
    change_tensors,
    change_header,
    change_header,
    change_parameters,
    change_text,
]


# what a file may do -------------------------------------------------------------------------------

#: Events of Python's audit that mean nothing: looking at objects, and warnings' and errors' frames.
HARMLESS = {"object.__getattr__", "sys._getframe", "builtins.id"}


#: What ``inspect`` parses, but does not run, to know that a class without ``__init__`` has no
#: parameters.
SIGNATURE = b"def foo(self, *args, **kwargs): pass"


class Watch:
    """Audit of what happens while a file is being loaded."""

    def __init__(self):
        self.active, self.seen = False, Counter()
        sys.addaudithook(self.hear)

    def hear(self, event, arguments):
        if not self.active or event in HARMLESS:
            return
        if event == "import":
            harmless = arguments[0].startswith("torch.")  # the module of a kind of device
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
    """Largest size so far in MB: of what was asked for, and of what was touched."""
    lines = Path("/proc/self/status").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if "kB" in line}
    return sizes["VmPeak"], sizes["VmHWM"]


def use_loaded(path, X, watch):
    with watch:
        estimator = load(path)
    try:
        Z = estimator.transform(X)
    except ValueError:
        return "refused X"
    if not np.isfinite(np.asarray(Z)).all():
        raise AssertionError("codes are not finite")
    repr(estimator), estimator.get_feature_names_out()
    with warnings.catch_warnings(action="ignore"):
        estimator.inverse_transform(np.asarray(Z)), estimator.sample(2, random_state=0)
        estimator.score_samples(X)
        estimator.save(path.with_name("again"))
        load(path.with_name("again"))
    return "worked"


def use_checkpoint(path, name, damaged):
    estimator, X = make(checkpoint=path.parent, **RESUMED[name]), rows(name)
    before = set(vars(estimator))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of divergence, or of unused components
            Z = estimator.fit(X).transform(X)
    except ValueError:
        if path.read_bytes() != damaged or set(vars(estimator)) != before:
            raise AssertionError("the file or the estimator has changed") from None
        raise
    if not np.isfinite(Z).all():
        raise AssertionError("codes are not finite")
    if path.exists():
        raise AssertionError("the fit has ended and its checkpoint is still there")
    return "worked"


def main(folder, seed, n_files, first=0):
    torch.set_num_threads(1)
    os.fsync = lambda file: None  # takes most of the time, and is not what is tested
    faulthandler.enable()
    watch = Watch()
    time.time = lambda: 0.0  # durations stand in files, which are to be the same in each run
    with warnings.catch_warnings(action="ignore"):  # of fits that are too short to use all codes
        saved, resumed = corpus(folder)
    warnings.simplefilter("error")
    with watch:
        eval("open(os.devnull, 'rb').close()")
    if {event.split()[0] for event in watch.take()} != {"compile", "exec", "open"}:
        raise AssertionError("the watch does not see what it is to see")
    path, report = folder / "damaged", {"outcomes": Counter(), "failures": [], "large": []}
    messages, largest = set(), 0.0
    samples = [(name, rows(name), file) for name, file in saved.items()]
    begin = None
    for index in range(-2 * len(samples) - len(resumed), n_files):
        if 0 <= index < first:
            continue
        rng = np.random.RandomState([seed, max(index, 0)])
        way = None if index < 0 else WAYS[rng.randint(len(WAYS))]
        is_resumed = -len(resumed) <= index < 0 or (way and rng.random_sample() < CHECKPOINTS)
        if is_resumed:
            name = list(resumed)[rng.randint(len(resumed)) if way else index]
            target, whole = resumed[name]
            others = [file for _, file in resumed.values()]
        else:
            name, X, whole = samples[rng.randint(len(samples)) if way else index % len(samples)]
            target, others = path, list(saved.values())
        other = others[rng.randint(len(others))]
        damaged = whole if way is None else way(whole, other, rng)
        target.write_bytes(damaged)
        if index % 50 == 0:  # each time it makes a thread
            faulthandler.dump_traceback_later(PATIENCE, exit=True)
        started = time.process_time()
        try:
            if is_resumed:
                outcome = use_checkpoint(target, name, damaged)
            else:
                outcome = use_loaded(path, X, watch)
        except ValueError as error:
            outcome = "refused"
            messages.add(str(error).replace(str(target), "")[:80])
            if len(str(error)) > 2000:
                report["failures"].append([index, name, way and way.__name__, len(str(error))])
        except BaseException as error:
            outcome = "failed"
            where = traceback.format_exc().splitlines()[-8:]
            report["failures"].append(
                [index, name, way and way.__name__, f"{type(error).__name__}: {error}"[:300], where]
            )
        seconds = time.process_time() - started
        size = memory()[0] - largest
        largest += size
        if way and size > 20:
            report["large"].append([index, name, way.__name__, round(size)])
        events = watch.take()
        if way is None:
            if outcome != "worked":
                raise AssertionError(f"{name} is not accepted as it was written: {outcome}")
            if index == -1:  # all kinds have been read: what is imported late has been imported
                begin = time.perf_counter(), memory()
            continue
        if events:
            report["failures"].append([index, name, way.__name__, events])
        if seconds > 5:
            report["failures"].append([index, name, way.__name__, f"{seconds:.1f} s"])
        kind = "checkpoint" if is_resumed else "file"
        report["outcomes"][f"{kind}: {outcome}"] += 1
        report["outcomes"][f"{way.__name__}: {outcome}"] += 1
        if len(report["failures"]) > 200:
            break
    faulthandler.cancel_dump_traceback_later()
    (started, before), after = begin, memory()
    report["n_files"] = index + 1
    report["ms a file"] = 1000 * (time.perf_counter() - started) / n_files
    report["grown MB"] = [now - then for now, then in zip(after, before, strict=True)]
    report["messages"] = len(messages)
    report["left"] = sorted(p.name for p in folder.iterdir())
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
