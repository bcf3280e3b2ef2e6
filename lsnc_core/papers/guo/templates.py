"""Guo et al. 2025: penultimate features in the plane through three class templates.

The projection is that of Müller, Kornblith and Hinton 2019 (When Does Label Smoothing Help?): the
templates are rows w_a, w_b, w_c of the classifier, and features are projected on the plane through
them. At a simplex ETF the means of the three classes form an equilateral triangle there, and the
means of all other classes fall on its centroid.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lsnc_core.papers import stored
from lsnc_core.papers.guo.calibration import Tensors, read_logits, true_labels
from lsnc_core.papers.guo.measured import strength
from lsnc_core.show import Explorer, style
from lsnc_core.show.controls import ValueSlider, with_sliders

if TYPE_CHECKING:
    import altair
    import pandas as pd
    import torch

SHOWN = 60  # features of single images, of each class
RANK = 1e-10  # differences of class means below this share of the largest are rounding
PARTS = {"train": "training images", "test": "test images"}


class Planes(NamedTuple):
    """Networks in planes through three templates, one row per (delta, epoch, classes, part).

    Attributes:
        frames: delta, epoch, classes (names of the three), part ("train" or "test"); coordinates
            as lists: mean_x, mean_y (3,), template_x, template_y (3,), other_x, other_y (K - 3,);
            cov_xx, cov_xy, cov_yy, the covariance within classes, pooled over them; side_ratio,
            others and spread, see `describe_frame`; seen, the share of the plane in the span of
            the class means, in [0, 1].
        images: of test images whose features are stored, a row for each of the three classes:
            delta, epoch, classes, number (0, 1, 2 of the three), class (its name) and the lists x
            and y, at most `SHOWN` each.
        names: names of the three classes of each value of classes.
    """

    frames: "pd.DataFrame"
    images: "pd.DataFrame"
    names: Mapping[str, tuple[str, ...]]


def plane_basis(templates: np.ndarray) -> np.ndarray:
    """An orthonormal basis of the plane through three templates, by QR of their differences.

    Seen from the centroid of the templates, the first lies straight up and the second on the right.

    Args:
        templates: float (3, D), D >= 2, not on one line.

    Returns:
        float64 (D, 2): the directions to the right and up.

    >>> plane_basis(np.eye(3) @ np.diag([3.0, 1.0, 1.0])).round(2).tolist()
    [[0.0, 0.97], [0.71, -0.16], [-0.71, -0.16]]
    """
    differences = templates.astype(float) - templates.mean(0, dtype=float)
    Q, R = np.linalg.qr(differences[:2].T)  # (D, 2), (2, 2)
    Q = Q * np.where(np.diag(R) < 0, -1, 1)
    return Q[:, ::-1]


def describe_frame(means: np.ndarray, chosen: Sequence[int], covariance: np.ndarray) -> dict:
    """What is left to a simplex ETF and to collapse in the plane.

    Args:
        means: float (K, 2), projected means of all classes.
        chosen: the three classes.
        covariance: float (2, 2), within classes.

    Returns:
        side_ratio, the longest by the shortest side of the triangle of the three means (1 at an
        ETF); others, the mean distance of the other means from its centroid (0 at an ETF; NaN
        without others), and spread, the root of the covariance's trace (0 where features have
        collapsed), both by the root mean square distance of the three means from the centroid.
    """
    corners = means[list(chosen)]  # (3, 2)
    sides = np.linalg.norm(corners - corners[[1, 2, 0]], axis=1)
    centroid = corners.mean(0)
    radius = np.sqrt(np.square(corners - centroid).sum(1).mean())
    away = np.linalg.norm(np.delete(means, chosen, 0) - centroid, axis=1)
    return {
        "side_ratio": sides.max() / sides.min(),
        "others": away.mean() / radius if len(away) else np.nan,
        "spread": np.sqrt(np.trace(covariance)) / radius,
    }


def choose_classes(confusions: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Three classes that are often taken for each other, and three that hardly are.

    First the pair with the most (fewest) confusions, then the class with the most (fewest) with
    both; of equals the first.

    Args:
        confusions: float (K, K), K >= 3, images of a class (row) predicted as another (column).

    >>> choose_classes(np.array([[9, 0, 0, 0], [0, 5, 4, 0], [0, 1, 5, 0], [0, 1, 0, 6]]))
    ((1, 2, 3), (0, 1, 3))
    """
    K = len(confusions)
    both = (confusions + confusions.T).astype(float)
    first, second = np.triu_indices(K, 1)
    triples = []
    for sign in (1, -1):
        pair = np.argmax(sign * both[first, second])
        chosen = [int(first[pair]), int(second[pair])]
        beside = sign * both[chosen].sum(0)  # (K,)
        beside[chosen] = -np.inf
        triples.append(tuple(sorted([*chosen, int(np.argmax(beside))])))
    return triples[0], triples[1]


def count_confusions(tensors: Tensors) -> np.ndarray:
    """Test images of each class by predicted class, int (K, K), over networks, at their end."""
    total = 0
    for spec, epochs in tensors.items():
        predicted = read_logits(epochs[-1], "test").argmax(1).numpy()
        labels, K = true_labels(spec)["test"].numpy(), len(epochs[-1]["bias"])
        total = total + np.bincount(labels * K + predicted, minlength=K * K).reshape(K, K)
    return total


def project_networks(tensors: Tensors) -> Planes | None:
    """Each measured epoch of networks in the planes through two triples of templates.

    Origin and scale of each plane come from the training images: the centroid of their three class
    means, and the root mean square distance of these from it. Templates have their own centroid and
    scale, so only their directions and proportions can be compared with those of the means.

    Args:
        tensors: the networks' arrays. They differ in smoothing strength and seed; those of the
            lowest seed are shown, those without smoothing choose the classes.

    Returns:
        None where there are fewer than three classes.
    """
    import pandas as pd

    from lsnc_core import data

    plain = {spec: epochs for spec, epochs in tensors.items() if strength(spec) == 0}
    confusions = count_confusions(plain)
    if len(confusions) < 3:
        return None
    spec = next(iter(plain))
    classes = data.load(spec.data).classes
    first = min(spec.seed for spec in tensors)
    names, frames, images = {}, [], []
    for chosen in dict.fromkeys(choose_classes(confusions)):
        three = tuple(classes[k] for k in chosen)
        names[", ".join(three)] = three
        for spec, epochs in tensors.items():
            if spec.seed != first:
                continue
            for epoch, arrays in zip(spec.evaluate_at, epochs, strict=True):
                keys = {"delta": strength(spec), "epoch": epoch, "classes": ", ".join(three)}
                frame = _Frame(arrays, chosen)
                frames += [keys | frame.project(arrays, part) for part in PARTS]
                if "test_features" in arrays:
                    images += frame.project_images(arrays, true_labels(spec)["test"], keys, three)
    return Planes(pd.DataFrame(frames), pd.DataFrame(images), names)


class _Frame:
    """The plane of one network's three templates, with its origin and unit."""

    def __init__(self, arrays: stored.Tensors, chosen: Sequence[int]) -> None:
        self.chosen = list(chosen)
        templates = arrays["weight"][self.chosen].astype(float)  # (3, D)
        self.basis = plane_basis(templates)  # (D, 2)
        self.templates, _, _ = _standardise(templates @ self.basis)
        means = arrays["train_means"][self.chosen].astype(float) @ self.basis
        _, self.origin, self.unit = _standardise(means)

    def project(self, arrays: stored.Tensors, part: str) -> dict[str, object]:
        """A row of `Planes.frames` without its keys.

        The store has the scatter within classes only in the span of the centred class means Hbar,
        as Hbar Sigma_W Hbar^T: all that collapse metrics need. So the covariance is that of
        features projected on this span, and `seen` says how much of the plane lies in it. With
        M = (Hbar^T)^+ Q and Q the basis of the plane, the projection of Q is Hbar^T M.
        """
        present = arrays[f"{part}_counts"] > 0
        means = arrays[f"{part}_means"][present].astype(float)  # (classes present, D)
        hbar = means - means.mean(0)
        M = np.linalg.pinv(hbar.T, rcond=RANK) @ self.basis  # (classes present, 2)
        projected = arrays[f"{part}_projected"][np.ix_(present, present)]
        covariance = M.T @ projected @ M / self.unit**2
        places = (means @ self.basis - self.origin) / self.unit  # (classes present, 2)
        chosen = np.searchsorted(np.flatnonzero(present), self.chosen)
        return {
            "part": part,
            **_columns("mean", places[chosen]),
            **_columns("template", self.templates),
            **_columns("other", np.delete(places, chosen, 0)),
            "cov_xx": covariance[0, 0],
            "cov_xy": covariance[0, 1],
            "cov_yy": covariance[1, 1],
            **describe_frame(places, chosen, covariance),
            "seen": np.square(hbar.T @ M).sum() / 2,
        }

    def project_images(
        self,
        arrays: stored.Tensors,
        labels: "torch.Tensor",
        keys: Mapping[str, object],
        names: Sequence[str],
    ) -> list[dict]:
        """Rows of `Planes.images`, the first images of each class."""
        rows = []
        for number, (k, name) in enumerate(zip(self.chosen, names, strict=True)):
            features = arrays["test_features"][labels.numpy() == k][:SHOWN].astype(float)
            points = (features @ self.basis - self.origin) / self.unit  # (shown, 2)
            place = {"number": number, "class": name}
            rows.append({**keys, **place, "x": points[:, 0], "y": points[:, 1]})
        return rows


def _standardise(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Points (3, 2) about their centroid at root mean square distance 1, centroid and distance;
    NaN for points that differ by rounding alone.
    """
    centroid = points.mean(0)
    unit = float(np.sqrt(np.square(points - centroid).sum(1).mean()))
    if unit <= RANK * np.abs(points).max():
        unit = np.nan
    return (points - centroid) / unit, centroid, unit


def _columns(name: str, points: np.ndarray) -> dict[str, np.ndarray]:
    return {f"{name}_x": points[:, 0], f"{name}_y": points[:, 1]}


# ---- the explorer

SIDE, EDGE = 360, 2.0  # of a panel in px, and its ends in units of the plane
OUTSIDE = 1.8  # where the classes' names stand
MARKS = {  # of points, in the legend
    "mean": "circle",
    "template": "diamond",
    "mean of another class": "cross",
    "test image": "triangle-up",
}
MEAN, TEMPLATE, OTHER, IMAGE = MARKS
AXIS = "1 = distance of the means from their centre"
# numbers of one epoch, of which all marks are made
_FLAT = ("mean_x", "mean_y", "template_x", "template_y", "other_x", "other_y")
_CHOSEN = "datum.delta == strength && datum.epoch == time && datum.classes == classes"


def explore_templates(planes: Planes) -> Explorer:
    """Move strength and epoch and watch three classes become an equilateral triangle.

    Args:
        planes: from `project_networks`.
    """
    import altair as alt

    strengths, epochs = sorted(set(planes.frames.delta)), sorted(set(planes.frames.epoch))
    keys = {"delta": strengths, "epoch": epochs, "classes": list(planes.names)}
    frames, images = _number(planes.frames, keys), _number(planes.images, keys)
    # names stand beside the means
    frames["name"] = [list(planes.names[classes]) for classes in planes.frames.classes]
    panels = [_draw_plane(frames, images, part) for part in PARTS]
    names = alt.binding_select(
        options=list(range(len(planes.names))), labels=keys["classes"], name="classes"
    )
    reading = alt.param(name="reading", expr=f"{_readings(planes, keys)}[classes][strength][time]")
    chart = alt.hconcat(*panels).add_params(alt.param(name="classes", value=0, bind=names), reading)
    sliders = [
        ValueSlider("strength", "smoothing strength δ", [f"{delta:g}" for delta in strengths]),
        ValueSlider("time", "epoch", list(map(str, epochs)), len(epochs) - 1, plays=True),
    ]
    return Explorer(
        "guo-templates-explorer",
        "Features in the plane through three class templates",
        "Move the smoothing strength and the epoch: as the network collapses the ellipses shrink, "
        "the three means approach the dashed equilateral triangle and all other classes its "
        "centre.",
        "Two panels, training and test images: means, templates and ellipses of three classes and "
        "the means of the other classes in the plane through the three templates.",
        with_sliders(chart, sliders).resolve_scale(color="shared", shape="shared"),
    )


def _number(table: "pd.DataFrame", keys: Mapping[str, list]) -> "pd.DataFrame":
    """The table with its keys as numbers of the controls' values, and short coordinates."""
    numbered = table.assign(**{name: table[name].map(keys[name].index) for name in keys})
    for name in table.columns.intersection([*_FLAT, "x", "y"]):
        numbered[name] = [np.round(values, 3).tolist() for values in table[name]]
    # a page cannot hold what is not a number
    return numbered[np.isfinite(table.spread)] if "spread" in table else numbered


def _readings(planes: Planes, keys: Mapping[str, list]) -> str:
    """The numbers of each plane in words, as a nested array by classes, strength and epoch."""
    rows = planes.frames.set_index(["classes", "delta", "epoch", "part"]).sort_index()
    counts = planes.images.assign(count=planes.images.x.map(len))
    counts = counts.groupby(["classes", "delta", "epoch"])["count"].max().to_dict()

    def describe(*place: object) -> str:
        texts = []
        for part, name in PARTS.items():
            row = rows.loc[(*place, part)]
            numbers = {
                "side ratio": row.side_ratio,
                "other classes": row.others,
                "spread": row.spread,
            }
            # of three classes none is another
            words = [f"{what} {value:.2f}" for what, value in numbers.items() if value == value]
            texts.append(f"{name.capitalize()}: {', '.join(words) or 'one point'}")
        count = counts.get(place, 0)
        images = f"{count} images a class" if count else "single images are not stored"
        return f"{'. '.join(texts)} ({images})."

    nested = []
    for classes in keys["classes"]:
        by_strength = []
        for delta in keys["delta"]:
            by_strength.append([describe(classes, delta, epoch) for epoch in keys["epoch"]])
        nested.append(by_strength)
    return json.dumps(nested, ensure_ascii=False)


def _draw_plane(frames: "pd.DataFrame", images: "pd.DataFrame", part: str) -> "altair.LayerChart":
    """One panel: images, ellipses, other classes, triangle, templates and means."""
    import altair as alt

    readings = ["part", "side_ratio", "others", "spread", "seen"]  # in `_readings`
    here = frames[frames.part == part].drop(columns=readings)
    chosen = alt.Chart(here).transform_filter(_CHOSEN)
    corners = chosen.transform_calculate(number="[0, 1, 2]").transform_flatten(
        ["number", "name", "mean_x", "mean_y", "template_x", "template_y"]
    )
    others = chosen.transform_flatten(["other_x", "other_y"])
    colours = style.ordered(4)[:3]  # the lightest would be pale on a light plate
    colour = alt.Color("number:O", scale=alt.Scale(range=colours), legend=None)
    triangle = corners.mark_line(color=style.INK, strokeWidth=1, interpolate="linear-closed")
    layers = [
        _draw_simplex(),
        _draw_ellipses(corners, colour),
        _draw_points(others, "other_", OTHER, size=30, color=style.SOFT),
        triangle.encode(**_axes("mean_"), order="number:O"),
        _draw_points(corners, "template_", TEMPLATE, size=70, color=style.INK, filled=False),
        _draw_points(corners, "mean_", MEAN, size=90, filled=True, opacity=1).encode(fill=colour),
        _draw_names(corners, colour),
    ]
    if part == "test":
        points = alt.Chart(images).transform_filter(_CHOSEN).transform_flatten(["x", "y"])
        marks = _draw_points(points, "", IMAGE, size=18, filled=True, opacity=0.5)
        layers.insert(1, marks.encode(fill=colour))
    return alt.layer(*layers).properties(width=SIDE, height=SIDE, title=PARTS[part])


def _axes(prefix: str) -> dict[str, Any]:
    import altair as alt

    axes = {}
    for axis, channel in (("x", alt.X), ("y", alt.Y)):
        scale, ticks = alt.Scale(domain=[-EDGE, EDGE]), alt.Axis(tickCount=5)
        title = AXIS if axis == "x" else None
        axes[axis] = channel(f"{prefix}{axis}:Q", scale=scale, axis=ticks, title=title)
    return axes


def _draw_points(chart: "altair.Chart", prefix: str, name: str, **look: Any) -> "altair.Chart":
    """Points at two columns, which the legend calls by a name of `MARKS`."""
    import altair as alt

    shapes = alt.Scale(domain=list(MARKS), range=list(MARKS.values()))
    legend = alt.Legend(title=None, orient="bottom", columns=2, labelLimit=SIDE)
    shape = alt.Shape("mark:N", scale=shapes, legend=legend)
    named = chart.transform_calculate(mark=f"'{name}'")
    return named.mark_point(clip=True, **look).encode(**_axes(prefix), shape=shape)


def _draw_ellipses(corners: "altair.Chart", colour: "altair.Color") -> "altair.Chart":
    """Ellipses at one and two standard deviations about each mean."""
    import altair as alt

    # the covariance is L L^T, and L maps the unit circle to its ellipse
    return (
        corners.transform_calculate(deviations="[1, 2]", angle="sequence(0, 6.3, 0.15)")
        .transform_flatten(["deviations"])
        .transform_flatten(["angle"])
        .transform_calculate(
            l11="sqrt(datum.cov_xx)",
            l21="datum.cov_xy / datum.l11",
            l22="sqrt(max(0, datum.cov_yy - datum.l21 * datum.l21))",
            x="datum.mean_x + datum.deviations * datum.l11 * cos(datum.angle)",
            y="datum.mean_y + datum.deviations * "
            "(datum.l21 * cos(datum.angle) + datum.l22 * sin(datum.angle))",
        )
        .mark_line(clip=True, strokeWidth=1.5, interpolate="linear-closed")
        .encode(**_axes(""), stroke=colour, order="angle:Q", detail=alt.Detail("deviations:O"))
    )


def _draw_names(corners: "altair.Chart", colour: "altair.Color") -> "altair.Chart":
    """The names of the classes outside the triangle, each on its side."""
    direction = "(PI * (3 - 4 * datum.number) / 6)"
    placed = corners.transform_calculate(
        x=f"{OUTSIDE} * cos{direction}", y=f"{OUTSIDE} * sin{direction}"
    )
    names = placed.mark_text(fontSize=14, fontWeight="bold")
    return names.encode(**_axes(""), text="name:N", color=colour)


def _draw_simplex() -> "altair.Chart":
    """The triangle of means of a simplex ETF, dashed."""
    import altair as alt
    import pandas as pd

    angles = np.pi * np.array([3, -1, 7]) / 6  # the first up, the second on the right
    table = pd.DataFrame({"x": np.cos(angles), "y": np.sin(angles), "number": range(3)})
    dashed = {"color": style.SOFT, "strokeDash": [5, 4], "strokeWidth": 1}
    lines = alt.Chart(table).mark_line(interpolate="linear-closed", **dashed)
    return lines.encode(**_axes(""), order="number:O")
