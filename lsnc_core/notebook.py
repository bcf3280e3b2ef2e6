"""What every notebook does first: check its parameters and settle the profile."""

import ast
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lsnc_core import profiles
from lsnc_core.errors import UsageError, needs_companion

if TYPE_CHECKING:
    from lsnc_core.runs.spec import RunSpec

TYPES = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    list: 'a list such as [1, 2] or ["a"]',
}


def start(profile: str = "auto", device: str = "auto") -> str:
    """Check parameters and return the profile that "auto" means here.

    papermill writes the values it was given into a cell of their own, after the tagged one. It only
    warns of a name that the notebook does not have, and gives lists and what it takes for text as
    text. Here they mean what they mean after `-p` of `run_all.sh`.

    Raises:
        UsageError: for a parameter that the notebook does not have, a value of another type, or an
            unknown profile.
    """
    needs_companion("a notebook", "IPython")
    from IPython import get_ipython

    shell = get_ipython()
    if shell:
        # as Python: magics are not
        cells = [source for _, _, source in shell.history_manager.get_range(raw=False)]
        shell.user_ns.update(injected_parameters(cells, shell.user_ns))
    convert(device, "", "device")
    return profiles.resolve(convert(profile, "", "profile"), device)[0]


def injected_parameters(cells: Sequence[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """What papermill injected, brought to the types of the notebook's defaults.

    Args:
        cells: sources of the cells run so far, this one last.
        values: of the notebook's variables, by name.

    Returns:
        Values by name; none where the cell before is not papermill's.

    Raises:
        UsageError: for a name that the notebook does not have, and as `convert`.
    """
    if len(cells) < 3 or not _is_headed(cells[-2]):
        return {}
    # cells may run again, in any order
    earlier = [cell for cell in reversed(cells[:-2]) if not _is_headed(cell)]
    defaults = next(filter(None, map(_plain_values, earlier)), None)
    injected = _assignments(cells[-2])
    if injected is None or defaults is None:
        return {}
    converted = {}
    for name in injected:
        if name not in defaults:
            raise UsageError(
                f"this notebook has no parameter {name!r}; "
                f"its parameters are {', '.join(defaults)}."
            )
        converted[name] = convert(values[name], defaults[name], name)
    return converted


def _is_headed(cell: str) -> bool:
    """Whether a cell begins as the one that papermill writes."""
    return cell.split("\n")[0] == "# Parameters"


def _assignments(source: str) -> dict[str, ast.expr] | None:
    """What a cell of nothing but `name = value` assigns, by name; None for another cell."""
    assigned = {}
    try:
        statements = ast.parse(source).body
    except SyntaxError:
        return None
    for node in statements:
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            return None
        assigned[node.targets[0].id] = node.value
    return assigned


def _plain_values(source: str) -> dict[str, Any] | None:
    """The values of a cell of nothing but `name = literal`, by name; None for another cell."""
    try:
        assigned = _assignments(source) or {}
        return {name: ast.literal_eval(value) for name, value in assigned.items()}
    except ValueError:
        return None


def convert(given: Any, default: Any, name: str, notebook: str = "") -> Any:
    """A value for a parameter, converted to the type of the parameter's default.

    Args:
        given: the value, or the value as text.
        default: the parameter's default.
        name, notebook: what the error message names.

    Raises:
        UsageError: if it is not of that type.

    >>> convert("0.5", 1.0, "a"), convert("[1, 2]", [], "b"), convert("true", False, "c")
    (0.5, [1, 2], True)
    """
    value = given
    if isinstance(given, str) and not isinstance(default, str):
        try:
            value = json.loads(given, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            value = None
    kind = type(default)
    if kind is float and type(value) is int and abs(value) < 1e300:
        value = float(value)
    if kind is list and type(value) is tuple:
        value = list(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        place = f" of {notebook}" if notebook else ""
        raise UsageError(f"the parameter {name}{place} must be {TYPES[kind]}, got {given!r}.")
    return value


def _refuse_constant(text: str) -> object:
    """Python's JSON reader takes NaN and Infinity, which are not JSON."""
    raise ValueError(text)


def cost(specs: "Sequence[RunSpec]") -> str:
    """What training these networks costs, in a sentence."""
    from lsnc_core.runs import cost as costs

    return costs.describe_cost(specs)
