"""Beyond the papers: questions that follow from several of them and that none answers."""

from lsnc_core.claims import OURS
from lsnc_core.papers.page import Paper

PAPER = Paper(
    name=OURS,
    short="beyond the papers",
    position=8,
    pages=("beyond_1_collapse_under_noise",),
)
