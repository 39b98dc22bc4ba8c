"""
Missing values: reduce, fill in, score
======================================

A fifth of the entries of a table are NaN, in training rows and in new ones. They are left out of
the likelihood, so that the estimator needs no imputer before it, and is one: ``inverse_transform``
of ``transform`` gives every entry. Prints errors in standard deviations, beside scikit-learn's
imputers.
"""

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

reducer = WiSEALETransformer(8, random_state=0).fit(train)
filled = {
    "mean": SimpleImputer().fit(train).transform(test),
    "5 neighbours": KNNImputer().fit(train).transform(test),
    "WiSE-ALE": reducer.inverse_transform(reducer.transform(test)),
}
for name, guess in filled.items():
    print(f"{name:14s} {np.sqrt(np.mean((guess - truth)[hidden] ** 2)):.3f}")

# %%
# The score of a row is the density of what is observed of it. What is left of a row with few
# entries says little, so its codes stay near the prior's mean.

for share in (0.0, 0.5, 0.9):
    fewer = np.where(rng.random_sample(truth.shape) < share, np.nan, truth)
    fewer[:, 0] = truth[:, 0]
    codes = reducer.transform(fewer)
    n_seen = (~np.isnan(fewer)).sum(axis=1).mean()
    print(
        f"{n_seen:4.1f} entries a row: {reducer.score(fewer):7.2f} nats, "
        f"spread of the codes {codes.std():.2f}"
    )
