"""Checkpoints of a training; a damaged one is noticed and never resumed."""

import hashlib
import io
import sys
from pathlib import Path
from typing import Any

import torch

from lsnc_core import files

_DIGEST = hashlib.sha256().digest_size


def write(path: Path, content: dict[str, Any]) -> None:
    """Write tensors, numbers and lists of them by name, whole or not at all.

    Raises:
        UsageError: when the file cannot be written.
    """
    # torch's own writing to a path reports a full disk only as an internal error
    buffer = io.BytesIO()
    torch.save(content, buffer)
    body = buffer.getbuffer()

    def write_all(partial: Path) -> None:
        with open(partial, "wb") as opened:
            opened.write(hashlib.sha256(body).digest())
            opened.write(body)

    files.write_whole(path, write_all)


def read(path: Path) -> dict[str, Any] | None:
    """What was written, tensors on the CPU; None without a file, or with a notice if damaged."""
    try:
        whole = memoryview(path.read_bytes())
    except OSError:
        return None
    digest, body = whole[:_DIGEST], whole[_DIGEST:]
    if hashlib.sha256(body).digest() != digest:
        print(
            f"the checkpoint {path.name} is damaged: its networks are trained from the start",
            file=sys.stderr,
            flush=True,
        )
        return None
    return torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
