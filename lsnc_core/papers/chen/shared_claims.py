"""Claims of Chen, Ziyin et al. 2020 that two notebooks decide, with their thresholds.

C1 is decided on the formulas (chen_1_theory) and on networks (chen_2_landscape), C4 on the formulas
and on networks (chen_3_beta), C12 on random logits (chen_1_theory) and on networks
(chen_5_beyond_uniform).
"""

from lsnc_core.claims import Claim
from lsnc_core.papers.chen import PAPER

# How far the lowest p may lie from a, for which a it is asked, and the grid's step there.
C1_TOLERANCE, C1_RANGE, C1_STEP = 0.1, (0.5, 0.95), 0.05

C1 = Claim(
    "C1",
    paper=PAPER.name,
    place="sections 3.1 and 4.1; beside section 5.1, which compares losses",
    sentence="With clean test labels the test loss is lowest when the kept mass p equals the clean "
    "rate a, for every number of classes.",
    expected=f"lowest at a p within {C1_TOLERANCE} of a, for a in [{C1_RANGE[0]}, {C1_RANGE[1]}], "
    f"on a grid of {C1_STEP}",
    changed="The place of a minimum is fitted by slopes over log p/(1−p) and no longer by a "
    "parabola in p. Its interval comes from slopes and resamples of the seeds and is never finer "
    "than the grid. On the formulas the minimum is searched for and no longer taken from the "
    "closed form. On held-out images it is left open below 10,000 training images. Its interval "
    "must now end below p = 1, where the loss is infinite.",
)

C4 = Claim(
    "C4",
    paper=PAPER.name,
    place="section 3.2",
    sentence="Noisy test labels call for at least as much smoothing as clean ones, p*(β) ≤ p*(α). "
    "The paper says so of two classes with fewer than half of the labels wrong; here it is asked "
    "of every number of classes M, for a ≥ 1/M.",
    expected="p*(β) ≤ p*(α) for M = 2 and a > 1/2, the paper's range; derived: for every M exactly "
    "where a ≥ 1/M",
    changed="On the formulas a < 1/M, which the paper does not claim, no longer counts: the "
    'verdict went from "does not hold" to "holds". A paired difference is never finer than the '
    "grid where a minimum is a bare grid point: on held-out images the verdict went from "
    '"holds" to open. On networks clean rates below 1/2 no longer decide, and on held-out '
    "images it is open below 10,000 training images. Since C10 asks for a clean rate above "
    '0.9, the profile hour trains 0.95 as well: its answer on held-out images went from "holds" '
    "to open.",
)

C12 = Claim(
    "C12",
    paper=PAPER.name,
    place="section 6.2, equation 18",
    sentence="The label-smoothing objective is never above the log-likelihood of forward "
    "correction.",
    expected="no violation: Jensen's inequality",
)
