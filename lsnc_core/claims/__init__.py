"""Claims: what a paper asserts, how measurements decide it, and the intervals that do."""

from lsnc_core.claims.claim import (
    FAILS,
    HOLDS,
    MIN_SEEDS,
    OURS,
    OUTCOMES,
    UNDECIDED,
    Case,
    Claim,
    Verdict,
    claims_in,
    decide,
    decides,
    every,
    most,
    seed_case,
)
from lsnc_core.claims.intervals import (
    LEVEL,
    argmin_interval,
    parabola_argmin,
    rank_interval,
    t_interval,
)

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
    "Verdict",
    "argmin_interval",
    "claims_in",
    "decide",
    "decides",
    "every",
    "most",
    "parabola_argmin",
    "rank_interval",
    "seed_case",
    "t_interval",
]
