"""Images: reconstruction error of the convolutional network beside the perceptron's.

    python examples/benchmarks/images.py --data mnist.npz             # a file with X_train, X_test
    python examples/benchmarks/images.py                              # from OpenML, 15 MB
    python examples/benchmarks/images.py --data mnist.npz --seeds 5

The first 20,000 images of MNIST, 16 components, 5 epochs. Test MSE is per pixel in [0, 1], of mean
reconstructions of the 10,000 test images. Each run is written to results/images.csv as it is done.
"""

import argparse
import csv
import time
from pathlib import Path

import numpy as np
from mnist import load

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.networks import MLP, Conv

RESULT = Path(__file__).parent / "results" / "images.csv"
NETWORKS = {"conv": Conv(image_shape=(1, 28, 28)), "mlp": MLP(hidden=(512, 512))}


def run(network, seed, train, test):
    """Fit one network; its test error and its time."""
    model = WiSEALETransformer(
        16,
        network=network,
        scale="global",
        max_epochs=5,
        batch_size=128,
        early_stopping=False,
        random_state=seed,
    )
    start = time.perf_counter()
    model.fit(train)
    seconds = time.perf_counter() - start
    rebuilt = model.inverse_transform(model.transform(test))
    return {"mse": f"{np.mean((rebuilt - test) ** 2):.5f}", "fit_seconds": f"{seconds:.1f}"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="npz file with X_train and X_test; default: OpenML")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds")
    arguments = parser.parse_args()
    train, test = load(arguments.data)
    rows = []
    for seed in range(arguments.seeds):
        for name, network in NETWORKS.items():
            figures = run(network, seed, train[:20_000], test)
            rows.append({"network": name, "seed": seed} | figures)
            RESULT.parent.mkdir(exist_ok=True)
            with RESULT.open("w", newline="") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)
            print(rows[-1], flush=True)


if __name__ == "__main__":
    main()
