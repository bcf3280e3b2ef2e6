"""The report and the live widgets in a real browser, without a network.

The tests assert facts of the page (requests, errors, texts, sizes, visibility), never pixels.
"""

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from conftest import ROOT, report_environment

from lsnc_core import papers
from lsnc_core.report import site

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = [
    pytest.mark.skipif(
        CHROMIUM is None, reason="chromium is not installed: apt-get install chromium"
    ),
    pytest.mark.filterwarnings("default::DeprecationWarning", "default::ResourceWarning"),
]
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NOTEBOOKS = [f"{entry.name}.html" for entry in papers.entries()]
PAGES = [*site.FIRST, *NOTEBOOKS, *site.LAST]
# A page of each kind, for checks that take seconds; all pages share their templates.
KINDS = ["index.html", "claims.html", "figures.html", "trust.html", "errata.html"]
KINDS += ["chen_2_landscape.html", "guo_1_dynamics.html"]
# axe-core's axe.min.js, which finds what hinders people with disabilities (MPL-2.0, from npm)
AXE = os.environ.get("LSNC_AXE", "")
needs_axe = pytest.mark.skipif(
    not Path(AXE).is_file(),
    reason="LSNC_AXE is not the path of axe-core's axe.min.js (npm pack axe-core)",
)
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser(jupyter):  # JupyterLab starts while the pages are tested
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


class Watched:
    """A page without a network; records refused requests and errors."""

    def __init__(self, context, allowed=("file:", "data:", "blob:")):
        self.refused, self.errors = [], []
        self.page = context.new_page()
        self.page.set_default_timeout(90_000)  # the machine may be busy
        self.page.route("**/*", lambda route: self._let(route, allowed))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "console",
            lambda message: self.errors.append(message.text) if message.type == "error" else None,
        )

    def _let(self, route, allowed):
        if route.request.url.startswith(allowed):
            route.continue_()
        else:
            self.refused.append(route.request.url)
            route.abort()


@pytest.fixture(scope="module")
def pages(browser, report_smoke):
    """Every page of the report, open and typeset."""
    assert report_smoke.code == 0, report_smoke.stdout + report_smoke.stderr
    context = browser.new_context(viewport=WIDE)
    opened = {}
    for name in PAGES:
        opened[name] = Watched(context)
        opened[name].page.goto((report_smoke.folder / "report" / name).as_uri())
        opened[name].page.evaluate("() => window.MathJax?.startup.promise")
    yield opened
    context.close()


@pytest.fixture(params=PAGES)
def watched(request, pages):
    pages[request.param].page.set_viewport_size(WIDE)
    return pages[request.param]


@pytest.fixture
def unfolded(watched):
    """A page with all its folds open, wide; afterwards as before."""
    page = watched.page
    page.evaluate(
        "() => { window.folds = [...document.querySelectorAll('details:not([open])')];"
        " window.folds.forEach(one => { one.open = true; }); }"
    )
    yield page
    page.emulate_media(color_scheme="light", media="screen")
    page.evaluate("() => window.folds.forEach(one => { one.open = false; })")


# --------------------------------------------------------------------------------------- every page


def test_a_page_asks_for_nothing_from_the_network_and_has_no_errors(watched):
    assert (watched.refused, watched.errors) == ([], [])


def test_formulas_are_typeset(watched):
    page = watched.page
    text = page.evaluate("() => document.body.innerText")
    assert "$" not in text and "\\log" not in text and "\\ell" not in text
    assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
    if page.url.endswith("chen_1_theory.html"):
        assert page.locator("mjx-container").count() > 20


def test_no_markup_stands_in_the_text(watched):
    # what pages do not trust is shown as text, and nothing of ours may be among it
    text = watched.page.evaluate("() => document.querySelector('main, body').innerText")
    assert not re.search(r"</?(style|script|div|span|svg|figure)\b", text)


def test_every_picture_loads_and_has_a_text_alternative(watched):
    pictures = watched.page.evaluate(
        """() => Promise.all([...document.images].map(async image => {
            image.loading = 'eager';  // a lazy one outside the window would never come
            await image.decode().catch(() => {});
            const source = image.src.slice(0, 80);
            return {alt: image.alt.trim(), width: image.naturalWidth, source};
        }))"""
    )
    assert not [one for one in pictures if not one["alt"] or one["width"] == 0]
    name = watched.page.url.rsplit("/", 1)[1]
    # the explorer draws on canvases
    assert pictures or name not in set(NOTEBOOKS) - {"start_here.html", "explorer.html"}


def test_headings_are_in_order_and_ids_are_unique(watched):
    levels = watched.page.evaluate(
        "() => [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].map(one => +one.tagName[1])"
    )
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(then <= before + 1 for before, then in itertools.pairwise(levels))
    ids = watched.page.evaluate(
        "() => [...document.querySelectorAll('[id]')]"
        ".filter(one => !one.closest('svg')).map(one => one.id)"
    )
    assert sorted(set(ids)) == sorted(ids)
    assert (
        watched.page.evaluate("() => document.documentElement.lang") == "en"
        and watched.page.title()
    )


def test_links_lead_somewhere(watched, report_smoke, pages):
    links = watched.page.evaluate(
        # hidden ones repeat the link beside them for the mouse
        "() => [...document.querySelectorAll('a[href]:not([aria-hidden])')]"
        # a picture's text alternative names its link
        ".map(link => [link.href, link.textContent.trim() || link.querySelector('img')?.alt])"
    )
    assert len(links) > len(pages)
    for address, text in links:
        parts = urlsplit(address)
        assert text and parts.scheme in ("file", "https"), address
        if parts.scheme == "file":
            target = Path(unquote(parts.path))
            assert target.is_file() and target.is_relative_to(report_smoke.folder / "report"), (
                address
            )
            page = pages[target.name].page if parts.fragment else None
            for name, value in parse_qsl(parts.fragment):  # filters of the page of claims
                offered = f"[...document.querySelector('#claim-filters [name={name}]').options]"
                assert value in page.evaluate(f"() => {offered}.map(one => one.value)"), address
            if parts.fragment and "=" not in parts.fragment:
                there = "anchor => document.getElementById(anchor) !== null"
                assert page.evaluate(there, unquote(parts.fragment)), address


def test_the_sidebar_has_every_page_in_order_and_marks_the_current_one(watched, pages):
    name = watched.page.url.rsplit("/", 1)[1]
    links = watched.page.evaluate(
        "() => [...document.querySelectorAll('nav[aria-label=Pages] a')]"
        ".filter(a => !a.closest('.contents')).map(a => [a.getAttribute('href'), a.ariaCurrent])"
    )
    assert [address for address, _ in links] == [one for one in PAGES if one in pages]
    assert [address for address, current in links if current == "page"] == [name]


def test_the_sidebar_lists_the_headings_of_the_page(watched):
    anchors, headings = watched.page.evaluate(
        "() => [[...document.querySelectorAll('.contents a')].map(a => a.hash.slice(1)),"
        " [...document.querySelectorAll('main h2[id]')].map(one => one.id)]"
    )
    assert anchors == headings
    if "chen_2" in watched.page.url:
        assert len(anchors) > 3


def test_the_sidebar_is_a_menu_on_a_narrow_screen(watched):
    link, menu = watched.page.locator("nav[aria-label=Pages] a").last, watched.page.locator(".menu")
    summary = menu.locator("summary")
    assert link.is_visible() and not summary.is_visible()
    watched.page.set_viewport_size(NARROW)
    watched.page.wait_for_function("() => !document.querySelector('.menu').open")
    assert not link.is_visible() and summary.is_visible()
    summary.press("Enter")
    assert link.is_visible()
    watched.page.set_viewport_size(WIDE)
    watched.page.wait_for_function("() => document.querySelector('.menu').open")
    assert not summary.is_visible()


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_no_page_is_wider_than_its_window(watched, size):
    watched.page.set_viewport_size(size)
    root = watched.page.evaluate(
        "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert root[0] <= root[1]


def test_the_front_page_is_short(pages):
    page = pages["index.html"].page
    page.set_viewport_size(WIDE)
    assert page.evaluate("() => document.documentElement.scrollHeight") <= 6000


SCROLLING = """() => [...document.querySelectorAll('*')].filter(one =>
    ['auto', 'scroll'].includes(getComputedStyle(one).overflowX)
    && one.scrollWidth > one.clientWidth && one.checkVisibility()
).map(one => [one.outerHTML.slice(0, 120), one.tabIndex, one.ariaLabel, one.tagName])"""


def test_the_keyboard_reaches_what_scrolls_sideways(watched):
    watched.page.set_viewport_size(NARROW)
    found = watched.page.evaluate(SCROLLING)
    named = [one for one in found if one[3] != "MJX-CONTAINER"]
    assert not [one for one in found if one[1] < 0] and all(one[2] for one in named)
    if "guo_1" in watched.page.url:
        assert named


def test_the_decided_claims_have_room_for_their_texts_on_a_phone(pages):
    page = pages["index.html"].page
    page.set_viewport_size(NARROW)
    cells = page.evaluate(
        "() => [...document.querySelectorAll('.decided :is(th, td)')]"
        ".filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.innerText)"
    )
    assert cells == []


@pytest.mark.parametrize("name", ["index.html", "figures.html"])
def test_pictures_that_come_late_have_their_room(pages, name):
    shapes = pages[name].page.evaluate(
        """() => Promise.all([...document.querySelectorAll('.thumb img, .thumbnail img')].map(
            async one => {
                one.loading = 'eager';
                await one.decode();
                const said = one.getAttribute('width') / one.getAttribute('height');
                return [said, one.naturalWidth / one.naturalHeight];
            }))"""
    )
    assert shapes and all(said == pytest.approx(shape, rel=0.02) for said, shape in shapes)


WIDE_TABLES = ["guo_4_minimisers.html", "measure_your_model.html", "start_here.html", "trust.html"]


@pytest.mark.parametrize("watched", WIDE_TABLES, indirect=True)
def test_a_table_is_marked_as_wide_only_where_it_does_not_fit(watched):
    watched.page.bring_to_front()  # pages behind others draw once a second
    for size in (NARROW, WIDE, NARROW):  # a mark from before does not stay
        watched.page.set_viewport_size(size)
        watched.page.evaluate("() => new Promise(requestAnimationFrame)")
        wrong = watched.page.evaluate(
            """() => [...document.querySelectorAll('.lsnc-scroll')].filter(box => {
                const marked = box.classList.contains('wide');
                box.classList.remove('wide');
                const over = box.scrollWidth > box.clientWidth + 1;
                box.classList.toggle('wide', marked);
                return marked !== over;
            }).map(box => box.outerHTML.slice(0, 200))"""
        )
        assert wrong == []


@needs_axe
@pytest.mark.parametrize("watched", KINDS, indirect=True)
def test_axe_finds_nothing_serious(unfolded):
    unfolded.set_viewport_size(NARROW)
    unfolded.add_script_tag(path=AXE)
    # in the dark only colours are others
    for scheme, rules in (("light", None), ("dark", ["color-contrast", "link-in-text-block"])):
        unfolded.emulate_media(color_scheme=scheme)
        found = unfolded.evaluate(
            """async rules => {
                const options = {resultTypes: ['violations'], ...(rules && {runOnly: rules})};
                const found = await axe.run(document, options);
                return found.violations.map(
                    one => [one.impact, one.id, one.nodes.slice(0, 3).map(node => node.html)]);
            }""",
            rules,
        )
        assert not [one for one in found if one[0] in ("serious", "critical")], scheme


def test_a_printed_page_has_all_its_text_and_no_navigation(watched):
    page = watched.page
    page.set_viewport_size({"width": 720, "height": 1000})  # A4 within its margins
    page.emulate_media(media="print")
    try:
        assert not page.locator("header").is_visible() and not page.locator(".skip").is_visible()
        hidden, cut = page.evaluate(
            """() => [
                [...document.querySelectorAll('main details > :not(summary)')]
                    .filter(one => !one.checkVisibility({contentVisibilityAuto: true})),
                [...document.querySelectorAll('.verdict, main td, main th, main p, main code')]
                    .filter(one => one.getBoundingClientRect().right > 721),
            ].map(list => list.slice(0, 3).map(one => one.outerHTML.slice(0, 200)))"""
        )
        assert (hidden, cut) == ([], [])
    finally:
        page.emulate_media(media="screen")


CONTRAST = """() => {
    const parts = colour => colour.match(/[\\d.]+/g).map(Number);
    const linear = x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => [r, g, b].map(x => linear(x / 255))
        .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
    const background = one => {
        for (; one; one = one.parentElement) {
            const colour = parts(getComputedStyle(one).backgroundColor);
            if (colour.length < 4 || colour[3] > 0) return colour;
        }
        return [255, 255, 255];
    };
    const texts = '.verdict, p, li, td, th, a, summary, output, figcaption, small, footer, h1, h2';
    const shown = [...document.querySelectorAll(texts + ', h3')];
    return shown.filter(one => one.textContent.trim()).map(one => {
        const pair = [light(parts(getComputedStyle(one).color)), light(background(one))];
        const [dark, bright] = pair.sort((a, b) => a - b);
        return [one.tagName + '.' + one.className, (bright + 0.05) / (dark + 0.05)];
    });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_contrasts_with_its_background(unfolded, watched, scheme):
    unfolded.emulate_media(color_scheme=scheme)
    found = unfolded.evaluate(CONTRAST)
    assert found and not [one for one in found if one[1] < 4.5]
    red, green, blue = unfolded.evaluate(
        "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    )
    assert max(red, green, blue) < 60 if scheme == "dark" else min(red, green, blue) > 240
    if watched.page.url.endswith("index.html"):
        badges = {name for name, _ in found if "verdict " in name}
        assert len(badges) >= 2  # badges of several colours


# ------------------------------------------------------------ the explorer's page


def test_two_networks_train_on_the_page_by_keyboard(pages):
    page = pages["explorer.html"].page
    page.bring_to_front()  # pages behind others draw once a second
    page.evaluate("() => { document.activeElement.blur(); window.scrollTo(0, 0) }")
    for _ in range(80):  # after the sidebar, the keyboard reaches the trainer
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.matches('.lsnc-trainer input')"):
            break
    outline = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    trainer = "document.querySelector('.lsnc-trainer').trainer"
    before = page.evaluate(f"{trainer}.settings.delta")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(f"{trainer}.settings.delta") == pytest.approx(before + 0.05)
    pictures = "() => [...document.querySelectorAll('canvas')].map(one => one.toDataURL())"
    start = page.evaluate(pictures)
    for _ in range(4):  # past the other sliders to the button
        page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.wait_for_function(f"() => {trainer}.epoch >= 2")
    page.keyboard.press("Space")
    for one, other in zip(start, page.evaluate(pictures), strict=True):
        assert one != other
    page.locator(".lsnc-trainer .reset").press("Enter")
    assert page.evaluate(f"{trainer}.epoch") == 0


def test_without_a_kernel_the_explorer_shows_stored_networks(pages):
    page = pages["explorer.html"].page
    tables = page.locator(".lsnc-without-kernel table")
    assert tables.count() == 2 and page.locator(".jupyter-widgets").count() == 0
    assert "Stored at label noise 0." in page.locator("main").inner_text()
    numbers = tables.nth(1).locator("tbody td").all_inner_texts()
    assert len([text for text in numbers if re.fullmatch(r"0\.\d+", text)]) > 20


# --------------------------------------------------------------------------------------- JupyterLab


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# Nobody is there to answer JupyterLab's question about news, and no toast may cover the notebook.
NOTIFICATIONS = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory):
    """JupyterLab over a copy of the notebooks, with settings of its own.

    Gives its address, process and log at once, without waiting until it answers.
    """
    folder = tmp_path_factory.mktemp("lab")
    books = shutil.copytree(
        ROOT / "notebooks",
        folder / "notebooks",
        ignore=shutil.ignore_patterns(".ipynb_checkpoints"),
    )
    own = {
        f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")
    }
    own |= {
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
    }
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(NOTIFICATIONS))
    port = free_port()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--ip=127.0.0.1", f"--port={port}", "--port-retries=0"]
    command += ["--IdentityProvider.token=", "--LabApp.news_url=", f"--notebook-dir={books}"]
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(
            command,
            cwd=folder,
            env=report_environment(**own),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield f"http://127.0.0.1:{port}", server, folder / "log"
    finally:
        stop(server)


def stop(server):
    """End JupyterLab and its kernels."""
    import psutil

    running = server.poll() is None
    family = psutil.Process(server.pid).children(recursive=True) if running else []
    server.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(10)
    _, alive = psutil.wait_procs(family, 3)
    for process in [*alive, *([server] if server.poll() is None else [])]:
        process.kill()
    server.wait()


def wait_for_server(address, server, log):
    deadline = time.monotonic() + 180
    while True:
        try:
            urllib.request.urlopen(f"{address}/api", timeout=5).close()
            return
        except OSError:
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)


EVERY_CODE_CELL_RAN = """() => {
    const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')];
    return prompts.length > 0 && prompts.every(one => /\\[\\d+\\]/.test(one.textContent));
}"""


def run_all_cells(page):
    """Run the notebook from the menu, again if JupyterLab was not ready for it.

    While JupyterLab arranges its panels a menu may do nothing, and cells that run before the kernel
    is connected may be dropped.
    """
    from playwright.sync_api import TimeoutError

    for _ in range(6):
        page.locator(".jp-Notebook .jp-Cell").first.click()
        page.locator(".lm-MenuBar-item", has_text=re.compile("^Run$")).click()
        page.locator('.lm-Menu-item[data-command="runmenu:run-all"]').click()
        with contextlib.suppress(TimeoutError):
            page.wait_for_function(EVERY_CODE_CELL_RAN, timeout=30_000)
            return
        page.keyboard.press("Escape")
    raise AssertionError("JupyterLab does not run the notebook")


def test_the_explorer_is_live_in_jupyterlab_and_readable_when_opened_again(
    jupyter, browser, report_smoke
):
    from playwright.sync_api import expect

    address, server, log = jupyter
    # a copy that looks at a copy of the networks of the smoke run, and may train more
    books, outputs = log.parent / "notebooks", log.parent / "outputs"
    for name in ("cache", "runs"):
        shutil.copytree(report_smoke.outputs / name, outputs / name)
    text = (books / "explorer.ipynb").read_text(encoding="utf-8")
    setting = "import os; os.environ['LSNC_OUTPUTS'] = " + repr(str(outputs))
    notebook = json.loads(text.replace('\\"auto\\"', '\\"smoke\\"'))
    notebook["cells"][2]["source"].insert(0, setting + "\n")
    (books / "explorer_smoke.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    wait_for_server(address, server, log)
    context = browser.new_context(viewport=WIDE)
    watched = Watched(context, ("data:", "blob:", address))
    page = watched.page
    # Any dialog that covers the notebook gets its default answer.
    page.add_locator_handler(
        page.locator(".jp-Dialog"), lambda one: one.locator("button.jp-mod-accept").click()
    )
    page.goto(f"{address}/lab/tree/explorer_smoke.ipynb?reset")
    # An assertion, unlike wait_for, also answers dialogs while it waits.
    expect(page.locator("#jp-main-statusbar")).to_contain_text("| Idle", timeout=90_000)
    run_all_cells(page)
    expect(page.locator(".lsnc-trainer .live")).to_be_visible(timeout=90_000)
    page.locator(".lsnc-trainer .play").click()
    page.wait_for_function("() => document.querySelector('.lsnc-trainer').trainer.epoch >= 1")
    page.locator(".lsnc-trainer .play").click()

    widgets = page.locator(".jp-OutputArea-output > .widget-vbox")
    expect(widgets).to_have_count(2, timeout=90_000)
    expect(page.locator(".lsnc-without-kernel").first).to_be_hidden()
    handle = widgets.last.locator(".noUi-handle").first  # the strength
    before = widgets.last.locator("table").text_content()
    handle.focus()
    page.keyboard.press("ArrowRight")
    expect(widgets.last.locator("table")).not_to_have_text(before, timeout=90_000)
    widgets.first.get_by_role("button", name="Train", exact=True).click()
    expect(widgets.first).to_contain_text(re.compile("Trained for 30 epochs"), timeout=90_000)
    errors = page.locator('.jp-OutputArea [data-mime-type="application/vnd.jupyter.stderr"]')
    assert errors.count() == 0

    # saved, its kernel gone, and opened again
    page.keyboard.press("Escape")
    page.locator(".lm-MenuBar-item", has_text=re.compile("^File$")).click()
    page.locator('.lm-Menu-item[data-command="docmanager:save"]').click()
    expect(page.locator(".jp-NotebookPanel .jp-mod-dirty")).to_have_count(0, timeout=90_000)
    page.evaluate(
        """async () => {
            const token = document.cookie.match(/_xsrf=([^;]*)/)?.[1];
            for (const one of await (await fetch('/api/sessions')).json()) {
                const options = {method: 'DELETE', headers: {'X-XSRFToken': token}};
                await fetch('/api/sessions/' + one.id, options);
            }
        }"""
    )
    page.goto(f"{address}/lab/tree/explorer_smoke.ipynb?reset")
    expect(page.locator(".lsnc-trainer .live")).to_be_visible(timeout=90_000)
    expect(page.locator(".lsnc-without-kernel").last).to_be_visible(timeout=90_000)
    page.wait_for_timeout(3000)  # widgets would look for their models
    expect(page.get_by_text("model not found").filter(visible=True)).to_have_count(0)
    assert not watched.refused
    context.close()
