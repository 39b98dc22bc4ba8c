"""
A linear network and the ELBO: probabilistic PCA
================================================

With linear maps, Gaussian noise and the ELBO, the best variational autoencoder is known in closed
form: probabilistic PCA. That makes it a check of the whole machine. Its network starts at random
weights here and is left to find the principal subspace, the noise and the likelihood on its own.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.linalg import subspace_angles
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from torch import nn

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.networks import MLP, Modules
from sklearn_wiseale.objectives import ELBO

X = load_wine().data
X = (X - X.mean(axis=0)) / X.std(axis=0)
k = 3
pca = PCA(k).fit(X)


def linear(n_in, n_out):
    return nn.Linear(n_in, n_out)


def linear_encoder(n_features, n_components):
    return nn.Linear(n_features, 2 * n_components)


def compare(model):
    """Largest angle to the principal subspace in degrees, noise, and score."""
    at_zero = model.inverse_transform(np.zeros((1, k)))
    loadings = (model.inverse_transform(np.eye(k)) - at_zero).T
    angle = np.degrees(subspace_angles(loadings, pca.components_.T)[0])
    return angle, float(np.mean(model.noise_scale_)), model.score(X)


# %%
# First the default start, with no hidden layer: training begins as PCA, so that after one epoch
# nothing has moved by much.

common = {"objective": ELBO(weight=1.0), "early_stopping": False, "random_state": 0}
started = WiSEALETransformer(k, network=MLP(hidden=()), max_epochs=1, **common).fit(X)

# %%
# Then random weights, in fits of ten epochs, each going on from the last. The second half takes
# smaller steps, for the noise of training not to blur what is compared.

model = WiSEALETransformer(
    k,
    network=Modules(linear_encoder, linear),
    max_epochs=10,
    warm_start=True,
    net_params={"optimizer__weight_decay": 0.0},
    **common,
)
epochs = np.arange(1, 31) * 10
course = []
for n in epochs:
    model.set_params(learning_rate=0.01 if n <= 150 else 0.001)
    course.append(compare(model.fit(X)))
course = np.array(course)

truth = (0.0, float(np.sqrt(pca.noise_variance_)), float(pca.score(X)))
print(f"{'':24s} {'angle, degrees':>14s} {'noise, sd':>10s} {'score, nats a row':>18s}")
rows = {"probabilistic PCA": truth, "PCA start, 1 epoch": compare(started)}
rows[f"random start, {epochs[-1]} epochs"] = course[-1]
for name, (angle, noise, score) in rows.items():
    print(f"{name:24s} {angle:14.2f} {noise:10.3f} {score:18.2f}")

# %%
# The subspace agrees, its axes need not: the ELBO does not care how codes are rotated in it.

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
left.semilogy(epochs, course[:, 0])
left.set(xlabel="epochs", ylabel="largest principal angle, degrees")
right.plot(epochs, course[:, 2], label="linear network, ELBO")
right.axhline(truth[2], color="0.4", linestyle="--", label="probabilistic PCA")
right.set(xlabel="epochs", ylabel="score, nats a row")
right.legend()
