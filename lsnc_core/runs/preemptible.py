"""Training on a machine that may be taken away at any moment.

A `Fleet` writes checkpoints between epochs, and an epoch may take an hour. Here it writes them
between steps, too, so often that little is lost and so rarely that writing takes a small share of
the time. An epoch that was stopped is begun again with the random numbers of its start: the batches
that were done are drawn as before and left out. So numbers do not depend on where a training was
stopped, and this module is not part of the cache key.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from lsnc_core.images import ImageSet
from lsnc_core.runs import checkpoint as checkpoints
from lsnc_core.runs import products
from lsnc_core.runs.fleet import Fleet
from lsnc_core.runs.measure import Trained
from lsnc_core.runs.spec import RunSpec

# From the end of one checkpoint to the start of the next pass at least so many seconds, and at
# least so many times as long as writing took: writing takes at most 1 / (1 + SHARE) of the time.
SECONDS, SHARE = 3.0, 25
# The parts of a checkpoint, see `Fleet.save`.
PARTS = {"epoch": int, "routes": dict, "state": list, "measured": list}
PARTS |= dict.fromkeys(("order", "best"), torch.Tensor)


def train(
    specs: Sequence[RunSpec],
    image_set: ImageSet,
    device: torch.device,
    progress: Callable[[int], object] = lambda epochs: None,
    checkpoint: Path | None = None,
    routes: products.Routes = products.BY_DEFAULT,
) -> list[Trained]:
    """Train as `fleet.train` does, to the same bits, with checkpoints also within epochs.

    Args, returns, raises: as of `fleet.train`, but for the time of checkpoints, see `Timer`.
    """
    fleet = PreemptibleFleet(specs, image_set, device, routes)
    del image_set  # the pixels as they were read are not needed any more
    return fleet.train(progress, checkpoint)


class Timer:
    """When to write the next checkpoint, from what the last one took.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float]):
        self.clock = clock
        # what writing takes is not known yet: the first is early
        self.due = clock() + SECONDS

    def is_due(self) -> bool:
        """Whether it is time to write."""
        return self.clock() >= self.due

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Write meanwhile; sets the time of the next."""
        start = self.clock()
        yield
        end = self.clock()
        self.due = end + max(SECONDS, SHARE * (end - start))


class PreemptibleFleet(Fleet):
    """A fleet that also writes checkpoints between the steps of an epoch.

    Args, raises: as of `Fleet`; clock, of the checkpoints.

    Attributes:
        steps: how many steps of the epoch under way are done, int64 (); 0 between epochs.
        order_before: the state of `order` at the start of that epoch.
    """

    def __init__(
        self,
        specs: Sequence[RunSpec],
        image_set: ImageSet,
        device: torch.device,
        routes: products.Routes = products.BY_DEFAULT,
        clock: Callable[[], float] = time.monotonic,
    ):
        super().__init__(specs, image_set, device, routes)
        self.steps = torch.zeros((), dtype=torch.int64)
        self.order_before = self.order.get_state()
        self.clock = clock
        self.timer = Timer(clock)
        self.checkpoint: Path | None = None

    def train(
        self, progress: Callable[[int], object], checkpoint: Path | None = None
    ) -> list[Trained]:
        """Train all that is not done; arguments and result as of the function `train`."""
        self.checkpoint = checkpoint
        self.timer = Timer(self.clock)
        return super().train(progress, checkpoint)

    def train_epoch(self, take_step: Callable[..., None]) -> None:
        """Pass once over the training images, but for the steps that an earlier start has done."""
        done, step = int(self.steps), 0
        self.order_before = self.order.get_state()

        def take_next(*batch: torch.Tensor) -> None:
            nonlocal step
            step += 1
            if step <= done:
                return
            take_step(*batch)
            self.steps.fill_(step)
            if self.checkpoint:
                self.save(self.checkpoint)

        super().train_epoch(take_next)
        self.steps.zero_()

    @property
    def state(self) -> list[torch.Tensor]:
        """Every tensor that training changes, and how far the epoch under way is."""
        return [*super().state, self.steps, self.order_before]

    def save(self, checkpoint: Path) -> None:
        """Write a checkpoint if it is time; raises UsageError where that is not possible."""
        if not self.timer.is_due():
            return
        if self.device.type == "cuda":
            torch.cuda.synchronize()  # steps that are still queued are not the cost of writing
        with self.timer.writing():
            super().save(checkpoint)

    def resume(self, checkpoint: Path) -> bool:
        """Go on from a checkpoint; False where there is none of these networks."""
        if not _is_checkpoint(checkpoint) or not super().resume(checkpoint):
            return False
        if self.steps > 0:  # the epoch was not finished: its batches are drawn once more
            self.epoch -= 1
            self.order.set_state(self.order_before)
        return True


def _is_checkpoint(path: Path) -> bool:
    """Whether a checkpoint lies there, undamaged; with a notice where it is something else.

    A file from elsewhere may have a right checksum. It is looked at before anything is changed.
    """
    try:
        content = checkpoints.read(path)
    except Exception:  # torch runs nothing that it finds; what it raises depends on what that is
        content = {}
    if content is None or _has_parts(content):
        return content is not None
    print(
        f"the checkpoint {path.name} holds something else, of which nothing is used or run: its "
        "networks are trained from the start",
        file=sys.stderr,
        flush=True,
    )
    return False


def _has_parts(content: Any) -> bool:
    """Whether what was read has the parts of a checkpoint, each of its kind."""
    if not isinstance(content, dict):
        return False
    if not all(isinstance(content.get(name), kind) for name, kind in PARTS.items()):
        return False
    return all(isinstance(tensor, torch.Tensor) for tensor in content["state"])
