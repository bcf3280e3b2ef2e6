"""Explorers as notebooks carry them and as the report shows them."""

import json

import altair as alt
import nbformat
import pandas as pd
import pytest
from elements import Elements

from lsnc_core import papers, show
from lsnc_core.report import pages
from lsnc_core.show import explorer


@pytest.fixture
def shown(monkeypatch):
    """An explorer of a small table, in a new kernel session with a short Vega."""
    monkeypatch.setattr(explorer, "_carrier", [])
    monkeypatch.setenv(show.FOR_REPORT, "1")
    monkeypatch.setattr(explorer, "vega_script", lambda: "window.vegaEmbed = 'whole';")
    return an_explorer("an-explorer")


def an_explorer(name):
    table = pd.DataFrame({"x": [1 / 3, 2.0], "what": ["</script><b>", "b"], "n": [1, 12345678]})
    slider = alt.param(name="p", value=0.5, bind=alt.binding_range(min=0, max=1, name="kept mass"))
    chart = alt.Chart(table).mark_point().encode(x="x", tooltip=["what", "n"]).add_params(slider)
    return show.Explorer(name, 'A "title" & more', "Move <p>.", "Two points, one > 1.", chart)


def test_a_bundle_has_the_text_alternative_the_page_and_what_the_report_reads(shown):
    bundle = shown._repr_mimebundle_()
    assert bundle["text/plain"] == shown.alt
    data = json.loads(json.dumps(bundle[show.EXPLORER_TYPE]))
    assert (data["name"], data["title"], data["text"]) == (shown.name, shown.title, shown.text)
    (rows,) = data["spec"]["datasets"].values()
    assert [row["x"] for row in rows] == [0.333333, 2.0] and rows[1]["n"] == 12345678
    assert data["spec"]["description"] == shown.alt


def test_the_first_explorer_of_a_kernel_carries_vega_and_again_when_its_cell_runs_again(shown):
    second = an_explorer("another")
    carries = []
    for one in (shown, second, shown, second, an_explorer("an-explorer")):
        carries.append("'whole'" in one._repr_mimebundle_()["text/html"])
    assert carries == [True, False, True, False, True]


def test_a_page_is_not_broken_by_what_a_table_or_a_title_holds(shown):
    page = Elements(show.explorer_html(shown.data))
    (figure,) = page.all("figure", class_="lsnc-explorer")
    assert figure["id"] == "an-explorer"
    (box,) = page.all("div", class_="chart")
    assert box["aria-label"] == 'Chart: A "title" & more' and box["tabindex"] == "0"
    text = show.explorer_html(shown.data)
    inside = text.split('<script type="application/json">')[1].split("</script>")[0]
    assert json.loads(inside) == shown.data["spec"]


def test_the_report_keeps_scripts_once_and_old_notebooks_stay_as_they_are(shown, tmp_path):
    entry = papers.entries()[0]
    for number, bundle in enumerate([shown._repr_mimebundle_(), {"text/plain": "nothing"}]):
        notebook = nbformat.v4.new_notebook()
        cell = nbformat.v4.new_code_cell("page.explore()", execution_count=1)
        cell.outputs = [nbformat.v4.new_output("display_data", data=bundle)]
        notebook.cells = [nbformat.v4.new_markdown_cell("# A title"), cell]
        path = tmp_path / f"{number}.ipynb"
        nbformat.write(notebook, path)
        page = pages.convert(entry, path, tmp_path / "report", "smoke")
        assert page.has_explorers == (number == 0)
        assert ("an-explorer" in page.body) == (number == 0)
        assert "whole" not in page.body and "<style>" not in page.body
        assert (page.figures, page.verdicts) == ([], [])
