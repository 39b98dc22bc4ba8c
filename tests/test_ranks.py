"""Two processes fit what one would: tests/on_ranks.py runs in both, and here is what must hold."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sklearn_wiseale._training.distributed import Processes, current_processes

HERE = Path(__file__).parent
EXAMPLE = HERE.parent / "examples" / "ranks" / "fit_on_ranks.py"
N_RANKS = 2
TORCHRUN = "torch.distributed.run", "--standalone", "--nproc-per-node", N_RANKS


def launch(*command):
    """Run a module in two processes; what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # cores are few
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return done.stdout


@pytest.fixture(scope="module", name="found")
def run_on_ranks(tmp_path_factory):
    """What each of two processes has found."""
    folder = tmp_path_factory.mktemp("ranks")
    launch(*TORCHRUN, HERE / "on_ranks.py", folder)
    files = [folder / f"found-{rank}.pt" for rank in range(N_RANKS)]
    return [torch.load(file, weights_only=False) for file in files]


def same(states):
    """Whether all ranks have the same to the last bit."""
    first, *others = states
    assert all(other.keys() == first.keys() for other in others)
    return all(np.array_equal(first[name], other[name]) for other in others for name in first)


@pytest.mark.parametrize("of", ["objectives", "likelihoods"])
def test_gradient_is_that_of_one_process_with_all_rows(found, of):
    for own in found:
        for name, against in own[f"gradients of {of}"].items():
            assert against["cosine"] >= 0.99999, name
            assert against["norm"] == pytest.approx(1, abs=1e-4), name


def test_running_estimates_are_those_of_one_process_with_all_rows(found):
    for own in found:
        results = own["gradients of likelihoods"]
        for name, against in results.items():
            assert against["buffers"] < 1e-6, name
        learned = ("gaussian", "negative_binomial", "mixed", "feature, missing values")
        assert all(results[name]["moved"] > 1e-5 for name in learned)


def test_fit_is_that_of_one_process_with_the_same_batches(found):
    for own in found:
        for name, against in own["fits"].items():
            assert against["apart"] < 1e-10, name
            assert against["codes_apart"] < 1e-10, name
            assert against["integers"], name
            assert against["learned"] > 1e-3, name


def test_all_ranks_end_with_the_same_state(found):
    for name in found[0]["fits"]:
        assert same([own["fits"][name]["state"] for own in found]), name
    for name in found[0]["other fits"]:
        assert same([own["other fits"][name] for own in found]), name


def test_layers_noise_differs_by_rank_and_repeats(found):
    states = found[0]["other fits"]
    assert same([states["dropout"], states["dropout again"]])
    draws = [own["dropout draws"] for own in found]
    assert not np.array_equal(*draws)


def test_ranks_read_their_own_rows_only(found):
    rows = [own["reading"]["rows"] for own in found]
    assert max(map(len, rows)) - min(map(len, rows)) <= 3  # batches
    assert sorted(rows[0] + rows[1]) == list(range(300))
    assert all(own["reading"]["as_array"] for own in found)


DISAGREEMENTS = {
    "infinity on one": [
        "Process 1 of 2 has failed: ValueError: Input X contains",
        "Input X contains",
    ],
    "other rows on one": ["differ from those of process 0 in: X", "process 1 in: X"],
    "another parameter on one": ["in: max_epochs.", "in: max_epochs."],
    "another part on one": ["in: objective__weight.", "in: objective__weight."],
    "too few rows": ["a row to train on for each of 2 processes", "Got 1 of them"],
    "error after an epoch": ["Process 1 of 2 has failed: OSError: disk", "OSError: disk"],
    "stop after an epoch": ["2 epochs", "2 epochs"],
    "and now a fit": ["3 epochs", "3 epochs"],
}


@pytest.mark.parametrize("case", DISAGREEMENTS)
def test_what_happens_on_one_rank_happens_on_all(found, case):
    for own, part in zip(found, DISAGREEMENTS[case], strict=True):
        assert part in own["disagreements"][case]


def test_first_rank_writes_files_and_all_go_on_from_them(found):
    assert [own["files"]["written"] for own in found] == [1, False]
    assert [own["files"]["left"] for own in found] == [0, False]
    assert [own["files"]["began after"] for own in found] == [2, 2]
    assert all(own["files"]["apart"] == 0 for own in found)


def test_first_rank_shows_progress(found):
    assert [own["progress"] for own in found] == [True, False]


@pytest.mark.parametrize("n", [2, 3, 7, 128])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_parts_make_up_the_whole(n, size):
    parts = [Processes(rank, size).local_slice(n) for rank in range(size)]
    lengths = [part.stop - part.start for part in parts]
    assert [i for part in parts for i in range(n)[part]] == list(range(n))
    assert max(lengths) - min(lengths) <= 1


def test_without_a_group_a_process_is_alone():
    assert current_processes().size == 1


@pytest.mark.long
@pytest.mark.skipif(not EXAMPLE.exists(), reason="examples are not installed")
def test_example_runs_in_two_processes():
    printed = launch(*TORCHRUN, EXAMPLE)
    assert printed.count("2 processes: 5 epochs, test r2 0.") == printed.count("\n") == 1
