"""What torch takes where nothing is said: a user may have set it, and numbers rely on it."""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def usual_defaults() -> Iterator[None]:
    """New tensors are float32 and lie on the CPU unless something else is said, as at torch's
    start; also a decorator.
    """
    import torch

    dtype = torch.get_default_dtype()
    elsewhere = torch.get_default_device().type != "cpu"
    torch.set_default_dtype(torch.float32)
    try:
        # costs time at every call of torch's, so only where it is needed
        with torch.device("cpu") if elsewhere else contextlib.nullcontext():
            yield
    finally:
        torch.set_default_dtype(dtype)
