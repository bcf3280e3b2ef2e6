"""One figure drawn again, without the rest of its notebook and without a report."""

import ast
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lsnc_core import papers
from lsnc_core.errors import UsageError
from lsnc_core.show import Figure, FigureCard, cards_in


def choose(entries: Sequence[papers.Entry], name: str) -> papers.Entry:
    """The notebook among the chosen ones that draws a figure.

    Raises:
        UsageError: if none does.
    """
    drawn = {}
    for entry in entries:
        for card in cards_in(entry.module):
            drawn.setdefault(card.name, entry)
    if name in drawn:
        return drawn[name]
    where = entries[0].name if len(entries) == 1 else "the notebooks"
    close = difflib.get_close_matches(name, drawn, n=3, cutoff=0.4) or sorted(drawn)
    hint = f"; close are {', '.join(close)}." if close else ", which draws none."
    raise UsageError(f"there is no figure {name!r} in {where}{hint}")


def draw(entry: papers.Entry, source: Path, name: str, settings: dict[str, Any]) -> Figure:
    """Run a notebook's code in this process up to a figure; those before it are not drawn.

    Args:
        entry: the notebook.
        source: its file.
        name: of the figure.
        settings: all parameters of the notebook.

    Raises:
        UsageError: as the notebook, or if it does not draw the figure with these parameters.
    """
    import matplotlib
    import nbformat

    matplotlib.use("Agg")  # no windows
    cards = {key: getattr(value, "card", None) for key, value in vars(entry.module).items()}
    others = {key for key, card in cards.items() if isinstance(card, FigureCard)}
    others -= {key for key in others if cards[key].name == name}
    shown: list[object] = []
    names: dict[str, Any] = {"display": lambda *things: shown.extend(things)}
    for cell in nbformat.read(source, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        if "parameters" in cell.metadata.get("tags", []):
            names |= settings
            continue
        tree = ast.parse(cell.source)
        if _draws(tree, others):
            continue
        shown.append(_run(tree, names))
        for one in shown:
            if isinstance(one, Figure) and one.data["name"] == name:
                return one
    raise UsageError(f"{entry.name} does not draw {name} with these parameters.")


def _draws(tree: ast.Module, functions: set[str]) -> bool:
    """Whether a cell is nothing but a call of one of these functions of the page's module."""
    match tree.body:
        case [ast.Expr(value=ast.Call(func=ast.Attribute(attr=attribute)))]:
            return attribute in functions
    return False


def _run(tree: ast.Module, names: dict[str, Any]) -> object:
    """Run a cell; what its last expression gives, None without one."""
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec"), names)
    if not isinstance(last, ast.Expr):
        return None
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
