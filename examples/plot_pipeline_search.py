"""
In a Pipeline and in GridSearchCV
=================================

The estimator is a scikit-learn transformer, so a pipeline can choose its number of components, and
the parameters of its parts, by what comes last: here the accuracy of a logistic regression on
three cultivars of wine. PCA takes the same way.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.networks import MLP
from sklearn_wiseale.objectives import WiSEALE

X, y = load_wine(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

# %%
# Scaling happens inside the estimator; PCA needs a step for it. Parameters of parts are reached by
# double underscores, once the part is an object rather than a string.

reducer = WiSEALETransformer(
    objective=WiSEALE(), network=MLP(hidden=(64,)), max_epochs=30, random_state=0
)
pipelines = {
    "WiSE-ALE": make_pipeline(reducer, LogisticRegression()),
    "PCA": make_pipeline(StandardScaler(), PCA(), LogisticRegression()),
}
sizes = [1, 2, 4]
grids = {
    "WiSE-ALE": {
        "wisealetransformer__n_components": sizes,
        "wisealetransformer__objective__weight": [1.0, 4.0],
    },
    "PCA": {"pca__n_components": sizes},
}
folds = StratifiedKFold(3, shuffle=True, random_state=0)
searches = {}
for name, pipeline in pipelines.items():
    searches[name] = GridSearchCV(pipeline, grids[name], cv=folds).fit(X_train, y_train)
    print(
        f"{name:9s} best {searches[name].best_params_}\n"
        f"{'':9s} cross-validated {searches[name].best_score_:.3f}, "
        f"held out {searches[name].score(X_test, y_test):.3f}"
    )

# %%
# With 133 training rows, folds differ by more than methods do. What the search is good for shows
# nevertheless: one component is too few.

figure, axis = plt.subplots(figsize=(6, 3.6), layout="constrained")
for name, search in searches.items():
    results = search.cv_results_
    weights = results.get("param_wisealetransformer__objective__weight", [None] * len(sizes))
    for weight in dict.fromkeys(weights):
        chosen = [i for i, w in enumerate(weights) if w == weight]
        label = name if weight is None else f"{name}, weight {weight:g}"
        axis.errorbar(
            np.arange(len(sizes)) + 0.06 * len(axis.containers),
            results["mean_test_score"][chosen],
            yerr=results["std_test_score"][chosen],
            fmt="o-",
            capsize=3,
            label=label,
        )
axis.set_xticks(np.arange(len(sizes)) + 0.06, labels=sizes)
axis.set(xlabel="n_components", ylabel="accuracy, mean and sd of 3 folds")
axis.legend(loc="lower right")
