"""A progress bar for training, whose remaining time counts what this start has done; and a watch
that notices when training goes on no more.
"""

import time
from types import TracebackType


class Progress:
    """A bar over operations to be done, from work in blocks of which some were begun earlier.

    The remaining time follows from the mean speed, because blocks report in bursts. Work of an
    earlier start is taken off the total instead of counted as done: it is no measure of this
    speed. Nor is the first report: until then processes were starting and images were read.

    Args:
        total: operations of all blocks.
    """

    def __init__(self, total: int):
        from tqdm import tqdm

        self.bar = tqdm(
            total=total,
            desc="training",
            unit="FLOP",
            unit_scale=True,
            smoothing=0,
            mininterval=1,
            maxinterval=5,
        )
        self.started = False

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.close()

    def advance(self, done: int, before: int) -> None:
        """Report operations, of which `before` were done by an earlier start."""
        if not self.started:
            self.started = True
            self.bar.reset(total=self.bar.total - done)  # sets the clock to 0
            return
        self.bar.total -= before
        self.bar.update(done - before)

    def finish(self) -> None:
        """Fill the bar."""
        self.bar.update(self.bar.total - self.bar.n)


# So long may training processes start, read images and measure without a report.
QUIET_SECONDS = 900
# Where nothing has finished yet, no process is slower, in operations per second by device; later
# none is that many times slower than the slowest so far.
LEAST_SPEED = {"cpu": 1e8, "cuda": 1e10}
TIMES_SLOWER = 20
# Who watches looks several times a second, unless the whole machine or job was stopped meanwhile.
LOOK_SECONDS = 60


class Watch:
    """Notices that nothing was reported for longer than the largest piece of work can take.

    Args:
        device: "cpu" or "cuda".
    """

    def __init__(self, device: str):
        self.least_speed, self.measured = LEAST_SPEED[device], False
        self.heard = self.looked = time.monotonic()

    def hear(self) -> None:
        """Note that something was reported."""
        self.heard = time.monotonic()

    def measure(self, work: int, seconds: float) -> None:
        """Note how long one process took for some operations."""
        speed = work / max(seconds, 1e-3) / TIMES_SLOWER
        self.least_speed = min(speed, self.least_speed) if self.measured else speed
        self.measured = True

    def quiet_seconds(self) -> float:
        """How long nothing was reported."""
        return time.monotonic() - self.heard

    def waits_in_vain(self, piece: int) -> bool:
        """Whether nothing was reported for too long.

        Args:
            piece: operations of the largest piece of work that is reported at once.
        """
        now = time.monotonic()
        if now - self.looked > LOOK_SECONDS:  # Ctrl-Z, or a virtual machine that was paused
            self.heard += now - self.looked
        self.looked = now
        return self.quiet_seconds() > QUIET_SECONDS + piece / self.least_speed
