"""Claims: what a paper asserts, how measurements decide it, and the intervals that do."""

from lsnc_core.claims.case import (
    FAILS,
    HOLDS,
    MIN_SEEDS,
    OUTCOMES,
    UNDECIDED,
    Case,
    decide,
    decide_together,
    every,
    most,
    seed_case,
)
from lsnc_core.claims.claim import OURS, Claim, Verdict, claims_in, decides
from lsnc_core.claims.intervals import (
    LEVEL,
    argmin_interval,
    component_ratio_interval,
    parabola_argmin,
    rank_interval,
    t_interval,
    variance_component,
)
from lsnc_core.claims.premise import Premise, Scale

__all__ = [
    "FAILS",
    "HOLDS",
    "LEVEL",
    "MIN_SEEDS",
    "OURS",
    "OUTCOMES",
    "UNDECIDED",
    "Case",
    "Claim",
    "Premise",
    "Scale",
    "Verdict",
    "argmin_interval",
    "claims_in",
    "component_ratio_interval",
    "decide",
    "decide_together",
    "decides",
    "every",
    "most",
    "parabola_argmin",
    "rank_interval",
    "seed_case",
    "t_interval",
    "variance_component",
]
