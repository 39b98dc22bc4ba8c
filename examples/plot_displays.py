"""
Looking at a fit: the four displays
===================================

Displays draw what an estimator has learned, in scikit-learn's manner: ``from_estimator`` computes
and draws, and the object keeps what was drawn. Thirteen measurements of wine, two codes each.
"""

from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.diagnostics import reconstruction_r2
from sklearn_wiseale.plotting import (
    EmbeddingDisplay,
    ReconstructionDisplay,
    TrainingDisplay,
    TraversalDisplay,
)

wine = load_wine(as_frame=True)
cultivar = wine.target.map(dict(enumerate(wine.target_names))).rename("cultivar")
X, X_test, y, y_test = train_test_split(wine.data, cultivar, test_size=0.3, random_state=0)
reducer = WiSEALETransformer(2, max_epochs=60, random_state=0).fit(X)
print(f"epochs run: {reducer.n_iter_}")
print(f"share of held-out variance: {reconstruction_r2(reducer, X_test):.3f}")
print(f"score of held-out rows: {reducer.score(X_test):.2f} nats a row")

# %%
# **Where rows lie.** Each ellipse is a posterior, one standard deviation wide: what the code of
# that row leaves open. The circles are the prior. Cultivars were not shown to the estimator.

EmbeddingDisplay.from_estimator(reducer, X_test, y_test, posterior="ellipses")

# %%
# **What the codes keep.** Each column against its reconstruction, with the share of its variance
# that comes back. Two codes keep some columns well and others hardly at all.

ReconstructionDisplay.from_estimator(reducer, X_test)

# %%
# **What a component does.** One code is moved from -2 to 2, the other stays at zero. A linear
# method would space the lines of a column evenly.

TraversalDisplay.from_estimator(reducer)

# %%
# **How training went.** Losses of the rows that are trained on and of the rows held out; the best
# epoch is the one that ``fit`` gives back.

display = TrainingDisplay.from_estimator(reducer)
print(f"best epoch: {display.best_epoch} of {reducer.n_iter_}")
