"""The aggregate wider than a batch: what the bank holds, and whose gradient a step has."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.objectives import Batch, Posterior, WiSEALE
from sklearn_wiseale.objectives._aggregate import aggregate_kl_bound
from sklearn_wiseale.objectives._bank import PosteriorBank

BOUNDS = ["jensen", "renyi", "moment", "monte_carlo"]


def posteriors(n, n_components, spread=0.3, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda: torch.randn(n, n_components, generator=generator, dtype=dtype)  # noqa: E731
    posterior = Posterior(draw(), 2 * math.log(spread) + 0.5 * draw())
    return posterior, posterior.rsample(draw())


def divergence(bound, width, n_components, weight=1.0):
    return WiSEALE(bound, weight=weight, width=width).build(10, n_components)


def leaves(posterior, rows):
    return Posterior(*(part[rows].clone().requires_grad_() for part in posterior))


def draw_again(leaf, posterior, z, rows):
    """The draws of some rows, as functions of their posteriors."""
    noise = (z - posterior.mean)[rows] * (-0.5 * posterior.log_var[rows]).exp()
    return leaf.rsample(noise)


def step(module, posterior, z, rows, n_samples):
    """Value and gradient of one batch."""
    leaf = leaves(posterior, rows)
    batch = Batch(rows, n_samples=n_samples, training=True)
    value = module(leaf, draw_again(leaf, posterior, z, rows), batch)
    return value.detach(), torch.cat(torch.autograd.grad(value, leaf), dim=1)


def full(bound, posterior, z):
    """Value and gradient over all rows at once."""
    leaf = leaves(posterior, slice(None))
    value = aggregate_kl_bound(leaf, bound, draw_again(leaf, posterior, z, slice(None)))
    return value.detach(), torch.cat(torch.autograd.grad(value, leaf), dim=1)


def passes(bound, posterior, z, width, batch_size, n_passes, order=None):
    """Values and gradients of a last pass over batches of fixed posteriors, after others."""
    n, n_components = posterior.mean.shape
    module = divergence(bound, width, n_components)
    for _ in range(n_passes):
        values, gradient = [], torch.zeros(n, 2 * n_components, dtype=z.dtype)
        for rows in torch.arange(n).split(batch_size):
            value, of_batch = step(module, posterior, z, rows, n)
            gradient[rows] = of_batch * len(rows) / n
            values.append(value * len(rows) / n)
    return torch.stack(values).sum(), gradient


@pytest.mark.parametrize("n_components", [2, 8])
@pytest.mark.parametrize("bound", ["jensen", "moment", "monte_carlo"])
def test_bank_of_all_rows_gives_value_and_gradient_of_the_full_sum(bound, n_components):
    posterior, z = posteriors(300, n_components)
    value, gradient = passes(bound, posterior, z, width=300, batch_size=50, n_passes=3)
    expected_value, expected = full(bound, posterior, z)
    torch.testing.assert_close(value, expected_value, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradient, expected, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("bound", BOUNDS)
def test_mean_batch_gradient_with_a_fresh_bank_is_that_of_the_full_sum(bound):
    posterior, z = posteriors(2000, 2, spread=0.5)
    _, gradient = passes(bound, posterior, z, width=2000, batch_size=200, n_passes=3)
    _, expected = full(bound, posterior, z)
    cosine = torch.nn.functional.cosine_similarity(gradient.flatten(), expected.flatten(), dim=0)
    assert cosine >= 0.99
    assert abs(gradient.norm() / expected.norm() - 1) <= 0.05


def test_rows_alone_would_not_do():
    """Without the terms of the bank's own rows the gradient has another norm."""
    posterior, z = posteriors(2000, 2, spread=0.5)
    module = divergence("jensen", 2000, 2)
    _, expected = full("jensen", posterior, z)
    gradient = torch.zeros_like(expected)
    for _ in range(2):
        for rows in torch.arange(2000).split(200):
            if module.bank is not None:
                module.bank.lines[:, -1] = math.inf  # infinite normalisers: no share in them
            gradient[rows] = step(module, posterior, z, rows, 2000)[1] / 10
    assert not 0.95 <= gradient.norm() / expected.norm() <= 1.05


@pytest.mark.parametrize("bound", BOUNDS)
def test_narrow_aggregate_is_that_of_the_batch(bound):
    posterior, z = posteriors(40, 3)
    batch = Batch(torch.arange(40), n_samples=400, training=True)
    module = divergence(bound, 40, 3, weight=2.0)
    assert module(posterior, z, batch) == 2 * aggregate_kl_bound(posterior, bound, z)
    assert module.bank is None


@pytest.mark.parametrize("bound", BOUNDS)
def test_first_batch_counts_each_row_for_one_of_n_samples(bound):
    posterior, z = posteriors(40, 3)
    module = divergence(bound, 100, 3)
    value = module(posterior, z, Batch(torch.arange(40), n_samples=1000, training=True))
    if bound == "moment":
        expected = aggregate_kl_bound(posterior, bound)
    else:
        mean, log_var = posterior
        var = torch.zeros_like(z) if bound == "monte_carlo" else log_var.exp()
        points = z if bound == "monte_carlo" else mean
        total = var[:, None] + log_var.exp()
        squared = (points[:, None] - mean).square()
        overlap = (-0.5 * ((2 * math.pi * total).log() + squared / total).sum(2)).exp()
        weights = torch.full((40, 40), 0.999 / 39, dtype=z.dtype).fill_diagonal_(0.001)
        inner = (weights * overlap).sum(1)
        entropy = inner.mean().log() if bound == "renyi" else inner.log().mean()
        cross = 0.5 * (3 * math.log(2 * math.pi) + (mean**2 + log_var.exp()).sum(1).mean())
        expected = entropy + cross
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("bound", ["jensen", "renyi", "monte_carlo"])
@pytest.mark.parametrize(("n_held", "n"), [(1, 1), (1, 2), (3, 1), (2, 3), (4, 6)])
def test_rows_count_for_one_of_n_samples_and_all_others_for_the_rest(bound, n_held, n):
    posterior, z = posteriors(n_held + n, 3)
    module = divergence(bound, 100, 3)
    for rows in (torch.arange(n_held), torch.arange(n_held, n_held + n)):
        value, _ = step(module, posterior, z, rows, 1000)
    mean, log_var = (part[n_held:] for part in posterior)
    points = log_var if bound != "monte_carlo" else torch.full_like(log_var, -math.inf)
    total = points.exp()[:, None] + posterior.log_var.exp()
    centres = z[n_held:] if bound == "monte_carlo" else mean
    squared = (centres[:, None] - posterior.mean).square()
    overlap = (-0.5 * ((2 * math.pi * total).log() + squared / total).sum(2)).exp()
    weights = torch.full_like(overlap, 0.999 / (n_held + n - 1))
    weights[:, n_held:].fill_diagonal_(0.001)
    inner = (weights * overlap).sum(1)
    entropy = inner.mean().log() if bound == "renyi" else inner.log().mean()
    cross = 0.5 * (3 * math.log(2 * math.pi) + (mean**2 + log_var.exp()).sum(1).mean())
    torch.testing.assert_close(value, entropy + cross)


@pytest.mark.parametrize("bound", BOUNDS)
def test_one_row_at_a_time_stays_finite(bound):
    posterior, z = posteriors(7, 2)
    module = divergence(bound, 5, 2)
    for row in torch.arange(7).split(1):
        value, gradient = step(module, posterior, z, row, 7)
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("bound", ["jensen", "monte_carlo"])
def test_no_sample_meets_its_own_old_copy(bound):
    """A bank that knows the batch's rows alone changes nothing."""
    posterior, z = posteriors(50, 2)
    rows = torch.arange(50)
    for width in (80, 10**6):
        module = divergence(bound, width, 2)
        first = step(module, posterior, z, rows, 200)
        again = step(module, posterior, z, rows.flip(0), 200)
        torch.testing.assert_close(again[0], first[0])
        torch.testing.assert_close(again[1], first[1].flip(0))


def test_wide_estimate_is_unbiased_for_the_inner_sum():
    """Sums of overlaps with size-aware weights, over random columns, average to the full sum."""
    posterior, z = posteriors(60, 2, spread=0.6)
    exact = aggregate_kl_bound(posterior, "renyi")
    generator = torch.Generator().manual_seed(0)
    sums = []
    for _ in range(300):
        module = divergence("renyi", 30, 2)
        order = torch.randperm(60, generator=generator)
        for rows in order[:30].split(10):
            mean, log_var = (part[rows] for part in posterior)
            value = module(Posterior(mean, log_var), z[rows], Batch(rows, 60, training=True))
        second_moment = (mean**2 + log_var.exp()).sum(1).mean()
        sums.append((value - 0.5 * second_moment).exp())
    everywhere = 0.5 * (posterior.mean**2 + posterior.log_var.exp()).sum(1).mean()
    torch.testing.assert_close(
        torch.stack(sums).mean(), (exact - everywhere).exp(), rtol=0.02, atol=0
    )


# the bank ---------------------------------------------------------------------------------


def remembered(bank):
    lines, _ = bank.held()
    return {int(row): line for row, line in zip(bank.rows[bank.rows >= 0], lines, strict=True)}


def test_bank_holds_the_latest_line_of_each_row():
    bank = PosteriorBank(6, False, torch.zeros(1, 1))
    seen = {}
    generator = torch.Generator().manual_seed(0)
    for number in range(40):
        rows = torch.randperm(9, generator=generator)[:2]
        lines = torch.full((2, 1), float(number))
        bank.forget(rows)
        assert not set(rows.tolist()) & set(remembered(bank))
        bank.remember(rows, lines)
        for row in rows.tolist():
            seen.pop(row, None)
            seen[row] = float(number)
        held = {row: float(line) for row, line in remembered(bank).items()}
        assert held.items() <= dict(list(seen.items())[-6:]).items()
        assert set(rows.tolist()) <= set(held)


def test_oldest_lines_of_a_bank_give_way_first():
    bank, came = PosteriorBank(6, False, torch.zeros(1, 1)), 0
    for n in (2, 3, 4, 1, 5, 2):
        bank.remember(torch.arange(came, came + n), torch.zeros(n, 1))
        came += n
        assert sorted(remembered(bank)) == list(range(max(0, came - 6), came))


def test_bank_with_own_places_holds_all_rows():
    bank = PosteriorBank(5, True, torch.zeros(1, 2))
    bank.remember(torch.tensor([3, 0]), torch.tensor([[3.0, 3.0], [0.0, 0.0]]))
    assert set(remembered(bank)) == {0, 3}
    bank.forget(torch.tensor([3, 4]))
    assert set(remembered(bank)) == {0}


@pytest.mark.parametrize("own_places", [True, False])
def test_places_of_a_bank_hold_a_row_or_minus_one(own_places):
    bank = PosteriorBank(4, own_places, torch.zeros(1, 1))
    assert bank.rows.tolist() == [-1, -1, -1, -1]
    bank.remember(torch.tensor([1, 0]), torch.zeros(2, 1))
    bank.forget(torch.tensor([0, 3]))
    assert sorted(bank.rows.tolist()) == [-1, -1, -1, 1]


def test_bank_goes_on_from_its_state():
    """The next line gives way in a copy as it does in the bank itself."""
    bank = PosteriorBank(3, False, torch.zeros(1, 1))
    bank.remember(torch.arange(2), torch.zeros(2, 1))
    other = PosteriorBank(3, True, torch.zeros(1, 1))
    other.load_state_dict(bank.state_dict())
    for one in (bank, other):
        one.remember(torch.arange(2, 5), torch.arange(3.0)[:, None])
    assert torch.equal(bank.rows, other.rows)
    assert torch.equal(bank.lines, other.lines)
    assert bank.own_places is other.own_places is False


def test_state_of_a_bank_stays_when_another_goes_on_from_it():
    bank = PosteriorBank(3, False, torch.zeros(1, 1))
    bank.remember(torch.arange(2), torch.zeros(2, 1))
    state = bank.state_dict()
    before = copy.deepcopy(state)
    other = PosteriorBank(3, False, torch.zeros(1, 1))
    other.load_state_dict(state)
    other.remember(torch.arange(2, 5), torch.ones(3, 1))
    assert all(torch.equal(state[name], before[name]) for name in before)


@pytest.mark.parametrize("width", [20, 10**6])
def test_divergence_goes_on_from_its_state(width):
    posterior, z = posteriors(60, 2)
    module, other = (divergence("jensen", width, 2) for _ in range(2))
    for rows in torch.arange(40).split(10):
        step(module, posterior, z, rows, 60)
    other.load_state_dict(module.state_dict())
    for rows in torch.arange(60).split(10):
        found, expected = (step(m, posterior, z, rows, 60) for m in (other, module))
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])
    other.load_state_dict(divergence("jensen", width, 2).state_dict())
    assert other.bank is None


def test_bank_of_the_width_of_the_data_knows_all_rows_in_any_order():
    posterior, z = posteriors(60, 2)
    generator = torch.Generator().manual_seed(0)
    all_at_once, more = divergence("jensen", 60, 2), divergence("jensen", 10**6, 2)
    for _ in range(4):
        for rows in torch.randperm(60, generator=generator).split(15):
            values = [step(module, posterior, z, rows, 60)[0] for module in (all_at_once, more)]
            assert values[0] == values[1]
    assert sorted(remembered(all_at_once.bank)) == list(range(60))


def test_bank_smaller_than_a_batch_keeps_the_last_rows():
    bank = PosteriorBank(2, False, torch.zeros(1, 1))
    bank.remember(torch.arange(5), torch.arange(5.0)[:, None])
    assert set(remembered(bank)) == {3, 4}


# in an estimator ---------------------------------------------------------------------------


@pytest.fixture(scope="module", name="X")
def data():
    rng = np.random.RandomState(0)
    return (rng.randn(300, 3) @ rng.randn(3, 8) + 0.3 * rng.randn(300, 8)).astype(np.float32)


def make(bound="jensen", width=100, **params):
    params = {"max_epochs": 2, "random_state": 0, "early_stopping": False, **params}
    return WiSEALETransformer(objective=WiSEALE(bound, width=width), **params)


def bank_of(estimator):
    return estimator.net_.criterion_.bank


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("width", [100, 10_000])
def test_fit_is_reproducible_and_finite(bound, width, X):
    first, second = (make(bound, width).fit(X) for _ in range(2))
    assert np.array_equal(first.transform(X), second.transform(X))
    assert np.isfinite(first.transform(X)).all()


def test_held_out_rows_do_not_enter_the_bank(X):
    estimator = make(width=10_000, early_stopping=True).fit(X)
    assert int((bank_of(estimator).rows >= 0).sum()) == 300 - 45


def test_refit_and_warm_start_begin_with_an_empty_bank(X):
    estimator = make(width=10_000, max_epochs=1, warm_start=True).fit(X)
    estimator.fit(X[:50])
    assert int((bank_of(estimator).rows >= 0).sum()) == 50


def test_partial_fit_keeps_the_bank_and_counts_rows_on(X):
    estimator = make(width=120, batch_size=30)
    for start in range(0, 300, 60):
        estimator.partial_fit(X[start : start + 60])
    held = set(bank_of(estimator).rows.tolist())
    assert len(held) == 90
    assert set(range(240, 300)) <= held <= set(range(180, 300))


def test_pickle_and_copy_leave_the_bank_behind_and_it_fills_again(X):
    estimator = make().fit(X)
    size = len(pickle.dumps(estimator))
    for other in (copy.deepcopy(estimator), pickle.loads(pickle.dumps(estimator))):
        assert bank_of(other) is None
        assert np.array_equal(other.transform(X), estimator.transform(X))
        other.partial_fit(X)
        assert bank_of(other) is not None
    assert bank_of(estimator) is not None
    assert len(pickle.dumps(make(width=1).fit(X))) > 0.95 * size


def test_float64_bank(X):
    assert bank_of(make(precision="float64").fit(X)).lines.dtype == torch.float64


@pytest.mark.parametrize("width", [0, -1, 2.5, "wide", None])
def test_width_refuses_what_it_cannot_be(width, X):
    with pytest.raises(ValueError, match="width"):
        make(width=width).fit(X)
