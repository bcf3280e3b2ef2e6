"""The measured landscape as an explorer: a map over (a, p), one clean rate's curve against p with
Chen eq. 11, one cell's course over the epochs.

a is the clean rate of the training labels, p the kept mass of the smoothed label, M the number of
classes. altair and pandas are imported where they are used.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lsnc_core.data_sources import source_of
from lsnc_core.papers.chen.drawing import CLEAN_RATE, KEPT, loss_ceiling
from lsnc_core.papers.chen.grid import class_count, learned, unlearned_share
from lsnc_core.papers.stored import KEYS, collapse_table, run_names
from lsnc_core.show import Explorer, style
from lsnc_core.show.controls import ValueSlider, with_sliders
from lsnc_core.show.inline import inline_table
from lsnc_core.theory import label_noise

if TYPE_CHECKING:
    import altair
    import pandas as pd

    from lsnc_core.papers.stored import Tensors
    from lsnc_core.runs.spec import RunSpec

MEASURED = style.METHODS["alpha"]
CHOSEN_COLOUR = style.METHODS["logit"]
MEAN = "mean"  # the seed of rows that are means over seeds
CELL = ["epoch", "seed", "a", "p"]
LOWEST_KEPT, POINTS = 0.02, 120  # of the formula's curve
HEIGHT = 230  # px of a panel


@dataclass(frozen=True)
class Quantity:
    """What the map can show.

    Attributes:
        column: of the table.
        name: in the list of quantities.
        axis: on axes, with the unit.
        log: whether on a logarithmic scale.
        predicted: whether Chen eq. 11 predicts it.
        highest: whether the highest value is the best; otherwise the lowest is.
    """

    column: str
    name: str
    axis: str
    log: bool = False
    predicted: bool = False
    highest: bool = False


HELD_OUT, CLEAN = "held-out images", "training images, clean labels"
# the columns of collapse metrics, and whose they are
COLLAPSE = {
    "train_nc1": ("train", "NC1"),
    "test_nc1": ("test", "NC1"),
    "train_nc2": ("train", "NC2"),
    "train_nc3": ("train", "NC3"),
}
QUANTITIES = (
    Quantity("test_loss", f"loss, {HELD_OUT}", "loss (nats)", predicted=True),
    Quantity("clean_train_loss", f"loss, {CLEAN}", "loss (nats)", predicted=True),
    Quantity("test_accuracy", f"accuracy, {HELD_OUT}", "accuracy", highest=True),
    Quantity("clean_train_accuracy", f"accuracy, {CLEAN}", "accuracy", highest=True),
    Quantity("train_nc1", "NC1, training images", "NC1", log=True),
    Quantity("test_nc1", f"NC1, {HELD_OUT}", "NC1", log=True),
    Quantity("train_nc2", "NC2, training images", "NC2"),
    Quantity("train_nc3", "NC3, training images", "NC3"),
    Quantity("ece", f"ECE, {HELD_OUT} (after the last epoch)", "ECE"),
    Quantity("unlearned", "what is not yet learned of the training labels", "share"),
)


# ---- tables


def measure_course(
    runs: "pd.DataFrame", tensors: "Mapping[RunSpec, Sequence[Tensors]]"
) -> "pd.DataFrame":
    """The landscape at every measured epoch, with collapse and, where logits were kept, ECE.

    Args:
        runs: the table of `lsnc_core.runs.results`, of one data set.
        tensors: from `lsnc_core.runs.tensors`, of the same networks.

    Returns:
        pandas.DataFrame, one row per (run, epoch): data, train_size, run, epoch, a, p, seed, and
        the columns of `QUANTITIES`: losses in nats; unlearned as in `landscape_table`; NC1, NC2,
        NC3 (Guo eq. 4 to 6) of the clean classes, NaN for the p that teach no label, for the class
        means of such networks coincide; ece in [0, 1] on held-out images.
    """
    import pandas as pd

    table, M = runs.copy(), class_count(runs)
    floor = label_noise.entropy_floor(table.p.to_numpy(), M)
    table["unlearned"] = unlearned_share(table.train_loss, floor, M)
    collapse = collapse_table(tensors).pivot(index=KEYS, columns="part")
    columns = {}
    for column, (part, metric) in COLLAPSE.items():
        columns[column] = collapse[f"guo {metric}", part]
    measured = pd.DataFrame(columns).reset_index()
    table = table.merge(measured, on=KEYS, validate="one_to_one")
    table.loc[~table.index.isin(learned(table).index), list(COLLAPSE)] = np.nan
    table = table.merge(_calibration(tensors), how="left", on=KEYS, validate="one_to_one")
    return table[["data", "train_size", "run", *CELL, *(one.column for one in QUANTITIES)]]


def _calibration(tensors: "Mapping[RunSpec, Sequence[Tensors]]") -> "pd.DataFrame":
    """ECE of the epochs whose logits were kept: run, epoch, ece."""
    import pandas as pd
    import torch

    from lsnc_core import data
    from lsnc_core.metrics import ece

    names, rows = run_names(tensors), []
    for spec, epochs in tensors.items():
        for epoch, arrays in zip(spec.evaluate_at, epochs, strict=True):
            if "test_logits" in arrays:
                _, clean = data.truth(spec.data, spec.train_size, spec.test_size)
                logits = torch.from_numpy(np.array(arrays["test_logits"]))  # (N, M)
                rows.append({"run": names[spec], "epoch": epoch, "ece": ece(logits, clean)})
    return pd.DataFrame(rows)


def tabulate_cells(course: "pd.DataFrame") -> "pd.DataFrame":
    """Every cell of the grid at every epoch, for each seed and for their mean.

    Args:
        course: from `measure_course`.

    Returns:
        pandas.DataFrame with epoch, seed ("mean", "0", "1" and so on), a, p, the columns of
        `QUANTITIES` and predicted (Chen eq. 11, nats; NaN where it is infinite). It has a row for
        each combination, NaN where no network was trained, in the order of epoch, seed ("mean"
        first), a and p.
    """
    import pandas as pd

    columns = [quantity.column for quantity in QUANTITIES]
    seeds = course[[*CELL, *columns]].astype({"seed": str})
    means = seeds.groupby(["epoch", "a", "p"], as_index=False)[columns].mean()
    table = pd.concat([means.assign(seed=MEAN), seeds]).set_index(CELL)
    names = [MEAN, *(str(seed) for seed in sorted(set(course.seed)))]
    places = [sorted(set(course.epoch)), names, sorted(set(course.a)), sorted(set(course.p))]
    whole = table.reindex(pd.MultiIndex.from_product(places, names=CELL)).reset_index()
    predicted = label_noise.loss(
        "alpha", whole.a.to_numpy(), whole.p.to_numpy(), class_count(course)
    )
    whole["predicted"] = np.where(np.isfinite(predicted), predicted, np.nan)
    return whole


def tabulate_theory(rates: "list[float]", M: int) -> "pd.DataFrame":
    """Chen eq. 11 as curves over p: pandas.DataFrame with a, p and loss in nats.

    Args: rates, clean rates; M, classes.
    """
    import pandas as pd

    p = np.linspace(LOWEST_KEPT, 0.999, POINTS)
    parts = []
    for a in rates:
        parts.append(pd.DataFrame({"a": a, "p": p, "loss": label_noise.loss("alpha", a, p, M)}))
    return pd.concat(parts, ignore_index=True)


def find_limits(course: "pd.DataFrame", quantity: Quantity) -> tuple[float, float]:
    """The ends of a quantity's scale, the same for all epochs and seeds; log10 of it if it is
    logarithmic.
    """
    if quantity.predicted:
        return 0.0, loss_ceiling(course)  # as the figures' colours
    if quantity.axis in ("accuracy", "share"):
        return 0.0, 1.0
    values = course[quantity.column].to_numpy()
    values = values[np.isfinite(values)]
    if quantity.log:
        values = np.log10(values[values > 0])
        return float(np.floor(10 * values.min()) / 10), float(np.ceil(10 * values.max()) / 10)
    return 0.0, float(values.max())


# ---- the explorer


def explore_cells(
    course: "pd.DataFrame", name: str, title: str, first: str = "test_loss"
) -> Explorer:
    """The map, the curve against p and the course over epochs.

    Args:
        course: from `measure_course`.
        name, title: of the explorer.
        first: the column of the quantity that is shown first.
    """
    import altair as alt

    table = tabulate_cells(course)
    theory = tabulate_theory(sorted(set(table.a)), class_count(course))
    panels = _draw_map(table), _draw_curve(theory), _draw_course(table)
    chart = alt.hconcat(*panels, data=inline_table(table, "landscape"), spacing=18)
    for parameter in chart.params:
        parameter.views = ["cells_0"]  # Altair selects in all layers of the map, which Vega refuses
    chart = chart.add_params(*_make_parameters(course, table, first))
    chart = chart.resolve_legend(color="independent")  # beside the map
    sliders = _make_sliders(table)
    chart = with_sliders(chart, [sliders["epoch"]])
    for field, slider in (("at_a", sliders["a"]), ("at_p", sliders["p"])):
        chart.usermeta["sliders"][f"cell_{field}"] = slider.settings
    one = course.iloc[0]
    images = f"{source_of(one.data).title.split(' (')[0]}, {one.train_size:,} training images"
    return Explorer(
        name=name,
        title=f"{title}: {images}",
        text="Choose what the map shows, move through epochs and seeds, and click a cell or move a "
        "and p: the two panels beside the map show that clean rate's curve against p and that "
        "cell's course. Circles: the best p of each a; black, with the loss: Chen eq. 11, dotted "
        "its minimum.",
        alt="A map over clean rate a and kept mass p of the chosen quantity at the chosen epoch; "
        "beside it the curve against p at the chosen a, with Chen's equation 11 and its minimum at "
        "p = a where a loss is shown, and the course over epochs at the chosen cell.",
        chart=chart,
    )


# The row of the table that is chosen: rows stand in the order of epoch, seed, a, p.
CHOSEN = (
    "data('landscape')[((at_epoch * seeds.length + indexof(seeds, seed)) * rates.length"
    " + cell_at_a) * kept.length + cell_at_p]"
)
WRITTEN = "isValid({0}) ? format({0}, '.3~g') : 'not measured'"
READING = (
    "shown.name + ' at a = ' + rates[cell_at_a] + ', p = ' + kept[cell_at_p] + ', epoch '"
    " + epochs[at_epoch] + (seed === 'mean' ? ', mean over seeds: ' : ', seed ' + seed + ': ')"
    f" + ({WRITTEN.format('chosen[quantity]')})"
    f" + (shown.predicted ? '; Chen eq. 11: ' + (isValid(chosen.predicted) ?"
    " format(chosen.predicted, '.3~g') : 'infinite') : '')"
)


def _make_parameters(
    course: "pd.DataFrame", table: "pd.DataFrame", first: str
) -> "list[altair.Parameter]":
    """Controls but those of the cell, and what follows from all of them."""
    import altair as alt

    shown: dict[str, dict[str, Any]] = {}
    for quantity in QUANTITIES:
        low, high = find_limits(course, quantity)
        shown[quantity.column] = vars(quantity) | {"low": low, "high": high}
    names = [quantity.name for quantity in QUANTITIES]
    by_quantity = alt.binding_select(options=list(shown), labels=names, name="quantity")
    lists = _list_values(table)
    seeds = lists["seeds"]
    named = ["mean over seeds", *(f"seed {seed}" for seed in seeds[1:])]
    by_seed = alt.binding_select(options=seeds, labels=named, name="seed")
    return [
        alt.param(name="quantity", value=first, bind=by_quantity),
        alt.param(name="seed", value=MEAN, bind=by_seed),
        *(alt.param(name=name, value=values) for name, values in lists.items()),
        alt.param(name="shown", expr=f"({json.dumps(shown, ensure_ascii=False)})[quantity]"),
        alt.param(name="chosen", expr=CHOSEN),
        alt.param(name="reading", expr=READING),
    ]


def _list_values(table: "pd.DataFrame") -> dict[str, list]:
    """The values of each axis of the table, in its order."""
    names = {"epochs": "epoch", "seeds": "seed", "rates": "a", "kept": "p"}
    return {name: table[column].unique().tolist() for name, column in names.items()}


def _make_sliders(table: "pd.DataFrame") -> dict[str, ValueSlider]:
    """The sliders through the values of a, p and epoch; the epoch plays."""
    sliders = {}
    for column, name, label in (
        ("a", "at_a", CLEAN_RATE),
        ("p", "at_p", KEPT),
        ("epoch", "at_epoch", "measured epoch"),
    ):
        values, plays = table[column].unique(), column == "epoch"
        texts = [f"{value:g}" for value in values]
        start = len(texts) - 1 if plays else int(np.abs(values - 0.8).argmin())
        sliders[column] = ValueSlider(name, label, texts, start, plays)
    return sliders


def _select_cell(table: "pd.DataFrame") -> "altair.Parameter":
    """The chosen cell: two sliders, and a click on the map."""
    import altair as alt

    binds, start = {}, {}
    sliders = _make_sliders(table)
    for slider in (sliders["a"], sliders["p"]):
        binds[slider.name] = slider.binding
        start[slider.name] = slider.start
    # a click beside the marks would leave no cell chosen; Altair numbers the names
    marks = ", ".join(f"@{name}_0_marks:click" for name in ("cells", "best", "outline"))
    return alt.selection_point(
        name="cell", fields=list(binds), bind=binds, value=[start], on=marks, clear=False
    )


# ---- panels

DRAWN = {
    "value": "datum[quantity]",
    "drawn": "shown.log ? log(datum.value) / LN10 : datum.value",
    "at_a": "indexof(rates, datum.a)",
    "at_p": "indexof(kept, datum.p)",
}
NOW = "datum.epoch === epochs[at_epoch]"
AT_P = "datum.at_p === cell_at_p"
FINITE = "isValid(datum.drawn) && isFinite(datum.drawn)"
TICK = "shown.log ? format(pow(10, {0}), '.2~g') : format({0}, '.2~g')"
ABOVE_THE_MAP = {"color": style.PAPER, "stroke": style.INK}


def _start(*filters: str) -> "altair.Chart":
    """A chart of the rows of the chosen quantity that pass the filters."""
    import altair as alt

    chart = alt.Chart(height=HEIGHT)
    for condition in filters:
        chart = chart.transform_filter(condition)
    return chart.transform_calculate(**DRAWN).transform_filter(FINITE)


def _draw_map(table: "pd.DataFrame") -> "altair.LayerChart":
    """The quantity over (a, p), the best p of each a, and the chosen cell."""
    import altair as alt

    rates, kept = _list_values(table)["rates"], _list_values(table)["kept"]
    across = alt.X("a:O", title=CLEAN_RATE, scale=alt.Scale(domain=rates))
    upward = alt.Y("p:O", title=KEPT, scale=alt.Scale(domain=kept[::-1]))
    ends = "shown.low + {0} * (shown.high - shown.low)"
    legend = alt.Legend(
        title=None,
        values=[0, 0.25, 0.5, 0.75, 1],
        labelExpr=TICK.format(f"({ends.format('datum.value')})"),
        gradientLength=HEIGHT,
    )
    colour = alt.Color(
        "shade:Q",
        scale=alt.Scale(domain=[0, 1], scheme=style.LOSS_MAP, clamp=True),
        legend=legend,
    )
    now = _start(NOW, "datum.seed === seed")
    rows = now.transform_calculate(
        shade="(datum.drawn - shown.low) / (shown.high - shown.low)",
        rank="shown.highest ? -datum.value : datum.value",
    ).encode(x=across, y=upward)
    cells = rows.mark_rect().encode(
        color=colour,
        tooltip=[
            alt.Tooltip("a:Q", title=CLEAN_RATE),
            alt.Tooltip("p:Q", title=KEPT),
            alt.Tooltip("value:Q", title="value", format=".4~g"),
        ],
    )
    best = rows.transform_joinaggregate(least="min(rank)", groupby=["a"])
    best = best.transform_filter("datum.rank === datum.least")
    best = best.mark_point(filled=True, size=60, opacity=1, **ABOVE_THE_MAP)
    outline = rows.transform_filter(f"datum.at_a === cell_at_a && {AT_P}")
    outline = outline.mark_rect(filled=False, stroke=CHOSEN_COLOUR, strokeWidth=3)
    named = cells.properties(name="cells").add_params(_select_cell(table))
    return alt.layer(
        named, best.properties(name="best"), outline.properties(name="outline")
    ).properties(width=max(28 * len(rates), 140), title=alt.TitleParams(alt.ExprRef("shown.name")))


def _height() -> "altair.Y":
    """The axis of the chosen quantity; its name is the panel's title."""
    import altair as alt

    ends = [alt.ExprRef("shown.low"), alt.ExprRef("shown.high")]
    axis = alt.Axis(labelExpr=TICK.format("datum.value"), tickCount=5)
    scale = alt.Scale(domain=ends, nice=False, zero=False)
    return alt.Y("drawn:Q", title=None, scale=scale, axis=axis)


def _draw_lines(rows: "altair.Chart", across: "altair.X", chosen: str) -> "list[altair.Chart]":
    """Each seed's line, faint, behind their mean or the chosen seed's; the chosen point."""
    lines = rows.encode(x=across, y=_height())
    seeds = lines.transform_filter("seed === 'mean' && datum.seed !== seed")
    seeds = seeds.mark_line(clip=True, color=MEASURED, opacity=0.3, strokeWidth=1)
    main = lines.transform_filter("datum.seed === seed")
    line = main.mark_line(clip=True, color=MEASURED, point={"color": MEASURED, "size": 25})
    point = main.transform_filter(chosen).mark_point(
        clip=True, filled=True, size=110, opacity=1, color=CHOSEN_COLOUR, stroke=style.INK
    )
    return [seeds.encode(detail="seed:N"), line, point]


def _draw_curve(theory: "pd.DataFrame") -> "altair.LayerChart":
    """The quantity against p at the chosen a; for a loss Chen eq. 11 and its minimum, p = a."""
    import altair as alt

    across = alt.X("p:Q", title=KEPT, scale=alt.Scale(domain=[0, 1], padding=7))
    formula = alt.Chart(inline_table(theory, "theory")).transform_filter(
        "shown.predicted && datum.a === rates[cell_at_a]"
    )
    curve = formula.transform_calculate(drawn="datum.loss").mark_line(clip=True, color=style.INK)
    minimum = formula.transform_filter(f"datum.p === {LOWEST_KEPT}").mark_rule(
        color=style.SOFT, strokeDash=[2, 2]
    )
    lines = _draw_lines(_start(NOW, "datum.a === rates[cell_at_a]"), across, AT_P)
    layers = [minimum.encode(x=alt.X("a:Q")), curve.encode(x=across, y=_height()), *lines]
    title = "shown.axis + ' at a = ' + rates[cell_at_a]"
    return alt.layer(*layers).properties(width=210, title=alt.TitleParams(alt.ExprRef(title)))


def _draw_course(table: "pd.DataFrame") -> "altair.LayerChart":
    """The quantity against the epoch at the chosen cell; for a loss, Chen eq. 11."""
    import altair as alt

    epochs = _list_values(table)["epochs"]
    scale = alt.Scale(type="log", domain=[epochs[0], epochs[-1]], nice=False, padding=7)
    axis = alt.Axis(values=epochs, format="d", labelOverlap=True, labelSeparation=4)
    across = alt.X("epoch:Q", title="epoch", scale=scale, axis=axis)
    cell = "datum.a === rates[cell_at_a] && datum.p === kept[cell_at_p]"
    rows = _start(cell)
    predicted = rows.transform_filter(
        "shown.predicted && datum.seed === seed && isValid(datum.predicted)"
    )
    predicted = predicted.mark_line(clip=True, color=style.INK)
    lines = _draw_lines(rows, across, NOW)
    layers = [predicted.encode(x=across, y=alt.Y("predicted:Q")), *lines]
    title = "shown.axis + ' at a = ' + rates[cell_at_a] + ', p = ' + kept[cell_at_p]"
    return alt.layer(*layers).properties(width=210, title=alt.TitleParams(alt.ExprRef(title)))
