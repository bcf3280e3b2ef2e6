"""Networks trained under any label noise in several ways, and what memorising networks of each way
output (Chen, Ziyin et al. 2020, sections 4.1 and 6.2).

T_ij = P(clean class j becomes i), S* is the posterior of the clean class given the noisy one, a the
clean rate, p the kept mass, M the number of classes.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lsnc_core import custom, label_files, labels
from lsnc_core.data_sources import source_of
from lsnc_core.errors import UsageError
from lsnc_core.label_files import is_label_file
from lsnc_core.notebook import convert
from lsnc_core.papers.chen.networks import plan_landscape
from lsnc_core.runs.spec import RunSpec
from lsnc_core.theory import label_noise

# Clean rates of the comparisons; images, network and epochs are the landscape's.
RATES = {
    "smoke": (0.8,),
    "quick": (0.6, 0.8),
    "hour": (0.8,),
    "gpu": (0.6, 0.8),
    "paper": (0.6, 0.8),
}
# With four seeds `hour` cannot tell posterior from mean field under block noise.
SEEDS = {"smoke": 4, "quick": 4, "hour": 8, "gpu": 4, "paper": 4}
# What each way of training changes in a spec; p is the share of labels that the noise keeps, under
# the package's noises a.
WAYS: Mapping[str, Callable[[float], dict[str, Any]]] = {
    "none": lambda p: {"p": 1.0},
    "mean field": lambda p: {"p": p},
    "posterior": lambda p: {"p": 1.0, "smoothing": "posterior"},
    "forward": lambda p: {"p": 1.0, "loss": "forward"},
    "logit": lambda p: {"p": p, "loss": "logit"},
}
# The ways compared under each noise; under symmetric noise mean field and posterior are one.
COMPARED = {
    "symmetric": ("none", "mean field", "forward", "logit"),
    "pair": ("none", "mean field", "posterior", "forward"),
    "block": ("none", "mean field", "posterior"),
    "mixed": ("none", "mean field", "posterior"),
}
OWN_NOISE = COMPARED["mixed"]  # the ways under a noise from your own file


def plan_noise(
    profile: str, data_set: str = "", noise: Sequence[str] = tuple(COMPARED)
) -> list[RunSpec]:
    """The networks trained under every noise in every way. Those of symmetric noise without and
    with smoothing are the landscape's.

    Args:
        profile, data_set: as `plan_landscape`.
        noise: names of `labels.NOISES`, paths of your own files or labels in files. Symmetric
            noise, under which corrections are compared, is always added.

    Raises:
        UsageError: as `plan_landscape` and `labels.noise_matrix`; for two files of one name, which
            figures could not tell apart; for a noise that moves no label.
    """
    first = plan_landscape(profile, data_set)[0]
    noise = convert(noise, [], "noise")
    if not all(isinstance(name, str) for name in noise) or _share_a_name(noise):
        raise UsageError(
            f"noise must name noises, files under different names, got {list(noise)!r}."
        )
    names, seeds, specs = map(_with_whole_path, noise), range(SEEDS[profile]), []
    for name in dict.fromkeys(("symmetric", *names)):
        # a file of labels has one rate, its own
        rates = (1.0,) if is_label_file(name) else RATES[profile]
        for way, a in itertools.product(COMPARED.get(name, OWN_NOISE), rates):
            changed = WAYS[way](_mean_field_kept(name, a, first.data))
            spec = replace(first, a=a, noise=name, **changed)
            specs += [replace(spec, seed=seed, order_seed=seed) for seed in seeds]
    return specs


def _with_whole_path(noise: str) -> str:
    if is_label_file(noise):
        return label_files.resolve(noise)
    return custom.resolve(noise) if custom.is_file(noise) else noise


def _share_a_name(noise: Sequence[str]) -> bool:
    """Whether two different noises have the same file name."""
    return len({Path(name).name for name in noise}) < len(set(noise))


def matrix_of(noise: str, a: float, image_set: str) -> np.ndarray:
    """The noise matrix T of a noise, float64 (M, M); of labels from a file theirs, whatever a."""
    if is_label_file(noise):
        from lsnc_core import data

        return data.given_labels(noise, image_set).matrix
    return labels.noise_matrix(noise, a, source_of(image_set).num_classes)


def _mean_field_kept(noise: str, a: float, image_set: str) -> float:
    """The mean field's kept mass Tr(T)/M, without rounding errors."""
    p = round(label_noise.mean_field_kept_alpha(matrix_of(noise, a, image_set)), 12)
    if p == 1:
        at = "" if is_label_file(noise) else f" at a = {a:g}"
        raise UsageError(
            f"the noise of {noise} moves no label{at}, so there is nothing to compare."
        )
    return p


def way_of(spec: RunSpec) -> str:
    """Which of `WAYS` a network was trained by."""
    if spec.loss != "ce":
        return spec.loss
    if spec.smoothing == "posterior":
        return "posterior"
    return "none" if spec.p == 1 else "mean field"


def memorised_output(way: str, T: np.ndarray) -> np.ndarray:
    """What a network outputs that has memorised the labels of a way.

    Args:
        way: one of `WAYS`.
        T: float64 (M, M), columns sum to 1.

    Returns:
        float64 (M, M) in [0, 1], a column for each noisy label, which sums to 1.
    """
    if way == "mean field":
        return labels.smoothing_matrix(label_noise.mean_field_kept_alpha(T), len(T))
    return label_noise.optimal_smoothing_alpha(T) if way == "posterior" else np.eye(len(T))


def training_floor(way: str, T: np.ndarray, noisy: np.ndarray) -> float:
    """The least training loss of a way: the mean entropy of the smoothed labels; for forward
    correction the mean of -log T_ij, j the class that makes the noisy label i most likely.

    Args:
        way: one of `WAYS`.
        T: float64 (M, M), columns sum to 1.
        noisy: training labels, integers (N,).

    Returns:
        float, >= 0, in nats.
    """
    from scipy.special import entr

    if way == "forward":
        return float(-np.log(T.max(1)[noisy]).mean())
    entropies = entr(memorised_output(way, T)).sum(0)  # (M,), by noisy label
    return float(entropies[noisy].mean())
