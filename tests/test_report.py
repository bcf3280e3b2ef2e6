"""What notebooks show and how executed notebooks become pages, on made-up notebooks: no kernel, no
training.
"""

import html
import html.parser
import io
import json
import re
from pathlib import Path

import matplotlib
import nbformat
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")

from lsnc_core import explore, frames
from lsnc_core.errors import UsageError
from lsnc_core.papers import claims
from lsnc_core.report import build, catalog, record, show

AWKWARD = """p < 1 & "a" > 'b', ä $x_1$"""


def picture(value=1.0):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 1.5))
    figure.subplots().plot([0, 1], [0, value], label="a < b & c")
    return figure


def verdict(number, outcome, sentence="it holds", measured="0.1 [0.0, 0.2]"):
    return claims.Verdict(
        claims.Claim(f"C{number}", "A paper", "section 1", sentence, "below 1"),
        "digits",
        measured,
        outcome,
    )


class Elements(html.parser.HTMLParser):
    """Every start tag with its attributes, the text inside it, and that all tags are closed in
    order.
    """

    VOID = ("img", "input", "meta", "link", "br", "hr")

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.found.append({"tag": tag, "text": "", **dict(attributes)})
        if tag not in self.VOID:
            self.open.append((tag, self.found[-1]))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for _, element in self.open:
            element["text"] += data

    def all(self, tag, **attributes):
        return [
            one
            for one in self.found
            if one["tag"] == tag
            and all(one.get(name.rstrip("_")) == value for name, value in attributes.items())
        ]


def bundle(shown):
    return shown._repr_mimebundle_()


# ------------------------------------------------------------------------------------------------ what a notebook shows


def test_a_figure_carries_its_picture_its_words_and_its_numbers():
    table = pd.DataFrame(
        {"kind": ["alpha", "b,eta"], "p": [0.1 + 0.2, 1.0], "loss": [1 / 3, np.inf]}
    )
    figure = show.Figure(
        picture(),
        name="a-figure",
        title=AWKWARD,
        paper=AWKWARD,
        ours=AWKWARD,
        alt=AWKWARD,
        table=table,
    )
    made = bundle(figure)
    assert made["text/plain"] == AWKWARD
    page = Elements(made["text/html"])
    (image,) = page.all("img")
    assert image["alt"] == AWKWARD and image["src"].startswith("data:image/svg+xml;base64,")
    (caption,) = page.all("figcaption")
    assert caption["text"].count(AWKWARD) == 3 and page.all("figure")[0]["id"] == "a-figure"
    assert not page.all("b") and not page.all("a")
    back = pd.read_csv(io.StringIO(json.loads(json.dumps(made[show.FIGURE_TYPE]))["csv"]))
    assert list(back.columns) == list(table.columns) and list(back.kind) == list(table.kind)
    np.testing.assert_allclose(back.loss, table.loss, rtol=1e-8)
    assert np.isinf(back.loss[1])


def test_the_same_figure_gives_the_same_bytes_and_another_gives_others():
    assert show.svg_text(picture()) == show.svg_text(picture())
    assert show.svg_text(picture()) != show.svg_text(picture(2.0))
    assert "<dc:date>" not in show.svg_text(picture())


def test_a_figure_by_address_does_not_carry_its_picture_twice():
    data = bundle(
        show.Figure(
            picture(),
            name="f",
            title="t",
            paper="p",
            ours="o",
            alt="x",
            table=pd.DataFrame({"a": [1]}),
        )
    )[show.FIGURE_TYPE]
    (image,) = Elements(show.figure_html(data, "files/f.svg")).all("img")
    assert image["src"] == "files/f.svg" and image["alt"] == "x"


def test_verdicts_are_told_by_word_and_sign_and_read_by_screen_readers():
    rows = [
        verdict(number, outcome, AWKWARD, AWKWARD)
        for number, outcome in enumerate(claims.OUTCOMES, 1)
    ]
    made = bundle(show.Verdicts(rows))
    page = Elements(made["text/html"])
    header = [cell["text"] for cell in page.all("th", scope="col")]
    assert [cell["text"] for cell in page.all("th", scope="row")] == ["C1", "C2", "C3"]
    cells = [one for one in page.found if "data-label" in one]
    assert [one["data-label"] for one in cells] == header * 3
    badges = [one for one in page.all("span") if "verdict" in one["class"].split()]
    assert [badge["text"].split(" ", 1)[1] for badge in badges] == list(claims.OUTCOMES)
    assert (
        len({badge["text"][0] for badge in badges})
        == len({badge["class"] for badge in badges})
        == 3
    )
    assert sum(AWKWARD in cell["text"] for cell in cells) == 6
    assert [row["outcome"] for row in json.loads(json.dumps(made[show.VERDICTS_TYPE]))] == list(
        claims.OUTCOMES
    )
    for line, outcome in zip(made["text/plain"].splitlines(), claims.OUTCOMES, strict=True):
        assert outcome in line and AWKWARD in line


def test_the_cases_of_a_verdict_are_folded_away_with_their_signs():
    claim = claims.Claim("C1", "A paper", "section 1", "it holds", "below 1")
    cases = [
        claims.Case("a = 0.5", "0.1 < 1", claims.HOLDS),
        claims.Case("a = 0.8", "2", claims.FAILS),
    ]
    bundle = show.Verdicts([claims.over_cases(claim, "digits", cases)])._repr_mimebundle_()
    folded = re.search(
        r"<details><summary>the numbers</summary>(.*?)</details>", bundle["text/html"]
    )[1]
    assert "<li>✓ a = 0.5: 0.1 &lt; 1</li><li>✗ a = 0.8: 2</li>" in folded
    assert bundle[show.VERDICTS_TYPE][0][
        "outcome"
    ] == claims.FAILS and "<details>" not in show.verdicts_html(
        show.Verdicts([verdict(1, claims.HOLDS)]).data
    )


def test_verdicts_of_a_report_link_to_their_pages():
    rows = show.Verdicts([verdict(1, claims.HOLDS), verdict(2, claims.FAILS)]).data
    linked = [
        row | {"page": page} for row, page in zip(rows, ("one.html", "two.html"), strict=True)
    ]
    assert [
        (link["href"], link["text"]) for link in Elements(show.verdicts_html(linked)).all("a")
    ] == [
        ("one.html", "digits"),
        ("two.html", "digits"),
    ]


def test_answers_to_one_claim_stand_under_each_other():
    rows = show.Verdicts(
        [verdict(1, outcome) for outcome in claims.OUTCOMES] + [verdict(2, claims.HOLDS)]
    ).data
    page = Elements(show.verdicts_html(rows))
    heads = page.all("th", scope="rowgroup") + page.all("th", scope="row")
    assert [(head["text"], head.get("rowspan")) for head in heads] == [("C1", "3"), ("C2", None)]
    assert len(page.all("tbody")) == 2 and len(page.all("tr")) == 1 + 4
    # every column of every row is filled: three cells span three rows
    assert len([one for one in page.found if "data-label" in one]) == 5 * 2 + 2 * 2
    other = rows[0] | {
        "expected": "above 1"
    }  # the same id with another expectation is another question
    assert len(Elements(show.verdicts_html([rows[0], other])).all("tbody")) == 2


def test_every_outcome_has_its_sign_and_its_colour():
    assert set(show.SIGNS) == set(show.CLASSES) == set(claims.OUTCOMES)
    style = (build.TEMPLATES / "style.css").read_text(encoding="utf-8")
    assert all(f".verdict.{name} " in style for name in show.CLASSES.values())


def test_tables_and_entries_leave_latex_and_show_markup_as_text():
    made = bundle(
        show.Table(["a < b", "$M$"], [["<script>alert(1)</script>", r"$x < \log M$"], ["1", "2"]])
    )
    page = Elements(made["text/html"])
    assert [cell["text"] for cell in page.all("th", scope="col")] == ["a < b", "$M$"]
    assert [cell["text"] for cell in page.all("td")] == [
        "<script>alert(1)</script>",
        r"$x < \log M$",
        "1",
        "2",
    ]
    assert not page.all("script") and made["text/plain"].splitlines()[2] == "1 | 2"
    made = bundle(
        show.Entries(["as <printed>", "right"], [("eq. <1> & 2", (r"$a < b$", "<i>c</i>"))])
    )
    page = Elements(made["text/html"])
    assert [one["text"] for one in page.all("h3") + page.all("dt") + page.all("dd")] == [
        *("eq. <1> & 2", "as <printed>", "right", "$a < b$", "<i>c</i>")
    ]
    assert "right: <i>c</i>" in made["text/plain"]


def test_entries_with_a_part_too_few_are_refused():
    with pytest.raises(ValueError):
        bundle(show.Entries(["one", "two"], [("heading", ("only one",))]))


# ------------------------------------------------------------------------------------------------ the slider


def test_a_slider_shows_its_start_and_hides_the_rest():
    labels = ['p = "0"', "p < 1 & more", "p = 1"]
    page = Elements(
        frames.slider_html(
            "kept <mass>", labels, ["<svg>0</svg>", "<svg>1</svg>", "<svg>2</svg>"], start=1
        )
    )
    (box,) = page.all("div", class_="lsnc-frames")
    assert json.loads(box["data-labels"]) == labels
    shown = page.all("div", class_="lsnc-frame")
    assert ["hidden" in one for one in shown] == [True, False, True]
    (control,) = page.all("input", type="range")
    assert (control["min"], control["max"], control["value"]) == ("0", "2", "1") and control[
        "aria-valuetext"
    ] == labels[1]
    assert page.all("output")[0]["text"] == labels[1]
    assert page.all("label")[0]["text"].strip() == "kept <mass>"
    assert [image["alt"] for image in page.all("img")] == [
        f"kept <mass>: {label}" for label in labels
    ]
    assert len({image["src"] for image in page.all("img")}) == 3


@pytest.mark.parametrize(
    "labels, svgs, start",
    [
        ([], [], 0),
        (["a"], ["<svg/>", "<svg/>"], 0),
        (["a"], ["<svg/>"], 1),
        (["a"], ["<svg/>"], -1),
    ],
)
def test_a_slider_of_nothing_or_of_odd_numbers_is_refused(labels, svgs, start):
    with pytest.raises(UsageError, match=r"^a slider needs .*\.$"):
        frames.slider_html("title", labels, svgs, start)


# ------------------------------------------------------------------------------------------------ the live widget


def test_the_explorer_redraws_for_each_of_its_controls():
    live = explore.SmoothingExplorer("alpha", 10)
    seen = [(live.said.value, bytes(live.picture.value))]
    assert "p = 0.80" in live.said.value and "δ = 0.222" in live.said.value
    for control, value in ((live.p, 0.5), (live.classes, 2), (live.kind, "beta")):
        control.value = value
        seen.append((live.said.value, bytes(live.picture.value)))
    assert seen[0][0] != seen[1][0] != seen[2][0]
    assert "p = 0.50" in seen[1][0] and "δ = 1.000" in seen[2][0] and "M = 2" in seen[2][0]
    assert len({image for _, image in seen}) == 4 and all(
        image.startswith(b"\x89PNG") for _, image in seen
    )


def test_the_explorer_carries_a_live_view_and_a_page_for_readers_without_a_kernel(monkeypatch):
    drawn = []

    def quick(kind, M, p):
        drawn.append((kind, M, p))
        return picture(p)

    monkeypatch.setattr(
        explore, "smoothing_figure", quick
    )  # 26 real pictures take seconds; the smoke run draws them
    live = explore.SmoothingExplorer("beta", 7)
    assert live.classes.value == 7 and 7 in live.classes.options
    live.p.value = 0.3
    drawn.clear()
    made = bundle(live)
    assert made[build.WIDGET_TYPE]["model_id"] == live.box.model_id
    page = Elements(made["text/html"])
    shown = page.all("div", class_="lsnc-frame")
    labels = json.loads(page.all("div", class_="lsnc-frames")[0]["data-labels"])
    assert len(shown) == len(labels) == len(drawn) and {(kind, M) for kind, M, _ in drawn} == {
        ("beta", 7)
    }
    assert (
        "p = 0.00" in labels[0]
        and "p = 1.00" in labels[-1]
        and all("M = 7" in label for label in labels)
    )
    (first,) = [label for label, frame in zip(labels, shown, strict=True) if "hidden" not in frame]
    assert "p = 0.80" in first and page.all("input")[0]["aria-valuetext"] == first


@pytest.mark.parametrize("kind, M", [("delta", 10), ("alpha", 1), ("alpha", 0)])
def test_the_explorer_refuses_what_it_cannot_draw(kind, M):
    with pytest.raises(UsageError, match=repr(kind) if kind == "delta" else str(M)):
        explore.SmoothingExplorer(kind, M)


# ------------------------------------------------------------------------------------------------ pages

ONE = catalog.Notebook("one", "First <things>", "A & B 2020", "Figures 1 < 2", 0.1)
TWO = catalog.Notebook("two", "Second things", "C 2021", "a slider", 0.1)
NO_RUNS = pd.DataFrame()


def executed(
    folder: Path,
    name: str,
    outputs=(),
    text="# A title\n\nSee [the other](two.ipynb) and [the paper](https://arxiv.org/abs/2010.12648).",
):
    """An executed notebook as papermill leaves it: each of `outputs` is the result of one cell."""
    cells = [nbformat.v4.new_markdown_cell(text)]
    for number, output in enumerate(outputs, 1):
        if not isinstance(output, nbformat.NotebookNode):
            output = nbformat.v4.new_output("execute_result", output, execution_count=number)
        cells.append(
            nbformat.v4.new_code_cell(
                f"value = {number} < 5", execution_count=number, outputs=[output]
            )
        )
    (folder / "notebooks").mkdir(parents=True, exist_ok=True)
    nbformat.write(
        nbformat.v4.new_notebook(cells=cells, metadata={"widgets": {"a": {"state": {}}}}),
        folder / "notebooks" / f"{name}.ipynb",
    )


def read(path):
    return path.read_text(encoding="utf-8")


@pytest.fixture
def quick_assets(monkeypatch):
    """The style sheet and MathJax are the smoke run's concern; so are this checkout's
    recordings.
    """
    monkeypatch.setattr(build, "_assets", lambda folder: None)
    monkeypatch.setattr(record, "FOLDER", Path("nowhere"))


def test_what_is_claimed_by_none_of_the_papers_stands_last(tmp_path, quick_assets):
    ours = claims.Verdict(
        claims.Claim("B1", claims.OURS, "here", "it holds", "below 1"),
        "digits",
        "0.1",
        claims.HOLDS,
    )
    executed(tmp_path, "one", [bundle(show.Verdicts([ours, verdict(2, claims.FAILS)]))])
    executed(tmp_path, "two", [bundle(show.Verdicts([verdict(1, claims.FAILS)]))])
    page = Elements(read(build.build(tmp_path, "smoke", (ONE, TWO), {}, NO_RUNS)))
    assert [head["text"] for head in page.all("th", **{"data-label": "Claim"})] == [
        "C1",
        "C2",
        "B1",
    ]
    (tally,) = page.all("table", class_="tally")
    assert tally["text"].replace("\n", "").endswith("All120A paper020this companion100")


def test_a_report_of_two_notebooks(tmp_path, quick_assets):
    table = pd.DataFrame({"p": [0.5, 1.0], "loss": [0.25, np.inf]})
    figure = show.Figure(
        picture(),
        name="fig-1",
        title="Figure <1>",
        paper="p",
        ours="o",
        alt='seen: "x" < y',
        table=table,
    )
    rows = [
        verdict(12, claims.FAILS),
        verdict(2, claims.HOLDS, AWKWARD),
        verdict(1, claims.UNDECIDED),
    ]
    progress = nbformat.v4.new_output("stream", name="stderr", text="training: 100%")
    executed(tmp_path, "one", [bundle(figure), bundle(show.Verdicts(rows)), progress])
    widget = {
        build.WIDGET_TYPE: {"model_id": "abc"},
        "text/plain": "VBox()",
        "text/html": frames.slider_html("p", ["a"], ["<svg/>"]),
    }
    executed(tmp_path, "two", [widget])
    index = build.build(tmp_path, "smoke", (ONE, TWO), {}, NO_RUNS)
    assert index == tmp_path / "report" / "index.html"
    page, one, two = (
        Elements(read(tmp_path / "report" / name))
        for name in ("index.html", "one.html", "two.html")
    )
    assert "the order of the batches is shared and not covered" in " ".join(
        read(index).split()
    )  # what intervals leave out
    # the claims, in the order a reader counts, linked to their page
    assert [head["text"] for head in page.all("th", **{"data-label": "Claim"})] == [
        "C1",
        "C2",
        "C12",
    ]
    assert [
        link["text"] for link in page.all("a", href="one.html") if link["text"] == "digits"
    ] == ["digits"] * 3
    (tally,) = page.all("table", class_="tally")
    assert (
        tally["text"].replace("\n", "")
        == "Answers, by paper✓ holds✗ does not hold? not decidable hereAll111A paper111"
    )
    assert AWKWARD in next(
        cell["text"]
        for cell in page.all("td", **{"data-label": "What is claimed"})
        if AWKWARD in cell["text"]
    )
    # the figure once as a file, by address on both pages, with its table
    assert read(tmp_path / "report/files/fig-1.svg") == show.svg_text(picture())
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "report/files/fig-1.csv"), table)
    assert (
        [image["src"] for image in one.all("img")]
        == [image["src"] for image in page.all("img")]
        == ["files/fig-1.svg"]
    )
    assert [image["alt"] for image in one.all("img") + page.all("img")] == ['seen: "x" < y'] * 2
    assert {link["href"] for link in one.all("a") if "download" in link} == {
        "files/fig-1.svg",
        "files/fig-1.csv",
    }
    # titles as text, notebooks' links as pages, strangers' links untouched, progress left out
    assert page.all("a", href="one.html")[0]["text"] == "First <things>"
    targets = {link["href"] for link in one.all("a")}
    assert {"two.html", "https://arxiv.org/abs/2010.12648"} <= targets and not [
        target for target in targets if ".ipynb" in target
    ]
    assert "training: 100%" not in read(tmp_path / "report/one.html")
    assert [link["text"] for link in one.all("a") if link.get("aria-current") == "page"] == [
        "First <things>"
    ]
    # without a kernel the widget's own page stands in
    assert len(two.all("div", class_="lsnc-frames")) == 1 and "model_id" not in read(
        tmp_path / "report/two.html"
    )
    assert "value = 1 < 5" in one.all("details", class_="code")[0]["text"]


def test_a_report_says_what_failed_and_what_is_of_an_earlier_run(tmp_path, quick_assets):
    executed(tmp_path, "one")
    failures = {
        "one": "cell 3 failed: ValueError: a < b & c (log: /x/one.log)",
        "two": "its kernel was killed.",
    }
    build.build(tmp_path, "smoke", (ONE, TWO), failures, NO_RUNS)
    page, one = (Elements(read(tmp_path / "report" / name)) for name in ("index.html", "one.html"))
    (section,) = page.all("section", class_="failures")
    assert section["role"] == "alert" and all(
        f"{name}: {sentence}" in section["text"] for name, sentence in failures.items()
    )
    (note,) = one.all("p", class_="profile")
    assert "earlier run" in note["text"] and failures["one"] in note["text"]
    assert not (tmp_path / "report/two.html").exists()
    assert {link["href"] for link in page.all("a")} == {
        "#content",
        "index.html",
        "one.html",
        "files/runs.csv",
        "index.html#provenance",
    }


def test_a_report_without_failures_or_claims_says_so(tmp_path, quick_assets):
    executed(tmp_path, "one")
    build.build(tmp_path, "quick", (ONE, TWO), {}, NO_RUNS)
    page, text = (
        Elements(read(tmp_path / "report/index.html")),
        read(tmp_path / "report/index.html"),
    )
    assert not page.all("section", class_="failures") and not page.all(
        "table", class_="lsnc-verdicts"
    )
    assert "No claims have been decided" in text and "earlier run" not in read(
        tmp_path / "report/one.html"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"\xff\xfe\x00",
        b'{"cells": 3}',
        b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{}]}',
    ],
    ids=["empty", "cut short", "a list", "no notebook", "not text", "odd cells", "odd cell"],
)
def test_a_damaged_executed_notebook_is_named(tmp_path, quick_assets, content):
    executed(tmp_path, "one")
    (tmp_path / "notebooks/one.ipynb").write_bytes(content)
    with pytest.raises(UsageError, match=r"one\.ipynb is damaged .*delete it and start again\.$"):
        build.build(tmp_path, "smoke", (ONE,), {}, NO_RUNS)


def test_a_report_that_cannot_be_written_is_a_sentence(tmp_path, quick_assets):
    executed(tmp_path, "one")
    (tmp_path / "report").write_text("a file in the way")
    with pytest.raises(UsageError, match=r"^cannot write .*--outputs\.$"):
        build.build(tmp_path, "smoke", (ONE,), {}, NO_RUNS)


# ------------------------------------------------------------------------------------------------ recordings


@pytest.fixture
def recorded(tmp_path, quick_assets, monkeypatch):
    """Notebook "one" with a figure and two verdicts, recorded; then run again with other results
    and the recording at hand.
    """
    table, runs = (
        pd.DataFrame({"p": [0.5]}),
        pd.DataFrame({"run": ["abc"], "hardware": ["a chip"], "commit": ["123"]}),
    )

    def shown(height, *rows):
        figure = show.Figure(
            picture(height),
            name="fig-1",
            title="Figure <1>",
            paper="p",
            ours="o",
            alt=AWKWARD,
            table=table,
        )
        executed(tmp_path, "one", [bundle(figure), bundle(show.Verdicts(rows))])

    there = claims.Verdict(
        claims.Claim("C1", "A paper", "section 1", "it holds", "below 1"),
        "full <MNIST>",
        "0.2",
        claims.FAILS,
    )
    twice = verdict(2, claims.HOLDS, measured="0.5 here and there")
    nothing = verdict(3, claims.UNDECIDED, measured=f"{claims.NOT_TRAINED}; a GPU would decide it")
    shown(2.0, verdict(1, claims.FAILS, measured="0.3"), there, twice, nothing)
    record.write(tmp_path / "kept" / "far", tmp_path, "gpu", ["a=1"], ["one"], runs)
    shown(1.0, verdict(1, claims.HOLDS, measured="0.1"), twice, nothing)
    executed(tmp_path, "two")
    monkeypatch.setattr(record, "FOLDER", tmp_path / "kept")
    return tmp_path


def test_a_recording_stands_beside_what_this_machine_computed(recorded):
    build.build(recorded, "gpu", (ONE, TWO), {}, NO_RUNS)
    index, one, two = (
        Elements(read(recorded / "report" / name))
        for name in ("index.html", "one.html", "two.html")
    )
    here = record.recordings(recorded / "kept")[0].where
    assert here.startswith("recorded on ") and here.endswith("profile gpu, a=1")
    # one claim, two rows: the question asked here with the other answer folded away, and the one
    # asked only there
    heads = index.all("th", **{"data-label": "Claim"})
    assert [(head["text"], head.get("rowspan")) for head in heads] == [
        ("C1", "2"),
        ("C2", None),
        ("C3", None),
    ]
    answers = [cell["text"] for cell in index.all("td", **{"data-label": "Measured here"})]
    assert (
        answers[0].startswith("digits: 0.1")
        and f"{here}: ✗ does not hold" in answers[0]
        and "0.3" in answers[0]
    )
    assert answers[1] == f"{here}full <MNIST>: 0.2"
    assert (
        answers[2] == f"digits: 0.5 here and therethe same numbers were {here}"
        and here not in answers[3]
    )
    assert (
        "A paper201" in index.all("table", class_="tally")[0]["text"]
    )  # what was recorded is not counted
    assert here[1:] in "".join(cell["text"] for cell in index.all("th", scope="row"))
    # its page: folded away, with picture, table and networks as files of the report
    (part,) = one.all("details", class_="recorded")
    assert here[1:] in part["text"] and not two.all("details", class_="recorded")
    assert [image["src"] for image in one.all("img")] == [
        "files/fig-1.svg",
        "files/recorded/far/fig-1.svg",
    ]
    ids = [figure["id"] for figure in one.all("figure")]
    assert ids == ["fig-1", "far-fig-1"]
    for link in one.all("a"):
        assert "download" not in link or (recorded / "report" / link["href"]).exists()
    assert (
        read(recorded / "report/files/recorded/far/fig-1.svg")
        == show.svg_text(picture(2.0))
        != read(recorded / "report/files/fig-1.svg")
    )
    assert pd.read_csv(recorded / "report/files/recorded/far/runs.csv").run.tolist() == ["abc"]


def test_another_profile_or_expectation_is_another_question(recorded):
    build.build(recorded, "gpu", (ONE,), {}, NO_RUNS)
    same = Elements(read(recorded / "report/index.html"))
    assert [head.get("rowspan") for head in same.all("th", **{"data-label": "Claim"})] == [
        "2",
        None,
        None,
    ]
    path = recorded / "kept/far/recording.json"
    path.write_text(path.read_text().replace("below 1", "below 2"))
    build.build(recorded, "gpu", (ONE,), {}, NO_RUNS)
    other = Elements(read(recorded / "report/index.html"))
    heads = [
        (head["text"], head.get("rowspan")) for head in other.all("th", **{"data-label": "Claim"})
    ]
    assert heads == [("C1", None), ("C1", "2"), ("C2", None), ("C2", None), ("C3", None)]


def test_a_new_recording_leaves_nothing_of_the_old_and_no_folder_of_a_reader(recorded):
    runs = pd.DataFrame(
        {
            "run": ["abc"],
            "data": ["/home/me/my files/own.py"],
            "hardware": ["a chip"],
            "commit": ["123"],
        }
    )
    (recorded / "kept/far/old.csv").write_text("")
    record.write(
        recorded / "kept/far",
        recorded,
        "gpu",
        ["data_set=/home/me/own.py", 'noise=["pair", "~/x/other.py"]'],
        ["one"],
        runs,
    )
    (made,) = record.recordings(recorded / "kept")
    assert (
        made.parameters == ("data_set=own.py", 'noise=["pair", "other.py"]')
        and not (made.folder / "old.csv").exists()
    )
    assert (
        made.where.startswith("recorded on a chip, ")
        and "networks trained at commit 123, recorded at" in made.versions
    )
    assert pd.read_csv(made.folder / "runs.csv").data.tolist() == ["own.py"]
    record.write(recorded / "kept/far", recorded, "gpu", [], ["two"], NO_RUNS)
    assert [path.name for path in made.folder.iterdir()] == ["recording.json"]


def test_a_recordings_name_must_do_in_addresses(recorded):
    (recorded / "kept/far").rename(recorded / "kept/so far")
    with pytest.raises(UsageError, match=r"letters, digits, '\.', '_' and '-', got 'so far'\.$"):
        build.build(recorded, "gpu", (ONE,), {}, NO_RUNS)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"profile": "gpu"}', None])
def test_a_damaged_recording_is_named(recorded, content):
    path = recorded / "kept/far/recording.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"provenance": {}})
        if content is None
        else content
    )
    with pytest.raises(
        UsageError,
        match=r"^the recording .*recording\.json is damaged .*restore it from git or delete it\.$",
    ):
        build.build(recorded, "smoke", (ONE,), {}, NO_RUNS)


def test_a_recording_that_lacks_a_file_is_named(recorded):
    (recorded / "kept/far/fig-1.csv").unlink()
    with pytest.raises(UsageError, match=r"lacks fig-1\.csv: restore it from git or delete it\.$"):
        build.build(recorded, "smoke", (ONE,), {}, NO_RUNS)
