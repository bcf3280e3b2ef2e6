"""The peak memory of processes (Linux), for the benchmarks."""

import contextlib
from pathlib import Path


def peak_memory(process: int) -> float:
    """The most memory in MiB that a process has held since it started.

    It is 0 for a process that has ended, and without Linux. VmHWM is the kernel's own record of the
    largest resident set; other processes' share of common pages as it is now (Rss - Pss) is taken
    off. Nothing is sampled, so no step's peak is missed and no timing disturbed. To add up
    processes, read all of them while all run.
    """
    try:
        held, status = (
            _sizes(Path(f"/proc/{process}/{name}")) for name in ("smaps_rollup", "status")
        )
    except OSError:
        return 0.0
    if "VmHWM" not in status:  # a zombie
        return 0.0
    return (status["VmHWM"] - (held["Rss"] - held["Pss"])) / 1024


def family(process: int) -> list[int]:
    """A process and its descendants (Linux)."""
    children = []
    with contextlib.suppress(OSError):  # it, or a thread of it, has ended meanwhile
        for path in Path(f"/proc/{process}/task").glob("*/children"):
            children += [int(child) for child in path.read_text().split()]
    members = [process]
    for child in children:
        members += family(child)
    return members


def _sizes(path: Path) -> dict[str, int]:
    """The entries in KiB of one of the kernel's tables, by name."""
    words = (line.split() for line in path.read_text().splitlines())
    return {line[0].removesuffix(":"): int(line[1]) for line in words if line[-1:] == ["kB"]}
