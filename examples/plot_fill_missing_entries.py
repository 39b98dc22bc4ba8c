"""
Missing entries filled, with their uncertainty
===============================================

A fifth of the entries of a table is removed. ``impute`` fills them with conditional means and the
most likely categories. With ``n_draws`` it returns copies with draws of the missing entries, whose
spread shows how far each can be trusted. The table is simulated: houses.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sklearn_wiseale import WiSEALETransformer

n = 1000
rng = np.random.RandomState(0)
size, place = rng.standard_normal((2, n))
houses = pd.DataFrame(
    {
        "area": 110 + 30 * size + 5 * rng.standard_normal(n),
        "rooms": np.rint(4 + 1.3 * size + 0.5 * rng.standard_normal(n)).clip(1),
        "price": 250 + 70 * size + 60 * place + 15 * rng.standard_normal(n),
        "heating": np.where(size + 0.4 * rng.standard_normal(n) > 0.3, "gas", "electric"),
        "waterfront": place + 0.4 * rng.standard_normal(n) > 1,
    }
)
removed = rng.random_sample(houses.shape) < 0.2
holes = houses.astype({"waterfront": "boolean"}).mask(removed)
print(holes.head(5).to_string())

# %%
# One call fills all columns, and leaves the other entries as they are.

model = WiSEALETransformer(2, max_epochs=100, random_state=0).fit(holes)
filled = model.impute(holes)
print(filled.head(5).to_string())
for name in ("heating", "waterfront"):
    here = removed[:, houses.columns.get_loc(name)]
    right = (filled[name] == houses[name])[here].mean()
    print(
        f"{name:12s} right: {right:.2f}, most frequent: {houses[name].value_counts().max() / n:.2f}"
    )

# %%
# Of 50 draws, the 5 % and 95 % quantiles are an interval that should hold nine true values of ten.
# Rows with few observed entries have wide ones.

draws = model.impute(holes, n_draws=50, random_state=0)
here = removed[:, houses.columns.get_loc("price")]
truth, guess = houses["price"][here], filled["price"][here]
low, high = np.quantile([draw["price"][here] for draw in draws], [0.05, 0.95], axis=0)
print(f"price: {((low <= truth) & (truth <= high)).mean():.2f} of true values in the interval")

order = np.argsort(truth.to_numpy())[::4]
plt.figure(figsize=(7, 4), layout="constrained")
plt.vlines(
    np.arange(len(order)), low[order], high[order], color="tab:blue", alpha=0.4, label="90 %"
)
plt.plot(guess.to_numpy()[order], "o", ms=3, color="tab:blue", label="filled in")
plt.plot(truth.to_numpy()[order], ".", color="black", label="true value")
plt.xlabel("missing prices, in the order of the true value")
plt.ylabel("price in thousands")
plt.legend()
