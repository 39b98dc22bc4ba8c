"""
Find outliers
=============

``WiSEALEDetector`` learns what rows look like, and tells which new rows do not. Here, rows lie near
a curved surface, and outliers have usual values in an unusual combination: no column gives them
away. Beside it: an isolation forest, whose trees look at one column at a time.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from sklearn_wiseale import WiSEALEDetector

rng = np.random.RandomState(0)


def draw(n):
    """Rows of five columns that depend on two factors."""
    a, b = rng.standard_normal((2, n))
    columns = [a, b, np.sin(2 * a) + b, a * b, a - b**2]
    return np.stack(columns, axis=1) + 0.1 * rng.standard_normal((n, 5))


train, usual = draw(1000), draw(300)
unusual = np.stack([rng.permutation(column) for column in draw(300).T], axis=1)

# %%
# The interface is that of scikit-learn's detectors: ``score_samples`` is low for unusual rows,
# ``decision_function`` is the score minus ``offset_``, and ``predict`` gives -1 for outliers.

detectors = {
    "WiSE-ALE": WiSEALEDetector(random_state=0),
    "isolation forest": IsolationForest(random_state=0),
}
test, truth = np.vstack([usual, unusual]), np.repeat([0, 1], 300)
figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for axis, (name, detector) in zip(axes, detectors.items(), strict=True):
    decision = detector.fit(train).decision_function(test)
    found = detector.predict(test) == -1
    auc = roc_auc_score(truth, -decision)
    print(
        f"{name:17s} AUC {auc:.3f}, outliers found {found[truth == 1].mean():.0%}, "
        f"false alarms {found[truth == 0].mean():.0%}"
    )
    bins = np.linspace(decision.min(), decision.max(), 40)
    for value, label in ((0, "usual"), (1, "unusual")):
        axis.hist(decision[truth == value], bins, alpha=0.6, label=label)
    axis.axvline(0, color="0.3", linestyle=":")
    axis.set(title=f"{name}: AUC {auc:.2f}", xlabel="decision function", yticks=[])
axes[0].legend()

# %%
# ``contamination`` is the share of training rows that lie below the offset: about the rate of false
# alarms that you accept.

for share in (0.01, 0.05, 0.1):
    detector = WiSEALEDetector(contamination=share, random_state=0).fit(train)
    alarms, hits = (np.mean(detector.predict(rows) == -1) for rows in (usual, unusual))
    print(f"contamination {share:.2f}: false alarms {alarms:.0%}, outliers found {hits:.0%}")

# %%
# The score joins two distances, to the model and to the nearest training rows. Either can be used
# alone; parameters of the transformer are reached by name.

for distance in ("both", "model", "neighbors"):
    detector = WiSEALEDetector(distance=distance, random_state=0).fit(train)
    print(f"{distance:10s} AUC {roc_auc_score(truth, -detector.score_samples(test)):.3f}")
