"""
A synthetic copy of a table, and rows with given entries
=========================================================

``sample`` draws rows that look like those of the table: the same columns and dtypes, similar
distributions and similar relations between columns. ``given`` fixes some entries. The table is
simulated: people with work, income and homes.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sklearn_wiseale import WiSEALETransformer

n = 1500
rng = np.random.RandomState(0)
age = rng.gamma(9, 4, n).clip(16, 80) + 4
skill = rng.standard_normal(n)
work = np.where(
    age > 63, "retired", np.where(skill + 0.3 * rng.standard_normal(n) > 0, "office", "craft")
)
income = np.where(work == "retired", 22, 30 + 9 * skill + 0.25 * age) + 3 * rng.standard_normal(n)
people = pd.DataFrame(
    {
        "age": age.astype(int),
        "work": pd.Categorical(work),
        "income": income,
        "owns home": income + 0.4 * age + 5 * rng.standard_normal(n) > 48,
    }
)
model = WiSEALETransformer(4, max_epochs=100, random_state=0).fit(people)
copy = model.sample(n, random_state=0)
print(copy.head(5).round(1).to_string())
print(copy.dtypes.to_string())

# %%
# Distributions and relations of the copy, beside those of the table.

figure, axes = plt.subplots(2, 2, figsize=(9, 6.5), layout="constrained", sharex="col")
for row, (name, frame) in zip(axes, {"table": people, "copy": copy}.items(), strict=True):
    for kind, color in zip(people["work"].cat.categories, ("C0", "C1", "C2"), strict=True):
        some = frame[frame["work"] == kind]
        row[0].plot(some["age"], some["income"], ".", ms=3, color=color, label=kind)
    row[0].set(title=name, xlabel="age", ylabel="income", ylim=(0, 80))
    for owns, color in ((False, "C3"), (True, "C2")):
        some = frame.loc[frame["owns home"] == owns, "income"]
        label = "owns home" if owns else "does not"
        row[1].hist(some, np.arange(0, 80, 2.5), alpha=0.6, color=color, label=label)
    row[1].set(title=name, xlabel="income", ylabel="people")
axes[0, 0].legend(markerscale=3)
axes[0, 1].legend()

# %%
# Retired people, and people of 30 who own their home.

for given in ({"work": "retired"}, {"age": 30, "owns home": True}):
    rows = model.sample(500, random_state=0, given=given)
    print(given, "income:", f"{rows['income'].mean():.1f}, age: {rows['age'].mean():.1f}")
print("all", "income:", f"{copy['income'].mean():.1f}, age: {copy['age'].mean():.1f}")
