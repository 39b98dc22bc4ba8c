"""scikit-learn's own estimator checks, for every objective, likelihood and precision."""

import pytest
from references import BOUNDS
from sklearn.utils import estimator_checks as checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.networks import MLP
from sklearn_wiseale.objectives import OBJECTIVES, WiSEALE

SMALL = {"max_epochs": 3, "network": MLP(hidden=(16,)), "random_state": 0}
ESTIMATORS = [
    *(WiSEALETransformer(objective=objective, **SMALL) for objective in OBJECTIVES),
    *(WiSEALETransformer(objective=WiSEALE(bound=bound), **SMALL) for bound in BOUNDS),
    WiSEALETransformer(objective=WiSEALE(neighbors=3), **SMALL),
    WiSEALETransformer(precision="float64", **SMALL),
    WiSEALETransformer(early_stopping=False, **SMALL),
]

#: Checks that scikit-learn defines but never yields for a transformer.
UNYIELDED = [
    "check_get_feature_names_out_error",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
    "check_dataframe_column_names_consistency",
    "check_param_validation",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_global_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_global_set_output_transform_polars",
    "check_inplace_ensure_writeable",
    "check_estimators_partial_fit_n_features",
]


@parametrize_with_checks(ESTIMATORS)
def test_estimator_check(estimator, check, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # else the array-API check skips itself
    check(estimator)


# two of these checks fit on a dataframe and transform an array: scikit-learn itself warns
@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names:UserWarning")
@pytest.mark.parametrize("name", UNYIELDED)
def test_check_that_is_never_yielded(name):
    estimator = WiSEALETransformer(**SMALL)
    getattr(checks, name)(type(estimator).__name__, estimator)


@pytest.mark.long
@parametrize_with_checks([WiSEALETransformer()])
def test_estimator_check_with_all_defaults(estimator, check, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    check(estimator)
