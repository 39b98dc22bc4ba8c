"""What holds for all objectives, likelihoods and networks as parameters of the estimator."""

import ast
import inspect
import math
import pickle
import re

import joblib
import numpy as np
import pytest
import test_likelihoods
import test_networks
import test_objectives
from sklearn.base import clone
from torch import nn

from sklearn_wiseale import likelihoods, networks, objectives
from sklearn_wiseale.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    Categorical,
    Gaussian,
    Likelihood,
    Mixed,
    NegativeBinomial,
    Observation,
    Poisson,
    StudentT,
)
from sklearn_wiseale.networks import MLP, NETWORKS, Conv, Modules, Network
from sklearn_wiseale.objectives import (
    ELBO,
    OBJECTIVES,
    InfoVAE,
    Objective,
    WassersteinMMD,
    WiSEALE,
)

#: By their base, the arguments with which parts are built.
ARGUMENTS = {
    Objective: (20, 3),
    Likelihood: (np.array([0.2, 0.9]), np.full(2, 0.3), np.full(2, 1.5)),
    Network: (64, 3, 64),
}
CONV = Conv(image_shape=(1, 8, 8))
PARTS = [
    *((objective, ARGUMENTS[Objective]) for objective in test_objectives.CASES),
    *(
        (case.likelihood, tuple(np.ones((3, case.n_features))))
        for case in test_likelihoods.CASES.values()
    ),
    *((network, test_networks.sizes(network)) for network in test_networks.CASES),
]
each_part = pytest.mark.parametrize(
    ("part", "arguments"), PARTS, ids=lambda value: repr(value)[:40]
)
CLASSES = sorted({type(part) for part, _ in PARTS}, key=lambda cls: cls.__name__)


@pytest.mark.parametrize("room", [objectives, likelihoods, networks])
def test_every_public_class_has_a_case(room):
    public = [getattr(room, name) for name in room.__all__]
    parts = {c for c in public if inspect.isclass(c) and issubclass(c, tuple(ARGUMENTS))}
    assert parts - set(ARGUMENTS) <= set(CLASSES)


def test_names_that_stand_for_classes():
    assert {"wiseale": WiSEALE, "elbo": ELBO, "infovae": InfoVAE, "wae": WassersteinMMD} == (
        OBJECTIVES
    )
    assert {
        "gaussian": Gaussian,
        "student_t": StudentT,
        "bernoulli": Bernoulli,
        "poisson": Poisson,
        "negative_binomial": NegativeBinomial,
        "categorical": Categorical,
    } == LIKELIHOODS
    assert NETWORKS == {"mlp": MLP}


@pytest.mark.parametrize("cls", CLASSES)
def test_defaults_are_those_documented(cls):
    parameters = inspect.signature(cls).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    documented = re.findall(r"^    (\w+) : .*default=(.+)$", cls.__doc__, re.MULTILINE)
    assert {name: ast.literal_eval(value) for name, value in documented} == defaults


@each_part
def test_build_does_not_change_the_part_or_its_arguments(part, arguments):
    params = part.get_params(deep=False)
    before = joblib.hash((part, arguments)), repr(part)
    part.build(*arguments)
    assert (joblib.hash((part, arguments)), repr(part)) == before
    assert all(part.get_params(deep=False)[name] is value for name, value in params.items())


@each_part
def test_copies_have_the_same_hash(part, arguments):
    for copy in (clone(part), clone(part), pickle.loads(pickle.dumps(part))):
        assert (joblib.hash(copy), repr(copy)) == (joblib.hash(part), repr(part))


@pytest.mark.parametrize(
    ("base", "method", "n_arguments"),
    [
        (Objective, "build", 2),
        (Likelihood, "build", 3),
        (Network, "build", 3),
        (Observation, "log_prob_entries", 2),
        (Observation, "mean", 1),
        (Observation, "sample", 1),
        (Observation, "information_entries", 1),
    ],
)
def test_bases_are_abstract(base, method, n_arguments):
    with pytest.raises(NotImplementedError):
        getattr(base(), method)(*np.ones((n_arguments, 2)))


WEIGHT = r"\[0.*inf\)"
CHANNELS, ARRAY, SHAPE = "integers >= 1", "array-like", "three integers >= 1: channels, height"
#: By part and parameter: what is allowed, and values that are not.
RULES = [
    *(
        (objective(), "weight", WEIGHT, [-1.0, math.nan, math.inf, "heavy", None])
        for objective in OBJECTIVES.values()
    ),
    (WiSEALE(), "bound", "be .*'jensen'", ["tight", None]),
    (WiSEALE(), "width", "int", [0, -1, 2.5, "wide", None]),
    (InfoVAE(), "alpha", r"be .*\[0.*1.*\]", [1.5, -0.1]),
    (InfoVAE(alpha=0.4), "weight", "0.6", [0.5]),
    (Gaussian(), "noise", r"'shared'.*\[1e-06, 1e\+16\]", [0.0, -1.0, math.nan, math.inf]),
    (Gaussian(), "noise", "'feature'", ["rows", None]),
    (NegativeBinomial(), "dispersion", "be", [0.0, -1.0, math.nan, "rows", None]),
    (StudentT(), "df", r"be .*'auto'.*\(1.*10000", [1.0, -2.0, 2e4, math.nan, "shared", None]),
    (StudentT(), "noise", "'feature'", [0.5, "rows", None]),
    (Categorical(), "sizes", "be", [(), (1, 3), (2.5, 2), (True, 3), 4, "auto"]),
    (Mixed([]), "parts", "be", [3]),
    (MLP(), "hidden", ARRAY, [5, "wide"]),
    (MLP(), "hidden", "integers >= 1", [(0,), (8, -1), (2.5,), (True,), ("8",)]),
    (MLP(linear_skip=False), "hidden", "at least one layer", [()]),
    (MLP(), "activation", "'silu'", ["sine", nn.ReLU]),
    (MLP(), "linear_skip", "'bool'", ["yes"]),
    (MLP(), "dropout", r"\[0.0, 1.0\)", [1.0, -0.1, math.nan]),
    (CONV, "image_shape", ARRAY, [64, None, "digits"]),
    (CONV, "image_shape", SHAPE, [(8, 8), (1, 1, 8, 8), (1, 8.0, 8), (0, 8, 8), (True, 8, 8)]),
    (CONV, "image_shape", "height and width >= 8", [(1, 7, 8), (8, 8, 1)]),
    (CONV, "image_shape", "multiply to the number of features, 64", [(3, 8, 8)]),
    (CONV, "channels", "'auto' or a sequence of one or more integers >= 1", [(), (8, 0), (8.5,)]),
    (CONV, "channels", "'auto'", ["many", 8]),
    (CONV, "channels", "at most 3 stages for images of 8 x 8 pixels", [(2, 2, 2, 2)]),
    (CONV, "activation", "'silu'", ["sine"]),
    (CONV, "linear_skip", "'bool'", ["yes"]),
    (Modules(nn.Linear, nn.Linear), "encoder", "be", [3]),
    (Modules(nn.Linear, nn.Linear), "decoder", "be", ["mlp"]),
]


@pytest.mark.parametrize(
    ("part", "name", "allowed", "value"),
    [(*rule, value) for *rule, values in RULES for value in values],
)
def test_parameters_out_of_range_are_refused(part, name, allowed, value):
    part = clone(part).set_params(**{name: value})
    message = f"'{name}' parameter of {type(part).__name__} must .*{allowed}"
    with pytest.raises(ValueError, match=message) as error:
        part.build(*next(a for base, a in ARGUMENTS.items() if isinstance(part, base)))
    assert f"Got {value!r}" in str(error.value)
