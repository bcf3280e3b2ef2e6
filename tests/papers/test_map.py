"""The map of papers and notebooks: a paper is one folder."""

import sys

from lsnc_core import papers
from lsnc_core.report import catalog

CARD = """
from lsnc_core.papers.page import Paper

PAPER = Paper(name="Doe 2030", short="Doe 2030", position=4, pages=("doe_1_start",))
"""
PAGE = """
from lsnc_core.claims import Claim, Verdict, decides
from lsnc_core.papers.page import Page
from lsnc_core.show import figure

PAGE = Page(title="A start", section="1", minutes={"quick": 0.1})


def plan_runs(profile):
    return [profile, profile]


@figure("doe-figure-1", number="Figure 1", title="Doe, Figure 1", paper="a line", alt="a line")
def draw_figure_1():
    raise NotImplementedError


@decides(Claim("D1", paper="Doe 2030", place="section 1", sentence="It holds.", expected="yes"))
def decide_d1(claim):
    return Verdict(claim, "nothing")
"""


def test_a_fourth_paper_is_one_folder(tmp_path, monkeypatch):
    folder = tmp_path / "doe"
    folder.mkdir()
    (folder / "__init__.py").write_text(CARD)
    (folder / "doe_1_start.py").write_text(PAGE)
    before = [entry.name for entry in papers.entries()]
    monkeypatch.setattr(papers, "__path__", [*papers.__path__, str(tmp_path)])
    for name in ("doe", "doe.doe_1_start"):
        monkeypatch.delitem(sys.modules, f"lsnc_core.papers.{name}", raising=False)

    (entry,) = catalog.choose(["doe_1_start"])
    assert entry.shows == "Figure 1; D1"
    assert catalog.wanted_runs(entry, {"profile": "smoke", "device": "cpu"}) == ["smoke"]
    names = [entry.name for entry in papers.entries()]
    # after Zhou's notebooks, before what lies beyond the papers
    assert names.index("doe_1_start") == names.index("zhou_3_landscape") + 1
    assert [name for name in names if name != "doe_1_start"] == before
    row = "| Doe 2030, 1 | Figure 1; D1 | `notebooks/doe_1_start.ipynb` | 0.1 |"
    assert row in papers.readme_table().splitlines()
