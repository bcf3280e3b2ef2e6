"""What every notebook does first: check its parameters and settle the profile."""

import ast
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lsnc_core import profiles
from lsnc_core.errors import UsageError, needs_companion

if TYPE_CHECKING:
    from lsnc_core.runs.spec import RunSpec


def start(profile: str = "auto", device: str = "auto") -> str:
    """Refuse unknown parameters and return the profile that "auto" means here.

    papermill writes the values it was given into a cell of their own, after the tagged one. It only
    warns of a name that the notebook does not have, and runs on with the defaults; this refuses it.

    Raises:
        UsageError: for a parameter that the notebook does not have, or an unknown profile.
    """
    needs_companion("a notebook", "IPython")
    from IPython import get_ipython

    shell = get_ipython()
    cells = [source for _, _, source in shell.history_manager.get_range()] if shell else []
    check_parameters(cells)
    return profiles.resolve(profile, device)[0]


def check_parameters(cells: Sequence[str]) -> None:
    """Refuse an unknown name in the cell that papermill injected.

    Args:
        cells: sources of the cells run so far, this one last.

    Raises:
        UsageError: naming the parameter and those the notebook has.
    """
    if len(cells) < 3 or cells[-2].split("\n")[0] != "# Parameters":
        return
    known = _assigned(cells[-3])
    for name in _assigned(cells[-2]):
        if name not in known:
            raise UsageError(
                f"this notebook has no parameter {name!r}; its parameters are {', '.join(known)}."
            )


def _assigned(source: str) -> list[str]:
    """The names that a cell assigns."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.append(node.id)
    return names


def cost(specs: "Sequence[RunSpec]") -> str:
    """What training these networks costs, in a sentence."""
    from lsnc_core.runs import cost as costs

    return costs.describe_cost(specs)
