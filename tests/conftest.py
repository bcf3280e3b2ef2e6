"""One smoke run of the whole command for all tests that look at what it leaves behind."""

import fcntl
import functools
import gc
import importlib
import json
import os
import pickle
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytest.register_assert_rewrite("helpers")

# what run_tests.sh or a shell sets for tests would hide faults
HIDDEN = {
    "LSNC_OUTPUTS",
    "LSNC_DATA",
    "LSNC_OFFLINE",
    "MPLBACKEND",
    "OMP_NUM_THREADS",
    "PYTHONPATH",
    "PYTHONWARNINGS",
    "PYTEST_CURRENT_TEST",
    "PYTEST_XDIST_WORKER",
    "PYTEST_XDIST_WORKER_COUNT",
    "PYTEST_XDIST_TESTRUNUID",
}


# A shell starts background jobs with Ctrl-C ignored, which every child inherits.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# How wide the report shows a figure, in px: in the column of a page 1,280 px wide, and on a phone,
# where the page scrolls it sideways; and the smallest text that can be read there.
COLUMN, PHONE = 1000, 544
READABLE = {COLUMN: 11, PHONE: 9}


def text_px(canvas, shown):
    """The smallest text of a matplotlib figure in px, where the page has `shown` px for it."""
    from matplotlib.text import Text

    points = 72 * canvas.get_size_inches()[0]  # its width
    # an SVG is shown at its own size of 4/3 px a point, or smaller
    scale = min(shown, points * 4 / 3) / points
    texts = [text for text in canvas.findobj(Text) if text.get_visible() and text.get_text()]
    return scale * min((text.get_fontsize() for text in texts), default=12)


@pytest.fixture(scope="session", autouse=True)
def _figures_can_be_read():
    """Every figure that any test draws has text that can be read on a page and on a phone, and
    a title and legends no wider than itself.
    """
    figure = importlib.import_module("lsnc_core.show.figure")

    class Checked(figure.Figure):
        def __init__(self, drawing, **settings):
            super().__init__(drawing, **settings)
            for shown, least in READABLE.items():
                assert text_px(drawing, shown) >= least, (settings["name"], shown)
            for shown in (*drawing.legends, *drawing.texts):  # a figure's title is one of its texts
                assert shown.get_window_extent().width <= drawing.bbox.width, settings["name"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figure, "Figure", Checked)
        yield


@pytest.fixture(scope="session", autouse=True)
def _products_are_timed_once():
    """Which library multiplies matrices is measured once a process, not for every folder that a
    test trains in.
    """
    products = importlib.import_module("lsnc_core.runs.products")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "choose", functools.cache(products.choose))
        yield


def pytest_collection_modifyitems(items):
    """Start with the tests that fork: torch cannot train in a fork of a process in which another
    test has started autograd's threads. The smoke run is next, for it takes longest, and while it
    is made, what does not need it.
    """
    first = ("test_interruptions", "test_cli", "test_killed_workers", "test_forks")
    first += ("test_hostile_input", "test_benchmark", "test_browser", "test_notebook_runs")
    items.sort(key=lambda item: (*first, item.path.stem).index(item.path.stem))


def pytest_collection_finish():
    """Python's collector passes over what has been imported, which lasts as long as the process."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish():
    gc.unfreeze()  # libraries check for leaks when Python ends


@pytest.hookimpl(optionalhook=True)  # the metrics' tests run without pytest-xdist, too
def pytest_xdist_make_scheduler(config, log):
    """Spread files over the workers in the order of the tests, so that no fixture of a file is made
    twice.
    """
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)


@dataclass(frozen=True)
class ReportSmoke:
    """What `./run_all.sh --profile smoke` left.

    Attributes:
        outputs: the outputs folder.
        folder: the profile's folder in it.
        stdout, stderr: what it printed.
        code: its exit status.
    """

    outputs: Path
    folder: Path
    stdout: str
    stderr: str
    code: int


def report_environment(**changes):
    """The environment of a user who set nothing."""
    kept = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    return kept | changes


@pytest.fixture(scope="session")
def report_smoke(tmp_path_factory):
    """The smoke run, made once for all of pytest-xdist's workers; tests leave its outputs as they
    are.
    """
    return made_once("smoke", tmp_path_factory, _run_smoke)


def made_once(name, tmp_path_factory, make):
    """What `make(tmp_path_factory)` gives, made by the first of pytest-xdist's workers to ask."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    made = folder / f"{name}.pickle"
    with open(f"{made}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            made.write_bytes(pickle.dumps(make(tmp_path_factory)))
        return pickle.loads(made.read_bytes())


def _run_smoke(tmp_path_factory):
    """What `./run_all.sh --profile smoke` leaves in folders of its own."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    # a name that pages and shells must survive
    outputs = tmp_path_factory.mktemp("smoke") / "outputs of <a> & b"
    command = [ROOT / "run_all.sh", "--profile", "smoke", "--outputs", outputs]
    command += ["--record", outputs / "kept" / "a-recording"]
    answer = subprocess.run(
        command,
        cwd=elsewhere,
        env=report_environment(),
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert not list(elsewhere.iterdir()), "the run wrote into the working directory"
    return ReportSmoke(outputs, outputs / "smoke", answer.stdout, answer.stderr, answer.returncode)


def run_cells(path, given):
    """Run a notebook's code here, without a kernel, with these parameters in the place of its
    own.
    """
    parameters = "\n".join(f"{name} = {value!r}" for name, value in given.items())
    sources = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            tagged = "parameters" in cell["metadata"].get("tags", [])
            sources.append(parameters if tagged else "".join(cell["source"]))
    code = compile("\n".join(sources), path.name, "exec")
    exec(code, {"display": lambda shown: None})


@pytest.fixture(scope="session")
def parsed_images(tmp_path_factory):
    """A cache of the image sets that come with packages: reading their tables takes seconds."""
    return made_once("parsed", tmp_path_factory, _parse_images)


def _parse_images(tmp_path_factory):
    from lsnc_core import data

    folder = tmp_path_factory.mktemp("parsed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSNC_OUTPUTS", str(folder))
        for name in ("digits", "mnist-subset"):
            data.load(name)
    return folder / "cache"


@pytest.fixture(scope="module")
def own_outputs(tmp_path_factory, parsed_images):
    """An outputs folder for all tests of a file, with the cache of images."""
    folder = tmp_path_factory.mktemp("outputs")
    shutil.copytree(parsed_images, folder / "cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSNC_OUTPUTS", str(folder))
        yield


@pytest.fixture(scope="module")
def digits(own_outputs):
    """The digits, whole."""
    from lsnc_core import data

    return data.load("digits")


@pytest.fixture
def fresh_outputs(tmp_path, monkeypatch):
    """An outputs folder for one test, downloads as by default."""
    monkeypatch.setenv("LSNC_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.delenv("LSNC_OFFLINE", raising=False)


@pytest.fixture
def shelf(tmp_path, own_outputs):
    """An empty store."""
    from lsnc_core.runs.store import Store

    return Store(tmp_path / "runs")


@pytest.fixture
def steps(monkeypatch):
    """The loss of every replica at every step, float64 (R,) each, as the trainer computes them."""
    import torch

    from lsnc_core.runs import fleet, stacked_step

    recorded = []
    per_replica = fleet.losses.per_replica
    loss_gradient = stacked_step.loss_gradient

    def recording(names, device):
        def loss_of_a_step(logits, targets):
            loss = fit(logits, targets)
            if loss.requires_grad:
                recorded.append(loss.detach().double().mean(-1))
            return loss

        fit = per_replica(names, device)
        return loss_of_a_step

    def recording_written_out(fits, logits, targets):
        # (r, K, B): the step that is written out asks for the gradient alone; all in one group
        all_of = [fit or fleet.losses.cross_entropy for fit in fits]
        losses = [fit(z, y) for fit, z, y in zip(all_of, logits.mT, targets.mT, strict=True)]
        recorded.append(torch.stack(losses).double().mean(-1))
        return loss_gradient(fits, logits, targets)

    monkeypatch.setattr(fleet.losses, "per_replica", recording)
    monkeypatch.setattr(stacked_step, "loss_gradient", recording_written_out)
    return recorded
