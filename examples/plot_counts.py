"""
Counts: rates from two codes
============================

Counts of twenty events in 800 places, driven by two hidden factors. With a count likelihood the
decoder gives log-rates, samples are whole numbers, and the score is a log-probability. By that
score Poisson and negative binomial noise can be compared: the second costs nothing where counts are
Poisson, and is far better where they vary more than that.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.likelihoods import NegativeBinomial, Poisson
from sklearn_wiseale.networks import MLP

# %%
# Two tables with the same rates. In the second, each rate is multiplied by a random number of mean
# one before the count is drawn.

rng = np.random.RandomState(0)
factors = rng.standard_normal((800, 2))
rates = np.exp(factors @ (0.6 * rng.standard_normal((2, 20))) + rng.uniform(0, 3, 20))
tables = {
    "Poisson counts": rng.poisson(rates),
    "overdispersed counts": rng.poisson(rates * rng.gamma(3, 1 / 3, rates.shape)),
}

# %%
# Each table with each likelihood. Scores and errors are of rows held out.

figure, axes = plt.subplots(2, 2, figsize=(7, 6.4), sharex=True, sharey=True, layout="constrained")
for line, (table, X) in zip(axes, tables.items(), strict=True):
    X_train, X_test, _, rates_test = train_test_split(X, rates, random_state=0)
    for axis, likelihood in zip(line, (Poisson(), NegativeBinomial()), strict=True):
        model = WiSEALETransformer(
            2, likelihood=likelihood, network=MLP(hidden=(64,)), max_epochs=80, random_state=0
        ).fit(X_train)
        rebuilt = model.inverse_transform(model.transform(X_test))
        error, score = np.abs(np.log(rebuilt / rates_test)).mean(), model.score(X_test)
        name = type(likelihood).__name__
        print(
            f"{table:21s} {name:17s} log-probability a row {score:7.1f} nats, "
            f"rates off by {100 * error:.0f} %"
        )
        axis.loglog(rates_test.ravel(), rebuilt.ravel(), ".", markersize=2, alpha=0.4)
        axis.axline((1, 1), (2, 2), color="0.4", linewidth=1)
        axis.set_title(f"{table}\n{name}: {score:.1f} nats a row", fontsize="medium")
for axis in axes[1]:
    axis.set_xlabel("true rate")
for axis in axes[:, 0]:
    axis.set_ylabel("rate rebuilt from two codes")

# %%
# A row of the last table, the rates behind it, the rates that its two codes give, and a row drawn
# from the model.

print("counts   ", X_test[0, :10])
print("rates    ", rates_test[0, :10].round(1))
print("rebuilt  ", rebuilt[0, :10].round(1))
print("a sample ", model.sample(1, random_state=0)[0, :10].astype(int))
