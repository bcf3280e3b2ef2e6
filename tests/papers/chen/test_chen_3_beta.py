"""Chen's noisy test labels on made-up tables whose answers are known both ways; the notebooks'
cells for CIFAR-10.
"""

import dataclasses
import importlib
import json
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from chen_runs import M, cases_by_name, memorised, noisy_runs, outcomes, panels
from conftest import ROOT

from lsnc_core import data, labels
from lsnc_core.claims import FAILS, HOLDS, UNDECIDED
from lsnc_core.errors import UsageError
from lsnc_core.papers.chen import chen_3_beta as page
from lsnc_core.papers.chen import networks


def beta(**settings):
    return page.beta_table(noisy_runs(**settings))


# tables


@pytest.mark.parametrize("a", [0.0, 0.1, 0.7, 1.0])
def test_the_expected_loss_is_the_mean_over_all_noisy_labels(a):
    draws = np.random.default_rng(3)
    logits = draws.standard_normal((50, M)) * 3
    log_q = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    clean = draws.integers(0, M, 50)
    # every label that can be drawn, with its probability
    chances = np.where(np.arange(M) == clean[:, None], a, (1 - a) / (M - 1))
    direct = -(chances * log_q).sum(1).mean()
    expected = page.expected_loss(a, -log_q[np.arange(50), clean].mean(), -log_q.mean(), M)
    assert expected == pytest.approx(direct)


def test_a_memorising_network_has_the_loss_of_equation_14():
    table = beta(rates=(0.3, 0.5, 0.95), noise=0)
    for row in table[table.p < 1].itertuples():
        a, p = row.a, row.p
        rest = (1 - p) / 9
        eq14 = -(a**2) * math.log(p) - 2 * a * (1 - a) * math.log(rest)
        eq14 -= (1 - a) ** 2 / 9 * math.log(p) + (1 - a) ** 2 * 8 / 9 * math.log(rest)
        assert row.test_beta == pytest.approx(eq14)
        assert row.predicted_beta == pytest.approx(eq14)
        assert row.predicted_beta_as_drawn == pytest.approx(eq14)
        assert row.train_beta == pytest.approx(eq14)


def test_one_drawn_corruption_is_a_draw_of_its_own_for_each_seed_and_near_its_expectation():
    specs = [spec for spec in networks.plan_landscape("smoke") if spec.a == 0.8 and spec.p == 0.8]
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(specs[0].test_size, M, generator=generator).numpy() * 2
    table = page.corrupted_losses({spec: [{}, {"test_logits": logits}] for spec in specs})
    assert table.seed.tolist() == [0, 1, 2, 3] and table.drawn.nunique() == 4
    clean = data.load("digits").subset(200, 500).test_labels
    log_q = torch.from_numpy(logits).double().log_softmax(1)
    T = labels.symmetric_noise(0.8, M)
    noisy = labels.corrupt(clean, T, 2, purpose="test label noise")
    assert table.drawn[2] == pytest.approx(-log_q[torch.arange(500), noisy].mean().item())
    # not the draw of the training labels
    assert not torch.equal(noisy, labels.corrupt(clean, T, 2))
    loss = -log_q[torch.arange(500), clean].mean().item()
    expected = page.expected_loss(0.8, loss, -log_q.mean().item(), M)
    assert np.abs(table.drawn - expected).max() < 5 * log_q.std().item() / math.sqrt(500)


def test_the_clean_rates_of_figure_7_are_the_papers_where_there_are_such():
    assert page.choose_rates(pd.DataFrame({"a": [0.5, 0.8, 0.95, 1.0]})) == (0.5, 0.95)
    assert page.choose_rates(pd.DataFrame({"a": [0.3, 0.8, 1.0]})) == (0.8,)
    assert page.choose_rates(pd.DataFrame({"a": [0.5, 0.8, 1.0]}), [0.8]) == (0.8,)


# verdicts


def test_c3_holds_for_the_formula_fails_for_another_and_names_missing_clean_rates():
    table = beta(rates=(0.5, 0.8, 0.95))
    for column in page.NOISY_IMAGES:
        verdict = page.decide_c3(table, column)
        assert verdict.outcome == HOLDS and list(outcomes(verdict)) == ["a = 0.5", "a = 0.95"]
        assert "it holds at 1 of 1 other clean rates" in verdict.measured
    wrong = beta(network=lambda a, p: [1.3 * value for value in memorised(a, p)])
    verdict = page.decide_c3(wrong, "test_beta")
    assert verdict.outcome == FAILS
    assert cases_by_name(verdict)["a = 0.5"]["relative error"].value == pytest.approx(0.3, abs=1e-3)
    missing = page.decide_c3(beta(rates=(0.5,)), "test_beta")
    words = "premise not met: number of seeds (a = 0.95) is 0, needed at least 4\n"
    words += "observed: as claimed at a = 0.5"
    assert missing.outcome == UNDECIDED and words in missing.measured
    rough = page.decide_c3(beta(unlearned=0.12), "test_beta")
    assert rough.outcome == UNDECIDED and "excess training loss" in rough.measured
    assert "premise not met: excess training loss relative to" in rough.measured
    assert "as drawn" in page.decide_c3(table, "train_beta", "predicted_beta_as_drawn").tried_on


def test_c4_holds_for_memorised_labels_and_fails_where_noisy_labels_ask_for_less_smoothing():
    table = beta(rates=(0.5, 0.8, 1.0))
    verdict = page.decide_c4(table, "test_loss")
    assert verdict.outcome == HOLDS and list(outcomes(verdict)) == ["a = 0.5", "a = 0.8"]
    expected = 0.5**2 + 0.5**2 / 9 - 0.5
    first = verdict.cases[0]
    assert first.remark == f"predicted {expected:+.3f}"
    assert first.value == pytest.approx(expected, abs=0.01) and first.at_most == 0
    swapped = table.rename(columns={"test_loss": "test_beta", "test_beta": "test_loss"})
    assert page.decide_c4(swapped, "test_loss").outcome == FAILS
    rough = page.decide_c4(beta(unlearned=0.12), "test_loss")
    assert rough.outcome == UNDECIDED and "excess training loss" in rough.cases[0].text


def test_what_was_not_trained_is_undecided():
    table = beta()
    tables, ids = page.Tables(table, None, None, None, None), ["C3", "C3", "C3", "C4", "C4"]
    alone = page.verdicts(tables).verdicts
    assert [verdict.claim.id for verdict in alone] == [*ids, "C3"]
    both = page.verdicts(tables._replace(memorised=table)).verdicts
    assert [verdict.claim.id for verdict in both] == [*ids, *ids, "C3"]
    assert alone[-1].outcome == UNDECIDED and "CIFAR-10" in alone[-1].tried_on
    assert (
        not alone[-1].cases
        and "landscape on CIFAR-10 is 0, needed at least 4" in alone[-1].measured
    )
    trained = page.verdicts(tables._replace(cifar=table.assign(data="cifar10"))).verdicts
    assert len(trained) == 9 and all(verdict.outcome == HOLDS for verdict in trained)


# figures


def drawn_once(table):
    return table[["a", "p", "seed"]].assign(drawn=1.0)


FIGURES = {
    "7": lambda table: page.draw_figure_7(table, drawn_once(table), (0.5, 0.95)),
    "7 cifar10": lambda table: page.draw_figure_7_cifar10(table, drawn_once(table)),
    "minima": page.draw_beta_minima,
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_closed_named_and_drawn_without_warnings(name):
    figure = FIGURES[name](beta())
    assert plt.get_fignums() == []
    for axes in panels(figure):
        siblings = axes.get_shared_y_axes().get_siblings(axes)
        assert axes.get_xlabel() and any(other.get_ylabel() for other in siblings)


def test_figure_7_has_a_panel_for_each_clean_rate_and_refuses_others():
    table = beta(rates=(0.5, 0.8, 0.95))
    drawn = drawn_once(table)
    figure = page.draw_figure_7(table, drawn, [0.8])
    (panel,) = panels(figure)
    assert panel.get_title() == "a = 0.8, 4 seeds" and set(figure.table.a) == {0.8}
    assert (figure.table.drawn == 1).all()
    titles = [panel.get_title() for panel in panels(page.draw_figure_7(table, drawn))]
    assert titles == ["a = 0.5, 4 seeds", "a = 0.95, 4 seeds"]
    with pytest.raises(UsageError, match=r"no network was trained at the clean rate 0\.7"):
        page.draw_figure_7(table, drawn, (0.7,))


# the notebooks' cells for CIFAR-10


def run_notebook(name, **given):
    """Run a notebook's code here, without a kernel, with these parameters besides its own."""
    cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    names = {"display": lambda shown: None}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), name, "exec"), names)
            if "parameters" in cell["metadata"].get("tags", []):
                names |= given


@pytest.mark.parametrize("name, figure", [("chen_2_landscape", "5"), ("chen_3_beta", "7")])
def test_the_cells_for_cifar10_run(name, figure, tmp_path_factory, monkeypatch):
    """Only the long profiles train it; here a ResNet-18 on digits stands in for a minute-long one
    on CIFAR-10.
    """
    landscape = dataclasses.replace(
        networks.LANDSCAPE["smoke"],
        train_size=40,
        test_size=50,
        clean_rates=(0.5, 0.95),
        kept=(0.5, 1.0),
        repeated_rates=(),
        epochs=2,
        evaluate_at=(1, 2),
        seeds=4,
        repeated_seeds=0,
    )
    cifar = dataclasses.replace(landscape, model="resnet18", widths=(2,), seeds=1, lr_steps=(1,))
    monkeypatch.setitem(networks.LANDSCAPE, "smoke", landscape)
    monkeypatch.setitem(networks.TRAIN_SIZES, "smoke", ((0.5,), ()))
    monkeypatch.setattr(networks, "SIZE_RATE", 0.95)
    monkeypatch.setitem(networks.CIFAR, "smoke", cifar)
    # both notebooks read the same networks
    monkeypatch.setenv("LSNC_OUTPUTS", str(tmp_path_factory.getbasetemp() / "cifar-cells"))
    shown = []
    module = importlib.import_module("lsnc_core.show.figure")
    real = module.Figure

    def record(*arguments, **settings):
        shown.append(settings["name"])
        return real(*arguments, **settings)

    monkeypatch.setattr(module, "Figure", record)
    run_notebook(name, profile="smoke", device="cpu", rates=[0.5])
    assert {f"chen-figure-{figure}", f"chen-figure-{figure}-cifar10"} <= set(shown)
