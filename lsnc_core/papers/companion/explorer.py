"""Networks that train while one watches, and stored networks chosen by slider.

`train_in_page` needs no kernel. The others are widgets of JupyterLab: `TrainNow` trains a network
of Chen's landscape beside the stored ones, `StoreBrowser` reads the networks of three notebooks.
Nothing is trained to be stored. a is the clean-label rate, p the kept mass, delta the smoothing
strength, K the number of classes.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lsnc_core import labels
from lsnc_core.data_sources import source_of
from lsnc_core.errors import UsageError, needs_companion
from lsnc_core.papers import stored
from lsnc_core.papers.chen.networks import plan_landscape
from lsnc_core.papers.companion.trainer import TRAINER_TYPE, Trainer, trainer_html
from lsnc_core.papers.guo.networks import loss_label, plan_strengths
from lsnc_core.papers.page import Page
from lsnc_core.papers.zhou.networks import collapse_runs
from lsnc_core.runs.spec import RunSpec
from lsnc_core.show import Live, Table

if TYPE_CHECKING:
    import pandas as pd

    from lsnc_core.runs.fleet import Fleet

PAGE = Page(
    title="Explore: networks that train while you watch",
    shows="a network that trains in the page; in JupyterLab, training by slider and the store",
    minutes={"quick": 0.1},
    outputs={TRAINER_TYPE: trainer_html},
)
# the image sets that come with packages, and the profiles whose landscape is on them
EMBEDDED = {"digits": "smoke", "mnist-subset": "quick"}
SEED = 1000  # of networks trained here; stored ones count from 0
METRICS = ("train loss", "train accuracy", "test accuracy", "test ECE", "NC1", "NC2", "NC3")
LOSSES = {"ce": "cross-entropy (smoothed: LS)", "focal": "focal loss", "mse": "squared error"}
NONE_STORED = (
    "The store has no such network yet: run chen_2_landscape, guo_2_strength or "
    "zhou_1_losses_collapse first."
)


def train_in_page(strength: float = 0.1) -> Trainer:
    """Cross-entropy and label smoothing on two-dimensional features, in the page itself.

    Args:
        strength: the smoothing strength delta to start with, one of those that the slider offers.

    Raises:
        UsageError: for another strength; without the extra `companion`.
    """
    return Trainer(strength)


@dataclass(frozen=True)
class Group:
    """What networks have in common that differ in their seeds alone.

    Attributes:
        data: name of the image set.
        recipe: network, epochs and weight decay, for readers.
        loss: as in `RunSpec`.
        delta: smoothing strength, rounded to four digits.
        noise: 1 - a, rounded to four digits.
    """

    data: str
    recipe: str
    loss: str
    delta: float
    noise: float


def group_networks(specs: Sequence[RunSpec]) -> dict[Group, list[RunSpec]]:
    """Networks by group, in order of appearance."""
    groups: dict[Group, list[RunSpec]] = {}
    for spec in dict.fromkeys(specs):
        K = source_of(spec.data).num_classes
        delta = round(float(labels.strength_from_kept(spec.p, K)), 4)
        widths = "-".join(map(str, spec.widths))
        recipe = (
            f"{spec.model} {widths}, {spec.train_size:,} images, {spec.epochs} epochs, "
            f"weight decay {spec.weight_decay:g}"
        )
        group = Group(spec.data, recipe, spec.loss, delta, round(1 - spec.a, 4))
        groups.setdefault(group, []).append(spec)
    return groups


def find_stored(specs: Sequence[RunSpec]) -> list[RunSpec]:
    """Those of the networks that the store has."""
    from lsnc_core.runs import Store

    store = Store()
    return [spec for spec in specs if store.path(spec).exists()]


def measure_networks(specs: Sequence[RunSpec], last: bool = False) -> "pd.DataFrame":
    """What the store has of networks over training; those that are missing are left out.

    Args:
        specs: the networks.
        last: whether only the last epoch is wanted.

    Returns:
        pandas.DataFrame, one row per (seed, epoch): `METRICS`; losses in nats, accuracies and ECE
        (15 bins) in [0, 1], NC1 to NC3 of training images (Guo eq. 4 to 6). ECE is NaN at epochs
        whose logits are not stored.
    """
    import pandas as pd

    from lsnc_core.runs import Store

    store, rows = Store(), []
    for spec in specs:
        content, arrays = store.get(spec), store.tensors(spec)
        if content and arrays:
            wanted = slice(-1, None) if last else slice(None)
            rows += _measure_one(spec, content[0][wanted], arrays[wanted])
    return pd.DataFrame(rows, columns=["seed", "epoch", *METRICS])


def _measure_one(
    spec: RunSpec, history: Sequence[Mapping[str, float]], arrays: Sequence[stored.Tensors]
) -> list[dict[str, float]]:
    """Rows of `measure_networks` from what a network's training gives for each measured epoch."""
    rows = []
    collapse = stored.collapse_of_many(arrays)
    for means, tensors, values in zip(history, arrays, collapse, strict=True):
        row = {"seed": spec.seed, "epoch": means["epoch"], "train loss": means["train_loss"]}
        for part in ("train", "test"):
            row[f"{part} accuracy"] = means[f"{part}_accuracy"]
        row["test ECE"] = _ece_of(spec, tensors)
        rows.append(row | values.preset("guo"))
    return rows


def _ece_of(spec: RunSpec, tensors: stored.Tensors) -> float:
    """ECE of the test images; NaN where the logits are not stored."""
    import numpy as np
    import torch

    from lsnc_core import data
    from lsnc_core.metrics import ece

    if "test_logits" not in tensors:
        return float("nan")
    truth = data.truth(spec.data, spec.train_size + spec.validation_size, spec.test_size)[1]
    return ece(torch.from_numpy(np.array(tensors["test_logits"])), truth)


def _number(value: float) -> str:
    return "not stored" if value != value else f"{value:.4g}"


def summarise(table: "pd.DataFrame", epoch: int) -> Table:
    """Means over seeds at one epoch, with the lowest and the highest value.

    Args: table, from `measure_networks`; epoch, one of its epochs.
    """
    now = table[table.epoch == epoch]
    rows = []
    for metric in METRICS:
        values = now[metric]
        numbers = [values.mean(), values.min(), values.max()]
        rows.append([metric, *map(_number, numbers)])
    seeds = f"mean of {len(now)} networks" if len(now) > 1 else "one network"
    return Table([f"epoch {epoch}", seeds, "lowest", "highest"], rows)


def compare_strengths(groups: Mapping[Group, Sequence[RunSpec]]) -> Table:
    """The last epoch of stored networks of the first image set without label noise, over losses and
    strengths: what `StoreBrowser` shows without a kernel.
    """
    rows = []
    for group, specs in groups.items():
        if group.data == next(iter(groups)).data and not group.noise:
            means = measure_networks(specs, last=True)[list(METRICS)].mean()
            name = loss_label(group.loss, group.delta)
            rows.append([name, group.recipe, *map(_number, means)])
    return Table(["loss", "networks", *METRICS], rows)


def _html(table: Table) -> str:
    return table._repr_mimebundle_()["text/html"]


class StoreBrowser(Live):
    """Widgets that choose image set, networks, loss, strength, label noise and epoch from the store
    and show the metrics; without a kernel a table.

    Args:
        profile: whose plans of networks are looked up: those of Guo's strengths, Zhou's losses and
            Chen's landscape.

    Raises:
        UsageError: for an unknown profile; without the extra `companion`.
    """

    def __init__(self, profile: str = "quick"):
        needs_companion("the explorer", "ipywidgets")
        import ipywidgets as widgets

        plans = [*plan_strengths(profile), *collapse_runs(profile), *plan_landscape(profile)]
        self.groups = group_networks(find_stored(plans))
        look = {"style": {"description_width": "7em"}, "layout": {"width": "min(100%, 40em)"}}
        self.controls = {
            "data": widgets.Dropdown(description="image set", **look),
            "recipe": widgets.Dropdown(description="networks", **look),
            "loss": widgets.Dropdown(description="loss", **look),
            "delta": widgets.SelectionSlider(options=[0], description="strength δ", **look),
            "noise": widgets.SelectionSlider(options=[0], description="label noise", **look),
        }
        self.epoch = widgets.SelectionSlider(options=[0], description="epoch", **look)
        self.table = widgets.HTML(NONE_STORED)
        box = widgets.VBox([*self.controls.values(), self.epoch, self.table])
        page = _html(compare_strengths(self.groups)) if self.groups else f"<p>{NONE_STORED}</p>"
        super().__init__(box, page)
        self.measured = measure_networks(())
        self.busy = False
        for control in self.controls.values():
            control.observe(self._choose, names="value")
        self.epoch.observe(self._show, names="value")
        self._choose()

    def _choose(self, change: object = None) -> None:
        """Offer in each control what the ones above it leave, and measure what is chosen."""
        if self.busy or not self.groups:
            return
        self.busy = True  # options that change set values, which would call this again
        left = list(self.groups)
        for name, control in self.controls.items():
            offered = list(dict.fromkeys(getattr(group, name) for group in left))
            if name in ("delta", "noise"):
                offered.sort()
            value = control.value if control.value in offered else offered[0]
            control.options = [(_title(name, one), one) for one in offered]
            control.value = value
            left = [group for group in left if getattr(group, name) == value]
        specs = self.groups[left[0]]
        self.measured = measure_networks(specs)
        epoch = self.epoch.value
        self.epoch.options = specs[0].evaluate_at
        self.epoch.value = epoch if epoch in specs[0].evaluate_at else specs[0].epochs
        self.busy = False
        self._show()

    def _show(self, change: object = None) -> None:
        if not self.busy:
            self.table.value = _html(summarise(self.measured, self.epoch.value))


def _title(name: str, value: Any) -> str:
    """What a control calls a value."""
    if name == "data":
        return source_of(value).title
    if name == "loss":
        return LOSSES.get(value, value)
    return f"{value:g}" if isinstance(value, float) else value


class Stopped(Exception):
    """Someone pressed the stop button."""


class TrainNow(Live):
    """Widgets that train a network of Chen's landscape at a chosen strength and label noise, beside
    the stored networks of the same settings; without a kernel the stored ones alone.

    A new seed draws weights, label noise and order. The network is not stored. Training runs in a
    thread of its own and stops after the epoch in which the button is pressed.

    Args:
        profile: whose stored networks to start with, smoke's on digits or else quick's.

    Raises:
        UsageError: without the extra `companion`.
    """

    def __init__(self, profile: str = "quick") -> None:
        needs_companion("the explorer", "ipywidgets")
        import ipywidgets as widgets

        look = {"style": {"description_width": "7em"}, "layout": {"width": "min(100%, 40em)"}}
        titles = [(source_of(name).title, name) for name in EMBEDDED]
        self.data = widgets.Dropdown(options=titles, description="image set", **look)
        self.data.value = "digits" if profile == EMBEDDED["digits"] else "mnist-subset"
        self.noise = widgets.SelectionSlider(options=[0], description="label noise", **look)
        self.strength = widgets.SelectionSlider(options=[0], description="strength δ", **look)
        self.start = widgets.Button(description="Train", button_style="primary")
        self.stop = widgets.Button(description="Stop", disabled=True)
        self.bar = widgets.IntProgress(description="epochs", **look)
        self.text, self.table = widgets.HTML(), widgets.HTML()
        buttons = widgets.HBox([self.start, self.stop])
        sliders = [self.data, self.noise, self.strength]
        box = widgets.VBox([*sliders, buttons, self.bar, self.text, self.table])
        self.stopping, self.thread = threading.Event(), threading.Thread()
        self.specs: list[RunSpec] = []
        self.reference = measure_networks(())
        self._offer()
        super().__init__(box, f"<p>{self.text.value}</p>{self.table.value}")
        self.data.observe(self._offer, names="value")
        for slider in (self.noise, self.strength):
            slider.observe(self._look_up, names="value")
        self.start.on_click(self._start)
        self.stop.on_click(lambda button: self.stopping.set())

    def _offer(self, change: object = None) -> None:
        """Offer the strengths and noise rates of the chosen image set's landscape."""
        self.specs = plan_landscape(EMBEDDED[self.data.value])
        rates = sorted({spec.a for spec in self.specs}, reverse=True)
        kept = sorted({spec.p for spec in self.specs}, reverse=True)
        K = source_of(self.data.value).num_classes
        self.noise.options = [(f"{1 - a:.2f}", a) for a in rates]
        strengths = [float(labels.strength_from_kept(p, K)) for p in kept]
        texts = [f"{delta:.3f} (p = {p:g})" for delta, p in zip(strengths, kept, strict=True)]
        self.strength.options = list(zip(texts, kept, strict=True))
        self._look_up()

    def _look_up(self, change: object = None) -> None:
        """Measure the stored networks of the chosen settings."""
        chosen = (self.noise.value, self.strength.value)
        same = [spec for spec in self.specs if (spec.a, spec.p) == chosen]
        if not same:
            return  # the sliders are being filled
        self.spec = replace(same[0], seed=SEED, order_seed=SEED)
        self.reference = measure_networks(find_stored(same))
        if not self.thread.is_alive():
            found = self.reference.seed.nunique()
            noise, strength = self.noise.label, self.strength.label
            where = f"label noise {noise}, strength {strength}"
            self.text.value = f"Stored at {where}: {found} networks."
            self._show([])

    def _start(self, button: object) -> None:
        self.start.disabled, self.stop.disabled = True, False
        self.stopping.clear()
        self.thread = threading.Thread(target=self._train, args=(self.spec,), daemon=True)
        self.thread.start()

    def _train(self, spec: RunSpec) -> None:
        """Train a network, showing each epoch; in a thread, so that the buttons answer."""
        import torch

        from lsnc_core import data
        from lsnc_core.metrics.threads import one_thread
        from lsnc_core.runs.fleet import Fleet

        self.bar.max, self.bar.value = spec.epochs, 0
        controls = (self.data, self.noise, self.strength)
        for control in controls:
            control.disabled = True
        try:
            with one_thread():
                fleet = Fleet([spec], data.load(spec.data), torch.device("cpu"))
                fleet.train(lambda epochs: self._report(fleet))
            self.text.value = f"Trained for {spec.epochs} epochs; not stored."
        except Stopped:
            self.text.value = f"Stopped after epoch {fleet.epoch} of {spec.epochs}; not stored."
        except UsageError as error:
            self.text.value = str(error)
        finally:
            self.start.disabled, self.stop.disabled = False, True
            for control in controls:
                control.disabled = False

    def _report(self, fleet: "Fleet") -> None:
        """Show where a training is, and end it where the button was pressed."""
        from lsnc_core.runs.measure import of_replica

        self.bar.value = fleet.epoch
        self.text.value = f"epoch {fleet.epoch} of {fleet.shared.epochs}"
        if fleet.epoch in fleet.shared.evaluate_at:
            trained = of_replica(fleet.measured, 0, {}, fleet.routes)
            self._show(_measure_one(fleet.shared, trained.history, trained.tensors))
        if self.stopping.is_set():
            raise Stopped

    def _show(self, trained: Sequence[Mapping[str, float]]) -> None:
        """Each measured epoch of the network trained here beside the mean of the stored ones."""
        shown = ("train loss", "test accuracy", "NC1", "NC2", "NC3")
        now = {row["epoch"]: row for row in trained}
        means = self.reference.groupby("epoch")[list(shown)].mean()
        rows = []
        for epoch in sorted({*now, *means.index}):
            here = [_number(now[epoch][one]) if epoch in now else "" for one in shown]
            there = [""] * len(shown)
            if epoch in means.index:
                there = [_number(means.loc[epoch, one]) for one in shown]
            pairs = [" | ".join(filter(None, pair)) for pair in zip(here, there, strict=True)]
            rows.append([str(epoch), *pairs])
        header = ["epoch", *(f"{one}: now | stored" if now else one for one in shown)]
        self.table.value = _html(Table(header, rows)) if rows else ""
