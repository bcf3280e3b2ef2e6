"""Guo's training dynamics: every verdict both ways on made-up tables, the figures, and networks
with a loss of one's own.
"""

import json
import math

import numpy as np
import pandas as pd
import pytest
from guo_tables import OWN_LOSS, made_up_history, texts_of, trained_networks
from nulls import guo
from nulls.guo import halve
from scipy import stats

from lsnc_core import runs
from lsnc_core.claims import FAILS, HOLDS, UNDECIDED, claims_in
from lsnc_core.papers.guo import convergence
from lsnc_core.papers.guo import guo_1_dynamics as page
from lsnc_core.papers.guo.measured import describe_ranges, last_epochs
from lsnc_core.show import cards_in

VERDICTS = {
    "G1": lambda history, change=0.0: page.decide_g1(history, halve(history, change)),
    "G2": lambda history, change=0.0: page.decide_g2(history, halve(history, change)),
    "G3": lambda history, change=0.0: page.decide_g3(history, halve(history, change)),
    "G4": lambda history, change=0.0: page.decide_g4(history),
    "G10": lambda history, change=0.0: page.decide_g10(history),
    "G19": lambda history, change=0.0: page.decide_g19(history, halve(history, change)),
}
# of smoothing in the made-up tables; for G1 so large that it shows between two measured epochs
EFFECT = dict.fromkeys(VERDICTS, 1.0) | {"G1": 12.0}
DRAWINGS = (page.draw_f1, page.draw_f2, page.draw_f7, page.draw_f9, page.draw_f11, page.draw_f12)


@pytest.fixture(autouse=True)
def every_epoch_is_measured(monkeypatch):
    """A time is no finer than the epochs between which it lies."""
    monkeypatch.setattr(guo, "EPOCHS", np.arange(1, 61))


@pytest.mark.parametrize("better, outcome", ((1.0, HOLDS), (-1.0, FAILS), (0.0, UNDECIDED)))
@pytest.mark.parametrize("claim", VERDICTS)
def test_verdicts_follow_the_direction(claim, better, outcome):
    verdict = VERDICTS[claim](made_up_history(better * EFFECT[claim]))
    # where smoothing changes nothing the slopes are equal to the last bits, on one side or the
    # other
    assert verdict.claim.id == claim
    assert verdict.outcome == outcome or (claim, better) == ("G10", 0.0)


@pytest.mark.parametrize("claim", VERDICTS)
def test_too_few_seeds_decide_nothing(claim):
    assert VERDICTS[claim](made_up_history(seeds=3)).outcome == UNDECIDED


@pytest.mark.parametrize("claim", VERDICTS)
@pytest.mark.parametrize("better", (1.0, -1.0))
def test_claims_about_the_end_need_training_that_ended(claim, better):
    """A tenth or more between a schedule and its half leaves them open, either way."""
    history = made_up_history(better * EFFECT[claim])
    ended, moving = VERDICTS[claim](history, 0.05), VERDICTS[claim](history, 0.2)
    assert ended.outcome != UNDECIDED
    if claim in ("G4", "G10"):  # about what happens on the way
        assert moving.outcome == ended.outcome
        return
    if claim == "G1" and better == -1.0:
        assert moving.outcome == FAILS  # the training error is reached later, whatever the ends are
        return
    assert moving.outcome == UNDECIDED
    assert {premise.name for premise in moving.unmet} == {"training ended"}
    assert "is 17%" in moving.measured and "as claimed" in moving.measured


@pytest.mark.parametrize("claim", ("G2", "G3", "G19"))
def test_claims_about_the_end_need_learned_images(claim):
    verdict = VERDICTS[claim](made_up_history().assign(train_error=0.02))
    assert [premise.name for premise in verdict.unmet] == ["training error at the end"] * 2
    assert verdict.outcome == UNDECIDED


def test_g19_needs_images_as_hard_as_the_papers():
    history = made_up_history()
    easy = history.assign(test_error=history.test_error / 10)
    verdict = page.decide_g19(easy, halve(easy))
    assert [premise.name for premise in verdict.unmet] == ["test error of cross-entropy"]
    assert verdict.outcome == UNDECIDED


def test_networks_that_were_not_trained_with_half_the_schedule_decide_nothing():
    history = made_up_history()
    verdict = page.decide_g2(history, halve(history)[:0])
    assert verdict.outcome == UNDECIDED and "is not measured" in verdict.measured


def test_g1_is_open_where_nothing_is_learned():
    verdict = VERDICTS["G1"](made_up_history(EFFECT["G1"]).assign(train_error=0.5))
    found = {case.name: case.outcome for case in verdict.cases if case.deciding}
    assert verdict.outcome == UNDECIDED and found.pop("training error to 1%") == UNDECIDED
    assert list(found) == [f"NC{k} to 2 times its own last value" for k in (1, 2, 3)]
    assert set(found.values()) == {HOLDS}
    assert verdict.remark.startswith("LS/CE timed to CE's end, which repeats G2 and G3: ")
    assert verdict.remark.count(" to 2 times CE's last value") == 3
    (premise,) = verdict.unmet
    assert (
        premise.text
        == "share of networks that reach a training error of 1% is 0%, needed at least 100%"
    )


@pytest.mark.parametrize("strength", (0.0, 0.05))
def test_g1_times_no_metric_that_begins_near_the_level(strength):
    """NC2 that ends at 30 % of its first value has little more than one halving to be timed."""
    history = made_up_history()
    own = history.delta == strength
    history.loc[own, "nc2"] = history.loc[own, "epoch"].map(lambda epoch: 0.3 if epoch > 1 else 1.0)
    verdict = VERDICTS["G1"](history)
    assert verdict.outcome == UNDECIDED
    (premise,) = verdict.unmet
    name = f"NC2 at epoch 1 relative to its last value (δ = {strength:g}) is 3.3, needed"
    assert premise.text == f"{name} at least 4.0"


def test_g10_compares_no_slopes_of_losses_that_waver():
    history = made_up_history()
    first, end = convergence.slope_epochs(history)
    slope = convergence.fit_slopes(history).slope.min()
    (premise,) = page.decide_g10(history).premises
    assert premise.met and premise.value >= math.exp(-slope * (end - first) / 2)
    level = history.train_loss.where(history.epoch == history.epoch.max(), 0.5)
    wavering = history.assign(train_loss=level + 0.01 * (history.epoch % 2))
    verdict = page.decide_g10(wavering)
    assert verdict.outcome == UNDECIDED and verdict.unmet == list(verdict.premises)


def test_g4_tells_what_it_lacks():
    """Nothing learned, and no NC1 in common: neither is a want of seeds."""
    history = made_up_history()
    unlearned = page.decide_g4(history.assign(train_error=0.5))
    first, second = unlearned.cases
    assert first.outcome == HOLDS and unlearned.outcome == UNDECIDED
    assert second.unmet[0].name == "share of networks that reach a training error of 1%"
    apart = history.assign(nc1=np.where(history.delta > 0, history.nc1 * 1e-9, history.nc1))
    verdict = page.decide_g4(apart)
    assert verdict.outcome == UNDECIDED and "share of pairs with an NC1 in common" in (
        verdict.unmet[0].name
    )
    assert scale_of(verdict)["range of NC1"].here == "none common to all networks"


def scale_of(verdict):
    return {size.name: size for size in verdict.scale}


def test_g4_tells_its_range_of_nc1_beside_the_papers():
    history = made_up_history()
    ends = history.groupby(["delta", "seed"]).nc1.agg(["min", "max"])
    low, high = ends["min"].max(), min(1, ends["max"].min())  # the paper's axis begins at 1
    size = scale_of(page.decide_g4(history))["range of NC1"]
    assert size.here == f"{high:.2g} to {low:.2g}" and size.paper.startswith("1 to 5e-05")


def test_f2_draws_the_means_that_decide_g4_where_there_are_some():
    history = made_up_history()
    figure = page.draw_f2(history)
    _, right = figure.drawing.axes
    drawn = {line.get_label(): line for line in right.lines}
    for case, epochs in zip(
        page.decide_g4(history).cases,
        ("all epochs", "epochs from 1% training error on"),
        strict=True,
    ):
        line = drawn[f"LS − CE, mean over {epochs} (G4)"]
        assert list(line.get_ydata()) == [case.value] * 2
        low, high = sorted(line.get_xdata())
        assert f"(NC1 {high:.2g} to {low:.2g})" in case.name
        rows = figure.table[figure.table.arm == f"LS − CE, mean over {epochs}"]
        assert sorted(rows.nc1) == [low, high] and list(rows.nc2) == [case.value] * 2
    apart = history.assign(nc1=np.where(history.seed % 2, history.nc1 * 1e-9, history.nc1))
    _, right = page.draw_f2(apart).drawing.axes
    assert not [line for line in right.lines if "mean over" in line.get_label()]


@pytest.mark.parametrize(
    ("data", "paper", "images"),
    [
        ("mnist-subset", "CIFAR-10, whose sizes follow; also CIFAR-100, ", "50,000"),
        ("stl10", "STL-10 (labelled part)", "5,000"),
    ],
)
def test_a_scale_names_the_image_set_whose_sizes_it_has(data, paper, images):
    sizes = scale_of(page.decide_g4(made_up_history().assign(data=data)))
    assert sizes["image set"].paper.startswith(paper)
    assert sizes["training images"].paper == images
    assert (sizes["image set"].paper == sizes["image set"].here) == (data == "stl10")


def test_g4_is_decided_within_the_papers_range():
    """Smoothing has the larger NC2 at NC1 above 1, where the axes of F2 end."""
    history = made_up_history()
    above = (history.nc1 > 3) & (history.delta > 0)
    history.loc[above, "nc2"] += 10
    assert history.nc1.max() > 5 and page.decide_g4(history).outcome == HOLDS
    wider = history.assign(data="stl10")  # NC1 from 0.01 to 100
    assert page.decide_g4(wider).outcome != HOLDS


def test_every_verdict_tells_its_scale():
    for decide in VERDICTS.values():
        verdict = decide(made_up_history())
        scale = {size.name: size for size in verdict.scale}
        assert json.loads(json.dumps(verdict.to_dict()))["outcome"] == verdict.outcome
        assert scale["training images"].here == "1,000" and scale["steps"].here == "1,200"
        assert scale["side in pixels"].here == "14" and scale["seeds"].here == "4"
        assert scale["network"].here == "cnn, 64 features"
        assert scale["test error without smoothing"].paper == "10% to 15%"


def test_ranges_are_those_of_all_points_of_an_image_set():
    table = made_up_history()
    table["nc2"] = np.linspace(0.25, 1.25, len(table))
    text = describe_ranges(pd.concat([table, table.assign(data="digits", nc2=2.0)]))
    assert text.count("test error") == 2 and "NC2 0.25 to 1.25" in text
    assert "digits: test error" in text and "NC2 2.00 to 2.00" in text


@pytest.mark.parametrize("draw", DRAWINGS, ids=[draw.card.number for draw in DRAWINGS])
def test_figures_name_their_axes(draw):
    assert {"epoch", "NC2"} & texts_of(draw(made_up_history()))


@pytest.mark.parametrize("better, sign", ((1.0, "-"), (-1.0, "+")))
def test_the_caption_of_f9_has_the_slopes_of_g10(better, sign):
    history = made_up_history(better)
    slopes = convergence.fit_slopes(history).pivot(index="seed", columns="delta", values="slope")
    change = slopes[0.05] - slopes[0.0]
    low, high = stats.ttest_1samp(change, 0).confidence_interval()
    text = convergence.describe_approach(convergence.main_pair(history))
    numbers = f"{change.mean():+.3f} [{low:+.3f}, {high:+.3f}] on MNIST subset."
    assert text.endswith(numbers) and numbers.startswith(sign)
    assert page.draw_f9(history).data["ours"].startswith("Slope of the logarithm between the ")
    late = convergence.describe_approach(history[history.epoch > 50])
    assert late.endswith(": slope is not finite for every seed on MNIST subset.")


@pytest.mark.parametrize("factor, count", ((2.0, 6), (0.5, 0)))
def test_the_caption_of_f12_counts_where_test_images_collapse_less(factor, count):
    history = made_up_history()
    for metric in ("nc1", "nc2", "nc3"):
        history[f"test_{metric}"] = factor * history[metric]
    caption = page.draw_f12(history).data["ours"]
    assert f" than training images in {count} of 6 comparisons, " in caption


@pytest.mark.parametrize("better, lowest", ((1.0, "LS δ = 0.9"), (-1.0, "CE")))
def test_the_caption_of_f7_names_the_strength_that_ends_lowest(better, lowest):
    caption = page.draw_f7(made_up_history(better)).data["ours"]
    assert f"NC1 and NC2 and NC3 with {lowest} (MNIST subset). " in caption, caption


def test_two_image_sets_give_two_rows():
    both = pd.concat([made_up_history(), made_up_history().assign(data="digits")])
    for draw in (page.draw_f1, page.draw_f7):
        assert len(draw(both).drawing.axes) == 8


def test_the_cards_name_figures_and_claims():
    numbers = [card.number for card in cards_in(page)]
    assert sorted(numbers) == ["F1", "F11", "F12", "F2", "F7", "F9"]
    assert sorted(claim.id for claim in claims_in(page)) == sorted(VERDICTS)
    assert len(page.list_problems().entries) == 8


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    with trained_networks(tmp_path_factory.mktemp("guo-dynamics")) as networks:
        yield networks


def test_your_own_loss_is_trained_and_drawn(trained):
    specs, history, _, own = trained
    asked = page.select_losses(history, [str(own), "ce"])
    assert list(dict.fromkeys(asked.arm)) == ["my_loss.py", "CE"] and len(asked) == 2 * 4 * 9
    figure = page.draw_f1(history, [str(own), "ce"])
    assert "my_loss.py" in texts_of(figure)
    lines = {line.get_label(): line for line in figure.drawing.axes[1].lines}
    # on a logarithmic axis, the mean of the logarithms
    logs = np.log(history[history.loss == str(own)].set_index("epoch").nc1)
    mine = np.exp(logs.groupby(level=0).mean()).to_numpy()
    assert lines["my_loss.py"].get_ydata() == pytest.approx(mine)
    # it is another loss: paying for confidence leaves less of it than plain cross-entropy with the
    # same start
    ends = last_epochs(history).set_index(["arm", "seed"]).clean_train_loss
    assert (ends["my_loss.py"] > ends["CE"]).all()
    before = runs.Store().path(specs[-1])
    own.write_text(OWN_LOSS.replace("0.1", "0.2"))
    assert runs.Store().path(specs[-1]) != before  # the content is part of the key
    own.write_text(OWN_LOSS)
    assert runs.Store().path(specs[-1]) == before


def test_history_has_the_metrics_of_each_run_beside_its_numbers(trained):
    specs, history, tensors, _ = trained
    for spec in specs[::5]:
        same = (history.loss == spec.loss) & (history.p == spec.p) & (history.seed == spec.seed)
        rows = history[same]
        assert rows.epoch.tolist() == list(spec.evaluate_at)
        for number, row in enumerate(rows.itertuples()):
            arrays = tensors[spec][number]
            H = (arrays["train_means"] - arrays["train_means"].mean(0)).astype(float)  # (K, D)
            product = arrays["weight"] @ H.T
            E = (np.eye(10) - 0.1) / 3
            nc2 = np.linalg.norm(product / np.linalg.norm(product) - E)
            assert row.nc2 == pytest.approx(nc2, abs=1e-6)
            w_norm = np.linalg.norm(arrays["weight"], axis=1).mean()
            assert row.w_norm == pytest.approx(w_norm, rel=1e-6)
            assert row.h_norm == pytest.approx(np.linalg.norm(H, axis=1).mean(), rel=1e-5)
            # tr(Sigma_W Sigma_B^+)/K with Hbar Sigma_W Hbar^T = projected:
            # Sigma_B^+ = K Hbar^+ Hbar^+T
            back = np.linalg.pinv(H @ H.T, rcond=1e-9)
            nc1 = np.trace(back @ arrays["train_projected"] @ back)
            assert row.nc1 == pytest.approx(nc1, rel=1e-4)
    assert (history[history.loss == "ce"].groupby("delta").seed.nunique() == 4).all()
