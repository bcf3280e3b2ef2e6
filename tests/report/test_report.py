"""How executed notebooks become pages, an index and data, on made-up notebooks: no kernel, no
training.
"""

import csv
import io
import json
import math
import shlex
import types
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from elements import Elements, bundle
from matplotlib.figure import Figure as Canvas

from lsnc_core import claims, papers, show
from lsnc_core.claims import Case, Claim, Scale, Verdict
from lsnc_core.errors import UsageError
from lsnc_core.papers.page import Page, Paper, Setting
from lsnc_core.report import build, pages, record, sizes

WIDGET_TYPE = "application/vnd.jupyter.widget-view+json"
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


def a_figure(height=1.0, table=None, alt="x"):
    table = pd.DataFrame({"p": [0.5]}) if table is None else table
    words = {"title": "Figure <1>", "paper": "p", "ours": "o", "alt": alt}
    return show.Figure(picture(height), name="fig-1", table=table, **words)


def verdict(number, outcome, sentence="it holds", remark="", changed=""):
    claim = Claim(f"C{number}", "A paper", "section 1", sentence, "below 1", changed)
    return Verdict(claim, "digits", [CASES[outcome]], remark)


def an_entry(name, title, short, shows):
    paper = Paper(name=short, short=short, position=9, pages=(name,))
    return papers.Entry(name, paper, types.ModuleType(name), Page(title, "3.1", shows))


ONE = an_entry("one", "First <things>", "A & B 2020", "Figures 1 < 2")
TWO = an_entry("two", "Second things", "C 2021", "a widget")
NO_RUNS = pd.DataFrame()
TEXT = "# A title\n\nSee [the other](two.ipynb) and [the paper](https://arxiv.org/abs/2010.12648)."


def executed(folder, name, outputs=(), text=TEXT):
    """An executed notebook as papermill leaves it: each of `outputs` is the result of one cell."""
    cells = [nbformat.v4.new_markdown_cell(text)]
    for number, output in enumerate(outputs, 1):
        if not isinstance(output, nbformat.NotebookNode):
            output = nbformat.v4.new_output("execute_result", output, execution_count=number)
        source = f"value = {number} < 5"
        cell = nbformat.v4.new_code_cell(source, execution_count=number, outputs=[output])
        cells.append(cell)
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"widgets": {"a": {"state": {}}}})
    (folder / "notebooks").mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / "notebooks" / f"{name}.ipynb")


def read(path):
    return path.read_text(encoding="utf-8")


def elements(folder, name):
    return Elements(read(folder / "report" / f"{name}.html"))


def claims_listed(folder):
    """The ids of the page of all claims."""
    return [item["id"] for item in elements(folder, "claims").all("li") if "data-paper" in item]


@pytest.fixture
def quick_assets(monkeypatch):
    """The smoke run looks at the style sheet, at MathJax and at this checkout's recordings."""
    monkeypatch.setattr(build, "_assets", lambda *arguments: None)
    monkeypatch.setattr(record, "FOLDER", Path("nowhere"))


# pages and the index


def papers_counted(index):
    """Each paper with how many claims have each outcome, at the top of the front page."""
    rows = [" ".join(row.split()) for row in index.texts("tr", class_="paper")]
    return rows[: len(rows) // 2]  # the forest plot has the papers again


def test_a_claim_of_none_of_the_papers_stands_last(tmp_path, quick_assets):
    claim = Claim("B1", claims.OURS, "here", "it holds", "below 1")
    ours = Verdict(claim, "digits", [CASES[claims.HOLDS]])
    executed(tmp_path, "one", [bundle(show.Verdicts([ours, verdict(2, claims.FAILS)]))])
    executed(tmp_path, "two", [bundle(show.Verdicts([verdict(1, claims.FAILS)]))])
    page = Elements(read(build.build(tmp_path, "smoke", (ONE, TWO), {}, NO_RUNS)))
    assert claims_listed(tmp_path) == ["C1", "C2", "B1"]
    counted = ["A paper ✗ 2 do not hold", "This companion ✓ 1 holds"]
    assert papers_counted(page) == counted


@pytest.fixture
def two_pages(tmp_path, quick_assets):
    """A report of two notebooks: one with a figure, verdicts and a progress bar, one with a
    widget.
    """
    table = pd.DataFrame({"p": [0.5, 1.0], "loss": [0.25, np.inf]})
    figure = a_figure(table=table, alt='here: "x" < y')
    rows = [
        verdict(12, claims.FAILS),
        verdict(2, claims.HOLDS, AWKWARD),
        verdict(1, claims.UNDECIDED),
    ]
    progress = nbformat.v4.new_output("stream", name="stderr", text="training: 100%")
    executed(tmp_path, "one", [bundle(figure), bundle(show.Verdicts(rows)), progress])
    widget = {
        WIDGET_TYPE: {"model_id": "abc"},
        "text/plain": "VBox()",
        "text/html": "<p>without a kernel</p>",
    }
    executed(tmp_path, "two", [widget])
    index = build.build(tmp_path, "smoke", (ONE, TWO), {}, NO_RUNS)
    assert index == tmp_path / "report" / "index.html"
    return tmp_path, table


def test_the_front_page_counts_claims_and_another_lists_them(two_pages):
    folder, _ = two_pages
    page, listed = elements(folder, "index"), elements(folder, "claims")
    assert claims_listed(folder) == ["C1", "C2", "C12"]
    links = [text for text in listed.texts("a", href="one.html") if text == "digits"]
    assert links == ["digits"] * 3
    assert papers_counted(page) == ["A paper ✓ 1 holds ✗ 1 does not hold ? 1 is not decidable here"]
    assert any(AWKWARD in sentence for sentence in listed.texts("p"))


def test_a_figure_lies_once_beside_the_pages_with_its_table(two_pages):
    folder, table = two_pages
    one = elements(folder, "one")
    assert read(folder / "report/files/fig-1.svg") == show.svg_text(picture())
    pd.testing.assert_frame_equal(pd.read_csv(folder / "report/files/fig-1.csv"), table)
    (image,) = one.all("img")
    assert (image["src"], image["alt"]) == ("files/fig-1.svg", 'here: "x" < y')
    downloads = {link["href"] for link in one.all("a") if "download" in link}
    figure = {f"files/fig-1.{ending}" for ending in ("svg", "pdf", "csv")}
    assert downloads == figure | {"files/one.ipynb"}
    assert all((folder / "report" / address).stat().st_size for address in downloads)
    (line,) = one.texts("span", class_="rebuild")
    command = "./run_all.sh --profile smoke --only one --figure fig-1"
    assert line == f"Rebuild in the project folder: {command}"
    assert "./run_all.sh --profile smoke --only one" in one.texts("code")


@pytest.mark.parametrize("formula", ["$p^*$", r"\(p^*\)", r"\[p^*\]", r"\begin{align}p\end{align}"])
def test_only_a_page_with_formulas_loads_what_sets_them(tmp_path, quick_assets, formula):
    executed(tmp_path, "one", [{"text/latex": formula}])
    executed(tmp_path, "two", [{"text/markdown": "none"}])
    build.build(tmp_path, "smoke", (ONE, TWO), {}, NO_RUNS)
    scripts = [
        elements(tmp_path, name).all("script", src="assets/mathjax.js")
        for name in ("one", "two", "index")
    ]
    assert [len(found) for found in scripts] == [1, 0, 0]


def test_a_page_links_to_pages_and_leaves_progress_and_widgets_out(two_pages):
    folder, _ = two_pages
    page, one, two = (elements(folder, name) for name in ("index", "one", "two"))
    assert page.all("a", href="one.html")[0]["text"] == "First <things>"
    targets = {link["href"] for link in one.all("a")}
    assert {"two.html", "https://arxiv.org/abs/2010.12648"} <= targets
    assert {target for target in targets if ".ipynb" in target} == {"files/one.ipynb"}
    assert "training: 100%" not in read(folder / "report/one.html")
    assert one.texts("a", **{"aria-current": "page"}) == ["First <things>"]
    # without a kernel the widget's own HTML stands in
    assert "without a kernel" in two.texts("p")
    assert "model_id" not in read(folder / "report/two.html")
    assert "value = 1 < 5" in one.texts("details", class_="code")[0]


def test_the_notebook_to_download_is_as_before_it_ran(two_pages):
    folder, _ = two_pages
    notebook = nbformat.read(folder / "report/files/one.ipynb", as_version=4)
    ran = nbformat.read(folder / "notebooks/one.ipynb", as_version=4)
    assert [cell.source for cell in notebook.cells] == [cell.source for cell in ran.cells]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
    assert "widgets" not in notebook.metadata


def test_the_command_under_a_figure_has_the_parameters_of_its_page(tmp_path, quick_assets):
    executed(tmp_path, "one", [bundle(a_figure())])
    path = tmp_path / "notebooks/one.ipynb"
    notebook = nbformat.read(path, as_version=4)
    cell = nbformat.v4.new_code_cell('profile = "auto"\nrates = [0.5]\nM = 10\nname = "a"')
    cell.metadata["tags"] = ["parameters"]
    notebook.cells.insert(1, cell)
    given = {"profile": "smoke", "rates": [0.5, 0.8], "M": 10, "name": "b c"}
    notebook.metadata["papermill"] = {"parameters": given}
    nbformat.write(notebook, path)
    build.build(tmp_path, "smoke", (ONE,), {}, NO_RUNS)
    (line,) = elements(tmp_path, "one").texts("span", class_="rebuild")
    words = shlex.split(line.removeprefix("Rebuild in the project folder: "))
    given = ["-p", "name=b c", "-p", "rates=[0.5, 0.8]"]
    assert words[3:] == ["--only", "one", *given, "--figure", "fig-1"]


def test_the_sidebar_has_the_pages_of_this_report_alone(two_pages):
    folder, _ = two_pages
    one = elements(folder, "one")
    there = {path.name for path in (folder / "report").glob("*.html")}
    linked = [link["href"] for link in one.all("a") if link["href"].endswith(".html")]
    assert set(linked) == there
    (menu,) = one.texts("nav", **{"aria-label": "Pages"})
    assert menu.index("Overview") < menu.index("A & B 2020") < menu.index("First <things>")
    assert menu.index("First <things>") < menu.index("C 2021") < menu.index("Second things")
    (turns,) = elements(folder, "two").texts("nav", class_="turns")
    assert turns.split("\n") == ["", "Previous: First <things>", "Next: Errata", ""]


def test_a_page_lists_its_headings_in_the_sidebar(tmp_path, quick_assets):
    executed(tmp_path, "one", text="# A title\n\n## How *far*\n\n### Deep\n\n## Why $x$")
    build.build(tmp_path, "smoke", (ONE,), {}, NO_RUNS)
    page = elements(tmp_path, "one")
    (listed,) = page.texts("ul", class_="contents")
    assert [line for line in listed.split("\n") if line] == ["How far", "Why $x$"]
    ids = {heading["id"] for heading in page.all("h2")}
    assert {f"#{name}" for name in ids} <= {link["href"] for link in page.all("a")}


SETTING = Setting("weight decay", "5e-4 <most likely>", "", ("weight_decay",), wanted={"": 5e-4})
NETWORKS = pd.DataFrame(
    {
        "run": ["r1", "r2", "r3"],
        "data": ["mnist-subset", "mnist-subset", "cifar10"],
        "train_size": [1000, 2000, 50000],
        "pool": [2, 2, 1],
        "model": "mlp",
        "widths": ["(128, 64)", "(128, 64)", "(9,)"],
        "epochs": [10, 20, 30],
        "weight_decay": [0.005, 0.005, 0.0],
        "seed": [0, 1, 0],
        "seconds": 1.0,
        "device": "cpu",
        "hardware": "a chip",
        "commit": "123",
        **dict.fromkeys(("lambda_W", "lambda_H", "lambda_b"), 0.0),
    }
)


def test_a_page_with_networks_has_its_sizes_beside_the_paper_s(tmp_path, quick_assets, monkeypatch):
    claim = Claim("C1", "A paper", "section 1", "it holds", "below 1")
    scale = [Scale("training images", "1,000", "60,000"), Scale("test error at a = 1", "0.105")]
    rows = [Verdict(claim, where, [CASES[claims.HOLDS]], scale=scale) for where in ("a", "b")]
    executed(tmp_path, "one", [bundle(show.Verdicts(rows))])
    executed(tmp_path, "two")
    (tmp_path / "notebooks/one.json").write_text(json.dumps({"runs": ["r1", "r2"]}))
    monkeypatch.setattr(papers, "settings", lambda paper: (SETTING,))
    one = papers.Entry("one", replace(ONE.paper, arxiv="1"), ONE.module, ONE.page)
    build.build(tmp_path, "smoke", (one, TWO), {}, NETWORKS)
    page = elements(tmp_path, "one")
    (box,) = page.all("div", class_="lsnc-scroll sizes")
    lines = [line for line in box["text"].split("\n") if line]
    unknown = sizes.NOT_KNOWN
    assert lines == [
        "A & B 2020here",
        f"image sets{unknown}MNIST subset",
        "training images60,0001,000 (1 network), 2,000 (1 network)",
        f"pixels{unknown}14 × 14",
        f"network{unknown}mlp 128–64",
        f"epochs{unknown}10 (1 network), 20 (1 network)",
        "weight decay5e-4 <most likely>0.005",
        f"seeds{unknown}2",
        f"test error at a = 1{unknown}0.105",
    ]
    # right under the title
    tags = [one["tag"] for one in page.listed]
    assert tags[tags.index("h1") + 1] == "div" and page.listed[tags.index("h1") + 1] == box
    assert not elements(tmp_path, "two").all("div", class_="lsnc-scroll sizes")


def test_sizes_tell_image_sets_and_the_decays_of_the_feature_model_apart(monkeypatch):
    monkeypatch.setattr(papers, "settings", lambda paper: ())
    runs = NETWORKS.assign(lambda_W=[0.001, 0.001, 0.0])
    page = pages.NotebookPage(ONE, "", "", [], [], ("r1", "r3"), "")
    here = {size.name: size.here for size in sizes.compare(page, runs)}
    assert here["weight decay"] == "MNIST subset: λ_W = 0.001, λ_H = 0, λ_b = 0; CIFAR-10: 0"
    assert here["pixels"] == "MNIST subset: 14 × 14; CIFAR-10: 32 × 32"
    assert here["image sets"] == "MNIST subset; CIFAR-10" and here["seeds"] == "1"
    assert sizes.compare(page, NO_RUNS) == []


def test_a_report_names_what_failed_and_which_page_is_of_an_earlier_run(tmp_path, quick_assets):
    executed(tmp_path, "one")
    failures = {
        "one": "cell 3 failed: ValueError: a < b & c (log: /x/one.log)",
        "two": "the kernel was killed.",
    }
    build.build(tmp_path, "smoke", (ONE, TWO), failures, NO_RUNS)
    page, one = elements(tmp_path, "index"), elements(tmp_path, "one")
    (section,) = page.all("section", class_="failures")
    assert section["role"] == "alert"
    for name, sentence in failures.items():
        assert f"{name}: {sentence}" in section["text"]
    (note,) = one.texts("p", class_="profile")
    assert "earlier run" in note and failures["one"] in note
    assert not (tmp_path / "report/two.html").exists()
    assert "one.html" in {link["href"] for link in page.all("a")}
    assert "two.html" not in {link["href"] for link in page.all("a")}


def test_a_report_without_failures_claims_or_changes_has_none_of_these(tmp_path, quick_assets):
    executed(tmp_path, "one")
    build.build(tmp_path, "quick", (ONE, TWO), {}, NO_RUNS)
    page, text = elements(tmp_path, "index"), read(tmp_path / "report/index.html")
    assert not page.all("section", class_="failures")
    assert not page.all("table", class_="forest")
    assert "Changed after" not in read(tmp_path / "report/claims.html")
    assert "No claims have been decided" in text and "Changed after" not in text
    assert "earlier run" not in read(tmp_path / "report/one.html")


def test_what_changed_after_the_first_results_comes_from_the_claims(tmp_path, quick_assets):
    change = "The grid was <finer>. No verdict changed."
    rows = [
        verdict(7, claims.HOLDS, changed=change),
        verdict(7, claims.FAILS, changed=change),  # the same claim, tried twice
        verdict(3, claims.FAILS, changed="The tolerance grew."),
        verdict(1, claims.FAILS),
    ]
    executed(tmp_path, "one", [bundle(show.Verdicts(rows))])
    build.build(tmp_path, "smoke", (ONE,), {}, NO_RUNS)
    page = elements(tmp_path, "claims")
    assert "Changed after the first results" in page.texts("h2")
    told = [text for text in page.texts("p") if text.startswith("Changed after")]
    assert told == [
        f"Changed after the first results: {one}" for one in ("The tolerance grew.", change)
    ]
    (listed,) = [text for text in page.texts("p") if text.startswith("After the first results")]
    assert listed.endswith("Each says how: C3, C7.")


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


def test_an_executed_notebook_with_verdicts_of_an_earlier_version_is_named(tmp_path, quick_assets):
    old = bundle(show.Verdicts([verdict(1, claims.HOLDS)]))
    old[show.VERDICTS_TYPE][0]["cases"] = [["a = 0.5", "0.1", "holds"]]
    executed(tmp_path, "one", [old])
    with pytest.raises(UsageError, match=r"one\.ipynb is .*from an earlier version .*start again"):
        build.build(tmp_path, "smoke", (ONE,), {}, NO_RUNS)


def test_a_report_that_cannot_be_written_is_a_sentence(tmp_path, quick_assets):
    executed(tmp_path, "one")
    (tmp_path / "report").write_text("a file in the way")
    with pytest.raises(UsageError, match=r"^cannot write .*--outputs\.$"):
        build.build(tmp_path, "smoke", (ONE,), {}, NO_RUNS)


# claims as data


@pytest.fixture
def answered(tmp_path, quick_assets):
    """A report of verdicts with awkward numbers, texts and no cases at all; the verdicts."""
    claim = Claim("C2", "A paper", "section 2", AWKWARD, "within 0.1", "It was finer.")
    many = [
        Case("a = 0.8", "argmin", 1 / 3, 0.1 + 0.2, math.inf, 0.2, unit="nats"),
        Case("a = 0.9", 'error, "relative"', undecided="2 seeds; an interval needs 4"),
        Case.exact("a = 0.9", "rank", 1e-300, at_most=0.0, deciding=False),
    ]
    first = [Verdict(claim, "digits", many), Verdict(claim, "mnist", decider="a GPU")]
    second = [verdict(1, claims.HOLDS)]
    executed(tmp_path, "one", [bundle(show.Verdicts(first))])
    executed(tmp_path, "two", [bundle(show.Verdicts(second))])
    build.build(tmp_path, "smoke", (ONE, TWO), {}, NO_RUNS)
    return tmp_path / "report/files", {"one": first, "two": second}


def test_the_claims_as_json_have_every_number_of_the_verdicts(answered):
    files, verdicts = answered

    def refuse(text):
        raise AssertionError(f"{text} is no JSON")

    data = json.loads(read(files / "claims.json"), parse_constant=refuse)
    assert list(data) == ["claims", "answers"]
    counted = [(claim["id"], claim["outcome"], claim["rule"]) for claim in data["claims"]]
    assert counted == [
        ("C1", claims.HOLDS, "1 answer: 1 holds"),
        ("C2", claims.UNDECIDED, "1 answer: 1 open"),
    ]
    kept = [(answer["claim"], answer["notebook"], answer["tried_on"]) for answer in data["answers"]]
    assert kept == [("C1", "two", "digits"), ("C2", "one", "digits"), ("C2", "one", "mnist")]
    for answer, given in zip(data["answers"], verdicts["two"] + verdicts["one"], strict=True):
        expected = given.to_dict()
        claim, notebook = answer.pop("claim"), answer.pop("notebook")
        assert answer == {name: expected[name] for name in answer}
        assert {*answer, "id"} == set(expected) and claim == expected["id"]
        assert notebook in ("one", "two")
        for written, case in zip(answer["cases"], given.cases, strict=True):
            for name in ("value", "low", "high", "at_least", "at_most"):
                number = getattr(case, name)
                assert written[name] == (number if math.isfinite(number) else None)


def test_the_claims_as_csv_have_a_row_per_case(answered):
    files, verdicts = answered
    rows = list(csv.DictReader(io.StringIO(read(files / "claims.csv"))))
    assert [(row["claim"], row["name"]) for row in rows] == [
        ("C1", ""),
        ("C2", "a = 0.8"),
        ("C2", "a = 0.9"),
        ("C2", "a = 0.9"),
        ("C2", ""),
    ]
    cases = [*verdicts["two"][0].cases, *verdicts["one"][0].cases]
    for row, case in zip(rows, cases, strict=False):
        assert (row["quantity"], row["text"]) == (case.quantity, case.text)
        assert row["outcome"] == case.outcome
        for name in ("value", "low", "high"):
            number = getattr(case, name)
            assert row[name] == (repr(float(number)) if math.isfinite(number) else "")
    empty = rows[-1]
    assert empty["verdict"] == claims.UNDECIDED and empty["tried_on"] == "mnist"
    assert not any(empty[name] for name in ("name", "quantity", "value", "low", "outcome", "text"))
    assert [row["notebook"] for row in rows] == ["two", *["one"] * 4]


# recordings


@pytest.fixture
def recorded(tmp_path, quick_assets, monkeypatch):
    """Notebook "one" with a figure and verdicts, recorded; then run again with other results and
    the recording at hand.
    """
    runs = pd.DataFrame(
        {"run": ["abc"], "device": ["cpu"], "hardware": ["a chip"], "commit": ["123"]}
    )

    def run_again(height, *rows):
        figure = a_figure(height, alt=AWKWARD)
        executed(tmp_path, "one", [bundle(figure), bundle(show.Verdicts(rows))])

    claim = Claim("C1", "A paper", "section 1", "it holds", "below 1")
    there = Verdict(claim, "full <MNIST>", [CASES[claims.FAILS]])
    twice = verdict(2, claims.HOLDS, remark="here and there")
    third = Claim("C3", "A paper", "section 1", "it holds", "below 1")
    nothing = Verdict(third, "digits", decider="a GPU")
    run_again(2.0, verdict(1, claims.FAILS), there, twice, nothing)
    record.write(tmp_path / "kept" / "far", tmp_path, "gpu", ["a=1"], ["one"], runs)
    run_again(1.0, verdict(1, claims.HOLDS), twice, nothing)
    executed(tmp_path, "two")
    monkeypatch.setattr(record, "FOLDER", tmp_path / "kept")
    return tmp_path


def test_recorded_verdicts_stand_beside_those_of_this_machine(recorded):
    build.build(recorded, "gpu", (ONE, TWO), {}, NO_RUNS)
    listed = elements(recorded, "claims")
    here = record.recordings(recorded / "kept")[0].where
    assert here.startswith("recorded on ") and here.endswith("profile gpu with a=1")
    assert claims_listed(recorded) == ["C1", "C2", "C3"]
    answers = [" ".join(text.split()) for text in listed.texts("section", class_="answer")]
    assert answers[0].startswith("digits ✓ holds Error 0.1")
    assert answers[1].startswith(f"digits ✗ does not hold R{here[1:]}; it does not count. Error 2.")
    assert answers[2].startswith("full <MNIST> ✗ does not hold R")
    assert answers[3].startswith(f"digits ✓ holds The same numbers were {here}.")
    # without cases nothing was measured, here or there
    assert answers[4].startswith("digits ? not decidable here Nothing was measured")
    assert len(answers) == 5
    # what was recorded is not counted, and not among the data
    index = elements(recorded, "index")
    assert papers_counted(index) == ["A paper ✓ 2 hold ? 1 is not decidable here"]
    data = json.loads(read(recorded / "report/files/claims.json"))
    assert [answer["claim"] for answer in data["answers"]] == ["C1", "C2", "C3"]


def test_a_page_shows_its_recording_with_files_of_the_report(recorded):
    build.build(recorded, "gpu", (ONE, TWO), {}, NO_RUNS)
    one, two = elements(recorded, "one"), elements(recorded, "two")
    here = record.recordings(recorded / "kept")[0].where
    (part,) = one.texts("details", class_="recorded")
    assert here[1:] in part and not two.all("details", class_="recorded")
    sources = [image["src"] for image in one.all("img")]
    assert sources == ["files/fig-1.svg", "files/recorded/far/fig-1.svg"]
    assert [figure["id"] for figure in one.all("figure")] == ["fig-1", "far-fig-1"]
    for link in one.all("a"):
        assert "download" not in link or (recorded / "report" / link["href"]).exists()
    kept, made = (recorded / "report" / source for source in reversed(sources))
    assert read(kept) == show.svg_text(picture(2.0)) != read(made)
    runs = pd.read_csv(recorded / "report/files/recorded/far/runs.csv")
    assert runs.run.tolist() == ["abc"]
    # the tables stay in the project
    assert "outputs/recorded/far" in part and not (kept.with_suffix(".csv")).exists()


def test_a_new_recording_leaves_nothing_of_the_old_and_no_folder_of_a_user(recorded):
    runs = pd.DataFrame(
        {
            "run": ["abc"],
            "data": ["/home/me/my files/own.py"],
            "device": ["cpu"],
            "hardware": ["a chip"],
            "commit": ["123"],
        }
    )
    (recorded / "kept/far/old.csv").write_text("")
    given = ["data_set=/home/me/own.py", 'noise=["pair", "~/x/other.py"]']
    record.write(recorded / "kept/far", recorded, "gpu", given, ["one"], runs)
    (made,) = record.recordings(recorded / "kept")
    assert made.parameters == ("data_set=own.py", 'noise=["pair", "other.py"]')
    assert not (made.folder / "old.csv").exists()
    assert made.where.startswith("recorded on a chip, ")
    assert "networks trained at commit 123, recorded at" in made.versions
    assert pd.read_csv(made.folder / "runs.csv").data.tolist() == ["own.py"]
    record.write(recorded / "kept/far", recorded, "gpu", [], ["two"], NO_RUNS)
    assert [path.name for path in made.folder.iterdir()] == ["recording.json"]


def test_a_recordings_name_must_do_in_addresses(recorded):
    (recorded / "kept/far").rename(recorded / "kept/so far")
    with pytest.raises(UsageError, match=r"letters, digits, '\.', '_' and '-', got 'so far'\.$"):
        build.build(recorded, "gpu", (ONE,), {}, NO_RUNS)


def outdated(content):
    """Cases as texts, as the first versions wrote them."""
    content["notebooks"]["one"]["verdicts"][0]["cases"] = [["a = 0.5", "0.1", "holds"]]
    return content


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: "",
        lambda content: [],
        lambda content: {},
        lambda content: {"profile": "gpu"},
        lambda content: content | {"provenance": {}},
        outdated,
    ],
    ids=["empty", "a list", "nothing", "one field", "no provenance", "outdated"],
)
def test_a_damaged_or_outdated_recording_is_named(recorded, damage):
    path = recorded / "kept/far/recording.json"
    content = damage(json.loads(path.read_text()))
    path.write_text(json.dumps(content) if content != "" else "")
    sentence = r"^the recording .*recording\.json is damaged or from an earlier version .*delete it"
    with pytest.raises(UsageError, match=sentence) as caught:
        build.build(recorded, "smoke", (ONE,), {}, NO_RUNS)
    assert "\n" not in str(caught.value)


def test_a_recording_that_lacks_a_file_is_named(recorded):
    (recorded / "kept/far/fig-1.svg").unlink()
    with pytest.raises(UsageError, match=r"lacks fig-1\.svg: restore it from git or delete it\.$"):
        build.build(recorded, "smoke", (ONE,), {}, NO_RUNS)
