"""Damaged and hostile files are refused with a ValueError, or what they hold works."""

import json
import os
import subprocess
import sys
from pathlib import Path

import fuzzing
import pytest

import sklearn_wiseale

#: No file stays whole in these ways: the result is always refused.
SPOILING = ("cut", "extend", "change_length")


def damage(folder, seed, n_files):
    """Report of the script, which damages and loads so many files in a process of its own."""
    package = Path(sklearn_wiseale.__file__).parents[1]
    settings = {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "PYTHONPATH": str(package)}
    done = subprocess.run(
        [sys.executable, fuzzing.__file__, folder, str(seed), str(n_files)],
        env={**os.environ, **settings},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.returncode}, on {folder}/damaged: {done.stderr[-3000:]}"
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("seed", "n_files", "n_messages"),
    [(0, 600, 100), pytest.param(1, 20_000, 300, marks=pytest.mark.long)],
)
def test_damaged_files(seed, n_files, n_messages, tmp_path):
    report = damage(tmp_path, seed, n_files)
    assert report["failures"] == []
    assert report["n_files"] == n_files
    asked, touched = report["grown MB"]
    assert touched < 64
    assert asked < 300, report["large"]
    assert {"evil", "unused"}.isdisjoint(report["left"])
    # both outcomes occur, for files and for checkpoints, in all ways
    counts = report["outcomes"]
    for kind in ("file", "checkpoint"):
        assert min(counts[f"{kind}: refused"], counts[f"{kind}: worked"]) > n_files / 100
    for way in {way.__name__ for way in fuzzing.WAYS}:
        assert counts[f"{way}: refused"] > n_files / 100
        assert (f"{way}: worked" in counts) <= (way not in SPOILING)
    assert report["messages"] > n_messages  # many checks, not one


def checked_leaves(header):
    """Containers and keys of the values that a reader relies on; of tables, only theirs."""
    table = header.get("attributes", {}).get("_table")
    if table is not None:
        header = table
        shown = []
    else:
        shown = [header.get("versions", {}), fuzzing.find(header, ["state", "history"])[0]]
    free = {id(tree) for part in shown for tree, _ in [(part, 0), *fuzzing.places(part)]}
    for tree, key in list(fuzzing.places(header)):
        if id(tree) not in free and not isinstance(tree[key], dict | list):
            yield tree, key


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["plain", "pandas table", "polars table", "blend"])
def test_every_value_of_the_header_is_checked(name, tmp_path, monkeypatch):
    """Wrong values are refused, or what is loaded works; containers and texts never pass."""
    monkeypatch.setattr(os, "fsync", lambda file: None)  # takes most of the time
    saved, resumed = fuzzing.corpus(tmp_path)
    path, whole = {**saved, **resumed}[name]
    outer, header, data = fuzzing.take_apart(whole)
    n_refused = 0
    for tree, key in checked_leaves(header):
        right = tree[key]
        for wrong in fuzzing.WRONG:
            tree[key] = wrong
            path.write_bytes(fuzzing.put_together(outer, header, data))
            if name in saved:
                outcome, message = fuzzing.attempt(fuzzing.use_loaded, path, fuzzing.rows(name))
            else:
                outcome, message = fuzzing.attempt(fuzzing.use_checkpoint, path, name)
            assert outcome != "failed", f"{key}={wrong!r:.80}: {message}"
            is_text = isinstance(wrong, str) and isinstance(right, int | float)
            if isinstance(wrong, dict | list) or is_text:
                assert outcome == "refused", f"{key}={wrong!r:.80}, not {right!r}"
            n_refused += outcome == "refused"
        tree[key] = right
    assert n_refused > 250
