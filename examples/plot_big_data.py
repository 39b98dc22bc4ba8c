"""
Data larger than memory: memory maps and partial_fit
====================================================

Two ways. Where the rows lie in a file, pass ``fit`` a ``numpy.memmap``: batches are read as they
are needed, for as many epochs as you like. Where rows arrive in chunks and are not kept, call
``partial_fit``, one pass a chunk. The file here is small, so that the example is short.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import IncrementalPCA

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.datasets import make_sine_waves
from sklearn_wiseale.diagnostics import reconstruction_r2
from sklearn_wiseale.networks import MLP

X, _ = make_sine_waves(21_000, 64, random_state=0)
X, X_test = X[:20_000].astype(np.float32), X[20_000:]
folder = tempfile.TemporaryDirectory()
path = Path(folder.name, "waves.npy")
np.save(path, X)

# %%
# From a file. Nothing but the type of X tells ``fit`` that the rows are on disk.

parameters = {
    "network": MLP(hidden=(64,)),
    "scale": "global",
    "batch_size": 64,
    "random_state": 0,
}
rows = np.load(path, mmap_mode="r")
mapped = WiSEALETransformer(4, max_epochs=3, **parameters).fit(rows)
print(f"{type(rows).__name__} of {path.stat().st_size / 1e6:.0f} MB, {mapped.n_iter_} epochs")

# %%
# In chunks. The first settles scaling and the PCA start, so it should be representative. Nothing is
# held out by the estimator: keep rows apart yourself.

streamed, linear = WiSEALETransformer(4, **parameters), IncrementalPCA(4)
seen, course = [], {"WiSE-ALE": [], "IncrementalPCA": []}
for chunk in np.array_split(rows, 20):
    streamed.partial_fit(chunk)
    linear.partial_fit(chunk)
    seen.append(streamed.n_samples_seen_)
    for name, model in (("WiSE-ALE", streamed), ("IncrementalPCA", linear)):
        course[name].append(reconstruction_r2(model, X_test, weights="none"))
whole = reconstruction_r2(mapped, X_test, weights="none")
print(f"share of held-out variance: memory map, 3 epochs {whole:.3f}")
for name, shares in course.items():
    print(f"  after {seen[-1]:,} rows in chunks: {name:14s} {shares[-1]:.3f}")
del rows, chunk  # the file is closed before it is removed
folder.cleanup()

# %%
# A chunk that has passed is not seen again, so the stream needs more rows than a fit of several
# epochs.

figure, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for name, shares in course.items():
    axis.plot(seen, shares, "o-", markersize=3, label=f"{name}, partial_fit")
axis.axhline(whole, color="0.5", linestyle="--", label="WiSE-ALE, memory map, 3 epochs")
axis.set(xlabel="rows seen", ylabel="share of held-out variance")
axis.legend()
