"""Settings of torch while numbers are computed: its threads, and defaults a user may have set."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run torch's operations on the CPU in the calling thread.

    Several threads wait for each other after every operation. Where other processes use the cores,
    such a wait lasts as long as a time slice of the system, and an operation of microseconds takes
    milliseconds.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def usual_defaults() -> Iterator[None]:
    """New tensors are float32 and lie on the CPU unless something else is said, as at torch's
    start; also a decorator.
    """
    dtype = torch.get_default_dtype()
    elsewhere = torch.get_default_device().type != "cpu"
    torch.set_default_dtype(torch.float32)
    try:
        # costs time at every call of torch's, so only where it is needed
        with torch.device("cpu") if elsewhere else contextlib.nullcontext():
            yield
    finally:
        torch.set_default_dtype(dtype)
