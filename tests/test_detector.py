"""The outlier detector: scikit-learn's checks, and the laws of its scores."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import make_scorer, roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks as checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_wiseale import WiSEALEDetector, WiSEALETransformer
from sklearn_wiseale.networks import MLP

SMALL = WiSEALETransformer(max_epochs=3, network=MLP(hidden=(16,)), random_state=0)
DISTANCES = ("both", "model", "neighbors")
each_distance = pytest.mark.parametrize("distance", DISTANCES)

#: Checks that scikit-learn defines but never yields for an outlier detector.
UNYIELDED = [
    "check_dataframe_column_names_consistency",
    "check_param_validation",
    "check_inplace_ensure_writeable",
]


@pytest.fixture(scope="module", name="X")
def rows_near_a_plane():
    """Rows near a plane."""
    rng = np.random.RandomState(0)
    rows = rng.standard_normal((300, 2)) @ rng.standard_normal((2, 6))
    return 10 + rows + 0.3 * rng.standard_normal(rows.shape)


@pytest.fixture(scope="module", params=DISTANCES)
def detector(request, X):
    return WiSEALEDetector(SMALL, distance=request.param).fit(X)


# scikit-learn's checks -------------------------------------------------------------------------


@parametrize_with_checks([WiSEALEDetector(SMALL, distance=distance) for distance in DISTANCES])
def test_estimator_check(estimator, check, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # else the array-API check skips itself
    check(estimator)


@pytest.mark.parametrize("name", UNYIELDED)
def test_check_that_is_never_yielded(name):
    getattr(checks, name)("WiSEALEDetector", WiSEALEDetector(SMALL))


@pytest.mark.long
@parametrize_with_checks([WiSEALEDetector()])
def test_estimator_check_with_all_defaults(estimator, check, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    check(estimator)


# the three outputs ------------------------------------------------------------------------------


def test_outputs_are_one_score(detector, X):
    scores, decision = detector.score_samples(X), detector.decision_function(X)
    np.testing.assert_array_equal(decision, scores - detector.offset_)
    np.testing.assert_array_equal(detector.predict(X), np.where(decision < 0, -1, 1))
    assert scores.dtype == np.float64


@pytest.mark.parametrize("contamination", [0.01, 0.1, 0.35, 0.5])
def test_contamination_is_the_share_of_training_rows(detector, X, contamination):
    fitted = clone(detector).set_params(contamination=contamination).fit(X)
    share = np.mean(fitted.predict(X) == -1)
    assert abs(share - contamination) <= 1 / len(X)


def test_automatic_offset_is_the_fence_of_distances(detector, X):
    low, high = np.percentile(np.exp(-detector.score_samples(X)), [25, 75])
    assert np.exp(-detector.offset_) == pytest.approx(high + 1.5 * (high - low))


def test_both_is_the_sum_of_the_two(X):
    one, other, both = (
        WiSEALEDetector(SMALL, distance=distance).fit(X).score_samples(X)
        for distance in ("model", "neighbors", "both")
    )
    np.testing.assert_allclose(both, one + other)


def test_distance_to_the_model_follows_its_density(X):
    detector = WiSEALEDetector(SMALL, distance="model").fit(X)
    densities = detector.transformer_.score_samples(X)
    squared = X.shape[1] * np.expm1(-2 * detector.score_samples(X))
    np.testing.assert_allclose(squared, 2 * (densities.max() - densities), atol=1e-3)


def test_distance_to_neighbours_is_that_of_all_pairs(X):
    detector = WiSEALEDetector(SMALL, distance="neighbors", n_neighbors=4).fit(X)
    scaled = (X - X.mean(axis=0)) / X.std(axis=0)
    distances = np.sqrt(((scaled[:, None] - scaled) ** 2).sum(axis=2))
    np.fill_diagonal(distances, np.inf)
    near = np.sort(distances, axis=1)[:, :4]
    expected = -np.log(near + 0.1 * np.median(near)).mean(axis=1)
    np.testing.assert_allclose(detector.score_samples(X), expected, rtol=1e-5)


# what scores depend on --------------------------------------------------------------------------


def test_scores_do_not_depend_on_the_order_of_rows(detector, X, rng):
    order = rng.permutation(len(X))
    scores = detector.score_samples(X)
    np.testing.assert_allclose(detector.score_samples(X[order]), scores[order], rtol=1e-9)
    np.testing.assert_allclose(detector.score_samples(X[:1]), scores[:1], rtol=1e-9)


def test_far_values_lower_the_score(detector, X):
    planted, scores = X[:50].copy(), detector.score_samples(X[:50])
    for far in (30.0, 1e3, 1e6, 1e12):
        planted[np.arange(50), np.arange(50) % 6] = far
        lower = detector.score_samples(planted)
        assert (lower < scores).all()
        assert (detector.predict(planted) == -1).all()
        scores = lower


def test_rows_beyond_float64_are_outliers(detector, X):
    far = X[:2].copy()
    far[0] = 1e300
    scores = detector.score_samples(far)
    assert not np.isnan(scores).any()
    assert detector.predict(far)[0] == -1


def test_rows_off_the_plane_have_lower_scores(detector, X, rng):
    mixed = np.stack([rng.permutation(column) for column in X.T], axis=1)
    truth = np.repeat([1, 0], len(X))
    scores = detector.score_samples(np.vstack([X, mixed]))
    assert roc_auc_score(truth, scores) > 0.9


def test_a_missing_entry_is_filled(detector, X):
    holes = X[:20].copy()
    holes[np.arange(20), np.arange(20) % 6] = np.nan
    filled = detector.transformer_.impute(holes)
    scores = detector.score_samples(holes)
    np.testing.assert_allclose(scores, detector.score_samples(filled), rtol=1e-4)


def test_training_rows_with_missing_entries(X):
    holes = np.where(np.random.RandomState(1).random_sample(X.shape) < 0.1, np.nan, X)
    detector = WiSEALEDetector(SMALL, contamination=0.1).fit(holes)
    assert abs(np.mean(detector.predict(holes) == -1) - 0.1) <= 1 / len(X)
    holes[0, 1] = 1e4
    assert detector.predict(holes)[0] == -1


def test_equal_rows_have_finite_scores(X):
    rows = np.repeat(X[:10], 30, axis=0)
    for distance in DISTANCES:
        detector = WiSEALEDetector(SMALL, distance=distance).fit(rows)
        assert np.isfinite(detector.score_samples(rows)).all()


# kept state -------------------------------------------------------------------------------------


def test_pickle_and_clone_score_alike(detector, X):
    scores = detector.score_samples(X)
    again = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(again.score_samples(X), scores)
    np.testing.assert_array_equal(clone(detector).fit(X).score_samples(X), scores)


def test_at_most_max_rows_are_kept(X):
    fits = [WiSEALEDetector(SMALL, max_rows=50, random_state=1).fit(X) for _ in range(2)]
    assert fits[0].neighbors_.n_samples_fit_ == 50
    np.testing.assert_array_equal(*(fit.score_samples(X) for fit in fits))
    assert WiSEALEDetector(SMALL).fit(X).neighbors_.n_samples_fit_ == len(X)


def test_no_row_is_kept_for_the_model_alone(X):
    detector = WiSEALEDetector(SMALL).fit(X).set_params(distance="model").fit(X)
    assert not hasattr(detector, "neighbors_")


def test_the_transformer_is_left_as_it_was(X):
    given = clone(SMALL)
    detector = WiSEALEDetector(given, random_state=3).fit(X)
    assert not hasattr(given, "net_")
    assert given.random_state == 0
    assert detector.transformer_ is not given
    before = detector.transformer_.score_samples(X)
    detector.score_samples(X)
    np.testing.assert_array_equal(detector.transformer_.score_samples(X), before)


def test_random_state_decides(X):
    free = WiSEALETransformer(max_epochs=2, network=MLP(hidden=(8,)))
    one, two = (WiSEALEDetector(free, random_state=5).fit(X).score_samples(X) for _ in range(2))
    np.testing.assert_array_equal(one, two)


# with scikit-learn ------------------------------------------------------------------------------


def test_parameters_of_the_transformer_are_reached(X):
    detector = WiSEALEDetector(clone(SMALL)).set_params(transformer__n_components=3)
    assert detector.fit(X).transformer_.n_components_ == 3


def test_in_a_pipeline(X):
    pipeline = make_pipeline(StandardScaler(), WiSEALEDetector(SMALL)).fit(X)
    assert set(pipeline.predict(X)) <= {-1, 1}
    assert pipeline.score_samples(X).shape == (len(X),)


def test_in_a_search(X, rng):
    rows = X.copy()
    y = (rng.random_sample(len(X)) < 0.1).astype(int)
    rows[y == 1, 0] += 20
    scorer = make_scorer(
        lambda y, scores: roc_auc_score(y, -scores), response_method="decision_function"
    )
    grid = {"transformer__n_components": [1, 2], "distance": ["both", "model"]}
    search = GridSearchCV(WiSEALEDetector(SMALL), grid, scoring=scorer, cv=2).fit(rows, y)
    assert search.best_score_ > 0.9


def test_dataframe_with_categories(X):
    frame = pd.DataFrame(X[:, :3], columns=list("abc"))
    frame["kind"] = np.where(X[:, 0] > 10, "warm", "cold")
    detector = WiSEALEDetector(WiSEALETransformer(max_epochs=2, random_state=0)).fit(frame)
    assert list(detector.feature_names_in_) == ["a", "b", "c", "kind"]
    assert detector.n_features_in_ == 4
    planted = frame.head(5).assign(a=1e3)
    assert (detector.score_samples(planted) < detector.score_samples(frame.head(5))).all()
    assert (detector.predict(planted) == -1).all()
    holes = frame.head(5).assign(kind=pd.Series([None] * 5, dtype=object))
    assert np.isfinite(detector.score_samples(holes)).all()


# errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"contamination": 0.6}, ["contamination", "0.6", "0.5"]),
        ({"contamination": 0.0}, ["contamination", "0.0", "0.5"]),
        ({"contamination": "some"}, ["contamination", "some", "auto"]),
        ({"distance": "far"}, ["distance", "far", "both", "model", "neighbors"]),
        ({"n_neighbors": 0}, ["n_neighbors", "0", "1"]),
        ({"max_rows": 1}, ["max_rows", "1", "2"]),
        ({"transformer": StandardScaler()}, ["transformer", "StandardScaler", "WiSEALE"]),
    ],
)
def test_errors_name_the_argument_and_what_is_allowed(X, params, words):
    with pytest.raises(ValueError, match="of WiSEALEDetector must be") as error:
        WiSEALEDetector(**params).fit(X)
    assert all(word in str(error.value) for word in words), error.value


def test_rows_of_another_width_are_refused(detector, X):
    with pytest.raises(ValueError, match="X has 5 features, but WiSEALEDetector is expecting 6"):
        detector.predict(X[:, :5])


@pytest.mark.parametrize("method", ["predict", "decision_function", "score_samples"])
def test_unfitted_detector_says_so(X, method):
    with pytest.raises(NotFittedError, match="WiSEALEDetector"):
        getattr(WiSEALEDetector(), method)(X)


def test_refused_rows_leave_the_detector_as_it_was(detector, X):
    fitted = clone(detector).fit(X)
    scores, spoiled = fitted.score_samples(X), X.copy()
    spoiled[0, 0] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        fitted.fit(spoiled)
    np.testing.assert_array_equal(fitted.score_samples(X), scores)
