"""Filters, sorting and anchors of the page of all claims, in a browser, on made-up answers."""

import shutil
import types
from pathlib import Path

import pandas as pd
import pytest
from made_up import MISSED, an_answer

from lsnc_core import papers
from lsnc_core.claims import FAILS, HOLDS, UNDECIDED
from lsnc_core.papers.page import Page, Paper
from lsnc_core.report import claims_page, front
from lsnc_core.report.pages import NotebookPage
from lsnc_core.report.site import Site

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.filterwarnings("default::DeprecationWarning", "default::ResourceWarning"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report of four claims of two papers."""
    paper = Paper(name="A paper", short="A 2030", position=9, pages=("one",))
    given = [
        an_answer(HOLDS, name="C1", tried_on="mnist"),
        an_answer(UNDECIDED, name="C1", tried_on="cifar10", premises=[MISSED]),
        an_answer(FAILS, name="C2"),
        an_answer(UNDECIDED, name="C10", tried_on="The formulas"),
        an_answer(HOLDS, name="D1", paper="Another paper", tried_on="digits"),
    ]
    entry = papers.Entry("one", paper, types.ModuleType("one"), Page("One"))
    folder = tmp_path_factory.mktemp("report")
    page = NotebookPage(entry, "", "", [], given, (), "")
    site = Site(folder, "quick", [page], {}, [], pd.DataFrame())
    front.write(site)
    claims_page.write(site)
    site.publish()
    style = Path(claims_page.TEMPLATES)
    text = (style / "style.css").read_text() + (style / "claims.css").read_text()
    (folder / "assets/style.css").write_text(text)
    return folder


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def opened(browser, report, request):
    """The page at an anchor, if the test names one."""
    context = browser.new_context(viewport={"width": 1280, "height": 500})
    page = context.new_page()
    page.goto((report / "claims.html").as_uri() + getattr(request, "param", ""))
    yield page
    context.close()


def shown(page):
    """The ids of the claims in sight, from top to bottom."""
    return page.evaluate(
        """() => [...document.querySelectorAll(".claims > li")]
            .filter(item => item.offsetHeight).map(item => item.id)"""
    )


@pytest.mark.parametrize(
    ("name", "value", "left"),
    [
        ("paper", "Another paper", ["D1"]),
        ("outcome", HOLDS, ["C1", "D1"]),
        ("premise", "missed", ["C1"]),
        ("sets", "digits", ["C2", "D1"]),
        ("sets", "none", ["C10"]),
    ],
)
def test_a_filter_leaves_what_it_names(opened, name, value, left):
    opened.select_option(f"[name={name}]", value)
    assert shown(opened) == left
    assert opened.inner_text("#claims-shown") == f"{len(left)} of 4 claims"
    opened.click("text=Reset")
    opened.wait_for_function("document.getElementById('claims-shown').textContent[0] == '4'")
    assert shown(opened) == ["C1", "C2", "C10", "D1"]


def test_filters_act_together_and_hide_the_other_answers(opened):
    opened.select_option("[name=sets]", "cifar10")
    assert shown(opened) == ["C1"]
    hidden = opened.eval_on_selector_all("#C1 .answer", "all => all.map(one => one.hidden)")
    assert hidden == [True, False]
    opened.fill("[name=text]", "error 3")
    assert shown(opened) == []
    opened.select_option("[name=sets]", "")
    assert shown(opened) == ["C2"]


def test_the_keyboard_sorts_up_and_down(opened):
    opened.focus("[data-key=distance]")
    opened.keyboard.press("Enter")
    # -2, -1/2, and twice 2 half-widths
    assert shown(opened) == ["C2", "C10", "C1", "D1"]
    assert opened.get_attribute("[data-key=distance]", "aria-pressed") == "true"
    opened.keyboard.press("Enter")
    assert shown(opened) == ["D1", "C1", "C10", "C2"]
    opened.click("[data-key=outcome]")
    assert shown(opened) == ["C1", "D1", "C2", "C10"]
    opened.click("[data-key=number]")
    assert shown(opened) == ["C1", "C2", "C10", "D1"]


@pytest.mark.parametrize("opened", ["#C10"], indirect=True)
def test_an_anchor_opens_its_claim(opened):
    assert opened.eval_on_selector("#C10 > details", "one => one.open")
    assert not opened.eval_on_selector("#C1 > details", "one => one.open")
    opened.select_option("[name=outcome]", FAILS)
    # one that a filter hides comes back
    opened.evaluate("location.hash = '#D1'")
    opened.wait_for_selector("#D1 > details[open]")
    assert "D1" in shown(opened)


@pytest.mark.parametrize("opened", ["#paper=A%20paper&outcome=holds"], indirect=True)
def test_an_address_sets_filters(opened):
    assert shown(opened) == ["C1"]
    assert opened.input_value("[name=outcome]") == HOLDS
    opened.evaluate("location.hash = '#outcome=' + encodeURIComponent('does not hold')")
    opened.wait_for_function("document.getElementById('claims-shown').textContent[0] == '1'")
    opened.wait_for_selector("#C2 > details", state="visible")
    assert shown(opened) == ["C2"]


def test_a_row_of_the_forest_plot_leads_to_its_claim(opened, report):
    opened.goto((report / "index.html").as_uri())
    opened.click(".forest th a[href='claims.html#C2']")
    opened.wait_for_selector("#C2 > details[open]")


def test_without_scripts_all_claims_are_a_plain_list(browser, report):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((report / "claims.html").as_uri())
    assert page.locator(".claims > li").count() == 4
    assert page.locator("#claim-filters").is_hidden() and page.locator("#claim-head").is_hidden()
    page.click("#C2 summary.claim-line")
    assert page.locator("#C2 .answer").is_visible()
    context.close()
