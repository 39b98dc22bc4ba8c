import math

import numpy as np
import pytest

from sklearn_wiseale.datasets import make_sine_waves


def test_rows_are_the_sine_waves_of_their_factors():
    X, y = make_sine_waves(7, 12, noise=0.0, random_state=0)
    assert X.shape == (7, 12)
    assert y.shape == (7, 3)
    for row, (amplitude, frequency, phase) in zip(X, y, strict=True):
        for j, value in enumerate(row):
            turns = frequency * j / 12
            expected = amplitude * math.sin(2 * math.pi * turns + phase)
            assert value == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("column", [0, 1, 2])
def test_factors_are_uniform_on_their_ranges(column):
    ranges = {"amplitude": (2.0, 5.0), "frequency": (0.5, 4.0), "phase": (-1.0, 1.0)}
    low, high = list(ranges.values())[column]
    n = 4000
    factor = make_sine_waves(n, 10, **ranges, random_state=1)[1][:, column]
    assert low <= factor.min()
    assert factor.max() <= high
    standard = (factor - low) / (high - low)
    assert standard.mean() == pytest.approx(1 / 2, abs=4 * math.sqrt(1 / 12 / n))
    assert standard.var() == pytest.approx(1 / 12, abs=4 * math.sqrt(1 / 180 / n))


def test_factors_are_independent():
    factors = make_sine_waves(4000, 2, frequency=(0.0, 1.0), random_state=2)[1]
    correlation = np.corrcoef(factors.T)
    np.testing.assert_allclose(correlation, np.eye(3), atol=4 / math.sqrt(4000))


@pytest.mark.parametrize("name", ["amplitude", "frequency", "phase"])
def test_a_number_holds_a_factor_fixed(name):
    column = ["amplitude", "frequency", "phase"].index(name)
    y = make_sine_waves(5, 20, **{name: 0.7}, random_state=0)[1]
    assert np.all(y[:, column] == 0.7)
    assert np.all(np.ptp(np.delete(y, column, axis=1), axis=0) > 0)


def test_noise_is_added_to_the_same_waves_and_has_the_given_deviation():
    clean, y = make_sine_waves(300, 40, noise=0.0, random_state=3)
    noisy, y_noisy = make_sine_waves(300, 40, noise=0.2, random_state=3)
    noisier, _ = make_sine_waves(300, 40, noise=0.6, random_state=3)
    np.testing.assert_array_equal(y, y_noisy)
    np.testing.assert_allclose(noisier - clean, 3 * (noisy - clean), atol=1e-12)
    noise = (noisy - clean) / 0.2
    assert noise.mean() == pytest.approx(0, abs=4 / math.sqrt(noise.size))
    assert noise.var() == pytest.approx(1, abs=4 * math.sqrt(2 / noise.size))


def test_waves_of_one_frequency_lie_in_a_plane_and_others_do_not():
    flat = make_sine_waves(50, 30, frequency=2.0, noise=0.0, random_state=0)[0]
    curved = make_sine_waves(50, 30, noise=0.0, random_state=0)[0]
    assert np.linalg.matrix_rank(flat) == 2
    assert np.linalg.matrix_rank(curved) > 3


def test_seed_decides_and_numpys_global_generator_is_left_alone():
    before = np.random.get_state()[1].copy()
    first = make_sine_waves(5, 6, random_state=4)
    second = make_sine_waves(5, 6, random_state=np.random.RandomState(4))
    other = make_sine_waves(5, 6, random_state=5)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    for a, b, c in zip(first, second, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)


@pytest.mark.parametrize(
    ("parameters", "allowed"),
    [
        ({"n_samples": 0}, "int >= 1"),
        ({"n_samples": 2.0}, "int >= 1"),
        ({"n_samples": True}, "int >= 1"),
        ({"n_timesteps": -3}, "int >= 1"),
        ({"noise": -0.1}, "finite number >= 0"),
        ({"noise": math.nan}, "finite number >= 0"),
        ({"noise": "low"}, "finite number >= 0"),
        ({"amplitude": -1.0}, ">= 0"),
        ({"amplitude": (2.0, 1.0)}, "low <= high"),
        ({"amplitude": (1.0, math.inf)}, "finite"),
        ({"amplitude": (1.0, 2.0, 3.0)}, r"pair \(low, high\)"),
        ({"frequency": (1.0, 51.0)}, "<= 50"),
        ({"frequency": None}, r"pair \(low, high\)"),
        ({"phase": "quarter"}, r"pair \(low, high\)"),
        ({"phase": (0.0, math.nan)}, "finite"),
    ],
)
def test_errors_name_argument_value_and_what_is_allowed(parameters, allowed):
    ((name, value),) = parameters.items()
    with pytest.raises(ValueError, match=f"^{name} must be .*{allowed}") as error:
        make_sine_waves(**{"n_timesteps": 100, **parameters})
    assert f"Got {value!r}." in str(error.value)


def test_highest_frequency_allowed_is_half_the_sampling_rate():
    with pytest.raises(ValueError, match=r"frequency must be .*<= 5"):
        make_sine_waves(3, 10, frequency=5.1)
    assert make_sine_waves(3, 10, frequency=5.0)[1][0, 1] == 5.0
