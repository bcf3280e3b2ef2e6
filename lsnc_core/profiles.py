"""Profiles: how much is computed, and which profile "auto" means on this machine."""

import difflib

from lsnc_core.errors import UsageError

PROFILES = {
    "smoke": "seconds per notebook, on 8x8 digits; shows that everything runs, decides little",
    "quick": "for 2 CPU cores, on image sets that come with the installed packages",
    "hour": "for 2 CPU cores and about an hour, at sizes that meet as many of the papers' premises "
    "as a CPU can; full MNIST and CIFAR-10 where --data has them",
    "gpu": "for one modern GPU, on full MNIST and CIFAR-10",
    "paper": "the papers' epochs and optimisers, our reading of their grids, our seeds; "
    "long, resumable",
}


def choose_images(profile: str, name: str) -> str:
    """The image set that a profile trains on in place of `name`: `hour` downloads nothing and takes
    the embedded part of MNIST where a set is not at hand.
    """
    from lsnc_core.data_sources import is_at_hand

    return name if profile != "hour" or is_at_hand(name) else "mnist-subset"


def resolve(profile: str, device: str = "auto") -> tuple[str, str]:
    """The profile to compute and the reason for it.

    "auto" is "gpu" if CUDA, MNIST and CIFAR-10 are available, else "quick".

    Args:
        profile: "auto" or one of `PROFILES`.
        device: "auto", "cpu" or "cuda", as requested.

    Raises:
        UsageError: for an unknown profile.
    """
    for text in (profile, device):
        if not isinstance(text, str):
            raise UsageError(f"profile and device are named by texts, not by {text!r}.")
    if profile in PROFILES:
        return profile, "as requested"
    if profile != "auto":
        close = difflib.get_close_matches(str(profile), PROFILES, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise UsageError(
            f"unknown profile {profile!r}: the profiles are auto, {', '.join(PROFILES)}{hint}"
        )
    if device == "cpu":
        return "quick", "the CPU was requested"
    import torch

    if not torch.cuda.is_available():
        return "quick", "torch finds no CUDA device"
    from lsnc_core import data

    try:
        for name in ("mnist", "cifar10"):
            data.load(name, offline=True)
    except UsageError as error:
        return "quick", f"CUDA is available, but {str(error).removesuffix('.')}"
    return "gpu", "CUDA, MNIST and CIFAR-10 are available"
