"""The parameters of a notebook: read from its tagged cell, checked and converted before anything
runs.

papermill itself only warns of a parameter that a notebook does not have, and runs on with the
defaults.
"""

import ast
import difflib
import json
from collections.abc import Sequence
from pathlib import Path

from lsnc_core import custom
from lsnc_core.errors import UsageError


def defaults(notebook: Path) -> dict[str, object]:
    """Names and default values in the cell tagged "parameters".

    Raises:
        UsageError: when the file is not a notebook or its parameters are not plain values.
    """
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        source = next(
            "".join(cell["source"])
            for cell in cells
            if "parameters" in cell["metadata"].get("tags", [])
        )
        return {
            node.targets[0].id: ast.literal_eval(node.value)
            for node in ast.parse(source).body
            if isinstance(node, ast.Assign)
        }
    except (
        OSError,
        ValueError,
        KeyError,
        StopIteration,
        SyntaxError,
        AttributeError,
        TypeError,
    ) as error:
        raise UsageError(
            f"{notebook.name} has no readable cell of plain parameters ({type(error).__name__}); restore it from git."
        ) from error


def refuse_unknown() -> None:
    """In a notebook, after its parameters: refuse a value that papermill put in for a parameter
    that the notebook does not have.

    papermill writes its values into a cell of their own after the tagged one and begins it with "#
    Parameters".

    Raises:
        UsageError: naming the parameter and those there are.
    """
    from IPython import get_ipython

    history = get_ipython().user_ns["In"]
    if len(history) > 3 and history[-2].startswith("# Parameters"):
        given, known = (
            [node.targets[0].id for node in ast.parse(cell).body if isinstance(node, ast.Assign)]
            for cell in (history[-2], history[-3])
        )
        for name in given:
            if name not in known:
                raise UsageError(
                    f"this notebook has no parameter {name!r}: there are {', '.join(known)}."
                )


def _no_constant(text: str) -> object:
    raise ValueError(text)


def convert(text: str, default: object, name: str, notebook: str = "") -> object:
    """A value given as text, in the type of the parameter's default; `notebook` is named in the
    refusal.

    Raises:
        UsageError: when the text is not of that type.

    >>> convert("0.5", 1.0, "a"), convert("[1, 2]", [], "b"), convert("true", False, "c")
    (0.5, [1, 2], True)
    """
    if isinstance(default, str):
        return text
    wanted = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        list: 'a list such as [1, 2] or ["a"]',
    }[type(default)]
    try:
        value = json.loads(text, parse_constant=_no_constant)  # NaN and Infinity are no JSON
    except ValueError:
        value = None
    if type(default) is float and type(value) is int:
        value = float(value)
    if type(value) is not type(default):
        raise UsageError(
            f"the parameter {name}{f' of {notebook}' if notebook else ''} must be {wanted}, got {text!r}."
        )
    return value


def assign(
    given: Sequence[str], notebooks: dict[str, dict[str, object]]
) -> dict[str, dict[str, object]]:
    """Give every NAME=VALUE to the notebooks that have the parameter.

    Args:
        given: texts NAME=VALUE, as after `-p`.
        notebooks: default parameters by notebook name.

    Returns:
        By notebook name, all its parameters with the given values put in.

    Raises:
        UsageError: for a text without "=", a name that no chosen notebook has, or a value of the
            wrong type.
    """
    chosen = {name: dict(values) for name, values in notebooks.items()}
    for entry in given:
        name, equals, text = entry.partition("=")
        if not equals:
            raise UsageError(f"-p takes NAME=VALUE, got {entry!r}.")
        if name in ("profile", "device"):
            raise UsageError(f"the {name} is chosen with --{name}, not with -p.")
        holders = [notebook for notebook, values in notebooks.items() if name in values]
        if not holders:
            known = sorted(
                {known for values in notebooks.values() for known in values} - {"profile", "device"}
            )
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "."
            raise UsageError(
                f"no chosen notebook has a parameter {name!r}: there are {', '.join(known) or 'none'}{hint}"
            )
        for notebook in holders:
            chosen[notebook][name] = _in_place(
                convert(text, notebooks[notebook][name], name, notebook)
            )
    return chosen


def _in_place(value: object) -> object:
    """The value with a reader's files as absolute paths: a notebook runs in another folder than the
    command.
    """
    if isinstance(value, list):
        return [_in_place(entry) for entry in value]
    return custom.resolve(value) if custom.is_file(value) else value
