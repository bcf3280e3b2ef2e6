"""How large the networks behind a page are beside the paper's, for the table on its top."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lsnc_core import papers
from lsnc_core.data_sources import SOURCES, label_of
from lsnc_core.report.pages import NotebookPage

if TYPE_CHECKING:
    import pandas as pd

NOT_KNOWN = "no published number found"


class Size(NamedTuple):
    """One measure: its name, of the paper's networks, of those here."""

    name: str
    paper: str
    here: str


# the name of a row, the field of `RunSpec` that holds it, and its name in a verdict's scale
ROWS = (
    ("image sets", "data", "image set"),
    ("training images", "train_size", "training images"),
    ("pixels", "pool", "side in pixels"),
    ("network", "model", "network"),
    ("epochs", "epochs", "epochs"),
    ("weight decay", "weight_decay", "weight decay"),
    ("seeds", "seed", "seeds"),
)
# weight decays of the feature model, by field
LAMBDAS = {"lambda_W": "λ_W", "lambda_H": "λ_H", "lambda_b": "λ_b"}
# measured, and so in the scale alone
ERRORS = ("test error", "test accuracy")


def compare(page: NotebookPage, runs: "pd.DataFrame") -> list[Size]:
    """The sizes of the networks behind a page beside the paper's; none for a page without.

    Here is what was trained. The paper's comes from the scale of the page's verdicts, or from the
    paper's settings where no verdict has it.

    Args:
        page: a notebook.
        runs: pandas.DataFrame of the networks of the report.
    """
    behind = runs[runs.run.isin(page.runs)] if len(runs) else runs
    if not len(behind):
        return []
    settings = {}
    for setting in papers.settings(page.entry.paper):
        settings.setdefault(setting.fields[0] if setting.fields else setting.name, setting)
    scale = _scale(page.verdicts)
    sizes = []
    for name, field, measure in ROWS:
        paper = _join(paper for paper, _ in scale.get(measure, []))
        setting = settings.get("seeds" if field == "seed" else field)
        if field == "data" and setting is not None:
            paper = setting.paper  # the scale has the one that is compared
        if field == "pool":  # the scale has one side of an image
            paper = re.sub(r"\d+", r"\g<0> × \g<0>", paper)
        if not paper and setting is not None:
            paper = _pixels_of(settings["data"]) if field == "pool" else setting.paper
        sizes.append(Size(name, paper or NOT_KNOWN, _describe(behind, field)))
    for measure, pairs in scale.items():
        if measure.startswith(ERRORS):
            paper, here = (_join(column) for column in zip(*pairs, strict=True))
            sizes.append(Size(measure, paper or NOT_KNOWN, here))
    return sizes


def _scale(verdicts: Sequence[dict]) -> dict[str, list[tuple[str, str]]]:
    """What the scales of verdicts say, by measure: paper and here, each pair once."""
    measures: dict[str, list[tuple[str, str]]] = {}
    for verdict in verdicts:
        for one in verdict["scale"]:
            pairs = measures.setdefault(one["name"], [])
            if (one["paper"], one["here"]) not in pairs:
                pairs.append((one["paper"], one["here"]))
    return measures


def _join(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(filter(None, texts)))


def _describe(behind: "pd.DataFrame", field: str) -> str:
    """The values of a field in words, by image set where they are not the same; several with the
    number of their networks, e.g. "75 (12 networks), 150 (24 networks)".
    """
    if field == "seed":
        return f"{behind.seed.nunique()}"
    if field == "data":
        return _join(label_of(name) for name in behind.data.unique())
    texts = {}
    for data, part in behind.groupby("data", sort=False):
        counts = sorted(Counter(_value(run, field) for run in part.to_dict("records")).items())
        words = [f"{one:,}" if isinstance(one, int) else one for one, _ in counts]
        if len(words) > 1:
            networks = [f"{count:,} network{'s' * (count > 1)}" for _, count in counts]
            words = [f"{word} ({number})" for word, number in zip(words, networks, strict=True)]
        texts[label_of(data)] = ", ".join(words)
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return "; ".join(f"{data}: {text}" for data, text in texts.items())


def _value(run: dict, field: str) -> str | int:
    """A network's value of a field, in words where it is not a whole number."""
    if field == "pool":
        source = SOURCES.get(run["data"])
        return _square(source.shape, int(run["pool"])) if source else "as in your own file"
    if field == "model":
        # a text where it comes from an earlier report
        widths = str(run["widths"]).strip("()[], ").replace(", ", "–")
        return f"{run['model']} {widths}"
    if field == "weight_decay" and any(float(run[name]) for name in LAMBDAS):
        return ", ".join(f"{symbol} = {float(run[name]):g}" for name, symbol in LAMBDAS.items())
    value = float(run[field])
    if field == "weight_decay":
        return f"{value:g}"
    return int(value)


def _square(shape: tuple[int, ...], pool: int = 1) -> str:
    return f"{shape[1] // pool} × {shape[2] // pool}"


def _pixels_of(setting: papers.Setting) -> str:
    """The pixels of a paper's image sets."""
    sources = [SOURCES[name] for name in setting.grid[""] if name in SOURCES]
    return _join(_square(source.shape) for source in sources)
