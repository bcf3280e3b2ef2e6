"""The notebooks in reading order, made from their cards.

`python -m lsnc_core.report.catalog` prints the table that stands in the README.
"""

import difflib
import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lsnc_core import papers
from lsnc_core.errors import UsageError

if TYPE_CHECKING:
    from lsnc_core.runs.spec import RunSpec


def choose(names: Sequence[str]) -> list[papers.Entry]:
    """The notebooks of these names in reading order; all of them for no names.

    Raises:
        UsageError: for a name that no notebook has.
    """
    entries = papers.entries()
    known = [entry.name for entry in entries]
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "."
            raise UsageError(
                f"there is no notebook {name!r}: the notebooks are {', '.join(known)}{hint}"
            )
    return [entry for entry in entries if not names or entry.name in names]


def wanted_runs(entry: papers.Entry, parameters: Mapping[str, Any]) -> "list[RunSpec]":
    """The networks that a notebook needs under these parameters, each once.

    A module that trains has a function `plan_runs`; it takes the notebook's parameters that have
    the names of its arguments.
    """
    plan = getattr(entry.module, "plan_runs", None)
    if plan is None:
        return []
    takes = inspect.signature(plan).parameters
    given = {name: value for name, value in parameters.items() if name in takes}
    return list(dict.fromkeys(plan(**given)))


def has_networks(entry: papers.Entry) -> bool:
    """Whether a notebook reads trained networks."""
    return hasattr(entry.module, "plan_runs")


def place(entry: papers.Entry) -> str:
    """A notebook's paper and section, e.g. "Chen et al. 2020, 5.1"."""
    return ", ".join(filter(None, [entry.paper.short, entry.page.section]))


def minutes(entry: papers.Entry, profile: str = "quick") -> str:
    """Minutes of a notebook's first run in a profile, as text."""
    measured = entry.page.minutes.get(profile)
    return "not measured" if measured is None else f"{measured:g}"


if __name__ == "__main__":
    print(papers.readme_table())
