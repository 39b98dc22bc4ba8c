"""
Unusual rows by their log-likelihood
====================================

``score_samples`` gives a bound on the log-likelihood of each row, so that rows unlike the training
data can be found. Beside it: probabilistic PCA, whose likelihood is exact, and an isolation forest,
made for the task. Five data sets, because no one of them says who is best.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import (
    load_breast_cancer,
    load_digits,
    load_iris,
    load_wine,
)
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PowerTransformer

from sklearn_wiseale import WiSEALETransformer

# %%
# Usual and unusual rows. Of the sets with classes the last class is the unusual one, and of the
# tumours the malignant ones; it is never trained on. The last set is simulated: columns that depend
# on three factors, and unusual rows in which each column is shuffled by itself, so that every value
# is usual and only their combination is not.


def last_class(load):
    X, y = load(return_X_y=True)
    return X[y < y.max()], X[y == y.max()]


def tumours():
    X, y = load_breast_cancer(return_X_y=True)
    return X[y == 1], X[y == 0]


def shuffled():
    rng = np.random.RandomState(0)
    X = rng.standard_normal((1000, 3)) @ rng.standard_normal((3, 10))
    X += 0.5 * rng.standard_normal(X.shape)
    return X, np.stack([rng.permutation(column) for column in X[:300].T], axis=1)


data = {
    "breast cancer": (tumours(), 6),
    "wine": (last_class(load_wine), 4),
    "iris": (last_class(load_iris), 2),
    "digits": (last_class(load_digits), 8),
    "shuffled": (shuffled(), 3),
}

# %%
# Skewed columns would make every large value an outlier, so all three see columns made more
# symmetric. AUC, the area under the ROC curve: the chance that an unusual row has a lower score
# than a usual one that was held out. 1/2 is a coin.

names = ["WiSE-ALE", "PCA", "isolation forest"]
table, shown = {}, {}
for title, ((usual, unusual), n_components) in data.items():
    train, held_out = train_test_split(usual, test_size=0.3, random_state=0)
    test = np.vstack([held_out, unusual])
    truth = np.repeat([0, 1], [len(held_out), len(unusual)])
    models = [
        WiSEALETransformer(n_components, max_epochs=60, random_state=0),
        PCA(n_components),
        IsolationForest(random_state=0),
    ]
    for name, model in zip(names, models, strict=True):
        pipeline = make_pipeline(PowerTransformer(), model).fit(train)
        scores = pipeline.score_samples(test)
        table[title, name] = roc_auc_score(truth, -scores)
        shown[title, name] = scores[truth == 0], scores[truth == 1]

print(f"{'AUC':15s}" + "".join(f"{name:>18s}" for name in names))
for title in data:
    print(f"{title:15s}" + "".join(f"{table[title, name]:18.3f}" for name in names))


# %%
# The forest is ahead on tumours and on iris, where single columns give the unusual rows away; on
# wine there is nothing between the three. Trees look at one column at a time, though, and see less
# where it is the combination of columns that is unusual, as in images and in the shuffled rows.
# Where structure is linear, PCA does as well as a network. A likelihood is no detector by itself:
# it says how well a model explains a row, and a row may be unlikely without being of another kind,
# or the reverse. It comes with the codes at no further cost; keep labelled rows to choose by.

figure, axes = plt.subplots(len(data), 3, figsize=(9, 10), layout="constrained")
for row, title in zip(axes, data, strict=True):
    for axis, name in zip(row, names, strict=True):
        usual, unusual = shown[title, name]
        low = np.quantile(np.concatenate([usual, unusual]), 0.05)
        bins = np.linspace(low, max(usual.max(), unusual.max()), 30)
        for scores, label in ((usual, "usual, held out"), (unusual, "unusual")):
            axis.hist(np.clip(scores, low, None), bins, density=True, alpha=0.6, label=label)
        axis.set(yticks=[], title=f"{title}, {name}: {table[title, name]:.2f}")
        axis.title.set_fontsize("small")
for axis, name in zip(axes[-1], names, strict=True):
    axis.set_xlabel("score" if name == "isolation forest" else "log-likelihood, nats")
axes[0, 0].legend(fontsize="small")
