"""A training step recorded once as a CUDA graph and replayed.

Small networks spend their time on launching kernels, not in them.
"""

import contextlib
import gc
from collections import Counter
from collections.abc import Callable, Iterator

import torch

from lsnc_core.errors import UsageError

# Eager steps of a size before it is recorded: in them, libraries choose their algorithms and make
# their workspaces.
WARM_UP = 3


def recorded(step: Callable[..., None], device: torch.device) -> Callable[..., None]:
    """The step as it is fastest on a device: `Graphed` on a CUDA device, else unchanged."""
    return Graphed(step) if device.type == "cuda" else step


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Collect garbage now and none meanwhile: freeing a graph spoils a recording."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Graphed:
    """A step `(rows, *others) -> None` on a CUDA device, with the same effect as calling it.

    For each number of rows, the first `WARM_UP` calls run as they are; the next is recorded, and
    from then on replayed.

    Args:
        step: reads its arguments, tensors (B, ...) on the device, and changes tensors in place;
            every other tensor that it reads or changes must stay where it is in memory.

    Raises:
        UsageError: on a call, where the step cannot be recorded.
    """

    def __init__(self, step: Callable[..., None]):
        self.step = step
        self.calls: Counter[int] = Counter()
        self.recorded: dict[int, tuple[list[torch.Tensor], torch.cuda.CUDAGraph]] = {}
        self.stream = torch.cuda.Stream()
        # the graphs are replayed in turn and keep nothing: one memory serves all
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, *inputs: torch.Tensor) -> None:
        """Take one step with these rows, and what else the step reads of them."""
        size = len(inputs[0])
        if size not in self.recorded and self.calls[size] < WARM_UP:
            self.calls[size] += 1
            self.stream.wait_stream(torch.cuda.current_stream())
            # recording refuses what was first used on the default stream
            with torch.cuda.stream(self.stream):
                self.step(*inputs)
            torch.cuda.current_stream().wait_stream(self.stream)
            return
        if size not in self.recorded:
            self.recorded[size] = self._record([tensor.clone() for tensor in inputs])
        buffers, graph = self.recorded[size]
        for buffer, tensor in zip(buffers, inputs, strict=True):
            buffer.copy_(tensor)
        graph.replay()

    def _record(
        self, buffers: list[torch.Tensor]
    ) -> tuple[list[torch.Tensor], torch.cuda.CUDAGraph]:
        graph, failure = torch.cuda.CUDAGraph(), None
        try:
            # records without running
            with no_collection(), torch.cuda.graph(graph, pool=self.pool):
                try:
                    self.step(*buffers)
                except Exception as error:
                    # ending the recording then fails, too, with an error that tells nothing
                    failure = error
                    raise
        except Exception as error:
            failure = failure or error
            if isinstance(failure, torch.OutOfMemoryError):
                raise failure from None
            reason = " ".join(str(failure).split())[:200]
            raise UsageError(
                f"a training step cannot be recorded on the GPU ({reason}): a loss of your own "
                "must neither ask for a number (.item(), if) nor make tensors of Python numbers; "
                "with --device cpu it may."
            ) from failure
        return buffers, graph
