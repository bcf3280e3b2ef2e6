"""The landscape's table and how the formula agrees with it, on made-up tables."""

import itertools

import numpy as np
import pytest
from chen_runs import COLUMNS, PS, eq11, landscape
from scipy import stats

from lsnc_core.papers.chen.grid import agreement


def test_the_table_has_the_last_epoch_of_each_run_and_the_formula_beside_it():
    table = landscape(unlearned=0.1 - 1e-9)
    assert len(table) == 2 * 13 * 4 and table.memorised.all() and table.memorised.dtype == bool
    keys = list(zip(table.a, table.p, table.seed, strict=True))
    assert keys == sorted(keys)
    assert table.test_loss.max() < 99
    for row in table.itertuples():
        assert row.predicted == pytest.approx(eq11(row.a, row.p))
        assert row.run == f"{row.seed}-{row.a}-{row.p}"
        assert row.predicted_as_drawn == pytest.approx(eq11(row.a + 0.01, row.p))
    # at p = 1/M there is nothing to learn
    np.testing.assert_allclose(table.unlearned[table.p > 0.1], 0.1, atol=1e-8)
    assert (table.unlearned[table.p == 0.1] == 0).all()
    rough = landscape(unlearned=0.101)
    assert (rough.memorised == (rough.p == 0.1)).all()


@pytest.mark.parametrize("column", COLUMNS)
def test_agreement_is_what_a_direct_computation_gives(column):
    table = landscape(noise=0.02)
    measured = agreement(table, column)
    keys = list(itertools.product((0.5, 0.8), range(4)))
    assert list(zip(measured.a, measured.seed, strict=True)) == keys
    for row in measured.itertuples():
        part = table[(table.a == row.a) & (table.seed == row.seed)].set_index("p")
        losses = np.array([part[column][p] for p in PS[1:-1]])
        expected = np.array([eq11(row.a, p) for p in PS[1:-1]])
        assert row.error == pytest.approx(np.mean(np.abs(losses - expected) / expected))
        assert row.residual == pytest.approx(np.mean(losses) - np.mean(expected))
        # a = 1/2 has ties, which the last bits would break
        ranks = stats.rankdata(losses), stats.rankdata(np.round(expected, 9))
        assert row.rank == pytest.approx(np.corrcoef(*ranks)[0, 1])


def test_agreement_at_the_share_of_clean_labels_as_drawn():
    table = landscape(noise=0.02)
    drawn = agreement(table, "test_loss", "predicted_as_drawn")
    moved = (drawn.residual - agreement(table, "test_loss").residual).to_numpy()
    expected = []
    for a in (0.5, 0.8):
        change = np.mean([eq11(a, p) - eq11(a + 0.01, p) for p in PS[1:-1]])
        expected += [change] * 4
    assert moved == pytest.approx(expected)
