"""The networks that train in the page, against the package's losses, labels, SGD and metrics."""

import shutil
import string

import numpy as np
import pytest
import torch
from elements import Elements, bundle
from torch import nn

from lsnc_core import data, images, labels, losses
from lsnc_core.metrics import ece, neural_collapse
from lsnc_core.papers.companion import trainer
from lsnc_core.runs.sgd import sgd_step

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
pytestmark = pytest.mark.filterwarnings(
    "default::DeprecationWarning", "default::ResourceWarning", "ignore:no simplex ETF"
)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
PAGE = string.Template("<!doctype html><html lang='en'><title>t</title><main>$copies</main></html>")
STARTED = "document.querySelectorAll('.lsnc-trainer .live:not([hidden])').length"


@pytest.fixture(scope="module")
def shown(own_outputs):
    return trainer.Trainer()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser, shown, tmp_path):
    """Opens a page with copies of the trainer from disk, without a network; it must be free of
    errors in the end.
    """
    contexts, errors, asked = [], [], []

    def open_copies(copies=1, **settings):
        path = tmp_path / "page.html"
        html = bundle(shown)["text/html"] * copies
        path.write_text(PAGE.substitute(copies=html), encoding="utf-8")
        context = browser.new_context(offline=True, **settings)
        context.set_default_timeout(90_000)  # the machine may be busy
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        assert page.evaluate(STARTED) == copies
        return page

    yield open_copies
    for context in contexts:
        context.close()
    assert errors == [] and {url[:5] for url in asked} == {"file:"}


def train_here(setup, orders, settings, dtype):
    """The losses of both networks after each epoch by the package's own parts, from the page's
    start and in its order.
    """
    chosen = data.load("digits").subset(trainer.TRAIN, trainer.TEST)
    pixels = images.standardise(chosen)[0].flatten(1).to(dtype)
    classes = trainer.WIDTHS[-1]
    noise = labels.symmetric_noise(1 - settings["noise"], classes)
    noisy = labels.corrupt(chosen.train_labels, noise, setup["seed"])
    curves = {}
    for name, delta in (("CE", 0.0), ("LS", settings["delta"])):
        kept = labels.kept_from_strength(delta, classes)
        targets = labels.soft_targets(noisy, float(kept), classes).to(dtype)
        inputs, hidden, width, _ = trainer.WIDTHS
        network = nn.Sequential(
            nn.Linear(inputs, hidden),
            nn.ReLU(),
            nn.Linear(hidden, width),
            nn.Linear(width, classes),
        ).to(dtype)
        parameters = list(network.parameters())
        with torch.no_grad():
            for parameter, numbers in zip(parameters, setup["weights"], strict=True):
                parameter.copy_(torch.tensor(numbers, dtype=dtype).view_as(parameter))
        velocities = [torch.zeros_like(parameter) for parameter in parameters]
        lr, decay = (
            [torch.tensor(settings[one], dtype=dtype)] * len(parameters) for one in ("lr", "decay")
        )
        curves[name] = []
        for order in orders:
            for rows in torch.tensor(order).split(setup["batch"]):
                loss = losses.cross_entropy(network(pixels[rows]), targets[rows]).mean()
                gradients = torch.autograd.grad(loss, parameters)
                sgd_step(parameters, gradients, velocities, lr, decay, setup["momentum"])
            with torch.no_grad():
                value = losses.cross_entropy(network(pixels), targets).mean()
            curves[name].append(float(value))
    return curves


# ------------------------------------------------------------ what it starts from


def test_the_page_has_the_image_set_and_its_start(shown):
    setup = shown.setup
    chosen = data.load("digits").subset(trainer.TRAIN, trainer.TEST)
    greys = np.frombuffer(setup["pixels"].encode(), dtype=np.uint8).astype(int) - ord("A")
    whole = torch.cat([chosen.train_images, chosen.test_images]).flatten().numpy()
    np.testing.assert_array_equal((greys * 255 + 8) // 16, whole)
    truth = torch.cat([chosen.train_labels, chosen.test_labels]).tolist()
    assert list(map(int, setup["labels"])) == truth
    sizes = [len(numbers) for numbers in setup["weights"]]
    assert sizes == [64 * 64, 64, 2 * 64, 2, 10 * 2, 10]
    assert len(bundle(shown)["text/html"]) < 250_000


def test_the_draws_of_label_noise_are_those_of_the_package(shown):
    setup = shown.setup
    clean = data.load("digits").subset(trainer.TRAIN, trainer.TEST).train_labels
    moved, draws = (torch.tensor(list(map(int, setup[one]))) for one in ("moved", "draws"))
    for percent in (100, 95, 70, 40):
        noise = labels.symmetric_noise(percent / 100, trainer.WIDTHS[-1])
        expected = labels.corrupt(clean, noise, setup["seed"])
        assert torch.equal(torch.where(draws < percent, clean, moved), expected)


def test_every_control_has_a_name_and_starts_at_a_value_it_offers(shown):
    page = Elements(bundle(shown)["text/html"])
    controls = page.all("input", type="range")
    assert [one["name"] for one in controls] == list(trainer.CONTROLS)
    for one, (_, values, start) in zip(controls, trainer.CONTROLS.values(), strict=True):
        assert values[int(one["value"])] == start == float(one["aria-valuetext"])
    assert not [one for one in page.listed if "id" in one]  # copies would clash


def test_the_program_is_short_and_plain():
    text = (trainer.TEMPLATES / "trainer.js").read_text(encoding="utf-8")
    lines = text.splitlines()
    assert len(lines) <= 400 and max(map(len, lines)) <= 100
    assert "import" not in text.replace("important", "") and "http" not in text


# ------------------------------------------------------------ what it computes


@needs_chromium
@pytest.mark.parametrize(
    "settings",
    [
        {"delta": 0.1, "noise": 0.0, "lr": 0.05, "decay": 5e-4},
        {"delta": 0.5, "noise": 0.3, "lr": 0.02, "decay": 5e-3},
    ],
    ids=["as it starts", "smooth and noisy"],
)
def test_the_page_trains_as_the_package_does(open_page, shown, settings):
    page = open_page()
    orders, found = page.evaluate(
        """settings => {
            const { trainer } = document.querySelector('.lsnc-trainer');
            Object.assign(trainer.settings, settings);
            trainer.reset();
            trainer.train(30);
            const orders = [...Array(30).keys()].map(epoch => [...trainer.order(epoch)]);
            return [orders, trainer.history];
        }""",
        settings,
    )
    assert all(sorted(order) == list(range(trainer.TRAIN)) for order in orders)
    assert orders[0] != orders[1]
    expected = train_here(shown.setup, orders, settings, torch.float64)
    for name, curve in expected.items():
        losses_there = [row["loss"] for row in found[name][1:]]
        assert max(curve[0] - curve[-1], 0) > 0.02  # it learns
        np.testing.assert_allclose(losses_there, curve, atol=1e-6)
    # the package trains in float32: training amplifies rounding, yet losses agree to 1e-3
    rounded = train_here(shown.setup, orders, settings, torch.float32)
    for name, curve in rounded.items():
        assert abs(found[name][-1]["loss"] - curve[-1]) < 1e-3


@needs_chromium
def test_the_page_measures_as_the_package_does(open_page):
    page = open_page()
    state = page.evaluate(
        """() => {
            const { trainer } = document.querySelector('.lsnc-trainer');
            Object.assign(trainer.settings, {noise: 0.2});
            trainer.train(4);
            return Object.fromEntries(Object.entries(trainer.networks).map(([name, network]) => [
                name, {
                    features: [...network.features.out], logits: [...network.last.out],
                    W: [...network.last.W.w], labels: [...trainer.labels],
                    measured: trainer.history[name].at(-1),
                }]));
        }"""
    )
    for one in state.values():
        truth = torch.tensor(one["labels"])
        features, logits, W = (
            torch.tensor(one[part], dtype=torch.float64) for part in ("features", "logits", "W")
        )
        logits, split = logits.view(-1, 10), trainer.TRAIN
        collapse = neural_collapse(features.view(-1, 2)[:split], truth[:split], W.view(-1, 2))
        for metric, value in collapse.values.preset("guo").items():
            assert one["measured"][metric.lower()] == pytest.approx(value, abs=1e-6, rel=1e-6)
        error = ece(logits[split:], truth[split:])
        assert one["measured"]["ece"] == pytest.approx(error, abs=1e-6)
        accuracy = (logits[split:].argmax(1) == truth[split:]).double().mean()
        assert one["measured"]["accuracy"] == pytest.approx(float(accuracy), abs=1e-9)


# ------------------------------------------------------------ how it is used


@needs_chromium
def test_the_keyboard_plays_pauses_resets_and_moves_every_slider(open_page):
    page = open_page()
    epoch = "document.querySelector('.lsnc-trainer').trainer.epoch"
    picture = "document.querySelector('canvas').toDataURL()"
    before = page.evaluate(picture)
    ends = page.locator(".chart .high, .chart .low")
    assert set(ends.all_inner_texts()) == {""} and page.locator(".chart.empty").count() == 6
    for name, (_, values, start) in trainer.CONTROLS.items():
        control = page.locator(f"input[name={name}]")
        control.press("ArrowRight")
        chosen = values[values.index(start) + 1]
        settings = page.evaluate("document.querySelector('.lsnc-trainer').trainer.settings")
        assert settings[name] == chosen == float(control.get_attribute("aria-valuetext"))
    play, reset = page.locator("button.play"), page.locator("button.reset")
    play.press("Enter")
    assert play.inner_text() == "Pause"
    page.wait_for_function(f"() => {epoch} >= 3", timeout=60_000)
    play.press("Enter")
    stopped = page.evaluate(epoch)
    assert play.inner_text() == "Play"
    page.wait_for_timeout(300)
    assert page.evaluate(epoch) == stopped and page.evaluate(picture) != before
    assert f"After {stopped} epochs CE has test accuracy" in page.locator(".status").inner_text()
    assert page.locator(".chart polyline").count() == 12
    assert page.locator(".chart.empty").count() == 0 and "" not in ends.all_inner_texts()
    reset.press("Enter")
    assert page.evaluate(epoch) == 0
    assert page.locator(".epoch").inner_text() == f"epoch 0 of {trainer.EPOCHS}"


@needs_chromium
def test_copies_on_one_page_train_apart(open_page):
    page = open_page(copies=2)
    page.locator("button.play").nth(1).click()
    page.wait_for_function(
        "() => document.querySelectorAll('.lsnc-trainer')[1].trainer.epoch >= 1", timeout=60_000
    )
    assert page.evaluate("document.querySelectorAll('.lsnc-trainer')[0].trainer.step") == 0


@needs_chromium
def test_who_asks_for_less_motion_sees_every_tenth_epoch(open_page):
    page = open_page(reduced_motion="reduce")
    seen = page.evaluate(
        """() => new Promise(resolve => {
            const root = document.querySelector('.lsnc-trainer'), seen = [];
            const label = root.querySelector('.epoch');
            new MutationObserver(() => {
                seen.push(parseInt(label.textContent.split(' ')[1]));
                if (seen.length === 2) resolve(seen);
            }).observe(label, {childList: true});
            root.querySelector('.play').click();
        })"""
    )
    assert seen[0] >= 10 and seen[1] >= seen[0] + 10


@needs_chromium
def test_a_narrow_page_does_not_scroll_sideways(open_page):
    page = open_page(viewport={"width": 390, "height": 844})
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390
