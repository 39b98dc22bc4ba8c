"""Fixtures that several files share."""

import copy
import os
import re

import numpy as np
import pytest
import torch

from sklearn_wiseale.objectives import Posterior


def pytest_configure(config):
    """Several processes that test at the same time use one thread each."""
    if getattr(config.option, "numprocesses", None):
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def rng():
    return np.random.RandomState(20190215)


@pytest.fixture
def make_posterior(rng):
    """Random posteriors in float64, overlapping, of unequal widths."""

    def make(n, k):
        mean, log_var = rng.normal(0.3, 1.2, (n, k)), rng.normal(-0.7, 0.8, (n, k))
        return Posterior(torch.from_numpy(mean), torch.from_numpy(log_var))

    return make


@pytest.fixture
def float64_modules():
    """Torch modules built during the test have float64 parameters."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="session")
def make_rows():
    """Rows that a likelihood could have drawn, driven by two factors."""

    def make(likelihood, n, n_features, seed=0):
        rng = np.random.RandomState(seed)
        one = np.ones(n_features)
        observation = likelihood.build(1.5 * one, one, 3 * one)
        output = rng.standard_normal((n, 2)) @ rng.standard_normal((2, n_features))
        generator = torch.Generator().manual_seed(seed)
        return observation.sample(torch.from_numpy(output), generator).numpy()

    return make


def plain(value):
    """A nested state with arrays in place of tensors, without the durations of epochs."""
    if isinstance(value, torch.Tensor):
        return value.numpy(force=True).copy()
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items() if name != "dur"}
    if isinstance(value, list | tuple):
        return type(value).__name__, [plain(part) for part in value]
    return copy.deepcopy(value)


@pytest.fixture(scope="session")
def observe():
    """Everything that a fit decides; two results are compared by ``np.testing.assert_equal``."""

    def look(estimator, X):
        Z = estimator.transform(X)
        back = estimator.inverse_transform(Z)
        values = {name: value for name, value in vars(estimator).items() if name[0] != "_"}
        fitted = {name: value for name, value in values.items() if name[-1] == "_"}
        net = fitted.pop("net_").state_dict()
        return {
            "codes": [Z, estimator.posterior(X)[1]],
            "rows": [back, estimator.sample(5, random_state=1)],
            "dtypes": [str(Z.dtype), str(back.dtype)],
            "scores": estimator.score_samples(X, n_draws=4),
            "parameters": re.sub("0x[0-9A-F]+", "", repr(estimator.get_params())),
            "columns": estimator.get_feature_names_out().tolist(),
            "names": sorted(vars(estimator)),
            "types": {name: type(value).__name__ for name, value in fitted.items()},
            "attributes": plain(fitted),
            "net": plain(net),
        }

    return look


@pytest.fixture(scope="session")
def require_same(observe):
    """Two fitted estimators agree in everything."""

    def compare(one, other, X):
        np.testing.assert_equal(observe(one, X), observe(other, X))

    return compare
