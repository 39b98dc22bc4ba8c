"""
A table of numbers and categories, and back to its columns
===========================================================

Reduces a table with numbers and categories to two codes a row and rebuilds a table with the
original columns from them: ``ColumnTransformer``, then ``WiSEALETransformer`` with a ``Mixed``
likelihood, then each one's inverse. The table is simulated: customers whose age, income and habits
depend on two hidden factors.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.likelihoods import Mixed
from sklearn_wiseale.networks import MLP
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
numbers, categories = ["age", "income"], ["home", "travels by"]
train, test = train_test_split(table, test_size=0.25, random_state=0)

# %%
# The layout of the likelihood is read off the fitted ``ColumnTransformer``.

columns = ColumnTransformer(
    [
        ("numbers", StandardScaler(), numbers),
        ("categories", OneHotEncoder(sparse_output=False), categories),
    ]
).fit(train)
likelihood = Mixed.from_column_transformer(columns)
print(likelihood)

reducer = WiSEALETransformer(
    2, likelihood=likelihood, network=MLP(hidden=(64,)), max_epochs=100, random_state=0
)
reducer.fit(columns.transform(train))
codes = reducer.transform(columns.transform(test))

# %%
# Back: means in the units of the encoded columns, then the most likely values, then names.

likely = likelihood.most_likely(reducer.inverse_transform(codes))
parts = columns.output_indices_
rebuilt = pd.DataFrame(
    np.hstack(
        [
            columns.named_transformers_["numbers"].inverse_transform(likely[:, parts["numbers"]]),
            columns.named_transformers_["categories"].inverse_transform(
                likely[:, parts["categories"]]
            ),
        ]
    ),
    columns=numbers + categories,
    index=test.index,
).astype({"age": float, "income": float})

print(test.head(5).round(0).to_string(), "\n")
print(rebuilt.head(5).round(0).to_string(), "\n")
for name in numbers:
    error = ((rebuilt[name] - test[name]) ** 2).sum()
    total = ((test[name] - test[name].mean()) ** 2).sum()
    print(f"{name:12s} share of the variance rebuilt: {1 - error / total:.2f}")
for name in categories:
    most = (test[name] == train[name].mode()[0]).mean()
    right = (rebuilt[name] == test[name]).mean()
    print(f"{name:12s} right: {right:.2f}, most frequent: {most:.2f}")

# %%
# Two codes must serve four columns, and the two numbers take most of them: a number that is
# rebuilt to a few per cent is worth more nats than a category. Both factors show in the plane.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
encoded = columns.transform(test)
for axis, name in zip(axes, ("home", "income"), strict=True):
    EmbeddingDisplay.from_estimator(reducer, encoded, test[name], ax=axis)
