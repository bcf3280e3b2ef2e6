"""Made-up tables of Guo's networks, and a store with the smoke networks, for several test files."""

import contextlib
import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lsnc_core import runs
from lsnc_core.papers.guo import measured, networks

EPOCHS = np.array([1, 2, 4, 7, 10, 20, 30, 40, 60])
OWN_LOSS = """def loss(logits, targets):
    log_q = logits.log_softmax(-1)
    return -(targets * log_q).sum(-1) - 0.1 * -(log_q.exp() * log_q).sum(-1)
"""


def made_up_run(delta, seed, better=1.0):
    """One made-up run's values by epoch: smoothing is `better` in every respect where that is 1,
    worse where it is -1.

    Where it is 0, smoothed networks are a little above the others in even seeds and as much below
    in odd ones.
    """
    gain, late = 0.3 * better * math.sqrt(delta), math.exp(-0.3 * better * math.sqrt(delta))
    off = 0.01 * (-1) ** seed * (delta > 0)
    wiggle = math.exp(0.003 * seed + off)
    nc1 = (8 * np.exp(-EPOCHS / (6 * late)) + 0.05 * late) * wiggle
    falling = np.exp(-EPOCHS / (8 * late)) * wiggle
    return {
        "nc1": nc1,
        "nc2": 0.3 + 0.1 * np.log(nc1 + 0.06) - 0.3 * gain + off / 5,
        "nc3": 0.2 + 0.1 * nc1,
        "train_error": 0.5 * falling,
        "test_error": 0.1 + 0.5 * falling,
        # the last is the lowest, so log(loss - lowest + c) is a line
        "train_loss": np.where(EPOCHS < 60, falling - 0.002, 0.0),
        "w_norm": np.full(len(EPOCHS), 3 * late * wiggle),
        "h_norm": np.full(len(EPOCHS), 5 * late * wiggle),
    }


def made_up_history(better=1.0, seeds=4, strengths=(0.0, 0.05, 0.1, 0.5, 0.9)):
    """A table as `measured.fetch_history` gives it."""
    parts = []
    for delta in strengths:
        for seed in range(seeds):
            values = made_up_run(delta, seed, better)
            values |= {f"test_{name}": 2 * values[name] for name in measured.METRICS}
            about = {
                "data": "mnist-subset",
                "model": "cnn",
                "weight_decay": 0.005,
                "epochs": 60,
                "epoch": EPOCHS,
                "seed": seed,
                "loss": "ce",
                "delta": delta,
                "arm": networks.loss_label("ce", delta),
                "run": f"{delta}-{seed}",
            }
            part = pd.DataFrame(about | values)
            part["lr_steps"] = [(45, 55)] * len(part)
            parts.append(part)
    return pd.concat(parts, ignore_index=True)


def texts_of(figure):
    """Draw a figure in full: warnings of the drawing are errors here. Returns all its texts."""
    FigureCanvasAgg(figure.drawing).draw()
    artists = figure.drawing.findobj(lambda artist: hasattr(artist, "get_text"))
    return {artist.get_text() for artist in artists}


@contextlib.contextmanager
def trained_networks(folder):
    """The smoke networks of the training curves and one with a loss file of its own, trained in a
    store of their own: specs, history, tensors, the file.
    """
    own = folder / "my_loss.py"
    own.write_text(OWN_LOSS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSNC_OUTPUTS", str(folder / "outputs"))
        specs = networks.plan_dynamics("smoke", ["ce", "ls", str(own)])
        history = measured.fetch_history(specs, "cpu")
        yield specs, history, runs.tensors(specs, "cpu"), own
