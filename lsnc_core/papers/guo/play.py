"""Guo et al. 2025: gradient descent of the feature model as it goes, without and with smoothing."""

import json
from typing import TYPE_CHECKING

from lsnc_core.papers.guo.descent import METRICS, summary_table
from lsnc_core.papers.guo.model import STRENGTHS
from lsnc_core.show import Explorer, style
from lsnc_core.show.controls import ValueSlider, with_sliders
from lsnc_core.show.playback import NOW, play_curves

if TYPE_CHECKING:
    import pandas as pd

PLAIN, SMOOTH = "cross-entropy", "label smoothing"
_SMOOTHED = STRENGTHS[1:]


def tabulate_descent(curves: "pd.DataFrame") -> "pd.DataFrame":
    """Medians over starts of the usual spread, a row for each strength and recorded iteration.

    Args:
        curves: from `descent.run_curves`.

    Returns:
        pandas.DataFrame with delta, curve (of the two losses), setting (the number of the strength
        among those of label smoothing; NaN without), now (the number of the iteration), time (the
        iteration) and a column for each of `METRICS`.
    """
    medians = summary_table(curves)
    table = medians.pivot(index=["delta", "iteration"], columns="metric", values="median")
    table = table.reset_index().rename(columns={"iteration": "time"})
    times = sorted(set(table.time))
    table["now"] = table.time.map(times.index)
    table["curve"] = table.delta.map(lambda delta: SMOOTH if delta else PLAIN)
    table["setting"] = table.delta.map({delta: k for k, delta in enumerate(_SMOOTHED)})
    return table


def explore_descent(curves: "pd.DataFrame") -> Explorer:
    """Play gradient descent and watch both losses collapse.

    Args:
        curves: from `descent.run_curves`.
    """
    import altair as alt

    table = tabulate_descent(curves)
    times = sorted(set(table.time))
    chart = play_curves(
        table,
        METRICS,
        {PLAIN: style.method("CE"), SMOOTH: style.method("LS")},
        "iteration",
        chosen="!isValid(datum.setting) || datum.setting == strength",
        linear=("error",),
        path=("nc1", "nc2"),
    )
    reading = alt.param(name="reading", expr=f"{_describe(table)}[strength][{NOW}]")
    iterations = [f"{time:,}" for time in times]
    sliders = [
        ValueSlider("strength", "smoothing strength δ", [f"{delta:g}" for delta in _SMOOTHED]),
        ValueSlider(NOW, "iteration", iterations, len(times) - 1, plays=True),
    ]
    return Explorer(
        "guo-descent-explorer",
        "Gradient descent of the feature model, played",
        "Press Play, or move the iteration, and see which loss gets where first: curves further to "
        "the left are sooner, and in the last panel time runs to the right.",
        "Panels of loss gap, training error, NC1, NC2 and NC3 against the iteration and of NC2 "
        "against NC1, for cross-entropy and label smoothing, medians over starts.",
        with_sliders(chart.add_params(reading), sliders),
    )


def _describe(table: "pd.DataFrame") -> str:
    """NC1 to NC3 of both losses in words, as a nested array by strength and iteration."""
    by = table.set_index(["delta", "now"])
    nested = []
    for delta in _SMOOTHED:
        texts = []
        for now, time in enumerate(sorted(set(table.time))):
            plain, smooth = by.loc[(0.0, now)], by.loc[(delta, now)]
            parts = []
            for metric in ("nc1", "nc2", "nc3"):
                pair = f"{plain[metric]:.2g} and {smooth[metric]:.2g}"
                parts.append(f"{METRICS[metric]} {pair}")
            texts.append(
                f"Iteration {time:,}, {PLAIN} and {SMOOTH} δ = {delta:g}: {', '.join(parts)}."
            )
        nested.append(texts)
    return json.dumps(nested, ensure_ascii=False)
