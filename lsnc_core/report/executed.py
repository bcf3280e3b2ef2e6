"""What an executed notebook carries for the report."""

from collections.abc import Sequence
from pathlib import Path

from lsnc_core.claims import Case, Claim, Verdict
from lsnc_core.errors import UsageError
from lsnc_core.report import untrusted
from lsnc_core.show import EXPLORER_TYPE, VERDICTS_TYPE, carried_figure, verdicts_html

VERDICT_FIELDS = tuple(Verdict(Claim("", "", "", "", ""), "").to_dict())
CASE_FIELDS = tuple(Case("", "").to_dict())


def read(path: Path):
    """An executed notebook.

    Raises:
        UsageError: if it cannot be read, carries verdicts of an earlier version, or figures that
            no notebook of this package makes.
    """
    import nbformat

    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)  # reading only logs what is wrong
        _check_outputs(notebook)
    except UsageError as error:
        reason = str(error).removesuffix(".")
        raise UsageError(f"{path} is not shown: {reason}; delete it and start again.") from error
    except (
        OSError,
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
        nbformat.ValidationError,
    ) as error:
        raise UsageError(
            f"{path} is damaged or from an earlier version ({type(error).__name__}): "
            "delete it and start again."
        ) from error
    return notebook


def _check_outputs(notebook) -> None:
    """Refuse outputs of this package's types that pages cannot show.

    Raises: UsageError, ValueError, TypeError, AttributeError, KeyError.
    """
    figures, verdicts = carried(notebook)
    check_verdicts(verdicts)
    for figure in figures:
        untrusted.check_figure(figure)
    for output in outputs(notebook):
        bundle = output.get("data", {})
        if EXPLORER_TYPE in bundle:
            untrusted.check_explorer(bundle[EXPLORER_TYPE])


def outputs(notebook) -> list:
    """The outputs of an executed notebook's code cells, in order."""
    listed = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            listed += cell.outputs
    return listed


def carried(notebook) -> tuple[list[dict], list[dict]]:
    """The figures and the verdicts that an executed notebook shows, as `Figure.carried` and
    `Verdicts.data` have them.
    """
    figures, verdicts = [], []
    for output in outputs(notebook):
        bundle = output.get("data", {})
        figure = carried_figure(bundle)
        if figure is not None:
            figures.append(figure)
        verdicts += bundle.get(VERDICTS_TYPE, [])
    return figures, verdicts


def check_verdicts(rows: Sequence[dict]) -> None:
    """Refuse verdicts that lack what `Verdict.to_dict` gives, or that no table can show.

    Raises: ValueError, TypeError, AttributeError, KeyError.
    """
    for row in rows:
        _check_fields(row, VERDICT_FIELDS)
        for case in row["cases"]:
            _check_fields(case, CASE_FIELDS)
    verdicts_html(rows)


def _check_fields(record: dict, fields: Sequence[str]) -> None:
    missing = [field for field in fields if field not in record]
    if missing:
        raise ValueError(f"{', '.join(missing)} missing")
