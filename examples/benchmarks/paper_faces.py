"""The paper's third experiment: faces, 64 x 64 pixels in colour, 64 components.

    python examples/benchmarks/paper_faces.py --data FOLDER   # jpg or png, such as CelebA's crops
    python examples/benchmarks/paper_faces.py                 # drawn faces, minutes
    python examples/benchmarks/paper_faces.py --quick         # a few drawn faces, seconds

Images of a folder are cropped to their central square and resized; the last tenth is held out.
Without a folder, faces are drawn from ten known factors. The ELBO (AEVB) and the default with a
convolutional network, beside PCA. Writes results/paper_faces.csv and a figure: reconstructions,
prior draws, an interpolation. On a GPU, ask for ``--epochs 30``.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from paper import RESULTS, append, save
from sklearn.decomposition import PCA
from sklearn.metrics import pairwise_distances_argmin_min
from tqdm.auto import tqdm

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.diagnostics import active_units, sliced_wasserstein
from sklearn_wiseale.networks import Conv
from sklearn_wiseale.objectives import ELBO, WiSEALE

SIDE, COMPONENTS = 64, 64
FIELDS = [
    "data", "n_train", "method", "epochs", "mse", "swd", "generated", "covered", "active", "width",
    "fit_seconds",
]  # fmt: skip


def folder_of_images(path, limit=None):
    """Central squares of a folder's images: uint8, (n, 3, 64, 64)."""
    from PIL import Image

    files = sorted(f for f in Path(path).iterdir() if f.suffix.lower() in (".jpg", ".png"))[:limit]
    if not files:
        raise ValueError(f"--data must be a folder with jpg or png images. Got {path!r}.")
    images = np.empty((len(files), 3, SIDE, SIDE), dtype=np.uint8)
    for i, file in enumerate(tqdm(files, unit="image", desc="reading")):
        with Image.open(file) as image:
            side = min(image.size)
            left, top = ((length - side) // 2 for length in image.size)
            square = image.convert("RGB").resize(
                (SIDE, SIDE), Image.Resampling.BILINEAR, (left, top, left + side, top + side)
            )
        images[i] = np.asarray(square).transpose(2, 0, 1)
    return images


def drawn_faces(n_samples, random_state=0):
    """Faces made of ellipses, ten factors each: uint8, (n, 3, 64, 64)."""
    rng = np.random.RandomState(random_state)
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    images = np.empty((n_samples, 3, SIDE, SIDE), dtype=np.uint8)

    def inside(cx, cy, rx, ry):
        """How much of each pixel an ellipse covers, with a soft edge."""
        radius = np.sqrt(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2)
        return np.clip((1 - radius) * min(rx, ry) * SIDE / 2 + 0.5, 0, 1)[None]

    def paint(image, cover, colour):
        return (1 - cover) * image + cover * np.reshape(colour, (3, 1, 1))

    for i in range(n_samples):
        skin, hair, back, long, px, py, gaze, open_, smile, size = rng.uniform(-1, 1, 10)
        cx, cy, rx = 0.15 * px, 0.1 * py, 0.5 + 0.08 * size
        ry = rx * (1.25 + 0.15 * long)
        image = np.ones((3, SIDE, SIDE)) * np.reshape(
            [0.5 + 0.4 * back, 0.5, 0.5 - 0.4 * back], (3, 1, 1)
        )
        image = image * (1 - 0.15 * y)
        tone = 0.5 + 0.5 * (skin + 1) / 2
        image = paint(
            image,
            inside(cx, cy - 0.16, rx * 1.15, ry),
            0.15 + 0.2 * (hair + 1) * np.array([1, 0.7, 0.3]),
        )
        image = paint(image, inside(cx, cy, rx, ry), [tone, 0.75 * tone, 0.6 * tone])
        for sign in (-1, 1):
            ex, ey = cx + sign * 0.42 * rx, cy - 0.15 * ry
            image = paint(
                image, inside(ex, ey, 0.2 * rx, (0.06 + 0.05 * (open_ + 1)) * rx), [1.0, 1.0, 1.0]
            )
            image = paint(
                image,
                inside(ex + 0.09 * rx * gaze, ey, 0.08 * rx, (0.05 + 0.03 * (open_ + 1)) * rx),
                [0.1, 0.15, 0.2],
            )
        bend = cy + 0.5 * ry - 0.35 * smile * (((x - cx) / rx) ** 2) * ry
        mouth = np.clip(1.2 - np.abs(y - bend) / (0.06 * rx), 0, 1) * (np.abs(x - cx) < 0.45 * rx)
        image = paint(image, mouth[None], [0.65, 0.2, 0.25])
        image = image + 0.02 * rng.standard_normal(image.shape)
        images[i] = np.clip(255 * image, 0, 255).astype(np.uint8)
    return images


def reducer(method, epochs, channels):
    objective = ELBO(weight=1.0) if method == "AEVB" else WiSEALE()
    return WiSEALETransformer(
        COMPONENTS,
        objective=objective,
        network=Conv(image_shape=(3, SIDE, SIDE), channels=channels),
        scale="global",
        max_epochs=epochs,
        batch_size=128,
        early_stopping=False,
        random_state=0,
        verbose=1,
    )


def measured(codes, z, rebuilt, drawn, test):
    flat = test.reshape(len(test), -1)[:2000].astype(np.float32)
    drawn = drawn.reshape(len(drawn), -1)
    return {
        "mse": np.mean((rebuilt.reshape(len(test), -1) - test.reshape(len(test), -1)) ** 2)
        / 255**2,
        "swd": sliced_wasserstein(z[:5000], random_state=0),
        "generated": pairwise_distances_argmin_min(drawn, flat)[1].mean() / 255,
        "covered": pairwise_distances_argmin_min(flat, drawn)[1].mean() / 255,
        "active": active_units(codes),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder of jpg or png images; default: drawn faces")
    parser.add_argument("--limit", type=int, help="images of the folder at most")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--quick", action="store_true", help="few faces, nothing kept")
    arguments = parser.parse_args()
    if arguments.data:
        images = folder_of_images(arguments.data, arguments.limit)
    else:
        images = drawn_faces(300 if arguments.quick else 4000)
    epochs = 1 if arguments.quick else arguments.epochs
    channels = (8, 16) if arguments.quick else (16, 32, 64)
    n_test = max(70, len(images) // 10)
    train, test = images[:-n_test], images[-n_test:]
    noise = np.random.RandomState(0).standard_normal((500, COMPONENTS))
    file, shown, prior = RESULTS / "paper_faces.csv", {"images": test[:10]}, {}
    for method in ("PCA", "AEVB", "WiSE-ALE"):
        start = time.perf_counter()
        if method == "PCA":
            flat = train.reshape(len(train), -1).astype(np.float32)
            model = PCA(COMPONENTS, whiten=True, random_state=0).fit(flat)
            mean = model.transform(test.reshape(n_test, -1))
            std = np.zeros_like(mean)
        else:
            model = reducer(method, epochs, channels).fit(train)
            mean, std = model.posterior(test)
        seconds = time.perf_counter() - start
        rebuilt, drawn = model.inverse_transform(mean), model.inverse_transform(noise)
        z = mean + std * np.random.RandomState(0).standard_normal(mean.shape)
        figures = measured(mean, z, rebuilt, drawn, test) | {"width": std.mean()}
        row = {"data": "folder" if arguments.data else "drawn", "n_train": len(train),
               "method": method, "epochs": epochs if method != "PCA" else ""}  # fmt: skip
        row |= {name: float(v) for name, v in figures.items()} | {"fit_seconds": seconds}
        shown[method] = rebuilt[:10].reshape(-1, 3, SIDE, SIDE)
        prior[method] = drawn[:10].reshape(-1, 3, SIDE, SIDE)
        if arguments.quick:
            print(row)
        else:
            append(file, row, FIELDS)
    if not arguments.quick:
        figure(shown, prior)


def figure(shown, prior):
    """Held-out images and their reconstructions; decoded draws from the prior."""
    import matplotlib.pyplot as plt

    lines = shown | {f"{method},\nprior draws": images for method, images in prior.items()}
    fig, axes = plt.subplots(len(lines), 10, figsize=(10, 0.92 * len(lines)), layout="constrained")
    for (label, images), row in zip(lines.items(), axes, strict=True):
        for axis, image in zip(row, images, strict=True):
            axis.imshow(np.clip(image.transpose(1, 2, 0) / 255, 0, 1))
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    save(fig, "faces")


if __name__ == "__main__":
    main()
