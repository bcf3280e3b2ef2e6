"""Zhou's landscape of the feature model: tables, verdicts and figures, on what is computed and on
made-up tables that must fail.
"""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import ROOT
from lsnc_core.papers.claims import FAILS, HOLDS
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lsnc_core import profiles
from lsnc_core.errors import UsageError
from lsnc_core.papers import zhou, zhou_figures, zhou_problems


@pytest.fixture(scope="module")
def tables():
    """Every table of the notebook at smoke size."""
    return {
        "reached": zhou.reached("smoke"),
        "margins": zhou.margins("smoke"),
        "saddles": zhou.saddles("smoke"),
        "hessians": zhou.focal_hessians("smoke"),
    }


def outcomes(verdict):
    return {case.name.split(" ", 1)[1]: case.outcome for case in verdict.cases}


# ------------------------------------------------------------------------------------------------ landscape


def test_all_starts_reach_the_value_and_the_margins(tables):
    assert tables["reached"].query("iteration == 400").gap.max() < 1e-6 and set(
        tables["reached"].spread
    ) == set(zhou.SPREADS)
    verdict = zhou.verdict_z6(tables["margins"])
    assert verdict.outcome == HOLDS and set(outcomes(verdict)) == set(zhou.LOSSES)
    for column, value in (("margin_error", 2e-6), ("value_error", 2e-10)):
        wrong = tables["margins"].copy()
        wrong.loc[wrong.loss == "CE", column] = value
        assert outcomes(zhou.verdict_z6(wrong)) == {
            name: FAILS if name == "CE" else HOLDS for name in zhou.LOSSES
        }


def test_saddles_are_strict_and_a_hidden_minimum_would_be_seen(tables):
    table = tables["saddles"]
    assert zhou.verdict_z7(table).outcome == HOLDS
    assert (table[table["rank"] < 3].least < -1e-3).all() and table[
        table["rank"] == 3
    ].globally.all()
    np.testing.assert_allclose(table.bound, 2e-3)  # both decays
    hidden = table.copy()
    hidden.loc[(hidden.loss == "FL(3)") & (hidden["rank"] == 2), "least"] = 1e-3
    assert (
        outcomes(zhou.verdict_z7(hidden))["FL(3)"] == FAILS
        and outcomes(zhou.verdict_z7(hidden))["CE"] == HOLDS
    )
    # the criterion of a global minimiser, either way: a saddle that passes it, a least value that
    # does not
    for chosen, factor in (
        ((table.loss == "FL(3)") & (table["rank"] == 2), 1.0),
        ((table.loss == "CE") & table.globally, 1.001),
    ):
        wrong = table.copy()
        wrong.loc[chosen, "data_gradient"] = factor * table.bound
        found = outcomes(zhou.verdict_z7(wrong))
        assert [name for name, outcome in found.items() if outcome == FAILS] == table.loss[
            chosen
        ].tolist()
    off = table.assign(least=table.least - 1e-6)
    assert outcomes(zhou.verdict_z7(off))["CE"] == FAILS  # the formula at the origin


def test_the_focal_region_and_the_contrastive_bound(tables, monkeypatch):
    table = tables["hessians"]
    assert zhou.verdict_z8(table).outcome == HOLDS
    assert (
        0.2 < (table.least < 0).mean() < 0.8
        and (table.p / table.edge).between(0.9, 1.1).mean() > 0.3
    )
    assert zhou.verdict_z8(table.assign(edge=table.edge * 1.05)).outcome == FAILS
    verdict = zhou.verdict_z9("smoke")
    assert (
        verdict.outcome == HOLDS
        and set(outcomes(verdict)) == {"CE", "LS(0.1)", "FL(1)", "FL(3)"}
        and "0.011752" in verdict.measured
    )
    true = zhou.ufm_landscape.contrastive_gap
    for wrong in (
        lambda gap: np.where(gap > 1e-3, -1e-8, gap),
        lambda gap: gap + 1e-8,
    ):  # below the bound; never equal to it
        monkeypatch.setattr(
            zhou.ufm_landscape, "contrastive_gap", lambda *given, wrong=wrong: wrong(true(*given))
        )
        assert zhou.verdict_z9("smoke").outcome == FAILS


# ------------------------------------------------------------------------------------------------ problems found


def test_what_the_released_normalisation_and_aliasing_do():
    from torchvision import transforms

    image = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0))
    train, test = (transforms.Normalize(*pair)(image).numpy() for pair in (
        (zhou_problems.TRAIN_MEAN, zhou_problems.TRAIN_STD), (zhou_problems.TEST_MEAN, zhou_problems.TEST_STD)
    ))  # fmt: skip
    scale, shift = (part[:, None, None] for part in zhou_problems.mismatch())
    np.testing.assert_allclose(scale * train + shift, test, atol=1e-6)
    features, labels = np.random.default_rng(1).standard_normal((30, 4)), np.arange(30) % 3
    squares = [
        np.square(features[labels == k] - features[labels == k].mean(0)).sum(1) for k in range(3)
    ]
    assert zhou_problems.aliased_scatter(features, labels, on_cpu=False) == pytest.approx(
        sum(part.sum() for part in squares) / 30
    )
    assert zhou_problems.aliased_scatter(features, labels, on_cpu=True) == pytest.approx(
        sum(part[1:].sum() for part in squares) / 30
    )
    assert len(zhou_problems.problems()) == 6 and "0.011752" in zhou_problems.problems()[4][2]


# ------------------------------------------------------------------------------------------------ claims, sizes, figures, notebooks


def test_claims_are_named_and_every_profile_has_a_size():
    assert set(zhou.CLAIMS) == {"Z-C6", "Z-C7", "Z-C8", "Z-C9"}
    for claim in zhou.CLAIMS.values():
        assert claim.sentence.endswith(".") and claim.expected and claim.place
    assert set(zhou.LANDSCAPE) == set(profiles.PROFILES)
    assert zhou.LANDSCAPE["quick"].starts == 50
    with pytest.raises(
        UsageError, match=r"unknown profile 'fast'; the profiles are smoke, quick, gpu, paper\."
    ):
        zhou.landscape_size("fast")


FIGURES = {
    "reached": lambda t: zhou_figures.reached(t["reached"]),
    "margins": lambda t: zhou_figures.margins(t["margins"]),
    "saddles": lambda t: zhou_figures.saddles(t["saddles"]),
    "focal_region": lambda t: zhou_figures.focal_region(t["hessians"]),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_closed_named_and_drawn_without_a_warning(name, tables):
    figure = FIGURES[name](tables)
    assert plt.get_fignums() == []
    FigureCanvasAgg(figure).draw()
    assert any(axes.get_legend() for axes in figure.axes)
    for axes in figure.axes:
        assert axes.get_xlabel() or any(
            other.get_xlabel() for other in axes.get_shared_x_axes().get_siblings(axes)
        )
        assert (
            axes.get_ylabel()
            or axes.get_title()
            or any(other.get_ylabel() for other in axes.get_shared_y_axes().get_siblings(axes))
        )


@pytest.mark.parametrize("name", ["zhou_3_landscape"])
def test_notebooks_show_their_figures_with_words(name):
    source = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    code = ["".join(cell["source"]) for cell in source["cells"] if cell["cell_type"] == "code"]
    shown = [text for text in code if "show.Figure(" in text]
    assert shown and all(
        f"{part}=" in text for text in shown for part in ("paper", "ours", "alt", "table")
    )
    assert "show.Verdicts(" in code[-1] and "refuse_unknown()" in code[1]
