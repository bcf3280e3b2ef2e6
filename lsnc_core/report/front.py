"""The front page: what holds, how strongly, and where it stops."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lsnc_core import papers
from lsnc_core.data_sources import label_of
from lsnc_core.report import answers, forest, networks, outcomes, summaries, words
from lsnc_core.report.record import Recording
from lsnc_core.report.site import Site

if TYPE_CHECKING:
    import pandas as pd


def write(site: Site) -> None:
    """Write the front page."""
    results = answers.by_claim(site)
    cards = summaries.summarise(results, site.pages)
    site.write(
        "index.html",
        "index.html.j2",
        title="Report",
        note="",
        failures=site.failures,
        ran=f"{describe_runs(site.runs)} {describe_gpu(site.runs, site.recordings)}",
        counts=outcomes.count(results),
        decided=summaries.list_decided(results),
        order=outcomes.OUTCOMES,
        words=words,
        number=len(results),
        changed=len({change["id"] for change in answers.changes(site.answers)}),
        signs=words.SIGN,
        classes=words.CLASS,
        summaries=cards,
        cards={card.paper.name: card for card in cards},
        comparisons=papers.comparisons(site.profile),
        groups=forest.rows_by_paper(results),
        ticks=[(tick, forest.percent(tick)) for tick in forest.TICKS],
        lines=[forest.percent(tick) for tick in forest.DECIDED],
        legend=forest.legend(site.recordings),
        recordings=site.recordings,
    )


def describe_runs(runs: "pd.DataFrame") -> str:
    """What was trained in a sentence: networks, seeds, images.

    Args:
        runs: a row per network; may be empty.
    """
    if not len(runs):
        return "No networks were trained for this report."
    images = []
    for data, size in runs.groupby("data").train_size:
        low, high = size.astype(int).min(), size.astype(int).max()
        sizes = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        images.append(f"{sizes} {label_of(data)} images")
    networks, seeds = len(runs), runs.seed.nunique()
    verb = "were" if networks > 1 else "was"
    return (
        f"{networks:,} network{'s' * (networks > 1)} from {seeds} seed{'s' * (seeds > 1)} "
        f"{verb} trained on {' and '.join(images)}."
    )


def describe_gpu(runs: "pd.DataFrame", recordings: Sequence[Recording]) -> str:
    """What was computed on a GPU, in a sentence."""
    found = networks.on_gpu(runs, recordings)
    if not found:
        return "Nothing here was trained or recorded on a GPU."
    return f"Trained on a GPU: {'; '.join(found)}."
