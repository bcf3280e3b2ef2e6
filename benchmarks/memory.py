"""What processes hold of the memory at their highest (Linux), for the benchmarks."""

import contextlib
from pathlib import Path


def peak_memory(process: int) -> float:
    """The most memory in MiB that a process has held since it started; 0 for one that has ended,
    and where there is no Linux.

    VmHWM, the kernel's own record of the largest resident set, less what other processes' share of
    common pages is now (Rss - Pss):
    nothing is sampled, so no step's peak is missed and no timing disturbed. Whoever adds up
    processes reads all while all run.
    """
    try:
        held, status = (
            _sizes(Path(f"/proc/{process}/{name}")) for name in ("smaps_rollup", "status")
        )
    except OSError:
        return 0.0
    return (
        (status["VmHWM"] - (held["Rss"] - held["Pss"])) / 1024 if "VmHWM" in status else 0.0
    )  # a zombie has none


def family(process: int) -> list[int]:
    """A process and its descendants (Linux)."""
    children = []
    with contextlib.suppress(OSError):  # it, or a thread of it, has ended meanwhile
        for path in Path(f"/proc/{process}/task").glob("*/children"):
            children += [int(child) for child in path.read_text().split()]
    return [process, *(descendant for child in children for descendant in family(child))]


def _sizes(path: Path) -> dict[str, int]:
    """The entries in KiB of one of the kernel's tables, by name."""
    words = (line.split() for line in path.read_text().splitlines())
    return {line[0].removesuffix(":"): int(line[1]) for line in words if line[-1:] == ["kB"]}
