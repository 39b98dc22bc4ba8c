"""
Digits in two dimensions, and back
==================================

``WiSEALETransformer`` reduces the 8 x 8 digits that come with scikit-learn to two numbers each
and rebuilds the images from them, beside PCA: with its defaults, and with an objective that keeps
neighbours together. Prints a table and saves ``plot_digits.png`` next to this script.
"""

import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patheffects import withStroke
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.diagnostics import reconstruction_r2
from sklearn_wiseale.objectives import WiSEALE

# %%
# All methods see the same training images; the figures are of images they have not seen.

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=0)

models = {
    "PCA": PCA(2),
    "WiSE-ALE": WiSEALETransformer(2, scale="global", random_state=0),
    "WiSE-ALE, neighbors": WiSEALETransformer(
        2, objective=WiSEALE(neighbors="auto"), scale="global", random_state=0
    ),
}
print(
    f"{'2 components':20s} {'variance':>9s} {'neighbours':>11s} {'log-likelihood':>15s} {'fit':>7s}"
)
codes, rebuilt, shares = {}, {}, {}
for name, model in models.items():
    start = time.perf_counter()
    model.fit(X_train)
    seconds = time.perf_counter() - start
    codes[name] = model.transform(X_test)
    rebuilt[name] = model.inverse_transform(codes[name])
    neighbours = KNeighborsClassifier(10).fit(model.transform(X_train), y_train)
    shares[name] = reconstruction_r2(model, X_test, weights="none")  # pixels have one unit
    print(
        f"{name:20s} {shares[name]:9.3f} "
        f"{neighbours.score(codes[name], y_test):11.3f} "
        f"{model.score(X_test):10.1f} nats {seconds:5.1f} s"
    )
print(
    "variance: share of it reconstructed; neighbours: accuracy of 10 nearest neighbours in the\n"
    "codes; log-likelihood: per image, higher is better (PCA: probabilistic PCA). All held out."
)

# %%
# The embedding, one colour a digit, and what comes back from two numbers an image.

figure = plt.figure(figsize=(10, 6.8), layout="constrained")
upper, lower = figure.subfigures(2, 1, height_ratios=[3, 2.8])
colours = plt.get_cmap("tab10")
halo = withStroke(linewidth=3, foreground="white")
for axis, (name, Z) in zip(upper.subplots(1, 3), codes.items(), strict=True):
    for digit in range(10):
        chosen = Z[y_test == digit]
        axis.scatter(*chosen.T, s=9, color=colours(digit), alpha=0.6, linewidths=0)
        axis.text(
            *np.median(chosen, axis=0), str(digit), color=colours(digit), fontsize=16,
            fontweight="bold", ha="center", va="center", path_effects=[halo],
        )  # fmt: skip
    axis.set(title=name, xticks=[], yticks=[])
    axis.set_xlabel(f"{shares[name]:.0%} of the variance reconstructed")

shown = [int(np.flatnonzero(y_test == digit)[0]) for digit in range(10)]
rows = {"image": X_test[shown], **{name: images[shown] for name, images in rebuilt.items()}}
axes = lower.subplots(4, 10)
for (name, images), line in zip(rows.items(), axes, strict=True):
    for axis, image in zip(line, images, strict=True):
        axis.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    line[0].set_ylabel(name, rotation=0, ha="right", va="center")

if "__file__" in globals():  # run as a script
    target = Path(__file__).with_suffix(".png")
    figure.savefig(target, dpi=120)
    print(f"figure: {target}")
