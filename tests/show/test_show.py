"""What notebooks show: figures with their cards, verdicts, tables, widgets."""

import base64
import io
import json
import re
import subprocess
import sys
import types

import matplotlib
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from elements import Elements, bundle
from matplotlib.figure import Figure as Canvas

from lsnc_core import claims, show
from lsnc_core.claims import Case, Claim, Verdict
from lsnc_core.report import build
from lsnc_core.show.figure import lay_out, pdf_bytes, svg_text

AWKWARD = """p < 1 & "a" > 'b', ä $x_1$"""
CASES = {
    claims.HOLDS: Case.exact("", "error", 0.1, at_most=1),
    claims.FAILS: Case.exact("", "error", 2, at_most=1),
    claims.UNDECIDED: Case("", "error", 1, 0.5, 1.5, at_most=1),
}


def picture(value=1.0):
    canvas = Canvas(figsize=(2, 1.5))
    canvas.subplots().plot([0, 1], [0, value], label="a < b & c")
    return canvas


def verdict(number, outcome, sentence="it holds", remark=""):
    claim = Claim(f"C{number}", "A paper", "section 1", sentence, "below 1")
    return Verdict(claim, "digits", [CASES[outcome]], remark)


def a_figure(table=None, text="x"):
    table = pd.DataFrame({"a": [1]}) if table is None else table
    words = dict.fromkeys(("title", "paper", "ours", "alt"), text)
    return show.Figure(picture(), name="a-figure", table=table, **words)


# figures


def test_a_figure_carries_its_picture_its_texts_and_its_numbers():
    losses = [1 / 3, np.inf]
    table = pd.DataFrame({"kind": ["alpha", "b,eta"], "p": [0.1 + 0.2, 1.0], "loss": losses})
    made = bundle(a_figure(table, AWKWARD))
    assert made["text/plain"] == AWKWARD
    page = Elements(made["text/html"])
    (image,) = page.all("img")
    assert image["alt"] == AWKWARD and image["src"].startswith("data:image/svg+xml;base64,")
    (caption,) = page.all("figcaption")
    assert caption["text"].count(AWKWARD) == 3 and page.all("figure")[0]["id"] == "a-figure"
    assert not page.all("b") and not page.all("a")
    data = json.loads(json.dumps(made[show.FIGURE_TYPE]))
    back = pd.read_csv(io.StringIO(data["csv"]))
    assert list(back.columns) == list(table.columns) and list(back.kind) == list(table.kind)
    np.testing.assert_allclose(back.loss, table.loss, rtol=1e-8)
    assert np.isinf(back.loss[1])


def test_the_same_figure_gives_the_same_bytes_and_another_gives_others():
    assert show.svg_text(picture()) == show.svg_text(picture())
    assert show.svg_text(picture()) != show.svg_text(picture(2.0))
    assert "<dc:date>" not in show.svg_text(picture())


def test_the_same_figure_gives_the_same_pdf_and_another_gives_another():
    first = pdf_bytes(picture())
    assert first.startswith(b"%PDF-") and first == pdf_bytes(picture())
    assert first != pdf_bytes(picture(2.0)) and b"/CreationDate" not in first
    assert base64.b64decode(bundle(a_figure())[show.FIGURE_TYPE]["pdf"]) == first


def test_what_warns_when_drawn_warns_when_the_figure_is_made():
    """Tests of single figures rely on it: there a warning is an error."""
    drawing = picture()
    drawing.axes[0].set_title("\N{CJK UNIFIED IDEOGRAPH-4E00}")  # which the font has not
    with pytest.raises(UserWarning, match="missing from font"):
        show.Figure(drawing, name="f", title="", paper="", ours="", alt="", table=pd.DataFrame())


def crowded_picture():
    """Panels whose places depend on the size of their texts."""
    canvas = Canvas(figsize=(7, 3), layout="constrained")
    left, right = canvas.subplots(1, 2)
    left.plot([1, 2, 3], [1, 1e-3, 1e5], label="falls")
    left.set(yscale="log", ylabel="two\nlines", title="$x^2$")
    canvas.colorbar(right.imshow(np.eye(3)), ax=right, label="share")
    canvas.legend(loc="outside lower center")
    return canvas


def test_a_picture_that_was_laid_out_is_the_same():
    laid, drawn = crowded_picture(), crowded_picture()
    lay_out(laid)
    assert svg_text(laid) == svg_text(drawn)
    drawn.set_layout_engine("none")  # the PDF has the places of the SVG
    assert pdf_bytes(laid) == pdf_bytes(drawn)
    assert laid.get_layout_engine() is None and laid.dpi == crowded_picture().dpi
    plain = picture()
    lay_out(plain)
    assert svg_text(plain) == svg_text(picture())


def test_a_caption_shows_a_sentence_and_folds_the_rest():
    numbers = pd.DataFrame({"a <b>": [0.123456, 2.0], "n": [1000, 3]})
    words = {"title": "T", "paper": "It falls, see eq. 4. Axes reach 1.", "alt": "x"}
    made = show.Figure(
        picture(),
        name="f",
        table=numbers,
        ours="the line ends at 0.5, i.e. lower. 16 networks. All < 1.",
        numbers=numbers,
        **words,
    )
    page = Elements(bundle(made)["text/html"])
    (fold,) = page.texts("details", class_="numbers")
    (caption,) = page.texts("figcaption")
    shown = caption.replace(fold, "")
    assert "It falls, see eq. 4." in shown and "the line ends at 0.5, i.e. lower." in shown
    assert "Axes reach 1." in fold and "16 networks. All < 1." in fold
    assert "Axes" not in shown and "16 networks" not in shown
    assert page.texts("th", scope="col") == ["a <b>", "n"]
    assert page.texts("td") == ["0.1235", "1000", "2", "3"]
    # recordings of an earlier version have no such numbers
    del made.data["numbers"]
    assert not Elements(show.figure_html(made.data, "f.svg")).all("table")
    plain = a_figure(text="one sentence").data
    assert not Elements(show.figure_html(plain, "f.svg")).all("details")


def test_a_figure_by_address_does_not_carry_its_picture_twice():
    data = a_figure().data
    text = show.figure_html(data, "files/f.svg")
    (image,) = Elements(text).all("img")
    assert image["src"] == "files/f.svg" and image["alt"] == "x" and "base64" not in text
    # a phone shows it with a px a point
    width = float(re.search(r'width="([\d.]+)pt"', data["svg"])[1])
    assert float(re.search(r"--points:([\d.]+)px", image["style"])[1]) == pytest.approx(width)


def test_only_a_table_with_long_cells_has_them_below_each_other_on_a_phone():
    def table(text):
        made = show.Table(["first", "second"], [["a", text], ["b", "c"]])
        return Elements(made._repr_mimebundle_()["text/html"])

    assert "class" not in table("x" * 40).all("table")[0]
    long = table("x" * 41)
    assert long.all("table")[0]["class"] == "stacked"
    assert [cell["data-label"] for cell in long.all("td")] == ["first", "second"] * 2


def test_a_card_and_a_drawing_make_a_figure_under_the_common_style():
    from matplotlib import pyplot

    table = pd.DataFrame({"p": [0.5]})

    @show.figure("a-name", number="Figure 3", title="A title", paper="It falls.", alt="a line")
    def draw_line(value, title=""):
        assert matplotlib.rcParams["axes.titlesize"] == 9.5
        canvas, axes = pyplot.subplots()
        axes.plot([0, value])
        return show.Drawing(canvas, f"it ends at {value}", table, title)

    before = pyplot.get_fignums()
    made = draw_line(2)
    assert pyplot.get_fignums() == before  # or notebooks would show it a second time
    texts = {name: made.data[name] for name in ("name", "title", "paper", "ours", "alt")}
    assert texts == {
        "name": "a-name",
        "title": "A title",
        "paper": "It falls.",
        "ours": "it ends at 2",
        "alt": "a line",
    }
    assert made.table is table and len(made.drawing.axes) == 1
    assert draw_line(2, title="Another").data["title"] == "Another"
    assert matplotlib.rcParams["axes.titlesize"] != 9.5
    module = types.SimpleNamespace(draw_line=draw_line, other=picture)
    card = show.FigureCard("a-name", "Figure 3", "A title", "It falls.", "a line")
    assert show.cards_in(module) == [card]


# verdicts


def test_verdicts_have_a_word_and_a_sign_and_labels_for_screen_readers():
    rows = [
        verdict(number, outcome, AWKWARD, AWKWARD)
        for number, outcome in enumerate(claims.OUTCOMES, 1)
    ]
    made = bundle(show.Verdicts(rows))
    page = Elements(made["text/html"])
    header = page.texts("th", scope="col")
    assert page.texts("th", scope="rowgroup") == ["C1", "C2", "C3"]
    cells = [element for element in page.listed if "data-label" in element]
    labels = [header[0], "What is claimed", *header[1:]]
    assert [cell["data-label"] for cell in cells] == labels * 3
    badges = [span for span in page.all("span") if "verdict" in span["class"].split()]
    assert [badge["text"].split(" ", 1)[1] for badge in badges] == list(claims.OUTCOMES)
    assert len({badge["text"][0] for badge in badges}) == 3
    assert len({badge["class"] for badge in badges}) == 3
    assert sum(AWKWARD in cell["text"] for cell in cells) == 6
    data = json.loads(json.dumps(made[show.VERDICTS_TYPE]))
    assert [row["outcome"] for row in data] == list(claims.OUTCOMES)
    for line, outcome in zip(made["text/plain"].splitlines(), claims.OUTCOMES, strict=True):
        assert outcome in line and AWKWARD in line


def test_the_cases_of_a_verdict_are_folded_away_with_their_signs():
    claim = Claim("C1", "A paper", "section 1", "it holds", "below 1")
    cases = [
        Case.exact("a = 0.5", "error <", 0.1, at_most=1),
        Case.exact("a = 0.8", "error", 2, at_most=1),
    ]
    made = bundle(show.Verdicts([Verdict(claim, "digits", cases)]))
    folded = r"<details><summary>the numbers</summary>(.*?)</details>"
    listed = re.search(folded, made["text/html"])[1]
    assert "<li>✓ a = 0.5: error &lt; 0.1</li><li>✗ a = 0.8: error 2</li>" in listed
    assert made[show.VERDICTS_TYPE][0]["outcome"] == claims.FAILS
    nothing = show.Verdicts([Verdict(claim, "digits")])
    assert "<details>" not in show.verdicts_html(nothing.data)


def test_answers_to_one_claim_stand_under_each_other():
    answers = [verdict(1, outcome) for outcome in claims.OUTCOMES]
    rows = show.Verdicts([*answers, verdict(2, claims.HOLDS)]).data
    page = Elements(show.verdicts_html(rows))
    heads = page.all("th", scope="rowgroup")
    assert [(head["text"], head["rowspan"]) for head in heads] == [("C1", "4"), ("C2", "2")]
    # a row for each claim and for each answer
    assert len(page.all("tbody")) == 2 and len(page.all("tr")) == 1 + 2 + 4
    # every column of every row is filled: a claim's text spans three columns
    labelled = [element for element in page.listed if "data-label" in element]
    assert len(labelled) == 2 * 2 + 3 * 4
    # the same id with another expectation is another question
    other = rows[0] | {"expected": "above 1"}
    assert len(Elements(show.verdicts_html([rows[0], other])).all("tbody")) == 2


def test_every_outcome_has_its_sign_and_its_colour():
    assert set(show.SIGNS) == set(show.CLASSES) == set(claims.OUTCOMES)
    style = (build.TEMPLATES / "style.css").read_text(encoding="utf-8")
    assert all(f".verdict.{name} " in style for name in show.CLASSES.values())


# outputs


def test_outside_the_report_a_figure_is_its_picture_once(monkeypatch):
    monkeypatch.delenv(show.FOR_REPORT, raising=False)
    made = a_figure()
    shown = made._repr_mimebundle_()
    assert set(shown) == {"text/plain", "text/html"}
    assert shown["text/html"].count("data:image/svg+xml") == 1
    assert len(json.dumps(shown)) < 1.5 * len(made.data["svg"]) + 6000
    assert show.carried_figure(shown) is None


def test_an_explorer_carries_its_specification_twice_for_the_report_alone(monkeypatch):
    altair = pytest.importorskip("altair")
    monkeypatch.delenv(show.FOR_REPORT, raising=False)
    chart = altair.Chart(altair.InlineData([{"x": 1}])).mark_point().encode(x="x:Q")
    made = show.Explorer("an-explorer", "Title", "Move it.", "a point", chart)
    assert set(made._repr_mimebundle_()) == {"text/plain", "text/html"}
    assert bundle(made)[show.EXPLORER_TYPE]["name"] == "an-explorer"


def test_the_report_reads_back_what_a_figure_carries():
    made = a_figure()
    shown = json.loads(json.dumps(bundle(made)))
    assert "svg" not in shown[show.FIGURE_TYPE]  # the picture is in the HTML, once
    assert show.carried_figure(shown) == made.carried()
    with pytest.raises(ValueError, match="without a picture"):
        show.carried_figure(shown | {"text/html": "<p>"})


@pytest.mark.parametrize(
    "shown",
    [
        a_figure(),
        show.Verdicts([verdict(1, claims.HOLDS)]),
        show.Table(["a"], [["b"]]),
        show.Entries(["a"], [("b", ("c",))]),
    ],
    ids=lambda shown: type(shown).__name__,
)
def test_an_output_has_its_style_which_the_report_takes_out(shown):
    html = bundle(shown)["text/html"]
    assert html.startswith("<style>") and html.count("<style>") == 1 and "\n" not in html[:200]
    assert "<style" not in show.unstyled(html) and show.unstyled(html) in html
    # a page of several outputs, each with its style
    assert show.unstyled(f"<div>{html}</div>\n{html}").count("<style") == 0
    assert show.unstyled(show.unstyled(html)) == show.unstyled(html)


def test_outcomes_have_the_same_colours_in_jupyterlab_and_in_the_report():
    def colours(path):
        text = path.read_text(encoding="utf-8")
        return re.findall(r"--((?:holds|fails|undecided)(?:-bg)?): (#\w+);", text)

    # light, then dark; the report's sheet ends with the light ones again, for print
    shown = colours(ROOT / "lsnc_core" / "show" / "assets" / "outputs.css")
    assert len(shown) == 12 and shown == colours(build.TEMPLATES / "style.css")[:12]


# tables and entries


def test_tables_leave_latex_and_show_markup_as_text():
    rows = [["<script>alert(1)</script>", r"$x < \log M$"], ["1", "2"]]
    made = bundle(show.Table(["a < b", "$M$"], rows))
    page = Elements(made["text/html"])
    assert page.texts("th", scope="col") == ["a < b", "$M$"]
    assert page.texts("td") == ["<script>alert(1)</script>", r"$x < \log M$", "1", "2"]
    assert not page.all("script") and made["text/plain"].splitlines()[2] == "1 | 2"


def test_a_table_of_pandas_is_in_a_box_and_has_no_empty_header_cell():
    table = pd.DataFrame({"loss": ["CE", "LS"]}, index=pd.Index(["a", "b"]))
    page = Elements(show.frame_html(table._repr_html_()))
    assert page.texts("th", scope="col") == ["loss"] and page.texts("th", scope="row") == ["a", "b"]
    assert len(page.all("th")) == 3 and page.texts("td") == ["", "CE", "LS"]
    (box,) = page.all("div", class_="lsnc-scroll")
    assert (box["tabindex"], box["role"]) == ("0", "region") and box["aria-label"]
    assert not page.all("style")


def test_a_cell_of_a_table_can_be_a_link():
    link = show.Link("<Explore>", 'explorer.ipynb?"x"')
    made = bundle(show.Table(["notebook"], [[link]]))
    (anchor,) = Elements(made["text/html"]).all("a")
    assert (anchor["href"], anchor["text"]) == (link.address, link.text)
    assert made["text/plain"].splitlines() == ["notebook", "<Explore>"]


def test_entries_leave_latex_and_show_markup_as_text():
    entries = [("eq. <1> & 2", (r"$a < b$", "<i>c</i>"))]
    made = bundle(show.Entries(["as <printed>", "right"], entries))
    page = Elements(made["text/html"])
    assert page.texts("h3") == ["eq. <1> & 2"]
    assert page.texts("dt") == ["as <printed>", "right"]
    assert page.texts("dd") == [r"$a < b$", "<i>c</i>"]
    assert "right: <i>c</i>" in made["text/plain"]


def test_entries_show_names_in_code():
    made = bundle(show.Entries(["here"], [("heading", ("`smoothing` takes <0.05>",))]))
    page = Elements(made["text/html"])
    assert page.texts("code") == ["smoothing"] and page.texts("dd") == ["smoothing takes <0.05>"]


def test_entries_with_a_part_too_few_are_refused():
    with pytest.raises(ValueError):
        bundle(show.Entries(["one", "two"], [("heading", ("only one",))]))


# widgets


def test_widgets_leave_a_page_that_needs_no_kernel():
    class Box:
        def _repr_mimebundle_(self):
            return {"widget": "abc", "text/plain": "Box()"}

    page, widgets = show.Live(Box(), "<p>the page</p>").bundles()
    assert "<p>the page</p>" in page["text/html"] and "widget" not in page
    # where the widget is dropped, nothing is left of its output
    assert widgets == {"widget": "abc", "text/html": "", "text/plain": ""}


def test_importing_what_notebooks_show_is_light():
    heavy = {"torch", "pandas", "matplotlib", "seaborn", "scipy"}
    code = f"import sys, lsnc_core.show; print(*{heavy} & set(sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == []
