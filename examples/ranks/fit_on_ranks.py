"""One fit by several processes, on one machine or many.

Run it with as many processes as there are GPUs or, without any, a few CPU cores::

    torchrun --nproc-per-node 2 fit_on_ranks.py
    accelerate launch --multi_gpu --num_processes 2 fit_on_ranks.py

It needs ``pip install sklearn-wiseale[accelerate]``. All processes fit together, and all end with
the same estimator. Run by ``python`` alone, the script makes the same fit in one process, but for
rounding: 128 rows a step, which two processes take as 64 each.
"""

import torch
from accelerate import PartialState

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.datasets import make_sine_waves
from sklearn_wiseale.diagnostics import reconstruction_r2

# Sets up the process group, and gives each process a GPU of its own where there are GPUs.
state = PartialState(cpu=not torch.cuda.is_available())

# The same rows in every process. Large ones are best a numpy.memmap of a file that all can see:
# then each process reads only its part of every batch.
X, _ = make_sine_waves(1500, n_timesteps=32, random_state=0)
X, X_test = X[:1000], X[1000:]

reducer = WiSEALETransformer(
    n_components=4,
    batch_size=128 // state.num_processes,  # of each process
    max_epochs=5,
    verbose=1,  # one bar, of the first process
    random_state=0,
).fit(X)

# After the fit each process is on its own again, with the whole estimator.
if state.is_main_process:
    r2 = reconstruction_r2(reducer, X_test)
    print(f"{state.num_processes} processes: {reducer.n_iter_} epochs, test r2 {r2:.4f}")
state.destroy_process_group()
