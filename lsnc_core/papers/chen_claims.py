"""Chen, Ziyin et al. 2020: the claims, what is expected of each, and the thresholds, all fixed before the first run."""

from lsnc_core.papers.claims import Claim

PAPER = "Chen, Ziyin et al. 2020"
OURS = "this companion"

# Training loss above its floor, the entropy of the smoothed label, up to which a network counts as having memorised its labels.
MEMORISED = 0.05
C1_TOLERANCE, C1_RANGE = 0.1, (0.5, 0.95)
C2_ERROR, C2_RANK, C2_RANGE = 0.15, 0.9, (0.2, 0.95)
C3_RATES = (0.5, 0.95)
# p = 1/M learns nothing: accuracies are compared from here on, and above 1/M where there are fewer than ten classes
LEARNS_FROM = 0.2
C8_RATIO = 0.25
C9_UP_TO, C10_FROM = 0.85, 0.9
C11_TOLERANCE = 0.1
B1_TOLERANCE = 0.1

_CHEN = (
    (
        "C1",
        "sections 3.1, 4.1 and 5.1",
        "With clean test labels the test loss is lowest when the kept mass p equals the clean rate a, for every number of classes.",
        f"lowest at a p within {C1_TOLERANCE} of a, for a in [{C1_RANGE[0]}, {C1_RANGE[1]}]",
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
        "section 5, Figure 7",
        "The formula with noisy test labels predicts the measured loss at a = 0.5 and 0.95.",
        f"as C2, at a = {C3_RATES[0]} and {C3_RATES[1]}: error below {C2_ERROR:.0%}, rank correlation above {C2_RANK}",
    ),
    (
        "C4",
        "sections 3.2 and 4.2",
        "Noisy test labels call for at least as much smoothing as clean ones, p*(β) ≤ p*(α).",
        "p*(β) ≤ p*(α) for every clean rate; the paper states no condition, a ≥ 1/M is needed",
    ),
    (
        "C5",
        "section 4.2, Figure 3",
        "With noisy test labels the best kept mass tends to the squared clean rate as classes are added; beyond 100 no difference is seen.",
        "p*(β) − a² = (1−a)²/(M−1), at most 1/(M−1)",
    ),
    (
        "C6",
        "sections 3.3 and 4.3, Figures 2 and 4",
        "With Bayesian test labels p* stays at 1/M up to a critical clean rate and jumps there, a sharp first-order transition.",
        "a jump of p* for every M; derived: a jump for M ≥ 3, none at a = 3/4 for M = 2",
    ),
    (
        "C7",
        "section 5, Figures 8 and 9",
        "The p that is best for the test accuracy is not the one that is best for the test loss; it is smaller, for most clean rates.",
        "p of highest accuracy − p of lowest loss below 0, for more than half of the clean rates below 1",
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
        "appendix A, Figure 10",
        "With much label noise the test error has two minima in p: the lowest at a small p, and a local one at p = 1.",
        f"for every a up to {C9_UP_TO}: error at some p between them above that at p = 1, and that above the lowest",
    ),
    (
        "C10",
        "appendix A, Figure 11",
        "Weak smoothing helps the accuracy only at clean rates from about 0.9 on and costs up to 8 points at lower ones.",
        f"accuracy with weak smoothing − without: above 0 for a ≥ {C10_FROM}, below 0 for a < {C10_FROM}",
    ),
    (
        "C11",
        "section 6.2",
        "Alpha-optimal smoothing has the same loss as forward correction whose output f is corrected to T f.",
        f"losses on clean labels within {C11_TOLERANCE:.0%} of one another; on memorised images equal by construction for symmetric noise",
    ),
    (
        "C12",
        "section 6.2, equation 18",
        "The label-smoothing objective is never above the log-likelihood of forward correction.",
        "no violation: Jensen's inequality",
    ),
    (
        "C13",
        "section 4.1, equation 10",
        "Under any noise T the smoothing by the posterior S* has the lowest test loss of all smoothings.",
        "test loss with S* below that with the same kept mass spread evenly over the other classes, and below that without smoothing",
    ),
    (
        "C14",
        "section 6.2, equation 19",
        "The log-likelihood of forward correction is never above that of logit smoothing.",
        "no violation; derived: false, most clearly once the labels are memorised",
    ),
    (
        "C15",
        "section 6.2, left open by the paper",
        "Smoothing the logits works against label noise as smoothing the labels does.",
        "test loss at least half as far below that without smoothing as label smoothing's; "
        "derived: S h is a temperature and a shift, which a network undoes by larger logits",
    ),
)
_OURS = (
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
CLAIMS = {row[0]: Claim(row[0], paper, *row[1:]) for paper, rows in ((PAPER, _CHEN), (OURS, _OURS)) for row in rows}
