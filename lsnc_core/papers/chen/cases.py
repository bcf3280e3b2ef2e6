"""Cases of claims about Chen's landscape that several notebooks decide alike.

a is the clean rate of the training labels, p the kept mass of the smoothed label. Losses are in
nats. Each case is about one clean rate; those that the paper's claims are not about are details.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from lsnc_core import claims
from lsnc_core.claims import Case
from lsnc_core.papers.chen.grid import (
    FORMULA_ERROR,
    FORMULA_RANGE,
    FORMULA_RANK,
    agreement,
    rate_name,
    with_seeds,
)
from lsnc_core.papers.chen.minima import argmin_differences, find_minima
from lsnc_core.papers.chen.premises import case_premises, in_range

if TYPE_CHECKING:
    import pandas as pd


def formula_cases(table: "pd.DataFrame", column: str, predicted: str) -> list[Case]:
    """Two cases at each clean-label rate of four seeds or more: relative error and rank correlation
    of the formula over p.

    Args: as `grid.agreement`.
    """
    cases = []
    for a, part in agreement(table, column, predicted).groupby("a"):
        if len(part) < claims.MIN_SEEDS:
            continue
        networks = table[(table.a == a) & table.p.between(*FORMULA_RANGE)]
        premises, name = case_premises(networks, column), rate_name(a)
        settings: dict[str, Any] = {"premises": premises, "deciding": in_range(a)}
        if not np.isfinite(part[["error", "rank"]]).all(axis=None):
            reason = "losses that are not finite, or all equal"
            cases.append(Case(name, "relative error", undecided=reason, **settings))
            continue
        # one value per seed: t-intervals of the mean over seeds
        mean, low, high = claims.t_interval(part.residual)
        residual = f"measured − predicted {mean:+.3f} [{low:+.3f}, {high:+.3f}] nats"
        cases += [
            claims.seed_case(
                name,
                "relative error",
                part.error,
                at_most=FORMULA_ERROR,
                form=".1%",
                remark=residual,
                **settings,
            ),
            claims.seed_case(
                name,
                "rank correlation with the formula",
                part["rank"],
                within=(-np.inf, 1.0),  # a t-interval ignores that a correlation ends at 1
                at_least=FORMULA_RANK,
                form=".2f",
                **settings,
            ),
        ]
    return cases


def minimum_case(
    name: str,
    quantity: str,
    part: "pd.DataFrame",
    column: str,
    shift: float = 0.0,
    **settings: Any,
) -> Case:
    """A case about where the mean curve over p is lowest at one clean rate of four seeds or more.

    Args:
        name, quantity: as in `Case`.
        part: rows of `landscape_table` at one clean rate.
        column: what is minimised.
        shift: subtracted from the place.
        settings: further fields of `Case`.
    """
    if not np.isfinite(part[column]).all():
        missing = "a loss is missing or not finite"
        return Case(name, quantity, undecided=missing, **settings)

    def interval(level: float) -> tuple[float, float, float]:
        (row,) = find_minima(part, column, level).itertuples()
        return row.argmin - shift, row.low - shift, row.high - shift

    return Case.measured(name, quantity, interval, **settings)


def difference_cases(
    table: "pd.DataFrame",
    columns: tuple[str, str],
    quantity: str,
    other: "pd.DataFrame | None" = None,
    paired: bool = False,
    **settings: float | str,
) -> list[Case]:
    """A case at each clean rate of four seeds or more: argmin over p of one column minus that of
    another.

    Args:
        table, other: as for `minima.argmin_differences`.
        columns: both columns, the first of `table`, the second of `other` if there is one.
        quantity: what the difference is.
        paired: whether differences are taken seed by seed, as curves of accuracy need.
        settings: at_least, at_most and further fields of `Case`.
    """
    cases = []
    for a, part in with_seeds(table).groupby("a"):
        partner = None if other is None else other[other.a == a]

        def interval(level: float, part=part, partner=partner) -> tuple[float, float, float]:
            (row,) = argmin_differences(part, *columns, partner, level, paired).itertuples()
            return row.difference, row.low, row.high

        premises = case_premises(part if partner is None else partner, columns[1])
        details = {"premises": premises, "deciding": in_range(a), "form": "+.3f"}
        cases.append(Case.measured(rate_name(a), quantity, interval, **details | settings))
    return cases
