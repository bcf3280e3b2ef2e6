"""A progress bar for training, whose remaining time counts what this start has done."""

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
