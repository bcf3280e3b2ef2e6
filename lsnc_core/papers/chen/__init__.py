"""Chen, Ziyin et al. 2020: how much smoothing is best when labels are wrong."""

from lsnc_core.papers.page import Paper

PAPER = Paper(
    name="Chen, Ziyin et al. 2020",
    short="Chen et al. 2020",
    arxiv="2010.12648",
    position=1,
    pages=(
        "chen_1_theory",
        "chen_2_landscape",
        "chen_3_beta",
        "chen_4_loss_and_accuracy",
        "chen_5_beyond_uniform",
    ),
)
