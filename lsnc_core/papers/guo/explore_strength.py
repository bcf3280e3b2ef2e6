"""Networks over smoothing strengths and epochs as an explorer: errors, collapse, norms and
calibration, against the epoch or against the strength, with cross-entropy beside them.

delta is the smoothing strength; delta = 0 is cross-entropy. altair and pandas are imported where
they are used.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lsnc_core.papers.guo import SMOOTHED
from lsnc_core.papers.guo.calibration import BINS, Tensors, read_logits, true_labels
from lsnc_core.papers.guo.drawing import LOGARITHMIC, titled_groups
from lsnc_core.papers.guo.measured import strength
from lsnc_core.papers.stored import KEYS, run_names
from lsnc_core.runs.spec import RunSpec
from lsnc_core.show import Explorer, style
from lsnc_core.show.controls import ValueSlider, with_sliders
from lsnc_core.show.inline import inline_table
from lsnc_core.show.panels import BAND, seed_intervals

if TYPE_CHECKING:
    import altair
    import pandas as pd

# Columns of the history, and what panels call them.
QUANTITIES = {
    "test_error": "test error rate",
    "nc1": "NC1, training images",
    "nc2": "NC2, training images",
    "nc3": "NC3, training images",
    "w_norm": "norm of the classifier",
    "h_norm": "norm of the features",
    "ece": "ECE, test images",
}
WIDTH, HEIGHT, COLUMNS = 165, 150, 4


# ---- tables


class Explored(NamedTuple):
    """What an explorer shows: from `measure_calibration` and `measure_bins`."""

    measured: "pd.DataFrame"
    bins: "pd.DataFrame"


def measure_strengths(
    history: "pd.DataFrame", specs: Sequence[RunSpec], device: str = "auto"
) -> Explored:
    """What an explorer shows of networks with cross-entropy's loss at any strength.

    Args: history, from `measured.fetch_history`; specs, its networks; device, as there.
    """
    from lsnc_core import runs

    tensors = runs.tensors([spec for spec in specs if spec.loss == "ce"], device)
    return Explored(measure_calibration(history, tensors), measure_bins(tensors))


def measure_calibration(history: "pd.DataFrame", tensors: Tensors) -> "pd.DataFrame":
    """The history with ECE on test images (20 bins) where logits were kept, else NaN.

    Args: history, from `measured.fetch_history`; tensors, the networks' arrays.
    """
    import pandas as pd

    from lsnc_core import metrics

    rows, names = [], run_names(tensors)
    for spec, epochs in tensors.items():
        for epoch, arrays in zip(spec.evaluate_at, epochs, strict=True):
            if "test_logits" in arrays:
                ece = metrics.ece(read_logits(arrays, "test"), true_labels(spec)["test"], BINS)
                rows.append({"run": names[spec], "epoch": epoch, "ece": ece})
    return history.merge(pd.DataFrame(rows), how="left", on=KEYS, validate="one_to_one")


def measure_bins(tensors: Tensors) -> "pd.DataFrame":
    """Reliability diagrams on test images wherever logits were kept, the seeds of a strength
    together, as `calibration.measure_reliability` has them for the end.

    Args: tensors, as for `measure_calibration`.

    Returns:
        pandas.DataFrame, one row per (data, weight_decay, delta, kept epoch, bin with images): kept
        (that epoch); first, last (the measured epochs for which it is the nearest kept one, by
        ratio); confidence, accuracy and share of the images, in [0, 1].
    """
    import pandas as pd
    import torch

    from lsnc_core import metrics

    members: dict[tuple, dict[int, list]] = {}
    measured: dict[tuple, tuple[int, ...]] = {}
    for spec, epochs in tensors.items():
        place = spec.data, spec.weight_decay, strength(spec)
        measured[place] = spec.evaluate_at
        for epoch, arrays in zip(spec.evaluate_at, epochs, strict=True):
            if "test_logits" in arrays:
                pair = read_logits(arrays, "test"), true_labels(spec)["test"]
                members.setdefault(place, {}).setdefault(epoch, []).append(pair)
    tables = []
    for (data, weight_decay, delta), by_epoch in members.items():
        spans = nearest_spans(measured[data, weight_decay, delta], sorted(by_epoch))
        for epoch, pairs in by_epoch.items():
            logits, labels = map(torch.cat, zip(*pairs, strict=True))
            bins = metrics.reliability(logits, labels, BINS)
            first, last = spans[epoch]
            columns = {"data": data, "weight_decay": weight_decay, "delta": delta, "kept": epoch}
            columns |= {"first": first, "last": last}
            columns |= {name: getattr(bins, name).numpy() for name in ("confidence", "accuracy")}
            columns["share"] = bins.counts.numpy() / len(labels)
            table = pd.DataFrame(columns)
            tables.append(table[table.share > 0])
    return pd.concat(tables, ignore_index=True)


def nearest_spans(measured: Sequence[int], kept: Sequence[int]) -> dict[int, tuple[int, int]]:
    """The first and the last measured epoch for which each kept epoch is the nearest, by ratio.

    >>> nearest_spans((1, 2, 4, 8, 16), (2, 16))
    {2: (1, 4), 16: (8, 16)}
    """
    spans: dict[int, tuple[int, int]] = {}
    for epoch in measured:
        nearest = min(kept, key=lambda one: abs(np.log(epoch / one)))
        spans[nearest] = spans.get(nearest, (epoch, epoch))[0], epoch
    return spans


def tabulate_means(part: "pd.DataFrame") -> "pd.DataFrame":
    """Means over seeds with their 95 % intervals.

    Args:
        part: rows of `measure_calibration`, of one image set and weight decay.

    Returns:
        pandas.DataFrame with delta, epoch, quantity (of `QUANTITIES`), mean, low and high, as
        figures draw them (`panels.seed_intervals`). It has a row for each combination, NaN where
        nothing was measured, in the order of delta, epoch and quantity.
    """
    import pandas as pd

    part = part[part.loss == "ce"]
    tables = {}
    for delta, rows in part.groupby("delta"):
        for column in QUANTITIES:
            curves = rows.pivot(index="seed", columns="epoch", values=column)
            tables[delta, column] = seed_intervals(curves, log=column in LOGARITHMIC)
    table = pd.concat(tables, names=["delta", "quantity", "epoch"])
    table = table.reorder_levels(["delta", "epoch", "quantity"])
    places = [sorted(set(part.delta)), sorted(set(part.epoch)), list(QUANTITIES)]
    return table.reindex(pd.MultiIndex.from_product(places, names=table.index.names)).reset_index()


# ---- the explorers


def explore(explored: Explored, name: str, across: str) -> list[Explorer]:
    """An explorer for each image set and weight decay.

    Args:
        explored: from `measure_strengths`.
        name: of the first explorer; later ones are numbered.
        across: "epoch" for curves over training, "delta" for curves over strengths.
    """
    explorers: list[Explorer] = []
    measured, bins = explored
    for number, (title, part) in enumerate(titled_groups(measured[measured.loss == "ce"]), 1):
        one = part.iloc[0]
        own = bins[(bins.data == one.data) & (bins.weight_decay == one.weight_decay)]
        chart = _draw_panels(tabulate_means(part), own, across)
        numbered = name if number == 1 else f"{name}-{number}"
        title = f"{TITLES[across]}: {title}"
        explorers.append(Explorer(numbered, title, TEXTS[across], ALTS[across], chart))
    return explorers


TITLES = {
    "epoch": "Any smoothing strength over training",
    "delta": "Every smoothing strength at any epoch",
}
TEXTS = {
    "epoch": "Move the strength δ and the epoch: the curves of that strength, orange and darker "
    "the stronger it is, stand beside cross-entropy in blue; bands are 95 % intervals over seeds. "
    "The last panel is the reliability diagram at the nearest epoch whose predictions were kept.",
    "delta": "Move the epoch and every curve over the strength follows; move δ to mark one "
    "strength and to draw its reliability diagram beside that of cross-entropy, in blue. Error "
    "bars are 95 % intervals over seeds.",
}
ALTS = {
    "epoch": "Eight panels: test error, NC1, NC2, NC3, the norms of classifier and features and "
    "ECE against the epoch, for the chosen strength and for cross-entropy, the chosen epoch "
    "marked; and the reliability diagrams of both.",
    "delta": "Eight panels: test error, NC1, NC2, NC3, the norms of classifier and features and "
    "ECE against the smoothing strength at the chosen epoch, the chosen strength and the level of "
    "cross-entropy marked; and the reliability diagrams of both.",
}
CHOSEN = "datum.delta === strengths[at_delta]"
NOW = "datum.epoch === epochs[at_epoch]"
PAIR = f"({CHOSEN} || datum.delta === 0)"
# A value of the chosen strength ({0} = at_delta) or of cross-entropy (0); the table's rows stand in
# the order of delta, epoch, quantity.
VALUE = "data('strengths')[({0} * epochs.length + at_epoch) * quantities.length + {1}].mean"


def _read_out() -> str:
    """An expression: the chosen strength against cross-entropy (CE) in a sentence."""
    parts = []
    for column, label in (("test_error", "test error"), ("nc1", "NC1"), ("ece", "ECE")):
        pair = []
        for place in ("at_delta", "0"):
            value = VALUE.format(place, list(QUANTITIES).index(column))
            pair.append(f"(isValid({value}) ? format({value}, '.3~g') : 'not kept')")
        parts.append(f"'{label} ' + {pair[0]} + ' (CE ' + {pair[1]} + ')'")
    return "'δ = ' + strengths[at_delta] + ', epoch ' + epochs[at_epoch] + ': ' + " + (
        " + ', ' + ".join(parts)
    )


def _draw_panels(table: "pd.DataFrame", bins: "pd.DataFrame", across: str) -> "altair.ConcatChart":
    """A panel for each quantity and the reliability diagrams, with their controls."""
    import altair as alt

    strengths, epochs = (table[column].unique().tolist() for column in ("delta", "epoch"))
    draw = _draw_over_epochs if across == "epoch" else _draw_over_strengths
    panels = []
    for column, title in QUANTITIES.items():
        rows = table[table.quantity == column]
        panel = draw(_start(column), rows, column).properties(title=title)
        panels.append(panel.properties(width=WIDTH, height=HEIGHT))
    panels.append(_draw_reliability(bins, strengths))
    chart = alt.concat(*panels, columns=COLUMNS, data=inline_table(table, "strengths"), spacing=14)
    start = strengths.index(SMOOTHED) if SMOOTHED in strengths else len(strengths) - 1
    named = [f"{delta:g}" for delta in strengths]
    by_delta = ValueSlider("at_delta", "smoothing strength δ", named, start)
    by_epoch = ValueSlider(
        "at_epoch", "measured epoch", list(map(str, epochs)), len(epochs) - 1, plays=True
    )
    chart = chart.add_params(
        alt.param(name="strengths", value=strengths),
        alt.param(name="epochs", value=epochs),
        alt.param(name="quantities", value=list(QUANTITIES)),
        alt.param(name="reading", expr=_read_out()),
    )
    return with_sliders(chart, [by_delta, by_epoch])


def _start(column: str) -> "altair.Chart":
    """A chart of the rows of one quantity."""
    import altair as alt

    return alt.Chart().transform_filter(f"datum.quantity === '{column}' && isValid(datum.mean)")


def _colour(strengths: Sequence[float]) -> "altair.Color":
    """The colour of each strength; blue is cross-entropy."""
    import altair as alt

    colours = [style.strength(delta) for delta in strengths]
    return alt.Color("delta:N", scale=alt.Scale(domain=list(strengths), range=colours), legend=None)


def _height(rows: "pd.DataFrame", column: str) -> dict[str, Any]:
    """The y axis of one quantity, the same for all strengths and epochs: settings of a channel.

    What lies above twice the highest value of the last three quarters of the measured epochs is cut
    off: it would leave no room for the rest.
    """
    import altair as alt

    epochs = sorted(set(rows.epoch))
    late = rows[rows.epoch >= epochs[len(epochs) // 4]]
    top, usual = (np.nanmax(part[["mean", "high"]], initial=1e-3) for part in (rows, late))
    kind, ends = "linear", [0.0, min(1.05 * top, 2 * usual)]
    if column in LOGARITHMIC:
        kind, ends = "log", [np.nanmin(rows[["mean", "low"]]), rows["mean"].max()]
    scale = alt.Scale(type=kind, domain=[float(end) for end in ends], nice=False)
    return {"title": None, "scale": scale, "axis": _axis(column, ends)}


def _axis(column: str, ends: Sequence[float]) -> "altair.Axis":
    """The ticks of a quantity whose scale has these ends; three or more on a logarithmic one."""
    import altair as alt

    if column not in LOGARITHMIC:
        return alt.Axis(format=".2~g", tickCount=5)
    powers = 10.0 ** np.arange(np.floor(np.log10(ends[0])), np.ceil(np.log10(ends[1])) + 1)
    ticks: list[float] = []
    for digits in ((1,), (1, 3), (1, 2, 5), range(1, 10)):
        every = np.outer(powers, digits).ravel().round(12)
        ticks = every[(every >= ends[0]) & (every <= ends[1])].tolist()
        if len(ticks) >= 3:
            break
    return alt.Axis(format=".2~g", values=ticks)


def _draw_over_epochs(
    start: "altair.Chart", rows: "pd.DataFrame", column: str
) -> "altair.LayerChart":
    """One quantity against the epoch: the chosen strength and cross-entropy, the epoch marked."""
    import altair as alt

    epochs = rows.epoch.unique().tolist()
    scale = alt.Scale(type="log", domain=[epochs[0], epochs[-1]], nice=False, padding=5)
    axis = alt.Axis(values=_ticks(epochs), format="d")
    pair = start.transform_filter(PAIR).encode(
        x=alt.X("epoch:Q", title="epoch", scale=scale, axis=axis),
        color=_colour(rows.delta.unique().tolist()),
    )
    height = _height(rows, column)
    drawn = alt.Y("mean:Q", **height)
    band = pair.mark_area(opacity=BAND, clip=True).encode(y=alt.Y("low:Q", **height), y2="high:Q")
    line = pair.mark_line(clip=True, point=column == "ece").encode(y=drawn)
    rule = start.transform_filter(f"{NOW} && datum.delta === 0").encode(x="epoch:Q")
    rule = rule.mark_rule(color=style.SOFT, strokeDash=[2, 2])
    now = pair.transform_filter(NOW)
    point = now.mark_point(filled=True, size=80, opacity=1, stroke=style.INK, clip=True)
    return alt.layer(rule, band.transform_filter("isValid(datum.low)"), line, point.encode(y=drawn))


def _ticks(epochs: Sequence[int]) -> list[int]:
    """Epochs to name on a logarithmic axis: 1, 3, 10, 30 and so on, and the last."""
    usual = [e for e in (1, 3, 10, 30, 100, 300) if epochs[0] <= e <= epochs[-1] / 1.5]
    return [*usual, epochs[-1]]


def _draw_over_strengths(
    start: "altair.Chart", rows: "pd.DataFrame", column: str
) -> "altair.LayerChart":
    """One quantity against the strength at the chosen epoch, with cross-entropy's level."""
    import altair as alt

    strengths = rows.delta.unique().tolist()
    now = start.transform_filter(NOW).encode(
        x=alt.X(
            "delta:Q",
            title="smoothing strength δ",
            scale=alt.Scale(padding=7),
            axis=alt.Axis(format="~g"),
        ),
    )
    height = _height(rows, column)
    drawn = alt.Y("mean:Q", **height)
    plain = alt.value(style.strength(0))
    level = start.transform_filter(f"{NOW} && datum.delta === 0").mark_rule(clip=True)
    level = level.encode(y=drawn, color=plain, strokeDash=alt.value([4, 3]))
    line = now.mark_line(clip=True, color=style.SOFT, strokeWidth=1).encode(y=drawn)
    bars = now.transform_filter("isValid(datum.low)").mark_rule(clip=True)
    bars = bars.encode(y=alt.Y("low:Q", **height), y2="high:Q", color=_colour(strengths))
    points = now.mark_point(filled=True, size=40, opacity=1, clip=True)
    points = points.encode(y=drawn, color=_colour(strengths))
    chosen = now.transform_filter(CHOSEN).mark_point(size=150, color=style.INK, clip=True)
    return alt.layer(level, line, bars, points, chosen.encode(y=drawn))


def _draw_reliability(bins: "pd.DataFrame", strengths: Sequence[float]) -> "altair.LayerChart":
    """Accuracy against confidence in each bin, a mark as large as its share of the images."""
    import altair as alt

    columns = ["delta", "first", "last", "kept", "confidence", "accuracy", "share"]
    span = "datum.first <= epochs[at_epoch] && epochs[at_epoch] <= datum.last"
    rows = alt.Chart(inline_table(bins[columns], "bins")).transform_filter(f"{PAIR} && {span}")
    unit = alt.Scale(domain=[0, 1])
    rows = rows.encode(
        x=alt.X("confidence:Q", title="confidence", scale=unit, axis=alt.Axis(format="~g")),
        y=alt.Y("accuracy:Q", title=None, scale=unit, axis=alt.Axis(format="~g")),
        color=_colour(strengths),
    )
    size = alt.Size("share:Q", scale=alt.Scale(domain=[0, 1], range=[12, 260]), legend=None)
    ends = alt.InlineData(values=[{"at": 0}, {"at": 1}])
    even = alt.Chart(ends).mark_line(color=style.SOFT, strokeDash=[4, 3], strokeWidth=1)
    even = even.encode(x=alt.X("at:Q", scale=unit), y=alt.Y("at:Q", scale=unit))
    lines = rows.mark_line(strokeWidth=1.5)
    marks = rows.mark_point(filled=True, opacity=0.9).encode(size=size)
    # which epochs' predictions these are
    names = rows.transform_aggregate(kept="min(kept)", groupby=["delta"]).transform_calculate(
        at="datum.delta === 0 ? 0.18 : 0.08",
        text="(datum.delta === 0 ? 'CE' : 'δ = ' + datum.delta) + ', epoch ' + datum.kept",
    )
    names = names.mark_text(align="right").encode(
        x=alt.datum(0.99), y=alt.Y("at:Q", title=None, scale=unit), text="text:N"
    )
    layers = alt.layer(even, lines, marks, names)
    return layers.properties(width=WIDTH, height=HEIGHT, title="accuracy against confidence")
