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
        for script in ("paper_faces.py", "paper_mnist.py", "paper_frontier.py")
    ],
)
def test_quick_run_of_a_study_ends_well(script):
    done = run(script, "--quick")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "mse" in done.stdout


def test_tables_of_readme_and_documentation_are_those_of_the_results(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import regenerate

    tables = 0
    for file, text in regenerate.texts():
        assert text == file.read_text(), f"run examples/benchmarks/regenerate.py: {file.name}"
        tables += text.count(" end ")
    assert tables >= 6
