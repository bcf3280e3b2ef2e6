"""Where a result comes from: versions, hardware, commit."""

import functools
import os
import platform
import subprocess
from importlib import metadata

from lsnc_core.files import PROJECT

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "pandas",
    "matplotlib",
    "seaborn",
    "papermill",
    "nbconvert",
    "ipywidgets",
    "jupyterlab",
)


def commit() -> str:
    """The checkout's commit, with " + changes" when tracked files differ from it.

    "unknown" outside a checkout.
    """
    try:
        git = ["git", "-C", str(PROJECT)]
        head = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + (" + changes" if changed.strip() else "")


def processor() -> str:
    """The processor's name as the system gives it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(
                line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
            )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def accelerator() -> str | None:
    """The name of the first CUDA device, or None without one."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape a result, "absent" where not installed."""
    by_name = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            by_name[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            by_name[name] = "absent"
    return by_name


@functools.cache
def describe() -> dict:
    """Versions, hardware and commit as one mapping; taken once a process."""
    return {
        "commit": commit(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": os.cpu_count(),
        "accelerator": accelerator(),
        "versions": versions(),
    }
