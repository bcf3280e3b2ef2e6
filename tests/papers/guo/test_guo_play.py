"""The table behind the played curves of the feature model, against medians by hand."""

import json
import statistics

import pytest

from lsnc_core.papers.guo import play
from lsnc_core.papers.guo.descent import METRICS, START, run_descent
from lsnc_core.papers.guo.model import STRENGTHS, dynamics_model


@pytest.fixture(scope="module")
def curves():
    cells = [*((START, delta) for delta in STRENGTHS), (1.0, 0.0)]
    return run_descent(dynamics_model(K=3, n=2, D=4), cells, 3, 30)


def test_the_table_has_medians_over_the_usual_starts(curves):
    table = play.tabulate_descent(curves)
    times = sorted(set(curves.iteration))
    assert len(table) == len(STRENGTHS) * len(times)
    usual = curves[curves.spread == START]
    for row in table.itertuples():
        assert times[row.now] == row.time
        rows = usual[(usual.delta == row.delta) & (usual.iteration == row.time)]
        for metric in METRICS:
            assert getattr(row, metric) == pytest.approx(statistics.median(rows[metric]))
        if row.delta:
            assert row.curve == play.SMOOTH and STRENGTHS[1:][int(row.setting)] == row.delta
        else:
            assert row.curve == play.PLAIN and row.setting != row.setting


def test_the_numbers_in_words_are_those_of_the_table(curves):
    table = play.tabulate_descent(curves)
    texts = json.loads(play._describe(table))
    assert len(texts) == len(STRENGTHS) - 1
    times = sorted(set(table.time))
    delta, now = STRENGTHS[2], len(times) - 2
    at = table[table.now == now].set_index("delta")
    text = texts[1][now]
    assert text.startswith(f"Iteration {times[now]}, ") and f"δ = {delta:g}" in text
    assert f"NC2 {at.nc2[0.0]:.2g} and {at.nc2[delta]:.2g}" in text
