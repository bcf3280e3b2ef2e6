"""Claims about where the loss of held-out images is lowest: which theory comes nearest (C17, with
its table), and on which side of the clean rate (C18).

a is the clean rate of the training labels, p the kept mass of the smoothed label.
"""

from typing import TYPE_CHECKING

from lsnc_core.claims import OURS, Case, Claim, Verdict, decides
from lsnc_core.papers.chen import PAPER
from lsnc_core.papers.chen.cases import minimum_case
from lsnc_core.papers.chen.grid import PROTOCOLS, noisy, place, rate_name, with_seeds
from lsnc_core.papers.chen.minima import nearest_table
from lsnc_core.papers.chen.premises import (
    ENOUGH_IMAGES,
    FINER,
    RATES_FROM,
    case_premises,
    in_range,
    memorised_premise,
    settings_of,
)
from lsnc_core.show import Table

if TYPE_CHECKING:
    import pandas as pd


def show_nearest(table: "pd.DataFrame") -> Table:
    """`nearest_table` at the clean rates of C17. Args: table, from `landscape_table`."""
    # fewer than the landscape's; where none of them has four seeds, nothing is shown
    enough = with_seeds(table[table.a >= RATES_FROM])
    if enough.empty:
        return Table(["assumption", *PROTOCOLS.values()], [])
    nearest = nearest_table(enough)
    rows = []
    for name in nearest.index:
        cells = [name]
        for images in PROTOCOLS.values():
            mean, low, high = nearest.loc[name, images]
            cells.append(f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]")
        rows.append(cells)
    return Table(["assumption", *PROTOCOLS.values()], rows)


@decides(
    Claim(
        "C17",
        paper=PAPER.name,
        place="appendix A, caption of Figure 9",
        sentence="Of the three theories gamma's predicts the measured minima of the test loss "
        "best, though test labels are clean, as in alpha's.",
        expected="mean distance of the measured lowest p to gamma's best p below that to alpha's "
        "and below that to beta's; an open question: the experiment is alpha's",
        changed="It was added after the first results. It is left open below "
        f"{ENOUGH_IMAGES:,} training images, and no longer asked on training images, of which the "
        "paper does not speak.",
    )
)
def decide_c17(claim: Claim, table: "pd.DataFrame") -> Verdict:
    """C17: distance of the measured minima to gamma's best p minus that to alpha's and to beta's,
    on held-out images, paired by seed.

    Args: table, from `landscape_table`.
    """
    column, cases = "test_loss", []
    enough = with_seeds(table[table.a >= RATES_FROM])
    if len(enough):
        premises = case_premises(enough, column)
        for kind in ("alpha", "beta"):

            def interval(level: float, kind: str = kind) -> tuple[float, float, float]:
                nearest = nearest_table(enough, level)[PROTOCOLS[column]]
                mean, low, high = nearest.loc[f"gamma - {kind}", ["mean", "low", "high"]]
                return mean, low, high

            settings = {"at_most": 0.0, "form": "+.3f", "premises": premises}
            quantity = "difference of distances to the minima"
            cases.append(Case.measured(f"gamma − {kind}", quantity, interval, **settings))
    return Verdict(
        claim,
        place(table, PROTOCOLS[column]),
        cases,
        **settings_of(table, column, FINER),
    )


@decides(
    Claim(
        "C18",
        paper=OURS,
        place="beside Chen's section 5.1: networks do not memorise images that they are tested on",
        sentence="On held-out images the test loss is lowest at a kept mass p that is at least the "
        "clean rate a.",
        expected="p of lowest test loss − a at least 0: a held-out image is right more often than "
        "a memorised one",
        changed="It was added after the first results. Since C10 asks for a clean rate "
        'above 0.9, the profile hour trains 0.95 as well: its answer went from "holds" to open.',
    )
)
def decide_c18(claim: Claim, table: "pd.DataFrame") -> Verdict:
    """C18: p of lowest test loss minus a, at each clean rate from `RATES_FROM` to below 1.

    Args: table, from `landscape_table`.
    """
    column, cases = "test_loss", []
    for a, part in with_seeds(noisy(table)).groupby("a"):
        settings = {"at_least": 0.0, "form": "+.2f", "deciding": in_range(a), "shift": a}
        premises = (memorised_premise(part, rate_name(a)),)
        case = minimum_case(
            rate_name(a), "p of lowest loss − a", part, column, premises=premises, **settings
        )
        cases.append(case)
    return Verdict(
        claim,
        place(table, PROTOCOLS[column]),
        cases,
        **settings_of(table, decider=FINER),
    )
