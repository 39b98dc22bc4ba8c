"""
What components are made of, and why a row is odd
=================================================

Reads a fit of the breast cancer data of scikit-learn: how much of the variance each component
reconstructs, which columns change with it, and which columns make a row unlikely.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.plotting import (
    ContributionsDisplay,
    ExplainedVarianceDisplay,
    LoadingsDisplay,
)

data = load_breast_cancer(as_frame=True)
train, test, _, malignant = train_test_split(
    data.data, data.target == 0, test_size=0.3, random_state=0
)
reducer = WiSEALETransformer(4, random_state=0).fit(train)

# %%
# Components are sorted, as in PCA: the first one is the one without which most is lost.

ExplainedVarianceDisplay.from_estimator(reducer)

# %%
# Loadings are the changes of the columns with a component. Here they are in standard deviations of
# the columns; ``loadings()`` has the units of X.

LoadingsDisplay.from_estimator(reducer, components=(0, 1))
print(reducer.loadings()[["mean radius", "mean smoothness"]].round(2))

# %%
# Which of the held-out tumours is the least likely, and because of which columns? Contributions are
# the parts of the columns in the score, here less their means over the training rows.

scores = reducer.score_samples(test)
order = np.argsort(scores)
ContributionsDisplay.from_estimator(reducer, test.iloc[order[:1]], reference=train)

# %%
# Several rows are drawn as an image. A row with a wrong entry stands out by its column: the last
# row is an ordinary one with a hundredfold area.

rows = test.iloc[order[[0, 1, 2, -1]]].copy()
rows.iloc[-1, rows.columns.get_loc("mean area")] *= 100
values = reducer.contributions(rows, reference=train)
print(values.idxmin(axis=1).to_string())
ContributionsDisplay.from_estimator(reducer, rows.iloc[:3], reference=train)
plt.show()
