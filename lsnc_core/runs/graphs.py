"""A training step recorded once as a CUDA graph and replayed: small networks spend their time on launching kernels, not in them."""

from collections import Counter
from collections.abc import Callable

import torch

# eager steps of a size before it is recorded: libraries choose their algorithms and make their workspaces in them
WARM_UP = 3


def recorded(step: Callable[..., None], device: torch.device) -> Callable[..., None]:
    """The step as it is fastest on a device: on a CUDA device `Graphed`, else as it is."""
    return Graphed(step) if device.type == "cuda" else step


class Graphed:
    """A step `(rows, *others) -> None` on a CUDA device, with the same effect as calling it.

    The first `WARM_UP` calls with so many rows run as they are, the next is recorded and then replayed for good.

    Args:
        step: reads its arguments, tensors (B, ...) on the device, and changes tensors in place; every other tensor that it reads
            or changes must stay where it is in memory.
    """

    def __init__(self, step: Callable[..., None]):
        self.step = step
        self.calls: Counter[int] = Counter()
        self.recorded: dict[int, tuple[list[torch.Tensor], torch.cuda.CUDAGraph]] = {}
        self.stream = torch.cuda.Stream()

    def __call__(self, *inputs: torch.Tensor) -> None:
        """Take one step with these rows, and what else the step reads of them."""
        size = len(inputs[0])
        if size not in self.recorded and self.calls[size] < WARM_UP:
            self.calls[size] += 1
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):  # recording refuses what was first used on the default stream
                self.step(*inputs)
            torch.cuda.current_stream().wait_stream(self.stream)
            return
        if size not in self.recorded:
            buffers, graph = [tensor.clone() for tensor in inputs], torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):  # records without running
                self.step(*buffers)
            self.recorded[size] = buffers, graph
        buffers, graph = self.recorded[size]
        for buffer, tensor in zip(buffers, inputs, strict=True):
            buffer.copy_(tensor)
        graph.replay()
