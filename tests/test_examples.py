"""The scripts behind the figures: the smallest runs, and tables are what the results say."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "examples" / "benchmarks"

pytestmark = pytest.mark.skipif(not BENCHMARKS.exists(), reason="examples are not installed")


def run(script, *arguments):
    command = [sys.executable, script, *arguments]
    return subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "script",
    ["paper_sines.py"]
    + [
        pytest.param(script, marks=pytest.mark.long)
        for script in ("paper_faces.py", "paper_mnist.py", "paper_frontier.py", "scaling.py")
    ],
)
def test_quick_run_of_a_study_ends_well(script):
    done = run(script, "--quick")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "mse" in done.stdout.lower()


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
