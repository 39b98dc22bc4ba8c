"""Fixtures that several files share."""

import numpy as np
import pytest
import torch

from sklearn_wiseale.objectives import Posterior


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
