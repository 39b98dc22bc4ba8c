"""What tests/test_ranks.py runs in every process of a group: each writes what it found to a file.

One start of the processes serves all tests, since importing is most of what it costs. A fit "alone"
is made inside one of them, which then is told that there are no others.
"""

import contextlib
import copy
import io
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from skorch.callbacks import Callback
from torch import distributed, nn

import sklearn_wiseale._data.rows
from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale._data.rows import Rows
from sklearn_wiseale._training.callbacks import EachEpoch, StopTraining
from sklearn_wiseale._training.distributed import Processes, current_processes
from sklearn_wiseale._training.net import VariationalNet
from sklearn_wiseale._training.sklearn_callbacks import FitTask
from sklearn_wiseale.likelihoods import LIKELIHOODS, Gaussian, Mixed, NegativeBinomial
from sklearn_wiseale.networks import MLP, Modules
from sklearn_wiseale.objectives import ELBO, InfoVAE, Objective, WassersteinMMD, WiSEALE

SMALL = MLP(hidden=(16,))
BOUNDS = ("blend", "jensen", "renyi", "moment", "monte_carlo", "sliced")
rng = np.random.RandomState(0)
X = rng.randn(300, 3) @ rng.randn(3, 8) + 0.3 * rng.randn(300, 8)
HOLES = np.where(rng.rand(*X.shape) < 0.1, np.nan, X)
TABLE = pd.DataFrame(HOLES[:, :3], columns=[*"abc"]).assign(
    sign=np.where(X[:, 3] > 0, "plus", "minus"),
    size=pd.cut(X[:, 4], 3, labels=["small", "medium", "large"]),
    day=pd.Timestamp("2020-01-01") + pd.to_timedelta((9 * X[:, 5]).round(), unit="D"),
    count=np.abs(X[:, 6]).round().astype(int),
)
TABLE.loc[200:220, "sign"] = None


class Length(nn.Module):
    """A divergence that has a weight of its own."""

    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(2))

    def forward(self, posterior, z, batch):
        return (self.log_scale.exp() * posterior.mean.square() - self.log_scale).sum(1).mean()


class Notes(nn.Linear):
    """A layer whose state is more than tensors."""

    def get_extra_state(self):
        return {"text": "of its own"}

    def set_extra_state(self, state):
        pass


class Learned(Objective):
    _parameter_constraints = {}

    def build(self, n_features, n_components):
        return Length()


OBJECTIVES = {
    **{f"{bound}, batch alone": WiSEALE(bound, width=1) for bound in BOUNDS},
    **{f"{bound}, bank of some": WiSEALE(bound, width=200) for bound in BOUNDS},
    **{f"{bound}, bank of all": WiSEALE(bound, width=4096) for bound in BOUNDS},
    "default": WiSEALE(),
    "elbo": ELBO(),
    "infovae": InfoVAE(),
    "wae": WassersteinMMD(),
    "learned": Learned(),
}


def make(**params):
    given = {"network": SMALL, "max_epochs": 3, "batch_size": 32, "random_state": 0, **params}
    return WiSEALETransformer(2, **given)


@contextlib.contextmanager
def alone():
    with patched(distributed, "is_initialized", lambda: False):
        yield


@contextlib.contextmanager
def patched(owner, name, value):
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def state(model):
    """All that must be the same on all ranks after a fit."""
    net = model.net_
    parts = {**net.module_.state_dict(), **net.criterion_.state_dict()}
    parts["seed"] = torch.tensor(net.seed)
    numbers = {k: v.numpy(force=True) for k, v in parts.items() if isinstance(v, torch.Tensor)}
    for i, row in enumerate(model.history_):
        numbers |= {f"{name} {i}": value for name, value in row.items() if name != "dur"}
    return {**numbers, "bounds": np.array(model.aggregate_kl_bounds_)}


# gradients ------------------------------------------------------------------------------------


def after_batches(net, processes, x):
    """Gradients and running estimates after batches of 128 rows, shared by processes."""
    net = copy.deepcopy(net)
    net.processes_, net.noise_generator_ = processes, torch.Generator().manual_seed(0)
    net._set_training(True)
    for i in range(3):  # beyond the last row
        index = torch.arange(128 * i, 128 * (i + 1)) % len(x)
        net.module_.zero_grad(set_to_none=True)
        net.criterion_.zero_grad(set_to_none=True)
        terms = net.objective_terms(processes.local_rows(x[index]), index)
        (terms.reconstruction + terms.divergence).backward()
        processes.sum_gradients(net.module_, net.criterion_)
    gradients = [p.grad.flatten() for _, p in net.get_all_learnable_params() if p.requires_grad]
    buffers = [b.flatten() for b in net.module_.buffers() if b.is_floating_point()]
    return torch.cat(gradients), torch.cat(buffers)


def compare(rows, **params):
    """Gradients by all ranks and by one process, from the same state, after the same batches."""
    with alone():
        model = make(max_epochs=1, early_stopping=False, **params).fit(rows)
    net = model.net_
    x = Rows(rows, model._scaling, torch.float32, torch.device("cpu"))[0 : len(rows)]
    with torch.random.fork_rng():
        both, buffers = after_batches(net, current_processes(), x)
        one, expected = after_batches(net, Processes(), x)
    before = torch.cat([b.flatten() for b in net.module_.buffers() if b.is_floating_point()])
    return {
        "cosine": float(torch.cosine_similarity(both.double(), one.double(), dim=0)),
        "norm": float(both.double().norm() / one.double().norm()),
        "buffers": float((buffers - expected).abs().max() / expected.abs().max()),
        "moved": float((expected - before).abs().max() / expected.abs().max()),
    }


def gradients_of_objectives():
    found = {}
    for name, objective in OBJECTIVES.items():
        found[name] = compare(X, objective=objective)
    return found


def gradients_of_likelihoods():
    found = {}
    for name, likelihood in LIKELIHOODS.items():
        drawn = np.random.RandomState(1)
        counts = drawn.negative_binomial(3, 0.4, X.shape).astype(float)
        rows = {"gaussian": X, "bernoulli": (X > 0) * 1.0, "categorical": one_hot(drawn)}
        rows = rows.get(name, counts)
        found[name] = compare(rows, likelihood=likelihood())
    mixed = Mixed([(Gaussian("feature"), slice(0, 4)), (NegativeBinomial(), slice(4, 8))])
    found["mixed"] = compare(np.hstack([X[:, :4], counts[:, 4:]]), likelihood=mixed)
    for noise in ("shared", "feature"):
        found[f"{noise}, missing values"] = compare(HOLES, likelihood=Gaussian(noise))
    return found


def one_hot(drawn):
    return np.eye(8)[drawn.randint(8, size=len(X))]


# fits -----------------------------------------------------------------------------------------


def twice(rows, **params):
    """The same fit by all ranks and alone, with the same batches: states and codes of both."""
    params = {"precision": "float64", **params}
    batch_size = params.pop("batch_size", 32)
    whole = batch_size if batch_size == "auto" else batch_size * current_processes().size
    ours = make(batch_size=batch_size, **params)
    some = rows if isinstance(rows, pd.DataFrame) else X
    codes = ours.fit(rows).transform(some)
    with alone():
        other = make(batch_size=whole, **params).fit(rows)
        expected = other.transform(some)
    ours_numbers, others = state(ours), state(other)
    floats = [k for k, v in others.items() if np.asarray(v).dtype.kind == "f"]
    assert ours_numbers.keys() == others.keys()
    return {
        "state": ours_numbers,
        "apart": max(float(np.abs(ours_numbers[k] - others[k]).max()) for k in floats),
        "integers": all(
            np.array_equal(ours_numbers[k], others[k]) for k in others if k not in floats
        ),
        "codes_apart": float(np.abs(codes - expected).max()),
        "learned": abs(other.history_[0]["train_loss"] - other.history_[-1]["train_loss"]),
    }


def fits():
    return {
        "held-out rows": twice(X),
        "no held-out rows": twice(X, early_stopping=False),
        "automatic batches": twice(X, batch_size="auto"),
        "batches of unequal parts": twice(X[:151], batch_size=9, early_stopping=False),
        "a row a process": twice(X[:30], batch_size=1, early_stopping=False, max_epochs=2),
        "missing values": twice(HOLES, early_stopping=False),
        "one process has the missing values": twice(
            np.concatenate([X[:150], HOLES[150:]]), early_stopping=False
        ),
        "a table": twice(TABLE, likelihood="auto"),
        "neighbours": twice(X, objective=WiSEALE(neighbors=4)),
    }


def other_fits():
    """Fits whose ranks must agree with each other."""
    states = {"an odd row": state(make(batch_size=1, early_stopping=False).fit(X[:31]))}
    states["dropout"] = state(make(network=MLP(hidden=(16,), dropout=0.5)).fit(X))
    states["dropout again"] = state(make(network=MLP(hidden=(16,), dropout=0.5)).fit(X))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 4))
        decoder = nn.Sequential(nn.Linear(2, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 8))
    states["batch norm"] = state(make(network=Modules(encoder, decoder)).fit(X))
    extra = Modules(Notes(8, 4), nn.Linear(2, 8))
    states["extra state"] = state(make(network=extra).fit(X))
    np.random.seed(distributed.get_rank())
    states["no seed"] = state(make(random_state=None).fit(X))
    model = make()
    for chunk in (X[:150], X[150:]):
        model.partial_fit(chunk)
    states["partial_fit"] = state(model)
    model = make(warm_start=True).fit(X)
    states["warm start"] = state(model.fit(X))
    assert "processes_" not in vars(model.net_)  # what is kept knows nothing of the group
    return states


def dropout_draws():
    """What layers that draw would draw on this rank."""
    net = copy.deepcopy(make(network=MLP(hidden=(16,), dropout=0.5), max_epochs=1).fit(X).net_)
    net.processes_ = current_processes()
    net.order_generator_, net.noise_generator_ = torch.Generator(), torch.Generator()
    with net._seeded_epoch():
        return torch.rand(8).numpy()


def reading(folder):
    """Rows that this rank reads in an epoch of a fit from a memory map too large to be held."""
    if distributed.get_rank() == 0:
        np.save(folder / "rows.npy", X)
    distributed.barrier()
    mapped = np.load(folder / "rows.npy", mmap_mode="r")
    batches = []
    take = Rows.__getitem__

    def noted(self, rows):
        if isinstance(rows, torch.Tensor):  # a batch
            batches.append(rows.tolist())
        return take(self, rows)

    with (
        patched(Rows, "__getitem__", noted),
        patched(sklearn_wiseale._data.rows, "RESIDENT_BYTES", 0),
    ):
        model = make(early_stopping=False, max_epochs=1).fit(mapped)
    held = make(early_stopping=False, max_epochs=1).fit(X)
    same = np.array_equal(model.transform(X), held.transform(X))
    return {"rows": [row for batch in batches for row in batch], "as_array": same}


# agreement ------------------------------------------------------------------------------------


class AtEnd(Callback):
    """Calls a function at the end of the second epoch."""

    def __init__(self, function):
        self.function = function

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            self.function()


def outcome(call):
    try:
        model = call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return f"{model.n_iter_} epochs"


def throw(error):
    raise error


def disagreements():
    rank = distributed.get_rank()
    worse = X.copy()
    worse[0, 0] = np.inf if rank == 1 else 0.0

    def at_end(function, on_rank):
        callbacks = [AtEnd(function if rank == on_rank else lambda: None)]
        return lambda: make(net_params={"callbacks": callbacks}).fit(X)

    tiny = {"early_stopping": True, "validation_fraction": 0.5}
    return {
        "infinity on one": outcome(lambda: make().fit(worse)),
        "other rows on one": outcome(lambda: make().fit(X if rank else 2 * X)),
        "another parameter on one": outcome(lambda: make(max_epochs=3 + rank).fit(X)),
        "another part on one": outcome(
            lambda: make(objective=WiSEALE(weight=1.0 + rank)).partial_fit(X)
        ),
        "too few rows": outcome(lambda: make(**tiny).fit(X[:3])),
        "error after an epoch": outcome(at_end(lambda: throw(OSError("disk")), 1)),
        "stop after an epoch": outcome(at_end(lambda: throw(StopTraining()), 1)),
        "and now a fit": outcome(lambda: make().fit(X)),
    }


# files and progress ---------------------------------------------------------------------------


def files(folder):
    """A fit that is killed after two epochs and goes on; each rank names a folder of its own."""
    rank = distributed.get_rank()
    params = {"max_epochs": 4, "precision": "float64", "early_stopping": False}
    whole = make(**params).fit(X).transform(X)
    found, began = {}, []
    own = folder / f"states-{rank}"
    restore = VariationalNet.load_state_dict

    def killed():
        update = EachEpoch.on_epoch_end

        def die(self, net, **kwargs):
            update(self, net, **kwargs)
            if len(net.history) == 2:
                raise KeyboardInterrupt

        # ranks that write no file have no such callback, but are killed as well
        def die_too(self, net, **kwargs):
            if rank and len(net.history) == 2:
                raise KeyboardInterrupt

        with (
            patched(EachEpoch, "on_epoch_end", die),
            patched(FitTask, "on_epoch_end", die_too),
            contextlib.suppress(KeyboardInterrupt),
        ):
            make(checkpoint=own, **params).fit(X)

    killed()
    found["written"] = own.exists() and len(list(own.iterdir()))

    def noted(net, state):
        restore(net, state)
        began.append(len(net.history))

    with patched(VariationalNet, "load_state_dict", noted):
        codes = make(checkpoint=own, **params).fit(X).transform(X)
    found["apart"] = float(np.abs(codes - whole).max())
    found["began after"] = sum(began)
    found["left"] = own.exists() and len(list(own.iterdir()))
    return found


def progress():
    with contextlib.redirect_stderr(io.StringIO()) as text:
        make(verbose=1).fit(X)
    return "epoch" in text.getvalue()


def main(folder):
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "Of 2 components")  # after so few epochs
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    found = {
        "gradients of objectives": gradients_of_objectives(),
        "gradients of likelihoods": gradients_of_likelihoods(),
        "fits": fits(),
        "other fits": other_fits(),
        "dropout draws": dropout_draws(),
        "reading": reading(folder),
        "disagreements": disagreements(),
        "files": files(folder),
        "progress": progress(),
    }
    torch.save(found, folder / f"found-{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
