"""The estimator among the tools that users put around it."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import skops.io as skops
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_diabetes, load_wine
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, KFold, cross_val_score
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import nn

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.likelihoods import Mixed, NegativeBinomial
from sklearn_wiseale.networks import MLP, Conv, Modules

X, Y = load_wine(return_X_y=True, as_frame=True)
SMALL = {"network": MLP(hidden=(8,)), "max_epochs": 2, "early_stopping": False, "random_state": 0}


def reducer(n_components=2, **params):
    return WiSEALETransformer(n_components, **{**SMALL, **params})


def test_names_pass_through_a_whole_pipeline():
    pipeline = make_pipeline(StandardScaler(), reducer(3)).set_output(transform="pandas")
    codes = pipeline.fit_transform(X)
    names = ["wisealetransformer0", "wisealetransformer1", "wisealetransformer2"]
    assert list(codes.columns) == names
    assert list(pipeline.get_feature_names_out()) == names
    assert codes.index.equals(X.index)
    selected = make_pipeline(reducer(3), SelectKBest(f_classif, k=1)).set_output(transform="pandas")
    assert selected.fit_transform(X, Y).columns[0] in names


def test_frames_of_both_libraries_give_the_codes_of_the_array():
    codes = reducer().fit(X.to_numpy()).transform(X.to_numpy())
    np.testing.assert_array_equal(reducer().fit(X).transform(X), codes)
    frame = pl.from_pandas(X)
    model = reducer().set_output(transform="polars").fit(frame)
    np.testing.assert_array_equal(model.transform(frame).to_numpy(), codes)
    assert list(model.feature_names_in_) == list(X.columns)


def test_other_columns_are_refused_by_name():
    model = reducer().fit(X)
    with pytest.raises(ValueError, match="feature names"):
        model.transform(X.rename(columns={"alcohol": "spirit"}))


def test_columns_of_a_frame_through_a_column_transformer():
    table = X.assign(cellar=np.where(Y > 0, "north", "south"))
    pipeline = make_pipeline(
        ColumnTransformer(
            [
                ("codes", reducer(), list(X.columns)),
                ("cellar", OneHotEncoder(sparse_output=False), ["cellar"]),
            ]
        ).set_output(transform="pandas"),
        LogisticRegression(max_iter=2000),
    ).fit(table, Y)
    names = list(pipeline[0].get_feature_names_out())
    assert names[:2] == ["codes__wisealetransformer0", "codes__wisealetransformer1"]
    assert pipeline.score(table, Y) > 0.5


def test_beside_other_transformers_in_a_union():
    union = FeatureUnion([("codes", reducer()), ("scaled", StandardScaler())])
    both = union.fit_transform(X)
    assert both.shape == (len(X), 2 + X.shape[1])
    np.testing.assert_allclose(both[:, :2], reducer().fit_transform(X), rtol=1e-6)
    assert len(union.get_feature_names_out()) == both.shape[1]


def test_float32_codes_serve_a_regressor_of_a_transformed_target():
    features, target = load_diabetes(return_X_y=True)
    model = TransformedTargetRegressor(
        make_pipeline(reducer(4), Ridge()), func=np.log1p, inverse_func=np.expm1
    ).fit(features, target)
    codes = model.regressor_[0].transform(features).astype(np.float64)
    expected = np.expm1(Ridge().fit(codes, np.log1p(target)).predict(codes))
    np.testing.assert_allclose(model.predict(features), expected, rtol=1e-3)
    assert model.score(features, target) > 0


def test_halving_search_gives_more_epochs_to_better_candidates():
    search = HalvingGridSearchCV(
        reducer(), {"n_components": [1, 2, 3]}, resource="max_epochs", min_resources=1,
        max_resources=3, factor=3, cv=2, random_state=0,
    ).fit(X)  # fmt: skip
    assert list(search.cv_results_["n_resources"]) == [1, 1, 1, 3]
    assert search.best_estimator_.n_iter_ == 3


def test_grid_over_parts_and_their_parameters():
    search = GridSearchCV(
        Pipeline([("reduce", reducer()), ("model", LogisticRegression(max_iter=2000))]),
        [
            {"reduce__n_components": [1, 3]},
            {"reduce__objective": ["elbo", "wae"], "reduce__network__hidden": [(4,)]},
        ],
        cv=2,
    ).fit(X, Y)
    assert len(search.cv_results_["params"]) == 4
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_metadata_routing_switched_on():
    with sklearn.config_context(enable_metadata_routing=True):
        model = LogisticRegression(max_iter=2000)
        model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipeline = make_pipeline(reducer(), model)
        weighted = pipeline.fit(X, Y, sample_weight=np.where(Y == 0, 100.0, 1.0))
        plain = make_pipeline(reducer(), LogisticRegression(max_iter=2000)).fit(X, Y)
        assert (weighted.predict(X) == 0).sum() > (plain.predict(X) == 0).sum()
        scores = cross_val_score(
            pipeline, X, Y, cv=2, params={"sample_weight": np.ones(len(Y))}, error_score="raise"
        )
        assert np.isfinite(scores).all()


def test_categories_under_cross_validation():
    """A fold may lack a category; named in the encoder, it keeps its column."""
    kinds = np.array(["oak"] * 60 + ["steel"] * 57 + ["clay"] * 3, dtype=object)
    table = pd.DataFrame({"alcohol": X["alcohol"][:120], "cask": kinds})

    def pipeline(**params):
        encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False, **params)
        columns = ColumnTransformer(
            [("number", StandardScaler(), ["alcohol"]), ("kind", encoder, ["cask"])]
        )
        likelihood = Mixed.from_column_transformer(columns.fit(table))
        return make_pipeline(columns, reducer(likelihood=likelihood))

    with pytest.raises(ValueError, match=r"all categories in OneHotEncoder\(categories="):
        cross_val_score(pipeline(), table, cv=KFold(3), error_score="raise")
    named = pipeline(categories=[["clay", "oak", "steel"]])
    assert np.isfinite(cross_val_score(named, table, cv=KFold(3), error_score="raise")).all()


@pytest.mark.parametrize("missing", [None, np.nan])
def test_nullable_and_missing_columns_of_pandas(missing):
    table = X.astype("Float64").copy()
    if missing is not None:
        table.iloc[0, 0] = pd.NA
    codes = reducer().fit(table).transform(table)
    assert np.isfinite(codes).all()
    expected = X.to_numpy(copy=True)
    if missing is not None:
        expected[0, 0] = np.nan
    np.testing.assert_array_equal(codes, reducer().fit(expected).transform(expected))


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"objective": "wae", "likelihood": NegativeBinomial()},
        {"network": Conv((1, 8, 8), channels=(4,))},
        {"network": Modules(nn.Linear(64, 4), nn.Linear(2, 64))},
    ],
    ids=["defaults", "counts", "images", "modules"],
)
def test_skops_loads_what_it_is_told_to_trust(params):
    rows = np.random.default_rng(0).poisson(3.0, (40, 64)).astype(float)
    if "likelihood" not in params:
        rows[0, 1] = np.nan
    model = reducer(**params).fit(rows)
    data = skops.dumps(model)
    again = skops.loads(data, trusted=skops.get_untrusted_types(data=data))
    np.testing.assert_array_equal(again.transform(rows), model.transform(rows))
    np.testing.assert_array_equal(again.sample(3, random_state=0), model.sample(3, random_state=0))
    assert again.net_.history == model.net_.history
    unpickled = pickle.loads(pickle.dumps(model)).partial_fit(rows)
    expected = unpickled.transform(rows)
    np.testing.assert_array_equal(again.partial_fit(rows).transform(rows), expected)


# packages that the extra "interoperation" installs -----------------------------------------------


@pytest.mark.long
def test_optuna_searches_over_the_estimator():
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial):
        weight = trial.suggest_float("weight", 0.1, 10, log=True)
        from sklearn_wiseale.objectives import WiSEALE

        model = reducer(trial.suggest_int("n_components", 1, 3), objective=WiSEALE(weight=weight))
        return cross_val_score(model, X, cv=2).mean()

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=4)
    assert len(study.trials) == 4
    assert np.isfinite(study.best_value)


@pytest.mark.long
def test_pipelines_of_imbalanced_learn():
    from imblearn.over_sampling import RandomOverSampler
    from imblearn.pipeline import make_pipeline as make_sampling_pipeline

    pipeline = make_sampling_pipeline(
        RandomOverSampler(random_state=0), reducer(3), LogisticRegression(max_iter=2000)
    ).fit(X, Y)
    assert pipeline.score(X, Y) > 0.5


@pytest.mark.long
@pytest.mark.parametrize("way", ["cloudpickle", "skops"])
@pytest.mark.filterwarnings("ignore::Warning:mlflow")
def test_mlflow_logs_and_loads_a_pipeline(tmp_path, way):
    import mlflow.sklearn

    pipeline = make_pipeline(reducer(), LogisticRegression(max_iter=2000)).fit(X, Y)
    trusted = skops.get_untrusted_types(data=skops.dumps(pipeline)) if way == "skops" else None
    mlflow.sklearn.save_model(
        pipeline,
        tmp_path / "model",
        serialization_format=way,
        skops_trusted_types=trusted,
        pip_requirements=[],
    )
    again = mlflow.sklearn.load_model(str(tmp_path / "model"))
    np.testing.assert_array_equal(again.predict(X), pipeline.predict(X))


def test_text_columns_of_other_libraries_are_refused_with_both_ways_out():
    import pyarrow as pa

    table = pa.table({"size": [1.0, 2.0, 3.0], "kind": ["a", "b", "a"]})
    with pytest.raises(ValueError, match=r"\['kind'\].*pandas or polars.*'auto'.*OneHotEncoder"):
        WiSEALETransformer(1).fit(table)
