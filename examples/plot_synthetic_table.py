"""
A synthetic copy of a table
===========================

``sample`` draws rows that look like those of a table, with its columns and dtypes. The figures
compare the columns one by one and in pairs. Some entries can be given, and the others are then
drawn accordingly. The table is simulated: trips of a bicycle rental.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sklearn_wiseale import WiSEALETransformer

n = 1500
rng = np.random.RandomState(0)
warmth, leisure = rng.standard_normal((2, n))
wet = rng.random_sample(n) < 1 / (1 + np.exp(1 + 1.5 * warmth))
minutes = np.exp(2.8 + 0.5 * leisure + 0.2 * warmth - 0.4 * wet + 0.1 * rng.standard_normal(n))
bicycle = np.select([leisure > 1.0, leisure > -0.2], ["tandem", "city"], "electric")
table = pd.DataFrame(
    {
        "temperature": 14 + 7 * warmth + rng.standard_normal(n),
        "minutes": minutes,
        "weather": np.where(wet, "rain", np.where(warmth > 0.3, "sun", "clouds")),
        "bicycle": np.where(rng.random_sample(n) < 0.1, "city", bicycle),
        "weekend": leisure + 0.6 * rng.standard_normal(n) > 0.6,
    }
)

# %%
# Rows of the table, and drawn rows.

model = WiSEALETransformer(2, random_state=0).fit(table)
copy = model.sample(n, random_state=0)
print(table.head(4).round(1).to_string(), "\n")
print(copy.head(4).round(1).to_string(), "\n")
print("same dtypes:", bool((copy.dtypes == table.dtypes).all()))

# %%
# Each column by itself, and two pairs of columns.

frames = {"table": table, "copy": copy}
figure, axes = plt.subplots(2, 3, figsize=(11, 6), layout="constrained")
for axis, name in zip(axes[0], ("minutes", "weather", "bicycle"), strict=True):
    if name == "minutes":
        parts = [frame[name] for frame in frames.values()]
        axis.hist(parts, bins=np.arange(0, 80, 5), density=True, label=list(frames))
        axis.set(xlabel=name, yticks=[])
    else:
        shares = pd.DataFrame({k: f[name].value_counts(normalize=True) for k, f in frames.items()})
        shares.plot.bar(ax=axis, rot=0, legend=False, xlabel=name, ylabel="share")
axes[0, 0].legend()
for axis, (title, frame) in zip(axes[1, :2], frames.items(), strict=True):
    for color, (weather, rows) in zip(("0.6", "C0", "C1"), frame.groupby("weather"), strict=True):
        axis.plot(rows["temperature"], rows["minutes"], ".", color=color, ms=2, label=weather)
    axis.set(title=title, xlabel="temperature", ylabel="minutes", xlim=(-12, 40), ylim=(0, 110))
axes[1, 0].legend(markerscale=4)
weekend = pd.DataFrame({k: f.groupby("bicycle")["weekend"].mean() for k, f in frames.items()})
weekend.plot.bar(ax=axes[1, 2], rot=0, legend=False, ylabel="share of trips on weekends")

# %%
# All pairs in numbers: correlations of the columns, categories as zeros and ones.

correlations = [pd.get_dummies(frame, dtype=float).corr().to_numpy() for frame in frames.values()]
pairs = np.triu_indices_from(correlations[0], k=1)
difference = np.abs(correlations[0] - correlations[1])[pairs].mean()
print(f"mean absolute correlation {np.abs(correlations[0])[pairs].mean():.2f}, ", end="")
print(f"mean difference of the copy {difference:.2f}")

# %%
# Rows with given entries: short trips in the rain, and long ones in the sun.

for weather, bicycle in (("rain", "electric"), ("sun", "tandem")):
    rows = model.sample(500, random_state=0, given={"weather": weather, "bicycle": bicycle})
    real = table[(table["weather"] == weather) & (table["bicycle"] == bicycle)]
    print(f"{weather}, {bicycle}: ", end="")
    print(f"minutes {rows['minutes'].mean():.0f} (table {real['minutes'].mean():.0f}), ", end="")
    print(f"weekend {rows['weekend'].mean():.0%} (table {real['weekend'].mean():.0%})")
