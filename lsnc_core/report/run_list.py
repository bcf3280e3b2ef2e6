"""The page on what was run: the machine, the networks behind each notebook, the recordings."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lsnc_core.errors import UsageError
from lsnc_core.report import networks, record
from lsnc_core.report.pages import NotebookPage
from lsnc_core.report.site import Site, capital

if TYPE_CHECKING:
    import pandas as pd


def write(site: Site) -> None:
    """Take the page into the report.

    Raises:
        UsageError: if a recording or a recorded benchmark is damaged.
    """
    listed = [networks_behind(page, site.runs) for page in site.pages]
    site.write(
        "runs.html",
        "runs.html.j2",
        title="What was run",
        note="",
        facts=networks.facts(site.runs),
        behind=[row for row in listed if row is not None],
        without=[page for page, row in zip(site.pages, listed, strict=True) if row is None],
        total=total(site.runs),
        recordings=[(capital(one.where), one.versions) for one in site.recordings],
        on_gpu=networks.on_gpu(site.runs, site.recordings),
        benchmarks=benchmarks(),
    )


@dataclass(frozen=True)
class NetworksBehind:
    """The networks behind a page, or behind all of them.

    Attributes:
        page: the page; None for all.
        count: how many.
        seeds: how many.
        images, epochs: training images and epochs of a network, in words.
        passes: images times epochs of all.
        seconds: process-seconds that they took to train.
    """

    page: NotebookPage | None
    count: int
    seeds: int
    images: str
    epochs: str
    passes: int
    seconds: float


def networks_behind(page: NotebookPage, runs: "pd.DataFrame") -> NetworksBehind | None:
    """The networks of a page; None for a page without.

    Args:
        page: of the report.
        runs: pandas.DataFrame of the networks of all pages.
    """
    behind = runs[runs.run.isin(page.runs)] if len(runs) else runs
    return _describe(page, behind) if len(behind) else None


def total(runs: "pd.DataFrame") -> NetworksBehind | None:
    """All networks, each once; None without any."""
    return _describe(None, runs) if len(runs) else None


def _describe(page: NotebookPage | None, runs: "pd.DataFrame") -> NetworksBehind:
    # texts where they come from an earlier report
    images, epochs = runs.train_size.astype(int), runs.epochs.astype(int)
    passes, seconds = int((images * epochs).sum()), float(runs.seconds.sum())
    spans = _span(images), _span(epochs)
    return NetworksBehind(page, len(runs), runs.seed.nunique(), *spans, passes, seconds)


def _span(values: "pd.Series") -> str:
    """The least and the greatest value in words."""
    low, high = f"{values.min():,}", f"{values.max():,}"
    return low if low == high else f"{low} to {high}"


@dataclass(frozen=True)
class Benchmark:
    """A recorded table of a benchmark: its file's name, what it ran on, whether that is a GPU, and
    at which commit.
    """

    name: str
    hardware: str
    gpu: bool
    commit: str


def benchmarks() -> Sequence[Benchmark]:
    """The recorded benchmarks of this checkout.

    Raises:
        UsageError: for one that is damaged.
    """
    listed = []
    for path in sorted((record.FOLDER / "benchmarks").glob("*.json")):
        try:
            made = json.loads(path.read_text(encoding="utf-8"))["provenance"]
            # the processor stands for the machine of a benchmark that uses no accelerator
            gpu = made["accelerator"]
            hardware = gpu or f"{made['processor']}, {made['cores']} cores"
            listed.append(Benchmark(path.name, hardware, bool(gpu), made["commit"]))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UsageError(
                f"the recorded table {path} is damaged ({type(error).__name__}): restore it from "
                "git or delete it."
            ) from error
    return listed
