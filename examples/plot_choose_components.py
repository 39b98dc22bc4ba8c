"""
How many components? Ask the score
==================================

Reconstruction nearly always gains from another component, so it cannot say when to stop. The
score, a bound on the held-out log-likelihood, can: a component has to explain more than it costs.
The data lie on a curved surface of two factors in twenty dimensions, with noise.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, ShuffleSplit

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.diagnostics import reconstruction_r2
from sklearn_wiseale.networks import MLP

rng = np.random.RandomState(0)
first, second = rng.standard_normal((2, 2000))
surface = np.stack([first, second, first**2 - 1, second**2 - 1, first * second], axis=1)
X = surface @ rng.standard_normal((5, 20)) + 1.5 * rng.standard_normal((2000, 20))

# %%
# A search without ``y``. The score is what ``GridSearchCV`` uses by default; it is named here to
# record the share of reconstructed variance beside it. One split keeps the example short.


def log_likelihood(model, X, y=None):
    return model.score(X)


sizes = [1, 2, 3, 5]
scoring = {"nats": log_likelihood, "variance": reconstruction_r2}
split = ShuffleSplit(1, test_size=0.25, random_state=0)
search = GridSearchCV(
    WiSEALETransformer(network=MLP(hidden=(64,)), max_epochs=60, random_state=0),
    {"n_components": sizes},
    scoring=scoring,
    refit=False,
    cv=split,
).fit(X)
linear = GridSearchCV(PCA(), {"n_components": sizes}, scoring=scoring, refit=False, cv=split).fit(X)
results = {"WiSE-ALE": search.cv_results_, "PCA": linear.cv_results_}

print(f"{'components':>12s} " + " ".join(f"{size:7d}" for size in sizes))
for name, found in results.items():
    for key in scoring:
        values = " ".join(f"{value:7.2f}" for value in found[f"mean_test_{key}"])
        print(f"{name:8s} {key[:4]:4s} {values}")
for name, found in results.items():
    scores = found["mean_test_nats"]
    enough = sizes[int(np.argmax(scores > scores.max() - 1))]
    print(f"{name}: {enough} components come within a nat of the highest score")

# %%
# Two curved components say nearly all there is to say, and more add a fraction of a nat each. PCA
# needs five, as many as the surface spans dimensions. Take the smallest number near the top of the
# score rather than the top itself, which may stand out by less than chance.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for name, found in results.items():
    axes[0].plot(sizes, found["mean_test_nats"], "o-", label=name)
    axes[1].plot(sizes, found["mean_test_variance"], "o-", label=name)
axes[0].set(ylabel="score, nats a row")
axes[1].set(ylabel="share of variance reconstructed", ylim=(0, 1))
for axis in axes:
    axis.axvline(2, color="0.6", linestyle=":", zorder=0)
    axis.set(xlabel="n_components", xticks=sizes)
axes[0].legend()
