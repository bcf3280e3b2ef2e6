"""Labels from a file among the noises: what is trained, drawn and decided, through the notebook."""

import itertools

import numpy as np
import pytest
import torch
from conftest import ROOT, run_cells
from helpers import one_sentence

from lsnc_core import data
from lsnc_core.errors import UsageError
from lsnc_core.papers.chen import chen_5_beyond_uniform as page
from lsnc_core.papers.chen import noise_drawing, noise_networks, noise_tables
from lsnc_core.report import parameters, schedule
from lsnc_core.show import Figure
from lsnc_core.theory import label_noise

pytestmark = pytest.mark.usefixtures("own_outputs")
M, N, MOVED = 10, 1200, 360


@pytest.fixture(scope="module")
def human(tmp_path_factory):
    """A file in which three tenths of the digits' labels are wrong, those of class 0 most often,
    and the name of these labels.
    """
    folder, digits = tmp_path_factory.mktemp("labels"), data.load("digits")
    draws = np.random.default_rng(0)
    clean = np.empty(N, dtype=int)
    clean[digits.train_order.numpy()] = digits.train_labels.numpy()
    noisy = clean.copy()
    zeros = np.flatnonzero(clean == 0)[:90]
    others = draws.choice(np.flatnonzero(clean != 0), MOVED - len(zeros), replace=False)
    noisy[zeros] = 6
    noisy[others] = (clean[others] + draws.integers(1, 4, len(others))) % M
    torch.save({"human": noisy, "clean": clean}, folder / "labels.pt")
    return f"{folder}/labels.pt:human"


@pytest.fixture(scope="module")
def tables(own_outputs, human):
    return page.load("smoke", "cpu", "digits", ["symmetric", human])


def test_a_file_has_its_ways_at_one_rate(human):
    specs = noise_networks.plan_noise("smoke", "digits", ["symmetric", human])
    mine = [spec for spec in specs if spec.noise == human]
    T = data.given_labels(human, "digits").matrix
    ways = [(noise_networks.way_of(spec), spec.seed) for spec in mine]
    expected = list(itertools.product(("none", "mean field", "posterior"), range(4)))
    assert ways == expected and {spec.a for spec in mine} == {1.0}
    assert sorted({spec.p for spec in mine}) == pytest.approx([np.trace(T) / M, 1.0])
    assert np.trace(T) / M == pytest.approx(1 - MOVED / N)
    with pytest.raises(UsageError, match="moves no label, so there is nothing") as caught:
        noise_networks.plan_noise("smoke", "digits", [human.replace("human", "clean")])
    assert one_sentence(caught.value)
    with pytest.raises(UsageError, match="but mnist-subset has 3,000 training images"):
        noise_networks.plan_noise("smoke", "mnist-subset", [human])


def test_the_table_and_the_theory_have_the_file_s_rate_and_matrix(tables, human):
    T = data.given_labels(human, "digits").matrix
    part = tables.networks[tables.networks.noise == human].set_index("way")
    assert set(part.a) == {1 - MOVED / N} and len(part) == 12
    S = label_noise.optimal_smoothing_alpha(T)
    np.testing.assert_allclose(part.predicted["posterior"], label_noise.alpha_loss(S, T))
    # of a clean class c: -sum_k T_kc log S_ck, with S the posterior under equal classes
    direct = [T[k, c] * np.log(T[k, c] / T[k].sum()) for k, c in np.argwhere(T)]
    np.testing.assert_allclose(part.predicted["posterior"], -sum(direct) / M)
    kept = tables.history[tables.history.noise == human].kept
    assert kept.nunique() == 1  # the same labels for all seeds and ways
    assert kept.iloc[0] == pytest.approx(1 - MOVED / N, abs=0.1)  # of the 200 images used
    assert np.isfinite(part.unlearned).all() and (part.unlearned > -0.05).all()


def test_its_rate_and_matrix_are_shown(tables, human):
    T = data.given_labels(human, "digits").matrix
    matrices = page.draw_noise_matrices(tables.networks)
    titles = [panel.get_title() for panel in matrices.drawing.axes[:2]]
    assert titles == ["symmetric\nnoise rate 20.0%", "labels.pt:human\nnoise rate 30.0%"]
    words = f"labels.pt:human: 30.0% of the labels wrong, most often 0 as 6, {T[6, 0]:.1%}."
    assert matrices.data["ours"].endswith(words) and T[6, 0] == 0.75
    shown = matrices.drawing.axes[1].images[0].get_array()
    np.testing.assert_array_equal(shown.filled(0), T)
    mine = matrices.table[matrices.table.noise == human]
    np.testing.assert_array_equal(mine.pivot(index="label", columns="class").probability, T)

    figure = page.draw_general_noise(tables.networks)
    titles = [panel.get_title() for panel in figure.drawing.axes[:2]]
    assert titles == ["held-out images, a = 0.7", "held-out images, a = 0.8"]
    ticks = []
    for panel in figure.drawing.axes[2:]:
        ticks.append([tick.get_text() for tick in panel.get_xticklabels()])
    assert ticks == [["labels.pt:human"], ["symmetric"]]
    means = tables.networks.groupby(["noise", "way"]).test_loss.mean()
    caption = noise_drawing.describe_losses(tables.networks)
    assert f"labels.pt:human at a = 0.7: {means[human, 'none']:.2f} (no smoothing)" in caption
    assert f"symmetric: {means['symmetric', 'none']:.2f} (no smoothing)" in caption


def test_its_claims_are_decided_at_its_rate(tables):
    verdict = page.decide_c13(tables.networks, "clean_train_loss")
    names = [
        f"labels.pt:human noise: posterior against {other} at a = 0.7"
        for other in ("mean field", "no smoothing")
    ]
    assert [case.name for case in verdict.cases] == names
    for verdict in (
        page.decide_c11(tables.networks, "test_loss"),
        page.decide_c15(tables.networks),
    ):
        assert [case.name for case in verdict.cases] == ["a = 0.8"]
    assert "(labels.pt:human)" in page.decide_c11_formula(tables.networks).measured


def test_rates_and_ways_of_a_table_are_by_noise(tables, human):
    assert noise_tables.rates_of(tables.networks, human) == [0.7]
    assert noise_tables.rates_of(tables.networks, "symmetric") == [0.8]
    assert noise_tables.clean_rate("pair", 0.6, "digits") == 0.6


@pytest.mark.usefixtures("tables")
def test_the_notebook_takes_it(human, monkeypatch):
    source, shown = ROOT / "notebooks/chen_5_beyond_uniform.ipynb", []
    given = parameters.assign(
        ["data_set=digits", f'noise=["symmetric", "{human}"]'],
        {"one": parameters.defaults(source)},
    )["one"]
    monkeypatch.setattr(Figure, "__init__", keep(Figure.__init__, shown))
    run_cells(source, given | {"profile": "smoke", "device": "cpu"})
    assert "chen-noise-matrices" in shown and "chen-general-noise" in shown


def keep(init, names):
    def recorded(self, *arguments, **settings):
        names.append(settings["name"])
        init(self, *arguments, **settings)

    return recorded


def test_a_relative_path_counts_from_where_the_command_stands(human, monkeypatch):
    path, name = human.rsplit(":", 1)
    monkeypatch.chdir(path.removesuffix("/labels.pt"))
    relative = f"labels.pt:{name}"
    given = parameters.assign([f'noise=["pair", "{relative}"]'], {"one": {"noise": []}})
    assert given == {"one": {"noise": ["pair", human]}}
    ours = noise_networks.plan_noise("smoke", "digits", [relative])
    assert ours == noise_networks.plan_noise("smoke", "digits", [human])


def test_a_notebook_runs_again_when_its_file_changes(tmp_path):
    (tmp_path / "one.ipynb").write_text("")
    np.save(tmp_path / "labels.npy", np.arange(5))
    job = schedule.Job(tmp_path / "one.ipynb", {"noise": [f"{tmp_path}/labels.npy"]}, ())
    before = schedule.fingerprint(job)
    assert schedule.fingerprint(job) == before
    np.save(tmp_path / "labels.npy", np.arange(5) % 4)
    assert schedule.fingerprint(job) != before


def test_noises_of_the_package_are_drawn_at_their_highest_rate(tables):
    alone = tables.networks[tables.networks.noise == "symmetric"]
    probability = page.draw_noise_matrices(alone).table.probability
    assert sorted(set(probability.round(12))) == [round(0.2 / 9, 12), 0.8]
