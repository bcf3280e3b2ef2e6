"""Beyond the papers: questions that follow from several of them and that none answers."""

from lsnc_core.claims import OURS
from lsnc_core.papers.page import Paper

CLAIM_NAMES = {
    "B1": "NC1 is lowest at the best p for the loss",
    "B2": "ECE is lowest at the best p for the loss",
    "B3": "At the best p confidence equals accuracy",
}

PAPER = Paper(
    name=OURS,
    short="beyond the papers",
    position=8,
    pages=("beyond_1_collapse_under_noise",),
    claim_names=CLAIM_NAMES,
    headline=("B3", "B1", "B2"),
    figure="beyond-1-minima",
)
