"""Tensors and a JSON header in one safetensors file: reading it runs no code.

The header of every file has the entries ``format_version``, ``kind`` ("estimator" or "checkpoint")
and ``state``, which holds the plain numbers of a training state. The file holds its tensors.
"""

from __future__ import annotations

import errno
import glob
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from .._training.state import State, join_state, split_state
from .header import decode, encode, shown

__all__ = [
    "as_path",
    "check_target",
    "read_file",
    "reading",
    "remove_unfinished",
    "write_bytes",
    "write_file",
]

#: Version of the files' contents. Files of any other version are refused.
FORMAT_VERSION = 2
_HEADER = "sklearn_wiseale"
#: Age in seconds at which an unfinished file is taken for one of a process that was killed.
_LEFT_BEHIND = 3600


def as_path(path: str | os.PathLike[str]) -> Path:
    """Return path as a Path, or raise a TypeError that names it."""
    try:
        return Path(path)
    except TypeError as error:
        raise TypeError(f"path must be a str or a PathLike of text. Got {path!r}.") from error


def check_target(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file to write; raise an OSError if there cannot be such a file."""
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


def write_file(path: Path, state: State, header: dict[str, Any]) -> None:
    """Write a state and further entries of the header, which are encoded already."""
    tensors, rest = split_state(state)
    entries = {"format_version": FORMAT_VERSION, **header, "state": encode(rest, "state")}
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_bytes(path, save(own, metadata={_HEADER: json.dumps(entries)}))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file as a whole; on any error, leave the file that was there."""
    remove_unfinished(path, older_than=_LEFT_BEHIND)
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


def remove_unfinished(path: Path, older_than: float) -> None:
    """Remove unfinished files of processes that were killed while they wrote this file."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        if time.time() - part.stat().st_mtime >= older_than:
            part.unlink(missing_ok=True)


def read_file(path: Path, kind: str) -> tuple[State, dict[str, Any]]:
    """State, on the CPU, and encoded header of a file of :func:`write_file`.

    Raises a ValueError if the file is damaged, of another kind, or of another version.
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
            f"another kind: {_reason(error).splitlines()[0]}"
        ) from error
    version = header.pop("format_version", None) if isinstance(header, dict) else None
    if type(version) is not int or version != FORMAT_VERSION:
        raise ValueError(
            f"{str(path)!r} must have the format version {FORMAT_VERSION}. Got "
            f"{shown(version)}; another release of sklearn_wiseale may read it."
        )
    if header.get("kind") != kind:
        raise ValueError(
            f"{str(path)!r} must be a file of the kind {kind!r}. Got {shown(header.get('kind'))}."
        )
    with reading(f"{str(path)!r} cannot be read"):
        rest = decode(header.pop("state", None))
        return join_state({name: t.clone() for name, t in tensors.items()}, rest), header


@contextmanager
def reading(message: str, advice: str = "") -> Iterator[None]:
    """Inside, turn errors, which damaged contents of a file may cause, into a ValueError."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise ValueError(f"{message}: {_reason(error)}{advice}") from error


def _reason(error: BaseException) -> str:
    """Message of an error, shortened because it may repeat the contents of a file."""
    text = str(error).strip()
    return (f"{text[:800]} ..." if len(text) > 1000 else text) or type(error).__name__
