"""Panels and captions of the figures about networks trained under any label noise (Chen, Ziyin et
al. 2020, sections 4.1 and 6.2).
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lsnc_core.papers.chen.grid import rate_name
from lsnc_core.papers.chen.noise_networks import COMPARED, matrix_of
from lsnc_core.papers.chen.noise_tables import SMOOTHED, losses_by_way, rates_of, ways_by_noise
from lsnc_core.show import Drawing, figure, style
from lsnc_core.show.panels import draw_points

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

WAY_NAMES = {
    "none": "no smoothing",
    "mean field": "label smoothing, mean field",
    "posterior": "smoothing by S*",
    "forward": "forward correction, f",
    "logit": "logit smoothing",
}
# The objectives of Chen eq. 18 and 19, columns of `objective_table`.
OBJECTIVES = {
    "smoothing": "label smoothing",
    "forward": "forward correction",
    "logit": "logit smoothing",
}
GENERAL_WAYS = ("none", "mean field", "posterior", "forward")  # those of the first figure


def name_way(way: str) -> str:
    """A way to train in a text, without what tells the marks of a figure apart."""
    return WAY_NAMES[way].partition(",")[0]


def way_look(way: str) -> dict[str, str]:
    """The mark and the colour of a way to train, or of the objective of that name."""
    key = style.method_key(way)
    return {"fmt": style.MARKS[key], "color": style.METHODS[key]}


def draw_ways(panel: "Axes", networks: "pd.DataFrame", column: str, noises: list[str]) -> None:
    """Losses at one clean rate against the noise, side by side for each way."""
    for number, way in enumerate(GENERAL_WAYS):
        part = networks[networks.way == way]
        curves = part.pivot(index="seed", columns="noise", values=column)
        curves = curves[[noise for noise in noises if noise in curves]]
        predicted = part.groupby("noise").predicted.first()[list(curves)]
        curves.columns = [noises.index(noise) + 0.14 * (number - 1.5) for noise in curves]
        draw_points(panel, curves, log=True, label=WAY_NAMES[way], **way_look(way))
        finite = np.isfinite(predicted.to_numpy())
        panel.plot(curves.columns[finite], predicted[finite], "_", color=style.INK, ms=12, mew=1.6)
    panel.set_yscale("log")
    panel.set_xticks(range(len(noises)), [Path(noise).name for noise in noises])


def draw_objectives(panel: "Axes", objectives: "pd.DataFrame") -> None:
    """Minus log-likelihoods at one clean rate by way of training, side by side."""
    ways = list(COMPARED["symmetric"])
    for number, (name, label) in enumerate(OBJECTIVES.items()):
        curves = -objectives.pivot(index="seed", columns="way", values=name)[ways]
        curves.columns = [position + 0.16 * (number - 1) for position in range(len(ways))]
        # log-likelihoods near 0 need a logarithmic axis
        draw_points(panel, curves.clip(lower=1e-4), log=True, label=label, **way_look(name))
    panel.set_xticks(range(len(ways)), ["none", "label", "forward", "logit"])
    panel.set(yscale="log", ylim=(1e-4, None), xlabel="network trained by")
    panel.set_ylabel("−log-likelihood (nats)")


@figure(
    "chen-noise-matrices",
    title="The noise matrices",
    paper="no such figure; section 4.1 writes a general T without an example.",
    alt="A heat map of the noise matrix for each noise, classes across and labels down.",
)
def draw_noise_matrices(networks: "pd.DataFrame") -> Drawing:
    """T of every noise, at its highest clean rate.

    Args: networks, from `noise_tables.network_table`.
    """
    import matplotlib.pyplot as plt
    import pandas as pd
    from matplotlib.colors import LogNorm

    noises = list(networks.noise.unique())
    size = {"figsize": (style.WIDTH, 3.5), "squeeze": False, "sharey": True}
    drawing, (panels,) = plt.subplots(1, len(noises), layout="constrained", **size)
    tables, phrases, largest = [], [], []
    for panel, noise in zip(panels, noises, strict=True):
        a = rates_of(networks, noise)[-1]
        T = matrix_of(noise, a, networks.data.iloc[0])
        image = panel.imshow(np.ma.masked_equal(T, 0), cmap=style.LOSS_MAP, norm=LogNorm(1e-3, 1))
        panel.set(title=f"{Path(noise).name}\nnoise rate {1 - a:.1%}", xlabel="class")
        label, clean = (axis.ravel() for axis in np.indices(T.shape))
        cells = {"class": clean, "label": label, "probability": T.ravel()}
        tables.append(pd.DataFrame({"noise": noise, "a": a} | cells))
        away = T - np.diag(T.diagonal())
        to, start = np.unravel_index(away.argmax(), T.shape)
        words = f"{away[to, start]:.1%} of class {start} are {to}, under {Path(noise).name} noise"
        largest.append((away[to, start], words))
        often = f"most often {start} as {to}, {away[to, start]:.1%}"
        phrases.append(f"{Path(noise).name}: {1 - a:.1%} of the labels wrong, {often}")
    panels[0].set_ylabel("label")
    drawing.colorbar(image, ax=list(panels), label="probability", location="bottom", shrink=0.5)
    _, words = max(largest)
    caption = (
        f"The most frequent wrong label: {words}. A column shows how the labels of a class "
        "are distributed: off the diagonal are the wrong ones. Columns sum to 1; white is 0, the "
        "colours are logarithmic. "
    )
    return Drawing(drawing, f"{caption}{'; '.join(phrases)}.", pd.concat(tables))


def describe_best_ways(networks: "pd.DataFrame") -> str:
    """The way of lowest loss on held-out images under each noise at its highest clean rate, in a
    sentence; means over seeds of logarithms, as they are drawn.
    """
    best: dict[str, list[str]] = {}
    for noise in ways_by_noise(networks):
        losses = losses_by_way(networks, noise, rates_of(networks, noise)[-1], "test_loss")
        means = np.log(losses).mean()
        name = WAY_NAMES[means.idxmin()] if means.notna().any() else "no way: all have diverged"
        best.setdefault(name, []).append(Path(noise).name)
    phrases = [f"under {', '.join(noises)} noise with {name}" for name, noises in best.items()]
    return f"At the highest a, the held-out loss is lowest {'; '.join(phrases)}."


def describe_losses(networks: "pd.DataFrame") -> str:
    """Losses on held-out images by noise and way at its highest clean rate, in a sentence."""
    phrases, usual = [], rates_of(networks, "symmetric")[-1]
    for noise, ways in ways_by_noise(networks).items():
        a = rates_of(networks, noise)[-1]
        means = losses_by_way(networks, noise, a, "test_loss").mean()
        losses = ", ".join(f"{means[way]:.2f} ({name_way(way)})" for way in ways)
        at = "" if a == usual else f" at {rate_name(a)}"
        phrases.append(f"{Path(noise).name}{at}: {losses}")
    return (
        f"Held-out images, a = {usual:g}: {'; '.join(phrases)}; "
        f"{int(networks.memorised.sum())} of {len(networks)} networks have memorised."
    )


def describe_lowest_way(history: "pd.DataFrame") -> str:
    """The way whose test loss is lowest after the last epoch, mean over seeds, in a sentence.

    Args: history, the rows of one noise and clean rate.
    """
    ends = history[history.epoch == history.epoch.max()]
    means = ends.groupby("way", sort=False).test_loss.mean()
    if means.isna().all():
        return f"All of {len(means)} ways to train have diverged."
    return (
        f"Of {len(means)} ways to train, the one whose softmax(z) has the lowest test loss at the "
        f"end, {means.min():.2f} nats, is {WAY_NAMES[means.idxmin()]}."
    )


def describe_outputs(networks: "pd.DataFrame") -> str:
    """The two outputs of forward correction and of logit smoothing under symmetric noise, in
    numbers.
    """
    phrases = []
    for a, part in networks[networks.noise == "symmetric"].groupby("a"):
        columns = ["test_loss", "corrected_test", "test_accuracy", "unlearned"]
        means = part.groupby("way")[columns].mean()
        forward, logit, smoothed = means.loc["forward"], means.loc["logit"], means.loc["mean field"]
        phrases.append(
            f"a = {a:g}: held-out loss {smoothed.test_loss:.2f} with label smoothing, "
            f"{forward.test_loss:.2f} of f and {forward.corrected_test:.2f} of T f with forward "
            f"correction, {logit.test_loss:.2f} of softmax(z) and {logit.corrected_test:.2f} of "
            f"softmax(S z) with logit smoothing; accuracy {smoothed.test_accuracy:.2f}, "
            f"{forward.test_accuracy:.2f}, {logit.test_accuracy:.2f}; forward correction ends "
            f"{forward.unlearned:.0%} of what there is to learn above the loss of memorised labels"
        )
    return "; ".join(phrases) + "."


def describe_gaps(gaps: "pd.DataFrame") -> str:
    """Mean gaps after the first and the last epoch by way, and the least of all, in numbers."""
    first, last = gaps.epoch.min(), gaps.epoch.max()
    phrases = []
    for a, part in gaps.groupby("a"):
        means = part.groupby(["way", "epoch"]).gap.mean()
        ends = ", ".join(
            f"{means[way, first]:.3f} and {means[way, last]:.3f} ({name})"
            for way, name in SMOOTHED.items()
        )
        phrases.append(f"a = {a:g}: {ends}")
    least = f"the least of {len(gaps)} gaps, one a network and epoch, is {gaps.gap.min():.2g}"
    return f"After epochs {first} and {last}, nats: {'; '.join(phrases)}; {least}."
