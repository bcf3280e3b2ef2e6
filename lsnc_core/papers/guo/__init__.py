"""Guo et al. 2025: cross-entropy against label smoothing, seen through neural collapse."""

from lsnc_core.papers.page import Paper

SMOOTHED = 0.05  # the paper's main comparison is this smoothing strength against 0

PAPER = Paper(
    name="Guo et al. 2025",
    short="Guo et al. 2025",
    arxiv="2402.03979",
    position=2,
    pages=(
        "guo_1_dynamics",
        "guo_2_strength",
        "guo_3_calibration",
        "guo_4_minimisers",
        "guo_5_conditioning",
        "guo_6_speed",
    ),
)
