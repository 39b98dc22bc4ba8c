"""
Your own torch modules as the network
=====================================

``Modules`` takes an encoder and a decoder: torch modules, their classes, or functions that make
them. The encoder maps rows to means beside log-variances, the decoder maps codes to rows. Here,
convolutions along a time axis.
"""

import matplotlib.pyplot as plt
from sklearn.base import clone
from sklearn.model_selection import train_test_split
from torch import nn

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.datasets import make_sine_waves
from sklearn_wiseale.diagnostics import reconstruction_r2
from sklearn_wiseale.networks import Modules

X, _ = make_sine_waves(800, 64, noise=0.1, random_state=0)
X_train, X_test = train_test_split(X, test_size=0.25, random_state=0)

# %%
# Two functions. They are told the sizes, so that ``n_components`` can be searched. The last layer
# is linear: what the outputs mean is the likelihood's business.


def encoder(n_features, n_components):
    return nn.Sequential(
        nn.Unflatten(1, (1, n_features)),
        nn.Conv1d(1, 16, kernel_size=7, stride=2, padding=3),
        nn.SiLU(),
        nn.Conv1d(16, 16, kernel_size=7, stride=2, padding=3),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(16 * (n_features // 4), 2 * n_components),
    )


def decoder(n_components, n_outputs):
    return nn.Sequential(
        nn.Linear(n_components, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(),
        nn.Linear(128, n_outputs),
    )  # fmt: skip


own = WiSEALETransformer(
    4, network=Modules(encoder, decoder), scale="global", max_epochs=80, random_state=0
)
models = {
    "own modules": own,
    "default": clone(own).set_params(network="mlp"),
    "own, 6 components": clone(own).set_params(n_components=6),
}
for name, model in models.items():
    model.fit(X_train)
    share = reconstruction_r2(model, X_test, weights="none")
    n_weights = sum(p.numel() for p in model.net_.module_.parameters())
    print(f"{name:18s} share of held-out variance {share:.3f}, {n_weights:,} weights")

# %%
# Modules of your own start from random weights, the default from PCA: it is ahead in the first
# epochs, and a network of your own needs more of them.

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
rebuilt = own.inverse_transform(own.transform(X_test[:3]))
for i, colour in enumerate(("C0", "C1", "C2")):
    left.plot(X_test[i] + 2.5 * i, ".", color=colour, markersize=3)
    left.plot(rebuilt[i] + 2.5 * i, color=colour)
left.set(title="held-out waves and what four numbers keep", xlabel="time", yticks=[])
for name in ("own modules", "default"):
    losses = [epoch["valid_reconstruction"] for epoch in models[name].history_]
    right.plot(losses, label=name)
right.set(title="course of training", xlabel="epoch", ylabel="held-out reconstruction, nats")
right.legend()
