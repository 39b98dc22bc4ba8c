"""Laws of the overlaps: the same numbers by every path, exact, finite, and in little memory."""

import functools
import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

import sklearn_wiseale
from sklearn_wiseale.objectives import log_mean_overlap
from sklearn_wiseale.objectives._overlap import function as _overlap
from sklearn_wiseale.objectives._overlap import gaussians as _sides
from sklearn_wiseale.objectives._overlap import pairs as _pairs
from sklearn_wiseale.objectives._overlap import tiles as _tiles
from sklearn_wiseale.objectives._overlap.function import (
    log_mean_overlap_with_constants,
    mean_row_overlap,
)

ALL = 2**60
TILES = {"_PLAIN_NUMBERS": 0, "SPARSE_COMPONENTS": ALL, "_plain": None, "pull_pairs": None}
GATHERED = {"_PLAIN_NUMBERS": 0, "SPARSE_COMPONENTS": 1, "SPARSE_SHARE": 1.0, "_plain": None}
#: what forces a path upon log_mean_overlap; None stands where it must not come by
PATHS = {
    "plain": {"_PLAIN_NUMBERS": ALL, "_Overlap": None, "_RowOverlap": None},
    "tiles": TILES,
    "gathered": GATHERED,
}
#: the same for log_mean_overlap_with_constants
CONSTANT_PATHS = {
    "tiles": TILES,
    "gathered": {**GATHERED, "sum_over_pairs": lambda *arguments: False},
    "pairs": {**GATHERED, "sum_over_tiles": None},
}
DTYPES = [torch.float32, torch.float64]
BARS = {torch.float32: 1e-5, torch.float64: 1e-10}
#: how the columns come: as the rows, alone, weighted one by one or by row; as constants
SQUARE = ["square", "square weights", "square pairs"]
FREE = ["columns", "weights", "pairs"]
CASES = [*SQUARE, *FREE, "constants", "constant pairs"]

each_path = pytest.mark.parametrize("path", PATHS, indirect=True)
each_tile_path = pytest.mark.parametrize("path", ["tiles", "gathered"], indirect=True)
each_constant_path = pytest.mark.parametrize("constant_path", CONSTANT_PATHS, indirect=True)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])
each_case = pytest.mark.parametrize("case", CASES)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tensors are small here: threads would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def patch(monkeypatch, name, value):
    """Set a name in every module of the overlaps that has it."""
    modules = [m for m in (_overlap, _pairs, _sides, _tiles) if hasattr(m, name)]
    assert modules
    for module in modules:
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def path(request, monkeypatch):
    for name, value in PATHS[request.param].items():
        patch(monkeypatch, name, value)
    return request.param


@pytest.fixture
def constant_path(request, monkeypatch):
    for name, value in CONSTANT_PATHS[request.param].items():
        patch(monkeypatch, name, value)
    return request.param


# dense twins, in float64 ----------------------------------------------------------------------


def log_overlaps(mean, log_var, other_mean, other_log_var):
    """Log O of all pairs: (M, A), by way of (M, A, K)."""
    total_var = log_var.exp()[:, None] + other_log_var.exp()
    squared = (mean[:, None] - other_mean).square()
    return -0.5 * (squared / total_var + (2 * math.pi * total_var).log()).sum(dim=2)


def twin(mean, log_var, other_mean=None, other_log_var=None, log_weights=None):
    """log_mean_overlap, from its definition."""
    if other_mean is None:
        other_mean, other_log_var = mean, log_var
    if log_weights is None:
        log_weights = mean.new_full((len(other_mean),), -math.log(len(other_mean)))
    return torch.logsumexp(log_overlaps(mean, log_var, other_mean, other_log_var) + log_weights, 1)


def twin_with_constants(
    mean, log_var, other_mean, other_log_var, log_weights, start, log_shares=None
):
    """The value, and a surrogate that has its gradient and that of the shares."""
    log_overlap = log_overlaps(mean, log_var, other_mean, other_log_var)
    value = torch.logaddexp(start, torch.logsumexp(log_overlap + log_weights, dim=1))
    if log_shares is None:
        return value, value
    shares = (log_overlap + log_shares).exp().clamp(max=1).detach()
    return value, value + (shares * log_overlap).sum(dim=1)


def test_twin_is_made_of_densities(make_posterior):
    rows, columns = make_posterior(3, 2), make_posterior(4, 2)
    for i, j in itertools.product(range(3), range(4)):
        covariance = np.diag(rows.log_var[i].exp() + columns.log_var[j].exp())
        density = multivariate_normal(columns.mean[j], covariance).logpdf(rows.mean[i])
        assert float(log_overlaps(*rows, *columns)[i, j]) == pytest.approx(density, rel=1e-13)


# what goes in and what comes out --------------------------------------------------------------


def overlapping(generator, n, k):
    mean, log_var = torch.randn(2, n, k, generator=generator)
    return 0.3 + 1.2 * mean, 0.8 * log_var - 0.7


def apart(generator, n, k):
    mean, log_var = torch.randn(2, n, k, generator=generator)
    return 3 * mean, log_var - 1


def wide(generator, n, k):
    """Posteriors far apart and near, of very unequal widths."""
    mean, log_var = torch.rand(2, n, k, generator=generator)
    return 200 * mean - 100, 18 * log_var - 12


def extreme(generator, n, k):
    mean, log_var = torch.rand(2, n, k, generator=generator)
    return 2e4 * mean - 1e4, 30 * log_var - 20


def clustered(generator, n, k):
    """Forty clusters that see nothing of each other, their centres the same at each call."""
    centre = 30 * torch.randn(40, k, generator=torch.Generator().manual_seed(1))
    mean, log_var = torch.randn(2, n, k, generator=generator)
    return centre.repeat(n // 40 + 1, 1)[:n] + mean, 0.3 * log_var


@functools.cache
def arguments(case, draw, m, k, a=23, seed=0):
    """Arguments of log_mean_overlap, and how many of them want a gradient; exact in float32."""
    generator = torch.Generator().manual_seed(seed)
    given = [*draw(generator, m, k)]
    if "square" in case:
        a = m
    if "square" not in case or "constant" in case:
        given += draw(generator, a, k)
    elif case != "square":
        given += [None, None]
    if "weights" in case or "pairs" in case:
        shape = (a,) if "weights" in case else (m, a)
        given.append(torch.log_softmax(2 * torch.randn(shape, generator=generator), dim=-1))
    return given, 2 if "constant" in case else len(given)


def of_dtype(dtype, tensors):
    return [None if tensor is None else tensor.to(dtype) for tensor in tensors]


def leaves(tensors, n_free):
    """Copies, of which the first want a gradient."""
    return [
        None if tensor is None else tensor.clone().requires_grad_(i < n_free)
        for i, tensor in enumerate(tensors)
    ]


def value_and_gradients(function, tensors, n_free):
    tensors = leaves(tensors, n_free)
    value = function(*tensors)
    value, surrogate = value if isinstance(value, tuple) else (value, value)
    slope = torch.linspace(-1, 2, len(value)).to(surrogate)
    free = [tensor for tensor in tensors[:n_free] if tensor is not None]
    return value.detach(), *torch.autograd.grad((slope * surrogate).sum(), free)


@functools.cache
def expected(case, draw, m, k, a=23):
    tensors, n_free = arguments(case, draw, m, k, a)
    return value_and_gradients(twin, of_dtype(torch.float64, tensors), n_free)


def assert_agree(found, wanted, n_components, bar=None):
    """Within a share of values and norms; of 1 where gradients are next to nothing."""
    bar = bar or BARS[found[0].dtype]
    value, reference = found[0].double(), wanted[0]
    assert ((value - reference).abs() <= bar * (reference.abs() + n_components)).all()
    assert len(found) == len(wanted)
    for gradient, reference in zip(found[1:], wanted[1:], strict=True):
        assert gradient.dtype == found[0].dtype
        assert (gradient.double() - reference).norm() <= bar * (1 + reference.norm())


# values and gradients -------------------------------------------------------------------------


@each_path
@each_dtype
@each_case
@pytest.mark.parametrize("k", [1, 2, 16, 512])
def test_every_path_is_as_exact_as_its_dtype(path, dtype, case, k):
    for m in (1, 2, 70):
        tensors, n_free = arguments(case, wide, m, k)
        found = value_and_gradients(log_mean_overlap, of_dtype(dtype, tensors), n_free)
        assert found[0].dtype == dtype
        assert_agree(found, expected(case, wide, m, k), k)


@each_path
@each_case
@pytest.mark.parametrize("k", [1, 3, 9])
def test_every_path_is_exact_where_posteriors_overlap(path, case, k):
    tensors, n_free = arguments(case, overlapping, 12, k)
    tensors = of_dtype(torch.float64, tensors)
    found = value_and_gradients(log_mean_overlap, tensors, n_free)
    assert_agree(found, expected(case, overlapping, 12, k), k, bar=1e-13)


@each_dtype
@pytest.mark.parametrize("case", ["square", "pairs", "constants"])
@pytest.mark.parametrize("draw", [overlapping, apart])
@pytest.mark.parametrize("k", [3, 8])
def test_the_path_that_is_chosen_gives_the_same_numbers(dtype, case, draw, k):
    tensors, n_free = arguments(case, draw, 320, k, a=340)
    found = value_and_gradients(log_mean_overlap, of_dtype(dtype, tensors), n_free)
    assert_agree(found, expected(case, draw, 320, k, a=340), k)


@pytest.mark.parametrize(("m", "missing"), [(250, "_Overlap"), (260, "_plain")])
def test_few_pairs_take_the_plain_path(monkeypatch, make_posterior, m, missing):
    patch(monkeypatch, missing, None)
    mean, log_var = make_posterior(m, 4)
    log_mean_overlap(mean.requires_grad_(), log_var).sum().backward()


def test_columns_without_a_gradient_are_constants(monkeypatch, make_posterior):
    rows, columns = make_posterior(260, 4), make_posterior(260, 4)
    free = [tensor.clone().requires_grad_() for tensor in columns]
    wanted = log_mean_overlap(*rows, *free).detach()
    patch(monkeypatch, "_Overlap", None)
    torch.testing.assert_close(log_mean_overlap(*rows, *columns), wanted)
    with torch.no_grad():
        torch.testing.assert_close(log_mean_overlap(*rows, *free), wanted)


def large(generator, n, k):
    """Variances of which the product of any two is beyond float32."""
    mean, log_var = torch.rand(2, n, k, generator=generator)
    return 2 * mean - 1, 80 + log_var


def small(generator, n, k):
    mean, log_var = large(generator, n, k)
    return mean, -log_var


def large_and_small(generator, n, k):
    mean, log_var = large(generator, n, k)
    return mean, torch.where(mean < 0, -1.0, 1.0) * log_var


@each_path
@each_dtype
@each_case
@pytest.mark.parametrize("draw", [large, small, large_and_small])
def test_products_of_variances_stay_within_the_range_of_the_dtype(path, dtype, case, draw):
    tensors, _ = arguments(case, draw, 12, 7)
    value = log_mean_overlap(*of_dtype(dtype, tensors))
    assert_agree([value], [expected(case, draw, 12, 7)[0]], 7)


@pytest.fixture
def gathered(monkeypatch):
    """A list, to which the numbers of pairs are added that are gathered."""
    numbers = []
    pair_differences = _sides.pair_differences

    def counted(i, *rest):
        numbers.append(len(i))
        return pair_differences(i, *rest)

    patch(monkeypatch, "pair_differences", counted)
    return numbers


@pytest.mark.parametrize("case", ["square", "columns", "constants"])
def test_pairs_are_gathered_where_few_matter(gathered, case):
    for draw in (overlapping, clustered):
        tensors, n_free = arguments(case, draw, 300, 6, a=300)
        value_and_gradients(log_mean_overlap, tensors, n_free)
        assert bool(gathered) == (draw is clustered)
    assert 300 <= sum(gathered) < 0.04 * 300 * 300


@each_path
@each_case
def test_every_path_passes_gradcheck(path, case):
    tensors, n_free = arguments(case, overlapping, 4, 3, a=5)
    tensors = leaves(of_dtype(torch.float64, tensors), n_free)
    assert torch.autograd.gradcheck(log_mean_overlap, tensors)


def set_tiles(monkeypatch, n_rows, n_columns):
    """Tiles of this many pairs in float64."""
    patch(monkeypatch, "_BLOCK_ROWS", n_rows)
    patch(monkeypatch, "TILE", 2 * n_rows * n_columns)


@each_tile_path
@each_case
@pytest.mark.parametrize(
    ("n_rows", "n_columns"), [(1, 1), (1, 23), (3, 5), (7, 7), (7, 23), (20, 23)]
)
def test_numbers_do_not_depend_on_the_size_of_tiles(monkeypatch, path, case, n_rows, n_columns):
    m, k = 20, 3
    tensors, n_free = arguments(case, overlapping, m, k)
    set_tiles(monkeypatch, n_rows, min(n_columns, m) if case in SQUARE else n_columns)
    for bounded in (n_rows * n_columns, ALL):
        patch(monkeypatch, "BOUNDED_PAIRS", bounded)
        found = value_and_gradients(log_mean_overlap, of_dtype(torch.float64, tensors), n_free)
        assert_agree(found, expected(case, overlapping, m, k), k, bar=1e-13)


@each_path
@each_dtype
@pytest.mark.parametrize("case", SQUARE)
def test_rows_among_themselves_are_rows_among_copies_of_them(monkeypatch, path, dtype, case):
    m, k = 20, 3
    set_tiles(monkeypatch, 7, 9)
    tensors, _ = arguments(case, overlapping, m, k)
    mean, log_var, *rest = of_dtype(dtype, tensors)
    found = value_and_gradients(log_mean_overlap, [mean, log_var, *rest], 5)
    copies = [mean, log_var, mean, log_var, *rest[2:]]
    value, *gradients = value_and_gradients(log_mean_overlap, copies, 5)
    total = [gradients[0] + gradients[2], gradients[1] + gradients[3], *gradients[4:]]
    assert_agree(found, of_dtype(torch.float64, [value, *total]), k, bar=0.1 * BARS[dtype])


# what the arguments may be --------------------------------------------------------------------


def check_finite(dtype, case, m, k, seed, points=False):
    tensors, n_free = arguments(case, extreme, m, k, seed=seed)
    tensors = of_dtype(dtype, tensors)
    if points:
        tensors[1] = torch.full_like(tensors[1], -math.inf)
    if case == "weights":
        tensors[4] = tensors[4].index_fill(0, torch.tensor([0, 9]), -math.inf)
    found = value_and_gradients(log_mean_overlap, tensors, n_free)
    assert all(torch.isfinite(tensor).all() for tensor in found)


@each_path
@each_dtype
@pytest.mark.parametrize("case", ["square", "columns", "weights", "constants"])
@pytest.mark.parametrize("k", [1, 2, 16])
def test_value_and_gradient_are_finite(path, dtype, case, k):
    for m, seed in [(1, 0), (2, 1), (50, 2), (50, 3)]:
        check_finite(dtype, case, m, k, seed)
        if case != "square":
            check_finite(dtype, case, m, k, seed, points=True)


@each_path
def test_overlap_of_points_is_the_density_of_the_columns(path, make_posterior):
    columns = make_posterior(4, 2)
    z = make_posterior(6, 2).mean
    value = log_mean_overlap(z, torch.full_like(z, -math.inf), *columns)
    mean, log_var = (tensor.numpy() for tensor in columns)
    densities = [
        multivariate_normal(m, np.diag(np.exp(v))).pdf(z.numpy())
        for m, v in zip(mean, log_var, strict=True)
    ]
    np.testing.assert_allclose(value.numpy(), np.log(np.mean(densities, axis=0)), rtol=1e-12)


@each_path
def test_columns_of_no_weight_do_not_count(path):
    (mean, log_var, *columns), _ = arguments("columns", overlapping, 4, 3, a=6)
    log_weights = torch.log_softmax(torch.tensor([0.0, 1.0, -1.0, 0.0]), dim=0)
    masked = torch.cat([log_weights, torch.full((2,), -math.inf)])
    tensors = of_dtype(torch.float64, [mean, log_var, *columns, masked])
    found = value_and_gradients(log_mean_overlap, tensors, 5)
    kept = of_dtype(torch.float64, [mean, log_var, *(c[:4] for c in columns), log_weights])
    wanted = value_and_gradients(twin, kept, 5)
    assert_agree([tensor[:4] for tensor in found], wanted, 3)
    assert all((gradient[4:] == 0).all() for gradient in found[3:])


@each_path
@each_case
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_half_precision_is_taken_to_single(path, dtype, case):
    tensors, n_free = arguments(case, overlapping, 9, 6)
    tensors = of_dtype(dtype, tensors)
    value, *gradients = value_and_gradients(log_mean_overlap, tensors, n_free)
    single = of_dtype(torch.float32, tensors)
    expected_value, *expected_gradients = value_and_gradients(log_mean_overlap, single, n_free)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected_value)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        assert torch.equal(gradient, wanted.to(dtype))


@each_path
@each_case
@each_dtype
def test_autocast_changes_nothing(path, case, dtype):
    tensors, n_free = arguments(case, wide, 20, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = value_and_gradients(log_mean_overlap, of_dtype(dtype, tensors), n_free)
    assert found[0].dtype == dtype
    assert_agree(found, expected(case, wide, 20, 8), 8)


@each_path
@each_case
def test_default_device_of_torch_does_not_matter(path, case):
    def elsewhere(*tensors):
        with torch.device("meta"):
            return log_mean_overlap(*tensors)

    tensors, n_free = arguments(case, wide, 20, 8)
    found = value_and_gradients(elsewhere, tensors, n_free)
    assert_agree(found, expected(case, wide, 20, 8), 8)


@each_path
def test_weights_take_the_precision_of_the_rows(path):
    tensors, n_free = arguments("weights", overlapping, 9, 6)
    *rest, log_weights = tensors
    found = value_and_gradients(log_mean_overlap, [*rest, log_weights.double()], n_free)
    wanted = value_and_gradients(log_mean_overlap, tensors, n_free)
    assert found[0].dtype == torch.float32
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one.float(), other)


@each_path
@pytest.mark.parametrize("wanted", range(5))
def test_each_gradient_is_found_alone(path, wanted):
    tensors = of_dtype(torch.float64, arguments("pairs", overlapping, 6, 3)[0])
    tensors[wanted].requires_grad_()
    found, reference = (
        torch.autograd.grad(function(*tensors)[1:].sum(), tensors[wanted])[0]
        for function in (log_mean_overlap, twin)
    )
    torch.testing.assert_close(found, reference, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mean": torch.zeros(3)}, r"mean must have shape \(M, K\).* Got \(3,\)"),
        ({"mean": torch.zeros(0, 2)}, r"mean must have shape .* Got \(0, 2\)"),
        ({"log_var": torch.zeros(3, 1)}, r"log_var must have .*\(3, 2\). Got \(3, 1\)"),
        ({"other_mean": None}, "other_mean and other_log_var .* Got other_mean=None"),
        ({"other_log_var": None}, "other_mean and other_log_var .* Got other_log_var=None"),
        ({"other_mean": torch.zeros(4, 3)}, r"other_mean must have shape \(A, 2\).* Got \(4, 3\)"),
        ({"other_mean": torch.zeros(0, 2)}, r"other_mean must have shape .* Got \(0, 2\)"),
        ({"other_log_var": torch.zeros(5, 2)}, r"other_log_var must .*\(4, 2\). Got \(5, 2\)"),
        ({"log_weights": torch.zeros(3)}, r"log_weights must .*\(4,\) or \(3, 4\). Got \(3,\)"),
        ({"log_weights": torch.zeros(4, 3)}, r"log_weights must .*\(3, 4\). Got \(4, 3\)"),
    ],
)
def test_overlap_refuses_shapes_that_do_not_fit(arguments, message):
    fitting = {
        "mean": torch.zeros(3, 2),
        "log_var": torch.zeros(3, 2),
        "other_mean": torch.zeros(4, 2),
        "other_log_var": torch.zeros(4, 2),
    }
    with pytest.raises(ValueError, match=message):
        log_mean_overlap(**{**fitting, **arguments})


# constant columns on top of a start -----------------------------------------------------------


def outliers(generator, n, k):
    """Some posteriors much wider and some much narrower than the others."""
    mean, log_var = apart(generator, n, k)
    log_var[::7], log_var[1::7] = 8.0, -15.0
    return mean, log_var


def shifted(generator, n, k):
    mean, log_var = apart(generator, n, k)
    return mean + 1e3, log_var


def identical(generator, n, k):
    mean, log_var = apart(generator, 1, k)
    return mean.repeat(n, 1), log_var.repeat(n, 1)


def doubled(generator, n, k):
    half = apart(generator, (n + 1) // 2, k)
    return [torch.cat([tensor, tensor])[:n] for tensor in half]


DRAWS = [overlapping, apart, outliers, shifted, identical, doubled, clustered]


@functools.cache
def constants(draw, m, a, k, by_row=False):
    """Rows, start, columns, weights and shares: exact in float32."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = draw(generator, m, k), draw(generator, a, k)
    shape = (m, a) if by_row else (a,)
    log_weights = torch.log_softmax(torch.randn(shape, generator=generator), dim=-1)
    exact = of_dtype(torch.float64, [*rows, *columns])
    start = twin(*exact[:2]) + torch.randn(m, generator=generator)
    log_shares = log_weights.reshape(-1, a)[0] - twin(*exact[2:]) + 2
    return rows, start.float(), columns, log_weights, log_shares.float()


def check_constants(given, dtype, k, slope, log_shares=True, bar=None):
    """Value, and gradients by each row's value, against those of the twin."""
    rows, start, columns, log_weights, shares = given
    tensors = [*rows, *columns, log_weights, start, shares if log_shares else None]

    def results(function, dtype, slope):
        *numbers, start, shares = of_dtype(dtype, tensors)
        free = leaves([*numbers[:2], start], 3)
        value = function(*free[:2], *numbers[2:], free[2], shares)
        value, surrogate = value if isinstance(value, tuple) else (value, value)
        gradients = torch.autograd.grad((slope.to(dtype) * surrogate).sum(), free)
        return value.detach(), *gradients

    value, *gradients = results(log_mean_overlap_with_constants, dtype, slope)
    assert value.dtype == dtype
    by_value = [torch.einsum("i..., i -> i...", g, 1 / slope.to(dtype)) for g in gradients]
    wanted = results(twin_with_constants, torch.float64, torch.ones_like(slope))
    assert_agree([value, *by_value], wanted, k, bar)


EVEN = torch.ones(20)
UNEVEN = 10.0 ** torch.linspace(-6, 6, 20)


@each_constant_path
@each_dtype
@pytest.mark.parametrize("draw", [overlapping, apart])
@pytest.mark.parametrize("slope", [EVEN, UNEVEN], ids=["even", "uneven"])
@pytest.mark.parametrize("k", [1, 6])
def test_constants_give_value_and_gradient(constant_path, dtype, draw, slope, k):
    check_constants(constants(draw, 20, 60, k), dtype, k, slope, log_shares=False)


@each_tile_path
@each_dtype
@pytest.mark.parametrize("draw", [overlapping, apart])
@pytest.mark.parametrize("k", [1, 6])
def test_constants_may_have_weights_by_row(path, dtype, draw, k):
    check_constants(constants(draw, 20, 60, k, by_row=True), dtype, k, UNEVEN, log_shares=False)


@each_constant_path
@each_dtype
@pytest.mark.parametrize("draw", [overlapping, apart])
@pytest.mark.parametrize("slope", [EVEN, UNEVEN], ids=["even", "uneven"])
@pytest.mark.parametrize("shift", [-10.0, 0.0, 3.0])
@pytest.mark.parametrize("k", [1, 6])
def test_constants_add_the_gradient_of_their_own_rows(constant_path, dtype, draw, slope, shift, k):
    *given, log_shares = constants(draw, 20, 60, k)
    check_constants((*given, log_shares + shift), dtype, k, slope)


def test_limit_of_the_shares_is_met():
    for draw in (overlapping, apart):
        rows, _, columns, _, log_shares = constants(draw, 20, 60, 6)
        shares = (log_overlaps(*rows, *columns) + log_shares + 3).exp()
        assert (shares > 1).any()
        assert (shares < 1).any()


@each_constant_path
def test_constants_without_shares_are_those_of_shares_nought(constant_path):
    rows, start, columns, log_weights, log_shares = constants(apart, 20, 60, 6)
    given = rows, start, columns, log_weights, torch.full_like(log_shares, -math.inf)
    check_constants(given, torch.float64, 6, EVEN)


@each_constant_path
def test_constants_pass_gradcheck(constant_path):
    rows, start, columns, log_weights, _ = constants(overlapping, 4, 6, 5)
    columns_and_weights = of_dtype(torch.float64, [*columns, log_weights])

    def value(mean, log_var, start):
        return log_mean_overlap_with_constants(mean, log_var, *columns_and_weights, start)

    assert torch.autograd.gradcheck(value, leaves(of_dtype(torch.float64, [*rows, start]), 3))


@each_tile_path
@pytest.mark.parametrize("wanted", ["mean", "log_var", "start"])
def test_constants_give_each_gradient_alone(path, wanted):
    rows, start, columns, log_weights, _ = constants(overlapping, 4, 6, 5)
    numbers = dict(zip(["mean", "log_var", "start"], (*rows, start), strict=True))
    rest = dict(zip(["other_mean", "other_log_var"], columns, strict=True))
    alone, together = {**numbers}, {k: v.clone().requires_grad_() for k, v in numbers.items()}
    alone[wanted] = numbers[wanted].clone().requires_grad_()
    for given in (alone, together):
        value = log_mean_overlap_with_constants(**given, **rest, log_weights=log_weights)
        value.sum().backward()
    torch.testing.assert_close(alone[wanted].grad, together[wanted].grad)


@each_dtype
@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("log_shares", [False, True], ids=["", "shares"])
@pytest.mark.parametrize("k", [6, 20])
def test_pairs_left_out_do_not_matter(monkeypatch, dtype, draw, log_shares, k):
    patch(monkeypatch, "SPARSE_SHARE", 1.0)
    bar = BARS[dtype] if dtype == torch.float32 else 1e-13
    rows, start, *rest = constants(draw, 20, 300, k)
    raised = start + 40 * (torch.arange(20) % 2)  # of these rows only the shares matter
    check_constants((rows, raised, *rest), dtype, k, EVEN, log_shares, bar=bar)


def found_and_above(rows, columns, log_weights, log_shares, result):
    """Which pairs are found, and the logarithms by which they are above what is lost."""
    constants = _sides.Constants(_sides.Side.of(*columns), log_weights, log_shares)
    features = _pairs.features_of(constants)
    i, j = _pairs._pairs_that_may_matter(_sides.Side.of(*rows), constants, features, result)
    assert torch.equal(i, i.sort().values)
    log_overlap = log_overlaps(*rows, *columns)
    found = torch.zeros_like(log_overlap, dtype=torch.bool)
    found[i, j] = True
    above = log_overlap + log_weights - result[:, None]
    if log_shares is not None:
        above = torch.maximum(above, log_overlap + log_shares)
    return found, above - math.log(1e-3 * torch.finfo(torch.float64).eps)


@pytest.mark.parametrize("log_shares", [False, True], ids=["", "shares"])
@pytest.mark.parametrize("k", [5, 12])
def test_where_variances_are_equal_only_pairs_that_matter_are_found(monkeypatch, log_shares, k):
    """The bound, which holds for any variances, is the overlap itself there."""
    patch(monkeypatch, "SPARSE_SHARE", 1.0)
    generator = torch.Generator().manual_seed(2)
    log_var = torch.linspace(-3, 1, k, dtype=torch.float64)
    spread = 6 * (0.5 * log_var).exp()
    means = [0.7 + spread * torch.randn(n, k, generator=generator).double() for n in (40, 90)]
    rows, columns = ([mean, log_var.expand_as(mean)] for mean in means)
    log_weights = torch.log_softmax(4 * torch.randn(90, generator=generator).double(), dim=0)
    shares = 3 * torch.randn(90, generator=generator).double() if log_shares else None
    result = twin(*rows, *columns, log_weights) + torch.randn(40, generator=generator)
    found, above = found_and_above(rows, columns, log_weights, shares, result)
    assert above.abs().min() > 1e-6
    assert torch.equal(found, above > 0)
    assert 0.05 < found.double().mean() < 0.95


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("log_shares", [False, True], ids=["", "shares"])
@pytest.mark.parametrize("k", [6, 20])
def test_pairs_that_matter_are_found(monkeypatch, draw, log_shares, k):
    patch(monkeypatch, "SPARSE_SHARE", 1.0)
    rows, start, columns, *weights = constants(draw, 20, 300, k)
    rows, columns = of_dtype(torch.float64, rows), of_dtype(torch.float64, columns)
    start, log_weights, shares = of_dtype(torch.float64, [start, *weights])
    found, above = found_and_above(
        rows, columns, log_weights, shares if log_shares else None, start
    )
    assert found[above > 0].all()


@each_dtype
@pytest.mark.parametrize("log_shares", [False, True], ids=["", "shares"])
@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_most_pairs_of_clusters_are_left_out(monkeypatch, gathered, dtype, log_shares, shift):
    patch(monkeypatch, "sum_over_tiles", None)
    rows, start, columns, *weights = constants(clustered, 20, 300, 6)
    rows, columns = ([mean + shift, log_var] for mean, log_var in (rows, columns))
    check_constants((rows, start, columns, *weights), dtype, 6, EVEN, log_shares)
    assert 20 <= sum(gathered) < 0.04 * 20 * 300


@each_dtype
@pytest.mark.parametrize("shares", [False, True], ids=["", "shares"])
def test_pairs_are_found_as_exactly_under_autocast(monkeypatch, dtype, shares):
    patch(monkeypatch, "sum_over_tiles", None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        check_constants(constants(clustered, 20, 300, 6), dtype, 6, EVEN, shares)


@each_tile_path
@each_dtype
def test_rows_of_constants_may_be_points(path, dtype):
    (mean, log_var), *rest = constants(apart, 20, 60, 6)
    points = torch.full_like(log_var, -math.inf)
    check_constants(((mean, points), *rest), dtype, 6, EVEN)


def far_below(start):
    return start - 100


def nothing(start):
    return torch.full_like(start, -math.inf)


@each_tile_path
@each_dtype
@pytest.mark.parametrize("change", [far_below, nothing])
def test_start_may_be_far_below_the_sum(path, dtype, change):
    rows, start, *rest = constants(overlapping, 20, 60, 6)
    check_constants((rows, change(start), *rest), dtype, 6, EVEN)


@each_tile_path
@each_dtype
def test_constants_of_no_weight_are_left_out(path, dtype):
    rows, start, columns, log_weights, log_shares = constants(apart, 20, 60, 6)
    log_weights, log_shares = log_weights.clone(), log_shares.clone()
    log_weights[::2] = log_shares[::2] = -math.inf
    check_constants((rows, start, columns, log_weights, log_shares), dtype, 6, EVEN)


@each_tile_path
@each_dtype
@pytest.mark.parametrize("by_row", [False, True], ids=["", "by row"])
def test_start_is_all_that_is_left_without_constants(path, dtype, by_row):
    rows, start, columns, log_weights, _ = constants(apart, 20, 60, 6, by_row)
    *numbers, start = of_dtype(dtype, [*rows, *columns, start])
    free = leaves([*numbers[:2], start], 3)
    nothing = torch.full_like(log_weights, -math.inf).to(dtype)
    value = log_mean_overlap_with_constants(*free[:2], *numbers[2:], nothing, free[2])
    value.sum().backward()
    assert torch.equal(value, start)
    assert [float(tensor.grad.abs().sum()) for tensor in free] == [0, 0, len(start)]


@each_constant_path
@pytest.mark.parametrize("rows_a_block", [1, 7, 20])
def test_constants_do_not_depend_on_the_size_of_blocks(monkeypatch, constant_path, rows_a_block):
    set_tiles(monkeypatch, rows_a_block, 60)
    for bounded in (60 * rows_a_block, ALL):
        patch(monkeypatch, "BOUNDED_PAIRS", bounded)
        for by_row in (False, True)[: 1 if constant_path == "pairs" else 2]:
            given = constants(apart, 20, 60, 6, by_row)
            check_constants(given, torch.float64, 6, UNEVEN)


@each_tile_path
@each_dtype
@pytest.mark.parametrize("points", [False, True], ids=["", "points"])
@pytest.mark.parametrize("k", [1, 8])
def test_constants_give_finite_numbers(path, dtype, points, k):
    rows, start, columns, log_weights, log_shares = constants(extreme, 50, 60, k)
    rows, columns = of_dtype(dtype, rows), of_dtype(dtype, columns)
    if points:
        rows[1] = torch.full_like(rows[1], -math.inf)
    weights = of_dtype(dtype, [log_weights, start, log_shares])
    mean, log_var = leaves(rows, 2)
    value = log_mean_overlap_with_constants(mean, log_var, *columns, *weights)
    value.sum().backward()
    assert all(torch.isfinite(tensor).all() for tensor in (value, mean.grad, log_var.grad))


# rows among themselves and with constants -----------------------------------------------------

LOG_SELF, LOG_OTHERS = -3.0, -1.5


def twin_among(mean, log_var, *constants_given):
    """Mean and rows of mean_row_overlap, and the surrogate that has its gradient."""
    within = mean.new_full((len(mean), len(mean)), LOG_OTHERS)
    within.fill_diagonal_(LOG_SELF)
    start = twin(mean, log_var, log_weights=within)
    if len(constants_given[0]) == 0:
        return start.mean(), start, start.mean()
    *columns, log_weights, log_shares = constants_given
    rows, surrogate = twin_with_constants(mean, log_var, *columns, log_weights, start, log_shares)
    return rows.mean(), rows, surrogate.mean()


def check_among(given, dtype, bar=None):
    """Mean, rows and gradients of the mean against those of the twin."""
    bar = bar or BARS[dtype]

    def results(function, dtype, *arguments):
        *numbers, log_shares = of_dtype(dtype, given)
        free = leaves(numbers[:2], 2)
        value, rows, *surrogate = function(*free, *arguments, *numbers[2:], log_shares)
        gradients = torch.autograd.grad(3 * (surrogate or [value])[0], free)
        return value.detach(), rows.detach(), *gradients

    found = results(mean_row_overlap, dtype, LOG_SELF, torch.tensor(LOG_OTHERS, dtype=dtype))
    wanted = results(twin_among, torch.float64)
    k = given[0].shape[1]
    assert abs(found[0].double() - wanted[0]) <= bar * (abs(wanted[0]) + k)
    assert found[0].dtype == dtype
    assert_agree(found[1:], wanted[1:], k, bar)


def among(draw, m, a, k, log_shares=True):
    rows, _, columns, log_weights, shares = constants(draw, m, max(a, 1), k)
    return [
        *rows,
        *(column[:a] for column in columns),
        log_weights[:a],
        shares[:a] if log_shares else None,
    ]


@each_constant_path
@each_dtype
@pytest.mark.parametrize("draw", [overlapping, apart])
@pytest.mark.parametrize("log_shares", [False, True], ids=["", "shares"])
@pytest.mark.parametrize("k", [1, 6])
def test_rows_meet_themselves_and_constants(constant_path, dtype, draw, log_shares, k):
    check_among(among(draw, 20, 60, k, log_shares), dtype)


@each_constant_path
@pytest.mark.parametrize(("m", "a"), [(1, 1), (1, 60), (20, 1), (20, 0)])
def test_rows_meet_few(constant_path, m, a):
    check_among(among(apart, m, a, 6), torch.float64)


@each_constant_path
@pytest.mark.parametrize("rows_a_block", [1, 7, 20])
def test_rows_and_constants_do_not_depend_on_the_size_of_blocks(
    monkeypatch, constant_path, rows_a_block
):
    set_tiles(monkeypatch, rows_a_block, 80)
    for bounded in (80 * rows_a_block, ALL):
        patch(monkeypatch, "BOUNDED_PAIRS", bounded)
        check_among(among(apart, 20, 60, 6), torch.float64)


@each_dtype
@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("k", [6, 20])
def test_pairs_left_out_among_rows_do_not_matter(monkeypatch, dtype, draw, k):
    patch(monkeypatch, "SPARSE_SHARE", 1.0)
    bar = BARS[dtype] if dtype == torch.float32 else 1e-13
    check_among(among(draw, 60, 300, k), dtype, bar)


@each_dtype
def test_most_pairs_are_left_out_among_rows(monkeypatch, gathered, dtype):
    for name in ("_Overlap", "_RowOverlap", "_plain"):
        patch(monkeypatch, name, None)
    check_among(among(clustered, 200, 300, 6), dtype)
    assert 200 <= sum(gathered) < 0.04 * 200 * 500


@each_constant_path
def test_rows_and_constants_pass_gradcheck(constant_path):
    mean, log_var, *columns, log_weights, _ = of_dtype(torch.float64, among(overlapping, 4, 6, 5))

    def value(mean, log_var):
        others = torch.tensor(LOG_OTHERS, dtype=mean.dtype)
        return mean_row_overlap(mean, log_var, LOG_SELF, others, *columns, log_weights)[0]

    assert torch.autograd.gradcheck(value, leaves([mean, log_var], 2))


@each_dtype
def test_rows_and_constants_give_finite_numbers(dtype):
    mean, log_var, *rest = of_dtype(dtype, among(extreme, 50, 60, 8))
    mean, log_var = leaves([mean, log_var], 2)
    value, rows = mean_row_overlap(mean, log_var, LOG_SELF, torch.tensor(LOG_OTHERS), *rest)
    value.backward()
    assert all(torch.isfinite(tensor).all() for tensor in (rows, mean.grad, log_var.grad))


# memory ---------------------------------------------------------------------------------------

PEAK = """
import torch
from sklearn_wiseale.objectives import log_mean_overlap

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

def use(n):
    mean, log_var = (torch.randn(n, 8, requires_grad=True) for _ in range(2))
    log_mean_overlap(mean, log_var).sum().backward()

torch.set_num_threads(1)
use(300)
before = peak()
use(4096)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_pairs():
    # one matrix of all pairs would take 64 MiB
    command = [sys.executable, "-c", PEAK]
    root = Path(sklearn_wiseale.__file__).parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 60_000  # KiB
