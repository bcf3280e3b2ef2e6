"""Made-up results of Zhou's grid, as `lsnc_core.runs.results` gives them."""

import itertools

import pandas as pd

from lsnc_core.papers.zhou.networks import LOSSES, lr_steps

SETTINGS = {"CE": ("ce", 1.0), "LS": ("ce", 0.91), "FL": ("focal", 1.0), "MSE": ("mse", 1.0)}


def make_results(cell, widths=(4, 8, 16), epochs=(10, 40, 160), seeds=4):
    """Two measured epochs of each network, in random order.

    `cell(width, epochs, loss, seed)` gives the test accuracy in percent at the last.
    """
    rows = []
    for width, length, name, seed in itertools.product(widths, epochs, LOSSES, range(seeds)):
        loss, p = SETTINGS[name]
        run = {
            "data": "mnist-subset",
            "model": "cnn",
            "widths": (width, 2 * width, 8 * width),
            "epochs": length,
            "seed": seed,
            "loss": loss,
            "p": p,
            "train_size": 1000,
            "batch": 50,
            "run": f"{width}-{length}-{name}-{seed}",
            "train_accuracy": 1.0,
            "lr_steps": lr_steps(length),
        }
        start = {"epoch": 1, "validation_accuracy": 0.5, "test_accuracy": 0.123}
        accuracy = cell(width / 8, length, name, seed) / 100
        end = {"epoch": length, "validation_accuracy": 0.9, "test_accuracy": accuracy}
        rows += [run | end, run | start]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)
