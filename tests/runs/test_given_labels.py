"""Noisy labels from a file, in training: in the order of the images, in the key, refused where they
do not fit.
"""

import collections
import warnings

import numpy as np
import pytest
import torch
from helpers import a_spec, one_sentence

from lsnc_core import data, label_files
from lsnc_core.errors import UsageError
from lsnc_core.runs import execute, key, prepare, store, task

pytestmark = pytest.mark.usefixtures("own_outputs")
K, N = 10, 1200


@pytest.fixture(scope="module")
def classes():
    """The classes of the digits' training images in the order of scikit-learn, int64 (N,)."""
    from sklearn.datasets import load_digits

    seen, chosen = collections.Counter(), []
    for target in load_digits().target.tolist():
        seen[target] += 1
        if seen[target] <= 120:  # of each class the first are for training
            chosen.append(target)
    return np.array(chosen)


@pytest.fixture
def human(classes, tmp_path):
    """Labels of which 300 are those of the next class, in a file, and its name."""
    moved = np.random.default_rng(0).permutation(N)[:300]
    labels = classes.copy()
    labels[moved] = (labels[moved] + 1) % K
    np.savez(tmp_path / "labels.npz", human=labels, clean=classes)
    return labels, f"{tmp_path}/labels.npz:human"


def from_file(name, **changes):
    return a_spec(noise=name, a=1.0, **changes)


def test_labels_are_in_the_order_of_the_set_s_files(classes, human):
    labels, name = human
    digits = data.load("digits")
    given = data.given_labels(name, "digits")
    assert given.rate == pytest.approx(300 / N) and given.labels.dtype == torch.int64
    clean = data.given_labels(name.replace("human", "clean"), "digits")
    assert clean.rate == 0 and torch.equal(clean.labels, digits.train_labels)
    assert (clean.matrix == np.eye(K)).all()
    for i, j in np.ndindex(K, K):
        assert given.matrix[i, j] == pytest.approx(((labels == i) & (classes == j)).sum() / 120)
    np.testing.assert_allclose(given.matrix.sum(0), 1, atol=1e-15)
    # image by image
    assert torch.equal(given.labels, torch.from_numpy(labels)[digits.train_order])
    assert torch.equal(digits.subset(7, 5).train_order, digits.train_order[:7])


def test_networks_train_on_the_labels_of_the_file(shelf, human):
    labels, name = human
    wide = {"widths": (128,), "train_size": 100, "p": 1.0, "lr": 0.1}
    spec = from_file(name, **wide, epochs=100, evaluate_at=(100,))
    row = execute.results([spec], "cpu", shelf).iloc[0]
    order = data.load("digits").train_order[:100].numpy()
    clean = data.load("digits").train_labels[:100]
    noisy = labels[order]
    assert row.kept == pytest.approx((noisy == clean.numpy()).mean())
    assert 0.6 < row.kept < 0.9
    # memorised, so against the classes as good as the labels are
    logits = execute.tensors([spec], "cpu", shelf)[spec][-1]["train_logits"]
    memorised = (logits.argmax(1) == noisy).mean()
    assert row.train_accuracy == pytest.approx(memorised) and memorised > 0.95
    assert row.clean_train_accuracy == pytest.approx(row.kept, abs=0.05)
    # the labels are the same for every seed
    for seed in range(3):
        drawn = prepare.noisy_labels(from_file(name, seed=seed), clean, K)
        assert drawn.tolist() == noisy.tolist()


def test_targets_follow_from_the_file_s_own_matrix(human):
    _, name = human
    T = data.given_labels(name, "digits").matrix
    noisy = torch.arange(K)
    forward = prepare.targets(from_file(name, loss="forward"), noisy, K)
    np.testing.assert_allclose(forward, T, rtol=1e-6)
    posterior = prepare.targets(from_file(name, smoothing="posterior", p=1.0), noisy, K)
    np.testing.assert_allclose(posterior, T / T.sum(1, keepdims=True), rtol=1e-6)
    uniform = prepare.targets(from_file(name, p=0.82), noisy, K)
    np.testing.assert_allclose(uniform, np.full((K, K), 0.02) + 0.8 * np.eye(K), rtol=1e-5)


def test_files_of_other_kinds_train_to_the_same_bits(shelf, human, tmp_path):
    labels, name = human
    np.save(tmp_path / "labels.npy", labels.astype(np.uint8))
    torch.save({"human": labels}, tmp_path / "labels.pt")
    names = [name, f"{tmp_path}/labels.npy", f"{tmp_path}/labels.pt:human"]
    table = execute.results([from_file(each) for each in names], "cpu", shelf)
    assert table.groupby("epoch").train_loss.nunique().tolist() == [1, 1]
    assert len({shelf.path(from_file(each)) for each in names}) == 3


def test_clean_labels_in_a_file_are_no_noise(shelf, human):
    _, name = human
    given = execute.results([from_file(name.replace("human", "clean"))], "cpu", shelf)
    plain = execute.results([a_spec(a=1.0)], "cpu", shelf)
    assert given.train_loss.tolist() == plain.train_loss.tolist() and set(given.kept) == {1.0}


def test_the_labels_are_part_of_the_key(shelf, human, classes, tmp_path):
    labels, name = human
    spec = from_file(name)
    first = execute.results([spec], "cpu", shelf)
    before = shelf.path(spec)
    # the same labels, packed in another way
    np.savez_compressed(tmp_path / "labels.npz", human=labels.astype(np.uint8), more=classes)
    assert shelf.path(spec) == before and shelf.get(spec) is not None
    labels[5] = (labels[5] + 3) % K
    np.savez(tmp_path / "labels.npz", human=labels)
    assert shelf.path(spec) != before
    assert shelf.why_missing(spec) == "noise changed since it was trained"
    again = execute.results([spec], "cpu", shelf)
    assert first.train_loss.tolist() != again.train_loss.tolist()
    assert key.noise_of_labels(name, "digits") == shelf.context(spec)["noise"]


def test_a_file_that_changes_while_networks_train_keeps_nothing(shelf, human, monkeypatch):
    labels, name = human

    def change(*arguments):
        changed = np.r_[(labels[:50] + 1) % K, labels[50:]]
        np.savez(label_files.split(name)[0], human=changed)
        return trained(*arguments)

    trained = task._train_together
    monkeypatch.setattr(task, "_train_together", change)
    with pytest.raises(UsageError, match="was changed while networks were trained"):
        execute.results([from_file(name)], "cpu", shelf)
    assert not list(shelf.folder.glob("*.parquet"))


def test_processes_of_their_own_train_as_one(shelf, human, tmp_path, monkeypatch):
    _, name = human
    specs = [from_file(name), from_file(name, widths=(9,))]
    monkeypatch.setattr(execute, "SOON", 0)
    apart = execute.results(specs, "cpu", shelf)
    monkeypatch.setattr(execute, "SOON", float("inf"))
    here = execute.results(specs, "cpu", store.Store(tmp_path / "here"))
    assert apart.train_loss.tolist() == here.train_loss.tolist()


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda labels: labels[:-1], "holds 1,199 labels, but digits has 1,200 training images"),
        (lambda labels: labels + 1, r"must lie in 0\.\.9, as digits has 10 classes, but number"),
        (lambda labels: labels - 1, "is -1"),
        (lambda labels: labels.astype(float), "must be integers"),
    ],
    ids=["one less", "from 1", "from -1", "floats"],
)
def test_labels_that_do_not_fit_are_refused_before_training(shelf, human, change, words):
    labels, name = human
    np.savez(label_files.split(name)[0], human=change(labels))
    with pytest.raises(UsageError, match=words) as caught:
        execute.results([from_file(name)], "cpu", shelf)
    assert one_sentence(caught.value) and name in str(caught.value)


def test_labels_in_another_order_are_noticed(human):
    labels, name = human
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.given_labels(name, "digits")
    np.savez(label_files.split(name)[0], human=np.random.default_rng(0).permutation(labels))
    with pytest.warns(UserWarning, match="no more than by chance: are they in the order"):
        data.given_labels(name, "digits")


def test_the_file_decides_the_clean_rate():
    with pytest.raises(UsageError, match="a must be 1 where the labels come from a file") as caught:
        a_spec(noise="labels.npz:human", a=0.8)
    assert one_sentence(caught.value) and "0.8" in str(caught.value)
    assert a_spec(noise="labels.npz:human", a=1).a == 1.0
    with pytest.raises(UsageError, match=r"noise must be one of symmetric.*or labels in \.npz"):
        a_spec(noise="labels.csv", a=1.0)


def test_own_images_have_their_labels_in_the_order_of_their_arrays(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n\n\ndef images():\n"
        "    y = np.array(8 * [2, 2, 0, 1, 1, 0, 2])\n"
        "    x = np.zeros((56, 1, 8, 8), int) + 4 * np.arange(56).reshape(56, 1, 1, 1)\n"
        "    return x, y, x, y\n"
    )
    labels = np.array(8 * [2, 0, 0, 1, 1, 0, 2])
    np.save(tmp_path / "labels.npy", labels)
    given = data.given_labels(f"{tmp_path}/labels.npy", str(tmp_path / "mine.py"))
    images = data.load(str(tmp_path / "mine.py"))
    position = images.train_images[:, 0, 0, 0].long() // 4  # in the arrays
    assert torch.equal(given.labels, torch.from_numpy(labels)[position])
    assert given.rate == pytest.approx(1 / 7) and given.matrix[0, 2] == pytest.approx(1 / 3)
