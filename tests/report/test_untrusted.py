"""Files from elsewhere: nothing in them runs, neither in Python nor as script in a reader's
browser.
"""

import base64
import hashlib
import io
import json
import os
import pickle
import shutil
import tarfile

import nbformat
import numpy as np
import pandas as pd
import pytest
from helpers import a_spec, one_sentence

from lsnc_core import data_readers, label_files, papers, runs
from lsnc_core.data_sources import SOURCES
from lsnc_core.errors import UsageError
from lsnc_core.report import build, executed, record, untrusted
from lsnc_core.show import EXPLORER_TYPE, FIGURE_TYPE, VERDICTS_TYPE, svg_text

PWN = "window.pwned=true"
DRAWING = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">{}</svg>'

# ------------------------------------------------------------------------------------------ Python


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def marker(tmp_path):
    """Where a bomb would make a folder; it must not."""
    yield tmp_path / "marker"
    assert not (tmp_path / "marker").exists()


def test_the_bomb_goes_off_where_a_file_is_unpickled(tmp_path):
    """Or the tests below would show nothing."""
    pickle.loads(pickle.dumps(Bomb(tmp_path / "marker")))
    assert (tmp_path / "marker").is_dir()


def bombs(folder, marker):
    """Label files that hold one, by kind."""
    import torch

    content = pickle.dumps(Bomb(marker))
    hidden = np.array([Bomb(marker)], dtype=object)
    np.save(folder / "array.npy", hidden, allow_pickle=True)
    np.savez(folder / "archive.npz", labels=hidden)
    torch.save({"labels": Bomb(marker)}, folder / "mapping.pt")
    torch.save(Bomb(marker), folder / "old.pt", _use_new_zipfile_serialization=False)
    for ending in ("npy", "npz", "pt", "pth"):
        (folder / f"plain.{ending}").write_bytes(content)
    return sorted(path for path in folder.iterdir() if path != marker)


def test_labels(tmp_path, marker):
    paths = bombs(tmp_path, marker)
    assert len(paths) == 8
    for path in paths:
        with pytest.raises(UsageError) as raised:
            label_files.read(str(path))
        assert one_sentence(raised.value) and str(path) in str(raised.value)


@pytest.mark.parametrize("kind", ["bomb", "tensors", "parts", "rubbish"])
def test_a_checkpoint_whose_checksum_fits(shelf, marker, capsys, kind):
    """Who writes a file can write its checksum, too: the networks are trained from the start."""
    import torch

    foreign = {
        "bomb": {"state": Bomb(marker)},
        "tensors": [torch.zeros(3)],
        "parts": {"epoch": 3, "state": [1, 2]},
    }
    spec, buffer = a_spec(), io.BytesIO(b"rubbish")
    if kind != "rubbish":
        torch.save(foreign[kind], buffer)
    body, path = buffer.getvalue(), shelf.unfinished([spec], "cpu")
    path.parent.mkdir(parents=True)
    path.write_bytes(hashlib.sha256(body).digest() + body)
    table = runs.results([spec], "cpu", shelf)
    notice = f"the checkpoint {path.name} holds something else, of which nothing is used or run: "
    assert f"{notice}its networks are trained from the start\n" in capsys.readouterr().err
    assert list(table.epoch) == [1, 3] and not path.exists()


def test_a_stored_run(shelf, marker, capfd):
    """Parquet has no pickles of its own; what its metadata holds is not unpickled either."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    shelf.folder.mkdir()
    content, spec = pickle.dumps(Bomb(marker)), a_spec()
    table = pa.table({"epoch": [content], "loss": [content]})
    index = json.dumps({"index_columns": [], "columns": [], "creator": {"pickle": True}})
    for name in (b"pandas", b"lsnc", b"ARROW:extension:metadata", b"ARROW:extension:name"):
        for value in (content, index.encode()):
            pq.write_table(table.replace_schema_metadata({name: value}), shelf.path(spec))
            assert [state for _, state, _ in shelf.entries()] == ["damaged"]
            assert shelf.get(spec) is None  # and it is set aside
    capfd.readouterr()


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_images_are_pickles_and_read_only_with_the_original_checksum(tmp_path, marker, name):
    source, content = SOURCES[name], pickle.dumps(Bomb(marker))
    import torchvision.datasets

    dataset = getattr(torchvision.datasets, data_readers.TORCHVISION[name])
    folder = tmp_path / "data" / dataset.base_folder
    folder.mkdir(parents=True)
    names = [one for one, _ in dataset.train_list + dataset.test_list]
    for file in [*names, dataset.meta["filename"]]:
        (folder / file).write_bytes(content)
    with pytest.raises(UsageError, match="md5 is not that of the original") as raised:
        data_readers.read_torchvision(source, tmp_path / "data", offline=True)
    assert one_sentence(raised.value)
    # and packed
    with tarfile.open(tmp_path / "data" / dataset.filename, "w:gz") as archive:
        archive.add(folder, dataset.base_folder)
    shutil.rmtree(folder)
    with pytest.raises(UsageError, match="md5") as raised:
        data_readers.read_torchvision(source, tmp_path / "data", offline=True)
    assert one_sentence(raised.value)


# ----------------------------------------------------------------------------------------- browser


def figure(**changes):
    """What a figure carries, with changes."""
    texts = {"title": "t", "paper": "p.", "ours": "o.", "alt": "a", "numbers": [["a"], ["1"]]}
    return {"name": "a-figure", "svg": DRAWING.format(""), "csv": "a\n1\n", **texts, **changes}


PICTURES = {
    "script": f"<script>{PWN}</script>",
    "script of another prefix": f'<s:script xmlns:s="http://www.w3.org/2000/svg">{PWN}</s:script>',
    "HTML inside": f'<h:script xmlns:h="http://www.w3.org/1999/xhtml">{PWN}</h:script>',
    "foreignObject": f'<foreignObject><body onload="{PWN}"/></foreignObject>',
    "handler": f'<rect onmouseover="{PWN}"/>',
    "handler in capitals": f'<g ONLOAD="{PWN}"/>',
    "animated": '<set attributeName="href" to="javascript:alert(1)"/>',
    "link": f'<a href="javascript:{PWN}"><text>x</text></a>',
    "address": '<image href="https://example.org/x.png"/>',
    "address of XLink": '<use x:href="x.svg#a" x:x="" xmlns:x="http://www.w3.org/1999/xlink"/>',
    "picture in a picture": '<image href="data:image/svg+xml;base64,PHN2Zy8+"/>',
    "style that loads": "<style>@import 'https://example.org/x.css';</style>",
    "style with an address": '<rect style="fill: url(https://example.org/x)"/>',
    "style in escapes": '<rect style="fill: u\\72l(https://example.org/x)"/>',
    "not closed": "<g>",
    "entity": "&pwned;",
}


@pytest.mark.parametrize("inside", PICTURES.values(), ids=PICTURES)
def test_a_picture_that_is_more_than_a_drawing_is_refused(inside):
    with pytest.raises(UsageError, match="'a-figure'"):
        untrusted.check_figure(figure(svg=DRAWING.format(inside)))


@pytest.mark.parametrize(
    "head",
    [
        '<?xml version="1.0" encoding="utf-7"?>',
        '<?xml-stylesheet href="https://example.org/x.xsl" type="text/xsl"?>',
        "<!DOCTYPE svg [<!ENTITY pwned '<script/>'>]>",
        "\ufeff\x00",
    ],
)
def test_what_stands_before_a_picture_is_checked_too(head):
    with pytest.raises(UsageError):
        untrusted.check_svg(head + DRAWING.format(""), "a-figure")


def test_what_matplotlib_draws_is_a_drawing():
    from matplotlib import pyplot as plt

    drawing, (left, right) = plt.subplots(1, 2)
    left.errorbar([1, 2], [1, 2], [0.1, 0.2], label=r"$\delta$ <&> ü")
    left.legend()
    right.imshow(np.eye(3))
    right.bar([1], [2], hatch="//")
    plt.close(drawing)
    untrusted.check_svg(svg_text(drawing), "x")
    for path in sorted(record.FOLDER.rglob("*.svg")):
        untrusted.check_svg(path.read_text(encoding="utf-8"), path.stem)


FIGURES = {
    "a name that leaves the folder": {"name": "../../x"},
    "a name that ends the attribute": {"name": f'x" onclick="{PWN}'},
    "no name": {"name": None},
    "a name of an option": {"name": "--x"},
    "numbers that are none": {"numbers": [[1]]},
    "numbers as text": {"numbers": ["ab"]},
    "a picture of bytes": {"svg": 5},
    "no caption": {"ours": {}},
}


@pytest.mark.parametrize("changes", FIGURES.values(), ids=FIGURES)
def test_a_figure_that_is_none_is_one_sentence(tmp_path, changes):
    path = write(tmp_path / "x.ipynb", [{FIGURE_TYPE: figure(**changes)}])
    with pytest.raises(UsageError, match=r"x\.ipynb is not shown: .*; delete it") as raised:
        executed.read(path)
    assert one_sentence(raised.value)


HOSTILE_HTML = [
    f"<script>{PWN}</script>",
    f"<img src=x onerror='{PWN}'>",
    f'<svg onload="{PWN}"><script>{PWN}</script></svg>',
    f"<iframe srcdoc='<script>parent.{PWN}</script>'></iframe>",
    f'<a href="javascript:{PWN}" id="link">link</a>',
    f'<a href="jav&#x09;ascript:{PWN}">link</a>',
    f"<details open ontoggle='{PWN}'><summary>s</summary></details>",
    f'<form action="javascript:{PWN}"><button>go</button></form>',
    f"<math><mtext></form><form><mglyph><style></math><img src onerror={PWN}>",
    f'<a href="x.ipynb" title="><img src=x onerror={PWN}>">x</a>',
    f'<h2 id="h"><a title="><img src=x onerror={PWN}>">heading</a></h2>',
    f'<table class="dataframe"><style scoped>a</style><thead><tr><th onmouseover="{PWN}">'
    f"<script>{PWN}</script></th></tr></thead></table>",
    f'<div class="lsnc-frames" data-labels="[]"><input type="range" oninput="{PWN}" autofocus '
    f'onfocus="{PWN}"></div>',
    '<base href="https://example.org/"><meta http-equiv="refresh" content="0;https://example.org">',
    '<link rel="stylesheet" href="https://example.org/x.css">',
    '<div style="position:fixed;inset:0;background:url(https://example.org/x)">over all</div>',
    f"<!--><img src=x onerror={PWN}>-->",
    f"<noscript><p title='</noscript><img src=x onerror={PWN}>'>",
]


def explorer(**changes):
    """What an explorer carries, with changes."""
    spec = {"mark": "point", "data": {"values": [{"a": 1}]}}
    return {"name": "x", "title": "t", "text": "t.", "alt": "a", "spec": spec, **changes}


EXPLORERS = {
    "a name that ends the attribute": {"name": f'x" onclick="{PWN}'},
    "no text": {"alt": None},
    "no chart": {"spec": "x"},
    "data from elsewhere": {"spec": {"layer": [{"data": {"url": "https://example.org/x"}}]}},
    "links": {"spec": {"mark": {"type": "point", "href": f"javascript:{PWN}"}}},
    "settings of how it is embedded": {"spec": {"usermeta": {"embedOptions": {"loader": {}}}}},
}


@pytest.mark.parametrize("changes", EXPLORERS.values(), ids=EXPLORERS)
def test_an_explorer_that_is_none_is_one_sentence(tmp_path, changes):
    path = write(tmp_path / "x.ipynb", [{EXPLORER_TYPE: explorer(**changes)}])
    with pytest.raises(UsageError, match=r"x\.ipynb is not shown: .*; delete it") as raised:
        executed.read(path)
    assert one_sentence(raised.value)


def write(path, bundles, markdown=()):
    """An executed notebook that shows these."""
    cells = [nbformat.v4.new_markdown_cell(text) for text in ("# A page", *markdown)]
    for bundle in bundles:
        output = nbformat.v4.new_output("display_data", data=bundle)
        cells.append(nbformat.v4.new_code_cell("1", outputs=[output], execution_count=1))
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def hostile():
    """Bundles of every type that a page could show."""
    script = f"<script>{PWN}</script>"
    words = dict.fromkeys(("title", "paper", "ours", "alt"), f'"><img src=x onerror={PWN}>')
    # both would end or lengthen the script element that holds a chart as JSON
    title = f"</script><script>{PWN}</script><!--<script>"
    charted = {"title": title, "spec": explorer()["spec"] | {"title": title}}
    charted["spec"]["transform"] = [{"calculate": "window.pwned = true", "as": "b"}]
    bundles = [{"text/html": text, "text/plain": ""} for text in HOSTILE_HTML]
    bundles += [{kind: PWN} for kind in ("application/javascript", "text/javascript")]
    bundles += [
        {FIGURE_TYPE: figure(**words), "text/html": script},
        {EXPLORER_TYPE: explorer(**charted), "text/html": script},
        {VERDICTS_TYPE: [], "text/html": script},
        {"text/markdown": f"{script} [x](javascript:{PWN}) ![x](https://example.org/x.png)"},
        {"text/latex": f"{script} $\\href{{javascript:{PWN}}}{{x}}$"},
        {"text/plain": f"{script} $\\href{{javascript:{PWN}}}{{y}}$ \\(\\require{{html}}\\)"},
        {"image/svg+xml": DRAWING.format(script), "text/plain": ""},
        {"image/png": f'AAAA" onerror="{PWN}', "text/plain": "no pixels"},
        {"image/png": base64.b64encode(b"x").decode(), "text/plain": f'" onerror="{PWN}'},
        {"application/vnd.jupyter.widget-view+json": {"model_id": f'"/>{script}'}},
        {"application/vnd.vegalite.v5+json": {"data": {"url": "https://example.org/x"}}},
        {"application/pdf": "JVBERi0=", "application/json": {"a": script}},
    ]
    return bundles


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory):
    """A report with one page, out of an executed notebook from elsewhere."""
    folder, entry = tmp_path_factory.mktemp("hostile"), papers.entries()[0]
    markdown = (*HOSTILE_HTML, f"[x](javascript:{PWN}) $\\href{{javascript:{PWN}}}{{z}}$ $a<b$")
    write(folder / "notebooks" / f"{entry.name}.ipynb", hostile(), markdown)
    (folder / "notebooks" / f"{entry.name}.json").write_text('{"runs": [{"a": 1}]}')
    failures = {entry.name: f"cell 2 failed: <script>{PWN}</script>"}
    build.build(folder, "smoke", [entry], failures, pd.DataFrame())
    return folder / "report" / f"{entry.name}.html"


def test_a_page_has_no_script_of_a_notebook(hostile_page):
    from elements import Elements

    page = Elements(hostile_page.read_text(encoding="utf-8"))
    for element in page.listed:
        handlers = {name for name in element if name.startswith("on")}
        assert not handlers, element
        for name in ("href", "src"):
            address = (element.get(name) or "").replace("\t", "").strip().lower()
            assert not address.startswith(("javascript:", "http://example", "https://example"))
    scripts = [element for element in page.all("script") if PWN in element["text"]]
    # the chart, as data that no browser runs
    assert [element["type"] for element in scripts] == ["application/json"]
    assert json.loads(scripts[0]["text"])["title"].startswith("</script>")
    assert not {"iframe", "form", "base", "object", "embed", "style"} & {
        element["tag"] for element in page.listed
    }
    # only the figure's picture and the one of pixels
    sources = [element["src"][:20] for element in page.all("img")]
    assert sources == ["files/a-figure.svg", "data:image/png;base6"]


def test_nothing_of_a_notebook_runs_in_a_browser(hostile_page):
    sync_api = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if program is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page, asked = browser.new_page(), []
        page.set_default_timeout(90_000)
        page.on("request", lambda request: asked.append(request.url))
        # the control: in a page without protection it does run
        page.set_content(f"<svg onload='{PWN}'></svg>")
        assert page.evaluate("window.pwned") is True
        for address in (hostile_page, hostile_page.with_name("index.html")):
            page.goto(address.as_uri())
            page.evaluate("() => window.MathJax?.startup.promise")
            page.evaluate(
                "() => { for (const link of document.querySelectorAll('main a, main summary')) "
                "if (!/\\.html|files\\//.test(link.getAttribute('href') || '')) link.click();"
                "for (const one of document.querySelectorAll('main *')) "
                "for (const kind of ['mouseover', 'focus', 'input', 'toggle', 'load', 'error']) "
                "one.dispatchEvent(new Event(kind)); }"
            )
            page.wait_for_timeout(300)
            assert page.evaluate("window.pwned") is None
            assert page.url.startswith("file:")
        # the file behind the picture, opened by itself
        page.goto(hostile_page.with_name("files").joinpath("a-figure.svg").as_uri())
        assert page.evaluate("window.pwned") is None
        browser.close()
    assert not [url for url in asked if not url.startswith(("file:", "data:", "about:"))]


def test_what_only_looks_like_what_is_kept_is_not_put_back():
    own = untrusted.Own()
    place = own.keep("<script>ours</script>")
    forged = '<div id="0123-0"></div>'
    assert own.put_back(untrusted.clean(f"{forged}<div>{place}</div>")) == (
        f"{forged}<div><script>ours</script></div>"
    )


def a_recording(folder, **changes):
    """A recording of one figure and no verdicts, with changes."""
    content = {"profile": "smoke", "parameters": [], "made": "2026-01-01"}
    content["trained"] = {"hardware": [], "commits": []}
    content["provenance"] = {}
    folder.mkdir(parents=True)
    texts = {key: value for key, value in figure(**changes).items() if key not in ("svg", "csv")}
    content["notebooks"] = {papers.entries()[0].name: {"figures": [texts], "verdicts": []}}
    (folder / "recording.json").write_text(json.dumps(content))
    (folder / "a-figure.svg").write_text(changes.get("svg", DRAWING.format("")))
    (folder / "a-figure.csv").write_text("a\n1\n")
    return folder


@pytest.mark.parametrize("name", ["../a", "/etc/x", f'x" onclick="{PWN}', "a\nb", ""])
def test_a_recording_whose_figure_has_no_name_of_a_file(tmp_path, name):
    a_recording(tmp_path / "kept", name=name)
    with pytest.raises(UsageError) as raised:
        record.recordings(tmp_path)
    assert one_sentence(raised.value)


@pytest.mark.parametrize("content", [DRAWING.format(f"<script>{PWN}</script>"), "", b"\xff\xfe"])
def test_a_recorded_picture_is_checked_before_the_report_takes_it(tmp_path, content):
    path = tmp_path / "kept" / "a-figure.svg"
    path.parent.mkdir()
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match="is not shown") as raised:
        record._copy(path, tmp_path / "report")
    assert one_sentence(raised.value) and not (tmp_path / "report").exists()
