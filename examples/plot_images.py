"""
Images with a convolutional network
===================================

``Conv`` takes images as rows or as an array of shape (n, channels, height, width), and gives them
back in that shape. Digits of 8 x 8 pixels, eight components: images held out, rebuilt, and drawn.
Prints errors beside the default network's and saves ``plot_images.png`` next to this script.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.networks import Conv

images = load_digits().images[:, None] / 16  # (1797, 1, 8, 8)
train, test = train_test_split(images, test_size=0.25, random_state=0)

conv = WiSEALETransformer(
    8, network=Conv(image_shape=(1, 8, 8)), scale="global", max_epochs=60, random_state=0
).fit(train)
default = WiSEALETransformer(8, scale="global", random_state=0).fit(train.reshape(-1, 64))

rebuilt = conv.inverse_transform(conv.transform(test))
rows = test.reshape(-1, 64)
errors = {
    "Conv": np.mean((rebuilt - test) ** 2),
    "MLP": np.mean((default.inverse_transform(default.transform(rows)) - rows) ** 2),
}
print({name: round(float(error), 4) for name, error in errors.items()}, rebuilt.shape)

# %%
# Above: held-out images and what eight numbers keep of them. Below: draws from the prior, decoded.

draws = conv.inverse_transform(np.random.RandomState(0).standard_normal((12, 8)))
figure, axes = plt.subplots(3, 12, figsize=(9, 2.6), layout="constrained")
for line, pictures in zip(axes, (test[:12], rebuilt[:12], draws), strict=True):
    for axis, picture in zip(line, pictures, strict=True):
        axis.imshow(picture[0], cmap="gray_r", vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
for line, name in zip(axes, ("held out", "rebuilt", "drawn"), strict=True):
    line[0].set_ylabel(name, rotation=0, ha="right", va="center")
figure.savefig(Path(__file__).with_suffix(".png"), dpi=150)
