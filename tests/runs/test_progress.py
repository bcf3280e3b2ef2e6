"""The progress bar of training."""

import time

import pytest
from tqdm import tqdm

from lsnc_core.runs.progress import Progress


def test_the_remaining_time_counts_what_this_start_has_done():
    start = time.monotonic()
    with Progress(100) as progress:
        time.sleep(0.2)
        progress.advance(10, 0)  # the first report: the clock starts
        clock = time.monotonic()
        progress.advance(30, 30)  # of an earlier start
        time.sleep(0.1)
        progress.advance(2, 0)  # in the time after
        state = progress.bar.format_dict
        now = time.monotonic()
    assert (state["n"], state["total"], state["initial"]) == (2, 60, 0)
    assert 0.1 <= state["elapsed"] <= now - clock + 0.01 < now - start
    left = (100 - 42) * state["elapsed"] / 2  # the mean speed
    assert f"<{tqdm.format_interval(left)}" in tqdm.format_meter(**state)


@pytest.mark.parametrize("reports", [[(4, 0), (6, 0)], [(4, 4), (6, 0)], [(2, 0), (3, 3), (5, 0)]])
def test_the_bar_is_full_when_all_is_done(reports, capsys):
    with Progress(10) as progress:
        for report in reports:
            progress.advance(*report)
        state = progress.bar.format_dict
        assert state["n"] == state["total"]
        progress.finish()
        assert progress.bar.format_dict["n"] == state["total"]
    assert "100%" in capsys.readouterr().err


def test_what_was_not_reported_is_filled_in_at_the_end():
    with Progress(10) as progress:
        progress.advance(1, 0)
        progress.finish()
        state = progress.bar.format_dict
    assert state["n"] == state["total"] == 9
