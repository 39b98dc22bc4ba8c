"""The scripts behind the figures: the smallest runs, and tables are what the results say."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

BENCHMARKS = Path(__file__).parents[1] / "examples" / "benchmarks"

pytestmark = pytest.mark.skipif(not BENCHMARKS.exists(), reason="examples are not installed")


def run(script, *arguments):
    command = [sys.executable, script, *arguments]
    return subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, check=False)


@pytest.mark.long
@pytest.mark.parametrize(
    "script",
    ["paper_sines.py", "paper_faces.py", "paper_mnist.py", "paper_frontier.py", "scaling.py"],
)
def test_quick_run_of_a_study_ends_well(script):
    done = run(script, "--quick")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "mse" in done.stdout.lower()


@pytest.mark.long
def test_quick_run_of_answers_ends_well():
    done = run("answers.py", "--quick")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "planted table breast_cancer k 2" in done.stdout


def test_quick_run_of_wild_rows_ends_well():
    done = run("robust.py", "--quick")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "wild rows, wine: gaussian r2" in done.stdout


@pytest.mark.long
def test_quick_run_of_maps_ends_well():
    done = run("maps.py", "--quick")
    assert done.returncode == 0, done.stderr[-2000:]
    for part in ("study", "study_cells", "study_columns", "more", "tables", "labels"):
        assert f"{part} " in done.stdout


@pytest.mark.long
def test_quick_run_of_the_detectors_ends_well():
    done = run("anomaly.py", "--quick")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "AUC" in done.stdout


@pytest.mark.long
def test_quick_run_on_a_device_ends_well_and_goes_on(tmp_path):
    command = ["gpu.py", "--quick", "--device", "cpu", "--out", tmp_path / "codes"]
    command += ["--results", tmp_path / "gpu.csv"]
    done = run(*command)
    assert done.returncode == 0, done.stderr[-2000:]
    text = (tmp_path / "gpu.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert {row["part"] for row in rows} == {"epoch", "overlap", "transform", "codes"}
    assert all(float(row["ratio"]) < 1 for row in rows if row["part"] == "codes")
    again = run(*command, "--part", "epoch", "overlap", "transform", "codes")
    assert again.returncode == 0, again.stderr[-2000:]
    assert again.stdout == ""
    assert (tmp_path / "gpu.csv").read_text() == text


@pytest.mark.long
def test_quick_run_on_tables_ends_well_and_goes_on(tmp_path):
    command = ["tables.py", "--quick", "--results", tmp_path]
    command += ["--part", "synthetic", "holes", "conditional", "--methods", "ours", "simple"]
    done = run(*command)
    assert done.returncode == 0, done.stderr[-2000:]
    texts = {file.stem.removeprefix("tables_"): file.read_text() for file in tmp_path.iterdir()}
    assert set(texts) == {"synthetic", "holes", "conditional"}
    rows = list(csv.DictReader(texts["holes"].splitlines()))
    assert {row["method"] for row in rows} == {"ours", "simple"}
    assert all(0 <= float(row["coverage"]) <= 1 for row in rows if row["method"] == "ours")
    again = run(*command)
    assert again.returncode == 0, again.stderr[-2000:]
    for part, text in texts.items():
        assert (tmp_path / f"tables_{part}.csv").read_text() == text


@pytest.mark.long
def test_quick_run_of_the_speed_of_fits_ends_well_and_goes_on(tmp_path):
    command = ["speed.py", "--quick", "--results", tmp_path]
    done = run(*command)
    assert done.returncode == 0, done.stderr[-2000:]
    texts = {file.stem.removeprefix("speed_"): file.read_text() for file in tmp_path.iterdir()}
    parts = {"fits", "epoch", "rows", "search", "few", "ends", "wide", "imports"}
    assert set(texts) == parts
    rows = list(csv.DictReader(texts["fits"].splitlines()))
    assert {"ours", "kernel_pca", "mlp", "pca"} == {row["method"] for row in rows}
    assert all(float(row["cpu"]) > 0 and 0 < float(row["r2"]) < 1 for row in rows)
    again = run(*command)
    assert again.returncode == 0, again.stderr[-2000:]
    for part, text in texts.items():
        assert (tmp_path / f"speed_{part}.csv").read_text() == text


class Operations(TorchDispatchMode):
    """Counts what is handed to a device."""

    number = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.number += 1
        return function(*args, **(kwargs or {}))


def test_an_epoch_has_hardly_more_operations_than_one_by_hand(monkeypatch):
    """Small steps on a GPU take as long as it takes to hand over their operations."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import engine

    X = engine.table(2000, 20)

    def of_an_epoch(train, X):
        numbers = []
        for n_epochs in (1, 2):
            with Operations() as operations:
                train(X, 4, (16, 8), 50, n_epochs)
            numbers.append(operations.number)
        return numbers[1] - numbers[0]

    ours = of_an_epoch(engine.ours, X)
    by_hand = of_an_epoch(engine.train_by_hand, torch.from_numpy(X))
    assert by_hand > 1000
    assert ours <= 1.06 * by_hand


def test_tables_of_readme_and_documentation_are_those_of_the_results(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import regenerate

    tables = 0
    for file, text in regenerate.texts():
        assert text == file.read_text(), f"run examples/benchmarks/regenerate.py: {file.name}"
        tables += text.count(" end ")
    assert tables >= 6


GALLERY = BENCHMARKS.parent
QUICK = ("plot_dataframes.py", "plot_displays.py")


@pytest.mark.parametrize(
    "script",
    [
        script.name if script.name in QUICK else pytest.param(script.name, marks=pytest.mark.long)
        for script in sorted(GALLERY.glob("plot_*.py"))
    ],
)
def test_gallery_script_runs_without_a_warning(script, monkeypatch, tmp_path):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    command = [sys.executable, "-W", "error", GALLERY / script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip()
    assert not list(tmp_path.iterdir())


def test_gallery_is_in_order(monkeypatch):
    monkeypatch.syspath_prepend(GALLERY.parent / "docs")
    import gallery_order

    assert sorted(gallery_order.FIRST) == sorted(
        script.stem for script in GALLERY.glob("plot_*.py")
    )
    for script in GALLERY.glob("plot_*.py"):
        text = script.read_text()
        assert text.count("\n# %%\n") >= 1, script.name
        assert "\n====" in text.split('"""')[1], script.name
