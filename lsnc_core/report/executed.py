"""What an executed notebook carries for the report."""

from pathlib import Path

from lsnc_core.errors import UsageError
from lsnc_core.show import FIGURE_TYPE, VERDICTS_TYPE


def read(path: Path):
    """An executed notebook. Raises: UsageError, where it cannot be read."""
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except (
        OSError,
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
        nbformat.ValidationError,
    ) as error:
        raise UsageError(
            f"{path} is damaged ({type(error).__name__}): delete it and start again."
        ) from error


def outputs(notebook) -> list:
    """The outputs of an executed notebook's code cells, in order."""
    return [
        output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    ]


def carried(notebook) -> tuple[list[dict], list[dict]]:
    """The figures and the verdicts that an executed notebook shows, as `Figure.data` and
    `Verdicts.data` have them.
    """
    bundles = [output.get("data", {}) for output in outputs(notebook)]
    figures = [bundle[FIGURE_TYPE] for bundle in bundles if FIGURE_TYPE in bundle]
    return figures, [row for bundle in bundles for row in bundle.get(VERDICTS_TYPE, [])]
