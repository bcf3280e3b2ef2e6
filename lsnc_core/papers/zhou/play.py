"""Zhou et al. 2022: the collapse of stored networks under four losses as training goes on."""

import json
from typing import TYPE_CHECKING

from lsnc_core.papers.zhou.drawing import NAMES
from lsnc_core.papers.zhou.networks import LOSSES
from lsnc_core.show import Explorer, style
from lsnc_core.show.controls import ValueSlider, with_sliders
from lsnc_core.show.panels import seed_intervals
from lsnc_core.show.playback import NOW, play_curves

if TYPE_CHECKING:
    import pandas as pd

METRICS = {"NC1": "NC1", "NC2": "NC2", "NC3": "NC3"}
ACCURACY = {
    "train_accuracy": "training accuracy (percent)",
    "test_accuracy": "test accuracy (percent)",
}
MEAN = "mean"


def tabulate_losses(collapse: "pd.DataFrame") -> "pd.DataFrame":
    """NC1 to NC3 and accuracies by loss and measured epoch, of each seed and over all.

    Means over seeds are those of Z1: of logarithms for NC1 to NC3, and none where a seed has no
    value.

    Args:
        collapse: from `collapse.collapse_table`, of networks trained for equally long.

    Returns:
        pandas.DataFrame with loss, curve (the loss's name), setting (0 for the mean, then the
        number of the seed from 1 on), now (the number of the epoch), time (the epoch), NC1, NC2,
        NC3, train_accuracy and test_accuracy; NaN where there is none.
    """
    import pandas as pd

    seeds, epochs = sorted(set(collapse.seed)), sorted(set(collapse.epoch))
    parts = []
    for loss in LOSSES:
        rows = collapse[collapse.loss == loss]
        means = {}
        for column in (*METRICS, *ACCURACY):
            wide = rows.pivot(index="seed", columns="epoch", values=column)
            means[column] = seed_intervals(wide, log=column in METRICS)["mean"]
        over_seeds = pd.DataFrame(means).reindex(epochs).rename_axis("epoch").reset_index()
        each = rows[["epoch", *METRICS, *ACCURACY]]
        number = rows.seed.map(seeds.index) + 1
        both = pd.concat([over_seeds.assign(setting=0), each.assign(setting=number)])
        parts.append(both.assign(loss=loss, curve=NAMES[loss]))
    table = pd.concat(parts, ignore_index=True).rename(columns={"epoch": "time"})
    table["now"] = table.time.map(epochs.index)
    return table


def explore_losses(collapse: "pd.DataFrame") -> Explorer:
    """Play training and watch the collapse under four losses.

    Args:
        collapse: as for `tabulate_losses`.
    """
    import altair as alt

    table = tabulate_losses(collapse)
    times, seeds = sorted(set(table.time)), sorted(set(collapse.seed))
    chart = play_curves(
        table,
        METRICS | ACCURACY,
        {NAMES[loss]: style.method(loss) for loss in LOSSES},
        "epoch",
        chosen="datum.setting == seed",
        linear=tuple(ACCURACY),
        path=("NC1", "NC2"),
    )
    names = [MEAN, *map(str, seeds)]
    bind = alt.binding_select(options=list(range(len(names))), labels=names, name="seed")
    reading = alt.param(name="reading", expr=f"{_describe(table)}[seed][{NOW}]")
    chart = chart.add_params(alt.param(name="seed", value=0, bind=bind), reading)
    epochs = ValueSlider(NOW, "epoch", list(map(str, times)), len(times) - 1, plays=True)
    return Explorer(
        "zhou-losses-explorer",
        "Four losses collapse, played",
        "Press Play, or move the epoch, and see in which order NC1, NC2 and NC3 fall under each "
        "loss, if they do; choose one seed to see how much single networks differ.",
        "Panels of NC1, NC2 and NC3 of training images and of training and test accuracy against "
        "the epoch and of NC2 against NC1, a curve for each of four losses.",
        with_sliders(chart, [epochs]),
    )


def _describe(table: "pd.DataFrame") -> str:
    """NC1 to NC3 of the losses in words, as a nested array by setting and epoch."""
    by = table.set_index(["setting", "now", "loss"])
    nested = []
    for setting in sorted(set(table.setting)):
        texts = []
        for now, time in enumerate(sorted(set(table.time))):
            parts = []
            for metric in METRICS:
                values = [f"{by.loc[(setting, now, loss), metric]:.2g} ({loss})" for loss in LOSSES]
                parts.append(f"{metric} {', '.join(values)}")
            texts.append(f"Epoch {time}: {'; '.join(parts)}.")
        nested.append(texts)
    return json.dumps(nested, ensure_ascii=False)
