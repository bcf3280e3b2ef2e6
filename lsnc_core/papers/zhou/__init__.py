"""Zhou et al. 2022: four losses, one geometry, equal accuracy."""

from lsnc_core.papers.page import Paper

PAPER = Paper(
    name="Zhou et al. 2022",
    short="Zhou et al. 2022",
    arxiv="2210.02192",
    position=3,
    pages=("zhou_1_losses_collapse", "zhou_2_equal_accuracy", "zhou_3_landscape"),
)
