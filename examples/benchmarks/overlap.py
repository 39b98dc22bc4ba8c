"""Pairwise overlaps: time beside the dense formula, peak memory, and an exact aggregate.

    python examples/benchmarks/overlap.py                      # all parts, some minutes
    python examples/benchmarks/overlap.py --part time          # forward and backward, two data sets
    python examples/benchmarks/overlap.py --part memory        # 8,192 rows among themselves
    python examples/benchmarks/overlap.py --part diagnostics   # aggregate_kl_bounds of 100,000 rows

Run it on an idle machine: where others want the processors too, threads that wait for each other
take many times as long, and ``--threads 1`` says more. Times are medians; the two ways take turns
within one run. Memory is the highest resident set of a process of its own above what it was after
a small problem of the same kind. Every part writes results/overlap_PART.csv anew.
"""

import argparse
import csv
import math
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import torch

from sklearn_wiseale.diagnostics import aggregate_kl_bounds
from sklearn_wiseale.objectives import log_mean_overlap

RESULTS = Path(__file__).parent / "results"
SIZES = [(64, 2), (64, 16), (128, 2), (128, 16), (1024, 64), (2048, 16)]
#: mean and spread of the log-variances of posteriors whose means are standard normal
REGIMES = {"overlapping": (-0.5, 0.5), "separated": (-6.0, 0.5)}


def posteriors(n, k, regime, dtype=torch.float32):
    """Means and log-variances of n posteriors."""
    generator = torch.Generator().manual_seed(0)
    mean, log_var = torch.randn(2, n, k, generator=generator, dtype=dtype)
    centre, spread = REGIMES[regime]
    return mean, centre + spread * log_var


def dense(mean, log_var):
    """The formula with all pairs and dimensions at once."""
    var = log_var.exp()
    total = var[:, None] + var  # (M, M, K)
    squared = (mean[:, None] - mean).square()
    log_overlap = -0.5 * ((2 * math.pi * total).log() + squared / total).sum(dim=2)
    return torch.logsumexp(log_overlap, dim=1) - math.log(len(mean))


def step(function, mean, log_var):
    """Forward and backward, as training has it."""
    mean, log_var = (tensor.detach().requires_grad_() for tensor in (mean, log_var))
    function(mean, log_var).mean().backward()
    return mean.grad, log_var.grad


def seconds_of(function, given, calls):
    start = time.perf_counter()
    for _ in range(calls):
        step(function, *given)
    return (time.perf_counter() - start) / calls


def time_of_sizes(repeats):
    rows = []
    for regime in REGIMES:
        for m, k in SIZES:
            given = posteriors(m, k, regime)
            for function in (dense, log_mean_overlap):
                step(function, *given)
            calls = max(1, int(0.05 / seconds_of(dense, given, 1)))
            times = [
                [seconds_of(function, given, calls) for function in (dense, log_mean_overlap)]
                for _ in range(repeats)
            ]
            theirs, ours = (median(column) for column in zip(*times, strict=True))
            rows.append(
                {
                    "regime": regime,
                    "m": m,
                    "k": k,
                    "dense_ms": f"{1e3 * theirs:.3f}",
                    "ours_ms": f"{1e3 * ours:.3f}",
                    "dense_over_ours": f"{median(a / b for a, b in times):.2f}",
                }
            )
            print(rows[-1], flush=True)
    return rows


def peak():
    """Highest resident set of this process so far, MB."""
    if sys.platform == "linux":  # getrusage would count what the parent held before exec
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e3
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def in_fresh_process(function, *arguments):
    threads = torch.get_num_threads()
    with ProcessPoolExecutor(
        1, get_context("spawn"), initializer=torch.set_num_threads, initargs=(threads,)
    ) as pool:
        return pool.submit(function, *arguments).result()


def above_warm_up(use, warm_up, problem):
    """Seconds of the problem, and its peak memory above what arguments and warm-up took."""
    use(*warm_up)
    before, start = peak(), time.perf_counter()
    result = use(*problem)
    return {
        "seconds": f"{time.perf_counter() - start:.1f}",
        "peak_mb": f"{peak() - before:.1f}",
    }, result


def memory_of_step(m, k, regime):
    problems = [(log_mean_overlap, *posteriors(n, k, regime)) for n in (512, m)]
    figures, _ = above_warm_up(step, *problems)
    return {"regime": regime, "m": m, "k": k, **figures}


def memory(m=8192, k=32):
    return [in_fresh_process(memory_of_step, m, k, regime) for regime in REGIMES]


def bounds_of_rows(n, k, regime):
    arrays = [[t.numpy() for t in posteriors(m, k, regime, torch.float64)] for m in (1000, n)]
    figures, (lower, upper, _) = above_warm_up(aggregate_kl_bounds, *arrays)
    bounds = {"lower": f"{lower:.4f}", "upper": f"{upper:.4f}"}
    return {"regime": regime, "n": n, "k": k, **figures, **bounds}


def diagnostics(n, k=8):
    return [in_fresh_process(bounds_of_rows, n, k, "overlapping")]


def report(part, rows):
    """Write a part's results and print them as a table."""
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"overlap_{part}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(map(str, row.values())) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=["time", "memory", "diagnostics"])
    parser.add_argument("--repeats", type=int, default=7, help="turns of either way; part time")
    parser.add_argument("--rows", type=int, default=100_000, help="of part diagnostics")
    parser.add_argument("--threads", type=int, help="default: torch's")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    parts = {
        "time": lambda: time_of_sizes(arguments.repeats),
        "memory": memory,
        "diagnostics": lambda: diagnostics(arguments.rows),
    }
    for part, run in parts.items():
        if arguments.part in (None, part):
            report(part, run())


if __name__ == "__main__":
    main()
