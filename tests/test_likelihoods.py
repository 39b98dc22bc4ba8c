"""Laws of the likelihoods: normalisation, moments, information, missing entries, estimates.

A likelihood gets rows in ``CASES``: with the support of each block of its columns, and the
log-density of its entries by scipy.
"""

from typing import Any, NamedTuple

import joblib
import numpy as np
import pytest
import torch
from scipy import sparse, special, stats
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.likelihoods import (
    LIKELIHOODS,
    NOISE_FLOOR,
    Bernoulli,
    Categorical,
    Gaussian,
    Mixed,
    NegativeBinomial,
    Poisson,
    StudentT,
)

RESIDUALS = np.array([0.2, 0.9])  # variances of the two columns at the start


# the support of a block of columns given its outputs: values (m, width), and cells of integration


def line(output):
    return output + torch.linspace(-14, 14, 281, dtype=torch.float64)[:, None], 0.1


def long_line(output):
    """Points far out in the tails: the trapezoidal rule for x = output + sinh(t)."""
    t = torch.linspace(-25, 25, 251, dtype=torch.float64)[:, None]
    return output + t.sinh(), 0.2 * t.cosh()[:, 0]


def bits(output):
    return torch.tensor([[0.0], [1.0]]).double(), 1.0


def counts(output):
    return torch.arange(150.0, dtype=torch.float64)[:, None], 1.0


def categories(output):
    return torch.eye(len(output), dtype=torch.float64), 1.0


# the log-density of entries by scipy, given the module


def normal(module, x, output):
    return stats.norm.logpdf(x, output, np.sqrt(module.noise_variance.numpy()))


def student(module, x, output):
    return stats.t.logpdf(x, module.df.numpy(), output, module.noise_std().numpy())


def binary(module, x, output):
    return stats.bernoulli.logpmf(x, special.expit(output))


def poisson(module, x, output):
    return stats.poisson.logpmf(x, np.exp(output))


def gamma_poisson(module, x, output):
    alpha = module.dispersion.numpy()
    return stats.nbinom.logpmf(x, 1 / alpha, 1 / (1 + alpha * np.exp(output)))


def multinomial(*sizes):
    def log_prob(module, x, output):
        blocks = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
        shares = [special.softmax(output[:, block], axis=1) for block in blocks]
        each = zip(blocks, shares, strict=True)
        return np.stack([stats.multinomial.logpmf(x[:, b], 1, p) for b, p in each], axis=1)

    return log_prob


def side_by_side(*parts):
    def log_prob(module, x, output):
        each = zip(parts, module.parts, module.split(x), module.split(output), strict=True)
        return np.concatenate([part(*own) for part, *own in each], axis=1)

    return log_prob


class Case(NamedTuple):
    likelihood: Any
    blocks: list[tuple[Any, int]]  # support and width of consecutive blocks of columns
    reference: Any

    @property
    def n_features(self):
        return sum(width for _, width in self.blocks)

    def build(self):
        return built(self.likelihood, np.linspace(*RESIDUALS, self.n_features))

    def outputs(self, n=5):
        rng = np.random.RandomState(0)
        return torch.from_numpy(0.6 * rng.standard_normal((n, self.n_features)))

    def support(self, output):
        """All values x given one row of output, (m, n_features), and their weights, (m,)."""
        rows, weight, start = torch.zeros(1, 0).double(), torch.ones(1).double(), 0
        for support, width in self.blocks:
            values, cell = support(output[start : start + width])
            left = rows.repeat_interleave(len(values), dim=0)
            rows = torch.cat([left, values.repeat(len(rows), 1)], dim=1)
            cells = torch.as_tensor(cell, dtype=torch.float64).expand(len(values))
            weight, start = (weight[:, None] * cells).flatten(), start + width
        return rows, weight

    def rows(self, n=5):
        """Some values, one for each row of outputs."""
        x, _ = self.support(self.outputs(1)[0])
        return x[np.random.RandomState(1).choice(len(x), n)]


MIXED = Mixed([(Categorical(), slice(1, 4)), (Gaussian(0.7), [0]), (NegativeBinomial(0.3), [4])])
CASES = {
    **{
        f"gaussian {noise}": Case(Gaussian(noise), [(line, 1)] * 2, normal)
        for noise in ("shared", "feature", 0.7)
    },
    **{
        f"negative binomial {alpha}": Case(
            NegativeBinomial(alpha), [(counts, 1)] * 2, gamma_poisson
        )
        for alpha in ("shared", "feature", 0.5)
    },
    **{
        f"student t {noise} {df}": Case(StudentT(df, noise), [(long_line, 1)] * 2, student)
        for df, noise in (("auto", "shared"), ("auto", "feature"), (6.0, "shared"))
    },
    "bernoulli": Case(Bernoulli(), [(bits, 1)] * 2, binary),
    "poisson": Case(Poisson(), [(counts, 1)] * 2, poisson),
    "categorical": Case(Categorical(), [(categories, 3)], multinomial(3)),
    "categorical equal": Case(Categorical((2, 2)), [(categories, 2)] * 2, multinomial(2, 2)),
    "categorical blocks": Case(
        Categorical([2, 4, 2]),
        [(categories, 2), (categories, 4), (categories, 2)],
        multinomial(2, 4, 2),
    ),
    "mixed": Case(
        MIXED,
        [(line, 1), (categories, 3), (counts, 1)],
        side_by_side(multinomial(3), normal, gamma_poisson),
    ),
    "mixed in order": Case(
        Mixed([(Poisson(), range(1)), (Bernoulli(), slice(1, None))]),
        [(counts, 1), (bits, 1), (bits, 1)],
        side_by_side(poisson, binary),
    ),
}
LEARNED = [Gaussian("shared"), Gaussian("feature")]
HEAVY = [StudentT(df, noise) for df in ("auto", 4.0) for noise in ("shared", "feature")]
OVERDISPERSED = [NegativeBinomial("shared"), NegativeBinomial("feature")]

each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
each_learned = pytest.mark.parametrize("likelihood", LEARNED, ids=repr)
each_count = pytest.mark.parametrize("likelihood", [Poisson(), NegativeBinomial()], ids=repr)
each_heavy = pytest.mark.parametrize("likelihood", HEAVY, ids=repr)
each_overdispersed = pytest.mark.parametrize("likelihood", OVERDISPERSED, ids=repr)


def built(likelihood, residual_variance=RESIDUALS):
    n_features = len(residual_variance)
    module = likelihood.build(residual_variance, np.full(n_features, 0.3), np.full(n_features, 1.5))
    return module.double()


@pytest.fixture
def output(rng):
    """Outputs of a decoder for five rows of two columns."""
    return torch.from_numpy(rng.standard_normal((5, 2)))


def expectation(case, module, output, function):
    """E[function(x)] under p(x|output) for one row of output, the last axis summed over x."""
    x, cells = case.support(output)
    probability = module.log_prob(x, output.expand_as(x)).exp() * cells
    return (function(x) * probability[:, None]).sum(dim=0)


# every likelihood -----------------------------------------------------------------------------


@each_case
def test_probabilities_sum_to_one_and_have_the_mean(case):
    module, outputs = case.build(), case.outputs()
    for row, mean in zip(outputs, module.mean(outputs), strict=True):
        total = expectation(case, module, row, torch.ones_like)
        torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-10, atol=0)
        expected = expectation(case, module, row, lambda x: x)
        torch.testing.assert_close(mean, expected, rtol=1e-10, atol=1e-10)


@each_case
def test_draws_have_the_moments_of_the_density_and_lie_in_the_support(case):
    module, n = case.build(), 20_000
    row = case.outputs()[0]
    generator = torch.Generator().manual_seed(0)
    x = module.sample(row.expand(n, -1), generator)
    assert x.shape == (n, case.n_features)
    case.likelihood.check_support(x.numpy())
    first, second, fourth = (expectation(case, module, row, lambda x, p=p: x**p) for p in (1, 2, 4))
    error = 4.5 * ((second - first**2) / n).sqrt()
    assert torch.all((x.mean(dim=0) - first).abs() < error)
    error = 4.5 * ((fourth - second**2) / n).sqrt()
    assert torch.all((x.square().mean(dim=0) - second).abs() < error)


@each_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_come_from_the_generator(case, dtype):
    module, outputs = case.build().to(dtype), case.outputs(40).to(dtype)
    before = torch.get_rng_state()
    first, second, other = (
        module.sample(outputs, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert first.dtype == dtype
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@each_case
def test_score_has_mean_zero_and_the_information_as_its_mean_square(case):
    module, outputs = case.build(), case.outputs()
    for row, information in zip(outputs, module.information(outputs), strict=True):

        def score(x, row=row):
            free = row.expand_as(x).clone().requires_grad_()
            return torch.autograd.grad(module.log_prob(x, free).sum(), free)[0]

        mean = expectation(case, module, row, score)
        torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-10)
        square = expectation(case, module, row, lambda x: score(x).square())
        torch.testing.assert_close(information, square, rtol=1e-9, atol=0)


@each_case
def test_log_prob_equals_scipys(case):
    module, x, outputs = case.build(), case.rows(), case.outputs()
    expected = case.reference(module, x.numpy(), outputs.numpy()).sum(axis=1)
    np.testing.assert_allclose(module.log_prob(x, outputs).numpy(), expected, rtol=1e-9)
    entries = module.log_prob_entries(x, outputs)
    np.testing.assert_allclose(entries.sum(dim=1).numpy(), expected, rtol=1e-9)


@each_case
def test_log_prob_has_the_right_gradient(case):
    module, x, free = case.build(), case.rows(), case.outputs().requires_grad_()
    assert torch.autograd.gradcheck(lambda output: module.log_prob(x, output), [free])


@each_case
@pytest.mark.parametrize("size", [20.0, 50.0, 1e4])
def test_extreme_outputs_have_finite_densities_and_gradients(case, size):
    module, x = case.build().float(), case.rows(8).float()
    output = size * torch.sign(case.outputs(8)).float()
    output[0] = 1e-30
    output.requires_grad_()
    value = module.log_prob(x, output)
    assert torch.isfinite(value).all()
    assert torch.isfinite(torch.autograd.grad(value.sum(), output)[0]).all()
    assert torch.isfinite(module.mean(output)).all()
    assert torch.all(module.information(output) >= 0)
    drawn = module.sample(output.detach(), torch.Generator().manual_seed(0))
    case.likelihood.check_support(drawn.numpy())
    module.update(x, output)
    module.calibrate(x, output)
    assert all(torch.isfinite(tensor).all() for tensor in module.state_dict().values())


@pytest.mark.parametrize(
    ("case", "size"),  # of the slope: "gaussian" and "bernoulli" take any
    [(name, 1e-4) for name in CASES] + [("gaussian shared", 3.0), ("bernoulli", 3.0)],
)
def test_linear_start_has_the_mean_and_the_slope_asked_for(case, size):
    case = CASES[case]
    module, outputs = case.build(), case.outputs()
    means = module.mean(outputs).numpy()
    mean, loading = means[0], size * (means[1:3] - means[0]).T
    bias, weight = (torch.from_numpy(a) for a in case.likelihood.linear_start(mean, loading))

    def decoded(z):
        return module.mean((bias + weight @ z)[None])[0]

    z = torch.zeros(2).double()
    np.testing.assert_allclose(decoded(z).numpy(), mean, rtol=1e-6)
    slope = torch.autograd.functional.jacobian(decoded, z)
    np.testing.assert_allclose(slope.numpy(), loading, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    ("likelihood", "decode", "mean", "exact"),
    [
        (Bernoulli(), special.expit, np.linspace(0, 1, 51), slice(1, -1)),
        *(
            (likelihood, np.exp, np.array([0.0, 1e-3, 1.5e-3, 0.02, 0.9775]), slice(1, None))
            for likelihood in (Poisson(), NegativeBinomial(), Categorical())
        ),
    ],
)
def test_linear_start_has_the_mean_of_columns_that_vary(likelihood, decode, mean, exact):
    bias, weight = likelihood.linear_start(mean, np.zeros((len(mean), 1)))
    np.testing.assert_allclose(decode(bias)[exact], mean[exact], rtol=1e-12)
    assert np.isfinite(bias).all()
    assert not weight.any()


@each_count
def test_scale_of_counts_in_the_encoder_has_limits(likelihood):
    mean, variance = np.array([1.0, 1e6, 3.0]), np.array([1e8, 1e-3, 0.0])
    module = likelihood.build(np.ones(3), mean, variance)
    one, other = torch.tensor([[0.0, 9e5, 2.0], [50.0, 2e6, 7.0]]).double()
    found = module.embed(other[None]) - module.embed(one[None])
    expected = (other.log1p() - one.log1p()) / torch.tensor([1.0, 1e-3, 1.0])
    torch.testing.assert_close(found[0], expected)


@each_count
def test_rates_at_the_start_have_the_moments_of_the_linear_map(likelihood, rng):
    mean, loading = np.array([0.5, 3.0, 2000.0]), np.diag([0.8, 1.0, 1500.0])
    bias, weight = likelihood.linear_start(mean, loading)
    rates = np.exp(rng.standard_normal((400_000, 3)) @ weight.T + bias)
    np.testing.assert_allclose(rates.mean(axis=0), mean, rtol=0.02)
    np.testing.assert_allclose(rates.std(axis=0), loading.diagonal(), rtol=0.1)


@each_case
def test_linear_start_at_the_edge_of_the_support_is_finite(case):
    mean = np.zeros(case.n_features)
    mean[0] = 1.0
    for array in case.likelihood.linear_start(mean, np.ones((case.n_features, 3))):
        assert np.isfinite(array).all()


@each_case
def test_linear_encoder_agrees_with_the_projection_near_the_mean(case, rng):
    n_features = case.n_features
    mean, variance = rng.uniform(0.5, 3, n_features), rng.uniform(0.5, 20, n_features)
    module = case.likelihood.build(np.ones(n_features), mean, variance).double()
    projection = rng.standard_normal((3, n_features))
    before = projection.copy()
    weight = case.likelihood.linear_encoder(projection, mean, variance)
    np.testing.assert_array_equal(projection, before)
    centre = torch.from_numpy(mean)[None]

    def encoded(x):
        return (module.embed(x) - module.embed(centre))[0] @ torch.from_numpy(weight).T

    slope = torch.autograd.functional.jacobian(encoded, centre)[:, 0]
    np.testing.assert_allclose(slope.numpy(), projection, rtol=1e-10)


@each_count
def test_counts_of_any_size_are_of_order_one_to_the_encoder(likelihood, rng):
    X = rng.poisson(np.exp(rng.normal(size=(500, 1)) + np.array([-8, 0.0, 4, 12])))
    X = np.column_stack([X, np.full(500, 7), np.zeros(500)]).astype(float)
    module = likelihood.build(X.var(axis=0), X.mean(axis=0), X.var(axis=0))
    embedded = module.embed(torch.from_numpy(X)).abs()
    assert embedded.max() < 40
    assert embedded[:, 1:].max() < 10


@each_case
def test_most_likely_values_lie_in_the_support(case):
    means = case.build().mean(case.outputs()).numpy()
    before = means.copy()
    likely = case.likelihood.most_likely(means)
    np.testing.assert_array_equal(means, before)
    assert likely.shape == means.shape
    assert not np.shares_memory(likely, means)
    case.likelihood.check_support(likely)


# missing entries ------------------------------------------------------------------------------


@pytest.fixture
def mask(rng):
    def make(case, n=8):
        observed = torch.from_numpy(rng.uniform(size=(n, case.n_features)) < 0.6)
        observed[0], observed[1] = False, True
        return observed

    return make


def counted(case, observed):
    """Entries that count: those of blocks that are observed as a whole."""
    widths = [width for _, width in case.blocks]
    blocks = observed.split(widths, dim=1)
    return torch.cat([block.all(dim=1, keepdim=True).expand_as(block) for block in blocks], dim=1)


@each_case
def test_missing_entries_add_nothing(case, mask):
    module, x, output, observed = case.build(), case.rows(8), case.outputs(8), mask(case)
    expected = module.log_prob_entries(x, output).where(counted(case, observed), 0.0).sum(dim=1)
    hidden = x.where(observed, 0.0)
    free = output.clone().requires_grad_()
    value = module.log_prob(hidden, free, observed)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(value[1], module.log_prob(x, output)[1], rtol=1e-12, atol=0)
    assert value[0] == 0
    (gradient,) = torch.autograd.grad(value.sum(), free)
    assert torch.all(gradient[~counted(case, observed)] == 0)
    information = module.information(output, observed)
    expected = module.information(output).where(counted(case, observed), 0.0)
    assert torch.equal(information, expected)
    assert torch.equal(module.masked(module.information_entries(output), observed), expected)


@each_case
@pytest.mark.parametrize("method", ["update", "calibrate"])
def test_estimates_do_not_depend_on_missing_entries(case, mask, method):
    x, output, observed = case.rows(8), case.outputs(8), mask(case)
    before = joblib.hash(case.likelihood)
    none, every = torch.zeros_like(observed), torch.ones_like(observed)
    states = []
    for rows, seen in (
        (x.where(observed, 0.0), observed),
        (x.where(observed, 9.0), observed),
        (x, every),
        (x, None),
        (x, none),
    ):
        module = case.build()
        getattr(module, method)(rows, output, seen)
        states.append(module.state_dict())
    for name, start in case.build().state_dict().items():
        masked, other, whole, plain, nothing = (state[name] for state in states)
        assert torch.equal(masked, other)
        torch.testing.assert_close(whole, plain, rtol=1e-12, atol=0)
        torch.testing.assert_close(nothing, start, rtol=1e-12, atol=0)
    assert joblib.hash(case.likelihood) == before


# support --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("likelihood", "row"),
    [(Gaussian(), [-1e30, 1e30]), (Bernoulli(), [0.0, 1.0]), (Bernoulli(), [0.2, 0.2])],
)
@pytest.mark.parametrize("make", [np.array, sparse.csr_array])
def test_support_contains_its_ends(likelihood, row, make):
    likelihood.check_support(make([row]))


BAD_ROWS = [
    (Poisson(), [[0, 1], [2, -3]], "counts.*Poisson.*Got -3 in column 1, row 1"),
    (Poisson(), [[0, 1], [2.5, 3]], "counts.*Got 2.5 in column 0, row 1"),
    (NegativeBinomial(), [[0, 0.5]], "counts.*NegativeBinomial.*Got 0.5 in column 1, row 0"),
    (Bernoulli(), [[0, 1], [2, 0]], "from 0 to 2, the first outside in column 0, row 1"),
    (Bernoulli(), [[-0.001, 1]], r"X must lie in \[0, 1\].*from -0.001 to 1"),
    (Bernoulli(), [[0, 255]], r"X must lie in \[0, 1\].*from 0 to 255"),
    (Categorical(), [[0, 1], [0.5, 0.5]], "0 or 1.*Got 0.5 in column 0, row 1"),
    (Categorical(), [[0, 1], [1, 1]], "exactly one 1.*Got 2 in row 1, columns 0 to 1"),
    (Categorical((2, 3)), [[0, 1, 0, 0, 0]], "Got 0 in row 0, columns 2 to 4"),
    (Categorical((2, 3)), [[0, 1]], r"'sizes'.*sum.*2\. Got \(2, 3\).*sums to 5"),
    (Categorical(), [[1], [1]], "at least 2 columns. Got 1"),
    (MIXED, [[0, 1, 0, 0, 1.5]], "counts.*Got 1.5 in column 4, row 0"),
    (MIXED, [[0, 1, 0, 0, 1], [0, 1, 1, 0, 1]], "Got 2 in row 1, columns 1 to 3"),
    (Mixed([(Poisson(), [2, 0]), (Gaussian(), [1])]), [[-1, 0, 0]], "Got -1 in column 0"),
    (MIXED, [[0, 1, 0, 0]], "no column 4"),
    (MIXED, [[0, 1, 0, 0, 1, 0]], "column 5 is in no part"),
    (Mixed([(Gaussian(), [0, 1]), (Poisson(), slice(1, 3))]), [[0, 0, 0]], "column 1 is in two"),
    (Mixed([(Gaussian(), [0, 0])]), [[0]], "column 0 is in two"),
    (Mixed([(Gaussian(), slice(3)), (Poisson(), slice(3, 9))]), [[0, 0, 0]], "are empty"),
    (Mixed([]), [[0]], "column 0 is in no part"),
]


@pytest.mark.parametrize(("likelihood", "X", "message"), BAD_ROWS)
@pytest.mark.parametrize("make", [np.array, sparse.csr_array])
def test_bad_rows_and_columns_are_named(likelihood, X, message, make):
    X = make(np.array(X, dtype=float))
    with pytest.raises(ValueError, match=message):
        likelihood.check_support(X)


def test_bad_rows_of_later_chunks_are_named(tmp_path):
    likelihoods = Poisson(), Bernoulli(), Categorical()
    X = np.memmap(tmp_path / "X", dtype=np.float32, mode="w+", shape=(5000, 4))
    X[:, 1] = 1
    for likelihood in likelihoods:
        likelihood.check_support(X)
    X[4073, 2] = -4
    for likelihood in likelihoods:
        with pytest.raises(ValueError, match="column 2, row 4073"):
            likelihood.check_support(X)
    X[4073, 2], X[4088, 3] = 0, 1
    with pytest.raises(ValueError, match="Got 2 in row 4088, columns 0 to 3"):
        Categorical().check_support(X)


@each_case
def test_missing_values_are_allowed(case):
    X = case.rows(20).numpy()
    X[np.random.RandomState(0).uniform(size=X.shape) < 0.5] = np.nan
    case.likelihood.check_support(X)
    case.likelihood.check_support(np.full_like(X, np.nan))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float16, np.float32])
@pytest.mark.parametrize("likelihood", [c() for c in LIKELIHOODS.values()], ids=repr)
def test_support_is_checked_in_any_dtype(likelihood, dtype):
    X = np.eye(3).astype(dtype)
    likelihood.check_support(X)
    likelihood.check_support(sparse.csr_array(X if dtype != np.float16 else X.astype(float)))


def test_bernoulli_reads_grey_values_as_probabilities(output, rng):
    module, grey = built(Bernoulli()), torch.from_numpy(rng.uniform(size=(5, 2)))
    zeros, ones = torch.zeros(5, 1).double(), torch.ones(5, 1).double()
    for d in range(2):
        column, logit = grey[:, [d]], output[:, [d]]
        expected = column * module.log_prob(ones, logit)[:, None]
        expected = expected + (1 - column) * module.log_prob(zeros, logit)[:, None]
        torch.testing.assert_close(module.log_prob(column, logit), expected[:, 0])


# learned noise --------------------------------------------------------------------------------


def mean_squares(likelihood, x, output, observed):
    """The variance of largest likelihood: the mean squared residual of columns that share one."""
    squared = (x - output).square().where(observed, 0.0)
    if likelihood.noise == "shared":
        return squared.sum()[None] / observed.sum()
    return squared.sum(dim=0) / observed.sum(dim=0)


def mean_log_prob(module, x, output, factor=1.0):
    """Mean log-density with the noise variance multiplied by ``factor``."""
    before = module.noise_variance.clone()
    module.noise_variance.mul_(factor)
    value = float(module.log_prob(x, output).mean())
    module.noise_variance.copy_(before)
    return value


@pytest.fixture
def residual_data(rng):
    output = torch.from_numpy(rng.standard_normal((40, 2)))
    return output + torch.from_numpy(rng.standard_normal((40, 2)) * [0.1, 2.0]), output


@pytest.mark.parametrize(
    ("noise", "expected"),
    [("shared", [RESIDUALS.mean()]), ("feature", RESIDUALS), (0.7, [0.7**2]), (1e-5, [1e-10])],
)
def test_noise_starts_at_the_residuals_unless_it_is_fixed(noise, expected):
    variance = built(Gaussian(noise)).noise_variance
    np.testing.assert_allclose(variance.numpy(), expected, rtol=1e-12)


@each_learned
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_updates_converge_to_the_variance_of_largest_likelihood(
    likelihood, share, residual_data, rng
):
    x, output = residual_data
    observed = torch.from_numpy(rng.uniform(size=x.shape) < share)
    module, before = built(likelihood), built(likelihood).noise_variance
    expected = mean_squares(likelihood, x, output, observed)
    module.update(x, output, observed)
    first = module.noise_variance.clone()
    for _ in range(3000):
        module.update(x, output, observed)
    torch.testing.assert_close(module.noise_variance, expected, rtol=1e-8, atol=0)
    # one step goes part of the way
    assert torch.all((first - before) / (expected - before) > 0)
    assert torch.all((first - before) / (expected - before) < 1)
    if observed.all():
        best = mean_log_prob(module, x, output)
        for d in range(len(expected)):
            for factor in (0.97, 1.03):
                changed = torch.ones_like(expected).index_fill(0, torch.tensor([d]), factor)
                assert mean_log_prob(module, x, output, changed) < best


@each_learned
def test_calibration_finds_the_best_common_factor(likelihood, residual_data):
    module = built(likelihood)
    free = residual_data[0], residual_data[1].clone().requires_grad_()
    module.update(*free)
    before = module.noise_variance.clone()
    module.calibrate(*free)
    assert not module.noise_variance.requires_grad
    assert list(module.parameters()) == []
    factor = module.noise_variance / before
    torch.testing.assert_close(factor, factor[:1].expand_as(factor), rtol=1e-12, atol=0)
    best = mean_log_prob(module, *residual_data)
    for change in (0.97, 1.03):
        assert mean_log_prob(module, *residual_data, change) < best
    module.calibrate(*residual_data)  # nothing is left to gain
    torch.testing.assert_close(module.noise_variance, factor * before, rtol=1e-12, atol=0)


@each_learned
def test_noise_has_a_floor(likelihood, output):
    module = likelihood.build(np.zeros(2), np.zeros(2), np.ones(2))
    floor = torch.full_like(module.noise_variance, NOISE_FLOOR**2)
    torch.testing.assert_close(module.noise_variance, floor)
    for _ in range(2000):
        module.update(output, output)
    torch.testing.assert_close(module.noise_variance, floor)
    module.calibrate(output, output)
    torch.testing.assert_close(module.noise_variance, floor)
    assert torch.isfinite(module.log_prob(output, output)).all()


@pytest.mark.parametrize(
    ("likelihood", "names"),
    [
        *((Gaussian(noise), {"noise_variance"}) for noise in (0.7, 1e-5)),
        (NegativeBinomial(0.5), None),
        *((likelihood, set()) for likelihood in (Bernoulli(), Categorical())),
    ],
    ids=repr,
)
def test_fixed_values_stay(likelihood, names, residual_data):
    module = built(likelihood)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    assert names is None or set(before) == names
    module.update(*residual_data)
    module.calibrate(*residual_data)
    assert set(module.state_dict()) == set(before)
    assert all(torch.equal(module.state_dict()[name], value) for name, value in before.items())


def test_noise_std_is_that_of_scaled_columns():
    torch.testing.assert_close(built(Gaussian(0.7)).noise_std(), torch.tensor([0.7]).double())
    expected = torch.from_numpy(np.sqrt(RESIDUALS))
    torch.testing.assert_close(built(Gaussian("feature")).noise_std(), expected)
    torch.testing.assert_close(built(StudentT(noise="feature")).noise_std(), expected)
    assert built(Bernoulli()).noise_std() is None
    assert built(Mixed([(Bernoulli(), [0]), (Poisson(), [1])])).noise_std() is None
    expected = torch.tensor([torch.nan, 0.7]).double()
    noise = built(Mixed([(Gaussian(0.7), [1]), (Poisson(), [0])])).noise_std()
    torch.testing.assert_close(noise, expected, equal_nan=True)


# learned tails --------------------------------------------------------------------------------


@pytest.fixture
def heavy(rng):
    """Residuals with 3 and 8 degrees of freedom and scales 0.4 and 0.6, and outputs."""
    output = rng.standard_normal((4000, 2))
    x = output + rng.standard_t([3.0, 8.0], output.shape) * [0.4, 0.6]
    return torch.from_numpy(x), torch.from_numpy(output)


def changed_log_prob(module, x, output, **factors):
    """Mean log-density with estimates multiplied by factors."""
    before = {name: getattr(module, name).clone() for name in factors}
    for name, factor in factors.items():
        getattr(module, name).mul_(factor)
    value = float(module.log_prob(x, output).mean())
    for name, estimate in before.items():
        getattr(module, name).copy_(estimate)
    return value


@each_heavy
def test_updates_converge_to_the_tails_of_largest_likelihood(likelihood, heavy):
    module = built(likelihood)
    for _ in range(1500):
        module.update(*heavy)
    if likelihood is HEAVY[1]:
        np.testing.assert_allclose(module.df.numpy(), [3.0, 8.0], rtol=0.2)
        np.testing.assert_allclose(module.noise_std().numpy(), [0.4, 0.6], rtol=0.05)
    best = changed_log_prob(module, *heavy)
    names = ["squared_scale"] + ["inverse_df"] * (likelihood.df == "auto")
    for name in names:
        for d in range(len(getattr(module, name))):
            for factor in (0.99, 1.01):
                change = torch.ones_like(getattr(module, name))
                change[d] = factor
                assert changed_log_prob(module, *heavy, **{name: change}) < best


@each_heavy
def test_calibration_finds_the_best_common_factor_of_scales(likelihood, heavy):
    module = built(likelihood)
    before, df = module.squared_scale.clone(), module.df
    module.calibrate(*heavy)
    factor = module.squared_scale / before
    torch.testing.assert_close(factor, factor[:1].expand_as(factor), rtol=1e-12, atol=0)
    assert torch.equal(module.df, df)
    best = changed_log_prob(module, *heavy)
    for change in (0.98, 1.02):
        assert changed_log_prob(module, *heavy, squared_scale=change) < best


@pytest.mark.parametrize("df", ["auto", 4.0])
def test_scale_of_student_t_starts_from_the_residuals(df):
    shared, own = (
        built(StudentT(df, noise), np.array([1.0, 3.0])) for noise in ("shared", "feature")
    )
    assert shared.squared_scale.tolist() == [2.0]
    assert own.squared_scale.tolist() == [1.0, 3.0]
    assert shared.learned == own.learned == (df == "auto")


@each_heavy
def test_tails_have_limits(likelihood, output):
    module = built(likelihood)
    for x in (output, output + 1e6 * torch.eye(5, 2)):
        for _ in range(2000):
            module.update(x, output)
        floor = torch.full_like(module.squared_scale, NOISE_FLOOR**2)
        assert x is not output or torch.equal(module.squared_scale, floor)
        module.calibrate(x, output)
        assert x is not output or torch.equal(module.squared_scale, floor)
        assert torch.all(module.squared_scale >= floor)
        assert torch.all((module.df > 2) & (module.df < 101))
        assert torch.isfinite(module.log_prob(x, output)).all()


@pytest.mark.parametrize("df", [1.01, 3.0, 29.9, 30.1, 1e3, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_student_t_is_accurate_at_any_degrees_of_freedom(df, dtype):
    x = torch.tensor([[0.0, 0.3, 2.0, 40.0, 1e6]], dtype=dtype)
    module = built(StudentT(df), np.ones(5)).to(dtype)
    expected = stats.t.logpdf(x.numpy().astype(float), df)
    value = module.log_prob_entries(x, torch.zeros_like(x)).double().numpy()
    np.testing.assert_allclose(value, expected, rtol=2e-6 if dtype == torch.float32 else 1e-11)


@each_heavy
def test_a_wild_entry_moves_the_scale_little_however_wild_it_is(likelihood, heavy):
    x, output = heavy
    scales = []
    for size in (1e3, 1e6):
        wild, module = x.clone(), built(likelihood)
        wild[::100] = size
        for _ in range(800):
            module.update(wild, output)
        scales.append(module.noise_std().numpy())
    np.testing.assert_allclose(scales[1], scales[0], rtol=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_encoder_sees_the_logarithm_of_wild_entries(dtype):
    mean, variance = np.array([1.0, -2.0, 5.0]), np.array([0.25, 9.0, 0.0])
    module = StudentT().build(np.ones(3), mean, variance).to(dtype)
    centre, spread = torch.from_numpy(mean).to(dtype), torch.tensor([0.5, 3.0, 1.0], dtype=dtype)
    distance = torch.linspace(-4, 4, 41, dtype=dtype)[:, None]
    torch.testing.assert_close(module.embed(centre + spread * distance), centre + spread * distance)
    far = torch.tensor([[-1e9], [-5.0], [5.0], [1e9]], dtype=dtype)
    expected = far.sign() * (4 + torch.log1p(far.abs() - 4))
    torch.testing.assert_close(module.embed(centre + spread * far), centre + spread * expected)


@pytest.mark.parametrize("kind", ["dense", "missing", "sparse"])
def test_the_start_does_not_depend_on_how_wild_a_row_is(kind, rng):
    X, starts = rng.standard_normal((120, 3)) @ rng.standard_normal((3, 6)), []
    if kind == "missing":
        X[5::9, 2] = np.nan
    for size in (1e2, 1e5):
        rows = X.copy()
        rows[::40] = size * np.array([1, -1, 1, 1, -1, 1])
        # the first epoch leaves the start as it is
        params = {"learning_rate": 1e-300, "max_epochs": 1, "random_state": 0}
        model = WiSEALETransformer(2, likelihood=StudentT(), early_stopping=False, **params)
        model.fit(sparse.csr_array(rows) if kind == "sparse" else rows)
        # codes of rows with missing entries also depend on the noise, which one epoch changes
        starts.append(model.transform(X[~np.isnan(X).any(axis=1)]))
    np.testing.assert_allclose(starts[1], starts[0], rtol=1e-3, atol=1e-3)


def test_entries_too_far_for_float32_are_named(rng):
    X = rng.standard_normal((50, 3))
    X[7, 1] = 1e20
    with pytest.raises(ValueError, match=r"no entry farther.*Got 1e\+20 in column 1"):
        WiSEALETransformer(1, likelihood="student_t").fit(X)


# learned dispersion ---------------------------------------------------------------------------


@pytest.fixture
def overdispersed(rng):
    """Counts of dispersion 0.1 and 0.8, and their log-means."""
    alpha, output = np.array([0.1, 0.8]), rng.normal(1.0, 0.5, (4000, 2))
    x = rng.poisson(np.exp(output) * rng.gamma(1 / alpha, alpha, output.shape))
    return torch.from_numpy(x).double(), torch.from_numpy(output)


def gap(dispersion, x, output):
    """By how much squared residuals exceed their variance, weighted by their precision."""
    mean = output.exp()
    excess = (x - mean).square() - mean - dispersion * mean.square()
    return excess / (1 + dispersion * mean).square()


@each_overdispersed
def test_dispersion_starts_at_that_of_the_moments(likelihood):
    """Of a negative binomial variable whose mean is one of two."""
    alpha, means = np.array([0.1, 0.8]), np.array([[1.0, 5.0], [2.0, 3.0]])  # a column, a value
    mean, square = means.mean(axis=1), (means**2).mean(axis=1)
    residual = mean + alpha * square
    module = likelihood.build(residual, mean, residual + square - mean**2)
    expected = alpha if likelihood.dispersion == "feature" else [alpha @ square / square.sum()]
    np.testing.assert_allclose(module.dispersion.numpy(), expected, rtol=1e-12)


@each_overdispersed
def test_updates_converge_to_the_dispersion_of_the_moments(likelihood, overdispersed):
    module = built(likelihood)
    for _ in range(1000):
        module.update(*overdispersed)
    left = gap(module.dispersion, *overdispersed)
    left = left.mean() if likelihood.dispersion == "shared" else left.mean(dim=0)
    torch.testing.assert_close(left, torch.zeros_like(left), rtol=0, atol=1e-9)
    expected = 0.4 if likelihood.dispersion == "shared" else [0.1, 0.8]
    np.testing.assert_allclose(module.dispersion.numpy(), expected, rtol=0.2)


@each_overdispersed
def test_calibration_finds_the_factor_with_which_the_moments_agree(likelihood, overdispersed):
    module = built(likelihood)
    for _ in range(20):
        module.update(*overdispersed)
    before = module.dispersion
    for _ in range(20):
        module.calibrate(*overdispersed)
    factor = module.dispersion / before
    torch.testing.assert_close(factor, factor[:1].expand_as(factor), rtol=1e-9, atol=0)
    assert abs(gap(module.dispersion, *overdispersed).mean()) < 1e-6
    once = built(likelihood)
    for _ in range(20):
        once.update(*overdispersed)
    once.calibrate(*overdispersed)
    torch.testing.assert_close(once.dispersion, module.dispersion, rtol=0.02, atol=0)


@each_overdispersed
def test_dispersion_has_a_floor_at_which_it_is_the_poissons(likelihood):
    output = torch.tensor([[0.0, 1.0]]).double().expand(50, 2)
    x, module = output.exp().round(), built(likelihood)
    for _ in range(600):
        module.update(x, output)
    torch.testing.assert_close(module.dispersion, torch.full_like(module.dispersion, 1e-6))
    module.calibrate(x, output)
    torch.testing.assert_close(module.dispersion, torch.full_like(module.dispersion, 1e-6))
    value = module.log_prob(x, output)
    torch.testing.assert_close(value, built(Poisson()).log_prob(x, output), rtol=0, atol=1e-5)


@pytest.mark.parametrize("alpha", [1e-6, 1e-4, 0.03, 0.034, 1.0, 1e3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_negative_binomial_is_accurate_at_any_dispersion(alpha, dtype):
    x = torch.tensor([[0.0, 1.0, 7.0, 300.0, 40_000.0]], dtype=dtype)
    output = torch.tensor([[-3.0, 0.5, 1.5, 5.5, 10.5]], dtype=dtype)
    module = built(NegativeBinomial(alpha), np.ones(5)).to(dtype)
    p = 1 / (1 + alpha * np.exp(output.double().numpy()))
    expected = stats.nbinom.logpmf(x.numpy(), 1 / alpha, p)
    # float32: log-factorials of large counts, and outputs themselves, have so many digits
    error = (
        1e-6 * (1 + x.double().numpy()) * 3 if dtype == torch.float32 else 1e-9 * (1 + x.numpy())
    )
    value = module.log_prob_entries(x, output).double().numpy()
    assert np.all(np.abs(value - expected) < error)


# hard labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("likelihood", "mean", "expected"),
    [
        (Gaussian(), [0.3, -2], [0.3, -2]),
        (StudentT(), [0.3, -2], [0.3, -2]),
        (Bernoulli(), [0.3, 0.7], [0, 1]),
        (Poisson(), [0.3, 2.7], [0, 2]),
        (NegativeBinomial(), [0.3, 2.7], [0, 2]),
        (NegativeBinomial(0.5), [0.3, 4.7], [0, 2]),
        (NegativeBinomial(2.0), [0.3, 4.7], [0, 0]),
        (Categorical(), [0.3, 0.7], [0, 1]),
        (Categorical((2, 3)), [0.6, 0.4, 0.3, 0.3, 0.4], [1, 0, 0, 0, 1]),
        (MIXED, [1.5, 0.3, 0.3, 0.4, 9.2], [1.5, 0, 0, 1, 6]),
    ],
)
def test_most_likely(likelihood, mean, expected):
    np.testing.assert_array_equal(likelihood.most_likely(np.array([mean])), [expected])


@pytest.mark.parametrize("alpha", [0.2, 0.7, 1.5])
def test_most_likely_count_is_the_mode(alpha):
    mean = np.linspace(0.1, 12, 40)[None] + 0.003
    x = np.arange(200)[:, None]
    expected = stats.nbinom.pmf(x, 1 / alpha, 1 / (1 + alpha * mean)).argmax(axis=0)
    np.testing.assert_array_equal(NegativeBinomial(alpha).most_likely(mean)[0], expected)
    expected = stats.poisson.pmf(x, mean).argmax(axis=0)
    np.testing.assert_array_equal(Poisson().most_likely(mean)[0], expected)


# blocks and parts -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([Gaussian()], r"pairs.*Got Gaussian\(\) among"),
        ([("gaussian", slice(2))], "likelihood object"),
        ([(Gaussian(-1.0), slice(2))], "'noise' parameter of Gaussian"),
        ([(Gaussian(), ["a", "b"])], r"slices, ranges or lists of ints. Got \['a', 'b'\]"),
        ([(Gaussian(), [0, 2])], "no column 2"),
    ],
)
def test_bad_parts_are_named(parts, message):
    with pytest.raises(ValueError, match=message):
        built(Mixed(parts))


def test_parameters_of_parts_are_checked():
    with pytest.raises(ValueError, match="'noise' parameter of Gaussian"):
        Mixed([(Poisson(), [0]), (Gaussian(-1.0), [1])]).check_parameters()


def test_columns_may_be_counted_from_the_end():
    X = np.array([[0.4, 0.6, 2.7]])
    mixed = Mixed([(Poisson(), [-1]), (Bernoulli(), [-3, 1])])
    np.testing.assert_array_equal(mixed.most_likely(X), [[0, 1, 2]])
    with pytest.raises(ValueError, match="there is no column -4"):
        Mixed([(Poisson(), [-4])]).most_likely(X)


def test_mixed_clones_and_scales_by_its_parts():
    mixed = Mixed([(Gaussian(), [0, -1]), (Poisson(), slice(1, 3))])
    again = clone(mixed)
    assert again.parts[0][0] is not mixed.parts[0][0]
    modes = mixed.scale_modes("auto", 4)
    assert [(list(columns), mode) for columns, mode in modes] == [
        ([0, 3], "feature"),
        ([1, 2], None),
    ]
    assert not mixed.scalable
    assert Mixed([(Gaussian(), [0]), (Gaussian("feature"), [1])]).scalable
    assert mixed.allow_nan


@pytest.mark.parametrize("method", ["update", "calibrate"])
@pytest.mark.parametrize("masked", [False, True])
def test_parts_learn_as_if_they_were_alone(method, masked, rng):
    parts = {"number": (Gaussian(), [3, 0]), "count": (NegativeBinomial("feature"), [1, 2])}
    residual = np.array([0.5, 2.0, 3.0, 0.7])
    together = built(Mixed([*parts.values()]), residual)
    x = torch.from_numpy(rng.poisson(2.0, (30, 4))).double()
    output = torch.from_numpy(rng.normal(size=(30, 4)))
    observed = torch.from_numpy(rng.uniform(size=x.shape) < 0.7) if masked else None
    before = {name: value.clone() for name, value in together.state_dict().items()}
    getattr(together, method)(x, output, observed)
    names = set()
    for i, (likelihood, own) in enumerate(parts.values()):
        alone = built(likelihood, residual[own])
        getattr(alone, method)(x[:, own], output[:, own], observed[:, own] if masked else None)
        for name, value in alone.state_dict().items():
            names.add(f"parts.{i}.{name}")
            assert torch.equal(together.state_dict()[f"parts.{i}.{name}"], value)
    assert set(together.state_dict()) == names  # and nothing else is to be kept
    assert any(not torch.equal(together.state_dict()[name], before[name]) for name in names)


def test_nested_parts_are_those_of_the_columns_they_stand_for():
    inner = Mixed([(Poisson(), [1]), (Gaussian(0.7), [0])])
    nested_specification = Mixed([(Bernoulli(), [2]), (inner, [3, 0]), (Gaussian(0.3), [1])])
    nested = built(nested_specification, np.ones(4))
    flat = Mixed([(Bernoulli(), [2]), (Poisson(), [0]), (Gaussian(0.7), [3]), (Gaussian(0.3), [1])])
    x = torch.tensor([[3.0, 0.1, 1.0, -2.0]]).double()
    output = torch.tensor([[0.3, 0.2, -1.0, 0.5]]).double()
    expected = built(flat, np.ones(4))
    torch.testing.assert_close(nested.log_prob(x, output), expected.log_prob(x, output))
    torch.testing.assert_close(nested.mean(output), expected.mean(output))
    with pytest.raises(ValueError, match="Got -2 in column 0"):
        nested_specification.check_support(np.array([[-2.0, 0.1, 1.0, 0.0]]))


@pytest.fixture
def table(rng):
    """Numbers, a feature of three categories, a binary one, one of four, two of them rare."""
    rare = rng.choice(["a", "b", "c", "d"], p=[0.5, 0.4, 0.05, 0.05], size=200)
    return np.column_stack(
        [rng.normal(size=(200, 2)), rng.choice([0, 1, 2], 200), rng.choice([0, 1], 200), rare]
    ).astype(object)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (
            [("number", StandardScaler(), [0, 1]), ("kind", OneHotEncoder(), [2, 3, 4])],
            "[(Gaussian(), 0, 2), (Categorical(sizes=(3, 2, 4)), 2, 11)]",
        ),
        (
            [("kind", OneHotEncoder(drop="if_binary"), [2, 3, 4]), ("number", "passthrough", [0])],
            "[(Categorical(sizes=(3,)), 0, 3), (Bernoulli(), 3, 4), "
            "(Categorical(sizes=(4,)), 4, 8), (Gaussian(), 8, 9)]",
        ),
        (
            [("kind", OneHotEncoder(drop="if_binary"), [3, 3, 2])],
            "[(Bernoulli(), 0, 1), (Bernoulli(), 1, 2), (Categorical(sizes=(3,)), 2, 5)]",
        ),
        (
            [
                ("none", "drop", [2]),
                ("no", StandardScaler(), []),
                ("kind", make_pipeline(OneHotEncoder(min_frequency=0.2)), [4, 2]),
            ],
            "[(Categorical(sizes=(3, 3)), 0, 6), (Gaussian(), 6, 9)]",
        ),
    ],
)
def test_layout_of_a_column_transformer(steps, expected, table):
    encoder = ColumnTransformer(steps, remainder="passthrough" if len(steps) == 3 else "drop")
    X = encoder.fit_transform(table)
    mixed = Mixed.from_column_transformer(encoder)
    parts = [f"({likelihood}, {c.start}, {c.stop})" for likelihood, c in mixed.parts]
    assert f"[{', '.join(parts)}]" == expected
    X = np.asarray(X.toarray() if sparse.issparse(X) else X, dtype=float)
    mixed.check_support(X)
    assert mixed.build(*np.ones((3, X.shape[1]))).mean(torch.zeros(1, X.shape[1])).isfinite().all()


@pytest.mark.parametrize(
    ("drop", "columns"), [("first", [2, 3, 4]), (["0", "0", "a"], [2, 3, 4]), ("first", [3])]
)
def test_encoders_that_drop_categories_are_refused(drop, columns, table):
    encoder = ColumnTransformer([("kind", OneHotEncoder(drop=drop), columns)])
    table[:, 2:4] = table[:, 2:4].astype(str)
    with pytest.raises(ValueError, match=r"OneHotEncoder 'kind' drops a category.*Use drop=None"):
        Mixed.from_column_transformer(encoder.fit(table))


def test_a_column_transformer_must_be_fitted():
    with pytest.raises(NotFittedError):
        Mixed.from_column_transformer(ColumnTransformer([("n", "passthrough", [0])]))
