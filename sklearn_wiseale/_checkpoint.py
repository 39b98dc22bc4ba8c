"""Tensors and a JSON header in one safetensors file: nothing in it is ever executed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import reprlib
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

__all__ = [
    "DAMAGE",
    "Checkpoint",
    "as_path",
    "check_target",
    "fingerprint_of",
    "read_file",
    "reason_of",
    "write_bytes",
    "write_file",
]

#: Errors that contents of a file may lead to where they are not what they should be.
DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
#: Version of the files' contents; a reader refuses files newer than it knows.
FORMAT_VERSION = 1
_HEADER = "sklearn_wiseale"


def as_path(path: str | os.PathLike[str]) -> Path:
    """Return path as a Path, or raise a TypeError that names it."""
    try:
        return Path(path)
    except TypeError as error:
        raise TypeError(f"path must be a str or a PathLike of text. Got {path!r}.") from error


def check_target(path: str | os.PathLike[str]) -> Path:
    """The path of a file that is about to be written.

    Raises
    ------
    TypeError
        If it is no path.

    FileNotFoundError
        If its directory is not there.

    IsADirectoryError
        If it is a directory itself.
    """
    target = as_path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(
            errno.ENOENT, "The directory of the file must exist", str(target.parent)
        )
    if target.is_dir():
        raise IsADirectoryError(
            errno.EISDIR, "The path must be that of a file, not of a directory", str(target)
        )
    return target


def write_file(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write a file as a whole or, on any error, not at all.

    Parameters
    ----------
    path : Path
        Replaced, if it exists, once all is on the disk.

    tensors : dict of str to Tensor

    header : dict
        Of what JSON can hold. Floats keep all their digits.

    Raises
    ------
    ValueError
        If a module has extra state that is no tensor.
    OSError
        If the directory cannot be written to, or is full; what was there is left as it was.
    """
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise ValueError(
                f"{path} cannot be written: {name!r} is a {type(value).__name__}, and files hold "
                "tensors. Fit with checkpoint=None."
            )
    text = json.dumps({"format_version": FORMAT_VERSION, **header})
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    content = save(own, metadata={_HEADER: text})
    write_bytes(path, content)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file as a whole or, on any error, not at all.

    Raises
    ------
    OSError
        If the directory is not there, cannot be written to, or is full; what was there is left as
        it was.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors, on the CPU, and header of a file that ``write_file`` has written.

    Raises
    ------
    FileNotFoundError
        If there is no such file.

    ValueError
        If the file is damaged, of another kind, or of a newer version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[_HEADER])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise
    except (SafetensorError, KeyError, ValueError, TypeError, OSError, RecursionError) as error:
        raise ValueError(
            f"{str(path)!r} must be a file written by sklearn_wiseale. It is damaged or of "
            f"another kind: {reason_of(error).splitlines()[0]}"
        ) from error
    version = header.pop("format_version", None) if isinstance(header, dict) else None
    if not isinstance(version, int) or not 1 <= version <= FORMAT_VERSION:
        raise ValueError(
            f"{str(path)!r} must have a format version from 1 to {FORMAT_VERSION}. "
            f"Got {reprlib.repr(version)}; a newer release of sklearn_wiseale may read it."
        )
    return tensors, header


def fingerprint_of(parts: Iterable[str | np.ndarray]) -> str:
    """Hash of texts and arrays, their shapes and dtypes included."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            digest.update(b"text" + part.encode())
        else:
            digest.update(f"array {part.dtype} {part.shape}".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def reason_of(error: BaseException) -> str:
    """What an error says: not too much, as it may repeat what a file holds."""
    text = str(error).strip()
    return (f"{text[:800]} ..." if len(text) > 1000 else text) or type(error).__name__


class Checkpoint:
    """The latest training state of one fit, in a directory that many fits may share.

    Parameters
    ----------
    directory : str or PathLike
        Made if it is not there.

    fingerprint : str
        Of everything that decides how the fit goes; it names the file, and is written into it.

    Raises
    ------
    OSError
        If the directory cannot be made or written to.
    """

    def __init__(self, directory: str | os.PathLike[str], fingerprint: str) -> None:
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass  # fails now, not after the first epoch
        self.fingerprint = fingerprint
        self.path = folder / f"fit-{fingerprint[:16]}.safetensors"

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The state, or None where there is none.

        Raises
        ------
        ValueError
            If the file is damaged, or holds the state of another fit.
        """
        try:
            tensors, header = read_file(self.path)
        except FileNotFoundError:
            return None
        if header.get("fingerprint") != self.fingerprint:
            raise ValueError(
                f"The checkpoint {str(self.path)!r} must belong to this fit, with its data and "
                f"parameters. Its fingerprint is {reprlib.repr(header.get('fingerprint'))}, not "
                f"{self.fingerprint!r}: remove it or use another directory."
            )
        return tensors, header

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Inside, what goes wrong is due to the file: a ValueError that names it.

        It is for the fit, which must not end because of it in any other way.
        """
        try:
            yield
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except DAMAGE as error:
            raise ValueError(
                f"The checkpoint {str(self.path)!r} must be the state of this fit: "
                f"{reason_of(error)}. Remove it, and the fit begins anew."
            ) from error

    def write(self, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
        """Replace the state as a whole."""
        write_file(self.path, tensors, {"fingerprint": self.fingerprint, **header})

    def remove(self) -> None:
        """Remove the state of a fit that has come to its end."""
        self.path.unlink(missing_ok=True)
