"""The interval of a rank correlation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsnc_core.claims import rank_interval
from lsnc_core.errors import UsageError


@given(st.permutations(range(9)))
def test_the_rank_correlations_interval_holds_it_and_turns_with_it(order):
    x, y = np.arange(9), np.array(order)
    r, low, high = rank_interval(x, y)
    assert -1 <= low <= r + 1e-9 and r - 1e-9 <= high <= 1
    assert r == pytest.approx(np.corrcoef(x, y)[0, 1])
    np.testing.assert_allclose(rank_interval(x, -y), (-r, -high, -low), atol=1e-9)


@pytest.mark.parametrize(
    "x, y",
    [
        ([1, 2, 3], [1, 3, 2]),
        ([1, 2, 3, 4], [1, 3, 2]),
        ([[1, 2, 3, 4]], [[1, 2, 3, 4]]),
        ([1, 2, 3, np.nan], [1, 2, 3, 4]),
        ([1, 2, 3, 4], [5, 5, 5, 5]),
        ("abcd", [1, 2, 3, 4]),
    ],
)
def test_numbers_without_a_rank_correlation_are_refused(x, y):
    with pytest.raises(UsageError, match=r"rank correlation needs|needs numbers"):
        rank_interval(x, y)
    with pytest.raises(UsageError, match="level of an interval"):
        rank_interval([1, 2, 3, 4], [1, 2, 4, 3], 1.5)
