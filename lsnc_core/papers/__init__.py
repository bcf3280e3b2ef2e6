"""The papers, one folder each, one module per notebook.

Each folder's `__init__` holds the paper's card and its table of equations. Each notebook has a
module of the same name with, in this order: the page's card, its runs, tables, figures and claims.
The functions below read the cards, so that every list of notebooks, figures, claims or equations
comes from them. `python -m lsnc_core.report.catalog` prints the table of the README.
"""

import importlib
import importlib.util
import pkgutil
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType

from lsnc_core.papers.page import Comparison, Equation, Page, Paper, Problem, Setting


@dataclass(frozen=True)
class Entry:
    """A notebook on the map: its name, its paper, its module and card."""

    name: str
    paper: Paper
    module: ModuleType
    page: Page

    @property
    def claims(self) -> list[str]:
        """Ids of the claims that its module decides."""
        from lsnc_core.claims import claims_in

        return [claim.id for claim in claims_in(self.module)]

    @property
    def figures(self) -> list[str]:
        """Numbers of the papers' figures that its module draws."""
        from lsnc_core.show import cards_in

        return [card.number for card in cards_in(self.module) if card.number]

    @property
    def shows(self) -> str:
        """Figures, claims and what else it shows, in a line."""
        parts = [shorten(self.figures), shorten(self.claims), self.page.shows]
        return "; ".join(filter(None, parts))


def _packages() -> dict[Paper, str]:
    """The packages of all folders by their cards, in reading order."""
    packages = {}
    for found in pkgutil.iter_modules(__path__):
        if found.ispkg:
            package = f"{__name__}.{found.name}"
            packages[importlib.import_module(package).PAPER] = package
    return dict(sorted(packages.items(), key=lambda item: item[0].position))


def papers() -> list[Paper]:
    """The cards of all folders, in reading order."""
    return list(_packages())


def entries() -> list[Entry]:
    """All notebooks in reading order."""
    listed = []
    for paper, package in _packages().items():
        for name in paper.pages:
            module = importlib.import_module(f"{package}.{name}")
            listed.append(Entry(name, paper, module, module.PAGE))
    return listed


def errata() -> dict[Paper, list[Problem]]:
    """Errors of the papers themselves, from the modules `errata`, and an open question each may
    have; for the papers that have some.
    """
    listed = {}
    for paper, module in _modules("errata"):
        listed[paper] = [*module.list_errata(), module.OPEN_QUESTION]
    return listed


def problems() -> dict[Paper, list[Problem]]:
    """Problems of what the authors released, from the modules `problems`; for the papers that have
    some.
    """
    return {paper: module.list_problems() for paper, module in _modules("problems")}


def comparisons(profile: str) -> dict[Paper, Comparison]:
    """The settings of each paper's experiments beside a profile's, from the modules `deviations`.

    Raises:
        UsageError: for an unknown profile.
    """
    return {paper: module.compare(profile) for paper, module in _modules("deviations")}


def _modules(name: str) -> Iterator[tuple[Paper, ModuleType]]:
    """The modules of a name in the papers' folders, in reading order."""
    for paper, package in _packages().items():
        if importlib.util.find_spec(f"{package}.{name}") is not None:
            yield paper, importlib.import_module(f"{package}.{name}")


def equations() -> Iterator[Equation]:
    """The numbered equations of all papers."""
    for paper in papers():
        yield from paper.equations


def claim_names() -> dict[str, str]:
    """The short names of the claims of all papers, by id."""
    names: dict[str, str] = {}
    for paper in papers():
        names |= paper.claim_names
    return names


def settings(paper: Paper) -> Sequence[Setting]:
    """The settings of a paper's experiments, from its module `deviations`; none for a folder that
    has none.
    """
    name = f"{_packages()[paper]}.deviations"
    if importlib.util.find_spec(name) is None:
        return ()
    return importlib.import_module(name).SETTINGS


def shorten(names: Sequence[str]) -> str:
    """Names that end in numbers, runs of numbers as a range, each once.

    >>> shorten(["Figure 5", "Figure 6", "Figure 7", "Table 1"])
    'Figures 5 to 7, Table 1'
    >>> shorten(["C1", "C2", "C17", "C7", "Z-C3"])
    'C1, C2, C7, C17, Z-C3'
    """
    stems: dict[str, list[int]] = {}
    for name in names:
        stem, number = re.fullmatch(r"(.*?)(\d*)", name).groups()
        stems.setdefault(stem, []).append(int(number or 0))
    parts = []
    for stem, numbers in stems.items():
        ranges = _ranges(sorted(set(numbers)))
        if stem.endswith(" "):  # a word is said once: "Figures 5 to 7"
            plural = stem.strip() + ("s " if len(set(numbers)) > 1 else " ")
            parts.append(plural + ", ".join(_range_text("", first, last) for first, last in ranges))
        else:
            parts += [_range_text(stem, first, last) for first, last in ranges]
    return ", ".join(parts)


def _ranges(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each run of consecutive numbers; a run of two stays two."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    pairs = []
    for run in runs:
        pairs += [(run[0], run[-1])] if len(run) > 2 else [(number, number) for number in run]
    return pairs


def _range_text(stem: str, first: int, last: int) -> str:
    start = f"{stem}{first or ''}"
    return start if first == last else f"{start} to {stem}{last}"


def readme_table() -> str:
    """The map of notebooks as the README has it, in Markdown."""
    lines = [
        "| paper, section | figures and claims | notebook | minutes (`quick`) |",
        "|---|---|---|---|",
    ]
    for entry in entries():
        place = ", ".join(filter(None, [entry.paper.short, entry.page.section]))
        minutes = f"{entry.page.minutes['quick']:g}"
        lines.append(f"| {place} | {entry.shows} | `notebooks/{entry.name}.ipynb` | {minutes} |")
    return "\n".join(lines)
