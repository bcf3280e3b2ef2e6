"""Made-up tables of runs, as `lsnc_core.runs.results` gives them, with known answers."""

import functools
import itertools
import math

import numpy as np
import pandas as pd

from lsnc_core.papers.chen.grid import landscape_table

M = 10
PS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
COLUMNS = ["test_loss", "clean_train_loss"]
RECIPE = {
    "model": "mlp",
    "widths": (128, 64),
    "pool": 2,
    "batch": 64,
    "lr": 0.1,
    "weight_decay": 0.0,
}


def eq11(a, p, M=10):
    """Chen's equation 11, written out; not finite at p = 1 unless a = 1."""
    if p == 1:
        return 0.0 if a == 1 else math.inf
    return -a * math.log(p) - (1 - a) * math.log((1 - p) / (M - 1))


@functools.cache
def entropy(p, M=10):
    """The entropy of a smoothed label."""
    masses = [p, *[(1 - p) / (M - 1)] * (M - 1)]
    return -sum(x * math.log(x) for x in masses if x > 0)


def training_loss(a, p, unlearned):
    """The training loss of a network that leaves this share of its labels unlearned, a number or
    one by clean rate.
    """
    share = unlearned.get(a, 0.02) if isinstance(unlearned, dict) else unlearned
    return entropy(p) + share * (math.log(M) - entropy(p))


def gamma_loss(a, p, M):
    """Equation 15 as a sum over all pairs of training label and test label of clean class 0."""
    noise, smooth = np.full((M, M), (1 - a) / (M - 1)), np.full((M, M), (1 - p) / (M - 1))
    np.fill_diagonal(noise, a)
    np.fill_diagonal(smooth, p)
    pairs = itertools.product(range(M), range(M))
    return -sum(noise[k, 0] * smooth[j, 0] * math.log(smooth[j, k]) for k, j in pairs)


@functools.cache
def gamma_argmin(a, M):
    """Gamma's best p, by brute force."""
    grid = np.linspace(1 / M, 1 - 1e-9, 4001)
    q = a * grid + (1 - a) * (1 - grid) / (M - 1)
    values = -q * np.log(grid) - (1 - q) * np.log((1 - grid) / (M - 1))
    return grid[np.argmin(values)]


def clean_runs(
    rates=(0.5, 0.8),
    ps=PS,
    seeds=4,
    measured=eq11,
    noise=1e-3,
    unlearned=0.02,
    data="mnist-subset",
    size=20_000,
    epochs=9,
    **recipe,
):
    """Two epochs a run, losses by a formula of (a, p) and a little noise of the seed.

    `seeds` is one number or a number for each clean rate; so is `unlearned`, what networks have not
    learned of their labels.
    """
    draws = np.random.default_rng(0)
    counts = {a: seeds if isinstance(seeds, int) else seeds[a] for a in rates}
    rows = []
    for seed, a, p in itertools.product(range(max(counts.values())), rates, ps):
        if seed >= counts[a]:
            continue
        # a network's loss at p = 1 is large, not infinite
        loss = min(measured(a, p), 14.0) * (1 + noise * draws.standard_normal())
        run = {
            "data": data,
            "train_size": size,
            **RECIPE | recipe,
            "a": a,
            "p": p,
            "seed": seed,
            "epochs": epochs,
            "run": f"{seed}-{a}-{p}",
            "kept": min(a + 0.01, 1.0),
        }
        last = {
            "test_loss": loss,
            "clean_train_loss": 1.1 * loss,
            "test_accuracy": 0.5,
            "train_loss": training_loss(a, p, unlearned),
        }
        rows += [run | {"epoch": 1} | dict.fromkeys(last, 99.0), run | {"epoch": epochs} | last]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def landscape(**settings):
    """The landscape's table of `clean_runs`."""
    return landscape_table(clean_runs(**settings))


def cross_entropy(q, p):
    """-q log p - (1-q) log((1-p)/(M-1)), with 30 nats for what is infinite: networks' losses are
    large, not infinite.
    """
    on, off = (-math.log(x) if x > 1e-13 else 30.0 for x in (p, (1 - p) / (M - 1)))
    return q * on + (1 - q) * off


def memorised(a, p):
    """What a network that outputs the smoothed training label has on clean labels: loss, loss
    against the uniform distribution.
    """
    return cross_entropy(a, p), cross_entropy(1 / M, p)


def noisy_runs(
    rates=(0.5, 0.95),
    ps=PS,
    seeds=4,
    network=memorised,
    error=lambda a, p, best: 0.3,
    noise=1e-4,
    unlearned=0.02,
    data="mnist-subset",
    size=20_000,
    fitted=1.0,
    epochs=9,
    **recipe,
):
    """Three epochs a run, the second of which has the highest accuracy, with the losses against the
    uniform distribution; `fitted` is the share of training labels that the last epoch fits.
    """
    draws, rows = np.random.default_rng(0), []
    for seed, a, p in itertools.product(range(seeds), rates, ps):
        run = {
            "data": data,
            "train_size": size,
            **RECIPE | recipe,
            "a": a,
            "p": p,
            "seed": seed,
            "epochs": epochs,
            "kept": a,
            "run": f"{size}-{a}-{p}-{seed}",
        }
        loss, uniform = (value * (1 + noise * draws.standard_normal()) for value in network(a, p))
        for epoch, best in ((1, None), (4, True), (epochs, False)):
            wrong = 0.9
            if best is not None:
                wrong = error(a, p, best) * (1 + noise * draws.standard_normal())
            row = {
                "epoch": epoch,
                "test_loss": loss,
                "test_uniform_loss": uniform,
                "clean_train_loss": loss,
                "clean_train_uniform_loss": uniform,
                "train_loss": training_loss(a, p, unlearned),
                "test_accuracy": 1 - wrong,
                "train_accuracy": {1: 0.5, 4: 0.9, epochs: 1.0}[epoch] * fitted,
            }
            rows.append(run | row)
    return pd.DataFrame(rows).sample(frac=1, random_state=1)


def panels(figure):
    """The axes of a shown figure without its colour bars."""
    return [axes for axes in figure.drawing.axes if axes.get_label() != "<colorbar>"]


def cases_by_name(verdict):
    """A verdict's cases as {name: {quantity: case}}."""
    cases = {}
    for case in verdict.cases:
        cases.setdefault(case.name, {})[case.quantity] = case
    return cases


def outcomes(verdict):
    """The outcome of each case name."""
    from lsnc_core.claims import every

    by_name = {}
    for case in verdict.cases:
        by_name.setdefault(case.name, []).append(case.outcome)
    return {name: every(found) for name, found in by_name.items()}
