"""Laws of the displays: what is drawn is what the estimator gives, and the user's state stays."""

import sys

import matplotlib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from scipy.stats import norm
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.manifold import TSNE
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.networks import MLP, Conv
from sklearn_wiseale.plotting import (
    EmbeddingDisplay,
    ReconstructionDisplay,
    TrainingDisplay,
    TraversalDisplay,
)
from sklearn_wiseale.plotting import _base as base

matplotlib.use("Agg")
import matplotlib.pyplot as plt

N, FEATURES = 60, ["length", "width", "height", "mass", "age", "price"]
#: Standard deviations of the columns, of which "length" is constant up to the fourth digit.
SPREAD = np.array([1e-3, 2.0, 0.5, 30.0, 1.0, 7.0])
STYLES = ["default", "dark_background"]


def table_rows():
    rng = np.random.RandomState(0)
    X = rng.standard_normal((N, 3)) @ rng.standard_normal((3, 6))
    X = (X - X.mean(axis=0)) / X.std(axis=0) + 0.1 * rng.standard_normal((N, 6))
    return pd.DataFrame(3.0 + SPREAD * X, columns=FEATURES)


def image_rows(channels=1, side=4):
    rng = np.random.RandomState(1)
    factors = rng.standard_normal((N, 3)) @ rng.standard_normal((3, channels * side**2))
    return (0.5 + 0.05 * factors.clip(-9, 9)).reshape(N, channels, side, side)


def make(n_components, **params):
    small = {"max_epochs": 2, "network": MLP(hidden=(8,)), "random_state": 0}
    return WiSEALETransformer(n_components, **{**small, **params})


@pytest.fixture(scope="module", name="X")
def table():
    return table_rows()


@pytest.fixture(scope="module")
def tables(X):
    """By their number of components, estimators fitted to the table."""
    return {k: make(k).fit(X) for k in (1, 2, 3)}


@pytest.fixture(scope="module")
def images():
    """By their number of components, estimators fitted to images as rows."""
    rows = image_rows().reshape(N, -1)
    return {k: make(k, scale="global").fit(rows) for k in (1, 2, 3)}


@pytest.fixture(scope="module")
def colour_model():
    network = Conv(image_shape=(3, 8, 8), channels=(4,))
    return make(2, network=network, scale="global", max_epochs=1).fit(image_rows(3, side=8))


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    plt.close("all")


#: Each display of the table, given its estimators by number of components and keywords.
MAKERS = {
    "embedding": lambda models, X, **kw: EmbeddingDisplay.from_estimator(models[2], X, **kw),
    "embedding of one": lambda models, X, **kw: EmbeddingDisplay.from_estimator(
        models[1], X, np.arange(N) % 3, posterior=True, **kw
    ),
    "reconstruction": lambda models, X, **kw: ReconstructionDisplay.from_estimator(
        models[2], X, **kw
    ),
    "images": lambda models, X, **kw: ReconstructionDisplay.from_estimator(
        models[2], X, image_shape=(2, 3), **kw
    ),
    "traversal": lambda models, X, **kw: TraversalDisplay.from_estimator(models[2], **kw),
    "traversal of images": lambda models, X, **kw: TraversalDisplay.from_estimator(
        models[2], image_shape=(2, 3), n_steps=3, **kw
    ),
    "training": lambda models, X, **kw: TrainingDisplay.from_estimator(models[2], **kw),
}
each_display = pytest.mark.parametrize("display", MAKERS)

#: Calls with nothing but an estimator and, where it takes them, rows.
CLASSES = {
    EmbeddingDisplay: lambda estimator, X: EmbeddingDisplay.from_estimator(estimator, X),
    ReconstructionDisplay: lambda estimator, X: ReconstructionDisplay.from_estimator(estimator, X),
    TraversalDisplay: lambda estimator, X: TraversalDisplay.from_estimator(estimator),
    TrainingDisplay: lambda estimator, X: TrainingDisplay.from_estimator(estimator),
}


def shown(image):
    return np.asarray(image.get_array())


# all displays ---------------------------------------------------------------------------------


@each_display
@pytest.mark.parametrize("style", STYLES)
def test_display_draws_in_light_and_dark(tables, X, display, style):
    with plt.style.context(style):
        drawn = MAKERS[display](tables, X)
        drawn.figure_.canvas.draw()
        background = drawn.figure_.get_facecolor()
        for text in drawn.figure_.findobj(matplotlib.text.Text):
            if text.get_text() and text.get_visible():
                assert contrast(text.get_color(), background) > 7, text
        for line in drawn.figure_.findobj(matplotlib.lines.Line2D):
            if len(line.get_xdata()):
                assert contrast(line.get_color(), background) > 1.2, line


def contrast(colour, background):
    """Ratio of relative luminances, as in the guidelines for accessible web pages."""
    light = []
    for c in (colour, background):
        rgb = np.array(matplotlib.colors.to_rgb(c))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        light.append(linear @ [0.2126, 0.7152, 0.0722] + 0.05)
    return max(light) / min(light)


@each_display
def test_display_leaves_the_users_state_as_it_was(tables, X, display, monkeypatch):
    monkeypatch.setattr(plt, "show", lambda *args, **kw: pytest.fail("plt.show was called"))
    settings, state = dict(matplotlib.rcParams), np.random.get_state()[1].copy()
    MAKERS[display](tables, X)
    assert dict(matplotlib.rcParams) == settings
    np.testing.assert_array_equal(np.random.get_state()[1], state)


@each_display
def test_display_draws_in_the_axes_it_is_given(tables, X, display):
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


@each_display
def test_display_plots_again(tables, X, display):
    first = MAKERS[display](tables, X)
    figure = first.figure_
    again = first.plot()
    assert again is first
    assert again.figure_ is not figure
    assert len(plt.get_fignums()) == 2
    _, ax = plt.subplots()
    assert first.plot(ax).figure_ is ax.figure
    assert first.plot(ax=ax) is first


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
            labels = [tick.label1 for tick in ticks if low <= tick.get_loc() <= high]
            needed = sum(getattr(t.get_window_extent(), across) for t in labels)
            slanted = any(t.get_rotation() for t in labels)
            assert slanted or needed < 1.3 * getattr(box, across), (name, needed)


@pytest.mark.parametrize("cls", CLASSES)
def test_display_refuses_estimators_that_are_not_fitted(X, cls):
    with pytest.raises(NotFittedError):
        CLASSES[cls](make(2), X)


@pytest.mark.parametrize("cls", CLASSES)
def test_display_says_what_to_install(tables, X, cls, monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    message = rf"{cls.__name__}.from_estimator requires matplotlib.*sklearn-wiseale\[plot\]"
    with pytest.raises(ImportError, match=message):
        CLASSES[cls](tables[2], X)


@pytest.mark.parametrize(
    ("cls", "estimator", "message"),
    [
        (EmbeddingDisplay, TSNE(), "have transform for .* Got TSNE, which has no transform"),
        (ReconstructionDisplay, StandardScaler, "StandardScaler"),
        (ReconstructionDisplay, TSNE(), "transform and inverse_transform.* Got TSNE"),
        (TraversalDisplay, PCA(2), "inverse_transform and posterior.* Got PCA.* no posterior"),
        (TrainingDisplay, PCA(2), "have history_ after fit.* Got PCA, which has no history_"),
    ],
)
def test_display_refuses_estimators_that_lack_a_method(X, cls, estimator, message):
    kind = TypeError if isinstance(estimator, type) else ValueError
    if isinstance(estimator, PCA):
        estimator = clone(estimator).fit(X)
    with pytest.raises(kind, match=message):
        CLASSES[cls](estimator, X)


@each_display
@pytest.mark.parametrize("ax", ["here", 3])
def test_display_refuses_what_is_no_axes(tables, X, display, ax):
    with pytest.raises(ValueError, match="ax must be a matplotlib Axes"):
        MAKERS[display](tables, X, ax=ax)


@pytest.mark.parametrize("style", STYLES)
def test_palette_stands_out_from_the_background(style):
    with plt.style.context(style):
        _, ax = plt.subplots()
        for n in range(1, 13):
            colours = base.class_colours(n, ax)
            assert colours.shape == (n, 4)
            assert len(np.unique(colours, axis=0)) == n
            assert all(contrast(c, ax.get_facecolor()) > 1.2 for c in colours)
        assert contrast(base.palette(ax)[0], ax.get_facecolor()) > 4


# embedding ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("k", "components"), [(2, (0, 1)), (2, (1, 0)), (3, (0, 1)), (3, [2, 0]), (3, np.array([1, 2]))]
)
def test_points_stand_at_the_codes(tables, X, k, components):
    display = EmbeddingDisplay.from_estimator(tables[k], X, components=components)
    expected = tables[k].transform(X)[:, list(components)]
    np.testing.assert_array_equal(display.scatter_.get_offsets(), expected)
    names = [f"wisealetransformer{c}" for c in components]
    assert [display.ax_.get_xlabel(), display.ax_.get_ylabel()] == names
    assert display.colorbar_ is display.ellipses_ is None


@pytest.mark.parametrize(("k", "components"), [(1, (0, 1)), (1, 0), (1, (0,)), (3, 2)])
def test_points_of_one_component_are_stacked_into_a_histogram(tables, X, k, components):
    y = np.arange(N) % 3
    display = EmbeddingDisplay.from_estimator(tables[k], X, y, components=components)
    component = 0 if k == 1 else 2
    code, height = display.scatter_.get_offsets().T
    np.testing.assert_array_equal(code, tables[k].transform(X)[:, component])
    edges = np.linspace(code.min(), code.max(), int(2 * N**0.5) + 1)
    counts = np.histogram(code, edges)[0]
    expected = np.concatenate([np.arange(count) + 0.5 for count in counts])
    np.testing.assert_array_equal(np.sort(height), np.sort(expected))
    assert display.ax_.get_xlabel() == f"wisealetransformer{component}"
    assert display.ax_.get_ylabel() == "rows"
    z, density = display.prior_[0].get_data()
    np.testing.assert_allclose(density, norm.pdf(z) * N * np.diff(edges)[0])


def test_one_component_may_be_constant():
    display = EmbeddingDisplay(codes=np.zeros((4, 1)), names=["z"], prior=True).plot()
    np.testing.assert_array_equal(display.scatter_.get_offsets()[:, 1], [0.5, 1.5, 2.5, 3.5])


@pytest.mark.parametrize("posterior", [True, "ellipses"])
def test_half_axes_of_ellipses_are_standard_deviations(tables, X, posterior):
    y = np.arange(N) % 3
    display = EmbeddingDisplay.from_estimator(
        tables[3], X, y, posterior=posterior, components=(2, 0)
    )
    mean, std = tables[3].posterior(X)
    ellipses = display.ellipses_
    np.testing.assert_array_equal(ellipses.get_offsets(), mean[:, [2, 0]])
    np.testing.assert_allclose(ellipses.get_widths(), 2 * std[:, 2])
    np.testing.assert_allclose(ellipses.get_heights(), 2 * std[:, 0])
    colours, points = ellipses.get_edgecolors(), display.scatter_.get_facecolors()
    np.testing.assert_array_equal(colours[:, :3], points[:, :3])
    low, high = np.array([display.ax_.get_xlim(), display.ax_.get_ylim()]).T
    assert (low <= (mean - std)[:, [2, 0]].min(axis=0)).all()
    assert (high >= (mean + std)[:, [2, 0]].max(axis=0)).all()


@pytest.mark.parametrize("y", [None, np.linspace(0.0, 1.5, N)])
def test_ellipses_are_of_a_limited_number_of_rows_evenly_spaced(tables, X, y):
    display = EmbeddingDisplay.from_estimator(tables[2], X, y, posterior=True, max_ellipses=7)
    rows = display.std_rows
    assert rows[0] == 0
    assert rows[-1] == N - 1
    assert len(rows) == 7
    assert np.ptp(np.diff(rows)) <= 1
    mean, std = tables[2].posterior(X)
    np.testing.assert_array_equal(display.ellipses_.get_offsets(), mean[rows])
    np.testing.assert_allclose(display.ellipses_.get_widths(), 2 * std[rows, 0])
    display.figure_.canvas.draw()
    points = display.scatter_.get_facecolors()
    expected = points if y is None else points[rows]
    colours = display.ellipses_.get_edgecolors()
    np.testing.assert_array_equal(colours[:, :3], expected[:, :3])


def test_posteriors_of_one_component_are_lines(tables, X):
    display = EmbeddingDisplay.from_estimator(tables[1], X, posterior=True)
    mean, std = tables[1].posterior(X)
    segments = np.array(display.ellipses_.get_segments())
    np.testing.assert_allclose(segments[:, :, 0], np.hstack([mean - std, mean + std]))
    heights = display.scatter_.get_offsets()[:, [1]]
    np.testing.assert_array_equal(segments[:, :, 1], np.hstack([heights, heights]))


@pytest.mark.parametrize("prior", ["auto", True, False])
def test_prior_is_circles(tables, X, prior):
    display = EmbeddingDisplay.from_estimator(tables[2], X, prior=prior)
    assert [circle.radius for circle in display.prior_] == ([1, 2, 3] if prior else [])
    assert all(circle.center == (0, 0) for circle in display.prior_)
    if prior:
        assert display.ax_.get_aspect() == 1
        assert display.ax_.get_xlim()[1] >= 3


def strings(n_classes):
    return np.array([f"class {i % n_classes:02d}" for i in range(N)])


@pytest.mark.parametrize(
    ("y", "labels"),
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
def test_classes_have_a_legend(tables, X, y, labels):
    display = EmbeddingDisplay.from_estimator(tables[2], X, y)
    texts = [text.get_text() for text in display.legend_.get_texts()]
    assert texts == [*labels, "prior,\n1 to 3 sd"]
    assert display.colorbar_ is None
    colours = display.scatter_.get_facecolors()
    values = np.asarray(y).ravel().astype(str)
    assert len(np.unique(colours, axis=0)) == len(labels)
    for handle, label in zip(display.legend_.legend_handles, np.unique(values), strict=False):
        of_class = colours[values == label][:, :3]
        expected = matplotlib.colors.to_rgb(handle.get_color())
        np.testing.assert_allclose(of_class, np.tile(expected, (len(of_class), 1)))


def test_many_classes_are_named_at_their_medians(tables, X):
    y = np.arange(N) % 9
    display = EmbeddingDisplay.from_estimator(tables[2], X, y)
    codes = tables[2].transform(X).astype(np.float64)
    for i, text in enumerate(display.texts_):
        assert text.get_text() == str(i)
        np.testing.assert_allclose(text.get_position(), np.median(codes[y == i], axis=0))
    assert len(display.texts_) == 9
    assert not EmbeddingDisplay.from_estimator(tables[2], X, np.arange(N) % 8).texts_
    _, ax = plt.subplots()  # where nothing makes room, a long legend would hide the points
    inside = EmbeddingDisplay.from_estimator(tables[2], X, y, ax=ax)
    assert len(inside.legend_.get_texts()) == 1
    assert len(inside.texts_) == 9


@pytest.mark.parametrize(
    "y", [np.linspace(-1.0, 2.5, N), np.arange(N), np.float32(0.1) * np.arange(N), list(range(N))]
)
def test_numbers_have_a_colour_bar(tables, X, y):
    display = EmbeddingDisplay.from_estimator(tables[2], X, y)
    np.testing.assert_allclose(display.scatter_.get_array(), np.asarray(y, dtype=np.float64))
    assert display.colorbar_.mappable is display.scatter_
    assert [text.get_text() for text in display.legend_.get_texts()] == ["prior,\n1 to 3 sd"]


def test_classes_that_no_legend_could_list_have_a_colour_bar(tables, X):
    display = EmbeddingDisplay.from_estimator(tables[2], X, strings(25), posterior=True)
    labels = [text.get_text() for text in display.colorbar_.ax.get_yticklabels()]
    assert labels[0] == "class 00"
    assert labels[-1] == "class 24"
    np.testing.assert_array_equal(display.scatter_.get_array(), np.arange(N) % 25)


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_target_gives_its_name(tables, X, kind):
    values = np.arange(N) % 2 if kind == "classes" else np.linspace(0.0, 0.5, N)
    display = EmbeddingDisplay.from_estimator(tables[2], X, pd.Series(values, name="yield"))
    if kind == "classes":
        assert display.legend_.get_title().get_text() == "yield"
    else:
        assert display.colorbar_.ax.get_ylabel() == "yield"


def test_legend_has_a_place_where_nothing_makes_room(tables, X):
    _, ax = plt.subplots()
    inside = EmbeddingDisplay.from_estimator(tables[2], X, strings(2), ax=ax)
    outside = EmbeddingDisplay.from_estimator(tables[2], X, strings(2))
    for display in (inside, outside):
        display.figure_.canvas.draw()
        legend, figure = display.legend_.get_window_extent(), display.figure_.bbox
        assert legend.x1 <= figure.x1 + 1
        assert (legend.x0 > display.ax_.get_window_extent().x1) == (display is outside)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.arange(N - 1), r"y must have shape \(60,\).* Got shape \(59,\)"),
        (np.zeros((N, 2)), r"y must have shape \(60,\).* Got shape \(60, 2\)"),
        (3, r"Got shape \(\)"),
        (np.r_[np.nan, np.ones(N - 1)], "y must not have missing values. Got .*nan.* for row 0"),
        (np.array([*strings(2)[1:], None]), "missing values. Got None for row 59 and 1 in all"),
        (pd.Series([*strings(2)[1:], pd.NA]), "missing values"),
        (np.r_[np.inf, np.ones(N - 1)], "y must be finite. Got .*inf"),
        (np.ones(N) * 1j, "y must hold numbers, booleans or strings. Got dtype complex128"),
        (np.full(N, "2020-01-01", dtype="datetime64[D]"), "Got dtype datetime64"),
    ],
)
def test_embedding_refuses_targets_that_colour_nothing(tables, X, y, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingDisplay.from_estimator(tables[2], X, y)
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"components": (0, 3)},
            r"components must be 1 or 2 distinct ints from 0 to 2. Got \(0, 3",
        ),
        ({"components": (1, 1)}, r"distinct ints from 0 to 2. Got \(1, 1\)"),
        ({"components": (-1, 0)}, r"Got \(-1, 0\)"),
        ({"components": (0, 1, 2)}, r"Got \(0, 1, 2\)"),
        ({"components": ()}, r"Got \(\)"),
        ({"components": (0.0, 1.0)}, r"Got \(0.0, 1.0\)"),
        ({"components": (True, False)}, r"Got \(True, False\)"),
        ({"components": "01"}, "Got '01'"),
        ({"components": None}, "Got None"),
        ({"posterior": "lines"}, "posterior must be False, True or 'ellipses'. Got 'lines'"),
        ({"max_ellipses": 0}, "max_ellipses must be an int >= 1. Got 0"),
        ({"max_ellipses": 2.5}, "max_ellipses must be an int >= 1. Got 2.5"),
        ({"prior": "yes"}, "prior must be True, False or 'auto'. Got 'yes'"),
    ],
)
def test_embedding_refuses_arguments(tables, X, arguments, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingDisplay.from_estimator(tables[3], X, **arguments)
    assert not plt.get_fignums()


@pytest.mark.parametrize("output", ["default", "pandas", "polars"])
def test_embedding_takes_other_transformers(X, output):
    pipeline = make_pipeline(StandardScaler(), PCA(3)).set_output(transform=output).fit(X)
    expected = np.asarray(pipeline.transform(X))
    display = EmbeddingDisplay.from_estimator(pipeline, X, components=(2, 1))
    np.testing.assert_allclose(display.scatter_.get_offsets(), expected[:, [2, 1]])
    assert [display.ax_.get_xlabel(), display.ax_.get_ylabel()] == ["pca2", "pca1"]
    assert display.prior_ == []
    assert display.legend_ is None
    with pytest.raises(ValueError, match=r"transform and posterior.* Got Pipeline"):
        EmbeddingDisplay.from_estimator(pipeline, X, posterior=True)


def test_components_of_transformers_without_names_have_numbers(X):
    plain = FunctionTransformer(lambda X: np.asarray(X)[:, :2])  # no get_feature_names_out
    display = EmbeddingDisplay.from_estimator(plain.fit(X), X)
    assert [display.ax_.get_xlabel(), display.ax_.get_ylabel()] == ["component 0", "component 1"]


def test_embedding_refuses_codes_that_are_no_table(X):
    flat = FunctionTransformer(lambda X: np.asarray(X)[:, 0]).fit(X)
    with pytest.raises(ValueError, match=r"Got FunctionTransformer with codes of shape \(60,\)"):
        EmbeddingDisplay.from_estimator(flat, X)


def test_reconstruction_refuses_rows_of_another_shape(X):
    narrow = FunctionTransformer(
        lambda X: np.asarray(X), inverse_func=lambda Z: Z[:, :4], check_inverse=False
    ).fit(X)
    with pytest.raises(ValueError, match=r"shape of X, \(60, 6\).* gives \(60, 4\)"):
        ReconstructionDisplay.from_estimator(narrow, X)


def test_embedding_passes_keywords_to_scatter(tables, X):
    style = {"s": 3.0, "alpha": 0.25, "marker": "s"}
    display = EmbeddingDisplay.from_estimator(tables[2], X, scatter_kwargs=style)
    assert display.scatter_.get_alpha() == 0.25
    np.testing.assert_array_equal(display.scatter_.get_sizes(), [3.0])


def test_embedding_takes_rows_with_missing_values(tables, X):
    holes = X.mask(np.random.RandomState(0).random_sample(X.shape) < 0.2)
    display = EmbeddingDisplay.from_estimator(tables[2], holes)
    np.testing.assert_array_equal(display.scatter_.get_offsets(), tables[2].transform(holes))
    with pytest.raises(ValueError, match="NaN"):
        EmbeddingDisplay.from_estimator(PCA(2).fit(X), holes)


# reconstruction -------------------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [None, 1, 3])
def test_images_are_originals_above_reconstructions(images, n_rows):
    rows = image_rows().reshape(N, -1)
    display = ReconstructionDisplay.from_estimator(
        images[2], rows, image_shape=(4, 4), n_rows=n_rows
    )
    n = n_rows or 8
    assert display.images_.shape == (2, n)
    chosen = np.linspace(0, N - 1, n).round().astype(int)
    back = images[2].inverse_transform(images[2].transform(rows[chosen]))
    for line, expected in zip(display.images_, [rows[chosen], back], strict=True):
        for image, pixels in zip(line, expected, strict=True):
            np.testing.assert_allclose(shown(image), pixels.reshape(4, 4))
            assert image.get_clim() == (rows[chosen].min(), rows[chosen].max())
    upper, lower = (line[0].get_extent() for line in display.images_)
    assert upper[2] > lower[3]  # bottom of the one, top of the other
    labels = [text.get_text() for text in display.ax_.get_yticklabels()]
    assert labels == ["original", "reconstructed"]


def test_images_need_no_shape_where_they_have_one(colour_model):
    X = image_rows(3, side=8)
    display = ReconstructionDisplay.from_estimator(colour_model, X, n_rows=4)
    assert display.images_.shape == (2, 4)
    back = colour_model.inverse_transform(colour_model.transform(X[-1:]))[0]
    for image, expected in zip(display.images_[:, 3], [X[-1], back], strict=True):
        pixels = np.moveaxis(expected, 0, -1).clip(0.0, 1.0)  # as they are: between 0 and 1
        np.testing.assert_allclose(shown(image), pixels, rtol=1e-5)
    display = TraversalDisplay.from_estimator(colour_model, n_steps=2)
    assert shown(display.images_[1, 1]).shape == (8, 8, 3)


@pytest.mark.parametrize("image_shape", [(3, 2, 1), (3, 1, 2), (1, 3, 2), (2, 1, 3)])
def test_channels_stand_before_or_after(X, image_shape):
    pca = PCA(2).fit(X)
    display = ReconstructionDisplay.from_estimator(pca, X, image_shape=image_shape)
    image = X.to_numpy()[0].reshape(image_shape)
    limits = X.to_numpy()[np.linspace(0, N - 1, 8).round().astype(int)]
    if image_shape[0] in (1, 3):
        image = np.moveaxis(image, 0, -1)
    if image.shape[-1] == 1:
        np.testing.assert_allclose(shown(display.images_[0, 0]), image[..., 0])
    else:
        scaled = (image - limits.min()) / (limits.max() - limits.min())
        np.testing.assert_allclose(shown(display.images_[0, 0]), scaled)


@pytest.mark.parametrize("channels", [1, 3])
def test_missing_pixels_have_a_colour_of_their_own(channels):
    row = np.linspace(0.0, 1.0, 4 * channels)
    row[0] = np.nan
    shape = (2, 2, channels)
    display = ReconstructionDisplay(
        original=row[None], reconstruction=np.nan_to_num(row)[None], image_shape=shape
    ).plot()
    original, back = display.images_[:, 0]
    rgb = matplotlib.colors.to_rgb(base.MISSING)
    drawn = original.to_rgba(original.get_array())[0, 0, :3]
    np.testing.assert_allclose(drawn, rgb)
    assert not np.allclose(back.to_rgba(back.get_array())[0, 0, :3], rgb)


@pytest.mark.parametrize("cmap", ["viridis", matplotlib.colormaps["viridis"]])
def test_images_without_any_pixel_are_drawn(cmap):
    nothing, something = np.full((1, 4), np.nan), np.ones((1, 4))
    display = ReconstructionDisplay(
        original=nothing, reconstruction=something, image_shape=(2, 2)
    ).plot(cmap=cmap)
    assert display.images_[0, 0].get_array().mask.all()
    assert display.images_[0, 0].get_clim() == (0.0, 1.0)


def test_panels_are_the_features_of_largest_variance(tables, X):
    display = ReconstructionDisplay.from_estimator(tables[2], X, max_features=4)
    back = tables[2].inverse_transform(tables[2].transform(X))
    chosen = [1, 3, 4, 5]  # by SPREAD, in the order of the columns
    assert len(display.axes_) == len(display.scatters_) == len(display.lines_) == 4
    for f, panel, points in zip(chosen, display.axes_, display.scatters_, strict=True):
        expected = np.column_stack([X.iloc[:, f], back[:, f]])
        np.testing.assert_allclose(points.get_offsets(), expected)
        r2 = r2_score(X.iloc[:, f], back[:, f])
        assert panel.get_title() == f"{FEATURES[f]}\nR² {r2:.2f}"
    for line, panel in zip(display.lines_, display.axes_, strict=True):
        np.testing.assert_array_equal(*line.get_data())
        assert panel.get_xlim() == panel.get_ylim()


@pytest.mark.parametrize("form", ["array", "list", "polars", "sparse"])
def test_table_may_have_any_form(X, form):
    pca = PCA(2).fit(X.to_numpy())
    table = {
        "array": X.to_numpy,
        "list": X.to_numpy().tolist,
        "polars": lambda: pl.from_pandas(X),
        "sparse": lambda: sparse.csr_matrix(X.to_numpy()),
    }[form]()
    if form == "polars":
        pca = PCA(2).fit(table)
    if form == "sparse":
        pca = make(2).fit(table)
    display = ReconstructionDisplay.from_estimator(pca, table, n_rows=20)
    rows = np.linspace(0, N - 1, 20).round().astype(int)
    np.testing.assert_allclose(display.original, X.to_numpy()[rows])
    assert list(display.names) == (FEATURES if form == "polars" else [f"x{i}" for i in range(6)])


def test_rows_are_drawn_by_the_seed(tables, X):
    first, again, other, spaced = (
        ReconstructionDisplay.from_estimator(tables[2], X, n_rows=5, random_state=seed).original
        for seed in (0, 0, np.random.RandomState(1), None)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    rows = np.linspace(0, N - 1, 5).round().astype(int)
    np.testing.assert_allclose(spaced, X.iloc[rows])
    assert {tuple(row) for row in first} < {tuple(row) for row in X.to_numpy()}


def test_share_of_variance_is_that_of_observed_entries(tables, X):
    holes = X.mask(np.random.RandomState(0).random_sample(X.shape) < 0.2)
    holes["price"] = 3.0
    display = ReconstructionDisplay.from_estimator(tables[2], holes)
    back = tables[2].inverse_transform(tables[2].transform(holes))
    for f, name in enumerate(FEATURES[:-1]):
        seen = holes[name].notna().to_numpy()
        assert display.r2[f] == pytest.approx(r2_score(holes[name][seen], back[seen, f]))
        points = display.scatters_[f].get_offsets()
        np.testing.assert_allclose(points, np.column_stack([holes[name], back[:, f]])[seen])
    assert display.axes_[-1].get_title() == "price\nR² undefined"


def test_long_names_are_cut(X):
    long = X.rename(columns={"mass": "mass of the whole apparatus"})
    display = ReconstructionDisplay.from_estimator(PCA(2).fit(long), long)
    assert display.axes_[3].get_title().startswith("mass of the whole a…\n")


def test_panels_may_be_given(tables, X):
    figure, axes = plt.subplots(2, 3)
    display = ReconstructionDisplay.from_estimator(tables[2], X, ax=axes)
    assert display.figure_ is figure
    assert list(display.axes_) == list(axes.ravel())
    for given in (axes[0], [*axes.ravel()[:5], "x"]):
        with pytest.raises(ValueError, match="ax must be a matplotlib Axes, None, or 6 Axes"):
            ReconstructionDisplay.from_estimator(tables[2], X, ax=given)
    with pytest.raises(ValueError, match=r"ax must be made by plt\.subplots"):
        ReconstructionDisplay.from_estimator(tables[2], X, ax=figure.add_axes((0, 0, 1, 1)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_shape": (2, 2)}, r"image_shape must be .* 6 numbers in all.* Got \(2, 2\)"),
        ({"image_shape": (6,)}, r"Got \(6,\)"),
        ({"image_shape": 6}, "Got 6"),
        ({"image_shape": (2.0, 3.0)}, r"Got \(2.0, 3.0\)"),
        ({"image_shape": (-2, -3)}, r"Got \(-2, -3\)"),
        ({"n_rows": 0}, "n_rows must be an int >= 1. Got 0"),
        ({"n_rows": True}, "n_rows must be an int >= 1. Got True"),
        ({"max_features": "all"}, "max_features must be an int >= 1. Got 'all'"),
        ({"random_state": "seed"}, "random_state must be an int .* Got 'seed'"),
        ({"X": np.zeros(6)}, r"X must have shape .* Got shape \(6,\)"),
        ({"X": np.zeros((2, 2, 2))}, r"X must have shape .* Got shape \(2, 2, 2\)"),
        ({"X": pd.DataFrame(np.full((3, 6), np.inf), columns=FEATURES)}, "infinity"),
    ],
)
def test_reconstruction_refuses_arguments(tables, X, arguments, message):
    with pytest.raises(ValueError, match=message):
        ReconstructionDisplay.from_estimator(tables[2], **{"X": X, **arguments})
    assert not plt.get_fignums()


# traversal ------------------------------------------------------------------------------------


@pytest.mark.parametrize("components", [None, (0, 1), (1, 0)])
def test_grid_cells_have_equal_mass_under_the_prior(images, components):
    display = TraversalDisplay.from_estimator(
        images[2], image_shape=(4, 4), n_steps=5, components=components
    )
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
    names = [f"wisealetransformer{c}" for c in (right, up)]
    assert [display.ax_.get_xlabel(), display.ax_.get_ylabel()] == names
    ticks, minus = [t.get_text() for t in display.ax_.get_xticklabels()], "\N{MINUS SIGN}"
    assert ticks == [f"{minus}1.3", f"{minus}0.52", "0", "0.52", "1.3"]


@pytest.mark.parametrize(
    ("k", "components", "moved"),
    [(1, None, [0]), (3, None, [0, 1, 2]), (3, (2, 0), [2, 0]), (3, 1, [1]), (2, 1, [1])],
)
@pytest.mark.parametrize("kind", ["images", "table"])
def test_one_component_moves_at_a_time(tables, images, k, components, moved, kind):
    model = (tables if kind == "table" else images)[k]
    shape = {"image_shape": (4, 4)} if kind == "images" else {"units": "data"}
    display = TraversalDisplay.from_estimator(
        model, components=components, n_steps=4, span=1.5, **shape
    )
    assert display.codes.shape == (len(moved), 4, k)
    for i, component in enumerate(moved):
        codes = np.zeros((4, k))
        codes[:, component] = [-1.5, -0.5, 0.5, 1.5]
        np.testing.assert_allclose(display.codes[i], codes)
        back = model.inverse_transform(codes)
        for j in range(4):
            if kind == "images":
                pixels = shown(display.images_[i, j])
                np.testing.assert_allclose(pixels, back[j].reshape(4, 4), rtol=1e-5)
            else:
                np.testing.assert_allclose(display.lines_[i, j].get_ydata(), back[j], rtol=1e-5)
    names = [f"wisealetransformer{c}" for c in moved]
    if kind == "images":
        assert [text.get_text() for text in display.ax_.get_yticklabels()] == names
        extents = [line[0].get_extent() for line in display.images_]
        assert [e[2] for e in extents] == sorted((e[2] for e in extents), reverse=True)
    else:
        assert [panel.get_title() for panel in display.axes_] == names


def test_profiles_in_standard_deviations(tables, X):
    display = TraversalDisplay.from_estimator(tables[2], n_steps=3, units="sd")
    draws = np.random.RandomState(0).standard_normal((500, 2))
    sd = np.hypot(tables[2].inverse_transform(draws).std(axis=0), tables[2].noise_scale_)
    np.testing.assert_allclose(display.sd, sd, rtol=1e-4)
    np.testing.assert_allclose(display.sd, X.std(), rtol=0.5)
    centre = tables[2].inverse_transform(np.zeros((1, 2)))[0]
    for i in range(2):
        np.testing.assert_allclose(display.lines_[i, 1].get_ydata(), 0.0, atol=1e-4)
        expected = (tables[2].inverse_transform(display.codes[i])[2] - centre) / sd
        np.testing.assert_allclose(display.lines_[i, 2].get_ydata(), expected, atol=1e-4)
    labels = [text.get_text() for text in display.axes_[-1].get_xticklabels()]
    assert labels == FEATURES


def test_profiles_have_units_of_their_own_where_features_have(tables, images):
    assert TraversalDisplay.from_estimator(tables[2]).sd is not None
    assert TraversalDisplay.from_estimator(images[2]).sd is None
    assert TraversalDisplay.from_estimator(tables[2], units="data").sd is None
    assert TraversalDisplay.from_estimator(images[2], units="sd").sd is not None


def test_lines_are_coloured_by_the_code(tables):
    display = TraversalDisplay.from_estimator(tables[3], n_steps=5, span=3.0)
    bar = display.colorbar_
    assert (bar.vmin, bar.vmax) == (-3.0, 3.0)
    for line in display.lines_:
        expected = [bar.mappable.to_rgba(code) for code in np.linspace(-3, 3, 5)]
        assert [artist.get_color() for artist in line] == expected


def test_features_too_many_to_name_have_one_label():
    X = np.random.RandomState(0).standard_normal((40, 60))
    display = TraversalDisplay.from_estimator(make(2, max_epochs=1).fit(X))
    assert [panel.get_xlabel() for panel in display.axes_] == ["", "feature"]


def test_traversal_has_a_limited_number_of_lines():
    X = np.random.RandomState(0).standard_normal((40, 10))
    display = TraversalDisplay.from_estimator(make(10, max_epochs=1).fit(X), n_steps=2)
    assert display.components == list(range(8))
    assert len(display.axes_) == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_steps": 1}, "n_steps must be an int >= 2. Got 1"),
        ({"n_steps": 3.0}, "n_steps must be an int >= 2. Got 3.0"),
        ({"span": 0}, "span must be a number > 0. Got 0"),
        ({"span": np.inf}, "span must be a number > 0. Got inf"),
        ({"span": "wide"}, "span must be a number > 0. Got 'wide'"),
        ({"units": "nats"}, "units must be 'auto', 'data' or 'sd'. Got 'nats'"),
        ({"components": (0, 3)}, r"components must be one or more distinct ints .* Got \(0, 3\)"),
        ({"components": []}, r"components must be .* Got \[\]"),
        ({"image_shape": (4, 4)}, r"image_shape must be .* Got \(4, 4\)"),
    ],
)
def test_traversal_refuses_arguments(tables, arguments, message):
    with pytest.raises(ValueError, match=message):
        TraversalDisplay.from_estimator(tables[3], **arguments)
    assert not plt.get_fignums()


# training -------------------------------------------------------------------------------------


def with_history(model, **columns):
    """A copy of a fitted estimator that remembers this history."""
    copy = make(2)
    copy.__dict__ = {**model.__dict__}
    n = len(next(iter(columns.values())))
    copy.history_ = [
        {name: values[i] for name, values in columns.items() if values[i] is not None}
        for i in range(n)
    ]
    copy.n_iter_ = n
    return copy


def test_curves_are_those_of_the_history(tables):
    display = TrainingDisplay.from_estimator(tables[2])
    history = tables[2].history_
    kinds = [f"{rows}_{term}" for rows in ("train", "valid") for term in base_terms()]
    assert set(display.lines_) == set(kinds)
    for key, line in display.lines_.items():
        np.testing.assert_array_equal(line.get_xdata(), [1, 2])
        np.testing.assert_array_equal(line.get_ydata(), [row[key] for row in history])
        term = key.split("_")[1]
        assert line.axes is display.axes_[base_terms().index(term)]
    lower, upper, _ = tables[2].aggregate_kl_bounds_
    text = f"aggregate KL from {lower:.2g} to {upper:.2g} nats"
    assert display.bounds_text_.get_text() == text
    assert display.missing_text_ is None
    best = 1 + int(np.argmin([row["valid_loss"] for row in history]))
    assert display.best_epoch == best
    labels = [label.get_text() for label in display.legend_.get_texts()]
    assert labels == ["training rows", "held-out rows", f"best epoch, {best}"]


def base_terms():
    return ["loss", "reconstruction", "divergence"]


def test_best_epoch_is_that_of_the_lowest_held_out_loss_of_the_latest_fit(tables):
    loss = [0.1, 0.2, 5.0, 3.0, 4.0]
    model = with_history(tables[2], train_loss=loss, valid_loss=loss)
    assert TrainingDisplay.from_estimator(model).best_epoch == 1
    model.n_iter_ = 3
    display = TrainingDisplay.from_estimator(model)
    assert display.best_epoch == 4
    assert [line.get_xdata()[0] for line in display.best_lines_] == [4, 4, 4]


def test_display_names_what_is_missing(X):
    model = make(2)
    for n in (1, 2):
        display = TrainingDisplay.from_estimator(model.partial_fit(X))
        assert len(display.lines_["train_loss"].get_xdata()) == n
        assert set(display.lines_) == {f"train_{term}" for term in base_terms()}
        assert display.missing_text_.get_text() == "missing: held-out rows, best epoch"
        assert display.best_lines_ == []
        display.figure_.canvas.draw()
    del model.aggregate_kl_bounds_
    display = TrainingDisplay.from_estimator(model)
    assert display.missing_text_.get_text().endswith("best epoch; aggregate_kl_bounds_")
    assert display.bounds_text_ is None


def test_epochs_without_a_number_leave_a_gap(tables):
    model = with_history(
        tables[2], train_loss=[3.0, 2.0, 1.0], valid_loss=[4.0, 3.0, None], dur=[1, 1, 1]
    )
    display = TrainingDisplay.from_estimator(model)
    np.testing.assert_array_equal(display.lines_["valid_loss"].get_ydata(), [4.0, 3.0, np.nan])
    assert display.best_epoch == 2
    lost = with_history(tables[2], train_loss=[3.0, 2.0], valid_loss=[np.nan, np.inf])
    assert TrainingDisplay.from_estimator(lost).best_epoch is None
    bare = with_history(tables[2], dur=[1.0])
    display = TrainingDisplay.from_estimator(bare)
    assert "losses in history_" in display.missing_text_.get_text()
    assert display.legend_ is None


def test_training_refuses_an_empty_history(tables):
    model = with_history(tables[2], train_loss=[1.0])
    model.history_ = []
    with pytest.raises(
        ValueError, match=r"at least one epoch in history_\. Got WiSEALETransformer"
    ):
        TrainingDisplay.from_estimator(model)


def test_training_panels_may_be_given(tables):
    _, axes = plt.subplots(3, 1)
    assert list(TrainingDisplay.from_estimator(tables[2], ax=axes).axes_) == list(axes)
    with pytest.raises(ValueError, match="ax must be a matplotlib Axes, None, or 3 Axes"):
        TrainingDisplay.from_estimator(tables[2], ax=axes[:2])
