"""Damaged and hostile files are refused by a ValueError, or give what works, and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import fuzzing
import pytest

import sklearn_wiseale

#: Ways that leave no file whole: whatever comes of them is refused.
SPOILING = ("cut", "extend", "lie_about_length")


def damage(folder, seed, n_files):
    """Report of a process of its own that has damaged and loaded so many files."""
    script, package = Path(fuzzing.__file__), Path(sklearn_wiseale.__file__).parents[1]
    before = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        [sys.executable, script, folder, str(seed), str(n_files)],
        env={**before, "PYTHONPATH": str(package)},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.returncode}, on {folder}/damaged: {done.stderr[-3000:]}"
    return json.loads(done.stdout)


def hold_laws(report, n_files):
    assert report["failures"] == []
    assert report["n_files"] == n_files
    asked, touched = report["grown MB"]
    assert touched < 64
    assert asked < 300, report["large"]
    assert {"evil", "unused"}.isdisjoint(report["left"])
    counts = report["outcomes"]
    # and the laws were put to the test: both outcomes, of files and of checkpoints, in all ways
    for kind in ("file", "checkpoint"):
        assert min(counts[f"{kind}: refused"], counts[f"{kind}: worked"]) > n_files / 100
    for way in {way.__name__ for way in fuzzing.WAYS}:
        assert counts[f"{way}: refused"] > n_files / 100
        assert (f"{way}: worked" in counts) <= (way not in SPOILING)
    print({name: number for name, number in report.items() if name != "failures"})


def test_damaged_files(tmp_path):
    hold_laws(damage(tmp_path, seed=0, n_files=600), 600)


@pytest.mark.long
def test_many_damaged_files(tmp_path):
    report = damage(tmp_path, seed=1, n_files=20_000)
    hold_laws(report, 20_000)
    assert report["messages"] > 300  # many checks, not one
