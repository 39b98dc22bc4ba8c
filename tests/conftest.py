"""Fixtures that several files share."""

import ast
import inspect
import re

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


@pytest.fixture(scope="session")
def defaults_of():
    """Defaults of a class's parameters: as it has them, and as its docstring says."""

    def read(cls):
        parameters = inspect.signature(cls).parameters.values()
        own = {p.name: p.default for p in parameters if p.default is not p.empty}
        said = re.findall(r"^    (\w+) : .*default=(.+)$", cls.__doc__, re.MULTILINE)
        return own, {name: ast.literal_eval(value) for name, value in said}

    return read


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
