"""How much is computed: the four profiles, and which one "auto" means on this machine."""

import difflib

from lsnc_core.errors import UsageError

PROFILES = {
    "smoke": "seconds a notebook, 8x8 digits: shows that everything runs, decides little",
    "quick": "2 CPU cores, image sets that the installed packages carry",
    "gpu": "one modern GPU, full MNIST and CIFAR-10",
    "paper": "the papers' own epochs and optimisers, grids as we read them, seeds of ours; long, resumable",
}


def resolve(profile: str, device: str = "auto") -> tuple[str, str]:
    """The profile that a request means, and why, in words: "auto" is "gpu" where CUDA, MNIST and
    CIFAR-10 are there, else "quick".

    Raises:
        UsageError: for an unknown profile.
    """
    if profile in PROFILES:
        return profile, "asked for"
    if profile != "auto":
        close = difflib.get_close_matches(str(profile), PROFILES, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise UsageError(
            f"unknown profile {profile!r}: the profiles are auto, {', '.join(PROFILES)}{hint}"
        )
    if device == "cpu":
        return "quick", "the CPU was asked for"
    import torch

    if not torch.cuda.is_available():
        return "quick", "torch finds no CUDA device"
    from lsnc_core import data

    try:
        for name in ("mnist", "cifar10"):
            data.load(name, offline=True)
    except UsageError as error:
        return "quick", f"there is a CUDA device, but {error}"
    return "gpu", "CUDA, MNIST and CIFAR-10 are there"
