"""The report and the live widget in a real browser, the network cut off.

What is asserted are facts of the page (requests, errors, texts, sizes, what is visible), never
pixels.
"""

import contextlib
import itertools
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from conftest import ROOT, report_environment

from lsnc_core.report import catalog

CHROMIUM = next(
    filter(
        None,
        map(
            shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
        ),
    ),
    None,
)
pytestmark = [
    pytest.mark.skipif(
        CHROMIUM is None, reason="chromium is not installed: apt-get install chromium"
    ),
    pytest.mark.filterwarnings("default::DeprecationWarning", "default::ResourceWarning"),
]
ARGUMENTS = [
    *(
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
    ),
    *("--disable-component-update", "--disable-sync"),
]
PAGES = ["index.html", *(f"{entry.name}.html" for entry in catalog.NOTEBOOKS)]
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser(jupyter):  # JupyterLab starts up while the pages are looked at
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


class Watched:
    """A page that may open nothing from the network, and what went wrong on it."""

    def __init__(self, context, allowed=("file:", "data:", "blob:")):
        self.refused, self.errors = [], []
        self.page = context.new_page()
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
        opened[name].page.evaluate("() => MathJax.startup.promise")
    yield opened
    context.close()


@pytest.fixture(params=PAGES)
def watched(request, pages):
    pages[request.param].page.set_viewport_size(WIDE)
    return pages[request.param]


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


def test_every_picture_is_there_and_is_told_in_words(watched):
    pictures = watched.page.evaluate(
        """() => Promise.all([...document.images].map(async image => {
            await image.decode().catch(() => {});
            return {alt: image.alt.trim(), width: image.naturalWidth, source: image.src.slice(0, 80)};
        }))"""
    )
    assert not [one for one in pictures if not one["alt"] or one["width"] == 0]
    if not watched.page.url.endswith("start_here.html"):
        assert pictures


def test_headings_are_in_order_and_ids_are_unique(watched):
    levels = watched.page.evaluate(
        "() => [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].map(one => +one.tagName[1])"
    )
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(then <= before + 1 for before, then in itertools.pairwise(levels))
    ids = watched.page.evaluate(
        "() => [...document.querySelectorAll('[id]')].filter(one => !one.closest('svg')).map(one => one.id)"
    )
    assert sorted(set(ids)) == sorted(ids)
    assert (
        watched.page.evaluate("() => document.documentElement.lang") == "en"
        and watched.page.title()
    )


def test_links_lead_somewhere(watched, report_smoke, pages):
    links = watched.page.evaluate(
        "() => [...document.querySelectorAll('a[href]')].map(link => [link.href, link.textContent.trim()])"
    )
    assert len(links) > len(PAGES)
    for address, text in links:
        parts = urlsplit(address)
        assert text and parts.scheme in ("file", "https"), address
        if parts.scheme == "file":
            target = Path(unquote(parts.path))
            assert target.is_file() and target.is_relative_to(report_smoke.folder / "report"), (
                address
            )
            if parts.fragment:
                assert pages[target.name].page.locator(f"[id='{parts.fragment}']").count() == 1, (
                    address
                )


def test_the_navigation_marks_the_page_one_is_on(watched):
    name = watched.page.url.rsplit("/", 1)[1]
    links = watched.page.evaluate(
        "() => [...document.querySelectorAll('nav a')].map(a => [a.getAttribute('href'), a.ariaCurrent])"
    )
    assert [address for address, _ in links] == PAGES[1:]
    assert [address for address, current in links if current == "page"] == (
        [] if name == "index.html" else [name]
    )


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_no_page_is_wider_than_its_window(watched, size):
    watched.page.set_viewport_size(size)
    root = watched.page.evaluate(
        "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert root[0] <= root[1]


CONTRAST = """() => {
    const parts = colour => colour.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map(x => x / 255).map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)
        .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = one => { for (; one; one = one.parentElement) {
        const colour = parts(getComputedStyle(one).backgroundColor); if (colour.length < 4 || colour[3] > 0) return colour; }
        return [255, 255, 255]; };
    return [...document.querySelectorAll('.verdict, p, li, td, th, a, summary, output, figcaption, small, footer, h1, h2, h3')].map(one => {
        const pair = [light(parts(getComputedStyle(one).color)), light(ground(one))].sort((a, b) => b - a);
        return [one.tagName + '.' + one.className, (pair[0] + 0.05) / (pair[1] + 0.05)]; });
}"""


def test_text_stands_out_from_its_ground(watched):
    found = watched.page.evaluate(CONTRAST)
    assert found and not [one for one in found if one[1] < 4.5]
    if watched.page.url.endswith("index.html"):
        assert (
            len({name for name, _ in found if "verdict " in name}) >= 2
        )  # badges of several colours were looked at


# --------------------------------------------------------------------------------------- the slider


def test_the_slider_moves_by_keyboard_and_shows_one_frame_at_a_time(pages):
    page = pages["explorer.html"].page
    labels = json.loads(page.locator(".lsnc-frames").get_attribute("data-labels"))
    page.evaluate("() => { document.activeElement.blur(); window.scrollTo(0, 0) }")
    for _ in range(40):  # the keyboard gets there
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.matches('.lsnc-frames input')"):
            break
    control = page.locator(".lsnc-frames input")
    assert control.evaluate(
        "one => one === document.activeElement && getComputedStyle(one).outlineStyle"
    ) not in (False, "none")

    def seen():
        visible = page.evaluate(
            "() => [...document.querySelectorAll('.lsnc-frame')].flatMap((one, i) => one.checkVisibility() ? [i] : [])"
        )
        assert len(visible) == 1
        said = page.locator(".lsnc-frames output").inner_text()
        assert said == control.get_attribute("aria-valuetext") == labels[visible[0]]
        return visible[0]

    start = seen()
    assert "p = 0.80" in labels[start]
    steps = [start]
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "Home", "ArrowLeft", "End", "ArrowRight"):
        page.keyboard.press(key)
        steps.append(seen())
    last = len(labels) - 1
    assert steps == [start, start + 1, start + 2, start + 1, 0, 0, last, last]
    sources = page.evaluate(
        "() => [...document.querySelectorAll('.lsnc-frame img')].map(image => image.src)"
    )
    assert len(set(sources)) == len(sources) == len(labels)


# --------------------------------------------------------------------------------------- JupyterLab


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory):
    """JupyterLab over a copy of the notebooks, with settings of nobody; its address without waiting
    for it.
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
    port = free_port()
    command = [
        *(
            sys.executable,
            "-m",
            "jupyterlab",
            "--no-browser",
            "--ip=127.0.0.1",
            f"--port={port}",
            "--port-retries=0",
        ),
        *(
            "--IdentityProvider.token=",
            "--LabApp.news_url=",
            f"--notebook-dir={books}",
            "--allow-root",
        ),
    ]
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
        import psutil

        family = (
            [*psutil.Process(server.pid).children(recursive=True)] if server.poll() is None else []
        )
        server.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(10)
        for process in [
            *psutil.wait_procs(family, 3)[1],
            *([server] if server.poll() is None else []),
        ]:
            process.kill()
        server.wait()


def test_the_slider_is_live_in_jupyterlab(jupyter, browser):
    from playwright.sync_api import TimeoutError

    address, server, log = jupyter
    deadline = time.monotonic() + 90
    while True:
        try:
            urllib.request.urlopen(f"{address}/api", timeout=5).close()
            break
        except OSError:
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
    context = browser.new_context(viewport=WIDE)
    watched = Watched(context, ("data:", "blob:", address))
    page = watched.page
    page.set_default_timeout(90_000)
    page.goto(f"{address}/lab/tree/explorer.ipynb?reset")
    page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]')
    for attempt in range(
        6
    ):  # a menu that is used while JupyterLab still arranges itself does nothing
        page.locator(".jp-Notebook .jp-Cell").first.click()
        page.locator(".lm-MenuBar-item", has_text=re.compile("^Run$")).click()
        page.locator('.lm-Menu-item[data-command="runmenu:run-all"]').click()
        try:
            page.wait_for_function(
                "() => /\\[[*\\d]/.test([...document.querySelectorAll('.jp-InputPrompt')].map(x => x.textContent))",
                timeout=4000,
            )
            break
        except TimeoutError:
            assert attempt < 5, "JupyterLab does not run the notebook"
            page.keyboard.press("Escape")
    control = page.locator(".jp-OutputArea .noUi-handle")
    control.wait_for()
    picture = page.locator(".jp-OutputArea img.widget-image")
    picture.wait_for()
    assert page.locator(".lsnc-frames").count() == 0  # the live widget, not the pictures for pages

    def seen():
        return page.locator(
            ".jp-OutputArea .widget-readout"
        ).first.inner_text(), picture.get_attribute("src")

    before = seen()
    assert before[0] == "0.80" and picture.count() == 1
    control.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "before => document.querySelector('.jp-OutputArea img.widget-image').src != before",
        arg=before[1],
    )
    after = seen()
    assert after[0] == "0.82" and after[1] != before[1]
    page.locator(".jp-OutputArea .widget-label", has_text="p = 0.82").wait_for()
    assert (
        page.locator('.jp-OutputArea [data-mime-type="application/vnd.jupyter.stderr"]').count()
        == 0
    )
    assert not watched.refused
    context.close()
