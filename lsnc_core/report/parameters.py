"""The parameters of notebooks: inspected by papermill, checked and converted before anything runs.

papermill itself only warns of a parameter that a notebook does not have, and runs on with the
defaults.
"""

import ast
import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from lsnc_core import custom
from lsnc_core.errors import UsageError
from lsnc_core.notebook import convert
from lsnc_core.report.execute import as_it_is

Values = dict[str, object]  # a notebook's parameters by name


def defaults(notebook: Path) -> Values:
    """Names and default values in the cell tagged "parameters".

    Raises:
        UsageError: if the file is not a notebook or its parameters are not plain values.
    """
    import nbformat
    import papermill

    unreadable = (OSError, ValueError, TypeError, KeyError, AttributeError, SyntaxError)
    unreadable += (nbformat.ValidationError, papermill.exceptions.PapermillException)
    try:
        inspected = papermill.inspect_notebook(as_it_is(notebook))
        if not inspected:
            raise ValueError("no parameters")
        return {name: ast.literal_eval(one["default"]) for name, one in inspected.items()}
    except unreadable as error:
        raise UsageError(
            f"{notebook.name} has no readable cell of plain parameters "
            f"({type(error).__name__}); restore it from git."
        ) from error


def changed(notebook) -> list[str]:
    """What an executed notebook was given besides profile and device and differs from its defaults,
    as NAME=VALUE.
    """
    given = notebook.metadata.get("papermill", {}).get("parameters", {})
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    usual = {}
    for node in ast.parse(tagged[0].source).body if tagged else []:
        usual[node.targets[0].id] = ast.literal_eval(node.value)
    settings = []
    for name, value in given.items():
        if name not in ("profile", "device") and value != usual.get(name):
            text = value if isinstance(value, str) else json.dumps(value)
            settings.append(f"{name}={text}")
    return settings


def assign(given: Sequence[str], notebooks: Mapping[str, Values]) -> dict[str, Values]:
    """Give every NAME=VALUE to the notebooks that have the parameter.

    Args:
        given: texts NAME=VALUE, as after `-p`.
        notebooks: default parameters by notebook name.

    Returns:
        By notebook name, all its parameters, the given values in place of the defaults.

    Raises:
        UsageError: for a text without "=", a name that no chosen notebook has, or a value of the
            wrong type.
    """
    chosen = {name: dict(values) for name, values in notebooks.items()}
    for setting in given:
        name, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f"-p takes NAME=VALUE, got {setting!r}.")
        if name in ("profile", "device"):
            raise UsageError(f"choose the {name} with --{name}, not with -p.")
        holders = [notebook for notebook, values in notebooks.items() if name in values]
        if not holders:
            raise UsageError(_unknown(name, notebooks))
        for notebook in holders:
            value = convert(text, notebooks[notebook][name], name, notebook)
            chosen[notebook][name] = _absolute(value)
    return chosen


def _unknown(name: str, notebooks: Mapping[str, Values]) -> str:
    """The error message for a parameter that no chosen notebook has."""
    known = sorted(set().union(*notebooks.values()) - {"profile", "device"})
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    listed = ", ".join(known) or "none"
    return f"no chosen notebook has a parameter {name!r}: the parameters are {listed}{hint}"


def _absolute(value: object) -> object:
    """The value with your own files as absolute paths: a notebook runs in another folder than the
    command.
    """
    if isinstance(value, list):
        return [_absolute(part) for part in value]
    return custom.resolve(value) if custom.is_file(value) else value
