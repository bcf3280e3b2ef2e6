"""Notebooks about the companion as a whole: where to start, what to try, how to measure."""

from lsnc_core.papers.page import Paper

PAPER = Paper(
    name="all papers",
    short="all three",
    position=0,
    pages=("start_here", "explorer", "measure_your_model"),
)
