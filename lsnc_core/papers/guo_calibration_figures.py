"""Guo et al. 2025, deep networks: figures of calibration over the smoothing strength (F3), in bins
(F4) and over training (F5).
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lsnc_core.papers import guo_calibration, guo_collapse
from lsnc_core.papers.guo_deep_figures import STRENGTH, bars, by_data, curve, shared_legend
from lsnc_core.papers.style import COLOURS, styled


@styled
def against_strength(table: pd.DataFrame) -> Figure:
    """F3: ECE before and after scaling (left), norms and optimal temperature (right) against the
    strength.

    Table: `guo_calibration.scaled`.
    """
    parts = by_data(table[table.loss == "ce"])
    figure, panels = plt.subplots(
        len(parts), 2, figsize=(10.5, 3.8 * len(parts) + 0.2), layout="constrained", squeeze=False
    )
    for (left, right), (title, part) in zip(panels, parts, strict=True):
        fits = [part[part.fit == how] for how in guo_calibration.FITS]
        bars(left, fits[0], "ece", fmt="o-", color=COLOURS[0], label="before scaling")
        temperature = right.twinx()
        for number, fit in enumerate(fits):
            look = {"fmt": ("s--", "^:")[number], "color": COLOURS[1 + number]}
            bars(left, fit, "ece_scaled", label=f"after: T from {fit.fit.iloc[0]}", **look)
            bars(temperature, fit, "T", label=f"T* from {fit.fit.iloc[0]} (right)", **look)
        for number, (column, name) in enumerate(
            (("w_norm", r"$\|w_k\|$"), ("h_norm", r"$\|\mu_k - \mu_G\|$"))
        ):
            bars(
                right,
                fits[0],
                column,
                fmt=("D-", "v-")[number],
                color=("black", "grey")[number],
                label=f"{name} (left)",
            )
        temperature.axhline(1, color=COLOURS[1], lw=0.8)
        left.set(xlabel=STRENGTH, ylabel="ECE on test images, 20 bins", title=title, ylim=(0, None))
        # room for the legend above the curves
        right.set(
            xlabel=STRENGTH, ylabel="mean norm over classes", ylim=(0, 1.7 * right.get_ylim()[1])
        )
        temperature.set(ylabel="optimal temperature T*", ylim=(0, 1.7 * temperature.get_ylim()[1]))
        left.legend(frameon=False, fontsize="small")
        shared_legend(right, temperature, fontsize="x-small", loc="upper right")
    return figure


@styled
def reliability(table: pd.DataFrame) -> Figure:
    """F4: accuracy of each bin with its gap to the confidence (above), share of the images in it
    (below).

    Table: `guo_calibration.reliability`.
    """
    cases = list(dict.fromkeys(zip(table.arm, table.scaled, strict=True)))
    figure, panels = plt.subplots(
        2,
        len(cases),
        figsize=(3 * len(cases), 4.6),
        layout="constrained",
        sharex=True,
        sharey="row",
        height_ratios=(2.4, 1),
        squeeze=False,
    )
    for (above, below), (arm, scaled) in zip(panels.T, cases, strict=True):
        bins = table[(table.arm == arm) & (table.scaled == scaled)]
        there = bins[bins.share > 0]
        width = (there.upper - there.lower).to_numpy()
        above.bar(
            there.lower,
            there.accuracy,
            width,
            align="edge",
            color=COLOURS[0],
            edgecolor="white",
            label="accuracy",
        )
        above.bar(
            there.lower, there.confidence - there.accuracy, width, bottom=there.accuracy, align="edge", color="none", edgecolor=COLOURS[3],
            hatch="////", lw=0.6, label="gap to the confidence",
        )  # fmt: skip
        above.plot([0, 1], [0, 1], color="grey", lw=0.9, ls="--")
        below.bar(
            bins.lower,
            100 * bins.share,
            bins.upper - bins.lower,
            align="edge",
            color="grey",
            edgecolor="white",
        )
        above.set(
            title=f"{arm}, {'scaled' if scaled else 'as trained'}\nECE {bins.ece.iloc[0]:.4f}",
            xlim=(0, 1),
            ylim=(0, 1),
        )
        below.set_xlabel("confidence")
    panels[0][0].set_ylabel("accuracy in the bin")
    panels[1][0].set_ylabel("% of test images")
    panels[0][0].legend(frameon=False, fontsize="small", loc="upper left")
    return figure


_LOSSES = {
    "loss_all": "loss, all",
    "loss_correct": "loss, right",
    "loss_wrong": "loss, wrong",
    "entropy_correct": "entropy, right",
    "entropy_wrong": "entropy, wrong",
}
_NC1 = {
    "nc1": "training, by label",
    "nc1_all": "test, by prediction",
    "nc1_correct": "test, right",
    "nc1_wrong": "test, wrong",
}
_ERRORS = {
    "train_error": "training error",
    "test_error": "test error",
    "ece": "ECE as trained",
    "ece_scaled": "ECE scaled",
}
_PANELS = {"loss, entropy (nats)": _LOSSES, "NC1": _NC1, "error rate, ECE": _ERRORS}
_DASHES = ("-", "--", "-.", ":", (0, (5, 1)))


@styled
def over_epochs(table: pd.DataFrame) -> Figure:
    """F5: loss and entropy of right and wrong predictions, NC1 of each, errors and ECE against
    epoch; a row per arm, scales shared.

    Table: `guo_calibration.over_epochs` of one image set.
    """
    arms = list(dict.fromkeys(guo_collapse.pair(table).arm))
    figure, panels = plt.subplots(
        len(arms),
        3,
        figsize=(12, 3.3 * len(arms) + 0.2),
        layout="constrained",
        sharey="col",
        squeeze=False,
    )
    for row, arm in zip(panels, arms, strict=True):
        run = table[table.arm == arm]
        for panel, (name, curves) in zip(row, _PANELS.items(), strict=True):
            for number, (column, label) in enumerate(curves.items()):
                curve(
                    panel,
                    run,
                    column,
                    color=COLOURS[number],
                    ls=_DASHES[number],
                    lw=1.6,
                    label=label,
                )
            panel.set(xlabel="epoch", ylabel=name, title=arm)
        row[0].set_ylim(0, None)
        row[1].set_yscale("log")
        row[2].set_ylim(0, min(0.25, 1.1 * np.nanmax(table[[*_ERRORS]].to_numpy())))
    for panel in panels[-1]:
        panel.legend(
            frameon=False,
            fontsize="small",
            loc="upper center",
            bbox_to_anchor=(0.5, -0.22),
            ncols=2,
        )
    return figure
