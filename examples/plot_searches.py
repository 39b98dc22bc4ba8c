"""
A search that gives epochs to the best: successive halving
==========================================================

Training parameters are parameters of the constructor, so that a search can use the number of epochs
as its budget. ``HalvingGridSearchCV`` fits all candidates briefly and gives three times the epochs
to the best third, by the held-out log-likelihood.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import HalvingGridSearchCV, ShuffleSplit

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.networks import MLP

X = load_breast_cancer().data

# %%
# Nine candidates. ``resource`` names the parameter that is the budget.

search = HalvingGridSearchCV(
    WiSEALETransformer(network=MLP(hidden=(64,)), random_state=0),
    {"n_components": [2, 4, 8], "learning_rate": [0.0005, 0.002, 0.008]},
    resource="max_epochs",
    min_resources=4,
    max_resources=36,
    factor=3,
    cv=ShuffleSplit(1, test_size=0.3, random_state=0),
    random_state=0,
).fit(X)
results = search.cv_results_

for iteration, epochs in enumerate(search.n_resources_):
    chosen = results["iter"] == iteration
    print(
        f"{epochs:3d} epochs: {chosen.sum()} candidates, "
        f"best score {results['mean_test_score'][chosen].max():7.2f} nats a row"
    )
total = int(np.sum(np.multiply(search.n_candidates_, search.n_resources_)))
print(f"best: {search.best_params_}")
print(f"{total} epochs, where a full grid takes {9 * search.max_resources_}")

# %%
# Lines end where a candidate is dropped. What is best after a few epochs need not be best after
# many, so let the first budget be no smaller than you can afford.

figure, axis = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
colours = {2: "C0", 4: "C1", 8: "C2"}
styles = {0.0005: ":", 0.002: "--", 0.008: "-"}
keys = [(p["n_components"], p["learning_rate"]) for p in results["params"]]
for key in dict.fromkeys(keys):
    chosen = [i for i, other in enumerate(keys) if other == key]
    axis.plot(
        results["n_resources"][chosen],
        results["mean_test_score"][chosen],
        marker="o",
        color=colours[key[0]],
        linestyle=styles[key[1]],
        label=f"{key[0]} components, rate {key[1]:g}",
    )
axis.set_xscale("log")
axis.set_xticks(search.n_resources_, labels=search.n_resources_)
axis.minorticks_off()
axis.set(xlabel="epochs", ylabel="held-out score, nats a row")
axis.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
