"""Long use: memory stays, workers agree, and threads do not disturb each other."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soaking
import torch

import sklearn_wiseale


def run(*arguments):
    """What the script reports, from a process of its own."""
    home = str(Path(sklearn_wiseale.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, soaking.__file__, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": home},
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def at_the_same_time(jobs):
    """What functions return that begin at once, each in a thread of its own."""
    barrier, results = threading.Barrier(len(jobs)), [None] * len(jobs)

    def work(place, job):
        barrier.wait()
        results[place] = job()

    threads = [threading.Thread(target=work, args=item) for item in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def states():
    """Of the global generators."""
    return torch.get_rng_state().tolist(), str(np.random.get_state(legacy=False))


def fit_in_threads(jobs):
    """Codes are those of fits alone, to the bit, and the global generators stay as they were."""
    alone = [soaking.codes(*job) for job in jobs]
    before = states()
    together = at_the_same_time([lambda job=job: soaking.codes(*job) for job in jobs])
    assert states() == before
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("pair", [("plain", "dropout"), ("dropout", "dropout"), ("wide", "conv")])
def test_threads_do_not_disturb_each_other(pair):
    fit_in_threads([(kind, seed) for seed, kind in enumerate(pair)])


def test_a_method_used_by_many_threads():
    estimator, X = soaking.fitted("missing"), soaking.rows("missing")
    for method in (estimator.transform, estimator.score_samples):
        expected = method(X)
        for found in at_the_same_time([lambda method=method: method(X)] * 4):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.long
def test_many_threads_do_not_disturb_each_other():
    kinds = list(soaking.KINDS)
    for start in range(10):
        fit_in_threads([(kinds[(start + i) % len(kinds)], 10 * start + i) for i in range(4)])


@pytest.mark.long
def test_memory_stays():
    report = run("memory", 300, 10_000)
    print(report)
    warm, last = report["fits"][0], report["fits"][-1]  # the first tenth warms up
    assert last - warm <= 30
    assert report["transforms"][-1] - report["transforms"][0] <= 30
    assert (report["n_fits"], report["n_transforms"]) == (300, 10_000)


@pytest.mark.long
def test_workers_of_all_kinds_give_the_same_codes():
    report = run("backends")
    print(report)
    assert set(report) == {"loky", "threading", "multiprocessing", "fork", "spawn"}
    for name, agree in report.items():
        assert agree == [True] * len(soaking.KINDS), name
