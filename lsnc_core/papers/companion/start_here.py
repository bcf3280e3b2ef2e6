"""Where to start: every notebook on one map, what is measured, and the two conventions of smoothing
converted.

Figures: three classes collapse in the feature model, computed; a reliability diagram of made-up
numbers.
"""

from typing import TYPE_CHECKING

import numpy as np

from lsnc_core import labels, papers, profiles
from lsnc_core.papers.guo.model import dynamics_model
from lsnc_core.papers.page import Page
from lsnc_core.show import Drawing, Link, Table, figure, style
from lsnc_core.theory import ufm_dynamics, ufm_objective
from lsnc_core.theory.ufm import Loss

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

PAGE = Page(
    title="Start here",
    shows="map, definitions of NC1 to NC3, ECE and the feature model, symbols, how to read a "
    "verdict",
    minutes={"quick": 0.2},
)


# ---- tables

KEPT_MASSES = (1.0, 0.95, 0.9, 0.8, 0.5)
CLASSES = (2, 10, 100)


def draw_map(profile: str = "auto") -> Table:
    """All notebooks in reading order, made from their cards.

    Args:
        profile: counts the networks that each notebook needs in it.

    Raises:
        UsageError: for an unknown profile.
    """
    profile, why = profiles.resolve(profile)
    rows = []
    for entry in papers.entries():
        row = [
            Link(entry.name, f"{entry.name}.ipynb"),
            entry.page.title,
            ", ".join(filter(None, [entry.paper.short, entry.page.section])),
            entry.shows,
            str(count_networks(entry, profile)),
            f"{entry.page.minutes['quick']:g}",
        ]
        rows.append(row)
    networks = f"networks ({profile}: {why})"
    header = ["notebook", "title", "paper, section", "shows", networks, "minutes (quick)"]
    return Table(header, rows)


def count_networks(entry: papers.Entry, profile: str) -> int:
    """How many networks a notebook needs in a profile; 0 where nothing is trained."""
    plan_runs = getattr(entry.module, "plan_runs", None)
    return len(dict.fromkeys(plan_runs(profile))) if plan_runs else 0


def convert_strengths() -> Table:
    """Kept masses p with the smoothing strength delta that they stand for."""
    rows = []
    for p in KEPT_MASSES:
        strengths = [f"{labels.strength_from_kept(p, K):.4f}" for K in CLASSES]
        rows.append([f"{p:g}", *strengths])
    return Table(["kept mass p", "strength δ for 2 classes", "for 10", "for 100"], rows)


MODEL = dynamics_model(K=3, n=12, D=2)  # three class means form a simplex ETF in the plane
DELTA, SPREAD, SEED = 0.1, 0.7, 0
FRAMES = {"start": 0, "on the way": 12, "end": 10_000}  # steps of gradient descent
# A network that is too sure: mean confidence, accuracy and share of the images of each bin.
CONFIDENCE = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
ACCURACY = np.array([0.12, 0.24, 0.38, 0.53, 0.71])
SHARE = np.array([0.05, 0.1, 0.15, 0.25, 0.45])


def follow_collapse() -> "tuple[pd.DataFrame, pd.DataFrame]":
    """Three classes in the feature model with D = 2, from a random start to the end of gradient
    descent.

    Returns:
        Two pandas.DataFrame. A row for each point of a frame: frame, kind ("feature", "class mean"
        or "classifier"), class, x, y; means are centred, and rows of the classifier scaled to the
        norm of the means, as NC3 compares them. A row for each frame: frame, step, NC1, NC2, NC3.
    """
    import pandas as pd

    start = ufm_objective.random_starts(MODEL, 1, SEED, SPREAD)
    points, metrics = [], []
    for name, step in FRAMES.items():
        run = ufm_dynamics.trajectories(MODEL, Loss("ls", DELTA), start, [step])
        W, H, _ = (part[0] for part in ufm_objective.split(MODEL, run.end))
        means = H.reshape(MODEL.K, MODEL.n, MODEL.D).mean(1)  # (K, D)
        centre = means.mean(0)
        W = W * np.linalg.norm(means - centre) / np.linalg.norm(W)
        for kind, rows in (("feature", H - centre), ("class mean", means - centre)):
            points.append(_list_points(name, kind, rows))
        points.append(_list_points(name, "classifier", W))
        values = (run.nc1[0, 0], run.nc2[0, 0], run.nc3[0, 0])
        metrics.append((name, step, *values))
    columns = ["frame", "step", "NC1", "NC2", "NC3"]
    return pd.concat(points, ignore_index=True), pd.DataFrame(metrics, columns=columns)


def _list_points(frame: str, kind: str, rows: np.ndarray) -> "pd.DataFrame":
    """Points (m K, 2), class by class, as rows of a table."""
    import pandas as pd

    classes = np.repeat(np.arange(MODEL.K), len(rows) // MODEL.K)
    columns = {"frame": frame, "kind": kind, "class": classes, "x": rows[:, 0], "y": rows[:, 1]}
    return pd.DataFrame(columns)


# ---- figures


@figure(
    "start-here-collapse",
    title="Three classes collapse in the feature model",
    paper="no such figure; NC1 to NC3 are Guo's (Guo eq. 4, Guo eq. 5, Guo eq. 6).",
    alt="Three panels with the features of three classes in the plane, their means as crosses and "
    "the rows of the classifier as arrows. At the start all are scattered. On the way the classes "
    "are apart. At the end each class is one point, the three points form an equilateral triangle "
    "around the origin, and an arrow ends in each.",
)
def draw_collapse() -> Drawing:
    """Features, class means and classifier of three classes before, during and after collapse."""
    import matplotlib.pyplot as plt

    points, metrics = follow_collapse()
    drawing, panels = plt.subplots(
        1, len(metrics), figsize=(style.WIDTH, 3.7), layout="constrained"
    )
    for panel, row in zip(panels, metrics.to_dict("records"), strict=True):
        _draw_frame(panel, points[points.frame == row["frame"]])
        values = ", ".join(f"{row[name]:.2f}" for name in ("NC1", "NC2", "NC3"))
        panel.set_title(f"{row['frame']}\nNC1 to NC3: {values}")
    panels[0].set_ylabel("second feature")
    handles, names = panels[0].get_legend_handles_labels()
    drawing.legend(handles, names, loc="outside lower center", ncols=3)
    caption = (
        "At the end each class is one point (NC1), class means and classifier form a simplex ETF "
        f"(NC2), and each row of the classifier points along its class mean (NC3). K = {MODEL.K} "
        f"classes of {MODEL.n} free features of dimension {MODEL.D}; smoothing strength {DELTA:g}; "
        f"{FRAMES['end']:,} steps of gradient descent, {FRAMES['on the way']} in the middle. Rows "
        "of the classifier are scaled to the length of the class means."
    )
    return Drawing(drawing, caption, points, numbers=metrics)


def _draw_frame(panel: "Axes", points: "pd.DataFrame") -> None:
    """Features as marks, means as crosses, rows of the classifier as arrows from the origin."""
    features = points[points.kind == "feature"]
    means = points[points.kind == "class mean"]
    arrows = points[points.kind == "classifier"]
    for k, colour in enumerate(style.ordered(MODEL.K)):
        own = features[features["class"] == k]
        look = {"mfc": style.OPEN, "color": colour, "ms": 5, "label": f"features of class {k + 1}"}
        panel.plot(own.x, own.y, style.SHAPES[k], **look)
        mean, row = means.iloc[k], arrows.iloc[k]
        label = "class mean" if k == 0 else ""
        panel.plot(mean.x, mean.y, "+", color=style.INK, ms=13, mew=1.8, label=label)
        label = "row of the classifier" if k == 1 else ""  # in the legend below class 2
        panel.plot([0, row.x], [0, row.y], color=colour, lw=2, label=label)
        head = {"arrowstyle": "-|>", "color": colour, "lw": 2, "shrinkA": 0, "shrinkB": 0}
        panel.annotate("", (row.x, row.y), (0, 0), arrowprops=head)
    reach = 1.12 * np.abs(points[["x", "y"]].to_numpy()).max()
    panel.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[0], yticks=[0], aspect="equal")
    panel.set_xlabel("first feature")
    panel.grid(color=style.PANE, lw=0.6)


@figure(
    "start-here-calibration",
    title="The ECE in a reliability diagram",
    paper="no such figure; Guo's Figure F4 (our numbering) shows reliability diagrams of networks.",
    alt="A reliability diagram with five bins of confidence: bars of accuracy end below the "
    "diagonal, and a line marks the gap of each bin, wider at high confidence.",
)
def draw_calibration() -> Drawing:
    """Accuracy against confidence in five made-up bins, with the gaps that the ECE averages."""
    import matplotlib.pyplot as plt
    import pandas as pd

    gap = np.abs(ACCURACY - CONFIDENCE)
    error = (SHARE * gap).sum()
    drawing, panel = plt.subplots(figsize=(4.6, 3.2), layout="constrained")
    width = 1 / len(SHARE)
    bars = {"width": width, "color": style.METHODS["CE"], "edgecolor": style.PAPER}
    panel.bar(CONFIDENCE, ACCURACY, label="accuracy in the bin", alpha=0.6, **bars)
    panel.plot([0, 1], [0, 1], color=style.INK, ls=":", lw=1.2, label="perfect calibration")
    panel.vlines(CONFIDENCE, ACCURACY, CONFIDENCE, color=style.METHODS["LS"], lw=3, label="gap")
    for at, share in zip(CONFIDENCE, SHARE, strict=True):
        panel.text(at, 0.02, f"{share:.0%}", ha="center")
    panel.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    panel.set_title(f"ECE = {error:.3f}; each bar with its share of the images")
    panel.legend(loc="upper left")
    columns = {"confidence": CONFIDENCE, "accuracy": ACCURACY, "share": SHARE, "gap": gap}
    caption = (
        "The ECE is the mean gap between accuracy and confidence, each bin weighted by its share "
        "of the images. Five bins of made-up numbers; the accuracy stays below the confidence: "
        "such a network is overconfident."
    )
    return Drawing(drawing, caption, pd.DataFrame(columns))
