"""Reading of saved estimators."""

from __future__ import annotations

import os

import torch

from ._persistence.save import read
from ._training.parameters import find_device
from ._transformer import WiSEALETransformer
from .likelihoods import Likelihood
from .networks import Network
from .objectives import Objective

__all__ = ["load"]


def load(
    path: str | os.PathLike[str],
    device: str | torch.device = "auto",
    *,
    objective: Objective | None = None,
    likelihood: Likelihood | None = None,
    network: Network | None = None,
) -> WiSEALETransformer:
    """Read an estimator that :meth:`WiSEALETransformer.save` has written.

    Reading runs no code of the file, whoever has written it: classes are looked up by name among
    those of this package, and shapes are compared with the tensors before anything is built.

    Parameters
    ----------
    path : str or PathLike

    device : str or torch.device, default="auto"
        The parameter ``device`` of the estimator. "auto" keeps the saved one if it is available
        here.

    objective, likelihood, network : object, default=None
        Parts of your own code, which is not stored: for instance
        ``network=Modules(encoder, decoder)``, equal to the one that was fitted.

    Returns
    -------
    estimator : WiSEALETransformer
        Fitted.

    Raises
    ------
    FileNotFoundError
        If there is no such file.

    ValueError
        If the file is damaged, of another kind or of another format version; if a part of your own
        is missing or does not fit the weights; or if the device is not available.

    See Also
    --------
    WiSEALETransformer.save : Writes the file.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_wine
    >>> from sklearn_wiseale import WiSEALETransformer, load
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "wine.safetensors")
    ...     WiSEALETransformer(3, max_epochs=2, random_state=0).fit(load_wine().data).save(file)
    ...     load(file)
    WiSEALETransformer(max_epochs=2, n_components=3, random_state=0)
    """
    find_device(device, "float32")
    parts = {"objective": objective, "likelihood": likelihood, "network": network}
    return read(path, WiSEALETransformer, device, parts)
