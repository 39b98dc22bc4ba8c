"""
Counts: rates from two codes
============================

Counts of twenty events in 2,000 places, driven by two hidden factors. With
``likelihood="poisson"`` the decoder gives log-rates, samples are whole numbers, and the score is a
log-probability, by which Poisson and negative binomial noise can be compared. Prints scores, and
true rates beside rebuilt ones.
"""

import numpy as np
from sklearn.model_selection import train_test_split

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.likelihoods import NegativeBinomial, Poisson

rng = np.random.RandomState(0)
factors = rng.standard_normal((2000, 2))
rates = np.exp(factors @ (0.6 * rng.standard_normal((2, 20))) + rng.uniform(0, 3, 20))
X = rng.poisson(rates)
X_train, X_test, _, rates_test = train_test_split(X, rates, test_size=0.25, random_state=0)

for likelihood in (Poisson(), NegativeBinomial()):
    model = WiSEALETransformer(2, likelihood=likelihood, random_state=0).fit(X_train)
    rebuilt = model.inverse_transform(model.transform(X_test))
    error = np.abs(np.log(rebuilt / rates_test)).mean()
    print(
        f"{type(likelihood).__name__:17s} log-probability a row {model.score(X_test):7.2f} nats, "
        f"rates off by {100 * error:.0f} %"
    )

print("counts   ", X_test[0, :10])
print("rates    ", rates_test[0, :10].round(1))
print("rebuilt  ", rebuilt[0, :10].round(1))
print("a sample ", model.sample(1, random_state=0)[0, :10].astype(int))
