"""A training step recorded once as a CUDA graph and replayed: small networks spend their time on launching kernels, not in them."""

from collections import Counter
from collections.abc import Callable

import torch

# eager steps of a size before it is recorded: libraries choose their algorithms and make their workspaces in them
WARM_UP = 3


class Graphed:
    """A step `(rows) -> None` on a CUDA device, with the same effect as calling it.

    The first `WARM_UP` calls with so many rows run as they are, the next is recorded and then replayed for good.

    Args:
        step: reads `rows`, an int64 tensor (B,) on the device, and changes tensors in place; every tensor that it reads or changes
            must stay where it is in memory.
    """

    def __init__(self, step: Callable[[torch.Tensor], None]):
        self.step = step
        self.calls: Counter[int] = Counter()
        self.recorded: dict[int, tuple[torch.Tensor, torch.cuda.CUDAGraph]] = {}
        self.stream = torch.cuda.Stream()

    def __call__(self, rows: torch.Tensor) -> None:
        """Take one step with these rows."""
        size = len(rows)
        if size not in self.recorded and self.calls[size] < WARM_UP:
            self.calls[size] += 1
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):  # recording refuses what was first used on the default stream
                self.step(rows)
            torch.cuda.current_stream().wait_stream(self.stream)
            return
        if size not in self.recorded:
            buffer, graph = rows.clone(), torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):  # records without running
                self.step(buffer)
            self.recorded[size] = buffer, graph
        buffer, graph = self.recorded[size]
        buffer.copy_(rows)
        graph.replay()
