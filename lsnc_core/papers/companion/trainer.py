"""Two networks that train in the page, without a kernel: cross-entropy beside label smoothing.

A multilayer perceptron 64-64-2-10 on scikit-learn's 8x8 digits, whose two-dimensional features can
be drawn as they are. Both networks start from the same weights and see the same batches. The page's
program is `templates/trainer.js`; it takes what it needs from `setup`. delta is the smoothing
strength, K = 10 the number of classes.
"""

import html
import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lsnc_core.errors import UsageError
from lsnc_core.show import style

TRAINER_TYPE = "application/vnd.lsnc.trainer+json"  # its data is the strength
TEMPLATES = Path(__file__).parent / "templates"
TITLE = "Two networks that train in this page: cross-entropy (CE) and label smoothing (LS)"
WIDTHS = (64, 64, 2, 10)
TRAIN, TEST = 1000, 500  # images, class-balanced prefixes of the image set
BATCH, MOMENTUM, EPOCHS, SEED = 50, 0.9, 200, 0
PERCENT = 100  # label noise moves in whole percent
# what the sliders offer, each with its name for readers and the value it starts at
CONTROLS: dict[str, tuple[str, tuple[float, ...], float]] = {
    "delta": ("strength δ of LS", tuple(n / 20 for n in range(19)), 0.1),
    "noise": ("share of wrong labels", tuple(n / 20 for n in range(13)), 0.0),
    "lr": ("learning rate", (0.005, 0.01, 0.02, 0.05, 0.1, 0.2), 0.05),
    "decay": ("weight decay", (0.0, 1e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2), 5e-4),
}
METHODS = {"CE": "cross-entropy (CE)", "LS": "label smoothing (LS)"}
METRICS = {
    "loss": "training loss (nats)",
    "accuracy": "test accuracy",
    "ece": "test ECE",
    "nc1": "NC1 (log axis)",
    "nc2": "NC2",
    "nc3": "NC3",
}


def setup() -> dict[str, Any]:
    """What the page's program starts from, as JSON has it.

    Returns:
        pixels: one letter a pixel, "A" for 0 to "Q" for 16, training images before test images;
        labels: one digit an image; moved: where label noise moves each training label; draws: in
        0..99, a label stays while its draw is below the percentage of clean labels, as in
        `labels.corrupt`; mean, deviation: of the training pixels in 0..255; weights: the numbers of
        W and b of each layer; batch, momentum, epochs, seed (of the batch order), widths, controls,
        settings: as the constants above; colours of the classes; ink and soft,
        of digits and axes.

    Raises:
        UsageError: without the extra `companion`.
    """
    from lsnc_core import data, images, labels

    chosen = data.load("digits").subset(TRAIN, TEST)
    scale = images.scale_of(chosen)
    pixels = np.concatenate([chosen.train_images.numpy(), chosen.test_images.numpy()])
    greys = (pixels.astype(np.int64) * 16 + 127) // 255  # back to 0..16
    truth = np.concatenate([chosen.train_labels.numpy(), chosen.test_labels.numpy()])
    moved = labels.corrupt(chosen.train_labels, labels.symmetric_noise(0.0, WIDTHS[-1]), SEED)
    return {
        "pixels": (greys + ord("A")).astype(np.uint8).tobytes().decode(),
        "labels": "".join(map(str, truth)),
        "moved": "".join(map(str, moved.tolist())),
        "draws": _draws(),
        "mean": float(scale.mean),
        "deviation": float(scale.deviation),
        "weights": _weights(),
        "widths": WIDTHS,
        "batch": BATCH,
        "momentum": MOMENTUM,
        "epochs": EPOCHS,
        "seed": SEED,
        "controls": {name: values for name, (_, values, _) in CONTROLS.items()},
        "settings": {name: start for name, (_, _, start) in CONTROLS.items()},
        "colours": style.CLASS_COLOURS,
        "ink": style.INK,
        "soft": style.RULE,
    }


def _draws() -> list[int]:
    """The uniform draws by which `labels.corrupt` keeps labels, in whole percent, rounded down."""
    import torch

    from lsnc_core import labels

    random = labels.generator(SEED, "label noise")
    draws = torch.rand((TRAIN, 2), generator=random, dtype=torch.float64)  # as `labels.corrupt`
    return (PERCENT * draws[:, 0]).floor().int().tolist()


def _weights() -> list[list[float]]:
    """The start, drawn as the package's networks are; six digits, for the page's size."""
    from torch import nn

    from lsnc_core import labels, models

    inputs, hidden, width, classes = WIDTHS
    features = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, width))
    network = models.Network(features, nn.Linear(width, classes))
    models.initialise(network, labels.generator(SEED, "weights"))
    flat = [parameter.detach().flatten().double() for parameter in network.parameters()]
    return [numbers.round(decimals=6).tolist() for numbers in flat]


class Trainer:
    """The trainer as an output of a notebook: it runs in JupyterLab and on the report's page.

    Args:
        strength: the smoothing strength delta to start with.

    Raises:
        UsageError: for a strength that the slider does not offer; as `setup`.
    """

    def __init__(self, strength: float = CONTROLS["delta"][2]) -> None:
        offered = CONTROLS["delta"][1]
        if strength not in offered:
            raise UsageError(
                f"the strength must be one that the slider offers: {', '.join(map(str, offered))}; "
                f"got {strength!r}."
            )
        self.setup = setup()
        self.setup["settings"]["delta"] = strength

    @property
    def page(self) -> str:
        """The trainer as HTML with its script."""
        template = string.Template((TEMPLATES / "trainer.html").read_text(encoding="utf-8"))
        return template.substitute(
            title=html.escape(TITLE, quote=True),
            ce=style.METHODS["CE"],
            ls=style.METHODS["LS"],
            settings="".join(map(_slider, self.setup["settings"].items())),
            features="".join(map(_pane, METHODS)),
            charts="".join(map(_chart, METRICS)),
            setup=json.dumps(self.setup, separators=(",", ":")),
            script=(TEMPLATES / "trainer.js").read_text(encoding="utf-8"),
        )

    def _repr_mimebundle_(
        self, include: Sequence[str] | None = None, exclude: Sequence[str] | None = None
    ) -> dict[str, Any]:
        strength = self.setup["settings"]["delta"]
        return {"text/plain": TITLE, "text/html": self.page, TRAINER_TYPE: strength}


def trainer_html(strength: float) -> str:
    """The page of a trainer, made anew from what an executed notebook carries of it.

    Raises:
        UsageError: as `Trainer`.
    """
    return Trainer(strength).page


def _slider(setting: tuple[str, float]) -> str:
    name, start = setting
    title, values, _ = CONTROLS[name]
    return (
        f'<label><span>{title}</span><input type="range" name="{name}" min="0" '
        f'max="{len(values) - 1}" value="{values.index(start)}" aria-valuetext="{start:g}">'
        f"<output>{start:g}</output></label>"
    )


def _pane(name: str) -> str:
    alt = f"Features of the training images in the plane, {METHODS[name]}; numbers stand below"
    return (
        f"<figure><figcaption>{METHODS[name]}: features up to <output></output></figcaption>"
        f'<canvas data-name="{name}" role="img" aria-label="{alt}"></canvas></figure>'
    )


def _chart(metric: str) -> str:
    values, lines = "", ""
    for name in METHODS:
        swatch = f'<span class="swatch {name}"></span>'
        values += f'<span>{swatch} {name} <output class="{name}"></output></span>'
        lines += f'<polyline class="{name}"></polyline>'
    return (
        f'<figure class="chart" data-metric="{metric}"><figcaption>{METRICS[metric]}</figcaption>'
        '<div class="plot"><div><span class="high"></span><span class="low"></span></div>'
        '<svg viewBox="0 0 160 60" preserveAspectRatio="none" aria-hidden="true">'
        f'{lines}</svg></div><div class="values">{values}</div></figure>'
    )
