"""The notebooks in reading order: which paper and figures each stands for, what it trains, how long it takes."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lsnc_core.errors import UsageError

if TYPE_CHECKING:  # the list of notebooks is read without torch
    from lsnc_core.runs.spec import RunSpec


def _no_runs(profile: str) -> "list[RunSpec]":
    return []


def _landscape(**parameters) -> "list[RunSpec]":
    from lsnc_core.papers import chen

    return chen.landscape_runs(**parameters)


@dataclass(frozen=True)
class Notebook:
    """One notebook: its file name without ending, its title in lists, paper, figures and claims, its minutes, the networks it needs.

    `quick_minutes` are those of a first `quick` run on 2 cores, training included. `runs` takes those of the notebook's
    parameters that are named in `run_parameters`.
    """

    name: str
    title: str
    paper: str
    shows: str
    quick_minutes: float
    runs: "Callable[..., list[RunSpec]]" = _no_runs
    run_parameters: tuple[str, ...] = ("profile",)


NOTEBOOKS = (
    Notebook("start_here", "Start here", "all three", "what this is, map of the papers", 0.2),
    Notebook(
        "chen_1_theory",
        "Best smoothing in closed form, and the paper's errata",
        "Chen et al. 2020",
        "Figures 1-4; C1, C4, C5, C6, C12",
        0.3,
    ),
    Notebook(
        "chen_2_landscape",
        "The label-noise landscape on real images",
        "Chen et al. 2020",
        "Figures 5 (MNIST), 6; C1, C2",
        2.5,
        _landscape,
        ("profile", "data_set"),
    ),
    Notebook("explorer", "Explore: drag the smoothing", "Chen et al. 2020", "a slider through the landscape", 0.3),
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
            raise UsageError(f"there is no notebook {name!r}: the notebooks are {', '.join(known)}{hint}")
    return [notebook for notebook in NOTEBOOKS if not names or notebook.name in names]
