"""Noise and images of your own, as the README shows them, in every notebook that takes them."""

import itertools
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import ROOT, run_cells

from lsnc_core import custom, data, data_sources, labels, runs
from lsnc_core.errors import UsageError
from lsnc_core.papers.chen import (
    chen_5_beyond_uniform,
    grid,
    networks,
    noise_drawing,
    noise_networks,
    noise_tables,
)
from lsnc_core.papers.zhou import networks as zhou_networks
from lsnc_core.report import parameters, schedule
from lsnc_core.show import Figure, Verdicts
from lsnc_core.theory import label_noise

TAKING = [
    path
    for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
    if "data_set" in parameters.defaults(path)
]
K, CLEAN = 3, 0.8


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The README's file beside 68 training images, colour, 9x9 pixels, three classes of unequal
    size; a store of its own.
    """
    folder = tmp_path_factory.mktemp("own")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = [block for block in readme.split("```python\n")[1:] if "def images(" in block]
    (folder / "my_own.py").write_text(block.split("```")[0])
    draws = np.random.default_rng(0)

    def part(size):
        classes = np.r_[np.arange(K), draws.integers(0, K, size - K)]
        return draws.integers(0, 120, (size, 3, 9, 9)) + 60 * classes[:, None, None, None], classes

    (x, y), (test_x, test_y) = part(68), part(30)
    np.savez(folder / "my_images.npz", x=x, y=y, test_x=test_x, test_y=test_y)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSNC_OUTPUTS", str(folder / "outputs"))
        yield folder / "my_own.py"


# in every notebook


@pytest.mark.filterwarnings(
    "ignore:__array_wrap__:DeprecationWarning"
)  # torch tensors in matplotlib
@pytest.mark.parametrize("path", TAKING, ids=lambda path: path.stem)
def test_every_notebook_that_takes_a_data_set_takes_your_own(path, own, monkeypatch):
    given = parameters.defaults(path) | {"profile": "smoke", "device": "cpu", "data_set": str(own)}
    if "noise" in given:
        given["noise"] = ["symmetric", str(own)]
    if "rates" in given:
        given["rates"] = [CLEAN]
    shown = []

    def record(kind):
        real = kind.__init__

        def initialise(self, *arguments, **settings):
            real(self, *arguments, **settings)
            shown.append(self.data)

        monkeypatch.setattr(kind, "__init__", initialise)

    record(Figure)
    record(Verdicts)
    run_cells(path, given)
    figures = [data for data in shown if isinstance(data, dict)]
    verdicts = [data for data in shown if isinstance(data, list)]
    assert figures and plt.get_fignums() == []
    texts = [figure["ours"] + figure["title"] for figure in figures]
    assert str(own.parent) not in str([texts, verdicts])
    if path.stem != "measure_your_model":
        assert "my_own.py" in str(verdicts)


def test_sizes_classes_and_formulas_are_those_of_your_own_images(own):
    source = data_sources.source_of(str(own))
    assert (source.shape, source.num_classes, source.sizes) == ((3, 9, 9), K, (68, 30))
    assert source.title == "my_own.py (your own file)" and data.load(str(own)).title == source.title
    specs = networks.plan_landscape("smoke", str(own))
    assert {(spec.data, spec.train_size, spec.test_size) for spec in specs} == {(str(own), 68, 30)}
    assert {spec.pool for spec in networks.plan_landscape("quick", str(own))} == {
        1
    }  # 9 pixels are no pairs
    # a quarter for validation, and no last batch of one image
    assert {
        (spec.train_size, spec.validation_size)
        for spec in zhou_networks.grid_runs("smoke", str(own))
    } == {(50, 17)}
    table = grid.landscape_table(runs.results(specs, "cpu"))
    part = table[table.p < 1]
    np.testing.assert_allclose(
        part.predicted, -part.a * np.log(part.p) - (1 - part.a) * np.log((1 - part.p) / (K - 1))
    )
    assert set(grid.learned(table).p) == {0.8, 1.0}  # 0.3 is below 1/3


def test_a_noise_of_your_own_is_trained_drawn_and_judged(own):
    specs = noise_networks.plan_noise("smoke", str(own), ["symmetric", str(own)])
    mine = [spec for spec in specs if spec.noise == str(own)]
    kept = CLEAN + (1 - CLEAN) / K  # class 0 stays always
    ways = {
        "none": (1.0, "uniform"),
        "mean field": (pytest.approx(kept), "uniform"),
        "posterior": (1.0, "posterior"),
    }
    expected = list(itertools.product(ways, range(4)))
    assert [(noise_networks.way_of(spec), spec.seed) for spec in mine] == expected
    assert all((spec.p, spec.smoothing) == ways[noise_networks.way_of(spec)] for spec in mine)
    found = runs.tensors(specs, "cpu")
    table = noise_tables.network_table(runs.results(specs, "cpu"), found)
    T = np.array([[1, 0.2, 0.2], [0, 0.8, 0], [0, 0, 0.8]])
    S = np.array([[1 / 1.4, 0, 0], [0.2 / 1.4, 1, 0], [0.2 / 1.4, 0, 1]])
    np.testing.assert_allclose(labels.noise_matrix(str(own), CLEAN, K), T)
    part = table[table.noise == str(own)].set_index("way")
    # of a clean class c: -sum_k T_kc log S_ck
    expected = -(np.log(1 / 1.4) + 2 * 0.2 * np.log(0.2 / 1.4)) / 3
    np.testing.assert_allclose(part.predicted["posterior"], expected)
    np.testing.assert_allclose(
        part.predicted["mean field"], label_noise.alpha_loss(labels.smoothing_matrix(kept, K), T)
    )
    entropy = {0: -np.log(1 / 1.4) / 1.4 - 2 * 0.2 / 1.4 * np.log(0.2 / 1.4), 1: 0.0, 2: 0.0}
    noisy = np.array([0, 0, 1, 2, 2])
    assert noise_networks.training_floor("posterior", T, noisy) == pytest.approx(
        np.mean([entropy[k] for k in noisy])
    )
    np.testing.assert_allclose(noise_networks.memorised_output("posterior", T), S)
    verdict = chen_5_beyond_uniform.decide_c13(table, "test_loss")
    assert [case.name for case in verdict.cases] == [
        f"my_own.py noise: posterior against {other} at a = 0.8"
        for other in ("mean field", "no smoothing")
    ]
    panel = chen_5_beyond_uniform.draw_general_noise(table).drawing.axes[-1]
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["symmetric", "my_own.py"]
    marks = {container.get_label(): container[0].get_xydata() for container in panel.containers}
    # on a logarithmic axis, the mean of the logarithms
    expected = np.exp(np.log(part.clean_train_loss["posterior"]).mean())
    assert marks["smoothing by S*"][:, 1] == pytest.approx([expected])
    means = table.groupby(["noise", "way"]).test_loss.mean()
    losses = noise_drawing.describe_losses(table)
    assert f"my_own.py: {means[str(own), 'none']:.2f} (no smoothing)" in losses
    alone = chen_5_beyond_uniform.decide_c13(table[table.noise == "symmetric"], "test_loss")
    assert not alone.cases and "noises tried that are not symmetric is 0" in alone.measured


def test_what_the_file_defines_enters_the_keys(own, tmp_path):
    file = tmp_path / "my_noise.py"
    file.write_text(
        "import numpy as np\n\n\ndef noise(a, K):\n"
        "    return a * np.eye(K) + (1 - a) / (K - 1) * (1 - np.eye(K))\n"
    )
    notebook = tmp_path / "one.ipynb"
    notebook.write_text("")
    spec = noise_networks.plan_noise("smoke", noise=[str(file)])[-1]
    store = runs.Store(tmp_path / "runs")
    jobs = [
        schedule.Job(notebook, {"noise": value}, ()) for value in (["pair", str(file)], str(file))
    ]
    before = {store.path(spec), *map(schedule.fingerprint, jobs)}
    text = file.read_text()
    file.write_text(text.replace("return a *", "return a**2 *").replace("(1 - a)", "(1 - a**2)"))
    changed = {store.path(spec), *map(schedule.fingerprint, jobs)}
    assert len(before | changed) == 6
    # a network depends on the matrix alone, a notebook on the file
    file.write_text(text + "\n")
    assert store.path(spec) in before
    assert not (before | changed) & {*map(schedule.fingerprint, jobs)}


def test_a_path_counts_from_the_working_directory(own, monkeypatch):
    monkeypatch.chdir(own.parent)
    assert data_sources.source_of("my_own.py").name == custom.resolve("my_own.py") == str(own)
    assert noise_networks.plan_noise(
        "smoke", "my_own.py", ["my_own.py"]
    ) == noise_networks.plan_noise("smoke", str(own), [str(own)])
    given = parameters.assign(
        ["data_set=my_own.py", 'noise=["pair", "my_own.py"]'],
        {"one": {"data_set": "", "noise": []}},
    )
    assert given == {"one": {"data_set": str(own), "noise": ["pair", str(own)]}}


# refusals

GOOD = """
x, y = np.zeros((6, 1, 8, 8), np.uint8), np.arange(6) % 3
test_x, test_y = np.zeros((3, 1, 8, 8), np.uint8), np.arange(3)
"""
IMAGES = {
    "nothing": ("None", "must return train_images, train_labels, test_images, test_labels"),
    "two arrays": ("x, y", "must return train_images, train_labels, test_images, test_labels"),
    "ragged": (
        "[[1], [1, 2]], y, test_x, test_y",
        "must return train_images, train_labels, test_images, test_labels",
    ),
    "shares": (
        "x / 255, y, test_x, test_y",
        "the training part has float64 of shape (6, 1, 8, 8), 0 to 0 as images",
    ),
    "too bright": (
        "x, y, test_x.astype(int) + 256, test_y",
        "the test part has int64 of shape (3, 1, 8, 8), 256 to 256 as images",
    ),
    "too dark": ("x - 1.0, y, test_x, test_y", "-1 to -1 as images"),
    "below 0": (
        "x.astype(int) - 1, y, test_x, test_y",
        "the training part has int64 of shape (6, 1, 8, 8), -1 to -1 as images",
    ),
    "no channel": ("x[:, 0], y, test_x, test_y", "the training part has uint8 of shape (6, 8, 8)"),
    "another size": (
        "x, y, test_x[..., :7], test_y",
        "the test part has uint8 of shape (3, 1, 8, 7)",
    ),
    "too few labels": ("x, y[:5], test_x, test_y", "int64 of shape (5,), 0 to 2 as labels"),
    "labels in words": ("x, y.astype(str), test_x, test_y", "<U21 of shape (6,) as labels"),
    "labels in shares": ("x, y / 2, test_x, test_y", "float64 of shape (6,), 0 to 1 as labels"),
    "labels from 1": ("x, y + 1, test_x, test_y + 1", "1 to 3 as labels"),
    "a class without images": ("x, 2 * y, test_x, test_y", "0 to 4 as labels"),
    "one class": ("x, 0 * y, test_x, 0 * test_y", "0 to 0 as labels"),
    "an unknown class": (
        "x, y, test_x, test_y + 1",
        "the test part has uint8 of shape (3, 1, 8, 8), 0 to 0 as images and int64 of shape",
    ),
    "no test images": (
        "x, y, test_x[:0], test_y[:0]",
        "the test part has uint8 of shape (0, 1, 8, 8) as images",
    ),
    "it fails": ("x[7]", "fails with IndexError: index 7 is out of bounds"),
    "its own draw": (
        "x + np.random.default_rng().integers(0, 9, x.shape), y, test_x, test_y",
        "returns other images at every call",
    ),
}
NOISES = {
    "fails": ("1 / 0", "noise() of {file} fails with ZeroDivisionError: division by zero."),
    "no matrix": ("[1.0]", "must be a square matrix"),
    "another size": ("np.eye(K + 1)", "must be a 10 x 10 matrix, not of shape (11, 11)"),
    "rows instead of columns": (
        "a * np.eye(K) + (1 - a) * np.eye(K)[:1]",
        "but column 0 sums to 2.8, while its rows sum to 1: transpose it.",
    ),
    "neither": ("a * np.eye(K)", "must sum to 1"),
    "below 0": ("2 * np.eye(K) - np.roll(np.eye(K), 1, 0)", "must be a probability, not -1.0"),
    "words": ("'none'", "not 'none'"),
    "moves nothing": ("np.eye(K)", "moves no label at a = 0.8"),
}


def refused(call, *words):
    with pytest.raises(UsageError) as caught:
        call()
    message = str(caught.value)
    assert not [word for word in words if word not in message], message
    assert "\n" not in message and message.endswith(".") and re.search(r"\w\.py", message)


@pytest.mark.parametrize("returned, words", IMAGES.values(), ids=IMAGES)
def test_images_that_do_not_do_are_refused_in_a_sentence(tmp_path, returned, words):
    file = tmp_path / "mine.py"
    file.write_text(f"import numpy as np\n\n{GOOD}\n\ndef images():\n    return {returned}\n")
    refused(lambda: networks.plan_landscape("smoke", str(file)), f"images() of {file}", words)


@pytest.mark.parametrize("returned, words", NOISES.values(), ids=NOISES)
def test_a_noise_that_does_not_do_is_refused_before_anything_is_trained(tmp_path, returned, words):
    file = tmp_path / "mine.py"
    file.write_text(f"import numpy as np\n\ndef noise(a, K):\n    return {returned}\n")
    refused(
        lambda: noise_networks.plan_noise("smoke", noise=[str(file)]),
        str(file),
        words.format(file=file),
    )


def test_a_file_that_is_missing_or_defines_nothing_is_refused_by_name(tmp_path):
    empty, missing = str(tmp_path / "empty.py"), str(tmp_path / "missing.py")
    (tmp_path / "empty.py").write_text("x = 1\n")
    for call in (
        lambda name: networks.plan_landscape("smoke", name),
        lambda name: zhou_networks.grid_runs("smoke", name),
        data.load,
    ):
        refused(
            lambda call=call: call(missing),
            f"the file {missing} cannot be read: No such file or directory",
        )
        refused(
            lambda call=call: call(empty), f"the file {empty} must define a function images(...)"
        )
    refused(
        lambda: noise_networks.plan_noise("smoke", noise=[missing]),
        f"the file {missing} cannot be read: No such file or directory",
    )
    refused(
        lambda: noise_networks.plan_noise("smoke", noise=[empty]),
        f"the file {empty} must define a function noise(...)",
    )
    refused(
        lambda: noise_networks.plan_noise("smoke", noise=["a/x.py", "b/x.py"]),
        "files under different names, got ['a/x.py', 'b/x.py']",
    )
    with pytest.raises(
        UsageError,
        match=r"there is no noise 'pears': there are symmetric, pair, block, mixed, or a file\.",
    ):
        noise_networks.plan_noise("smoke", noise=["pears"])
    with pytest.raises(
        UsageError, match=r"must name noises, files under different names, got \[\['pair'\]\]\."
    ):
        noise_networks.plan_noise("smoke", noise=[["pair"]])
    for noise in ("pair", None, 3):
        with pytest.raises(UsageError, match="noise must be a list"):
            noise_networks.plan_noise("smoke", noise=noise)


def test_the_noises_that_a_few_classes_do_not_have_are_named(own):
    with pytest.raises(
        UsageError,
        match=r"^Block noise needs at least 4 classes, .*, not 3: name other noises\.$",
    ):
        noise_networks.plan_noise("smoke", str(own))
