"""The landscape's explorer: its tables against the networks' rows, one by one."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
import torch
from chen_runs import entropy, eq11

from lsnc_core.metrics import ece, neural_collapse
from lsnc_core.papers.chen import explore_landscape as explore
from lsnc_core.papers.chen.networks import plan_landscape
from lsnc_core.papers.stored import run_names

M = 10
pytestmark = pytest.mark.usefixtures("own_outputs")


def made_up_course(seeds=3, rates=(0.5, 0.8), kept=(0.1, 0.3, 0.8, 1.0), epochs=(1, 4, 9)):
    """A table of `measure_course` of random values; a = 0.5 has one seed only."""
    draws, rows = np.random.default_rng(1), []
    for epoch, a, p, seed in itertools.product(epochs, rates, kept, range(seeds)):
        if a == 0.5 and seed:
            continue
        row = {"data": "digits", "train_size": 200, "run": f"{a}-{p}-{seed}"}
        row |= {"epoch": epoch, "a": a, "p": p, "seed": seed}
        values = draws.uniform(0.1, 0.9, len(explore.QUANTITIES))
        row |= dict(zip((one.column for one in explore.QUANTITIES), values, strict=True))
        row["ece"] = row["ece"] if epoch == 9 else np.nan
        rows.append(row)
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def test_each_cell_holds_its_network_and_means_are_over_the_seeds_there():
    course = made_up_course()
    table = explore.tabulate_cells(course)
    assert len(table) == 3 * 4 * 2 * 4  # epochs, seeds and their mean, rates, kept masses
    for quantity in explore.QUANTITIES:
        by_cell = course.set_index(explore.CELL)[quantity.column].to_dict()
        for row in table.itertuples():
            value = getattr(row, quantity.column)
            own = [by_cell.get((row.epoch, seed, row.a, row.p), np.nan) for seed in range(3)]
            if row.seed == "mean":
                trained = [number for number in own if not np.isnan(number)]
                wanted = sum(trained) / len(trained) if trained else np.nan
            else:
                wanted = own[int(row.seed)]
            assert value == pytest.approx(wanted, nan_ok=True)
    for row in table.itertuples():
        predicted = eq11(row.a, row.p)
        assert row.predicted == pytest.approx(predicted if row.p < 1 else np.nan, nan_ok=True)


def test_rows_stand_where_the_reading_looks_for_them():
    table = explore.tabulate_cells(made_up_course())
    lists = [table[column].unique().tolist() for column in explore.CELL]
    assert lists[1][0] == "mean"
    places = list(itertools.product(*lists))
    assert list(table[explore.CELL].itertuples(index=False, name=None)) == places


def test_the_formula_is_equation_11():
    curves = explore.tabulate_theory([0.3, 0.9], M)
    assert curves.p.min() == explore.LOWEST_KEPT
    for row in curves.itertuples():
        assert row.loss == pytest.approx(eq11(row.a, row.p), rel=1e-12)


def made_up_networks():
    """Two networks of the smoke landscape, one that teaches no label, with features of three
    epochs: the runs' table, the stored arrays, the features.
    """
    from dataclasses import replace

    from lsnc_core import data

    taught = next(spec for spec in plan_landscape("smoke") if spec.p == 0.8)
    specs = [taught, replace(taught, p=0.1)]
    draws, names = torch.Generator().manual_seed(0), run_names(specs)
    chosen = data.load("digits").subset(200, 500)
    tensors, features, rows = {}, {}, []
    for spec, (number, epoch) in itertools.product(specs, enumerate(taught.evaluate_at)):
        arrays = {"weight": torch.randn(M, 16, generator=draws).numpy(), "bias": np.zeros(M)}
        if number == 2:
            arrays["test_logits"] = torch.randn(500, M, generator=draws).numpy()
        for part, clean in (("train", chosen.train_labels), ("test", chosen.test_labels)):
            H = torch.randn(len(clean), 16, generator=draws, dtype=torch.float64)
            H += (1 + number) * torch.eye(M, 16, dtype=torch.float64)[clean]
            features[spec.p, epoch, part] = H, clean
            means = torch.stack([H[clean == k].mean(0) for k in range(M)])
            deviations, centred = H - means[clean], means - means.mean(0)
            within = [deviations[clean == k].square().sum(1).mean() for k in range(M)]
            covariance = deviations.T @ deviations / len(clean)
            arrays[f"{part}_counts"] = torch.bincount(clean).numpy()
            arrays[f"{part}_means"] = means.numpy()
            arrays[f"{part}_within"] = np.array(within)
            arrays[f"{part}_projected"] = (centred @ covariance @ centred.T).numpy()
        tensors.setdefault(spec, []).append(arrays)
        losses = {"test_loss": 1.0 + number, "clean_train_loss": 2.0, "train_loss": 1.5}
        losses |= {"test_accuracy": 0.5, "clean_train_accuracy": 0.6}
        rows.append(spec.to_dict() | {"epoch": epoch, "run": names[spec]} | losses)
    return pd.DataFrame(rows), tensors, features, chosen.test_labels


def test_collapse_and_calibration_are_those_of_features_and_logits():
    runs, tensors, features, clean = made_up_networks()
    course = explore.measure_course(runs, tensors).set_index(["p", "epoch"])
    assert len(course) == 6
    for spec, epochs in tensors.items():
        for epoch, arrays in zip(spec.evaluate_at, epochs, strict=True):
            row = course.loc[(spec.p, epoch)]
            W = torch.from_numpy(arrays["weight"]).double()
            for column, (part, metric) in explore.COLLAPSE.items():
                direct = neural_collapse(*features[spec.p, epoch, part], W).values.preset("guo")
                wanted = direct[metric] if spec.p == 0.8 else np.nan
                assert row[column] == pytest.approx(wanted, rel=1e-6, nan_ok=True)
            floor = entropy(spec.p)
            room = np.log(M) - floor
            unlearned = (1.5 - floor) / room if spec.p == 0.8 else 0
            assert row.unlearned == pytest.approx(unlearned)
            if "test_logits" in arrays:
                assert row.ece == pytest.approx(ece(torch.from_numpy(arrays["test_logits"]), clean))
            else:
                assert np.isnan(row.ece)


def test_scales_hold_every_value_of_an_unbounded_quantity():
    course = made_up_course()
    for quantity in explore.QUANTITIES:
        low, high = explore.find_limits(course, quantity)
        values = course[quantity.column].dropna()
        values = np.log10(values) if quantity.log else values
        assert low <= values.min() < values.max() <= high


def test_a_page_with_the_largest_grid_stays_small():
    """The profile `paper`: 11 clean rates, 19 kept masses, 4 seeds, 11 epochs."""
    rates, kept, epochs = np.arange(11) / 10, np.arange(2, 21) / 20, np.arange(1, 12)
    course = made_up_course(4, rates.tolist(), kept.tolist(), epochs.tolist())
    shown = explore.explore_cells(course, "grid", "The grid")
    assert len(json.dumps(shown.data)) < 1_500_000
