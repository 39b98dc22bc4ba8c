"""
Unusual rows by their log-likelihood
====================================

``score_samples`` gives a bound on the log-likelihood of each row, so that rows unlike the training
data can be found. The model sees benign tumours only; malignant ones should then look unusual.
Beside it: probabilistic PCA, whose likelihood is exact, and an isolation forest, made for the task.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PowerTransformer

from sklearn_wiseale import WiSEALETransformer

X, y = load_breast_cancer(return_X_y=True)
benign, malignant = X[y == 1], X[y == 0]
train, usual = train_test_split(benign, test_size=0.3, random_state=0)

# %%
# Skewed columns would make every large value an outlier, so all three see columns made more
# symmetric. Flagged are rows less likely than 95 % of the training rows. AUC: area under the ROC
# curve.

models = {
    "WiSE-ALE": WiSEALETransformer(6, max_epochs=60, random_state=0),
    "PCA": PCA(6),
    "isolation forest": IsolationForest(random_state=0),
}
test = np.vstack([usual, malignant])
unusual = np.repeat([0, 1], [len(usual), len(malignant)])
scores = {}
for name, model in models.items():
    pipeline = make_pipeline(PowerTransformer(), model).fit(train)
    scores[name] = pipeline.score_samples(test)
    limit = np.quantile(pipeline.score_samples(train), 0.05)
    flagged = scores[name] < limit
    print(
        f"{name:17s} AUC {roc_auc_score(unusual, -scores[name]):.3f}, "
        f"flagged: {flagged[unusual == 0].mean():.0%} of benign, "
        f"{flagged[unusual == 1].mean():.0%} of malignant rows"
    )

# %%
# The forest ranks the rows better here. A likelihood is no detector by itself: it says how well a
# model explains a row, and a row may be unlikely without being of another kind, or the reverse. It
# comes with the codes at no further cost, but keep labelled rows to check it.

figure, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
for axis, (name, values) in zip(axes, scores.items(), strict=True):
    low = np.quantile(values, 0.05)
    bins = np.linspace(low, values.max(), 30)
    for kind, label in enumerate(("benign, held out", "malignant")):
        shown = np.clip(values[unusual == kind], low, None)
        axis.hist(shown, bins, density=True, alpha=0.6, label=label)
    axis.set(title=name, yticks=[])
    axis.set_xlabel("score" if name == "isolation forest" else "log-likelihood, nats")
axes[0].legend()
