"""The aggregate wider than a batch: what the bank holds, and which gradient a step has."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from references import (
    BOUNDS,
    all_finite,
    dense_cross_entropy,
    dense_log_overlaps,
    divergence,
    generator_of,
    posteriors,
    value_and_gradients,
)

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.objectives import Batch, Posterior, WiSEALE

each_bound = pytest.mark.parametrize("bound", BOUNDS)


def module_of(bound, width, n_components, weight=1.0):
    return WiSEALE(bound, weight=weight, width=width).build(10, n_components)


def full(bound):
    """The bound over all rows at once."""
    return divergence(WiSEALE(bound, weight=1.0, width=1))


def with_gradient(function, mean, log_var, z):
    """Value, and gradient by means and log-variances, of which draws are functions: (n, 2 K)."""
    noise = (z - mean) * (-0.5 * log_var).exp()
    value, *gradients = value_and_gradients(
        lambda *free: function(*free, Posterior(*free).rsample(noise)), mean, log_var
    )
    return value, torch.cat(gradients, dim=1)


def step(module, tensors, rows, n_samples):
    """Value and gradient of one batch."""
    batch = Batch(rows, n_samples, training=True, generator=generator_of(0))
    return with_gradient(
        lambda mean, log_var, z: module(Posterior(mean, log_var), z, batch),
        *(part[rows] for part in tensors),
    )


def passes(bound, tensors, width, batch_size, n_passes):
    """Value and gradient of the last pass over batches of fixed posteriors."""
    n, n_components = tensors[0].shape
    module = module_of(bound, width, n_components)
    for _ in range(n_passes):
        values, gradient = [], torch.zeros(n, 2 * n_components).double()
        for rows in torch.arange(n).split(batch_size):
            value, of_batch = step(module, tensors, rows, n)
            gradient[rows] = of_batch * len(rows) / n
            values.append(value * len(rows) / n)
    return torch.stack(values).sum(), gradient


def held(module):
    """What the bank holds: the line of each row."""
    rows, lines = module.bank.rows, module.bank.lines
    return {int(row): line for row, line in zip(rows, lines, strict=True) if row >= 0}


@pytest.mark.parametrize("n_components", [1, 2, 8])
@pytest.mark.parametrize("bound", [bound for bound in BOUNDS if bound != "renyi"])
def test_bank_of_all_rows_gives_value_and_gradient_of_the_full_sum(bound, n_components):
    tensors = posteriors(300, n_components)
    found = passes(bound, tensors, width=300, batch_size=50, n_passes=3)
    expected = with_gradient(full(bound), *tensors)
    torch.testing.assert_close(found[0], expected[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-7, atol=1e-10)


@each_bound
def test_mean_gradient_of_batches_with_a_fresh_bank_is_that_of_the_full_sum(bound):
    tensors = posteriors(2000, 2)
    _, gradient = passes(bound, tensors, width=2000, batch_size=200, n_passes=3)
    _, expected = with_gradient(full(bound), *tensors)
    cosine = torch.nn.functional.cosine_similarity(gradient.flatten(), expected.flatten(), dim=0)
    assert cosine >= 0.99
    assert abs(gradient.norm() / expected.norm() - 1) <= 0.05


def test_terms_of_the_rows_of_the_bank_are_needed():
    """Without them the gradient has another norm."""
    tensors = posteriors(2000, 2)
    module = module_of("jensen", 2000, 2)
    _, expected = with_gradient(full("jensen"), *tensors)
    gradient = torch.zeros_like(expected)
    for _ in range(2):
        for rows in torch.arange(2000).split(200):
            if module.bank is not None:
                module.bank.lines[:, -1] = math.inf  # infinite normalisers: no share in them
            gradient[rows] = step(module, tensors, rows, 2000)[1] / 10
    assert not 0.95 <= gradient.norm() / expected.norm() <= 1.05


@each_bound
@pytest.mark.parametrize(("width", "training"), [(40, True), (1, True), (100, False)])
def test_narrow_aggregate_is_that_of_the_batch(bound, width, training):
    tensors = posteriors(40, 3)
    module = module_of(bound, width, 3, weight=2.0)
    batch = Batch(torch.arange(40), 400, training, generator_of(0))
    value = module(Posterior(*tensors[:2]), tensors[2], batch)
    assert value == 2 * full(bound)(*tensors)
    assert module.bank is None


@each_bound
@pytest.mark.parametrize(("n_held", "n"), [(0, 40), (1, 1), (1, 2), (3, 1), (2, 3), (4, 6)])
def test_rows_count_for_one_of_n_samples_and_all_others_for_the_rest(bound, n_held, n):
    tensors = posteriors(n_held + n, 3)
    module = module_of(bound, 100, 3)
    for rows in torch.arange(n_held + n).split([n_held, n] if n_held else [n]):
        value, _ = step(module, tensors, rows, 1000)
    mean, log_var, z = (part[n_held:] for part in tensors)
    if bound in ("moment", "sliced"):
        expected = full(bound)(*tensors)
    else:
        points = z, torch.full_like(z, -math.inf)
        rows = points if bound == "monte_carlo" else (mean, log_var)
        weights = torch.full((n, n_held + n), 0.999 / (n_held + n - 1)).double()
        weights[:, n_held:].fill_diagonal_(0.001)
        inner = (weights * dense_log_overlaps(*rows, *tensors[:2]).exp()).sum(dim=1)
        entropy = inner.mean().log() if bound == "renyi" else inner.log().mean()
        expected = entropy + dense_cross_entropy(mean, log_var)
    torch.testing.assert_close(value, expected)


@each_bound
def test_one_row_at_a_time_stays_finite(bound):
    tensors, module = posteriors(7, 2), module_of(bound, 5, 2)
    for row in torch.arange(7).split(1):
        assert all_finite(step(module, tensors, row, 7))


@pytest.mark.parametrize("bound", ["jensen", "monte_carlo"])
@pytest.mark.parametrize("width", [80, 10**6])
def test_a_bank_that_holds_only_rows_of_the_batch_changes_nothing(bound, width):
    tensors, rows = posteriors(50, 2), torch.arange(50)
    module = module_of(bound, width, 2)
    first = step(module, tensors, rows, 200)
    again = step(module, tensors, rows.flip(0), 200)
    torch.testing.assert_close(again, (first[0], first[1].flip(0)))


def test_inner_sum_is_estimated_without_bias():
    """Sums of overlaps with size-aware weights, over random columns, average to the full sum."""
    tensors = mean, log_var, _ = posteriors(60, 2)
    squared = 0.5 * (mean.square() + log_var.exp()).sum(dim=1)
    generator, sums = generator_of(0), []
    for _ in range(300):
        module = module_of("renyi", 30, 2)
        order = torch.randperm(60, generator=generator)
        for rows in order[:30].split(10):
            value, _ = step(module, tensors, rows, 60)
        sums.append((value - squared[rows].mean()).exp())
    expected = (full("renyi")(*tensors) - squared.mean()).exp()
    torch.testing.assert_close(torch.stack(sums).mean(), expected, rtol=0.02, atol=0)


# the bank ---------------------------------------------------------------------------------


def numbered(module, rows, number, n_samples):
    """One batch, whose posteriors have the mean ``number``."""
    mean = torch.full((len(rows), 1), float(number))
    batch = Batch(rows, n_samples, training=True)
    module(Posterior(mean, torch.zeros_like(mean)), mean, batch)


@pytest.mark.parametrize("capacity", [6, 10**6])
def test_bank_holds_the_latest_posterior_of_each_row(capacity):
    """Of as many rows as it has places, or of all rows."""
    n_samples = 9 if capacity > 9 else 1000
    module, seen, generator = module_of("moment", capacity + 2, 1), {}, generator_of(0)
    for number in range(40):
        rows = torch.randperm(9, generator=generator)[:2]
        numbered(module, rows, number, n_samples)
        for row in rows.tolist():
            seen.pop(row, None)
            seen[row] = float(number)
        means = {row: float(line[0]) for row, line in held(module).items()}
        assert means.items() <= dict(list(seen.items())[-capacity:]).items()
        assert set(rows.tolist()) <= set(means)
        assert capacity == 6 or means == seen


def test_oldest_rows_of_a_bank_give_way_first():
    module, came = module_of("moment", 8, 1), 0
    for n in (2, 3, 4, 1, 5, 2):
        numbered(module, torch.arange(came, came + n), 0, 1000)
        came += n
        assert sorted(held(module)) == list(range(max(0, came - 6), came))


def test_bank_smaller_than_a_batch_keeps_the_last_rows():
    module = module_of("moment", 7, 1)
    numbered(module, torch.arange(5), 0, 1000)
    assert set(held(module)) == {3, 4}


@pytest.mark.parametrize("width", [20, 10**6])
def test_training_continues_from_a_state(width):
    tensors = posteriors(60, 2)
    module, other, empty = (module_of("jensen", width, 2) for _ in range(3))
    for rows in torch.arange(40).split(10):
        step(module, tensors, rows, 60)
    state = module.state_dict()
    before = copy.deepcopy(state)
    other.load_state_dict(state)
    steps = torch.arange(60).split(10)
    found = [step(other, tensors, rows, 60) for rows in steps]
    assert all(torch.equal(state[name], before[name]) for name in before)
    for values, rows in zip(found, steps, strict=True):
        assert all(map(torch.equal, values, step(module, tensors, rows, 60)))
    other.load_state_dict(empty.state_dict())
    assert other.bank is None


def test_bank_of_the_width_of_the_data_knows_all_rows_in_any_order():
    tensors, generator = posteriors(60, 2), generator_of(0)
    all_rows, more = module_of("jensen", 60, 2), module_of("jensen", 10**6, 2)
    for _ in range(4):
        for rows in torch.randperm(60, generator=generator).split(15):
            values = [step(module, tensors, rows, 60)[0] for module in (all_rows, more)]
            assert values[0] == values[1]
    assert sorted(held(all_rows)) == list(range(60))


# in an estimator ---------------------------------------------------------------------------


@pytest.fixture(scope="module", name="X")
def data():
    rng = np.random.RandomState(0)
    return (rng.randn(300, 3) @ rng.randn(3, 8) + 0.3 * rng.randn(300, 8)).astype(np.float32)


def make(bound="jensen", width=100, **params):
    params = {"max_epochs": 2, "random_state": 0, "early_stopping": False, **params}
    return WiSEALETransformer(objective=WiSEALE(bound, width=width), **params)


def rows_held(estimator):
    return set(held(estimator.net_.criterion_))


@each_bound
@pytest.mark.parametrize("width", [100, 10_000])
def test_fit_is_reproducible_and_finite(bound, width, X):
    codes, again = (make(bound, width).fit_transform(X) for _ in range(2))
    np.testing.assert_array_equal(codes, again)
    assert np.isfinite(codes).all()


def test_held_out_rows_do_not_enter_the_bank(X):
    assert len(rows_held(make(width=10_000, early_stopping=True).fit(X))) == 300 - 45


def test_refit_and_warm_start_begin_with_an_empty_bank(X):
    estimator = make(width=10_000, max_epochs=1, warm_start=True).fit(X)
    assert len(rows_held(estimator.fit(X[:50]))) == 50


def test_partial_fit_keeps_the_bank_and_continues_the_numbers_of_rows(X):
    estimator = make(width=120, batch_size=30)
    for start in range(0, 300, 60):
        estimator.partial_fit(X[start : start + 60])
    rows = rows_held(estimator)
    assert len(rows) == 90
    assert set(range(240, 300)) <= rows <= set(range(180, 300))


def test_copies_have_no_bank_until_they_are_trained(X):
    estimator = make().fit(X)
    size = len(pickle.dumps(estimator))
    for other in (copy.deepcopy(estimator), pickle.loads(pickle.dumps(estimator))):
        assert other.net_.criterion_.bank is None
        np.testing.assert_array_equal(other.transform(X), estimator.transform(X))
        assert rows_held(other.partial_fit(X))
    assert rows_held(estimator)
    assert len(pickle.dumps(make(width=1).fit(X))) > 0.95 * size


def test_bank_has_the_precision_of_the_estimator(X):
    assert make(precision="float64").fit(X).net_.criterion_.bank.lines.dtype == torch.float64
