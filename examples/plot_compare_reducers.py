"""
Beside PCA, KernelPCA and UMAP
==============================

Digits in two dimensions by five methods, with what each is asked for: do neighbours stay
neighbours, how much of an image comes back, and how long does it take? All figures are of images
that were not trained on. UMAP is left out where ``umap-learn`` is not installed.
"""

import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA, KernelPCA
from sklearn.manifold import trustworthiness
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.objectives import WiSEALE
from sklearn_wiseale.plotting import EmbeddingDisplay

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, test_size=0.25, random_state=0)

models = {
    "PCA": PCA(2),
    "KernelPCA": KernelPCA(2, kernel="rbf", gamma=0.1, fit_inverse_transform=True, alpha=0.01),
    "WiSE-ALE": WiSEALETransformer(2, scale="global", random_state=0),
    "WiSE-ALE, neighbours": WiSEALETransformer(
        2, objective=WiSEALE(neighbors="auto"), scale="global", random_state=0
    ),
}
try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its dependencies
        from umap import UMAP
    models["UMAP"] = UMAP(n_components=2, random_state=0, n_jobs=1)
except ImportError:
    print("umap-learn is not installed: its column is left out\n")

# %%
# UMAP has an inverse too, but it takes seconds for a few rows, so it is not run here.

print(f"{'':20s} {'trustworthiness':>15s} {'10 neighbours':>14s} {'variance':>9s} {'seconds':>8s}")
for name, model in models.items():
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if name == "UMAP" else "default")
        model.fit(X_train)
        codes, codes_test = model.transform(X_train), model.transform(X_test)
    seconds = time.perf_counter() - start
    neighbours = KNeighborsClassifier(10).fit(codes, y_train).score(codes_test, y_test)
    variance = "not run"
    if name != "UMAP":
        rebuilt = model.inverse_transform(codes_test)
        error = np.sum((X_test - rebuilt) ** 2)
        variance = f"{1 - error / np.sum((X_test - X_train.mean(axis=0)) ** 2):.3f}"
    print(
        f"{name:20s} {trustworthiness(X_test, codes_test, n_neighbors=10):15.3f} "
        f"{neighbours:14.3f} {variance:>9s} {seconds:8.1f}"
    )

# %%
# UMAP shows the neighbourhoods best: that is what it is for. WiSE-ALE keeps most of the image, and
# its distances are those of a model with a prior, shown as circles. ``neighbors="auto"`` keeps
# neighbours together as well, and more of the image comes back.

figure, axes = plt.subplots(3, 2, figsize=(9, 11.4), layout="constrained")
for axis in axes.flat[len(models) :]:
    axis.set_axis_off()
for axis, (name, model) in zip(axes.flat, models.items(), strict=False):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if name == "UMAP" else "default")
        EmbeddingDisplay.from_estimator(model, X_test, y_test, ax=axis)
    axis.set_title(name)
