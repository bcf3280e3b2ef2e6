"""Threads of torch: small operations take longer on several threads than on one."""

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
