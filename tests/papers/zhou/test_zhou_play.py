"""The table behind the played curves of the four losses, against means by hand."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from lsnc_core.papers.zhou import play
from lsnc_core.papers.zhou.networks import LOSSES

SEEDS, EPOCHS = (0, 1, 3), (1, 4, 9)


@pytest.fixture
def collapse():
    draws, rows = np.random.default_rng(0), []
    for loss in LOSSES:
        for seed in SEEDS:
            for epoch in EPOCHS:
                values = dict(zip(play.METRICS, draws.uniform(0.1, 2, 3), strict=True))
                values |= {name: draws.uniform(50, 90) for name in play.ACCURACY}
                rows.append({"loss": loss, "seed": seed, "epoch": epoch} | values)
    return pd.DataFrame(rows).sample(frac=1, random_state=0)  # by key, never by order


def test_means_are_of_logarithms_and_each_seed_has_its_values(collapse):
    table = play.tabulate_losses(collapse)
    assert len(table) == len(LOSSES) * len(EPOCHS) * (1 + len(SEEDS))
    for row in table.itertuples():
        rows = collapse[(collapse.loss == row.loss) & (collapse.epoch == row.time)]
        assert EPOCHS[row.now] == row.time
        if row.setting:
            rows = rows[rows.seed == SEEDS[row.setting - 1]]
            assert len(rows) == 1
        logarithms = [math.log(value) for value in rows.NC2]
        mean = math.exp(sum(logarithms) / len(rows))
        assert pytest.approx(mean) == row.NC2
        assert row.test_accuracy == pytest.approx(sum(rows.test_accuracy) / len(rows))


def test_a_diverged_seed_leaves_a_gap_in_the_mean_alone(collapse):
    where = (collapse.loss == "FL") & (collapse.seed == 1) & (collapse.epoch == 9)
    collapse.loc[where, "NC1"] = np.nan
    table = play.tabulate_losses(collapse).set_index(["loss", "setting", "time"])
    assert table.NC1.isna().sum() == 2
    assert np.isnan(table.NC1["FL", 0, 9]) and np.isnan(table.NC1["FL", 2, 9])


def test_the_numbers_in_words_are_those_of_the_table(collapse):
    table = play.tabulate_losses(collapse)
    texts = json.loads(play._describe(table))
    assert len(texts) == 1 + len(SEEDS)
    at = table[(table.setting == 2) & (table.time == 4)].set_index("loss").NC3
    words = [f"{at[loss]:.2g} ({loss})" for loss in LOSSES]
    assert texts[2][1].startswith("Epoch 4: NC1 ")
    assert texts[2][1].endswith(f"NC3 {', '.join(words)}.")
