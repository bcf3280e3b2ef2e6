"""Collapse and calibration under label noise, on made-up tables and features with known answers."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

from lsnc_core import data
from lsnc_core.claims import FAILS, HOLDS, OURS, UNDECIDED, claims_in
from lsnc_core.metrics import ece, neural_collapse
from lsnc_core.papers.beyond import beyond_1_collapse_under_noise as page
from lsnc_core.papers.chen.networks import plan_landscape
from lsnc_core.papers.stored import run_names

M = 10
PS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


RECIPE = {
    "data": "mnist-subset",
    "train_size": 20_000,
    "model": "mlp",
    "widths": (128, 64),
    "pool": 2,
    "epochs": 250,
    "batch": 64,
    "lr": 0.1,
    "weight_decay": 0.0,
}


def made_up(least_loss, least_metric, seeds=4, gap=0.0, unlearned=0.02, rates=(0.5, 0.8), **recipe):
    """A table of `metric_table` with parabolas of known lowest points; gap is the mean confidence
    minus the accuracy where the loss is lowest, and p beyond it are over-confident.
    """
    rows = []
    for a, seed, p in itertools.product(rates, range(seeds), PS):
        row = RECIPE | recipe | {"a": a, "p": p, "seed": seed}
        row |= {"unlearned": unlearned, "memorised": unlearned <= 0.1, "test_accuracy": 0.7}
        row |= {"confidence": 0.7 + gap + 0.5 * (p - least_loss(a)) + 1e-3 * (seed % 2)}
        for columns, least in (
            (("test_loss", "clean_train_loss"), least_loss),
            (page.METRICS, least_metric),
        ):
            value = 1 + (p - least(a)) ** 2 + 1e-5 * (seed % 2)
            row |= dict.fromkeys(columns, value)
        rows.append(row)
    return pd.DataFrame(rows)


def same(a):
    return a


def test_b1_and_b2_compare_the_two_best_p():
    decided = page.verdicts(made_up(same, same)).verdicts
    answers = [(verdict.claim.id, verdict.outcome) for verdict in decided]
    assert answers == [("B1", HOLDS), ("B1", HOLDS), ("B2", HOLDS), ("B3", HOLDS)]
    apart = page.verdicts(made_up(same, lambda a: a - 0.2)).verdicts
    assert [verdict.outcome for verdict in apart] == [FAILS] * 3 + [HOLDS]
    np.testing.assert_allclose([case.value for case in apart[0].cases], -0.2, atol=0.05)


def test_b3_compares_confidence_and_accuracy_where_the_loss_is_lowest():
    *_, verdict = page.verdicts(made_up(lambda a: a + 0.05, same)).verdicts
    # not at a grid point: p lies between two of them
    assert [case.value for case in verdict.cases] == pytest.approx([5e-4, 5e-4], abs=3e-3)
    for gap in (-0.1, 0.1):
        *_, verdict = page.verdicts(made_up(same, same, gap=gap)).verdicts
        assert verdict.outcome == FAILS
        assert verdict.cases[0].value == pytest.approx(gap + 5e-4, abs=3e-3)


def test_b3_is_open_where_the_grid_hides_the_place_of_the_minimum():
    """The loss is lowest at 0.95, between the last two p, and the difference is 0 there; at the
    nearest p it is large.
    """
    table = made_up(lambda a: 0.95, same, rates=(0.9,))
    table["confidence"] = 0.7 + 3 * (table.p - 0.95) + 1e-3 * (table.seed % 2)
    table.loc[table.p == 1, "test_loss"] = 10.0  # as the theory's, it diverges there
    *_, verdict = page.verdicts(table).verdicts
    (case,) = verdict.cases
    assert (
        verdict.outcome == UNDECIDED and case.low < -page.CALIBRATED < page.CALIBRATED < case.high
    )
    assert case.value == pytest.approx(-0.15, abs=0.05)


def test_few_seeds_or_labels_not_memorised_leave_all_open():
    few = page.verdicts(made_up(same, same, seeds=3)).verdicts
    assert [verdict.outcome for verdict in few] == [UNDECIDED] * 4
    assert all("what would decide it: 4 seeds" in verdict.measured for verdict in few)
    rough = page.verdicts(made_up(same, same, unlearned=0.12)).verdicts
    for verdict in rough:
        assert verdict.outcome == UNDECIDED
        (premise,) = [premise for premise in verdict.to_dict()["premises"] if not premise["met"]]
        assert premise["name"].startswith("labels memorised")
        assert premise["value"] == 0.12 and premise["needed"] == "at most 10.0%"
        assert "observed: as claimed at a = 0.5, 0.8" in verdict.measured


def test_the_papers_own_protocol_is_decided_on_held_out_images_whatever_it_memorises():
    protocol = {"data": "mnist", "model": "cnn", "train_size": 60_000}
    protocol |= {"epochs": 100, "lr": 0.01, "batch": 128}
    decided = page.verdicts(made_up(same, same, unlearned=0.5, **protocol)).verdicts
    assert [verdict.outcome for verdict in decided] == [UNDECIDED] + [HOLDS] * 3
    other = page.verdicts(made_up(same, same, unlearned=0.5, **protocol | {"lr": 0.05})).verdicts
    assert [verdict.outcome for verdict in other] == [UNDECIDED] * 4


def test_a_verdict_has_its_scale_beside_the_papers():
    for verdict in page.verdicts(made_up(same, same)).verdicts:
        scale = {row["name"]: (row["here"], row["paper"]) for row in verdict.to_dict()["scale"]}
        assert scale["training images"] == ("20,000", "60,000")
        assert scale["seeds"] == ("4", "") and scale[
            "test error at a = 0.8, of the best network"
        ] == ("30.0%", "")


def test_rates_outside_the_papers_range_do_not_vote():
    def low(a):
        return a if a > 0.4 else 0.8

    table = made_up(same, low, rates=(0.3, 0.5, 0.8))
    for verdict in page.verdicts(table).verdicts:
        assert verdict.outcome == HOLDS
        assert [case.name for case in verdict.cases] == ["a = 0.5", "a = 0.8"]


def test_the_claims_are_ours_and_have_an_expectation():
    claims = claims_in(page)
    assert [claim.id for claim in claims] == ["B1", "B2", "B3"]
    for claim in claims:
        assert claim.paper == OURS and claim.place and claim.expected
        assert claim.sentence.endswith(".")


def made_up_tensors(spec, draws):
    """Features with class means apart, as (features, clean labels) by part, and what the store
    keeps of them.
    """
    chosen = data.load("digits").subset(200, 500)
    weight = torch.randn(M, 16, generator=draws).numpy()
    last = {"weight": weight, "bias": torch.zeros(M).numpy()}
    last["test_logits"] = torch.randn(500, M, generator=draws).numpy()
    features = {}
    for part, clean in (("train", chosen.train_labels), ("test", chosen.test_labels)):
        noise = torch.randn(len(clean), 16, generator=draws, dtype=torch.float64)
        H = noise + 2 * torch.eye(M, 16, dtype=torch.float64)[clean]
        features[part] = H, clean
        means = torch.stack([H[clean == k].mean(0) for k in range(M)])
        deviations, centred = H - means[clean], means - means.mean(0)
        within = [deviations[clean == k].square().sum(1).mean() for k in range(M)]
        covariance = deviations.T @ deviations / len(clean)
        last[f"{part}_counts"] = torch.bincount(clean).numpy()
        last[f"{part}_means"] = means.numpy()
        last[f"{part}_within"] = np.array(within)
        last[f"{part}_projected"] = (centred @ covariance @ centred.T).numpy()
    return features, last


def test_the_table_is_that_of_the_features():
    draws = torch.Generator().manual_seed(0)
    specs = [spec for spec in plan_landscape("smoke") if spec.a == 0.8 and spec.p == 0.8]
    learned_nothing = dataclasses.replace(specs[0], p=0.1)
    names = run_names([*specs, learned_nothing])
    tensors, features, rows = {}, {}, []
    for spec in (learned_nothing, *specs):
        features[spec], last = made_up_tensors(spec, draws)
        tensors[spec] = [{}, {}, last]
        losses = dict.fromkeys(("test_loss", "clean_train_loss", "train_loss"), 1.0)
        run = {"epoch": 30, "run": names[spec], "kept": 0.8, "test_accuracy": 0.5}
        rows.append(spec.to_dict() | run | losses)
    table = page.metric_table(pd.DataFrame(rows), tensors).set_index("run")
    assert len(table) == 4
    for spec in specs:
        last = tensors[spec][-1]
        W = torch.from_numpy(last["weight"]).double()
        row = table.loc[names[spec]]
        for part, (H, clean) in features[spec].items():
            direct = neural_collapse(H, clean, W).values.preset("guo")
            for name, value in direct.items():
                assert row[f"{part} {name}"] == pytest.approx(value, rel=1e-6)
        for part, (H, clean) in features[spec].items():
            own = torch.stack([H[clean == k].mean(0) for k in clean.tolist()])
            spread = (H - own).square().sum(1).mean().sqrt()
            means = torch.stack([H[clean == k].mean(0) for k in range(M)])
            apart = torch.pdist(means).square().mean().sqrt()
            assert row[f"{part} spread"] == pytest.approx(float(spread), rel=1e-6)
            assert row[f"{part} relative spread"] == pytest.approx(float(spread / apart), rel=1e-6)
        _, clean = features[spec]["test"]
        assert row["ECE"] == pytest.approx(ece(torch.from_numpy(last["test_logits"]), clean))


def test_the_spread_is_shown_without_smoothing_and_at_the_kept_mass_nearest_a():
    table = made_up(same, same)
    for column in page.SPREADS:
        table[column] = table.p + table.a + 0.1 * (table.seed % 2)
    shown = page.show_spread(table)
    assert [row[:3] for row in shown.rows] == [
        ["0.5", "1", "1.55"],
        ["0.5", "0.5", "1.05"],
        ["0.8", "1", "1.85"],
        ["0.8", "0.8", "1.65"],
    ]
    assert all(len(row) == len(shown.header) for row in shown.rows)


@pytest.mark.parametrize("draw", [page.draw_grid, page.draw_best_kept])
def test_figures_are_closed_named_and_drawn_without_warnings(draw):
    figure = draw(made_up(same, lambda a: a - 0.1))
    assert plt.get_fignums() == []
    for axes in figure.drawing.axes:
        if axes.get_label() != "<colorbar>":
            across = axes.get_shared_x_axes().get_siblings(axes)
            along = axes.get_shared_y_axes().get_siblings(axes)
            assert any(other.get_xlabel() for other in across)
            assert any(other.get_ylabel() for other in along)


def test_the_caption_names_the_best_p():
    caption = page.draw_best_kept(made_up(same, same)).data["ours"]
    assert "test loss 0.50, 0.8" in caption


@pytest.mark.parametrize("shift, larger", ((0.1, True), (-0.1, False)))
def test_the_caption_counts_where_collapse_asks_for_the_larger_p(shift, larger):
    table = made_up(lambda a: a - max(shift, 0), lambda a: a - max(-shift, 0))
    caption = page.draw_grid(table).data["ours"]
    word = "larger" if larger else "smaller"
    assert caption.startswith("At 2 of 2 clean rates the p of the least NC1 on training images ")
    assert f" is {word} than that of the least test loss. " in caption
