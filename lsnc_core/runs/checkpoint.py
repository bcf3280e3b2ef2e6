"""Where a training stands, written such that what was damaged on disk is noticed and never gone on
from.
"""

import hashlib
import io
import sys
from pathlib import Path

import torch

from lsnc_core import files

_DIGEST = hashlib.sha256().digest_size


def write(path: Path, content: dict) -> None:
    """Keep tensors, numbers and lists of them by name, whole or not at all; raises UsageError when
    the file cannot be written.
    """
    body = (
        io.BytesIO()
    )  # torch's own writing to a path tells of a full disk only as an internal error
    torch.save(content, body)
    found = body.getbuffer()

    def whole(partial: Path) -> None:
        with open(partial, "wb") as opened:
            opened.write(hashlib.sha256(found).digest())
            opened.write(found)

    files.write_whole(path, whole)


def read(path: Path) -> dict | None:
    """What was kept, its tensors on the CPU; None where there is nothing, and with a notice where
    it is damaged.
    """
    try:
        found = memoryview(path.read_bytes())
    except OSError:
        return None
    if hashlib.sha256(found[_DIGEST:]).digest() != found[:_DIGEST]:
        print(
            f"the checkpoint {path.name} is damaged: its networks are trained from the start",
            file=sys.stderr,
            flush=True,
        )
        return None
    return torch.load(io.BytesIO(found[_DIGEST:]), map_location="cpu", weights_only=True)
