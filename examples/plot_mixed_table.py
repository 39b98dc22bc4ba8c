"""
A table of numbers, categories, booleans and dates
==================================================

Reduces a dataframe with columns of several kinds to two codes a row, and decodes the codes to a
dataframe with the same columns and dtypes. The table goes in as it is. It is simulated: customers
whose age, income and habits depend on two hidden factors.
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


days = pd.to_timedelta((900 - 300 * youth + 60 * rng.standard_normal(n)).round(), unit="D")
table = pd.DataFrame(
    {
        "age": (45 - 12 * youth + 3 * rng.standard_normal(n)).round().astype(int),
        "income": np.exp(10.5 + 0.5 * wealth + 0.1 * rng.standard_normal(n)),
        "home": choose(["rents", "owns", "shares"], 0 * wealth, 3 * wealth - youth, 3 * youth),
        "travels by": choose(["bus", "bicycle", "car"], 0 * wealth, 3 * youth, 3 * wealth),
        "member": wealth + 0.5 * rng.standard_normal(n) > 0.5,
        "since": pd.Timestamp("2024-01-01") - days,
    }
)
train, test = train_test_split(table, test_size=0.25, random_state=0)

# %%
# The estimator chooses a likelihood for each column by its dtype.

reducer = WiSEALETransformer(2, random_state=0).set_output(transform="pandas").fit(train)
for name, likelihood in reducer.column_likelihoods_.items():
    print(f"{name:12s} {likelihood}")

# %%
# Codes decode to rows of the table: the most likely categories, rounded integers and dates.

codes = reducer.transform(test)
rebuilt = reducer.inverse_transform(codes)
print(test.head(5).to_string(float_format="%.0f"), "\n")
print(rebuilt.head(5).to_string(float_format="%.0f"), "\n")
print("same dtypes:", bool((rebuilt.dtypes == test.dtypes).all()))

# %%
# How much of each column do two codes keep? For numbers and dates, the share of the variance, which
# is 0 for the mean; for categories, the share of right ones, beside that of the most frequent one.

for name in table.columns:
    if name in ("age", "income", "since"):
        true, guess = (pd.to_numeric(frame[name]).astype(float) for frame in (test, rebuilt))
        kept = 1 - ((guess - true) ** 2).mean() / true.var()
        print(f"{name:12s} share of the variance: {kept:.2f}")
    else:
        most = (test[name] == train[name].mode()[0]).mean()
        right = (rebuilt[name] == test[name]).mean()
        print(f"{name:12s} right: {right:.2f}, most frequent: {most:.2f}")

# %%
# Both hidden factors show in the plane of the codes. Displays take the table as well.

figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
for axis, name in zip(axes, ("home", "travels by", "age"), strict=True):
    EmbeddingDisplay.from_estimator(reducer, test, test[name], ax=axis)
