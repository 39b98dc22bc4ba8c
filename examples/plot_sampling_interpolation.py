"""
Drawing new rows, and walking between two
=========================================

Codes have a known distribution, close to a standard normal, so that new rows can be drawn and rows
between two others computed. The weight of the divergence says how close: a larger one costs
reconstruction and makes the codes look more like the prior.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.diagnostics import reconstruction_r2, sliced_wasserstein
from sklearn_wiseale.networks import MLP
from sklearn_wiseale.objectives import WiSEALE

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=0)

# %%
# Three weights. The distance is that of draws from the posteriors of held-out rows to N(0, I).

rng = np.random.RandomState(0)
models = {}
for weight in (1.0, 4.0, 16.0):
    model = models[weight] = WiSEALETransformer(
        8,
        objective=WiSEALE(weight=weight),
        network=MLP(hidden=(128,)),
        scale="global",
        max_epochs=25,
        random_state=0,
    ).fit(X_train)
    mean, std = model.posterior(X_test)
    draws = mean + std * rng.standard_normal(std.shape)
    share = reconstruction_r2(model, X_test, weights="none")  # pixels have one unit
    print(
        f"weight {weight:4.0f}: share of held-out variance {share:.2f}, "
        f"distance of the codes to the prior {sliced_wasserstein(draws, random_state=0):.2f}"
    )

# %%
# Normal codes, decoded. (``sample(codes="prior")`` does the same and adds the noise of
# the likelihood.)


def show(axis, images, label):
    """Images side by side, in one picture."""
    axis.imshow(np.hstack(images.reshape(-1, 8, 8)), cmap="gray_r", vmin=0, vmax=16)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.set_ylabel(label, rotation=0, ha="right", va="center")


codes = np.random.RandomState(1).standard_normal((14, 8))
figure, axes = plt.subplots(4, 1, figsize=(8, 3), layout="constrained")
show(axes[0], X_test[:14], "held out")
for axis, (weight, model) in zip(axes[1:], models.items(), strict=True):
    show(axis, model.inverse_transform(codes), f"weight {weight:.0f}")
figure.suptitle("draws from the prior, decoded")

# %%
# From one digit to another: a straight line between codes, and the mixture of pixels beside it.

start, end = X_test[y_test == 0][0], X_test[y_test == 6][0]
shares = np.linspace(0, 1, 11)[:, None]
model = models[4.0]
first, last = model.transform(np.array([start, end]))
walk = model.inverse_transform((1 - shares) * first + shares * last)
mixture = (1 - shares) * start + shares * end
figure, axes = plt.subplots(2, 1, figsize=(8, 1.9), layout="constrained")
show(axes[0], walk, "codes")
show(axes[1], mixture, "pixels")
