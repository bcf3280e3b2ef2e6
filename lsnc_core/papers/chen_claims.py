"""Chen, Ziyin et al. 2020: the claims, what is expected of each, and the thresholds, fixed before
the first run.

What came later, when networks had been trained: the last part of C5, C16 and C17, whose directions
are the paper's, and the bounds C5_NEAR and C9_SMALL, which are ours.
"""

from lsnc_core.papers.claims import OURS, Claim

PAPER = "Chen, Ziyin et al. 2020"

# Training loss above its floor, the entropy of the smoothed label, up to which a network counts as
# having memorised its labels.
MEMORISED = 0.05
C1_TOLERANCE, C1_RANGE, C1_STEP = 0.1, (0.5, 0.95), 0.05
C2_ERROR, C2_RANK, C2_RANGE = 0.15, 0.9, (0.2, 0.95)
C3_RATES = (0.5, 0.95)
# How far apart best kept masses of different numbers of classes may lie that "well approximate each
# other"; the bound is ours, C1's.
C5_NEAR, C5_FROM = C1_TOLERANCE, 0.8
# Clean rate of gamma's transition by number of classes and p* just above it, below it 1/M: computed
# apart from this package's formulas.
C6_TOLERANCE = 1e-4
C6_TRANSITIONS = {
    2: (0.75, 0.5),
    3: (0.660150, 0.499),
    4: (0.607209, 0.497),
    5: (0.570756, 0.495),
    10: (0.476818, 0.483),
    20: (0.404274, 0.465),
    50: (0.331005, 0.434),
    100: (0.288008, 0.409),
    1000: (0.193645, 0.324),
    10**4: (0.141551, 0.254),
    10**6: (0.089616, 0.169),
}
# p = 1/M learns nothing: accuracies are compared from here on, and above 1/M where there are fewer
# than ten classes
LEARNS_FROM = 0.2
C8_RATIO = 0.25
# The paper has no number for a "small" p: below the middle of the range, a bound of ours.
C9_UP_TO, C9_SMALL = 0.85, 0.5
# The kept masses of weak smoothing, and from which clean rate on it helps.
C10_WEAK, C10_FROM = (0.95, 0.9), 0.9
C11_TOLERANCE = 0.1
C15_SHARE = 0.5
B1_TOLERANCE = 0.1

_CHEN = (
    (
        "C1",
        "sections 3.1, 4.1 and 5.1",
        "With clean test labels the test loss is lowest when the kept mass p equals the clean rate a, for every number of classes.",
        f"lowest at a p within {C1_TOLERANCE} of a, for a in [{C1_RANGE[0]}, {C1_RANGE[1]}], on a grid of {C1_STEP}",
    ),
    (
        "C2",
        "section 5.1, Figures 5 and 6",
        "The formula with clean test labels predicts the measured test loss in absolute value.",
        f"mean over p in [{C2_RANGE[0]}, {C2_RANGE[1]}] of |measured − predicted| / predicted below {C2_ERROR:.0%}, "
        f"rank correlation above {C2_RANK}",
    ),
    (
        "C3",
        "section 5.2, Figure 7",
        "The formula with noisy test labels predicts the measured loss at a = 0.5 and 0.95.",
        f"as C2, at a = {C3_RATES[0]} and {C3_RATES[1]}: error below {C2_ERROR:.0%}, rank correlation above {C2_RANK}",
    ),
    (
        "C4",
        "section 3.2",
        "Noisy test labels call for at least as much smoothing as clean ones, p*(β) ≤ p*(α). The paper says so of two classes with "
        "fewer than half of the labels wrong; here it is asked of every number of classes M, for a ≥ 1/M.",
        "p*(β) ≤ p*(α) for M = 2 and a > 1/2, the paper's range; derived: for every M exactly where a ≥ 1/M",
    ),
    (
        "C5",
        "section 4.2, Figure 3",
        "With noisy test labels the best kept mass tends to the squared clean rate as classes are added; beyond 100 no difference is seen, "
        f"and from a = {C5_FROM} on all numbers of classes nearly agree.",
        "p*(β) − a² = (1−a)²/(M−1), at most 1/(M−1); "
        f"derived for a ≥ {C5_FROM}: p* apart from that of M = 2 by at most 0.020 (M = 3), 0.036 (M = 10), 0.040 (M ≥ 100); near is a "
        f"bound of ours, {C5_NEAR}",
    ),
    (
        "C6",
        "sections 3.3 and 4.3, Figures 2 and 4",
        "With Bayesian test labels p* stays at 1/M up to a critical clean rate and jumps there, a sharp first-order transition. "
        "The paper says so of M classes and does not except M = 2.",
        "a jump of p* for every M; derived: a jump for M ≥ 3, at clean rates tabulated beforehand, none at a = 3/4 for M = 2",
    ),
    (
        "C7",
        "section 6.1, Figure 8, and appendix A, Figure 9",
        "The p that is best for the test accuracy is not the one that is best for the test loss; it is smaller, for most clean rates.",
        f"p of highest accuracy, from {LEARNS_FROM} on, − p of lowest loss below 0, for more than half of the clean rates below 1",
    ),
    (
        "C8",
        "appendix A, Figure 9 c",
        "With early stopping at the best epoch the accuracy hardly depends on p.",
        f"variance over p in [{LEARNS_FROM}, 1] and above 1/M of the best epoch's test accuracy at most {C8_RATIO} of that of the "
        "last epoch's, over the clean rates below 1; the best epoch is chosen on the test images, as an oracle would",
    ),
    (
        "C9",
        "appendix B, Figure 10",
        "With much label noise the test error has two minima in p: the lowest at a small p, and a local one at p = 1.",
        f"for every a up to {C9_UP_TO}: the lowest error up to p = {C9_SMALL} below that at larger p < 1 (the paper has no number for "
        "small, this one is ours), that at p = 1 above the lowest, and that at some p between them above both; it has none for a wide "
        "plateau either, which is left undecided",
    ),
    (
        "C10",
        "appendix B, Figure 11",
        "Weak smoothing helps the accuracy only at clean rates from about 0.9 on and costs up to 8 points at lower ones.",
        f"accuracy at p = {C10_WEAK[0]}, and at {C10_WEAK[1]}, − without smoothing: above 0 for a ≥ {C10_FROM}, below 0 for a < {C10_FROM}",
    ),
    (
        "C11",
        "section 4.1, on forward-matrix correction",
        "Alpha-optimal smoothing has the same loss as forward correction whose output f is corrected to T f.",
        f"ratio of the losses on clean labels within {C11_TOLERANCE:.0%} of 1; equal by construction on memorised images, symmetric noise",
    ),
    (
        "C12",
        "section 6.2, equation 18",
        "The label-smoothing objective is never above the log-likelihood of forward correction.",
        "no violation: Jensen's inequality",
    ),
    (
        "C14",
        "section 6.2, equation 19",
        "The log-likelihood of forward correction is never above that of logit smoothing.",
        "no violation; derived: false, summed over rows it is violated by 95 % of random logits",
    ),
    (
        "C16",
        "section 6.1, Figure 8",
        "The p of lowest test loss and the p of highest test accuracy both rise with the clean rate.",
        f"slope of either p over the clean rates below 1 above 0, that of highest accuracy taken from p = {LEARNS_FROM} on",
    ),
    (
        "C17",
        "appendix A, caption of Figure 9",
        "Of the three theories gamma's predicts the measured minima of the test loss best, though test labels are clean, as in alpha's.",
        "mean distance of the measured lowest p to gamma's best p below that to alpha's and below that to beta's; an open question: "
        "the experiment is alpha's",
    ),
)
_OURS = (
    (
        "C13",
        "Chen's equation 10, corrected",
        "Under any noise T the smoothing by the posterior S* has the lowest test loss of all smoothings; Chen et al. print S* = T, "
        "which is the posterior only where T is symmetric.",
        "test loss with S* below that with the same kept mass spread evenly over the other classes, and below that without smoothing",
    ),
    (
        "C15",
        "a question that Chen et al. leave open, section 6.2",
        "Does smoothing the logits work against label noise as smoothing the labels does? Decided as the statement that it does.",
        "test loss below that without smoothing, at least half as far as label smoothing's; "
        "derived: S h is a temperature and a shift, which a network undoes by larger logits",
    ),
    (
        "B1",
        "no paper: Chen's noise with Guo's metrics",
        "The kept mass of the lowest test loss is the one at which the features of the clean classes collapse best.",
        f"p of least NC1 within {B1_TOLERANCE} of the p of least loss, for a in [{C1_RANGE[0]}, {C1_RANGE[1]}]",
    ),
    (
        "B2",
        "no paper: Chen's noise with Guo's metrics",
        "The kept mass of the lowest test loss is also the best calibrated one.",
        f"p of least ECE within {B1_TOLERANCE} of the p of least loss, for a in [{C1_RANGE[0]}, {C1_RANGE[1]}]",
    ),
)
CLAIMS = {
    row[0]: Claim(row[0], paper, *row[1:])
    for paper, rows in ((PAPER, _CHEN), (OURS, _OURS))
    for row in rows
}
