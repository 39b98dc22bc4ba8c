"""
A table of numbers and categories, and back to its columns
===========================================================

Reduces a table with numbers and categories to two codes a row and rebuilds a table with the
original columns from them. The dataframe goes in as it is. The table is simulated: customers whose
age, income and habits depend on two hidden factors.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.plotting import EmbeddingDisplay

n = 1200
rng = np.random.RandomState(0)
wealth, youth = rng.standard_normal((2, n))


def choose(names, *logits):
    """One name a row, drawn with these logits."""
    noise = rng.gumbel(size=(len(names), n))
    return np.array(names)[(np.array(logits) + noise).argmax(axis=0)]


table = pd.DataFrame(
    {
        "age": 45 - 12 * youth + 3 * rng.standard_normal(n),
        "income": np.exp(10.5 + 0.5 * wealth + 0.1 * rng.standard_normal(n)),
        "home": choose(["rents", "owns", "shares"], 0 * wealth, 3 * wealth - youth, 3 * youth),
        "travels by": choose(["bus", "bicycle", "car"], 0 * wealth, 3 * youth, 3 * wealth),
    }
)
train, test = train_test_split(table, test_size=0.25, random_state=0)

# %%
# Numbers are Gaussian and texts categorical.

reducer = WiSEALETransformer(2, max_epochs=100, random_state=0).fit(train)
print(reducer.column_likelihoods_)
codes = reducer.set_output(transform="pandas").transform(test)
rebuilt = reducer.inverse_transform(codes)

print(test.head(5).round(0).to_string(), "\n")
print(rebuilt.head(5).round(0).to_string(), "\n")
for name in ("age", "income"):
    error = ((rebuilt[name] - test[name]) ** 2).sum()
    total = ((test[name] - test[name].mean()) ** 2).sum()
    print(f"{name:12s} share of the variance rebuilt: {1 - error / total:.2f}")
for name in ("home", "travels by"):
    most = (test[name] == train[name].mode()[0]).mean()
    right = (rebuilt[name] == test[name]).mean()
    print(f"{name:12s} right: {right:.2f}, most frequent: {most:.2f}")

# %%
# Two codes must serve four columns, and the two numbers take most of them: a number that is
# rebuilt to a few per cent is worth more nats than a category. Both factors show in the plane.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
for axis, name in zip(axes, ("home", "income"), strict=True):
    EmbeddingDisplay.from_estimator(reducer, test, test[name], ax=axis)
