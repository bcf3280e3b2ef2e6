"""Chen's experiments, verdicts and figures on made-up tables with known answers, and the numbers of
the errata computed again.
"""

import math
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy import optimize, stats

from lsnc_core.errors import UsageError
from lsnc_core.papers import (
    chen,
    chen_claims,
    chen_figures,
    chen_landscape,
    chen_minima,
    chen_theory,
)
from lsnc_core.papers.claims import FAILS, HOLDS, UNDECIDED, Verdict
from lsnc_core.theory import label_noise

PS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
COLUMNS = ["test_loss", "clean_train_loss"]


def eq11(a, p, M=10):
    """Chen's equation 11, written out; not finite at p = 1 unless a = 1."""
    if p == 1:
        return 0.0 if a == 1 else math.inf
    return -a * math.log(p) - (1 - a) * math.log((1 - p) / (M - 1))


def entropy(p, M=10):
    return -sum(x * math.log(x) for x in (p, *[(1 - p) / (M - 1)] * (M - 1)) if x > 0)


def made_up(
    rates=(0.5, 0.8), ps=PS, seeds=4, measured=eq11, noise=1e-3, excess=0.01, data="mnist-subset"
):
    """A table as `results` gives it: two epochs a run, losses by a formula of (a, p) and a little
    noise of the seed.
    """
    draws = np.random.default_rng(0)
    rows = []
    for seed in range(seeds if isinstance(seeds, int) else max(seeds.values())):
        for a in rates:
            if seed >= (seeds if isinstance(seeds, int) else seeds[a]):
                continue
            for p in ps:
                loss = min(measured(a, p), 14.0) * (
                    1 + noise * draws.standard_normal()
                )  # a network's loss at p = 1 is large, not infinite
                run = {
                    "data": data,
                    "train_size": 500,
                    "a": a,
                    "p": p,
                    "seed": seed,
                    "epochs": 9,
                    "run": f"{seed}-{a}-{p}",
                    "kept": min(a + 0.01, 1.0),
                }
                shown = {
                    "test_loss": loss,
                    "clean_train_loss": 1.1 * loss,
                    "test_accuracy": 0.5,
                    "train_loss": entropy(p) + excess,
                }
                rows += [
                    run | {"epoch": 1} | {name: 99.0 for name in shown},
                    run | {"epoch": 9} | shown,
                ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def landscape(**settings):
    return chen_landscape.landscape_table(made_up(**settings))


def draw(figure):
    """Draw a figure for good: warnings of the drawing are errors here."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas


# what is trained


def test_the_quick_landscape_is_the_grid_asked_for():
    runs = chen.landscape_runs("quick")
    rates = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
    wanted = [(a, p, seed) for a in rates for p in PS for seed in range(4)]
    assert sorted((run.a, run.p, run.seed) for run in runs) == sorted(wanted) and len(runs) == 416
    assert {run.data for run in runs} == {"mnist-subset"} and {
        run.weight_decay for run in runs
    } == {0.0}
    assert {(run.momentum, run.model) for run in runs} == {(0.9, "cnn")}


@pytest.mark.parametrize("profile", chen.LANDSCAPE)
def test_every_landscape_trains_together_without_repetition_and_has_seeds_enough(profile):
    runs = chen.landscape_runs(profile)
    assert len(set(runs)) == len(runs) and len({run.shared for run in runs}) == 1
    by_rate = {a: {run.seed for run in runs if run.a == a} for a in {run.a for run in runs}}
    assert {a for a, seeds in by_rate.items() if len(seeds) >= 4} >= (
        {0.8} if profile == "smoke" else {0.5, 0.8}
    )
    per_cell = {
        (run.a, run.seed): {other.p for other in runs if (other.a, other.seed) == (run.a, run.seed)}
        for run in runs[::7]
    }
    assert len({frozenset(ps) for ps in per_cell.values()}) == 1  # every curve has all p


def test_the_grids_are_those_that_the_claims_ask_for():
    from lsnc_core.papers.chen_claims import C10_WEAK

    grids = {
        profile: sorted({run.p for run in chen.landscape_runs(profile)})
        for profile in ("quick", "gpu", "paper")
    }
    assert all(set(C10_WEAK) <= set(grid) for grid in grids.values())
    assert grids["paper"] == [
        0.1,
        0.15,
        0.2,
        0.25,
        0.3,
        0.35,
        0.4,
        0.45,
        0.5,
        0.55,
        0.6,
        0.65,
        0.7,
        0.75,
        0.8,
        0.85,
        0.9,
        0.95,
        1.0,
    ]
    assert sorted({run.p for run in chen.cifar_runs("paper")}) == [
        0.1,
        0.2,
        0.3,
        0.4,
        0.5,
        0.6,
        0.7,
        0.8,
        0.9,
        1.0,
    ]  # the paper's own
    assert len(chen.landscape_runs("gpu")) == 11 * (11 + 3 * 3)


def test_the_paper_profile_is_the_papers_setting():
    run = chen.landscape_runs("paper")[0]
    assert (
        run.data,
        run.train_size,
        run.epochs,
        run.batch,
        run.lr,
        run.momentum,
        run.weight_decay,
    ) == (
        "mnist",
        60000,
        100,
        128,
        0.01,
        0.9,
        0.0,
    )


def test_another_data_set_may_be_named_and_unknown_names_are_refused():
    assert {run.data for run in chen.landscape_runs("quick", "fashion-mnist")} == {"fashion-mnist"}
    assert chen.landscape_runs("smoke", "digits") == chen.landscape_runs("smoke")
    with pytest.raises(
        UsageError, match=r"unknown profile 'fast'; the profiles are smoke, quick, gpu, paper\."
    ):
        chen.landscape_runs("fast")
    with pytest.raises(
        UsageError,
        match=r"no image set 'mnits': did you mean 'mnist'\? the names are digits, mnist-subset,",
    ):
        chen.landscape_runs("smoke", "mnits")


# tables


def test_the_table_has_the_last_epoch_of_each_run_and_the_formula_beside_it():
    table = landscape(excess=0.05 - 1e-9)
    assert len(table) == 2 * 13 * 4 and table.memorised.all() and table.memorised.dtype == bool
    assert list(zip(table.a, table.p, table.seed, strict=True)) == sorted(
        zip(table.a, table.p, table.seed, strict=True)
    )
    assert table.test_loss.max() < 99
    for row in table.itertuples():
        assert (
            row.predicted == pytest.approx(eq11(row.a, row.p))
            and row.run == f"{row.seed}-{row.a}-{row.p}"
        )
        assert row.predicted_as_drawn == pytest.approx(eq11(row.a + 0.01, row.p))
    np.testing.assert_allclose(table.excess, 0.05, atol=1e-8)
    assert not landscape(excess=0.051).memorised.any()


def test_the_minima_of_the_formula_itself_are_found_between_the_grid_points():
    rates = (0.3, 0.45, 0.5, 0.6, 0.65, 0.7, 0.8, 0.85, 0.9, 0.95)
    found = chen_minima.minima(landscape(rates=rates, noise=0), "test_loss")
    np.testing.assert_allclose(found.argmin, rates, atol=0.006)
    assert (found.low <= found.a + 1e-3).all() and (found.high >= found.a - 1e-3).all()
    assert ((found.high - found.low) > 0.04).all()  # never finer than the grid


def test_minima_and_agreement_are_what_a_direct_computation_gives():
    table = landscape(noise=0.02)
    for column in COLUMNS:
        minima, agreement = (
            chen_minima.minima(table, column),
            chen_landscape.agreement(table, column),
        )
        assert (
            list(minima.a) == [0.5, 0.8] and list(minima.seeds) == [4, 4] and minima.memorised.all()
        )
        assert list(zip(agreement.a, agreement.seed, strict=True)) == [
            (a, seed) for a in (0.5, 0.8) for seed in range(4)
        ]
        for row in minima.itertuples():
            means = [table[(table.a == row.a) & (table.p == p)][column].mean() for p in PS]
            at = int(np.argmin(means))
            odds = [math.log(p / (1 - p)) for p in PS[at - 1 : at + 2]]
            b, c, _ = np.polyfit(odds, means[at - 1 : at + 2], 2)
            assert (
                row.argmin == pytest.approx(1 / (1 + math.exp(c / (2 * b))))
                and row.low <= row.argmin <= row.high
            )
        for row in agreement.itertuples():
            measured = {
                p: table[(table.a == row.a) & (table.p == p) & (table.seed == row.seed)][
                    column
                ].item()
                for p in PS[1:-1]
            }
            expected = [eq11(row.a, p) for p in measured]
            assert row.error == pytest.approx(
                np.mean([abs(m - e) / e for m, e in zip(measured.values(), expected, strict=True)])
            )
            assert row.residual == pytest.approx(
                np.mean(list(measured.values())) - np.mean(expected)
            )
            assert row.rank == pytest.approx(
                np.corrcoef(
                    stats.rankdata(list(measured.values())), stats.rankdata(np.round(expected, 9))
                )[0, 1]
            )
    drawn = chen_landscape.agreement(table, "test_loss", "predicted_as_drawn")
    assert (
        drawn.residual - chen_landscape.agreement(table, "test_loss").residual
    ).to_numpy() == pytest.approx(
        [
            np.mean([eq11(a, p) - eq11(a + 0.01, p) for p in PS[1:-1]])
            for a in (0.5, 0.8)
            for _ in range(4)
        ]
    )


def test_single_seeds_have_a_minimum_but_no_interval():
    minima = chen_minima.minima(landscape(rates=(0.5, 0.7), seeds={0.5: 4, 0.7: 1}), "test_loss")
    assert minima.low.notna().tolist() == minima.high.notna().tolist() == [True, False]
    assert minima.argmin.tolist() == pytest.approx([0.5, 0.7], abs=0.03)


# verdicts


def told(verdict):
    """All that a verdict says: its sentence and its cases."""
    return "; ".join(
        [verdict.measured, *(f"{case.name}: {case.measured}" for case in verdict.cases)]
    )


def both(table):
    return [
        verdict(table, column)
        for verdict in (chen_landscape.verdict_c1, chen_landscape.verdict_c2)
        for column in COLUMNS
    ]


def test_the_formula_itself_with_little_noise_holds():
    table = landscape()
    for verdict, claim in zip(both(table), ("C1", "C1", "C2", "C2"), strict=True):
        assert (verdict.claim.id, verdict.outcome) == (claim, HOLDS) and "decide" not in told(
            verdict
        )
        assert (
            "mnist-subset" in verdict.tried_on
            and "a = 0.5" in told(verdict)
            and "a = 0.8" in told(verdict)
        )
    assert "a = 0.8: error 0.1% [0.1%, 0.1%], rank correlation 1.00 [1.00, 1.00]" in told(
        chen_landscape.verdict_c2(table, "test_loss")
    )
    assert "error 10.0%" in told(chen_landscape.verdict_c2(table, "clean_train_loss"))
    assert (
        "as drawn" in chen_landscape.verdict_c2(table, "test_loss", "predicted_as_drawn").tried_on
    )


def test_a_shifted_minimum_and_a_large_error_do_not_hold():
    shifted = landscape(rates=(0.5,), measured=lambda a, p: eq11(a + 0.3, p))
    assert [verdict.outcome for verdict in both(shifted)[:2]] == [FAILS, FAILS]
    assert re.search(
        r"a = 0\.5: lowest at p = 0\.(79|8)\d? \[0\.\d+, 0\.\d+\]", told(both(shifted)[0])
    )
    wrong = landscape(measured=lambda a, p: 1.3 * eq11(a, p))
    c1, _, c2, _ = both(wrong)
    assert (c1.outcome, c2.outcome) == (HOLDS, FAILS)  # a factor moves no minimum
    assert "error 30.0%" in told(c2)
    backward = landscape(
        rates=(0.8,), noise=1e-6, measured=lambda a, p: 1.0 + 0.1 * (1.0 - eq11(a, p))
    )
    assert chen_landscape.verdict_c2(
        backward, "test_loss"
    ).outcome == FAILS and "rank correlation -1.00" in told(
        chen_landscape.verdict_c2(backward, "test_loss")
    )


def test_one_failing_clean_rate_fails_the_claim():
    table = landscape(measured=lambda a, p: eq11(a if a == 0.8 else 0.9, p))
    assert (
        chen_landscape.verdict_c1(table, "test_loss").outcome
        == chen_landscape.verdict_c2(table, "test_loss").outcome
        == FAILS
    )


@pytest.mark.parametrize(
    "factor, sign",
    [
        (0.9, r"measured − predicted -0\.\d{3} \[-0\.\d+, -0\.\d+\]"),
        (1.1, r"\+0\.\d{3} \[\+0\.\d+, \+0\.\d+\]"),
    ],
)
def test_the_sign_of_the_residual_is_told(factor, sign):
    table = landscape(rates=(0.5,), measured=lambda a, p: factor * eq11(a, p))
    verdict = chen_landscape.verdict_c2(table, "test_loss")
    assert verdict.outcome == HOLDS and re.search(sign, told(verdict))
    residual = (factor - 1) * np.mean([eq11(0.5, p) for p in PS[1:-1]])
    assert f"{residual:+.2f}" in told(verdict)
    assert f"held-out images: {residual:+.2f} at a = 0.5; training images" in chen_landscape.seen(
        table
    )


def test_networks_that_have_not_memorised_decide_nothing():
    table = landscape(excess=0.06)
    for verdict in both(table):
        assert (
            verdict.outcome == UNDECIDED
            and "not memorised" in told(verdict)
            and "more epochs" in told(verdict)
        )
    assert "104 networks" in chen_landscape.seen(
        table
    ) and "; 0 of them have memorised" in chen_landscape.seen(table)


def test_a_wide_interval_decides_nothing():
    table = landscape(rates=(0.5,), measured=lambda a, p: 1.15 * eq11(a, p))
    verdict = chen_landscape.verdict_c2(table, "test_loss")
    assert verdict.outcome == UNDECIDED and "what would decide it: more seeds" in told(verdict)


@pytest.mark.parametrize("rates", [(0.5,), (0.5, 0.8)])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverged_network_decides_nothing_and_breaks_nothing(rates, value):
    runs = made_up(rates=rates)
    hit = (runs.a == 0.5) & (runs.seed == 2) & (runs.p == 0.4) & (runs.epoch == 9)
    assert hit.sum() == 1
    runs.loc[hit, [*COLUMNS, "train_loss"]] = value
    table = chen_landscape.landscape_table(runs)
    assert table.memorised.sum() == len(table) - 1
    for verdict in both(table):
        assert (
            verdict.outcome == UNDECIDED
            and "a = 0.5: " in told(verdict)
            and "finite" in told(verdict)
        )
    agreement = chen_landscape.agreement(table, "test_loss").set_index(["a", "seed"])
    assert not np.isfinite(agreement.loc[(0.5, 2), ["error", "residual"]]).any() and np.isnan(
        agreement["rank"][0.5, 2]
    )
    assert np.isfinite(agreement.drop((0.5, 2))).all(axis=None)  # no cell is left out in silence
    found = chen_minima.minima(table, "test_loss")
    assert np.isnan(found.low[0]) and found.argmin[0] == pytest.approx(0.5, abs=0.03)
    assert chen_landscape.seen(table) and chen_landscape.nearest_theory(table).notna().all(
        axis=None
    )
    for figure in (
        chen_figures.figure_5(table),
        chen_figures.figure_5_residual(table),
        chen_figures.figure_6(table, rates),
    ):
        draw(figure)


def test_nothing_but_diverged_networks_decides_nothing():
    runs = made_up(rates=(0.5,))
    runs[[*COLUMNS, "train_loss"]] = math.nan
    table = chen_landscape.landscape_table(runs)
    assert [verdict.outcome for verdict in both(table)] == [UNDECIDED] * 4
    assert chen_minima.minima(table, "test_loss").argmin.isna().all()
    draw(chen_figures.figure_5(table))
    draw(chen_figures.figure_6(table, (0.5,)))


def test_one_seed_decides_nothing_but_is_counted():
    table = landscape(
        rates=(0.5, 0.7, 0.9, 1.0), seeds=1, measured=lambda a, p: eq11(0.5 if a == 0.9 else a, p)
    )
    for verdict in both(table):
        assert verdict.outcome == UNDECIDED and "what would decide it: 4 seeds" in told(verdict)
    assert "2 of 3 other clean rates within 0.1" in told(
        chen_landscape.verdict_c1(table, "test_loss")
    )


def test_the_nearest_theory_is_the_one_the_minima_were_made_from():
    def beta(a, p):
        q = a * a + (1 - a) ** 2 / 9
        return eq11(q, p)

    rates, kinds = (0.5, 0.6, 0.7, 0.8), ["alpha", "beta", "gamma"]
    found = chen_landscape.nearest_theory(landscape(rates=rates, measured=beta)).xs(
        "mean", axis=1, level=1
    )
    assert found.loc[kinds].idxmin().tolist() == ["beta", "beta"] and list(found.index) == [
        *kinds,
        "gamma - alpha",
        "gamma - beta",
    ]
    distance = np.mean([a - a * a - (1 - a) ** 2 / 9 for a in rates])
    assert (
        found.loc["alpha"].to_numpy() == pytest.approx(distance, abs=0.02)
        and (found.loc["beta"] < 0.03).all()
    )
    alphas = chen_landscape.nearest_theory(landscape(rates=rates))
    assert alphas.xs("mean", axis=1, level=1).loc[kinds].idxmin().tolist() == ["alpha", "alpha"]
    for place in chen_landscape.PROTOCOLS.values():
        difference = alphas[place].loc["gamma - alpha"]
        assert 0 < difference["low"] < difference["mean"] < difference["high"]
        assert difference["mean"] == pytest.approx(
            alphas[place]["mean"]["gamma"] - alphas[place]["mean"]["alpha"]
        )


def gamma(a, p):
    """A loss with its minima where gamma's are: equation 11 at gamma's best p, by the search of
    `gamma_argmin`.
    """
    return eq11(gamma_argmin(a, 10), p)


@pytest.mark.parametrize(
    "measured, outcome, cases",
    [
        (gamma, HOLDS, [HOLDS, HOLDS]),
        (eq11, FAILS, [FAILS, HOLDS]),
        (lambda a, p: eq11(a * a, p), FAILS, [FAILS] * 2),
    ],
)
def test_c17_asks_that_gammas_best_p_is_nearest(measured, outcome, cases):
    table = landscape(rates=(0.6, 0.7, 0.8), measured=measured)
    verdict = chen_landscape.verdict_c17(table, "test_loss")
    assert verdict.outcome == outcome and [case.outcome for case in verdict.cases] == cases
    nearest = chen_landscape.nearest_theory(table)["held-out images"]
    for case, kind in zip(verdict.cases, ("alpha", "beta"), strict=True):
        row = nearest.loc[f"gamma - {kind}"]
        assert row["mean"] == pytest.approx(nearest["mean"]["gamma"] - nearest["mean"][kind])
        assert case.measured == f"{row['mean']:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"
    assert (
        chen_landscape.verdict_c17(landscape(measured=measured, excess=0.06), "test_loss").outcome
        == UNDECIDED
    )
    few = chen_landscape.verdict_c17(landscape(measured=measured, seeds=3), "test_loss")
    assert few.outcome == UNDECIDED and "4 seeds" in few.measured


def test_what_a_bare_grid_point_leaves_open_widens_the_distance_to_a_theory():
    """All seeds are lowest at the first grid point, p = .5, whose place is known to half a step
    above.
    """
    grid = (0.5, 0.6, 0.9)
    table = landscape(rates=(0.7,), ps=grid, noise=0, measured=lambda a, p: 1 + p)
    row = chen_landscape.nearest_theory(table)["held-out images"].loc["gamma - alpha"]
    best = gamma_argmin(0.7, 10)
    ends = [abs(p - best) - abs(p - 0.7) for p in (0.5, 0.55)]
    assert (row["mean"], row.low, row.high) == pytest.approx(
        (ends[0], min(ends), max(ends)), abs=1e-3
    )
    assert row.high - row.low == pytest.approx(
        0, abs=1e-9
    )  # below both: the difference does not depend on where
    inside = landscape(rates=(0.55,), ps=grid, noise=0, measured=lambda a, p: 1 + p)
    row = chen_landscape.nearest_theory(inside)["held-out images"].loc["gamma - alpha"]
    assert row.high - row.low == pytest.approx(0, abs=1e-9)
    between = landscape(rates=(0.52,), ps=grid, noise=0, measured=lambda a, p: 1 + p)
    row = chen_landscape.nearest_theory(between)["held-out images"].loc["gamma - alpha"]
    assert row.high - row.low == pytest.approx(
        0.06, abs=1e-6
    )  # .52 lies within [.5, .55], gamma's .64 beyond


def test_c1_says_where_its_grid_is_coarser_than_asked_for():
    fine = tuple(k / 20 for k in range(2, 21))
    assert "not 0.05" not in chen_landscape.verdict_c1(landscape(ps=fine), "test_loss").measured
    assert (
        "steps up to 0.1, not 0.05" in chen_landscape.verdict_c1(landscape(), "test_loss").measured
    )


# verdicts on the formulas, errata


def numbers(text):
    return [
        float(number.replace(",", ""))
        for number in re.findall(r"-?(?:\d{1,3}(?:,\d{3})+|\d*\.?\d+)(?:e-?\d+)?", text)
    ]


def gamma_loss(a, p, M):
    """Equation 15 as a sum over all pairs of training label and test label of clean class 0."""
    noise, smooth = np.full((M, M), (1 - a) / (M - 1)), np.full((M, M), (1 - p) / (M - 1))
    np.fill_diagonal(noise, a)
    np.fill_diagonal(smooth, p)
    return -sum(
        noise[k, 0] * smooth[j, 0] * math.log(smooth[j, k]) for k in range(M) for j in range(M)
    )


def gamma_argmin(a, M):
    grid = np.linspace(1 / M, 1 - 1e-9, 4001)
    q = a * grid + (1 - a) * (1 - grid) / (M - 1)
    values = -q * np.log(grid) - (1 - q) * np.log((1 - grid) / (M - 1))
    return grid[np.argmin(values)]


@pytest.fixture(scope="module")
def theory():
    return {verdict.claim.id: verdict for verdict in chen_theory.theory_verdicts()}


def test_the_claims_about_formulas_hold_but_where_the_paper_goes_too_far(theory):
    expected = {"C1": HOLDS, "C4": HOLDS, "C5": HOLDS, "C6": FAILS, "C12": HOLDS}
    assert {claim: verdict.outcome for claim, verdict in theory.items()} == expected
    assert {case.name: case.outcome for case in theory["C4"].cases} == {
        "M = 2, a > 1/2, the paper's range": HOLDS,
        "M > 2, a ≥ 1/M": HOLDS,
    }
    assert [case.outcome for case in theory["C6"].cases] == [FAILS, *[HOLDS] * 10]
    assert all(
        isinstance(verdict, Verdict) and verdict.claim is chen_claims.CLAIMS[claim]
        for claim, verdict in theory.items()
    )


def test_the_numbers_of_the_verdicts_on_formulas(theory):
    assert re.search(
        r"\d\.\de-\d\d, searched at 99 clean rates and M = \(2, 3, 10, 100, 1000\)",
        theory["C1"].measured,
    )
    rates, classes = np.linspace(0.01, 0.99, 99), (2, 3, 10, 100, 1000)
    beta = {M: rates**2 + (1 - rates) ** 2 / (M - 1) for M in classes}
    binary, _ = theory["C4"].cases
    assert float(binary.measured.split(": ")[1]) == pytest.approx(
        (beta[2] - rates)[rates > 0.5].max(), abs=1e-4
    )
    reversed_by = max(
        (beta[M] - rates)[rates < 1 / M].max() for M in classes[:3]
    )  # no rate is below 1/100
    assert (
        f"for a < 1/M, not claimed, p*(β) is larger, by up to {reversed_by:.2g}"
        in theory["C4"].measured
    )
    _, limit, near = theory["C5"].cases
    assert theory["C5"].measured.startswith("holds at the closed form, the limit a², a ≥ 0.8; ")
    for M in (10, 100, 1000):
        assert f"{(beta[M] - rates**2).max():.4f} at M = {M}" in limit.measured
    # registered: .020, .036, .040
    assert near.measured.endswith(
        "0.020 at M = 3, 0.036 at M = 10, 0.040 at M = 100, 0.040 at M = 1000"
    )
    for case in theory["C6"].cases:
        M = int(case.name[4:])
        a_c, tabulated, far, close = (
            float(number) for number in re.findall(r"\d\.\d{4,}", case.measured)
        )
        assert a_c == pytest.approx(tabulated, abs=2e-6)
        if M > 2:
            jump = gamma_argmin(a_c + 1e-5, M) - gamma_argmin(a_c - 1e-5, M)
            assert close == pytest.approx(jump, abs=2e-3) and far == pytest.approx(jump, abs=5e-3)
        else:  # x = sqrt(3h) beside the transition, so a tenth at a hundredth of the distance
            assert (far, close) == pytest.approx((math.sqrt(3e-4), math.sqrt(3e-6)), rel=0.2)
    assert theory["C12"].measured == "0 violations in 70,000 rows of random cases, M = (2, 3, 4, 5)"


def test_the_best_p_is_searched_for_without_closed_forms(monkeypatch, theory):
    def refuse(*_):
        raise AssertionError("a closed form was used")

    for name in ("optimum", "best_loss", "gamma_transition", "gamma_spinodal"):
        monkeypatch.setattr(label_noise, name, refuse)
    assert chen_theory.theory_verdicts() == list(theory.values())


@pytest.mark.parametrize(
    "kind, claim, wrong",
    [("gamma", "C6", "beta"), ("beta", "C5", "alpha"), ("alpha", "C1", "beta")],
)
def test_the_verdicts_on_formulas_fail_for_another_formula(kind, claim, wrong, monkeypatch):
    right = label_noise.loss
    monkeypatch.setattr(
        label_noise,
        "loss",
        lambda asked, a, p, M: right(wrong if asked == kind else asked, a, p, M),
    )
    (found,) = (verdict for verdict in chen_theory.theory_verdicts() if verdict.claim.id == claim)
    assert found.outcome == FAILS and {case.outcome for case in found.cases[:2]} <= {FAILS}


def test_c4_fails_where_noisy_labels_ask_for_less_smoothing_and_c6_where_the_table_says_otherwise(
    monkeypatch,
):
    right = label_noise.loss
    swapped = {"alpha": "beta", "beta": "alpha"}
    monkeypatch.setattr(
        label_noise, "loss", lambda kind, a, p, M: right(swapped.get(kind, kind), a, p, M)
    )
    monkeypatch.setitem(chen_claims.C6_TRANSITIONS, 10, (0.476818 + 3e-4, 0.483))
    found = {verdict.claim.id: verdict for verdict in chen_theory.theory_verdicts()}
    assert [case.outcome for case in found["C4"].cases] == [FAILS, FAILS]
    assert {case.name for case in found["C6"].cases if case.outcome == FAILS} == {"M = 2", "M = 10"}


@pytest.fixture(scope="module")
def errata():
    return {erratum.place: erratum for erratum in chen_theory.errata()}


def test_the_errata_are_complete_and_in_words(errata):
    assert len(errata) == 11
    for erratum in errata.values():
        assert (
            all((erratum.place, erratum.printed, erratum.right, erratum.check))
            and "nan" not in erratum.check
        )
        assert all(
            text.count("$") % 2 == 0 for text in (erratum.printed, erratum.right)
        )  # formulas are closed


def one(errata, start):
    (found,) = (erratum for place, erratum in errata.items() if place.startswith(start))
    return found.check


def test_the_numbers_of_the_errata(errata):
    M, a, b = 10, 0.8, 0.2 / 9
    T = np.full((M, M), b) + (a - b) * np.eye(M)
    S = np.full((M, M), 0.3 / 9) + (0.7 - 0.3 / 9) * np.eye(M)
    q = a * a + 9 * b * b  # both copies of the noise agree

    found = numbers(one(errata, "After eq. 9"))
    assert found[1] == 0.5 and found[3] == pytest.approx(gamma_argmin(0.8, 2), abs=3e-4)
    assert (
        found[-2:]
        == pytest.approx([gamma_loss(0.9, 0.9632, 2), gamma_loss(0.9, 0.0368, 2)], abs=1e-6)
        and found[-1] == found[-2]
    )

    skewed = np.array([[0.8, 0.1, 0.0], [0.2, 0.6, 0.3], [0.0, 0.3, 0.7]])
    posterior = (skewed / skewed.sum(1, keepdims=True)).T  # P(clean c | noisy k)

    def alpha_loss(outputs):
        return -sum(
            skewed[k, c] / 3 * math.log(outputs[c, k])
            for c in range(3)
            for k in range(3)
            if skewed[k, c] > 0
        )

    *_, printed, right, first, second, third, unlike, by_rows, both = numbers(one(errata, "Eq. 10"))
    assert (printed, right) == pytest.approx((alpha_loss(skewed), alpha_loss(posterior)), abs=6e-5)
    assert (first, second, third) == pytest.approx(skewed.sum(1))  # no distributions
    shift = np.roll(np.eye(3), 1, axis=0)
    cyclic = (0.7 * np.eye(3) + 0.3 * shift) @ (0.9 * np.eye(3) + 0.1 * shift)

    def cyclic_loss(outputs):
        return -(cyclic * np.log(outputs.T)).sum() / 3

    assert (unlike, by_rows, both) == pytest.approx(
        (cyclic_loss(cyclic), cyclic_loss(cyclic.T), cyclic_loss(cyclic.T)), abs=6e-5
    )

    assert numbers(one(errata, "Before eq. 14"))[-2:] == pytest.approx([a + 9 * a / 9, a + 9 * b])

    pairs = T @ T.T
    diagonal, off = (
        -np.trace(pairs * np.log(S)) / M,
        -(pairs * np.log(S)).sum() / M + np.trace(pairs * np.log(S)) / M,
    )
    assert numbers(one(errata, "Eq. 12"))[3:5] == pytest.approx(
        [diagonal + 2 * off, diagonal + off], abs=6e-5
    )
    eq14 = -q * math.log(0.7) - (1 - q) * math.log(0.3 / 9)
    assert f"{eq14:.4f} by eq. 14" in one(errata, "Eq. 12") and diagonal + off == pytest.approx(
        eq14
    )

    printed = a * a + b * b / 9  # the mean of the squares is b^2, divided by M - 1
    outer = 2 * (2 * a * b + 8 * b * b)
    expected = [printed, q, printed + 9 * outer, 1.0]
    assert [number for number in numbers(one(errata, "Before eq. 13"))[3:]] == pytest.approx(
        expected, abs=6e-5
    )

    check = one(errata, "Eq. 13")
    assert (
        f"diagonal {q / 2:.4f} and column sum 0.50 as printed" in check
        and f"{q:.4f} and 1.00 right" in check
    )
    assert f"= {q:.4f};" in check
    agree = skewed @ skewed.T
    best = optimize.minimize(
        lambda z: (
            -(agree * np.log(np.exp(z.reshape(3, 3)) / np.exp(z.reshape(3, 3)).sum(0))).sum() / 3
        ),
        np.zeros(9),
        method="BFGS",
    )
    assert numbers(check)[-1] == pytest.approx(best.fun, abs=1e-4)

    found = numbers(one(errata, "Section 4.3"))
    exact = [
        -(qq := a * p + 0.2 * (1 - p) / (10**6 - 1)) * math.log(p)
        - (1 - qq) * math.log((1 - p) / (10**6 - 1))
        for p in (0.3, 0.9)
    ]
    assert found[-1] == pytest.approx(exact[1] - exact[0], abs=6e-5)
    assert found[-2] == pytest.approx(found[-1], abs=1e-3)
    missed = [(1 - a) * (1 - p) * (math.log(p) - math.log(1 - p)) for p in (0.3, 0.9)]
    assert abs(abs(found[-3] - found[-2]) - abs(missed[1] - missed[0])) < 2e-4

    assert one(errata, "Eq. 17").count(f"{q:.4f}") == 2  # searched and in closed form
    # -q log p - 2 log(1-p) is lowest at q / (q + 2), for all of T T^t / M sums to 1
    assert f"lowest at p = {q / (q + 2):.4f} as printed, {q:.4f} right" in one(errata, "Eq. 16")
    assert f"{q * M / 2:.4f} and {q / 2:.4f} as printed" in one(errata, "Eq. 17")


def test_the_shares_of_violations_are_those_of_other_random_draws(errata):
    check = one(errata, "Eqs 18")
    found = {
        name: [float(share) / 100 for share in re.findall(r"[\d.]+(?=%)", part)]
        for part in check.split("; ")
        for name in (part[:15],)
    }
    rows, summed, largest = found.values()
    draws, cases = np.random.default_rng(7), 4000
    for number, M in enumerate((2, 3, 4, 5)):
        counts = np.zeros(3)
        for _ in range(cases):
            p, h = draws.uniform(1 / M, 1), 2 * draws.standard_normal(M)
            S = np.full((M, M), (1 - p) / (M - 1)) + (p - (1 - p) / (M - 1)) * np.eye(M)
            forward = np.log(S @ (np.exp(h) / np.exp(h).sum()))
            smoothed = S @ h - np.log(np.exp(S @ h).sum())
            above = forward > smoothed
            counts += above.any(), forward.sum() > smoothed.sum(), above[h.argmax()]
        for share, count in zip(
            (rows[number], summed[number], largest[number]), counts, strict=True
        ):
            spread = math.sqrt(share * (1 - share) * (1 / cases + 1 / 5000))
            assert abs(share - count / cases) < 4 * spread + 1e-3  # the text is rounded to 0.1 %
    assert "at M = 2, 3, 4, 5, 5,000 random cases each" in check


def test_resnet18_is_counted_as_torchvision_builds_it(errata):
    import torch
    from torchvision.models import resnet18

    with torch.device("meta"):
        network = resnet18(num_classes=10)
        network.conv1 = torch.nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert chen_theory.resnet18_parameters() == count and f"{count:,}" in one(errata, "Appendix C")
    assert chen_theory.resnet18_parameters(100) == count + 90 * 513


# figures


@pytest.fixture(scope="module")
def grid():
    """Seeds, clean rates and a few cells that were not memorised, as a real landscape has them."""
    runs = made_up(rates=(0.5, 0.8, 1.0), seeds={0.5: 4, 0.8: 4, 1.0: 1})
    runs.loc[(runs.p == 1) & (runs.a < 1), "train_loss"] += 1
    runs.loc[(runs.p == 0.1) & (runs.a == 0.5) & (runs.seed == 3), "train_loss"] += 1  # one of four
    return chen_landscape.landscape_table(runs)


FIGURES = {
    "1": lambda grid: chen_figures.figure_1(chen_figures.landscape_theory(points=21)),
    "2": lambda grid: chen_figures.figure_2(
        chen_figures.optima_theory(("alpha", "beta", "gamma"), (2,), 41)
    ),
    "3": lambda grid: chen_figures.figure_3(
        chen_figures.optima_theory(("alpha", "beta"), (2, 10, 1000), 41)
    ),
    "4": lambda grid: chen_figures.figure_4(chen_figures.optima_theory(("gamma",), (2, 3, 10), 41)),
    "5": chen_figures.figure_5,
    "5 residual": chen_figures.figure_5_residual,
    "6": lambda grid: chen_figures.figure_6(grid, (0.5, 0.8)),
}


def panels(figure):
    return [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_closed_and_every_axis_is_named(name, grid):
    before = plt.rcParams.copy()
    figure = FIGURES[name](grid)
    assert isinstance(figure, Figure) and plt.get_fignums() == [] and plt.rcParams == before
    draw(figure)  # nothing warns
    for axes in panels(figure):
        assert axes.get_xlabel()
        assert axes.get_ylabel() or any(
            other.get_ylabel() for other in axes.get_shared_y_axes().get_siblings(axes)
        )
    bars = [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]
    assert len(bars) == (name[0] in "15") and all("nats" in axes.get_ylabel() for axes in bars)
    if name == "6":
        assert "nats" in panels(figure)[0].get_ylabel()


def colours(panel):
    """The heat map of a panel: its drawn colours (rows of p, columns of a, RGBA)."""
    (mesh,) = (
        part
        for part in panel.collections
        if type(part).__name__ == "QuadMesh" and not part.get_hatch()
    )
    shape = mesh.get_array().shape
    return mesh.to_rgba(mesh.get_array()).reshape(*shape, 4), mesh


def test_figure_1_draws_the_diverging_cells_and_the_exact_minima():
    table = chen_figures.landscape_theory(points=21)
    assert np.isinf(table.alpha).any() and len(table) == 441 and not table.isna().any(axis=None)
    figure = chen_figures.figure_1(table)
    for panel, kind in zip(panels(figure), ("alpha", "beta", "gamma"), strict=True):
        shades, mesh = colours(panel)
        assert (shades[..., 3] == 1).all() and not np.ma.is_masked(mesh.get_array())
        a, best = panel.lines[0].get_data()
        expected = {"alpha": a, "beta": 2 * a**2 - 2 * a + 1, "gamma": None}[kind]
        if expected is not None:
            np.testing.assert_allclose(best, expected, atol=1e-12)
    a, mirror = panels(figure)[2].lines[1].get_data()
    np.testing.assert_allclose(mirror, 1 - panels(figure)[2].lines[0].get_ydata())


def test_figure_5_draws_infinite_cells_hatches_and_marks(grid):
    figure = chen_figures.figure_5(grid)
    theory, *measured = panels(figure)
    assert np.isinf(grid.predicted).any()
    shades, mesh = colours(theory)
    assert (
        shades.shape[:2] == (13, 3)
        and (shades[..., 3] == 1).all()
        and not np.ma.is_masked(mesh.get_array())
    )
    assert not theory.patches
    assert [mesh.get_array()[12, column] >= chen_figures.TOP for column in range(3)] == [
        True,
        True,
        False,
    ]  # p = 1: infinite but for a = 1
    rough = {(1.0, 0.5), (1.0, 0.8), (0.1, 0.5)}  # cells (p, a) where a network has not memorised
    for panel in measured:
        hatched = {
            (PS[round(patch.get_y() + 0.5)], (0.5, 0.8, 1.0)[round(patch.get_x() + 0.5)])
            for patch in panel.patches
            if patch.get_hatch()
        }
        assert hatched == rough and len(panel.patches) == len(rough)
        assert [text.get_text() for text in panel.get_xticklabels()] == ["0.5", "0.8", "1"]
        assert [text.get_text() for text in theory.get_yticklabels()] == [f"{p:g}" for p in PS]
        assert panel in theory.get_shared_y_axes().get_siblings(theory)
        (marks,) = (line for line in panel.lines if line.get_marker() == "o")
        rows = np.interp(chen_minima.minima(grid, "test_loss").argmin, PS, range(13))
        np.testing.assert_allclose(marks.get_ydata()[:2], rows[:2], atol=0.6)
    np.testing.assert_allclose(theory.lines[0].get_ydata(), [PS.index(a) for a in (0.5, 0.8, 1.0)])


def test_hatches_are_seen_in_the_drawn_picture(grid):
    def drawn(table):
        figure = chen_figures.figure_5(table)
        canvas = draw(figure)
        panel = panels(figure)[1]
        pixels = np.asarray(canvas.buffer_rgba())[..., :3].astype(int)
        corners = panel.transData.transform(
            [(-0.4, -0.4), (0.4, 0.4)]
        )  # the cell of a = .5, p = .1
        (left, low), (right, high) = corners.round().astype(int)
        return pixels[len(pixels) - high : len(pixels) - low, left:right]

    plain, hatched = drawn(grid.assign(memorised=True)), drawn(grid)
    assert len(np.unique(plain.reshape(-1, 3), axis=0)) == 1
    changed = (np.abs(plain - hatched).sum(-1) > 60).mean()
    assert 0.02 < changed < 0.8


def test_figure_6_shows_means_with_intervals_and_refuses_other_clean_rates(grid):
    figure = chen_figures.figure_6(grid, (0.8, 1.0))
    first, second = panels(figure)
    assert (
        "a = 0.8, 4 seeds" in first.get_title()
        and "a = 1, 1 seed" in second.get_title()
        and "seeds" not in second.get_title()
    )
    drawn = first.containers[0]
    points, _, bars = drawn
    column = grid[grid.a == 0.8].groupby("p").test_loss
    np.testing.assert_allclose(points.get_xydata(), np.column_stack([PS, column.mean()]))
    for segment, (_, values) in zip(bars[0].get_segments(), column, strict=True):
        expected = stats.t.interval(0.95, 3, loc=values.mean(), scale=stats.sem(values))
        assert segment[:, 1] == pytest.approx(expected)
    assert not second.containers[0].has_yerr
    p, loss = first.lines[0].get_data()
    np.testing.assert_allclose(loss, [eq11(0.8, x) for x in p])
    with pytest.raises(
        UsageError,
        match=r"no network was trained at the clean rate 0\.7; there are 0\.5, 0\.8, 1\.",
    ):
        chen_figures.figure_6(grid, (0.5, 0.7))
    with pytest.raises(UsageError):
        chen_figures.figure_6(grid, (0.7,))


def test_tables_of_the_theory():
    table = chen_figures.optima_theory(("alpha", "gamma"), (2, 10), 11)
    assert len(table) == 44 and set(table.kind) == {"alpha", "gamma"} and set(table.M) == {2, 10}
    alpha = table[table.kind == "alpha"]
    np.testing.assert_allclose(alpha.p, alpha.a)
    for row in alpha.itertuples():
        assert row.loss == pytest.approx(entropy(row.a, row.M))
    plane = chen_figures.landscape_theory(M=3, points=5)
    for row in plane[(plane.p > 0) & (plane.p < 1)].itertuples():
        assert row.alpha == pytest.approx(eq11(row.a, row.p, 3)) and row.gamma == pytest.approx(
            gamma_loss(row.a, row.p, 3)
        )


def test_every_figure_of_the_paper_that_is_drawn_is_told_in_words():
    from lsnc_core.papers import chen_says

    assert set(chen_says.FIGURES) == {str(number) for number in range(1, 12)} and all(
        text.endswith(".") for text in chen_says.FIGURES.values()
    )
