"""Collections larger than memory: a Dask array of 5 GB, a parquet file of 2 GB.

Peak resident memory above that after the imports, each job in a process of its own; of the stream
after a tenth of the batches and at the end. Writes results/large.csv, and files of 2 GB to the
temporary directory; reads /proc.

    python examples/benchmarks/large.py
    python examples/benchmarks/large.py --part stream --scale 0.1   # a tenth, not written
"""

import argparse
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import dask.array as da
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from engine import write

from sklearn_wiseale import WiSEALETransformer, load
from sklearn_wiseale.networks import MLP

RESULT = Path(__file__).parent / "results" / "large.csv"
N_FEATURES, K = 1000, 16
LIMIT = 1536  # MB
MIXING = np.random.default_rng(0).standard_normal((8, N_FEATURES), dtype="float32")


def status_mb(name):
    """A line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def start_measuring():
    """A function that gives the peak of resident memory from now on, above that of now, in MB."""
    before = status_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that of now
    return lambda: status_mb("VmHWM") - before


def in_process(job, *arguments):
    """What a job returns, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(job, *arguments).result()


def make_rows(first, n):
    """Rows with these numbers, near a curved surface, in no more memory than theirs."""
    X = np.empty((n, N_FEATURES), dtype="float32")
    for start in range(0, n, 512):
        part, rng = X[start : start + 512], np.random.default_rng(first + start)
        rng.standard_normal(out=part, dtype="float32")
        factors = rng.standard_normal((len(part), len(MIXING)), dtype="float32")
        part += 3 * np.tanh(factors) @ MIXING
    return X


def make_block(block_info=None):
    """Block of a Dask array, made when it is asked for."""
    (first, last), _ = block_info[None]["array-location"]
    return make_rows(first, last - first)


def transform_array(folder, n_rows, block, n_threads):
    """Store the codes of a Dask array; peak memory, seconds."""
    torch.set_num_threads(max(1, 2 // n_threads))
    peak, start = start_measuring(), time.perf_counter()
    model = load(folder / "model.safetensors", device="cpu")
    chunks = da.core.normalize_chunks((block, N_FEATURES), (n_rows, N_FEATURES))
    X = da.map_blocks(make_block, chunks=chunks, dtype="float32", meta=np.empty((0, 0), "float32"))
    codes = X.map_blocks(model.transform, dtype="float32", chunks=(X.chunks[0], (K,)))
    stored = np.lib.format.open_memmap(folder / "codes.npy", "w+", "float32", codes.shape)
    da.store(codes, stored, lock=False, scheduler="threads", num_workers=n_threads)
    assert (stored[-1] == model.transform(X.blocks[-1].compute())[-1]).all()
    return peak(), time.perf_counter() - start


def array(folder, scale):
    """5 GB of float32 through ``transform``, block by block, into a memory map."""
    model = WiSEALETransformer(K, max_epochs=2, random_state=0).fit(make_rows(0, 10_000))
    model.save(folder / "model.safetensors")
    n_rows = int(1_250_000 * scale)
    for n_threads, block, size in ((2, 33_554, "128 MiB"), (16, 4194, "16 MiB")):
        peak, took = in_process(transform_array, folder, n_rows, block, n_threads)
        name = f"transform, 5 GB, {n_threads} threads, blocks of {size}"
        yield "array", name, peak, LIMIT, f"MB, limit; {took:.0f} s"


def write_rows(folder, n_rows, n_group):
    """A parquet file, a row group at a time."""
    writer = None
    for first in range(0, n_rows, n_group):
        columns = make_rows(first, n_group).T
        group = pa.table({f"x{i}": column for i, column in enumerate(columns)})
        writer = writer or pq.ParquetWriter(
            folder / "rows.parquet", group.schema, compression="none", use_dictionary=False
        )
        writer.write_table(group)
    writer.close()


def stream_file(folder, n_rows, batch_size):
    """Train on a file's batches, then write their codes; peaks by batch and seconds of both."""
    torch.set_num_threads(2)
    file = folder / "rows.parquet"
    model = WiSEALETransformer(K, network=MLP(hidden=(64,)), random_state=0)
    model.set_output(transform="pandas")
    measured = []

    def follow(use):
        peak, start, peaks = start_measuring(), time.perf_counter(), []
        # with pre_buffer=True, the default, pyarrow holds what it has read until the end
        for batch in pq.ParquetFile(file, pre_buffer=False).iter_batches(batch_size=batch_size):
            use(batch.to_pandas())
            peaks.append(peak())
        measured.append((peaks, time.perf_counter() - start))

    follow(model.partial_fit)
    schema = pa.schema([(name, pa.float32()) for name in model.get_feature_names_out()])
    with pq.ParquetWriter(folder / "codes.parquet", schema) as writer:
        follow(lambda rows: writer.write_table(pa.Table.from_pandas(model.transform(rows), schema)))
    assert model.n_samples_seen_ == pq.ParquetFile(folder / "codes.parquet").metadata.num_rows
    return measured


def stream(folder, scale):
    """2 GB of parquet through ``partial_fit``, then ``transform`` into another file."""
    n_rows = int(500_000 * scale)
    in_process(write_rows, folder, n_rows, 10_000)
    measured = in_process(stream_file, folder, n_rows, 10_000)
    for name, (peaks, took) in zip(("partial_fit", "transform"), measured, strict=True):
        tenth = peaks[len(peaks) // 10]
        yield "stream", f"{name}, 2 GB", peaks[-1], tenth, f"MB, after a tenth; {took:.0f} s"


PARTS = (array, stream)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [part.__name__ for part in PARTS]
    parser.add_argument("--part", nargs="+", choices=names, default=names)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows")
    arguments = parser.parse_args()
    for part in PARTS:
        if part.__name__ not in arguments.part:
            continue
        with tempfile.TemporaryDirectory() as folder:
            for row in part(Path(folder), arguments.scale):
                if arguments.scale == 1:
                    write(*row, row[2] / row[3], file=RESULT)
                else:
                    print(*row)


if __name__ == "__main__":
    main()
