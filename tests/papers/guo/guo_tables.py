"""Made-up tables of Guo's networks, with and without an effect of smoothing, and a store with the
smoke networks, for several test files.
"""

import contextlib
import itertools
import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lsnc_core import runs
from lsnc_core.claims import UNDECIDED
from lsnc_core.papers.guo import measured, networks
from lsnc_core.papers.guo.calibration import FITS

EPOCHS = np.array([1, 2, 4, 7, 10, 20, 30, 40, 60])
SETTINGS = {"data": "mnist-subset", "model": "cnn", "weight_decay": 0.005, "epochs": 60}
SETTINGS |= {"train_size": 1000, "batch": 50, "pool": 2}
CHANGING = (*measured.METRICS, "w_norm", "h_norm")
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
    late = math.exp(-0.3 * better * math.sqrt(delta))
    off = 0.01 * (-1) ** seed * (delta > 0)
    wiggle = math.exp(0.003 * seed + off)
    nc1 = (8 * np.exp(-EPOCHS / (6 * late)) + 0.05 * late) * wiggle
    falling = np.exp(-EPOCHS / (8 * late)) * wiggle
    return {
        "nc1": nc1,
        "nc2": late * (0.06 + 0.1 * np.log1p(nc1 / 0.06)) * (1 + off),
        "nc3": 0.2 * late * wiggle + 0.1 * nc1,
        "train_error": np.where(EPOCHS < 60, 0.5 * falling, 0.0),
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
            parts.append(describe_run(delta, seed, values))
    return pd.concat(parts, ignore_index=True)


def describe_run(delta, seed, values):
    """A run's values by epoch beside what a table of `measured.fetch_history` has of its spec."""
    about = SETTINGS | {"epoch": EPOCHS, "seed": seed, "loss": "ce", "delta": delta}
    about |= {"arm": networks.loss_label("ce", delta), "run": f"{delta}-{seed}"}
    part = pd.DataFrame(about | values)
    part["lr_steps"], part["widths"] = [(45, 55)] * len(part), [(8, 16, 64)] * len(part)
    return part


def halve(history, change=0.0):
    """Ends of the same networks with half as long a schedule: every metric larger by `change`."""
    ends = measured.last_epochs(history)
    columns = [name for name in CHANGING if name in ends]
    return ends.assign(epochs=30, epoch=30, **(ends[columns] * (1 + change)))


# ---- no effect


def null_history(generator, strengths=(0.0, 0.05)):
    """A table of `measured.fetch_history` on which smoothing has no effect: runs differ by chance
    alone, in speed and level of each metric.
    """
    parts = []
    for delta in strengths:
        for seed in range(4):
            values = made_up_run(0.0, seed, 0.0)
            speed = np.exp(0.1 * generator.standard_normal())
            for name, curve in values.items():
                chance = np.exp(0.05 * generator.standard_normal())
                values[name] = chance * np.interp(speed * EPOCHS, EPOCHS, curve)
            values["train_error"][-1] = 0.0
            parts.append(describe_run(delta, seed, values))
    return pd.concat(parts, ignore_index=True)


def null_ends(generator):
    """A table of `calibration.measure_ends` without an effect: temperatures of 1 and equal errors
    but for chance.
    """
    rows = []
    for how, delta, seed in itertools.product(FITS, (0.0, 0.05, 0.9), range(4)):
        T, ece, scaled = np.exp(0.05 * generator.standard_normal(3))
        row = {"fit": how, "delta": delta, "seed": seed, "loss": "ce", "epoch": 60}
        row |= {"T": T, "ece": 0.05 * ece, "ece_scaled": 0.02 * scaled, "test_error": 0.2}
        rows.append(SETTINGS | row)
    table = pd.DataFrame(rows)
    return table.assign(widths=[(8, 16, 64)] * len(table))


def null_epochs(generator):
    """A table of `calibration.measure_epochs` whose calibration has nothing to do with collapse."""
    table = null_history(generator).assign(train_error=0.0, test_error=0.2)
    draws = generator.random((2, len(table)))
    return table.assign(ece=draws[0], loss_wrong=draws[1])


def null_norms(generator, off=0.02):
    """A table of `theorem_networks.compare_norms` whose norms are off by the tolerance, but for
    chance.
    """
    table = null_history(generator, strengths=(0.0, 0.05, 0.1)).assign(nc1=0.01)
    draws = generator.standard_normal((2, len(table)))
    decays = {"lambda_W": 1e-3, "lambda_H": 2.5e-4, "lambda_b": 1e-2}
    errors = {"error_w": off + 0.005 * draws[0], "error_h": off + 0.005 * draws[1]}
    return table.assign(**decays, **errors)


def count_decided(decide, draws=60):
    """How many of several null tables are decided, by a function of a generator -> verdict."""
    generators = np.random.default_rng(1).spawn(draws)
    return sum(decide(generator).outcome != UNDECIDED for generator in generators)


# more in 60 draws have a probability of 3 in 1,000 where one in twenty is decided by chance
MOST_BY_CHANCE = 8


# ---- drawing and training


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
