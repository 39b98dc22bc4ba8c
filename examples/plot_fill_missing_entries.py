"""
Fill missing entries, with their uncertainty
============================================

A fifth of the entries of a table are missing, in columns of numbers and of categories. ``impute``
fills them: with one value each, or with several draws from p(missing | observed), whose spread says
how far the observed entries determine the missing ones. The table is simulated, so the true values
are known.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sklearn_wiseale import WiSEALETransformer

n = 1000
rng = np.random.RandomState(0)
size, age = rng.standard_normal((2, n))
quality = size - age + 0.5 * rng.standard_normal(n)
truth = pd.DataFrame(
    {
        "area": 90 + 30 * size + 4 * rng.standard_normal(n),
        "rooms": (3.5 + 1.2 * size + 0.4 * rng.standard_normal(n)).clip(1).round(),
        "built": (1980 - 20 * age + 4 * rng.standard_normal(n)).round(),
        "rent": 900 + 280 * size - 120 * age + 60 * rng.standard_normal(n),
        "energy": 160 + 35 * age + 10 * rng.standard_normal(n),
        "district": np.select([quality > 0.8, quality > -0.8], ["centre", "north"], "harbour"),
        "heating": np.where(age + 0.4 * rng.standard_normal(n) > 0.3, "stove", "central"),
    }
)
missing = rng.random_sample(truth.shape) < 0.2
table = truth.mask(missing)
print(table.head(6).round(1).to_string())

# %%
# One value for each missing entry: the expected number, or the most likely category.

imputer = WiSEALETransformer(3, random_state=0).fit(table)
filled = imputer.impute(table)
print(filled.head(6).round(1).to_string(), "\n")
for place, name in enumerate(truth.columns):
    hidden = missing[:, place]
    true, guess = truth[name][hidden], filled[name][hidden]
    if name in ("district", "heating"):
        most = (true == table[name].mode()[0]).mean()
        print(f"{name:9s} right: {(guess == true).mean():.2f}, most frequent: {most:.2f}")
    else:
        error = np.sqrt(((guess - true) ** 2).mean())
        print(f"{name:9s} error: {error:5.1f}, of the mean: {true.std(ddof=0):5.1f}")

# %%
# Several draws: each copy of the table has other values in the missing entries. With the right
# uncertainty, 90 % of the true values are between the 5 % and the 95 % quantile of the draws. The
# draws leave out the uncertainty of the model itself, so of few rows there are rather less.

copies = imputer.impute(table, n_draws=60, random_state=0)
numbers = ["area", "built", "rent"]
intervals = {}
for name in numbers:
    hidden = missing[:, truth.columns.get_loc(name)]
    draws = np.array([copy[name][hidden] for copy in copies])
    low, high = np.quantile(draws, [0.05, 0.95], axis=0)
    true = truth[name].to_numpy()[hidden]
    intervals[name] = true, filled[name].to_numpy()[hidden], low, high
    inside = ((low <= true) & (true <= high)).mean()
    print(f"{name:9s} true values in the 90 % interval: {inside:.0%}")

# %%
# Multiple imputation: compute the figure of interest in each copy. Their variance is what the
# missing entries add to its uncertainty. Here, the correlation of area and rent:

values = [copy["area"].corr(copy["rent"]) for copy in copies[:20]]
print(f"copies: {np.mean(values):.3f} (standard deviation between them {np.std(values):.3f})")
print(f"one value for each entry: {filled['area'].corr(filled['rent']):.3f}")
print(f"without missing entries: {truth['area'].corr(truth['rent']):.3f}")

# %%
# Sixty missing entries of each column, in the order of their filled values: the interval, the
# filled value, and the true value.

figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
for axis, name in zip(axes, numbers, strict=True):
    true, guess, low, high = (part[:60] for part in intervals[name])
    order = np.argsort(guess)
    place = np.arange(len(order))
    axis.vlines(place, low[order], high[order], color="C0", alpha=0.4, lw=3, label="90 % interval")
    axis.plot(place, guess[order], "_", color="C0", label="filled value")
    axis.plot(place, true[order], ".", color="black", ms=5, label="true value")
    axis.set(title=name, xlabel="missing entry", xticks=[])
axes[0].legend(loc="upper left")
