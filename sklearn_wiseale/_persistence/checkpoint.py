"""Checkpoints: the training state of a fit on disk, from which the fit continues."""

from __future__ import annotations

import os
import tempfile
import warnings
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from .._training.net import VariationalNet
from .._training.state import State
from .file import read_file, reading, remove_unfinished, write_file
from .header import shown

__all__ = ["Checkpoint"]


class Checkpoint:
    """The latest training state of one fit, in a directory that many fits may share.

    The fingerprint of everything that the fit depends on names the file and is written into it.
    ``state`` is what the file holds, or None. Raises a ValueError if the directory cannot be
    written to, or if the file is damaged or belongs to another fit.
    """

    def __init__(self, directory: str | os.PathLike[str], fingerprint: str) -> None:
        folder = Path(directory)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass  # fails now, not after the first epoch
        except OSError as error:
            raise ValueError(
                "The 'checkpoint' parameter of WiSEALETransformer must be a directory that can be "
                f"written to, or None. Got {directory!r} instead: {error}"
            ) from error
        self.path = folder / f"fit-{fingerprint[:16]}.safetensors"
        self.fingerprint = fingerprint
        self.state: State | None = None
        with suppress(FileNotFoundError):
            self.state, header = read_file(self.path, "checkpoint")
            if header.get("fingerprint") != fingerprint:
                raise ValueError(
                    f"The checkpoint {str(self.path)!r} must belong to this fit, with its data and "
                    f"parameters. Its fingerprint is {shown(header.get('fingerprint'))}, not "
                    f"{fingerprint!r}: remove it or use another directory."
                )

    def stored_seed(self, seed: int) -> int:
        """The seed of the stored fit's split, or the given one if nothing is stored."""
        if self.state is None:
            return seed
        with self._reading():
            return int(self.state["split_seed"])

    def resume(self, net: VariationalNet) -> None:
        """Load the stored state; raise a ValueError if it is not a state of this net."""
        assert self.state is not None
        with self._reading():
            net.load_state_dict(self.state)

    def _reading(self) -> AbstractContextManager[None]:
        message = f"The checkpoint {str(self.path)!r} must be the state of this fit"
        return reading(message, ". Remove it, and the fit begins anew.")

    def write(self, net: VariationalNet, split_seed: int) -> None:
        """Replace the file as a whole; warn if the disk does not allow it."""
        header = {"kind": "checkpoint", "fingerprint": self.fingerprint}
        try:
            write_file(self.path, {"split_seed": split_seed, **net.state_dict()}, header)
        except OSError as error:
            warnings.warn(
                f"The checkpoint {str(self.path)!r} could not be written; training goes "
                f"on without: {error}",
                RuntimeWarning,
                stacklevel=2,
            )

    def remove(self) -> None:
        """Remove the file of a fit that has ended."""
        self.path.unlink(missing_ok=True)
        remove_unfinished(self.path, older_than=0)
