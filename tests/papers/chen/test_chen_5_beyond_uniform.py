"""Noise that is not symmetric and the corrections of section 6.2, on made-up networks with known
answers.
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

from lsnc_core import data, labels
from lsnc_core.claims import FAILS, HOLDS, UNDECIDED, t_interval
from lsnc_core.papers.chen import chen_5_beyond_uniform as page
from lsnc_core.papers.chen import noise_drawing, noise_tables
from lsnc_core.papers.chen.noise_networks import (
    COMPARED,
    memorised_output,
    plan_noise,
    training_floor,
    way_of,
)
from lsnc_core.papers.stored import run_names
from lsnc_core.runs import fleet
from lsnc_core.theory import label_noise
from lsnc_core.theory.label_noise_errata import jensen_terms

M = 10
SPECS = plan_noise("smoke")


# the objectives


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6), st.floats(0.001, 1), st.integers(0, 10**6))
def test_the_objectives_are_those_of_a_direct_computation_and_obey_jensen(K, a, seed):
    draws = np.random.default_rng(seed)
    S, logits = labels.symmetric_noise(a, K), 5 * draws.standard_normal((7, K))
    noisy = draws.integers(0, K, 7)
    smoothing, forward, logit = jensen_terms(S, logits, noisy)
    z = torch.from_numpy(logits)
    for n, y in enumerate(noisy):
        q = z[n].softmax(0)
        assert smoothing[n] == pytest.approx(sum(S[y, j] * math.log(q[j]) for j in range(K)))
        likelihood = sum(S[y, j] * q[j] for j in range(K))
        assert forward[n] == pytest.approx(math.log(likelihood), abs=1e-12)
        direct = (torch.from_numpy(S) @ z[n]).log_softmax(0)[y].item()
        assert logit[n] == pytest.approx(direct, abs=1e-12)
    assert (smoothing <= forward + 1e-12).all()
    rows = np.arange(7), noisy
    for term, own in zip(jensen_terms(S, logits), (smoothing, forward, logit), strict=True):
        np.testing.assert_allclose(term[rows], own, atol=1e-12)


def test_the_second_step_of_equation_19_is_false_for_a_memorised_smoothed_label():
    S = labels.symmetric_noise(0.6, M)
    _, (forward,), (logit,) = jensen_terms(S, np.log(S[:1]), np.array([0]))
    # forward: log(.6^2 + .4^2/9); logit: logits shrink by .6 - .4/9
    shrunk = (0.6 - 0.4 / 9) * math.log(0.6 * 9 / 0.4)
    assert forward == pytest.approx(math.log(0.36 + 0.16 / 9))
    assert logit == pytest.approx(shrunk - math.log(math.exp(shrunk) + 9))
    assert forward > logit


# networks that have memorised


def logits_of(spec, noisy):
    """What a network that has memorised the labels of its way outputs, as logits."""
    T = labels.noise_matrix(spec.noise, spec.a, M)
    S = memorised_output(way_of(spec), T)
    return np.log(np.clip(S, 1e-6, None)).T[noisy].astype(np.float32)


@pytest.fixture(scope="module")
def networks():
    """History and tensors of networks that have memorised, the rows in another order than these."""
    chosen = data.load("digits").subset(200, 500)
    rows, tensors, names = [], {}, run_names(SPECS)
    for spec in SPECS:
        T, way = labels.noise_matrix(spec.noise, spec.a, M), way_of(spec)
        noisy = labels.corrupt(chosen.train_labels, T, spec.seed)
        elsewhere = labels.corrupt(chosen.test_labels, T, spec.seed, "elsewhere")
        train, test = logits_of(spec, noisy.numpy()), logits_of(spec, elsewhere.numpy())
        tensors[spec] = [{}, {}, {"train_logits": train, "test_logits": test}]
        losses = {}
        for column, logits, clean in (
            ("clean_train_loss", train, chosen.train_labels),
            ("test_loss", test, chosen.test_labels),
        ):
            loss = torch.nn.functional.cross_entropy(torch.from_numpy(logits), clean)
            losses[column] = loss.item()
        losses["train_loss"] = training_floor(way, T, noisy.numpy()) + 0.01
        base = spec.to_dict() | losses | {"run": names[spec], "way": way, "test_accuracy": 0.7}
        rows += [base | {"epoch": epoch, "kept": 0.8} for epoch in spec.evaluate_at]
    history = pd.DataFrame(rows)
    last = history.epoch == history.epochs
    return pd.concat([history[last], history[~last]], ignore_index=True), tensors


@pytest.fixture(scope="module")
def table(networks):
    # as if there were enough images for the claims about held-out ones
    return noise_tables.network_table(*networks).assign(train_size=20_000)


@pytest.fixture(scope="module")
def objectives(networks):
    return noise_tables.objective_table(networks[1])


def test_the_table_of_memorising_networks_has_the_losses_of_the_theory(table):
    assert len(table) == len(SPECS) and table.memorised.all()
    for row in table.itertuples():
        floor = training_floor(row.way, labels.noise_matrix(row.noise, 0.8, M), np.arange(M))
        assert row.unlearned == pytest.approx(0.01 / (math.log(M) - floor), rel=0.1)
    smoothed = table[table.way.isin(["mean field", "posterior"])]
    for (_, _), part in smoothed.groupby(["noise", "way"]):
        # four draws of 500 labels
        assert part.test_loss.mean() == pytest.approx(part.predicted.iloc[0], rel=0.15)
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


def test_the_other_output_of_logit_smoothing_is_that_of_a_direct_computation(table):
    chosen = data.load("digits").subset(200, 500)
    spec = next(spec for spec in SPECS if spec.loss == "logit")
    clean, scale = chosen.train_labels, 0.8 - 0.2 / 9
    noisy = labels.corrupt(clean, labels.symmetric_noise(0.8, M), 0).numpy()
    logits = torch.from_numpy(logits_of(spec, noisy)).double()
    direct = torch.nn.functional.cross_entropy(scale * logits, clean).item()
    (loss,) = table[(table.way == "logit") & (table.seed == 0)].corrected_train
    assert loss == pytest.approx(direct)


def test_tables_join_by_the_name_of_the_run(networks, table):
    history, tensors = networks
    shuffled = history.sample(frac=1, random_state=0)
    backwards = dict(reversed(tensors.items()))
    keys = ["noise", "way", "a", "seed"]
    other = noise_tables.network_table(shuffled, backwards).assign(train_size=20_000)
    other = other.sort_values(keys, ignore_index=True)
    pd.testing.assert_frame_equal(other, table.sort_values(keys, ignore_index=True))


def test_the_objectives_of_memorising_networks(objectives):
    assert len(objectives) == 16 and set(objectives.images) == {200}
    smoothed = objectives[objectives.way == "mean field"]
    np.testing.assert_allclose(smoothed.smoothing, -label_noise.entropy_floor(0.8, M), rtol=1e-4)
    np.testing.assert_allclose(smoothed.forward, math.log(0.64 + 0.04 / 9), rtol=1e-4)
    assert (smoothed.above_logit == 200).all() and (objectives.above_forward == 0).all()
    assert (objectives[objectives.way == "none"].above_logit == 0).all()


def test_a_diverged_network_has_no_objectives_and_breaks_nothing(networks, objectives):
    history, tensors = networks
    spec = next(spec for spec in SPECS if spec.loss == "logit" and spec.seed == 1)
    last = tensors[spec][-1]
    diverged = {name: np.full_like(logits, np.nan) for name, logits in last.items()}
    broken = noise_tables.objective_table(tensors | {spec: [{}, {}, diverged]})
    hit = (broken.way == "logit") & (broken.seed == 1)
    assert broken.logit[hit].isna().all() and broken.logit[~hit].notna().all()
    assert broken.above_logit[hit].tolist() == [0]
    table = noise_tables.network_table(history, tensors | {spec: [{}, {}, diverged]})
    assert page.draw_corrections(history, table, broken).table is broken
    assert page.decide_c12(broken).outcome == HOLDS


# claims


def test_verdicts_on_memorising_networks_are_those_of_the_theory(networks, table, objectives):
    gaps = pd.DataFrame()
    tables = page.Tables(networks[0], table, objectives, gaps)
    decided = page.verdicts(tables).verdicts
    assert [(verdict.claim.id, verdict.outcome) for verdict in decided] == [
        ("C11", HOLDS),
        ("C11", HOLDS),
        ("C11", HOLDS),
        ("C12", HOLDS),
        ("C13", HOLDS),
        ("C13", HOLDS),
        ("C14", FAILS),
        ("C15", FAILS),
    ]
    (jensen,) = decided[3].cases
    assert (jensen.value, jensen.at_most) == (0, 0)
    assert "in 3,200 labels of 16 networks" in decided[3].measured
    assert "inf (pair)" in decided[0].measured and "0 (block)" in decided[0].measured


def test_c11_compares_losses_on_the_log_scale(table):
    larger = table.assign(corrected_test=1.5 * table.corrected_test)
    held_out = page.decide_c11(larger, "test_loss")
    assert held_out.outcome == FAILS
    assert page.decide_c11(larger, "clean_train_loss").outcome == HOLDS
    (case,) = held_out.cases
    symmetric = table[table.noise == "symmetric"]
    smoothed = symmetric[symmetric.way == "mean field"].set_index("seed").test_loss
    forward = symmetric[symmetric.way == "forward"].set_index("seed").corrected_test
    numbers = (case.value, case.low, case.high)
    assert numbers == pytest.approx((1.5, 1.5, 1.5), abs=5e-4)
    # the seeds' ratios .5 and 2 are 1 together, and decide nothing
    factors = np.where(table.seed % 2, 0.5, 2.0)
    held_out = page.decide_c11(
        table.assign(corrected_test=table.corrected_test * factors), "test_loss"
    )
    apart = forward * np.where(forward.index % 2, 0.5, 2.0)
    (case,) = held_out.cases
    expected = np.exp(t_interval(np.log(apart / smoothed)))
    assert held_out.outcome == UNDECIDED
    assert (case.value, case.low, case.high) == pytest.approx(expected)
    zero = page.decide_c11(table.assign(corrected_test=0.0), "test_loss")
    assert zero.outcome == UNDECIDED and "not finite" in zero.cases[0].undecided


def test_c12_and_c14_count_violations(objectives):
    assert page.decide_c12(objectives.assign(above_forward=1)).outcome == FAILS
    verdict = page.decide_c14(objectives)
    assert verdict.outcome == FAILS and verdict.cases[0].value == objectives.above_logit.sum()
    assert "100.0% (label smoothing)" in verdict.measured
    assert "0.0% (no smoothing)" in verdict.measured
    assert page.decide_c14(objectives.assign(above_logit=0)).outcome == HOLDS


def test_c13_fails_where_the_posterior_has_the_larger_loss(table):
    worse = table.copy()
    worse.loc[(worse.way == "posterior") & (worse.noise == "pair"), "test_loss"] += 5
    verdict = page.decide_c13(worse, "test_loss")
    failing = [case for case in verdict.cases if case.outcome == FAILS]
    assert verdict.outcome == FAILS and [case.name for case in failing] == [
        "pair noise: posterior against mean field at a = 0.8",
        "pair noise: posterior against no smoothing at a = 0.8",
    ]
    broken = table.assign(test_loss=table.test_loss.where(table.seed != 1))
    assert page.decide_c13(broken, "test_loss").outcome == UNDECIDED
    alone = page.decide_c13(table[table.noise == "symmetric"], "test_loss")
    assert not alone.cases and alone.outcome == UNDECIDED
    words = "premise not met: number of noises tried that are not symmetric is 0, needed at least 1"
    assert alone.measured == words


def test_c15_compares_the_gains_of_logit_and_label_smoothing(table):
    good = table.copy()
    smoothed = good.test_loss[good.way == "mean field"].iloc[:4].to_numpy()
    good.loc[good.way == "logit", "corrected_test"] = smoothed
    verdict = page.decide_c15(good)
    assert verdict.outcome == HOLDS
    losses = good[good.noise == "symmetric"].pivot(index="seed", columns="way", values="test_loss")
    gain = losses["none"] - losses["mean field"]
    (case,) = verdict.cases
    # all of the gain, less half of it
    assert case.name == "a = 0.8"
    assert (case.value, case.low, case.high) == pytest.approx(t_interval(gain / 2))
    assert case.remark.startswith(f"gains {gain.mean():+.3f} of logits")
    idle = good.assign(test_loss=good.test_loss.where(good.way != "mean field", 99.0))
    nothing = page.decide_c15(idle)  # more than half of a loss is no success
    words = "premise not met: lower end of the gain of label smoothing"
    assert nothing.outcome == UNDECIDED and words in nothing.measured


def test_networks_that_have_not_memorised_decide_nothing(table):
    rough = table.assign(unlearned=0.12, memorised=False)
    for verdict in (
        page.decide_c11(rough, "test_loss"),
        page.decide_c11(rough, "clean_train_loss"),
        page.decide_c13(rough, "test_loss"),
        page.decide_c15(rough),
    ):
        assert verdict.outcome == UNDECIDED and "excess training loss" in verdict.measured
        assert {premise.name for premise in verdict.unmet} == {"labels memorised"}


def test_captions_are_made_from_the_numbers(table):
    means = table.groupby(["noise", "way"]).test_loss.mean()
    caption = page.draw_general_noise(table).data["ours"]
    assert f"block: {means['block', 'none']:.2f} (no smoothing)" in caption
    assert "52 of 52" in caption
    corrected = table[table.way == "forward"].groupby("noise").corrected_test.mean()
    outputs = noise_drawing.describe_outputs(table)
    assert f"{corrected['symmetric']:.2f} of T f" in outputs


@pytest.mark.parametrize("best", ["mean field", "none"])
def test_the_captions_name_the_best_way(table, best):
    lowest = table.assign(test_loss=table.test_loss.where(table.way != best, 0.01))
    caption = page.draw_general_noise(lowest).data["ours"]
    noises = ", ".join(name for name in table.noise.unique())
    name = noise_drawing.WAY_NAMES[best]
    assert caption.startswith(
        f"At the highest a, the held-out loss is lowest under {noises} noise with {name}. "
    )
    history = lowest[lowest.noise == "symmetric"].assign(epoch=4)
    before = history.assign(epoch=1, test_loss=1e-4)  # the last epoch counts
    text = noise_drawing.describe_lowest_way(pd.concat([before, history]))
    assert text == (
        "Of 4 ways to train, the one whose softmax(z) has the lowest test loss at the end, 0.01 "
        f"nats, is {name}."
    )


def test_the_captions_say_that_all_have_diverged(table):
    diverged = table.assign(test_loss=np.nan)
    best = noise_drawing.describe_best_ways(diverged)
    assert best.endswith("noise with no way: all have diverged.")
    history = diverged[diverged.noise == "symmetric"].assign(epoch=4)
    lowest = noise_drawing.describe_lowest_way(history)
    assert lowest == "All of 4 ways to train have diverged."


def test_each_noise_may_have_its_best_way(table):
    best = table.noise.map({"symmetric": "mean field"}).fillna("posterior")
    lowest = table.assign(test_loss=table.test_loss.where(table.way != best, 0.01))
    text = noise_drawing.describe_best_ways(lowest)
    assert "under symmetric noise with label smoothing, mean field; under pair, block" in text


def test_the_caption_names_the_most_frequent_wrong_label(table):
    caption = page.draw_noise_matrices(table).data["ours"]
    assert caption.startswith("The most frequent wrong label: "), caption
    symmetric = page.draw_noise_matrices(table[table.noise == "symmetric"]).data["ours"]
    assert "wrong label: 2.2% of class" in symmetric


# the gap of eq. 18 while training


def test_the_gap_while_training_ends_at_that_of_the_last_logits():
    shorter = {"epochs": 4, "evaluate_at": (1, 4), "train_size": 100, "test_size": 50}
    specs = []
    for spec in SPECS:
        if spec.seed < 2 and spec.noise in ("symmetric", "pair"):
            specs.append(dataclasses.replace(spec, **shorter))
    digits, trained = data.load("digits"), {}
    for seed in (0, 1):  # the networks of one seed share the order of the batches
        block = [spec for spec in specs if spec.seed == seed]
        trained |= zip(block, fleet.train(block, digits, torch.device("cpu")), strict=True)
    rows, tensors = [], {}
    for spec, network in trained.items():
        base = spec.to_dict() | {"way": way_of(spec)}
        rows += [base | row for row in network.history]
        tensors[spec] = network.tensors
    gaps = noise_tables.gap_table(pd.DataFrame(rows))
    assert gaps.columns.tolist() == ["way", "a", "seed", "epoch", "gap"]
    assert len(gaps) == 3 * 2 * 2 and (gaps.gap > 0).all()
    terms = noise_tables.objective_table(tensors).set_index(["way", "a", "seed"])
    last = gaps[gaps.epoch == 4].set_index(["way", "a", "seed"]).gap
    expected = pd.MultiIndex.from_product([noise_tables.SMOOTHED, [0.8], [0, 1]])
    assert set(last.index) == set(expected)
    difference = (terms.forward - terms.smoothing)[last.index]
    np.testing.assert_allclose(last, difference, rtol=0, atol=1e-5)


@pytest.fixture
def gaps():
    """A table of `gap_table` with known numbers."""
    start = {"mean field": 0.1, "forward": 0.2, "logit": 0.3}
    levels = [start, (0.6, 0.8), range(4), (1, 10, 30)]
    cells = pd.MultiIndex.from_product(levels, names=["way", "a", "seed", "epoch"])
    rows = [(start[way] + 0.01 * seed) * epoch * a for way, a, seed, epoch in cells]
    return pd.DataFrame({"gap": rows}, index=cells).reset_index()


def test_the_caption_of_the_gap_has_its_numbers(gaps):
    caption = page.draw_jensen_gap(gaps).data["ours"]
    assert (
        "After epochs 1 and 30, nats: a = 0.6: 0.069 and 2.070 (label smoothing), "
        "0.129 and 3.870 (forward correction), "
    ) in caption
    assert caption.endswith(
        "5.160 (forward correction), 0.252 and 7.560 (logit smoothing); the least of 72 gaps, one "
        "a network and epoch, is 0.06."
    )


def test_the_figure_of_the_gap_has_the_means_and_intervals_over_seeds(gaps):
    drawing = page.draw_jensen_gap(gaps).drawing
    axes = drawing.axes
    assert [panel.get_title() for panel in axes] == ["a = 0.6, 4 seeds", "a = 0.8, 4 seeds"]
    legend = [text.get_text() for text in drawing.legends[0].get_texts()]
    assert legend[:-1] == list(noise_tables.SMOOTHED.values())
    assert legend[-1] == "95 % interval of the mean, 4 seeds"
    part = gaps[(gaps.a == 0.8) & (gaps.way == "forward")].pivot(
        index="seed", columns="epoch", values="gap"
    )
    line, band = axes[1].lines[1], axes[1].collections[1].get_paths()[0].vertices
    np.testing.assert_allclose(line.get_xydata(), np.column_stack([part.columns, part.mean()]))
    for epoch in part:
        drawn = band[band[:, 0] == epoch, 1]
        np.testing.assert_allclose([drawn.min(), drawn.max()], t_interval(part[epoch])[1:])
    diverged = gaps.assign(gap=gaps.gap.where((gaps.way != "forward") | (gaps.epoch == 1)))
    assert len(page.draw_jensen_gap(diverged).drawing.axes[1].lines[1].get_xdata()) == 1
    nothing = gaps.assign(gap=gaps.gap.where(gaps.way != "forward"))
    assert len(page.draw_jensen_gap(nothing).drawing.axes[1].lines[1].get_xdata()) == 0


# figures


def test_figures_are_closed_named_and_drawn_without_warnings(networks, table, objectives, gaps):
    figures = [
        page.draw_general_noise(table),
        page.draw_corrections(networks[0], table, objectives),
        page.draw_jensen_gap(gaps),
    ]
    assert plt.get_fignums() == []
    for figure in figures:
        for axes in (axes for axes in figure.drawing.axes if axes.axison):
            across = axes.get_shared_x_axes().get_siblings(axes)
            along = axes.get_shared_y_axes().get_siblings(axes)
            assert any(other.get_xlabel() for other in across)
            assert any(other.get_ylabel() for other in along)
    marks = figures[0].drawing.axes[0].containers[0][0].get_ydata(orig=False)
    # on a logarithmic axis, the mean of the logarithms
    losses = np.log(table[table.way == "none"].set_index("noise").test_loss)
    expected = np.exp(losses.groupby(level=0).mean())[list(COMPARED)]
    np.testing.assert_allclose(marks, expected)


def test_the_first_figure_is_drawn_for_symmetric_noise_alone(table):
    alone = table[table.noise == "symmetric"]
    page.draw_general_noise(alone)
    verdict = page.decide_c11_formula(alone)
    assert verdict.outcome == HOLDS and "differs" not in verdict.measured
