"""Laws of the displays: they draw the results of the estimator, and leave settings as they are."""

import inspect
import re
import sys

import matplotlib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from matplotlib.colors import to_rgb
from scipy import sparse
from scipy.stats import norm
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.manifold import TSNE
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_wiseale import WiSEALETransformer, plotting
from sklearn_wiseale.networks import MLP, Conv
from sklearn_wiseale.plotting import (
    ContributionsDisplay,
    EmbeddingDisplay,
    ExplainedVarianceDisplay,
    LoadingsDisplay,
    ReconstructionDisplay,
    TrainingDisplay,
    TraversalDisplay,
)

matplotlib.use("Agg")
import matplotlib.pyplot as plt

embed, reconstruct = EmbeddingDisplay.from_estimator, ReconstructionDisplay.from_estimator
traverse, train = TraversalDisplay.from_estimator, TrainingDisplay.from_estimator
load, contribute = LoadingsDisplay.from_estimator, ContributionsDisplay.from_estimator
explain = ExplainedVarianceDisplay.from_estimator

N, FEATURES = 60, ["length", "width", "height", "mass", "age", "price"]
#: Standard deviations of the columns, of which "length" is constant up to the fourth digit.
SPREAD = np.array([1e-3, 2.0, 0.5, 30.0, 1.0, 7.0])
STYLES = ["default", "dark_background"]
NAMES = [f"wisealetransformer{i}" for i in range(3)]
TERMS = ["loss", "reconstruction", "divergence"]
MINUS = "\N{MINUS SIGN}"


def image_rows(channels=1, side=4):
    rng = np.random.RandomState(1)
    factors = rng.standard_normal((N, 3)) @ rng.standard_normal((3, channels * side**2))
    return (0.5 + 0.05 * factors.clip(-9, 9)).reshape(N, channels, side, side)


def make(n_components, **params):
    small = {"max_epochs": 2, "network": MLP(hidden=(8,)), "random_state": 0}
    return WiSEALETransformer(n_components, **{**small, **params})


def evenly(n, n_rows=N):
    """Rows that are evenly spaced over all of them."""
    return np.linspace(0, n_rows - 1, n).round().astype(int)


def strings(n_classes):
    return np.array([f"class {i % n_classes:02d}" for i in range(N)])


def shown(image):
    return np.asarray(image.get_array())


def texts(artists):
    return [text.get_text() for text in artists]


def labels(ax):
    return [ax.get_xlabel(), ax.get_ylabel()]


@pytest.fixture(scope="module", name="X")
def table():
    rng = np.random.RandomState(0)
    X = rng.standard_normal((N, 3)) @ rng.standard_normal((3, 6))
    X = (X - X.mean(axis=0)) / X.std(axis=0) + 0.1 * rng.standard_normal((N, 6))
    return pd.DataFrame(3.0 + SPREAD * X, columns=FEATURES)


@pytest.fixture(scope="module")
def holes(X):
    return X.mask(np.random.RandomState(0).random_sample(X.shape) < 0.2)


@pytest.fixture(scope="module")
def tables(X):
    """By their number of components, estimators fitted to the table."""
    return {k: make(k).fit(X) for k in (1, 2, 3)}


@pytest.fixture(scope="module")
def images():
    """By their number of components, estimators fitted to images as rows."""
    rows = image_rows().reshape(N, -1)
    return {k: make(k, scale="global").fit(rows) for k in (1, 2, 3)}


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    plt.close("all")


#: Each display of the table, given its estimators by number of components, the rows, and keywords.
MAKERS = {
    "embedding": lambda m, X, **kw: embed(m[2], X, **kw),
    "embedding of one": lambda m, X, **kw: embed(m[1], X, np.arange(N) % 3, posterior=True, **kw),
    "reconstruction": lambda m, X, **kw: reconstruct(m[2], X, **kw),
    "images": lambda m, X, **kw: reconstruct(m[2], X, image_shape=(2, 3), **kw),
    "traversal": lambda m, X, **kw: traverse(m[2], **kw),
    "traversal of images": lambda m, X, **kw: traverse(m[2], image_shape=(2, 3), n_steps=3, **kw),
    "training": lambda m, X, **kw: train(m[2], **kw),
    "variance": lambda m, X, **kw: explain(m[3], **kw),
    "loadings": lambda m, X, **kw: load(m[3], **kw),
    "contributions": lambda m, X, **kw: contribute(m[2], X[:20], reference=X, **kw),
    "contributions of one": lambda m, X, **kw: contribute(m[2], X[:1], **kw),
}
each_display = pytest.mark.parametrize("display", MAKERS)
each_class = pytest.mark.parametrize("cls", [getattr(plotting, name) for name in plotting.__all__])


def called(cls, estimator, X):
    """A call with nothing but an estimator and, where it takes them, rows."""
    with_rows = EmbeddingDisplay, ReconstructionDisplay, ContributionsDisplay
    rows = [X] if cls in with_rows else []
    return cls.from_estimator(estimator, *rows)


# all displays ---------------------------------------------------------------------------------


def contrast(colour, background):
    """Ratio of relative luminances, as in the guidelines for accessible web pages."""
    light = []
    for c in (colour, background):
        rgb = np.array(to_rgb(c))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        light.append(linear @ [0.2126, 0.7152, 0.0722] + 0.05)
    return max(light) / min(light)


@each_display
@pytest.mark.parametrize("style", STYLES)
def test_display_draws_in_light_and_dark_and_leaves_settings(
    tables, X, display, style, monkeypatch
):
    monkeypatch.setattr(plt, "show", lambda *args, **kw: pytest.fail("plt.show was called"))
    with plt.style.context(style):
        settings, state = dict(matplotlib.rcParams), np.random.get_state()[1].copy()
        drawn = MAKERS[display](tables, X)
        assert dict(matplotlib.rcParams) == settings
        np.testing.assert_array_equal(np.random.get_state()[1], state)
        drawn.figure_.canvas.draw()
        background = drawn.figure_.get_facecolor()
        for text in drawn.figure_.findobj(matplotlib.text.Text):
            if text.get_text() and text.get_visible():
                assert contrast(text.get_color(), background) > 7, text
        for line in drawn.figure_.findobj(matplotlib.lines.Line2D):
            if len(line.get_xdata()):
                assert contrast(line.get_color(), background) > 1.2, line


@each_display
def test_display_draws_in_the_axes_it_is_given_and_plots_again(tables, X, display):
    figure, axes = plt.subplots(1, 2, figsize=(9, 5))
    drawn = MAKERS[display](tables, X, ax=axes[1])
    assert plt.get_fignums() == [figure.number]
    assert drawn.figure_ is figure
    assert not axes[0].has_data()
    box = axes[1].get_position()
    for ax in [drawn.ax_, *getattr(drawn, "axes_", [])]:
        inner = ax.get_position()
        assert box.x0 - 1e-9 <= inner.x0 < inner.x1 <= box.x1 + 1e-9
    figure.canvas.draw()
    assert drawn.plot() is drawn
    assert drawn.figure_ is not figure
    assert len(plt.get_fignums()) == 2
    assert drawn.plot(axes[0]).figure_ is figure
    assert drawn.plot(ax=axes[0]) is drawn
    for ax in ("here", 3):
        with pytest.raises(ValueError, match="ax must be a matplotlib Axes"):
            drawn.plot(ax=ax)


@each_display
def test_display_fits_into_400_pixels(tables, X, display):
    figure, ax = plt.subplots(figsize=(4, 4), dpi=100, layout="constrained")
    drawn = MAKERS[display](tables, X, ax=ax)
    figure.canvas.draw()
    for panel in getattr(drawn, "axes_", [drawn.ax_]):
        box = panel.get_window_extent()
        assert box.width > 40
        assert box.height > 25
        for name, across in (("x", "width"), ("y", "height")):
            low, high = getattr(panel, f"get_{name}lim")()
            ticks = getattr(panel, f"{name}axis").get_major_ticks()
            marks = [tick.label1 for tick in ticks if low <= tick.get_loc() <= high]
            needed = sum(getattr(t.get_window_extent(), across) for t in marks)
            slanted = any(t.get_rotation() for t in marks)
            assert slanted or needed < 1.3 * getattr(box, across), (name, needed)


@each_class
def test_every_parameter_is_described(cls):
    for method in (cls, cls.from_estimator, cls.plot):
        doc = inspect.cleandoc(method.__doc__)
        parts = doc.split("\nParameters\n----------\n")[1].split("\n\n")
        described = {name for part in parts for name in part.split(" : ")[0].split(", ")}
        assert set(inspect.signature(method).parameters) - {"self"} <= described
        assert method is cls or f"display : {cls.__name__}" in doc


@each_class
def test_display_needs_a_fitted_estimator_and_matplotlib(tables, X, cls, monkeypatch):
    with pytest.raises(NotFittedError):
        called(cls, make(2), X)
    for name in [n for n in sys.modules if n.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    message = rf"{cls.__name__}.from_estimator requires matplotlib.*sklearn-wiseale\[plot\]"
    with pytest.raises(ImportError, match=message):
        called(cls, tables[2], X)


@pytest.mark.parametrize(
    ("cls", "estimator", "message"),
    [
        (EmbeddingDisplay, TSNE(), "have transform for .* Got TSNE, which has no transform"),
        (ReconstructionDisplay, StandardScaler, "StandardScaler"),
        (ReconstructionDisplay, TSNE(), "transform and inverse_transform.* Got TSNE"),
        (TraversalDisplay, PCA(2), "inverse_transform and posterior.* Got PCA.* no posterior"),
        (LoadingsDisplay, PCA(2), "have loadings for .* Got PCA, which has no loadings"),
        (ContributionsDisplay, PCA(2), "have contributions for .* Got PCA"),
        (ExplainedVarianceDisplay, StandardScaler().fit(np.eye(2)), "explained_variance_ratio_"),
        (TrainingDisplay, PCA(2), "have history_ for .* Got PCA, which has no history_"),
    ],
)
def test_display_refuses_estimators_that_lack_a_method(X, cls, estimator, message):
    kind = TypeError if isinstance(estimator, type) else ValueError
    if isinstance(estimator, PCA):
        estimator.fit(X)
    with pytest.raises(kind, match=message):
        called(cls, estimator, X)


IMAGES = (
    "image_shape must be (height, width), (channels, height, width) or (height, width, channels), "
    "with 1 or 3 channels, and its product must be 6, the number of features"
)
ROWS = "X must have shape (n_samples, n_features) or, for images, (n_samples, C, H, W)"
#: By call and argument, what must hold and values for which it does not.
RULES = {
    (embed, "components"): (
        "components must be 1 or 2 distinct ints from 0 to 2",
        [(0, 3), (1, 1), (-1, 0), (0, 1, 2), (), (0.0, 1.0), (True, False), "01", None],
    ),
    (embed, "posterior"): ("posterior must be False, True or 'ellipses'", ["lines", 1]),
    (embed, "prior"): ("prior must be True, False or 'auto'", ["yes", 0]),
    (embed, "max_ellipses"): ("max_ellipses must be an int >= 1", [0, 2.5]),
    (embed, "scatter_kwargs"): ("scatter_kwargs must be a dict or None", ["s"]),
    (reconstruct, "image_shape"): (IMAGES, [(2, 2), (6,), 6, (2.0, 3.0), (-2, -3)]),
    (reconstruct, "n_rows"): ("n_rows must be an int >= 1", [0, True]),
    (reconstruct, "max_features"): ("max_features must be an int >= 1", ["all"]),
    (contribute, "max_features"): ("max_features must be an int >= 1", [0, None]),
    (load, "max_features"): ("max_features must be an int >= 1", [0, 2.0]),
    (load, "components"): (
        "components must be one or more distinct ints from 0 to 2",
        [(0, 3), [], "0"],
    ),
    (traverse, "n_steps"): ("n_steps must be an int >= 2", [1, 3.0]),
    (traverse, "span"): ("span must be a number > 0", [0, np.inf, "wide", True]),
    (traverse, "units"): ("units must be 'auto', 'data' or 'sd'", ["nats"]),
    (traverse, "components"): (
        "components must be one or more distinct ints from 0 to 2",
        [(0, 3), []],
    ),
    (traverse, "image_shape"): (IMAGES, [(4, 4)]),
    (traverse, "cmap"): ("cmap must be a Colormap of matplotlib or the name of one", ["greys", 3]),
}
NO_HOLES = "y must not have missing values. Got"
REFUSED = [
    *((*key, value, f"{rule}. Got {value!r}.") for key, (rule, v) in RULES.items() for value in v),
    *(
        (embed, "y", y, f"y must have shape (60,), one value for each row of X. Got shape {shape}.")
        for y, shape in ((np.arange(N - 1), (59,)), (np.zeros((N, 2)), (60, 2)), (3, ()))
    ),
    *(
        (reconstruct, "X", X, f"{ROWS}. Got shape {X.shape}.")
        for X in map(np.zeros, (6, (2, 2, 2)))
    ),
    (reconstruct, "X", pd.DataFrame(np.full((3, 6), np.inf), columns=FEATURES), "infinity"),
    (reconstruct, "random_state", "seed", "RandomState instance or None. Got 'seed'."),
    (
        embed,
        "y",
        np.r_[np.nan, np.ones(N - 1)],
        f"{NO_HOLES} {np.float64(np.nan)!r} for row 0 and 1 in all",
    ),
    (embed, "y", np.array([*strings(2)[1:], None]), f"{NO_HOLES} None for row 59 and 1 in all"),
    (embed, "y", pd.Series([*strings(2)[1:], pd.NA]), NO_HOLES),
    (embed, "y", np.r_[np.inf, np.ones(N - 1)], f"y must be finite. Got {np.float64(np.inf)!r}."),
    (embed, "y", np.ones(N) * 1j, "y must hold numbers, booleans or strings. Got dtype complex128"),
    (embed, "y", np.full(N, "2020-01-01", dtype="datetime64[D]"), "Got dtype datetime64"),
]


@pytest.mark.parametrize(("call", "name", "value", "message"), REFUSED)
def test_arguments_are_refused_before_anything_is_drawn(tables, X, call, name, value, message):
    rows = {} if call == traverse else {"X": X}
    with pytest.raises(ValueError, match=re.escape(message)):
        call(tables[3], **{**rows, name: value})
    assert not plt.get_fignums()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("n", range(1, 13))
def test_colours_of_classes_stand_out_from_the_background(tables, X, style, n):
    with plt.style.context(style):
        display = embed(tables[2], X, strings(n))
        colours = np.unique(display.scatter_.get_facecolors(), axis=0)
        background = display.ax_.get_facecolor()
        assert len(colours) == n
        assert all(contrast(c[:3], background) > 1.2 for c in colours)
        plain = embed(tables[2], X).scatter_.get_facecolors()[0]
        assert contrast(plain[:3], background) > 4


# embedding ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("k", "components"), [(2, (0, 1)), (2, (1, 0)), (3, (0, 1)), (3, [2, 0]), (3, np.array([1, 2]))]
)
def test_points_stand_at_the_codes(tables, X, k, components):
    display = embed(tables[k], X, components=components)
    expected = tables[k].transform(X)[:, list(components)]
    np.testing.assert_array_equal(display.scatter_.get_offsets(), expected)
    assert labels(display.ax_) == [NAMES[c] for c in components]
    assert display.colorbar_ is display.ellipses_ is None


@pytest.mark.parametrize(("k", "components"), [(1, (0, 1)), (1, 0), (1, (0,)), (3, 2)])
def test_points_of_one_component_are_stacked_into_a_histogram(tables, X, k, components):
    display = embed(tables[k], X, np.arange(N) % 3, components=components)
    component = 0 if k == 1 else 2
    code, height = display.scatter_.get_offsets().T
    np.testing.assert_array_equal(code, tables[k].transform(X)[:, component])
    edges = np.linspace(code.min(), code.max(), int(2 * N**0.5) + 1)
    counts = np.histogram(code, edges)[0]
    expected = np.concatenate([np.arange(count) + 0.5 for count in counts])
    np.testing.assert_array_equal(np.sort(height), np.sort(expected))
    assert labels(display.ax_) == [NAMES[component], "rows"]
    z, density = display.prior_[0].get_data()
    np.testing.assert_allclose(density, norm.pdf(z) * N * np.diff(edges)[0])


def test_one_component_may_be_constant():
    display = EmbeddingDisplay(codes=np.zeros((4, 1)), names=["z"], prior=True).plot()
    np.testing.assert_array_equal(display.scatter_.get_offsets()[:, 1], [0.5, 1.5, 2.5, 3.5])


@pytest.mark.parametrize("posterior", [True, "ellipses"])
@pytest.mark.parametrize("n", [7, N])
@pytest.mark.parametrize("y", [None, np.arange(N) % 3, np.linspace(0.0, 1.5, N)])
def test_half_axes_of_ellipses_are_standard_deviations(tables, X, posterior, n, y):
    given = {"posterior": posterior, "components": (2, 0), "max_ellipses": n}
    display = embed(tables[3], X, y, **given)
    np.testing.assert_array_equal(display.std_rows, evenly(n))
    mean, std = (part[evenly(n)][:, [2, 0]] for part in tables[3].posterior(X))
    ellipses = display.ellipses_
    np.testing.assert_array_equal(ellipses.get_offsets(), mean)
    np.testing.assert_allclose([ellipses.get_widths(), ellipses.get_heights()], 2 * std.T)
    low, high = np.array([display.ax_.get_xlim(), display.ax_.get_ylim()]).T
    assert (low <= (mean - std).min(axis=0)).all()
    assert (high >= (mean + std).max(axis=0)).all()
    display.figure_.canvas.draw()
    points = display.scatter_.get_facecolors()
    expected = points if y is None else points[evenly(n)]
    np.testing.assert_array_equal(ellipses.get_edgecolors()[:, :3], expected[:, :3])


def test_posteriors_of_one_component_are_lines(tables, X):
    display = embed(tables[1], X, posterior=True)
    mean, std = tables[1].posterior(X)
    segments = np.array(display.ellipses_.get_segments())
    np.testing.assert_allclose(segments[:, :, 0], np.hstack([mean - std, mean + std]))
    heights = display.scatter_.get_offsets()[:, [1]]
    np.testing.assert_array_equal(segments[:, :, 1], np.hstack([heights, heights]))


@pytest.mark.parametrize("prior", ["auto", True, False])
def test_prior_is_circles(tables, X, prior):
    display = embed(tables[2], X, prior=prior)
    assert [circle.radius for circle in display.prior_] == ([1, 2, 3] if prior else [])
    assert all(circle.center == (0, 0) for circle in display.prior_)
    if prior:
        assert display.ax_.get_aspect() == 1
        assert display.ax_.get_xlim()[1] >= 3


@pytest.mark.parametrize(
    ("y", "names"),
    [
        (strings(3), ["class 00", "class 01", "class 02"]),
        (strings(2).astype(object), ["class 00", "class 01"]),
        (np.arange(N) % 4, ["0", "1", "2", "3"]),
        (np.arange(N) % 2 - 1.0, ["-1", "0"]),
        (np.arange(N) % 2 == 0, ["False", "True"]),
        ([i % 3 for i in range(N)], ["0", "1", "2"]),
        (np.array([i % 3 for i in range(N)], dtype=object), ["0", "1", "2"]),
        (np.array(["a", 1] * (N // 2), dtype=object), ["1", "a"]),
        (pd.Series(strings(2), dtype="category"), ["class 00", "class 01"]),
        (pd.DataFrame({"kind": strings(2)}), ["class 00", "class 01"]),
        (pl.Series(strings(2).tolist()), ["class 00", "class 01"]),
        (strings(10), [f"class {i:02d}" for i in range(10)]),
    ],
)
def test_classes_have_a_legend(tables, X, y, names):
    display = embed(tables[2], X, y)
    assert texts(display.legend_.get_texts()) == [*names, "prior,\n1 to 3 sd"]
    assert display.colorbar_ is None
    colours = display.scatter_.get_facecolors()
    values = np.asarray(y).ravel().astype(str)
    assert len(np.unique(colours, axis=0)) == len(names)
    for handle, name in zip(display.legend_.legend_handles, np.unique(values), strict=False):
        of_class = colours[values == name][:, :3]
        expected = np.tile(to_rgb(handle.get_color()), (len(of_class), 1))
        np.testing.assert_allclose(of_class, expected)


def test_many_classes_are_named_at_their_medians(tables, X):
    y = np.arange(N) % 9
    display = embed(tables[2], X, y)
    codes = tables[2].transform(X).astype(np.float64)
    assert texts(display.texts_) == list(map(str, range(9)))
    for i, text in enumerate(display.texts_):
        np.testing.assert_allclose(text.get_position(), np.median(codes[y == i], axis=0))
    assert not embed(tables[2], X, np.arange(N) % 8).texts_
    _, ax = plt.subplots()  # where nothing makes room, a long legend would hide the points
    inside = embed(tables[2], X, y, ax=ax)
    assert len(inside.legend_.get_texts()) == 1
    assert len(inside.texts_) == 9


@pytest.mark.parametrize(
    "y",
    [
        np.linspace(-1.0, 2.5, N),
        np.arange(N),
        np.float32(0.1) * np.arange(N),
        list(range(N)),
        1e300 * np.arange(N),
    ],
)
def test_numbers_have_a_colour_bar(tables, X, y):
    display = embed(tables[2], X, pd.Series(y, name="yield"))
    np.testing.assert_allclose(display.scatter_.get_array(), np.asarray(y, dtype=np.float64))
    assert display.colorbar_.mappable is display.scatter_
    assert display.colorbar_.ax.get_ylabel() == "yield"
    assert embed(tables[2], X, y).colorbar_.ax.get_ylabel() == "y"
    assert texts(display.legend_.get_texts()) == ["prior,\n1 to 3 sd"]


def test_classes_that_no_legend_could_list_have_a_colour_bar(tables, X):
    display = embed(tables[2], X, strings(25), posterior=True)
    ticks = texts(display.colorbar_.ax.get_yticklabels())
    assert [ticks[0], ticks[-1]] == ["class 00", "class 24"]
    np.testing.assert_array_equal(display.scatter_.get_array(), np.arange(N) % 25)


def test_legend_stands_inside_axes_that_are_given(tables, X):
    _, ax = plt.subplots()
    y = pd.Series(strings(2), name="yield")
    inside, outside = embed(tables[2], X, y, ax=ax), embed(tables[2], X, y)
    for display in (inside, outside):
        display.figure_.canvas.draw()
        assert display.legend_.get_title().get_text() == "yield"
        legend, figure = display.legend_.get_window_extent(), display.figure_.bbox
        assert legend.x1 <= figure.x1 + 1
        assert (legend.x0 > display.ax_.get_window_extent().x1) == (display is outside)


@pytest.mark.parametrize("output", ["default", "pandas", "polars"])
def test_embedding_takes_other_transformers(X, output):
    pipeline = make_pipeline(StandardScaler(), PCA(3)).set_output(transform=output).fit(X)
    display = embed(pipeline, X, components=(2, 1))
    expected = np.asarray(pipeline.transform(X))[:, [2, 1]]
    np.testing.assert_allclose(display.scatter_.get_offsets(), expected)
    assert labels(display.ax_) == ["pca2", "pca1"]
    assert display.prior_ == []
    assert display.legend_ is None
    with pytest.raises(ValueError, match=r"transform and posterior.* Got Pipeline"):
        embed(pipeline, X, posterior=True)
    plain = FunctionTransformer(lambda X: np.asarray(X)[:, :2])  # no get_feature_names_out
    assert labels(embed(plain.fit(X), X).ax_) == ["component 0", "component 1"]


def test_codes_and_reconstructions_of_the_wrong_shape_are_refused(X):
    flat = FunctionTransformer(lambda X: np.asarray(X)[:, 0]).fit(X)
    with pytest.raises(ValueError, match=r"Got FunctionTransformer with codes of shape \(60,\)"):
        embed(flat, X)
    narrow = FunctionTransformer(np.asarray, inverse_func=lambda Z: Z[:, :4], check_inverse=False)
    with pytest.raises(ValueError, match=r"shape of X, \(60, 6\).* returns \(60, 4\)"):
        reconstruct(narrow.fit(X), X)


def test_embedding_takes_missing_values_and_keywords_of_scatter(tables, X, holes):
    style = {"s": 3.0, "alpha": 0.25, "marker": "s"}
    points = embed(tables[2], holes, scatter_kwargs=style).scatter_
    np.testing.assert_array_equal(points.get_offsets(), tables[2].transform(holes))
    assert points.get_alpha() == 0.25
    np.testing.assert_array_equal(points.get_sizes(), [3.0])
    with pytest.raises(ValueError, match="NaN"):
        embed(PCA(2).fit(X), holes)


# reconstruction -------------------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [None, 1, 3])
def test_images_are_originals_above_reconstructions(images, n_rows):
    X = image_rows().reshape(N, -1)
    display = reconstruct(images[2], X, image_shape=(4, 4), n_rows=n_rows)
    rows = X[evenly(n_rows or 8)]
    assert display.images_.shape == (2, len(rows))
    back = images[2].inverse_transform(images[2].transform(rows))
    for line, expected in zip(display.images_, [rows, back], strict=True):
        for image, pixels in zip(line, expected, strict=True):
            np.testing.assert_allclose(shown(image), pixels.reshape(4, 4))
            assert image.get_clim() == (rows.min(), rows.max())
    upper, lower = (line[0].get_extent() for line in display.images_)
    assert upper[2] > lower[3]  # bottom of the one, top of the other
    assert texts(display.ax_.get_yticklabels()) == ["original", "reconstructed"]


def test_images_need_no_shape_where_they_have_one():
    X, network = image_rows(3, side=8), Conv(image_shape=(3, 8, 8), channels=(4,))
    model = make(2, network=network, scale="global", max_epochs=1).fit(X)
    display = reconstruct(model, X, n_rows=4)
    assert display.images_.shape == (2, 4)
    back = model.inverse_transform(model.transform(X[-1:]))[0]
    for image, expected in zip(display.images_[:, 3], [X[-1], back], strict=True):
        pixels = np.moveaxis(expected, 0, -1).clip(0.0, 1.0)  # as they are: between 0 and 1
        np.testing.assert_allclose(shown(image), pixels, rtol=1e-5)
    assert shown(traverse(model, n_steps=2).images_[1, 1]).shape == (8, 8, 3)


@pytest.mark.parametrize("image_shape", [(3, 2, 1), (3, 1, 2), (1, 3, 2), (2, 1, 3)])
def test_channels_stand_before_or_after(X, image_shape):
    display = reconstruct(PCA(2).fit(X), X, image_shape=image_shape)
    rows = X.to_numpy()[evenly(8)]
    image = rows[0].reshape(image_shape)
    if image_shape[0] in (1, 3):
        image = np.moveaxis(image, 0, -1)
    scaled = (image - rows.min()) / (rows.max() - rows.min())
    expected = image[..., 0] if image.shape[-1] == 1 else scaled
    np.testing.assert_allclose(shown(display.images_[0, 0]), expected)


def images_of(original, reconstruction, image_shape, **params):
    both = {"original": original, "reconstruction": reconstruction}
    display = ReconstructionDisplay(**both, image_shape=image_shape)
    return display.plot(**params).images_[:, 0]


@pytest.mark.parametrize("channels", [1, 3])
def test_missing_pixels_are_blue(channels):
    row = np.linspace(0.0, 1.0, 4 * channels)[None]
    hole = np.where(np.arange(4 * channels) == 0, np.nan, row)
    images = images_of(hole, row, (2, 2, channels))
    original, back = (image.to_rgba(image.get_array())[0, 0, :3] for image in images)
    np.testing.assert_allclose(original, to_rgb("#56B4E9"))
    assert not np.allclose(back, original)


@pytest.mark.parametrize("cmap", ["viridis", matplotlib.colormaps["viridis"]])
def test_images_without_any_pixel_are_drawn(cmap):
    image, _ = images_of(np.full((1, 4), np.nan), np.ones((1, 4)), (2, 2), cmap=cmap)
    assert image.get_array().mask.all()
    assert image.get_clim() == (0.0, 1.0)


def test_panels_are_the_features_of_largest_variance(X):
    model, X = PCA(2), X.rename(columns={"mass": "mass of the whole apparatus"})
    display = reconstruct(model.fit(X), X, max_features=4)
    back = model.inverse_transform(model.transform(X))
    names = ["width", "mass of the whole a…", "age", "price"]
    chosen = [1, 3, 4, 5]  # by SPREAD, in the order of the columns
    assert len(display.lines_) == 4
    panels = zip(chosen, names, display.axes_, display.scatters_, strict=True)
    for f, name, panel, points in panels:
        expected = np.column_stack([X.iloc[:, f], back[:, f]])
        np.testing.assert_allclose(points.get_offsets(), expected)
        r2 = r2_score(X.iloc[:, f], back[:, f])
        assert panel.get_title() == f"{name}\nR² {r2:.2f}"
    for line, panel in zip(display.lines_, display.axes_, strict=True):
        np.testing.assert_array_equal(*line.get_data())
        assert panel.get_xlim() == panel.get_ylim()


@pytest.mark.parametrize(
    ("model", "form"),
    [
        (PCA(2), np.asarray),
        (PCA(2), lambda X: X.to_numpy().tolist()),
        (PCA(2), pl.from_pandas),
        (make(2), sparse.csr_matrix),
    ],
    ids=["array", "list", "polars", "sparse"],
)
def test_table_may_have_any_form(X, model, form):
    table = form(X)
    display = reconstruct(model.fit(table), table, n_rows=20)
    np.testing.assert_allclose(display.original, X.to_numpy()[evenly(20)])
    named = form is pl.from_pandas
    assert list(display.names) == (FEATURES if named else [f"x{i}" for i in range(6)])


def test_rows_are_drawn_by_the_seed(tables, X):
    first, again, other, spaced = (
        reconstruct(tables[2], X, n_rows=5, random_state=seed).original
        for seed in (0, 0, np.random.RandomState(1), None)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_allclose(spaced, X.iloc[evenly(5)])
    assert {tuple(row) for row in first} < {tuple(row) for row in X.to_numpy()}


def test_share_of_variance_is_that_of_observed_entries(tables, holes):
    holes = holes.assign(price=3.0)
    display = reconstruct(tables[2], holes)
    back = tables[2].inverse_transform(tables[2].transform(holes))
    for f, name in enumerate(FEATURES[:-1]):
        seen = holes[name].notna().to_numpy()
        assert display.r2[f] == pytest.approx(r2_score(holes[name][seen], back[seen, f]))
        points = display.scatters_[f].get_offsets()
        np.testing.assert_allclose(points, np.column_stack([holes[name], back[:, f]])[seen])
    assert display.axes_[-1].get_title() == "price\nR² undefined"


def test_panels_may_be_given(tables, X):
    figure, axes = plt.subplots(2, 3)
    display = reconstruct(tables[2], X, ax=axes)
    assert display.figure_ is figure
    assert list(display.axes_) == list(axes.ravel())
    for given in (axes[0], [*axes.ravel()[:5], "x"]):
        with pytest.raises(ValueError, match="ax must be a matplotlib Axes, None, or 6 Axes"):
            reconstruct(tables[2], X, ax=given)
    with pytest.raises(ValueError, match=r"ax must be made by plt\.subplots"):
        reconstruct(tables[2], X, ax=figure.add_axes((0, 0, 1, 1)))
    _, axes = plt.subplots(3, 1)
    assert list(train(tables[2], ax=axes).axes_) == list(axes)
    with pytest.raises(ValueError, match="ax must be a matplotlib Axes, None, or 3 Axes"):
        train(tables[2], ax=axes[:2])


# traversal ------------------------------------------------------------------------------------


@pytest.mark.parametrize("components", [None, (0, 1), (1, 0)])
def test_grid_cells_have_equal_mass_under_the_prior(images, components):
    display = traverse(images[2], image_shape=(4, 4), n_steps=5, components=components)
    right, up = components or (0, 1)
    levels = (np.arange(5) + 0.5) / 5
    np.testing.assert_allclose(norm.cdf(display.codes[2, :, right]), levels)
    np.testing.assert_allclose(norm.cdf(display.codes[:, 2, up]), levels)
    for i, j in np.ndindex(5, 5):
        back = images[2].inverse_transform(display.codes[[i], [j]])
        np.testing.assert_allclose(shown(display.images_[i, j]), back.reshape(4, 4), rtol=1e-5)
    corner, beside, above = (display.images_[ij].get_extent() for ij in [(0, 0), (0, 1), (1, 0)])
    assert beside[0] > corner[1]
    assert above[2] > corner[3]
    assert labels(display.ax_) == [NAMES[right], NAMES[up]]
    ticks = [f"{MINUS}1.3", f"{MINUS}0.52", "0", "0.52", "1.3"]
    assert texts(display.ax_.get_xticklabels()) == texts(display.ax_.get_yticklabels()) == ticks


@pytest.mark.parametrize(
    ("k", "components", "moved"),
    [(1, None, [0]), (3, None, [0, 1, 2]), (3, (2, 0), [2, 0]), (3, 1, [1]), (2, 1, [1])],
)
@pytest.mark.parametrize("kind", ["images", "table"])
def test_one_component_moves_at_a_time(tables, images, k, components, moved, kind):
    model = (tables if kind == "table" else images)[k]
    shape = {"image_shape": (4, 4)} if kind == "images" else {"units": "data"}
    display = traverse(model, components=components, n_steps=4, span=1.5, **shape)
    assert display.codes.shape == (len(moved), 4, k)
    for i, component in enumerate(moved):
        codes = np.zeros((4, k))
        codes[:, component] = [-1.5, -0.5, 0.5, 1.5]
        np.testing.assert_allclose(display.codes[i], codes)
        if kind == "images":
            drawn = [shown(image).ravel() for image in display.images_[i]]
        else:
            drawn = [line.get_ydata() for line in display.lines_[i]]
        np.testing.assert_allclose(drawn, model.inverse_transform(codes), rtol=1e-5)
    names = [NAMES[c] for c in moved]
    if kind == "images":
        assert texts(display.ax_.get_yticklabels()) == names
        bottoms = [line[0].get_extent()[2] for line in display.images_]
        assert bottoms == sorted(bottoms, reverse=True)
    else:
        assert [panel.get_title() for panel in display.axes_] == names


def test_profiles_in_standard_deviations(tables, X):
    model = tables[2]
    display = traverse(model, n_steps=3, units="sd")
    draws = np.random.RandomState(0).standard_normal((500, 2))
    sd = np.hypot(model.inverse_transform(draws).std(axis=0), model.noise_scale_)
    np.testing.assert_allclose(display.sd, sd, rtol=1e-4)
    np.testing.assert_allclose(display.sd, X.std(), rtol=0.5)
    centre = model.inverse_transform(np.zeros((1, 2)))[0]
    for i in range(2):
        np.testing.assert_allclose(display.lines_[i, 1].get_ydata(), 0.0, atol=1e-4)
        expected = (model.inverse_transform(display.codes[i])[2] - centre) / sd
        np.testing.assert_allclose(display.lines_[i, 2].get_ydata(), expected, atol=1e-4)
    assert texts(display.axes_[-1].get_xticklabels()) == FEATURES


def test_profiles_are_in_standard_deviations_where_columns_are_scaled_one_by_one(tables, images):
    assert traverse(tables[2]).sd is not None
    assert traverse(images[2]).sd is None
    assert traverse(tables[2], units="data").sd is None
    assert traverse(images[2], units="sd").sd is not None
    display = traverse(tables[3], n_steps=5, span=3.0)
    bar = display.colorbar_
    assert (bar.vmin, bar.vmax) == (-3.0, 3.0)
    for line in display.lines_:
        expected = [bar.mappable.to_rgba(code) for code in np.linspace(-3, 3, 5)]
        assert [artist.get_color() for artist in line] == expected


def test_components_and_names_of_features_have_limits():
    X = np.random.RandomState(0).standard_normal((40, 60))
    display = traverse(make(10, max_epochs=1).fit(X), n_steps=2)
    assert display.components == list(range(8))
    assert [panel.get_xlabel() for panel in display.axes_] == [""] * 6 + ["feature"] * 2


# training -------------------------------------------------------------------------------------


def with_history(model, **columns):
    """A copy of a fitted estimator that remembers this history."""
    copy = make(2)
    copy.__dict__ = {**model.__dict__}
    rows = zip(*columns.values(), strict=True)
    given = [zip(columns, row, strict=True) for row in rows]
    copy.history_ = [{name: value for name, value in row if value is not None} for row in given]
    copy.n_iter_ = len(copy.history_)
    return copy


def test_curves_are_those_of_the_history(tables):
    display = train(tables[2])
    history = tables[2].history_
    assert set(display.lines_) == {f"{rows}_{t}" for rows in ("train", "valid") for t in TERMS}
    for key, line in display.lines_.items():
        np.testing.assert_array_equal(line.get_xdata(), [1, 2])
        np.testing.assert_array_equal(line.get_ydata(), [row[key] for row in history])
        assert line.axes is display.axes_[TERMS.index(key.split("_")[1])]
    bounds = tables[2].aggregate_kl_bounds_
    text = f"aggregate KL from {bounds.lower:.2g} to {bounds.upper:.2g} nats"
    assert display.bounds_text_.get_text() == text
    assert display.missing_text_ is None
    best = 1 + int(np.argmin([row["valid_loss"] for row in history]))
    assert display.best_epoch == best
    expected = ["training rows", "held-out rows", f"best epoch, {best}"]
    assert texts(display.legend_.get_texts()) == expected


def test_best_epoch_is_that_of_the_lowest_held_out_loss_of_the_latest_fit(tables):
    loss = [0.1, 0.2, 5.0, 3.0, 4.0]
    model = with_history(tables[2], train_loss=loss, valid_loss=loss)
    assert train(model).best_epoch == 1
    model.n_iter_ = 3
    display = train(model)
    assert display.best_epoch == 4
    assert [line.get_xdata()[0] for line in display.best_lines_] == [4, 4, 4]


def test_display_names_what_is_missing(X):
    model = make(2)
    for n in (1, 2):
        display = train(model.partial_fit(X))
        assert len(display.lines_["train_loss"].get_xdata()) == n
        assert set(display.lines_) == {f"train_{term}" for term in TERMS}
        assert display.missing_text_.get_text() == "missing: held-out rows, best epoch"
        assert display.best_lines_ == []
        display.figure_.canvas.draw()
    del model.aggregate_kl_bounds_
    display = train(model)
    assert display.missing_text_.get_text().endswith("best epoch; aggregate_kl_bounds_")
    assert display.bounds_text_ is None


def test_epochs_without_a_number_leave_a_gap(tables):
    columns = {"train_loss": [3.0, 2.0, 1.0], "valid_loss": [4.0, 3.0, None], "dur": [1, 1, 1]}
    display = train(with_history(tables[2], **columns))
    np.testing.assert_array_equal(display.lines_["valid_loss"].get_ydata(), [4.0, 3.0, np.nan])
    assert display.best_epoch == 2
    lost = with_history(tables[2], train_loss=[3.0, 2.0], valid_loss=[np.nan, np.inf])
    assert train(lost).best_epoch is None
    display = train(with_history(tables[2], dur=[1.0]))
    assert "losses in history_" in display.missing_text_.get_text()
    assert display.legend_ is None
    with pytest.raises(ValueError, match=r"one epoch in history_\. Got WiSEALETransformer"):
        train(with_history(tables[2], train_loss=[]))


def test_many_points_are_drawn_as_an_image_that_shows_their_density(tmp_path):
    X = np.random.RandomState(0).standard_normal((30_000, 2))
    pca = PCA(2).fit(X)
    few, many = (embed(pca, rows) for rows in (X[:10_000], X))
    assert not few.scatter_.get_rasterized()
    assert many.scatter_.get_rasterized()
    assert many.scatter_.get_alpha() < few.scatter_.get_alpha()
    for display, name in ((few, "few"), (many, "many")):
        display.figure_.savefig(tmp_path / f"{name}.svg")
    assert (tmp_path / "many.svg").stat().st_size < (tmp_path / "few.svg").stat().st_size / 3
