"""Noise that is not symmetric, the corrections of section 6.2, and collapse under noise, on made-up
networks with known answers.
"""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lsnc_core import data, labels
from lsnc_core.metrics import ece, neural_collapse
from lsnc_core.papers import chen, chen_beyond, chen_beyond_figures, chen_collapse
from lsnc_core.papers.claims import FAILS, HOLDS, UNDECIDED, t_interval
from lsnc_core.runs import fleet
from lsnc_core.theory import label_noise

M = 10
RUNS = chen_beyond.noise_runs("smoke")


def told(verdict):
    return "; ".join(
        [verdict.measured, *(f"{case.name}: {case.measured}" for case in verdict.cases)]
    )


# what is trained


@pytest.mark.parametrize("profile", chen.LANDSCAPE)
def test_every_noise_has_its_ways_and_four_seeds_in_the_landscapes_company(profile):
    runs = chen_beyond.noise_runs(profile)
    assert len(set(runs)) == len(runs) and {run.shared for run in runs} == {
        chen.landscape_runs(profile)[0].shared
    }
    for noise, ways in chen_beyond.TOGETHER.items():
        for a in chen_beyond.RATES[profile]:
            found = [
                (chen_beyond.way_of(run), run.seed)
                for run in runs
                if run.noise == noise and run.a == a
            ]
            assert sorted(found) == sorted((way, seed) for way in ways for seed in range(4))
    plain = {
        run
        for run in runs
        if run.noise == "symmetric" and chen_beyond.way_of(run) in ("none", "mean field")
    }
    if profile == "quick":
        assert plain <= set(chen.landscape_runs("quick")) and len(set(runs) - plain) <= 250


# the formulas


def test_the_outputs_of_memorising_networks_by_way():
    for noise in chen_beyond.TOGETHER:
        T = labels.noise_matrix(noise, 0.7, M)
        assert (chen_beyond.smoothing_of("none", T) == np.eye(M)).all()
        np.testing.assert_allclose(
            chen_beyond.smoothing_of("mean field", T), labels.smoothing_matrix(0.7, M)
        )
        np.testing.assert_allclose(
            chen_beyond.smoothing_of("posterior", T), T.T
        )  # all four are doubly stochastic
    assert np.allclose(labels.noise_matrix("mixed", 0.7, M).sum(1), 1)


def test_the_floors_are_what_no_output_goes_below():
    draws = np.random.default_rng(0)
    for noise in chen_beyond.TOGETHER:
        T = labels.noise_matrix(noise, 0.7, M)
        noisy = np.arange(M)  # of a doubly stochastic T each as often
        assert (
            chen_beyond.floor("none", T, noisy) == 0 and chen_beyond.floor("logit", T, noisy) == 0
        )
        assert chen_beyond.floor("mean field", T, noisy) == pytest.approx(
            label_noise.entropy_floor(0.7, M)
        )
        targets = {"mean field": labels.smoothing_matrix(0.7, M), "posterior": T.T}
        for way, S in targets.items():
            best = np.mean([-sum(x * math.log(x) for x in column if x > 0) for column in S.T])
            assert chen_beyond.floor(way, T, noisy) == pytest.approx(best)
        outputs = draws.dirichlet(np.full(M, 0.2), 4000)  # (draws, M)
        tried = -np.log(T @ outputs.T).max(1)  # the most likely output for each noisy label
        reached = -np.log((T @ np.eye(M)).max(1))
        assert (tried >= reached - 1e-12).all() and chen_beyond.floor(
            "forward", T, noisy
        ) == pytest.approx(reached.mean())


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6), st.floats(0.001, 1), st.integers(0, 10**6))
def test_the_objectives_are_those_of_a_direct_computation_and_obey_jensen(K, a, seed):
    draws = np.random.default_rng(seed)
    S, logits, noisy = (
        labels.symmetric_noise(a, K),
        5 * draws.standard_normal((7, K)),
        draws.integers(0, K, 7),
    )
    with np.errstate(divide="ignore"):
        found = chen_beyond.objectives(S, logits, noisy)
    z = torch.from_numpy(logits)
    for n, y in enumerate(noisy):
        q = z[n].softmax(0)
        assert found["smoothing"][n] == pytest.approx(
            sum(S[y, j] * math.log(q[j]) for j in range(K))
        )
        assert found["forward"][n] == pytest.approx(
            math.log(sum(S[y, j] * q[j] for j in range(K))), abs=1e-12
        )
        assert found["logit"][n] == pytest.approx(
            (torch.from_numpy(S) @ z[n]).log_softmax(0)[y].item(), abs=1e-12
        )
    assert (found["smoothing"] <= found["forward"] + 1e-12).all()


def test_the_second_step_of_equation_19_is_false_for_a_memorised_smoothed_label():
    S = labels.symmetric_noise(0.6, M)
    found = chen_beyond.objectives(S, np.log(S[:1]), np.array([0]))
    # forward: log(.6^2 + .4^2/9); logit: logits shrink by .6 - .4/9
    shrunk = (0.6 - 0.4 / 9) * math.log(0.6 * 9 / 0.4)
    assert found["forward"][0] == pytest.approx(math.log(0.36 + 0.16 / 9))
    assert found["logit"][0] == pytest.approx(shrunk - math.log(math.exp(shrunk) + 9))
    assert found["forward"][0] > found["logit"][0]


# networks that have memorised


def logits_of(spec, noisy):
    """What a network that has memorised the labels of its way outputs, as logits."""
    T = labels.noise_matrix(spec.noise, spec.a, M)
    S = chen_beyond.smoothing_of(chen_beyond.way_of(spec), T)
    return np.log(np.clip(S, 1e-6, None)).T[noisy].astype(np.float32)


@pytest.fixture(scope="module")
def networks():
    chosen = data.load("digits").subset(200, 500)
    rows, found = [], {}
    for spec in RUNS:
        T, way = labels.noise_matrix(spec.noise, spec.a, M), chen_beyond.way_of(spec)
        noisy = labels.corrupt(chosen.train_labels, T, spec.seed).numpy()
        train = logits_of(spec, noisy)
        test = logits_of(
            spec, labels.corrupt(chosen.test_labels, T, spec.seed, "elsewhere").numpy()
        )
        found[spec] = [{}, {}, {"train_logits": train, "test_logits": test}]
        losses = {}
        for column, logits, clean in (
            ("clean_train_loss", train, chosen.train_labels),
            ("test_loss", test, chosen.test_labels),
        ):
            losses[column] = torch.nn.functional.cross_entropy(
                torch.from_numpy(logits), clean
            ).item()
        base = spec.to_dict() | {"run": str(len(rows)), "test_accuracy": 0.7, "kept": 0.8}
        rows += [
            base | losses | {"epoch": epoch, "train_loss": chen_beyond.floor(way, T, noisy) + 0.01}
            for epoch in spec.evaluate_at
        ]
    return pd.DataFrame(rows), found


@pytest.fixture(scope="module")
def table(networks):
    return chen_beyond.table(*networks)


def test_the_table_of_memorising_networks_has_the_losses_of_the_theory(table):
    assert len(table) == len(RUNS) and table.memorised.all()
    np.testing.assert_allclose(table.excess, 0.01, atol=1e-9)
    smoothed = table[table.way.isin(["mean field", "posterior"])]
    for (_, _), part in smoothed.groupby(["noise", "way"]):
        assert part.test_loss.mean() == pytest.approx(
            part.predicted.iloc[0], rel=0.15
        )  # four draws of 500 labels
    assert np.isinf(table.predicted[table.way.isin(["none", "forward", "logit"])]).all()
    assert table.corrected_test.notna().equals(table.way.isin(["forward", "logit"]))
    symmetric = table[table.noise == "symmetric"].pivot(
        index="seed", columns="way", values=["clean_train_loss", "corrected_train"]
    )
    np.testing.assert_allclose(
        symmetric["corrected_train", "forward"],
        symmetric["clean_train_loss", "mean field"],
        rtol=1e-3,
    )
    chosen = data.load("digits").subset(200, 500)
    spec = next(spec for spec in RUNS if spec.loss == "logit")
    clean, scale = chosen.train_labels, 0.8 - 0.2 / 9
    noisy = labels.corrupt(clean, labels.symmetric_noise(0.8, M), 0).numpy()
    direct = torch.nn.functional.cross_entropy(
        scale * torch.from_numpy(logits_of(spec, noisy)).double(), clean
    ).item()
    (found,) = table[(table.way == "logit") & (table.seed == 0)].corrected_train
    assert found == pytest.approx(direct)


def test_the_objectives_of_memorising_networks(networks):
    terms = chen_beyond.jensen(networks[1])
    assert len(terms) == 16 and set(terms.images) == {200}
    smoothed = terms[terms.way == "mean field"]
    np.testing.assert_allclose(smoothed.smoothing, -label_noise.entropy_floor(0.8, M), rtol=1e-4)
    np.testing.assert_allclose(smoothed.forward, math.log(0.64 + 0.04 / 9), rtol=1e-4)
    assert (smoothed.above_logit == 200).all() and (terms.above_forward == 0).all()
    assert (terms[terms.way == "none"].above_logit == 0).all()


def test_verdicts_on_memorising_networks_are_those_of_the_theory(networks, table):
    found = chen_beyond.verdicts(table, chen_beyond.jensen(networks[1]))
    assert [(verdict.claim.id, verdict.outcome) for verdict in found] == [
        ("C11", HOLDS),
        ("C11", HOLDS),
        ("C11", HOLDS),
        ("C12", HOLDS),
        ("C13", HOLDS),
        ("C13", HOLDS),
        ("C14", FAILS),
        ("C15", FAILS),
    ]
    assert "0 violations in 3,200 labels of 16 networks" in told(found[3])
    assert "inf (pair)" in told(found[0]) and "0 (block)" in told(found[0])


def test_verdicts_change_with_the_numbers(networks, table):
    terms = chen_beyond.jensen(networks[1])
    _, held_out, training = chen_beyond.verdict_c11(
        table.assign(corrected_test=1.5 * table.corrected_test)
    )
    assert (held_out.outcome, training.outcome) == (
        FAILS,
        HOLDS,
    ) and "1.500 [1.500, 1.500]" in told(held_out)
    # on the log scale: the seeds' ratios .5 and 2 are 1 together, and decide nothing
    apart = table.assign(corrected_test=table.corrected_test * np.where(table.seed % 2, 0.5, 2.0))
    smoothed = (
        table[(table.noise == "symmetric") & (table.way == "mean field")]
        .set_index("seed")
        .test_loss
    )
    forward = (
        apart[(apart.noise == "symmetric") & (apart.way == "forward")]
        .set_index("seed")
        .corrected_test
    )
    middle, low, high = np.exp(t_interval(np.log(forward / smoothed)))
    held_out = chen_beyond.verdict_c11(apart)[1]
    assert held_out.outcome == UNDECIDED and f"{middle:.3f} [{low:.3f}, {high:.3f}]" in told(
        held_out
    )
    assert chen_beyond.verdict_c11(table.assign(corrected_test=0.0))[1].outcome == UNDECIDED
    assert chen_beyond.verdict_c12(terms.assign(above_forward=1)).outcome == FAILS
    assert chen_beyond.verdict_c14(terms.assign(above_logit=0)).outcome == HOLDS
    worse = table.copy()
    worse.loc[(worse.way == "posterior") & (worse.noise == "pair"), "test_loss"] += 5
    assert chen_beyond.verdict_c13(worse, "test_loss").outcome == FAILS
    assert "does not hold in 2" in chen_beyond.verdict_c13(worse, "test_loss").measured
    good = table.copy()
    good.loc[good.way == "logit", "corrected_test"] = (
        good.test_loss[good.way == "mean field"].iloc[:4].to_numpy()
    )
    assert chen_beyond.verdict_c15(good).outcome == HOLDS
    losses = good[good.noise == "symmetric"].pivot(index="seed", columns="way", values="test_loss")
    gain = losses["none"] - losses["mean field"]
    middle, low, high = t_interval(gain / 2)  # all of the gain, less half of it
    assert (
        f"a = 0.8: {middle:+.3f} [{low:+.3f}, {high:+.3f}]; gains {gain.mean():+.3f} of logits"
        in told(chen_beyond.verdict_c15(good))
    )
    idle = good.assign(test_loss=good.test_loss.where(good.way != "mean field", 99.0))
    nothing = chen_beyond.verdict_c15(idle)  # more than half of a loss is no success
    assert nothing.outcome == UNDECIDED and "none to compare with" in told(nothing)
    rough = table.assign(memorised=False)
    for verdict in (
        *chen_beyond.verdict_c11(rough)[1:],
        chen_beyond.verdict_c13(rough, "test_loss"),
        chen_beyond.verdict_c15(rough),
    ):
        assert (
            verdict.outcome == UNDECIDED
            and "more epochs" in verdict.measured
            and "not memorised" in told(verdict)
        )
    broken = table.assign(test_loss=table.test_loss.where(table.seed != 1))
    assert chen_beyond.verdict_c13(broken, "test_loss").outcome == UNDECIDED


def test_what_is_seen_is_told_in_numbers(table):
    means = table.groupby(["noise", "way"]).test_loss.mean()
    assert f"block: {means['block', 'none']:.2f} (none)" in chen_beyond.seen(
        table
    ) and "56 of 56" in chen_beyond.seen(table)
    corrected = table[table.way == "forward"].groupby("noise").corrected_test.mean()
    assert f"{corrected['symmetric']:.2f} of T f" in chen_beyond.seen_outputs(table)


# the gap of eq. 18 while training


def test_the_gap_while_training_ends_at_that_of_the_last_logits():
    shorter = {"epochs": 4, "evaluate_at": (1, 4), "train_size": 100, "test_size": 50}
    specs = [
        dataclasses.replace(spec, **shorter)
        for spec in RUNS
        if spec.seed < 2 and spec.noise in ("symmetric", "pair")
    ]
    trained = fleet.train(specs, data.load("digits"), torch.device("cpu"))
    pairs = [(spec, one) for spec, one in zip(specs, trained, strict=True)]
    runs = pd.DataFrame(
        [
            spec.to_dict() | {"way": chen_beyond.way_of(spec)} | row
            for spec, one in pairs
            for row in one.history
        ]
    )
    gaps = chen_beyond.jensen_gap(runs)
    assert (
        gaps.columns.tolist() == ["way", "a", "seed", "epoch", "gap"]
        and len(gaps) == 3 * 2 * 2
        and (gaps.gap > 0).all()
    )
    terms = chen_beyond.jensen({spec: one.tensors for spec, one in pairs}).set_index(
        ["way", "a", "seed"]
    )
    last = gaps[gaps.epoch == 4].set_index(["way", "a", "seed"]).gap
    assert set(last.index) == {
        (way, 0.8, seed) for way in ("mean field", "forward", "logit") for seed in (0, 1)
    }
    np.testing.assert_allclose(
        last, (terms.forward - terms.smoothing)[last.index], rtol=0, atol=1e-5
    )


@pytest.fixture
def gaps():
    """A table of `chen_beyond.jensen_gap` with known numbers."""
    start = {"mean field": 0.1, "forward": 0.2, "logit": 0.3}
    cells = [
        (way, a, seed, epoch)
        for way in start
        for a in (0.6, 0.8)
        for seed in range(4)
        for epoch in (1, 10, 30)
    ]
    rows = [(*cell, (start[cell[0]] + 0.01 * cell[2]) * cell[3] * cell[1]) for cell in cells]
    return pd.DataFrame(rows, columns=["way", "a", "seed", "epoch", "gap"])


def test_the_gap_is_told_in_numbers(gaps):
    said = chen_beyond.seen_gap(gaps)
    assert said.startswith(
        "After epochs 1 and 30, nats: a = 0.6: 0.069 and 2.070 (label smoothing), 0.129 and 3.870 (forward correction), "
    )
    assert said.endswith(
        "5.160 (forward correction), 0.252 and 7.560 (logit smoothing); the least of 72 gaps, one a network and epoch, is 0.06."
    )


def test_the_figure_of_the_gap_has_the_means_and_intervals_over_seeds(gaps):
    figure = chen_beyond_figures.jensen_gap(gaps)
    assert [axes.get_title() for axes in figure.axes] == ["a = 0.6, 4 seeds", "a = 0.8, 4 seeds"]
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == list(
        chen_beyond.SMOOTHED.values()
    )
    part = gaps[(gaps.a == 0.8) & (gaps.way == "forward")].pivot(
        index="seed", columns="epoch", values="gap"
    )
    line, band = figure.axes[1].lines[1], figure.axes[1].collections[1].get_paths()[0].vertices
    np.testing.assert_allclose(line.get_xydata(), np.column_stack([part.columns, part.mean()]))
    for epoch in part:
        drawn = band[band[:, 0] == epoch, 1]
        np.testing.assert_allclose([drawn.min(), drawn.max()], t_interval(part[epoch])[1:])
    diverged = gaps.assign(gap=gaps.gap.where((gaps.way != "forward") | (gaps.epoch == 1)))
    assert len(chen_beyond_figures.jensen_gap(diverged).axes[1].lines[1].get_xdata()) == 1
    nothing = gaps.assign(gap=gaps.gap.where(gaps.way != "forward"))
    assert len(chen_beyond_figures.jensen_gap(nothing).axes[1].lines[1].get_xdata()) == 0


# collapse under noise


def collapse_runs(least_loss, least_metric, seeds=4):
    """A table of `chen_collapse` with parabolas of known lowest points."""
    rows = []
    for a in (0.5, 0.8):
        for seed in range(seeds):
            for p in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
                row = {"data": "digits", "a": a, "p": p, "seed": seed, "memorised": True}
                for columns, least in (
                    (("test_loss", "clean_train_loss"), least_loss),
                    (chen_collapse.METRICS, least_metric),
                ):
                    value = 1 + (p - least(a)) ** 2 + 1e-5 * (seed % 2)
                    row |= dict.fromkeys(columns, value)
                rows.append(row)
    return pd.DataFrame(rows)


def test_b1_and_b2_compare_the_two_best_p():
    same = collapse_runs(lambda a: a, lambda a: a)
    assert [(verdict.claim.id, verdict.outcome) for verdict in chen_collapse.verdicts(same)] == [
        ("B1", HOLDS),
        ("B1", HOLDS),
        ("B2", HOLDS),
    ]
    apart = chen_collapse.verdicts(collapse_runs(lambda a: a, lambda a: a - 0.2))
    assert [verdict.outcome for verdict in apart] == [FAILS] * 3 and "difference -0.2" in told(
        apart[0]
    )
    few = chen_collapse.verdicts(collapse_runs(lambda a: a, lambda a: a, seeds=3))
    assert [verdict.outcome for verdict in few] == [UNDECIDED] * 3 and "4 seeds" in few[0].measured
    assert "test loss 0.50, 0.8" in chen_collapse.seen(same)


def test_the_collapse_table_is_that_of_the_features():
    chosen = data.load("digits").subset(200, 500)
    draws = torch.Generator().manual_seed(0)
    specs = [spec for spec in chen.landscape_runs("smoke") if spec.a == 0.8 and spec.p == 0.8]
    found, features, rows = {}, {}, []
    for spec in specs:
        last = {
            "weight": torch.randn(M, 16, generator=draws).numpy(),
            "bias": torch.zeros(M).numpy(),
        }
        last["test_logits"] = torch.randn(500, M, generator=draws).numpy()
        for part, clean in (("train", chosen.train_labels), ("test", chosen.test_labels)):
            H = (
                torch.randn(len(clean), 16, generator=draws, dtype=torch.float64)
                + 2 * torch.eye(M, 16, dtype=torch.float64)[clean]
            )
            features[spec, part] = H, clean
            means = torch.stack([H[clean == k].mean(0) for k in range(M)])
            deviations = H - means[clean]
            centred = means - means.mean(0)
            last[f"{part}_counts"] = torch.bincount(clean).numpy()
            last[f"{part}_means"] = means.numpy()
            last[f"{part}_within"] = np.array(
                [deviations[clean == k].square().sum(1).mean() for k in range(M)]
            )
            last[f"{part}_projected"] = (
                centred @ (deviations.T @ deviations / len(clean)) @ centred.T
            ).numpy()
        found[spec] = [{}, {}, last]
        rows.append(
            spec.to_dict()
            | {
                "epoch": 30,
                "run": str(spec.seed),
                "kept": 0.8,
                "train_loss": 1.0,
                "test_accuracy": 0.5,
            }
        )
        rows[-1] |= {"test_loss": 1.0, "clean_train_loss": 1.0}
    learned_nothing = {dataclasses.replace(specs[0], p=0.1): found[specs[0]]}
    table = chen_collapse.table(pd.DataFrame(rows), found | learned_nothing)
    assert len(table) == 4
    for row, spec in zip(table.itertuples(index=False), specs, strict=True):
        values = dict(zip(table.columns, row, strict=True))
        for part in ("train", "test"):
            H, clean = features[spec, part]
            W = torch.from_numpy(found[spec][-1]["weight"]).double()
            direct = neural_collapse(H, clean, W).values.preset("guo")
            for name, value in direct.items():
                assert values[f"{part} {name}"] == pytest.approx(value, rel=1e-6)
        assert values["ECE"] == pytest.approx(
            ece(torch.from_numpy(found[spec][-1]["test_logits"]), chosen.test_labels)
        )


# figures


def test_figures_are_closed_named_and_drawn_without_warnings(networks, table, gaps):
    history, found = networks
    history = history.assign(way=[chen_beyond.way_of(run) for run in history.itertuples()])
    collapsed = collapse_runs(lambda a: a, lambda a: a - 0.1)
    figures = [
        chen_beyond_figures.general_noise(table),
        chen_beyond_figures.corrections(history, chen_beyond.jensen(found)),
        chen_beyond_figures.jensen_gap(gaps),
        chen_beyond_figures.collapse_maps(collapsed),
        chen_beyond_figures.collapse_minima(collapsed),
    ]
    assert plt.get_fignums() == []
    for figure in figures:
        FigureCanvasAgg(figure).draw()
        for axes in figure.axes:
            if axes.get_label() != "<colorbar>":
                assert any(
                    other.get_xlabel() for other in axes.get_shared_x_axes().get_siblings(axes)
                )
                assert any(
                    other.get_ylabel() for other in axes.get_shared_y_axes().get_siblings(axes)
                )
    marks = figures[0].axes[0].containers[0][0].get_ydata(orig=False)
    expected = (
        table[table.way == "none"].groupby("noise").test_loss.mean()[list(chen_beyond.TOGETHER)]
    )
    np.testing.assert_allclose(marks, expected)
