"""Curves over time that play: an explorer whose slider, or button, moves through training."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import altair
    import pandas as pd

WIDTH, HEIGHT, COLUMNS = 230, 160, 3  # of a panel in px, and panels in a row
FAINT = 0.25  # opacity of a curve whose time is still to come
NOW = "time"  # the parameter: the number of the time in the table's order


def play_curves(
    table: "pd.DataFrame",
    metrics: Mapping[str, str],
    colours: Mapping[str, str],
    time_title: str,
    chosen: str = "true",
    linear: Sequence[str] = (),
    path: tuple[str, str] | None = None,
) -> "altair.ConcatChart":
    """Panels of metrics over time: each curve faint as a whole, drawn up to the time that the
    parameter `NOW` numbers, with a mark there.

    Args:
        table: one row per curve, setting and time: curve (its name), setting (for `chosen`), now
            (the number of the time), time (positive) and the metrics' columns.
        metrics: titles of the panels by column.
        colours: of the curves by name.
        time_title: of the time axis, which is logarithmic.
        chosen: a Vega expression of `datum` and parameters: which rows are shown.
        linear: columns on linear axes; the others are on logarithmic ones.
        path: two columns; a last panel shows the second against the falling first.
    """
    import altair as alt

    shown = alt.Chart(table[["curve", "setting", "now", "time", *metrics]])
    shown = shown.transform_filter(chosen)
    legend = alt.Legend(title=None, orient="top", columns=2, symbolOpacity=1)
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    colour = alt.Color("curve:N", scale=scale, legend=legend)
    times = alt.Scale(type="log", domain=[int(table.time.min()), int(table.time.max())])
    x = alt.X("time:Q", title=time_title, scale=times, axis=alt.Axis(format="~s", tickCount=5))
    panels = []
    for column, title in metrics.items():
        panels.append(_draw_panel(shown, x, _scaled(alt.Y, column, linear), colour, title))
    if path is not None:
        falling = _scaled(alt.X, path[0], linear, metrics[path[0]], reverse=True)
        title = f"{metrics[path[1]]} against {metrics[path[0]]}"
        y = _scaled(alt.Y, path[1], linear)
        panels.append(_draw_panel(shown, falling, y, colour, title))
    return alt.concat(*panels, columns=COLUMNS)


def _scaled(
    channel: Any, column: str, linear: Sequence[str], title: str | None = None, **settings: Any
) -> Any:
    import altair as alt

    if column in linear:
        return channel(f"{column}:Q", title=title, scale=alt.Scale(zero=False, **settings))
    scale = alt.Scale(type="log", **settings)
    return channel(
        f"{column}:Q", title=title, scale=scale, axis=alt.Axis(format=".0e", tickCount=4)
    )


def _draw_panel(
    shown: "altair.Chart", x: "altair.X", y: "altair.Y", colour: "altair.Color", title: str
) -> "altair.LayerChart":
    import altair as alt

    # in the order of time, where the x axis is another metric
    curves = shown.mark_line().encode(x=x, y=y, color=colour, order="now:Q")
    here = shown.transform_filter(f"datum.now == {NOW}")
    layers = [
        curves.encode(opacity=alt.value(FAINT)),
        curves.transform_filter(f"datum.now <= {NOW}"),
        here.mark_point(filled=True, size=80, opacity=1).encode(x=x, y=y, color=colour),
    ]
    return alt.layer(*layers).properties(width=WIDTH, height=HEIGHT, title=title)
