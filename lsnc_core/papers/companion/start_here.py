"""Where to start: every notebook on one map, and the two conventions of smoothing converted."""

from lsnc_core import labels, papers, profiles
from lsnc_core.papers.page import Page
from lsnc_core.show import Link, Table

PAGE = Page(
    title="Start here",
    shows="map, symbols, how to read a verdict",
    minutes={"quick": 0.2},
)
KEPT_MASSES = (1.0, 0.95, 0.9, 0.8, 0.5)
CLASSES = (2, 10, 100)


def draw_map(profile: str = "auto") -> Table:
    """All notebooks in reading order, made from their cards.

    Args:
        profile: counts the networks that each notebook needs in it.

    Raises:
        UsageError: for an unknown profile.
    """
    profile, why = profiles.resolve(profile)
    rows = []
    for entry in papers.entries():
        row = [
            Link(entry.name, f"{entry.name}.ipynb"),
            entry.page.title,
            ", ".join(filter(None, [entry.paper.short, entry.page.section])),
            entry.shows,
            str(count_networks(entry, profile)),
            f"{entry.page.minutes['quick']:g}",
        ]
        rows.append(row)
    networks = f"networks ({profile}: {why})"
    header = ["notebook", "title", "paper, section", "shows", networks, "minutes (quick)"]
    return Table(header, rows)


def count_networks(entry: papers.Entry, profile: str) -> int:
    """How many networks a notebook needs in a profile; 0 where nothing is trained."""
    plan_runs = getattr(entry.module, "plan_runs", None)
    return len(dict.fromkeys(plan_runs(profile))) if plan_runs else 0


def convert_strengths() -> Table:
    """Kept masses p with the smoothing strength delta that they stand for."""
    rows = []
    for p in KEPT_MASSES:
        strengths = [f"{labels.strength_from_kept(p, K):.4f}" for K in CLASSES]
        rows.append([f"{p:g}", *strengths])
    return Table(["kept mass p", "strength δ for 2 classes", "for 10", "for 100"], rows)
