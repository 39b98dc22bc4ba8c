"""
DataFrames: some columns, or beside another reducer
===================================================

The estimator takes dataframes, remembers the names of their columns and gives dataframes back.
``ColumnTransformer`` reduces some of the columns and passes the others on; ``FeatureUnion`` puts
codes beside those of another reducer.
"""

from sklearn.compose import make_column_transformer
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.networks import MLP
from sklearn_wiseale.plotting import EmbeddingDisplay

X, y = load_wine(return_X_y=True, as_frame=True)
reducer = WiSEALETransformer(2, network=MLP(hidden=(64,)), max_epochs=40, random_state=0)

# %%
# Names in, names out.

reducer.set_output(transform="pandas")
codes = reducer.fit_transform(X)
print(codes.head(3).round(2).to_string(), "\n")

# %%
# Codes for the phenols, the other columns as they are.

phenols = ["total_phenols", "flavanoids", "nonflavanoid_phenols", "proanthocyanins"]
columns = make_column_transformer(
    (reducer, phenols), ("passthrough", ["alcohol", "proline"]), verbose_feature_names_out=False
).set_output(transform="pandas")
print(columns.fit_transform(X).head(3).round(2).to_string(), "\n")

# %%
# Codes of two reducers side by side.

both = make_union(reducer, make_pipeline(StandardScaler(), PCA(2))).set_output(transform="pandas")
print(both.fit_transform(X).head(3).round(2).to_string(), "\n")

# %%
# Polars, where it is installed.

try:
    import polars

    named = reducer.set_output(transform="polars").fit_transform(polars.from_pandas(X))
    print(type(named).__module__.split(".")[0], named.columns, named.shape)
except ImportError:
    print("polars is not installed")

# %%
# Displays take dataframes as well, and a series that names its values.

cultivar = y.map({0: "first", 1: "second", 2: "third"}).rename("cultivar")
EmbeddingDisplay.from_estimator(reducer, X, cultivar, posterior="ellipses", max_ellipses=40)
