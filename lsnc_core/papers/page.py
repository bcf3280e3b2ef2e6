"""Cards of papers, equations and notebooks: what is known before anything is computed."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Equation:
    """Where a numbered equation of a paper is computed and used.

    Attributes:
        number: e.g. "Chen eq. 14", the one spelling used everywhere.
        content: what it states.
        function: dotted path of the function that computes it, after "lsnc_core.".
        figures, claims: names of the figures and ids of the claims that rest on it.
    """

    number: str
    content: str
    function: str
    figures: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()


@dataclass(frozen=True)
class Paper:
    """A folder of `papers`.

    Attributes:
        name: as verdicts cite it, e.g. "Chen, Ziyin et al. 2020".
        short: as tables cite it, e.g. "Chen et al. 2020".
        position: its place in the reading order.
        pages: names of its notebooks, each also a module of the folder, in reading order.
        arxiv: identifier; "" for a folder that stands for no paper.
        equations: its numbered equations.
    """

    name: str
    short: str
    position: int
    pages: tuple[str, ...]
    arxiv: str = ""
    equations: tuple[Equation, ...] = ()


@dataclass(frozen=True)
class Page:
    """A notebook.

    Attributes:
        title: its title in lists.
        section: the paper's section or theorem; "" if there is none.
        shows: what it shows beside the figures and claims of its module, which are listed anyway.
        minutes: minutes of a first run by profile, training included, on 2 CPU cores.
    """

    title: str
    section: str = ""
    shows: str = ""
    minutes: Mapping[str, float] = field(default_factory=dict)
