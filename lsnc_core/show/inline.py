"""Tables inside a Vega-Lite specification."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import altair
    import pandas as pd

DIGITS = 4  # of a value


def inline_table(table: "pd.DataFrame", name: str) -> "altair.InlineData":
    """A table as comma-separated text, a third as long as Vega's usual rows with their keys.

    Args:
        table: columns of numbers, which are rounded to `DIGITS` digits, and of texts.
        name: of the data set, for `data(name)` in expressions.
    """
    import altair as alt
    from pandas.api.types import is_numeric_dtype

    kinds = {column: "number" if is_numeric_dtype(table[column]) else "string" for column in table}
    text = table.to_csv(index=False, float_format=f"%.{DIGITS}g")
    # types by name: Vega would guess them from the first row
    layout = alt.DataFormat(type="csv", parse=kinds)  # type: ignore[call-arg]
    return alt.InlineData(values=text, format=layout, name=name)
