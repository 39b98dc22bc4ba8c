"""
Missing values: reduce, fill in, score
======================================

A fifth of the entries of a table are NaN, in training rows and in new ones. They are left out of
the likelihood, so that the estimator needs no imputer before it. It is one itself: ``impute`` fills
them. Errors are in standard deviations, beside scikit-learn's imputers.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from sklearn_wiseale import WiSEALETransformer

rng = np.random.RandomState(0)
X = StandardScaler().fit_transform(load_breast_cancer().data)
complete, truth = train_test_split(X, test_size=0.3, random_state=0)
train = np.where(rng.random_sample(complete.shape) < 0.2, np.nan, complete)
hidden = rng.random_sample(truth.shape) < 0.2
test = np.where(hidden, np.nan, truth)

reducer = WiSEALETransformer(8, max_epochs=60, random_state=0).fit(train)
filled = {
    "mean": SimpleImputer().fit(train).transform(test),
    "5 neighbours": KNNImputer().fit(train).transform(test),
    "WiSE-ALE": reducer.impute(test),
}
errors = {
    name: float(np.sqrt(np.mean((guess - truth)[hidden] ** 2))) for name, guess in filled.items()
}
for name, error in errors.items():
    print(f"{name:14s} {error:.3f}")

# %%
# The score of a row is the density of what is observed of it: rows with fewer entries have higher
# scores, so compare like with like. What is left of a row with few entries says little, so its
# codes stay near the prior's mean.

seen, spread = [], []
for share in (0.0, 0.25, 0.5, 0.75, 0.9):
    fewer = np.where(rng.random_sample(truth.shape) < share, np.nan, truth)
    fewer[:, 0] = truth[:, 0]  # no row is empty
    seen.append((~np.isnan(fewer)).sum(axis=1).mean())
    spread.append(reducer.transform(fewer).std())
    print(
        f"{seen[-1]:4.1f} entries a row: {reducer.score(fewer):7.2f} nats, "
        f"spread of the codes {spread[-1]:.2f}"
    )

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
bars = left.barh(list(errors), list(errors.values()), color=["0.7", "0.7", "C0"])
left.bar_label(bars, fmt="%.2f", padding=3)
left.set(xlabel="error of missing entries, standard deviations", xlim=(0, 1.2))
left.invert_yaxis()
right.plot(seen, spread, "o-")
right.set(xlabel="observed entries a row", ylabel="spread of the codes", ylim=(0, None))
