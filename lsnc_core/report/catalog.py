"""The notebooks in reading order: which paper and figures each stands for, what it trains, how long
it takes.
"""

import difflib
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lsnc_core.errors import UsageError

if TYPE_CHECKING:  # the list of notebooks is read without torch
    from lsnc_core.runs.spec import RunSpec


def _no_runs(profile: str) -> "list[RunSpec]":
    return []


def _from(module: str, *functions: str) -> "Callable[..., list[RunSpec]]":
    """The runs that these functions of a module of `papers` name together; it is imported when they
    are asked for.
    """

    def runs(**parameters) -> "list[RunSpec]":
        found = importlib.import_module(f"lsnc_core.papers.{module}")
        return list(
            dict.fromkeys(
                spec for function in functions for spec in getattr(found, function)(**parameters)
            )
        )

    return runs


@dataclass(frozen=True)
class Notebook:
    """One notebook: its file name without ending, its title in lists, paper, figures and claims,
    its minutes, the networks it needs.

    `quick_minutes` are those of a first `quick` run on 2 cores, training included. `runs` takes
    those of the notebook's parameters that are named in `run_parameters`.
    """

    name: str
    title: str
    paper: str
    shows: str
    quick_minutes: float
    runs: "Callable[..., list[RunSpec]]" = _no_runs
    run_parameters: tuple[str, ...] = ("profile",)


_CHEN, _GUO, _ZHOU = "Chen et al. 2020", "Guo et al. 2025", "Zhou et al. 2022"
_DATA = ("profile", "data_set")

NOTEBOOKS = (
    Notebook("start_here", "Start here", "all three", "what this is, map of the papers", 0.2),
    Notebook(
        "chen_1_theory",
        "Best smoothing in closed form, and the paper's errata",
        _CHEN,
        "Figures 1-4; C1, C4, C5, C6, C12",
        0.3,
    ),
    Notebook(
        "chen_2_landscape",
        "The label-noise landscape on real images",
        _CHEN,
        "Figures 5, 6; C1, C2, C17",
        2.5,
        _from("chen", "landscape_notebook_runs"),
        _DATA,
    ),
    Notebook(
        "chen_3_beta",
        "Noisy test labels",
        _CHEN,
        "Figure 7; C3, C4",
        0.2,
        _from("chen", "beta_runs"),
        _DATA,
    ),
    Notebook(
        "chen_4_loss_and_accuracy",
        "Lowest loss is not highest accuracy",
        _CHEN,
        "Figures 8-11, Table 1; C7-C10, C16",
        0.2,
        _from("chen", "landscape_runs"),
        _DATA,
    ),
    Notebook(
        "chen_5_beyond_uniform",
        "Beyond uniform noise",
        _CHEN,
        "general S and T, forward correction, logit smoothing; C11-C15",
        1,
        _from("chen_beyond", "noise_runs"),
        (*_DATA, "noise"),
    ),
    Notebook(
        "guo_1_dynamics",
        "Label smoothing against cross-entropy while training",
        _GUO,
        "F1, F2, F7, F9, F11, F12; G1-G4, G10",
        0.8,
        _from("guo_deep", "dynamics_notebook_runs"),
        ("profile", "losses", "data_set"),
    ),
    Notebook(
        "guo_2_strength",
        "Collapse and norms against the strength",
        _GUO,
        "F6; G5, G14",
        0.2,
        _from("guo_deep", "strength_runs"),
        _DATA,
    ),
    Notebook(
        "guo_3_calibration",
        "Calibration",
        _GUO,
        "F3-F5; G6-G8",
        0.4,
        _from("guo_deep", "calibration_runs"),
        _DATA,
    ),
    Notebook(
        "guo_4_minimisers",
        "The global minimisers of the feature model",
        _GUO,
        "Theorem 1, F10; G9, G11",
        0.4,
        _from("guo_norms", "theorem_runs"),
    ),
    Notebook(
        "guo_5_conditioning",
        "Conditioning and the speed of collapse",
        _GUO,
        "Theorem 2, F8, F9; G4, G10, G12, G13",
        0.6,
    ),
    Notebook(
        "zhou_1_losses_collapse",
        "Four losses, one geometry?",
        _ZHOU,
        "Z1; Z-C1, Z-C2",
        0.5,
        _from("zhou_deep", "collapse_runs"),
        ("profile", "data_set", "smoothing"),
    ),
    Notebook(
        "zhou_2_equal_accuracy",
        "Equal accuracy with width and time",
        _ZHOU,
        "Z2-Z5; Z-C3 to Z-C5",
        1,
        _from("zhou_deep", "grid_runs"),
        ("profile", "data_set", "smoothing"),
    ),
    Notebook(
        "zhou_3_landscape",
        "The landscape of the feature model",
        _ZHOU,
        "Theorems A to C; Z-C6 to Z-C9",
        0.3,
    ),
    Notebook(
        "beyond_1_collapse_under_noise",
        "Collapse and calibration under label noise",
        "none: beyond them",
        "NC1-NC3 and ECE over (a, p); B1, B2",
        0.3,
        _from("chen", "landscape_runs"),
        _DATA,
    ),
    Notebook(
        "explorer", "Explore: drag the smoothing", _CHEN, "a slider through the landscape", 0.3
    ),
    Notebook(
        "measure_your_model",
        "Measure your model",
        "all three",
        "the metrics in a training loop of your own",
        0.5,
    ),
)


def choose(names: Sequence[str]) -> list[Notebook]:
    """The notebooks of these names in reading order, all of them for no names.

    Raises:
        UsageError: for a name that no notebook has.
    """
    known = [notebook.name for notebook in NOTEBOOKS]
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "."
            raise UsageError(
                f"there is no notebook {name!r}: the notebooks are {', '.join(known)}{hint}"
            )
    return [notebook for notebook in NOTEBOOKS if not names or notebook.name in names]
