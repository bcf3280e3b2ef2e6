"""Chen, Ziyin et al. 2020: the table of the a-p landscape, and the claims C1, C2 and C17 about it.

a is the clean rate of the training labels, p the kept mass of the smoothed label, M the number of
classes. Losses in nats.
"""

from pathlib import Path

import numpy as np

from lsnc_core.data_sources import source_of
from lsnc_core.papers import claims
from lsnc_core.papers.chen_claims import (
    C1_RANGE,
    C1_STEP,
    C1_TOLERANCE,
    C2_ERROR,
    C2_RANGE,
    C2_RANK,
    CLAIMS,
    LEARNS_FROM,
    MEMORISED,
)
from lsnc_core.papers.chen_minima import argmins, minima
from lsnc_core.papers.claims import Case, Verdict
from lsnc_core.theory import label_noise

NO_CIFAR = f"{claims.NOT_TRAINED}; what would decide it: CIFAR-10 and four seeds of its landscape, profile paper"
PROTOCOLS = {"test_loss": "held-out images", "clean_train_loss": "training images, clean labels"}


def verdict_c1(table, column: str) -> Verdict:
    """C1 on trained networks: the argmin's interval against a - 0.1 ... a + 0.1 at each clean rate
    with four seeds or more.
    """
    grid = np.unique(table.p)
    step = np.diff(grid[grid >= C1_RANGE[0] - C1_TOLERANCE]).max(initial=0)
    found = minima(table, column)
    found = found[found.a.between(*C1_RANGE)]
    cases = []
    for row in found[found.seeds >= claims.MIN_SEEDS].itertuples():
        if np.isfinite(row.low):
            outcome = claims.decide(row.low, row.high, row.a - C1_TOLERANCE, row.a + C1_TOLERANCE)
            cases.append(
                case(
                    row.a,
                    f"lowest at p = {row.argmin:.2f} [{row.low:.2f}, {row.high:.2f}]",
                    outcome,
                    row.memorised,
                )
            )
        else:
            cases.append(case(row.a, "a loss is missing or not finite", claims.UNDECIDED))
    single = found[found.seeds < claims.MIN_SEEDS]
    near = int(((single.argmin - single.a).abs() <= C1_TOLERANCE).sum())
    remarks = (
        [f"without an interval, {near} of {len(single)} other clean rates within {C1_TOLERANCE}"]
        if len(single)
        else []
    )
    remarks += (
        [f"on a grid with steps up to {step:.2g}, not {C1_STEP}"] if step > C1_STEP + 1e-9 else []
    )
    return claims.over_cases(
        CLAIMS["C1"],
        where(table, PROTOCOLS[column]),
        cases,
        "; ".join(remarks),
        decider(table, cases),
    )


def verdict_c2(table, column: str, predicted: str = "predicted") -> Verdict:
    """C2 on trained networks; `predicted` may be "predicted_as_drawn"."""
    cases = formula_cases(table, column, predicted)
    drawn = ", formula at the share of clean labels as drawn" if predicted != "predicted" else ""
    return claims.over_cases(
        CLAIMS["C2"], where(table, PROTOCOLS[column]) + drawn, cases, decider=decider(table, cases)
    )


def verdicts(table, cifar=None) -> list[Verdict]:
    """C1, C2 and C17 on the landscape, the first two on CIFAR-10's too, which None says was not
    trained here.
    """
    found = [verdict(table, column) for verdict in (verdict_c1, verdict_c2) for column in PROTOCOLS]
    found.append(verdict_c2(table, "clean_train_loss", "predicted_as_drawn"))
    found += [verdict_c17(table, column) for column in PROTOCOLS]
    if cifar is not None:
        found += [
            verdict(cifar, column) for verdict in (verdict_c1, verdict_c2) for column in PROTOCOLS
        ]
    elif table.data.iloc[0] != "cifar10":
        found += [
            Verdict(CLAIMS[name], "Held-out images of cifar10", NO_CIFAR, claims.UNDECIDED)
            for name in ("C1", "C2")
        ]
    return found


def seen(table) -> str:
    """What a landscape shows, in a sentence of numbers: how many networks, whether they memorised,
    the sign of the residual.
    """
    size = f"{len(table)} networks on {source_of(table.data.iloc[0]).title}"
    fitted = f"{int(table.memorised.sum())} of them have memorised their labels (training loss within {MEMORISED} nats of its floor)"
    low, high = C2_RANGE
    inside = table[table.p.between(low, high)]
    residuals = []
    for column, place in PROTOCOLS.items():
        by_rate = (inside[column] - inside.predicted).groupby(inside.a).mean()
        residuals.append(
            f"{place}: "
            + ", ".join(f"{residual:+.2f} at a = {a:g}" for a, residual in by_rate.items())
        )
    return f"{size}; {fitted}. Mean of measured minus predicted for p from {low} to {high} in nats; {'; '.join(residuals)}."


def nearest_theory(table):
    """Which assumption's best p lies closest to the measured minima, over the clean rates that have
    four seeds or more.

    Returns:
        pandas.DataFrame with rows alpha, beta, gamma (mean distance over clean rates and seeds),
        "gamma - alpha" and "gamma - beta" (the paired differences), columns mean, low, high for
        each protocol, as a two-level index. The intervals are 95 % t-intervals over seeds; those of
        the differences are widened by what a minimum that is a bare grid point leaves open, half a
        step to each side.
    """
    import pandas as pd

    M = source_of(table.data.iloc[0]).num_classes
    enough = with_seeds(table)
    found = {}
    for column, place in PROTOCOLS.items():
        curves = [
            part.pivot(index="seed", columns="p", values=column) for _, part in enough.groupby("a")
        ]
        lowest, below, above = (
            np.array(part) for part in zip(*(argmins(each) for each in curves), strict=True)
        )  # (rates, seeds)
        best = {
            kind: label_noise.optimum(kind, np.unique(enough.a), M)[:, None]
            for kind in label_noise.KINDS
        }
        rows = {
            kind: claims.t_interval(np.nanmean(np.abs(lowest - p), axis=0))
            for kind, p in best.items()
        }
        for kind in ("alpha", "beta"):
            # |x - p| - |x - q| is monotone in x: the ends of what is left open are the ends of the
            # difference
            ends = [
                np.abs(x - best["gamma"]) - np.abs(x - best[kind])
                for x in (lowest, lowest - below, lowest + above)
            ]
            least, most = (
                np.nanmean(each) - np.nanmean(ends[0])
                for each in (np.minimum(*ends[1:]), np.maximum(*ends[1:]))
            )
            mean, low, high = claims.t_interval(np.nanmean(ends[0], axis=0))
            rows[f"gamma - {kind}"] = mean, low + least, high + most
        found[place] = pd.DataFrame(rows, index=["mean", "low", "high"]).T
    return pd.concat(found, axis=1)


def verdict_c17(table, column: str) -> Verdict:
    """C17: distance of the measured minima to gamma's best p minus that to alpha's and to beta's,
    paired by seed.
    """
    enough, cases = with_seeds(table), []
    if len(enough):
        nearest = nearest_theory(table)[PROTOCOLS[column]]
        for name in ("gamma - alpha", "gamma - beta"):
            mean, low, high = nearest.loc[name]
            said = f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
            cases.append(
                case(
                    name.replace("-", "−"),
                    said,
                    claims.decide(low, high, at_most=0.0),
                    bool(enough.memorised.all()),
                )
            )
    return claims.over_cases(
        CLAIMS["C17"], where(table, PROTOCOLS[column]), cases, "", decider(enough, cases)
    )


def held_out(table) -> str:
    """Why held-out images differ from memorised ones, in numbers: how often the networks are right
    on them, by clean rate.
    """
    above = table[table.p > 1 / source_of(table.data.iloc[0]).num_classes]
    rates = above.groupby("a").test_accuracy.mean()
    said = ", ".join(f"{accuracy:.2f} at a = {a:g}" for a, accuracy in rates.items())
    return (
        "The formula takes every image for memorised: right with probability a, and the output exactly the smoothed label. "
        f"On held-out images the networks are right with frequency {said} (mean over p above 1/M and seeds)."
    )


def by_size(runs):
    """The landscape's table at several numbers of training images, with what the accuracy on
    held-out images would explain.

    Args: runs, the table of `lsnc_core.runs.results` for `chen.size_runs` and the landscape's
    networks like them.

    Returns:
        pandas.DataFrame as `landscape_table`, with residual and train_residual (measured minus
        predicted on held-out and on training images) and accuracy_residual (eq. 11 with the
        held-out accuracy for the clean rate, minus predicted), in nats.
    """
    table = landscape_table(runs)
    M = source_of(table.data.iloc[0]).num_classes
    table["residual"] = table.test_loss - table.predicted
    table["train_residual"] = table.clean_train_loss - table.predicted
    table["accuracy_residual"] = (
        label_noise.loss("alpha", table.test_accuracy.to_numpy(), table.p.to_numpy(), M)
        - table.predicted
    )
    return table


def size_seen(table) -> str:
    """Measured minus predicted by number of training images, in a sentence of numbers; `table` from
    `by_size`.
    """
    said = []
    for (size, p), part in table.groupby(["train_size", "p"]):
        low_high = ""
        if len(part) >= claims.MIN_SEEDS and np.isfinite(part.residual).all():
            _, low, high = claims.t_interval(part.residual)
            low_high = f" [{low:+.2f}, {high:+.2f}]"
        said.append(
            f"{part.residual.mean():+.2f}{low_high} with {size} images at p = {p:g} (right with frequency {part.test_accuracy.mean():.2f})"
        )
    rough = int((~table.memorised).sum())
    note = f" {rough} of {len(table)} networks have not memorised their labels." if rough else ""
    return f"held-out images, measured minus predicted in nats at a = {table.a.iloc[0]:g}: {'; '.join(said)}.{note}"


@styled
def figure_5(table: pd.DataFrame) -> Figure:
    """Theory and measurement over the (a, p) grid, the lowest p of each a marked; one colour scale
    for all panels.
    """
    figure, panels = plt.subplots(1, 3, figsize=(11, 4.6), sharey=True, layout="constrained")
    # pcolormesh leaves infinite cells blank; they belong above the top of the scale
    theory = np.minimum(means(table, "predicted"), 1e3)
    across, rates, kept = (
        np.arange(len(theory.columns)),
        theory.columns.to_numpy(),
        theory.index.to_numpy(),
    )
    mark = {"color": "white", "mec": "black", "ms": 7}
    colours = {"cmap": LOSS_MAP, "vmin": 0, "vmax": top(table)}
    image = heat(panels[0], theory, rough_cells(table) & False, **colours)
    panels[0].plot(across, position(kept, rates), "o", **mark)
    panels[0].set(title="theory, equation 11, in these cells", ylabel=KEPT)
    for panel, (column, where) in zip(panels[1:], chen_landscape.PROTOCOLS.items(), strict=True):
        heat(panel, means(table, column), rough_cells(table), **colours)
        found = chen_minima.minima(table, column)
        panel.vlines(
            across, position(kept, found.low), position(kept, found.high), color="white", lw=2
        )
        panel.plot(across, position(kept, found.argmin), "o", **mark)
        panel.set_title(f"measured: {where}")
    figure.colorbar(image, ax=panels, extend="max", label="test loss (nats)")
    return figure


@styled
def figure_5_residual(table: pd.DataFrame) -> Figure:
    """Measured minus predicted loss over the (a, p) grid, p = 1 left out where the prediction is
    infinite.
    """
    figure, panels = plt.subplots(1, 2, figsize=(8.6, 4.4), sharey=True, layout="constrained")
    finite = table[np.isfinite(table.predicted)]
    rough = rough_cells(finite)
    for panel, (column, title) in zip(panels, chen_landscape.PROTOCOLS.items(), strict=True):
        grid = means(finite.assign(residual=finite[column] - finite.predicted), "residual")
        image = heat(panel, grid, rough.reindex_like(grid), cmap=RESIDUAL_MAP, vmin=-1, vmax=1)
        panel.set_title(title)
    panels[0].set_ylabel(KEPT)
    figure.colorbar(image, ax=panels, extend="both", label="measured - predicted (nats)")
    return figure


@styled
def figure_6(table: pd.DataFrame, rates: tuple[float, ...]) -> Figure:
    """Slices at fixed a: the formula as a line, measured means with 95 % intervals over seeds.

    Raises:
        UsageError: for a clean rate that the table does not have.
    """
    M = source_of(table.data.iloc[0]).num_classes
    check_rates(table, rates)
    figure, panels = plt.subplots(
        1,
        len(rates),
        figsize=(4.6 * len(rates) + 0.4, 4),
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    markers = dict(zip(chen_landscape.PROTOCOLS, ("o", "s"), strict=True))
    for panel, a in zip(panels[0], rates, strict=True):
        p = np.linspace(0.02, 0.999, 400)
        panel.plot(
            p, label_noise.loss("alpha", a, p, M), color="black", lw=1.6, label="theory, eq. 11"
        )
        panel.axvline(a, color="grey", lw=0.8, ls=":", label="predicted best p = a")
        for colour, (column, where) in zip(COLOURS, chen_landscape.PROTOCOLS.items(), strict=False):
            curves = table[table.a == a].pivot(index="seed", columns="p", values=column)
            seed_points(
                panel, curves, fmt=markers[column], color=colour, ms=5, label=f"measured: {where}"
            )
        panel.set(
            xlabel=KEPT, title=slice_title(table, a), xlim=(0, 1.02), ylim=(0, top(table) + 1)
        )
    panels[0][0].set_ylabel("test loss (nats); formula infinite at p = 1")
    panels[0][-1].legend(frameon=False, fontsize="small", loc="upper left")
    return figure


@styled
def size_residual(table: pd.DataFrame) -> Figure:
    """Measured minus predicted loss against the number of training images, a panel for each p;
    `table` from `chen_landscape.by_size`.
    """
    kept = sorted(set(table.p))
    figure, panels = plt.subplots(
        1,
        len(kept),
        figsize=(4.6 * len(kept) + 0.4, 4),
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    looks = (
        ("residual", "o-", "measured: held-out images"),
        ("train_residual", "s-", "measured: training images, clean labels"),
        ("accuracy_residual", "^:", "eq. 11 at the held-out accuracy instead of a"),
    )
    for panel, p in zip(panels[0], kept, strict=True):
        panel.axhline(0, color="black", lw=0.8)
        for colour, (column, mark, label) in zip(COLOURS, looks, strict=False):
            curves = table[table.p == p].pivot(index="seed", columns="train_size", values=column)
            seed_points(panel, curves, fmt=mark, color=colour, lw=1, ms=5, label=label)
        sizes = sorted(set(table.train_size))
        panel.set(
            xscale="log", xlabel="training images", title=f"a = {table.a.iloc[0]:g}, p = {p:g}"
        )
        panel.set_xticks(sizes, [f"{size:,}" for size in sizes])
        panel.minorticks_off()
    panels[0][0].set_ylabel("measured minus predicted (nats)")
    figure.legend(
        *panels[0][0].get_legend_handles_labels(),
        frameon=False,
        fontsize="small",
        ncols=3,
        loc="outside lower center",
    )
    return figure
