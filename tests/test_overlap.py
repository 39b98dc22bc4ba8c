"""Laws of the overlaps: the same numbers by every path, exact, finite, and in little memory.

The dense formula of ``references.py`` is computed in float64.
"""

import contextlib
import functools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from references import all_finite, dense_log_overlaps
from scipy.stats import multivariate_normal

import sklearn_wiseale
from sklearn_wiseale.objectives import log_mean_overlap
from sklearn_wiseale.objectives._overlap.function import compute_log_mean_overlap

PATHS = ["dense", "tiled", "sparse"]
#: Paths that take a start.
TILED_PATHS = ["tiled", "sparse"]
DTYPES = [torch.float32, torch.float64]
BARS = {torch.float32: 1e-5, torch.float64: 1e-10}
#: Columns are the rows, or others; with weights for each, or for each pair; or constants.
SQUARE = ["square", "square weights", "square pairs"]
FREE = ["columns", "weights", "pairs"]
CASES = [*SQUARE, *FREE, "constants", "constant pairs"]

each_path = pytest.mark.parametrize("path", PATHS)
each_tiled_path = pytest.mark.parametrize("path", TILED_PATHS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])
each_case = pytest.mark.parametrize("case", CASES)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tensors are small here: threads would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def by(path):
    """log_mean_overlap by one of its paths."""
    return functools.partial(compute_log_mean_overlap, path=path)


# dense formulas -------------------------------------------------------------------------------


def twin(mean, log_var, other_mean=None, other_log_var=None, log_weights=None):
    """log_mean_overlap, from its definition."""
    if other_mean is None:
        other_mean, other_log_var = mean, log_var
    if log_weights is None:
        log_weights = mean.new_full((len(other_mean),), -math.log(len(other_mean)))
    log_overlap = dense_log_overlaps(mean, log_var, other_mean, other_log_var)
    return torch.logsumexp(log_overlap + log_weights, dim=1)


def twin_with_start(
    mean, log_var, other_mean, other_log_var, log_weights, start, log_column_weights=None
):
    """The value, and a surrogate that has its gradient and that of the column weights."""
    log_overlap = dense_log_overlaps(mean, log_var, other_mean, other_log_var)
    value = torch.logaddexp(start, torch.logsumexp(log_overlap + log_weights, dim=1))
    if log_column_weights is None:
        return value, value
    shares = (log_overlap + log_column_weights).exp().clamp(max=1).detach()
    return value, value + (shares * log_overlap).sum(dim=1)


# arguments and results ------------------------------------------------------------------------


def drawn(distribution, mean_scale, mean_shift, log_var_scale, log_var_shift):
    """A function that draws n posteriors of k components."""

    def draw(generator, n, k):
        mean, log_var = distribution(2, n, k, generator=generator)
        return mean_scale * mean + mean_shift, log_var_scale * log_var + log_var_shift

    return draw


overlapping = drawn(torch.randn, 1.2, 0.3, 0.8, -0.7)
apart = drawn(torch.randn, 3, 0, 1, -1)
shifted = drawn(torch.randn, 3, 1e3, 1, -1)
#: far apart and near, of very unequal widths
wide = drawn(torch.rand, 200, -100, 18, -12)
extreme = drawn(torch.rand, 2e4, -1e4, 30, -20)
#: variances of which the product of any two is beyond float32
large = drawn(torch.rand, 2, -1, 1, 80)
small = drawn(torch.rand, 2, -1, -1, -80)


def large_and_small(generator, n, k):
    mean, log_var = large(generator, n, k)
    return mean, torch.where(mean < 0, -1.0, 1.0) * log_var


def outliers(generator, n, k):
    """Some posteriors much wider and some much narrower than the others."""
    mean, log_var = apart(generator, n, k)
    log_var[::7], log_var[1::7] = 8.0, -15.0
    return mean, log_var


def identical(generator, n, k):
    return [part.repeat(n, 1) for part in apart(generator, 1, k)]


def doubled(generator, n, k):
    return [torch.cat([part, part])[:n] for part in apart(generator, (n + 1) // 2, k)]


def clustered(generator, n, k):
    """Forty clusters that do not overlap, their centres the same at each call."""
    centre = 30 * torch.randn(40, k, generator=torch.Generator().manual_seed(1))
    mean, log_var = torch.randn(2, n, k, generator=generator)
    return centre.repeat(n // 40 + 1, 1)[:n] + mean, 0.3 * log_var


def clustered_far_away(generator, n, k):
    mean, log_var = clustered(generator, n, k)
    return mean + 1e3, log_var


@functools.cache
def arguments(case, draw, m, k, a=23, seed=0):
    """Arguments of log_mean_overlap, and how many of them need a gradient; exact in float32."""
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
    """Copies, of which the first need a gradient."""
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


def check(
    path, case, draw, m, k, a=23, dtype=torch.float64, bar=None, context=contextlib.nullcontext
):
    """Value and gradients against those of the dense formula."""
    tensors, n_free = arguments(case, draw, m, k, a)

    def function(*tensors):
        with context():
            return by(path)(*tensors)

    found = value_and_gradients(function, of_dtype(dtype, tensors), n_free)
    assert found[0].dtype == dtype
    assert_agree(found, expected(case, draw, m, k, a), k, bar)


@each_path
@each_dtype
@each_case
@pytest.mark.parametrize("k", [1, 2, 16, 512])
def test_every_path_is_as_exact_as_its_dtype(path, dtype, case, k):
    for m in (1, 2, 70):
        check(path, case, wide, m, k, dtype=dtype)


@each_path
@each_case
@pytest.mark.parametrize("k", [1, 3, 9])
def test_every_path_is_exact_where_posteriors_overlap(path, case, k):
    check(path, case, overlapping, 12, k, bar=1e-13)


@pytest.mark.parametrize("path", ["auto", *TILED_PATHS])
@each_dtype
@pytest.mark.parametrize("case", ["square", "pairs", "constants"])
@pytest.mark.parametrize("draw", [overlapping, apart])
@pytest.mark.parametrize("k", [3, 8])
def test_results_do_not_depend_on_the_number_of_tiles(path, dtype, case, draw, k):
    """The pairs are searched in tiles of 2**18 numbers in float32."""
    check(path, case, draw, 520, k, 540, dtype)


@each_tiled_path
@each_case
@pytest.mark.parametrize(("m", "a", "k"), [(9, 10, 2**11), (4, 5, 2**14), (2, 2, 2**17)])
def test_results_do_not_depend_on_the_size_of_tiles(path, case, m, a, k):
    """With so many components a tile has 64, 8 or one of the pairs."""
    check(path, case, overlapping, m, k, a)


@each_path
@each_case
@each_dtype
@pytest.mark.parametrize(
    "context",
    [lambda: torch.autocast("cpu", dtype=torch.bfloat16), lambda: torch.device("meta")],
    ids=["autocast", "device"],
)
def test_settings_of_torch_do_not_matter(path, case, dtype, context):
    check(path, case, wide, 20, 8, dtype=dtype, context=context)


@pytest.mark.parametrize(
    ("draw", "m", "k", "path"),
    [
        (overlapping, 60, 4, "dense"),
        (overlapping, 300, 4, "tiled"),
        (clustered, 300, 4, "tiled"),
        (clustered, 200, 6, "tiled"),
        (clustered, 300, 6, "sparse"),
        (clustered_far_away, 300, 6, "sparse"),
    ],
)
def test_path_is_chosen_by_the_number_of_pairs_and_components(draw, m, k, path):
    tensors, n_free = arguments("square", draw, m, k)
    found = {p: value_and_gradients(by(p), tensors, n_free) for p in ("auto", *PATHS)}
    for other in PATHS:
        assert all(map(torch.equal, found["auto"], found[other])) == (other == path)


@pytest.mark.parametrize("path", ["auto", *TILED_PATHS])
def test_columns_without_a_gradient_give_the_same_values(path, make_posterior):
    rows, columns = make_posterior(260, 4), make_posterior(260, 4)
    free = [tensor.clone().requires_grad_() for tensor in columns]
    wanted = by(path)(*rows, *free).detach()
    torch.testing.assert_close(by(path)(*rows, *columns), wanted)
    with torch.no_grad():
        torch.testing.assert_close(by(path)(*rows, *free), wanted)


@each_path
@pytest.mark.parametrize("case", ["square", "pairs", "constants"])
def test_order_and_origin_do_not_matter(path, case):
    tensors, _ = arguments(case, overlapping, 12, 6)
    mean, log_var, other_mean, other_log_var, log_weights = of_dtype(
        torch.float64, [*tensors, None, None, None][:5]
    )
    wanted = by(path)(mean, log_var, other_mean, other_log_var, log_weights)
    generator = torch.Generator().manual_seed(3)
    order = torch.randperm(12, generator=generator)
    if other_mean is None:
        found = by(path)(mean[order] + 7, log_var[order])
    else:
        columns = torch.randperm(len(other_mean), generator=generator)
        if log_weights is not None:
            log_weights = log_weights[order][:, columns]
        others = other_mean[columns] + 7, other_log_var[columns]
        found = by(path)(mean[order] + 7, log_var[order], *others, log_weights)
    torch.testing.assert_close(found, wanted[order], rtol=1e-12, atol=1e-12)


@each_path
@each_dtype
@each_case
@pytest.mark.parametrize("draw", [large, small, large_and_small])
def test_products_of_variances_stay_within_the_range_of_the_dtype(path, dtype, case, draw):
    tensors, _ = arguments(case, draw, 12, 7)
    value = by(path)(*of_dtype(dtype, tensors))
    assert_agree([value], [expected(case, draw, 12, 7)[0]], 7)


@each_path
@each_case
def test_every_path_passes_gradcheck(path, case):
    tensors, n_free = arguments(case, overlapping, 4, 3, a=5)
    tensors = leaves(of_dtype(torch.float64, tensors), n_free)
    assert torch.autograd.gradcheck(by(path), tensors)


# what the arguments may be --------------------------------------------------------------------


@each_path
@each_dtype
@pytest.mark.parametrize("case", ["square", "columns", "weights", "constants"])
@pytest.mark.parametrize("k", [1, 2, 16])
@pytest.mark.parametrize("points", [False, True], ids=["", "points"])
def test_value_and_gradient_are_finite(path, dtype, case, k, points):
    for m, seed in [(1, 0), (2, 1), (50, 2), (50, 3)]:
        tensors, n_free = arguments(case, extreme, m, k, seed=seed)
        tensors = of_dtype(dtype, tensors)
        if points and case != "square":
            tensors[1] = torch.full_like(tensors[1], -math.inf)
        if case == "weights":
            tensors[4] = tensors[4].index_fill(0, torch.tensor([0, 9]), -math.inf)
        assert all_finite(value_and_gradients(by(path), tensors, n_free))


@each_path
def test_overlap_of_points_is_the_density_of_the_columns(path, make_posterior):
    columns = make_posterior(4, 2)
    z = make_posterior(6, 2).mean
    value = by(path)(z, torch.full_like(z, -math.inf), *columns)
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
    found = value_and_gradients(by(path), tensors, 5)
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
    value, *gradients = value_and_gradients(by(path), tensors, n_free)
    single = of_dtype(torch.float32, tensors)
    expected_value, *expected_gradients = value_and_gradients(by(path), single, n_free)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected_value)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        assert torch.equal(gradient, wanted.to(dtype))


@each_path
def test_weights_take_the_precision_of_the_rows(path):
    tensors, n_free = arguments("weights", overlapping, 9, 6)
    *rest, log_weights = tensors
    found = value_and_gradients(by(path), [*rest, log_weights.double()], n_free)
    wanted = value_and_gradients(by(path), tensors, n_free)
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
        for function in (by(path), twin)
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


DRAWS = [overlapping, apart, outliers, shifted, identical, doubled, clustered]


@functools.cache
def constants(draw, m, a, k, by_row=False):
    """Rows, start, columns, weights and column weights: exact in float32."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = draw(generator, m, k), draw(generator, a, k)
    shape = (m, a) if by_row else (a,)
    log_weights = torch.log_softmax(torch.randn(shape, generator=generator), dim=-1)
    exact = of_dtype(torch.float64, [*rows, *columns])
    start = twin(*exact[:2]) + torch.randn(m, generator=generator)
    log_column_weights = log_weights.reshape(-1, a)[0] - twin(*exact[2:]) + 2
    return rows, start.float(), columns, log_weights, log_column_weights.float()


def check_constants(path, given, dtype, slope=None, column_weights=True, bar=None):
    """Value, and gradients by each row's value, against those of the twin."""
    rows, start, columns, log_weights, log_column_weights = given
    slope = torch.ones(len(start)) if slope is None else slope
    last = log_column_weights if column_weights else None
    tensors = [*rows, *columns, log_weights, start, last]

    def results(function, dtype, slope):
        *numbers, start, last = of_dtype(dtype, tensors)
        free = leaves([*numbers[:2], start], 3)
        value = function(*free[:2], *numbers[2:], free[2], last)
        value, surrogate = value if isinstance(value, tuple) else (value, value)
        gradients = torch.autograd.grad((slope.to(dtype) * surrogate).sum(), free)
        return value.detach(), *gradients

    value, *gradients = results(by(path), dtype, slope)
    assert value.dtype == dtype
    by_value = [torch.einsum("i..., i -> i...", g, 1 / slope.to(dtype)) for g in gradients]
    wanted = results(twin_with_start, torch.float64, torch.ones_like(slope))
    assert_agree([value, *by_value], wanted, rows[0].shape[1], bar)


UNEVEN = 10.0 ** torch.linspace(-6, 6, 20)


@each_tiled_path
@each_dtype
@pytest.mark.parametrize("draw", [overlapping, apart])
@pytest.mark.parametrize("slope", [None, UNEVEN], ids=["even", "uneven"])
@pytest.mark.parametrize("k", [1, 6])
@pytest.mark.parametrize(
    ("by_row", "shift"), [(False, None), (True, None), (False, -10.0), (False, 0.0), (False, 3.0)]
)
def test_start_and_column_weights_have_value_and_gradient(
    path, dtype, draw, slope, k, by_row, shift
):
    *given, log_column_weights = constants(draw, 20, 60, k, by_row)
    given = *given, log_column_weights + (shift or 0.0)
    check_constants(path, given, dtype, slope, column_weights=shift is not None)


def test_limit_of_the_column_weights_is_met():
    for draw in (overlapping, apart):
        rows, _, columns, _, log_column_weights = constants(draw, 20, 60, 6)
        shares = (dense_log_overlaps(*rows, *columns) + log_column_weights + 3).exp()
        assert (shares > 1).any()
        assert (shares < 1).any()


@each_tiled_path
def test_start_passes_gradcheck(path):
    rows, start, columns, log_weights, _ = constants(overlapping, 4, 6, 5)
    others = of_dtype(torch.float64, [*columns, log_weights])

    def value(mean, log_var, start):
        return by(path)(mean, log_var, *others, start)

    assert torch.autograd.gradcheck(value, leaves(of_dtype(torch.float64, [*rows, start]), 3))


@each_tiled_path
@pytest.mark.parametrize("wanted", ["mean", "log_var", "start"])
def test_start_gives_each_gradient_alone(path, wanted):
    (mean, log_var), start, columns, log_weights, _ = constants(overlapping, 4, 6, 5)
    gradients = []
    for free in ({wanted}, {"mean", "log_var", "start"}):
        given = {"mean": mean, "log_var": log_var, "start": start}
        given = {name: value.clone().requires_grad_(name in free) for name, value in given.items()}
        others = dict(zip(["other_mean", "other_log_var"], columns, strict=True))
        by(path)(**given, **others, log_weights=log_weights).sum().backward()
        gradients.append(given[wanted].grad)
    torch.testing.assert_close(*gradients)


@each_tiled_path
def test_columns_may_change_between_value_and_gradient(path):
    """A bank of posteriors is overwritten in the meantime."""
    rows, start, columns, *_ = constants(overlapping, 4, 6, 5)
    gradients = []
    for change in (0.0, 1.0):
        free, others = leaves([*rows, start], 3), [column.clone() for column in columns]
        value = by(path)(*free[:2], *others, start=free[2]).sum()
        others[0] += change
        gradients.append(torch.autograd.grad(value, free))
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


def changed(given, points=False, below=0.0, masked=False):
    """Arguments with points as rows, a lower start, and every other column of no weight."""
    (mean, log_var), start, columns, *weights = given
    log_var = torch.full_like(log_var, -math.inf) if points else log_var
    if masked:
        odd = torch.arange(len(columns[0])) % 2 == 1
        weights = [torch.where(odd, weight, -math.inf) for weight in weights]
    return (mean, log_var), start - below, columns, *weights


CHANGES = [
    {"points": True},
    {"below": 100.0},
    {"below": math.inf},
    {"masked": True},
    {"masked": True, "below": math.inf},
]


@each_tiled_path
@each_dtype
@pytest.mark.parametrize("change", CHANGES, ids=str)
@pytest.mark.parametrize("draw", [overlapping, apart])
def test_start_and_columns_may_be_extreme(path, dtype, change, draw):
    check_constants(path, changed(constants(draw, 20, 60, 6), **change), dtype)


@each_tiled_path
@each_dtype
@pytest.mark.parametrize("by_row", [False, True], ids=["", "by row"])
def test_without_constants_the_start_is_returned(path, dtype, by_row):
    rows, start, columns, log_weights, _ = constants(apart, 20, 60, 6, by_row)
    *numbers, start = of_dtype(dtype, [*rows, *columns, start])
    free = leaves([*numbers[:2], start], 3)
    nothing = torch.full_like(log_weights, -math.inf).to(dtype)
    value = by(path)(*free[:2], *numbers[2:], nothing, free[2])
    value.sum().backward()
    assert torch.equal(value, start)
    assert [float(tensor.grad.abs().sum()) for tensor in free] == [0, 0, len(start)]


@each_tiled_path
@each_dtype
@pytest.mark.parametrize("points", [False, True], ids=["", "points"])
@pytest.mark.parametrize("k", [1, 8])
def test_start_gives_finite_numbers(path, dtype, points, k):
    rows, start, columns, log_weights, log_column_weights = constants(extreme, 50, 60, k)
    rows, columns = of_dtype(dtype, rows), of_dtype(dtype, columns)
    if points:
        rows[1] = torch.full_like(rows[1], -math.inf)
    weights = of_dtype(dtype, [log_weights, start, log_column_weights])
    mean, log_var = leaves(rows, 2)
    value = by(path)(mean, log_var, *columns, *weights)
    value.sum().backward()
    assert all_finite([value, mean.grad, log_var.grad])


# significant pairs ----------------------------------------------------------------------------


@each_dtype
@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("column_weights", [False, True], ids=["", "column weights"])
@pytest.mark.parametrize("k", [6, 20])
def test_pairs_left_out_do_not_matter(dtype, draw, column_weights, k):
    bar = BARS[dtype] if dtype == torch.float32 else 1e-13
    rows, start, *rest = constants(draw, 20, 300, k)
    raised = start + 40 * (torch.arange(20) % 2)  # here only the column weights matter
    check_constants("sparse", (rows, raised, *rest), dtype, None, column_weights, bar)


@each_dtype
@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("k", [6, 20])
def test_pairs_left_out_among_rows_do_not_matter(dtype, draw, k):
    bar = BARS[dtype] if dtype == torch.float32 else 1e-13
    rows = of_dtype(dtype, draw(torch.Generator().manual_seed(0), 90, k))
    found = value_and_gradients(by("sparse"), rows, 2)
    wanted = value_and_gradients(twin, of_dtype(torch.float64, rows), 2)
    assert_agree(found, wanted, k, bar)


@each_dtype
def test_pairs_are_found_as_exactly_under_autocast(dtype):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        check_constants("sparse", constants(clustered, 20, 300, 6), dtype)


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
