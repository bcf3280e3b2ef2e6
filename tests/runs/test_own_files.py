"""Losses, noise and images from files of your own, in training."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import a_spec, one_sentence

from lsnc_core import custom, data, files
from lsnc_core.errors import UsageError
from lsnc_core.runs import execute, key, preemptible, prepare, store, task

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("own_outputs")


LOSS = """def loss(logits, targets):
    return -(targets * logits.log_softmax(-1)).sum(-1)
"""
DIVERGENCE = """def loss(logits, targets):
    return (targets * (targets.clamp(min=1e-9).log() - logits.log_softmax(-1))).sum(-1)
"""
NOISE = """import numpy as np

def noise(a, K):
    return a * np.eye(K) + (1 - a) * np.roll(np.eye(K), 2, 0)
"""
IMAGES = """import numpy as np

def images():
    draws = np.random.default_rng(0)
    labels = np.arange(80) % 3
    pictures = draws.integers(0, 99, (80, 1, 8, 8)) + 50 * labels[:, None, None, None]
    return pictures[:60], labels[:60], pictures[60:], labels[60:]
"""


def test_a_loss_noise_and_images_of_your_own_train_and_enter_the_key(shelf, tmp_path):
    paths = {name: tmp_path / f"{name}.py" for name in ("loss", "noise", "data")}
    for path, text in zip(paths.values(), (DIVERGENCE, NOISE, IMAGES), strict=True):
        path.write_text(text)
    own = {name: str(path) for name, path in paths.items()}
    # the divergence from the targets is the cross-entropy less their entropy: the same gradient,
    # another number
    spec = a_spec(loss=own["loss"], test_size=20)
    reference = a_spec(test_size=20)
    table = execute.results([spec, reference], "cpu", shelf)
    ours, theirs = (table[table.loss == loss] for loss in (own["loss"], "ce"))
    entropy = -(0.8 * math.log(0.8) + 0.2 * math.log(0.2 / 9))
    assert ours.train_loss.tolist() == pytest.approx(
        (theirs.train_loss - entropy).tolist(), rel=1e-3, abs=1e-4
    )
    everything = a_spec(**own, train_size=50, test_size=20)
    assert execute.results([everything], "cpu", shelf).train_accuracy.iloc[-1] > 0.3
    noisy = prepare.noisy_labels(a_spec(noise=own["noise"], a=0.0), torch.tensor([0, 5, 9]), 10)
    assert noisy.tolist() == [2, 7, 1]
    before = shelf.path(spec)
    paths["loss"].write_text(DIVERGENCE + "# another byte\n")
    assert shelf.path(spec) != before
    assert shelf.why_missing(spec) == "loss changed since it was trained"
    assert shelf.get(reference) is not None


@pytest.mark.parametrize(
    "name, text, sentence",
    [
        ("loss", "x = 1\n", r"must define a function loss\(\.\.\.\)"),
        ("loss", "1 / 0\n", "fails with ZeroDivisionError: division by zero"),
        ("noise", "def noise(a, K):\n    return [[1.0]]\n", "must be a square matrix"),
        ("data", "def images():\n    return 1, 2\n", "must return train_images"),
        (
            "data",
            "import numpy as np\n\n\ndef images():\n"
            "    return (np.zeros((4, 8, 8)), [0, 1, 0, 1]) * 2\n",
            "it must have uint8 images",
        ),
    ],
)
def test_a_file_of_your_own_that_does_not_do_is_refused_in_a_sentence(
    shelf, tmp_path, name, text, sentence
):
    (tmp_path / "own.py").write_text(text)
    with pytest.raises(UsageError, match=sentence) as caught:
        execute.results([a_spec(**{name: str(tmp_path / "own.py")})], "cpu", shelf)
    assert one_sentence(caught.value) and "own.py" in str(caught.value)
    with pytest.raises(UsageError, match=r"missing\.py cannot be read: No such file"):
        execute.results([a_spec(**{name: str(tmp_path / "missing.py")})], "cpu", shelf)


def test_the_readmes_loss_trains(shelf, tmp_path):
    """A user's own loss as the README shows it."""
    readme = (files.PROJECT / "README.md").read_text(encoding="utf-8")
    (block,) = [block for block in readme.split("```python\n")[1:] if block.startswith("def loss(")]
    (tmp_path / "my_loss.py").write_text(block.split("```")[0])
    spec = a_spec(loss=str(tmp_path / "my_loss.py"), a=1.0, p=1.0, epochs=30, evaluate_at=(1, 30))
    table = execute.results(
        [spec, a_spec(a=1.0, p=1.0, epochs=30, evaluate_at=(1, 30))], "cpu", shelf
    )
    ours, plain = (table[table.loss == loss].set_index("epoch") for loss in (spec.loss, "ce"))
    assert ours.train_loss[30] < ours.train_loss[1] and ours.clean_train_accuracy[30] > 0.9
    assert (
        ours.clean_train_uniform_loss[30] < plain.clean_train_uniform_loss[30]
    )  # less certain than cross-entropy alone


# what your own file reads and imports


def test_a_noise_whose_file_is_the_same_but_whose_matrix_is_not_trains_anew(shelf, tmp_path):
    np.save(tmp_path / "T.npy", np.eye(10))
    (tmp_path / "my_noise.py").write_text(
        "from pathlib import Path\nimport numpy as np\n\n\ndef noise(a, K):\n"
        "    return np.load(Path(__file__).with_name('T.npy'))\n"
    )
    spec = a_spec(noise=str(tmp_path / "my_noise.py"))
    clean = execute.results([spec], "cpu", shelf)
    before = shelf.path(spec)
    np.save(tmp_path / "T.npy", np.roll(np.eye(10), 1, 0))
    assert store.Store(shelf.folder).path(spec) != before
    moved = execute.results([spec], "cpu", shelf)
    assert shelf.path(spec) != before
    assert set(clean.kept) == {1.0} and set(moved.kept) == {0.0}
    np.save(tmp_path / "T.npy", np.eye(10))
    shelf.refresh()
    assert shelf.path(spec) == before
    # of the file the matrix counts alone: a comment trains nothing
    with open(spec.noise, "a") as file:
        file.write("# a comment\n")
    assert shelf.path(spec) == before


@pytest.mark.parametrize("at_import", [True, False], ids=["at import", "at every call"])
def test_a_loss_that_reads_a_file_trains_anew_when_the_file_changes(shelf, tmp_path, at_import):
    read = "torch.load(Path(__file__).with_name('scale.pt'))"
    head = f"from pathlib import Path\nimport torch\nSCALE = {read if at_import else 1}\n\n\n"
    body = f"{'SCALE' if at_import else read} * -(targets * logits.log_softmax(-1)).sum(-1)"
    (tmp_path / "my_loss.py").write_text(f"{head}def loss(logits, targets):\n    return {body}\n")
    spec = a_spec(loss=str(tmp_path / "my_loss.py"), lr=1e-9)
    found = []
    for scale in (1.0, 3.0):
        torch.save(torch.tensor(scale), tmp_path / "scale.pt")
        found.append(execute.results([spec], "cpu", shelf).train_loss.iloc[-1])
    assert found[1] == pytest.approx(3 * found[0], rel=1e-5)
    assert len(list(shelf.folder.glob("*.parquet"))) == 2


def test_a_module_beside_a_loss_is_part_of_its_key_and_of_its_training(shelf, tmp_path):
    files_of = {
        "my_loss.py": "import helper\nfrom lib.deep import power\n\n\n"
        "def loss(logits, targets):\n"
        "    return helper.scale() * -(targets * logits.log_softmax(-1)).sum(-1) ** power\n",
        "helper.py": "def scale():\n    return 1\n",
        "lib/deep.py": "from lib import more\npower = more.one\n",
        "lib/more.py": "one = 1\n",
        "unused.py": "x = 1\n",
    }
    (tmp_path / "lib").mkdir()
    for name, text in files_of.items():
        (tmp_path / name).write_text(text)
    spec = a_spec(loss=str(tmp_path / "my_loss.py"), lr=1e-9)
    first = execute.results([spec], "cpu", shelf).train_loss.iloc[-1]
    paths = {shelf.path(spec)}
    for name, before, after in (
        ("helper.py", "return 1", "return 3"),
        ("lib/deep.py", "more.one", "more.one + 0"),
        ("lib/more.py", "one = 1", "one = 0x1"),
    ):
        (tmp_path / name).write_text(files_of[name].replace(before, after))
        paths.add(shelf.path(spec))
    assert len(paths) == 4
    (tmp_path / "unused.py").write_text("x = 2\n")
    assert shelf.path(spec) in paths
    again = execute.results([spec], "cpu", shelf).train_loss.iloc[-1]
    assert again == pytest.approx(3 * first, rel=1e-5)
    # nothing of it stays behind: neither modules nor bytecode
    assert not {"helper", "lib", "lib.deep", "lib.more"} & set(sys.modules)
    assert str(tmp_path) not in sys.path and not list(tmp_path.rglob("__pycache__"))


def test_two_files_may_each_have_a_helper_of_the_same_name(tmp_path):
    for name, value in (("one", 1), ("other", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "helper.py").write_text(f"value = {value}\n")
        (tmp_path / name / "my_noise.py").write_text(
            "import helper\n\n\ndef noise(a, K):\n    return helper.value\n"
        )
    found = [
        custom.load(str(tmp_path / name / "my_noise.py"), "noise")(1, 2)
        for name in ("one", "other", "one")
    ]
    assert found == [1, 2, 1]


def test_what_a_loss_of_your_own_uses_of_this_package_is_part_of_its_key(monkeypatch, tmp_path):
    """The values on a few samples need not show it: gamma matters little where q is small."""
    path = tmp_path / "my_loss.py"
    path.write_text(
        "from lsnc_core.losses import focal\n\n\ndef loss(logits, targets):\n"
        "    return focal(logits, targets, 3.0)\n"
    )

    def digest_of(before="", after=""):
        def read(name):
            source = key.read_module(name)
            return source.replace(before, after) if name == "losses.py" else source

        monkeypatch.setattr(key, "package", lambda: key.Package(read))
        return key.loss_of_file(str(path), 10)

    assert digest_of() == digest_of('"""Focal loss', '"""The focal loss')
    assert digest_of() == digest_of("scale: float = 15.0", "scale: float = 10.0")
    assert digest_of() != digest_of("gamma: float = 3.0", "gamma: float = 2.0")


def test_two_processes_agree_on_the_key_of_a_loss_and_a_noise(shelf, tmp_path):
    for name, text in (("my_loss.py", DIVERGENCE), ("my_noise.py", NOISE)):
        (tmp_path / name).write_text(text)
    settings = {name: str(tmp_path / f"my_{name}.py") for name in ("loss", "noise")}
    code = (
        "from pathlib import Path\nfrom helpers import a_spec\nfrom lsnc_core.runs import Store\n"
        f"print(Store(Path({str(shelf.folder)!r})).path(a_spec(**{settings!r})))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    environment["PYTHONPATH"] = f"{files.PROJECT}{os.pathsep}{files.PROJECT / 'tests'}"
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert answer.stdout == f"{shelf.path(a_spec(**settings))}\n"


def test_a_noise_that_draws_anew_at_every_call_is_refused(shelf, tmp_path):
    (tmp_path / "my_noise.py").write_text(
        "import numpy as np\n\n\ndef noise(a, K):\n"
        "    return np.random.default_rng().dirichlet(np.ones(K), K).T\n"
    )
    with pytest.raises(UsageError, match="returns another matrix at every call") as caught:
        shelf.path(a_spec(noise=str(tmp_path / "my_noise.py")))
    assert one_sentence(caught.value)


def test_what_changes_between_asking_and_training_ends_in_a_sentence(shelf, tmp_path, monkeypatch):
    """Training processes read the file anew, so they may store under another key."""
    path = tmp_path / "my_loss.py"
    path.write_text(LOSS)

    def meanwhile(*arguments):
        path.write_text(LOSS + "# edited\n")

    monkeypatch.setattr(execute, "train", meanwhile)
    with pytest.raises(UsageError, match="a file of your own or the store was changed") as caught:
        execute.results([a_spec(loss=str(path))], "cpu", shelf)
    assert one_sentence(caught.value)


@pytest.mark.parametrize("names", [["{}"], ["{}", "mse"]], ids=["alone", "mixed"])
def test_a_file_that_is_edited_while_networks_train_changes_nothing_and_is_reported(
    shelf, tmp_path, monkeypatch, names
):
    path = tmp_path / "my_loss.py"
    path.write_text(LOSS)
    specs = [a_spec(loss=loss.format(path)) for loss in names]
    with task.settled("cpu"):
        undisturbed = preemptible.train(specs, data.load("digits"), CPU)
    train, found = preemptible.train, []

    def edited(specs, images, device, progress, *others):
        def edit(done):
            path.write_text(LOSS.rstrip() + " * 1000")
            progress(done)

        found.append(train(specs, images, device, edit, *others))
        return found[-1]

    monkeypatch.setattr(preemptible, "train", edited)
    with pytest.raises(
        UsageError, match="a file of your own was changed while networks were trained with it"
    ) as caught:
        execute.results(specs, "cpu", shelf)
    assert one_sentence(caught.value) and not list(shelf.folder.glob("*.parquet"))
    assert (
        found[0][0].history == undisturbed[0].history
    )  # the file as it was at the start, to the end
