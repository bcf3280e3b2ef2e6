"""Labels from files of NumPy and torch: read as they are, with nothing executed."""

import collections
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import one_sentence

from lsnc_core import label_files
from lsnc_core.errors import UsageError

LABELS = np.arange(12) % 10


class Evil:
    """What touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(name):
    assert label_files.is_label_file(name)
    return label_files.read(name)


def save(name, content, **settings):
    """A file of torch, or an archive or an array of NumPy's, by the ending."""
    if name.endswith((".pt", ".pth")):
        torch.save(content, name, **settings)
    elif name.endswith(".npz"):
        np.savez(name, **content)
    else:
        np.save(name, content)


GOOD = {
    "archive": ("a.npz", ":x", {"x": LABELS, "y": LABELS[::-1]}),
    "one of an archive": ("a.npz", "", {"x": LABELS}),
    "bytes": ("a.npz", ":x", {"x": LABELS.astype(np.uint8)}),
    "array": ("a.npy", "", LABELS.astype(np.int8)),
    "big end first": ("a.npy", "", LABELS.astype(">i4")),
    "tensor": ("a.pt", "", torch.tensor(LABELS)),
    "array of torch": ("a.pt", "", LABELS),
    "mapping of arrays": ("a.pt", ":x", {"x": LABELS, "y": LABELS[::-1], "title": "human"}),
    "mapping of bytes": ("a.pth", ":x", {"x": LABELS.astype(np.uint8), "note": [1, None]}),
    "mapping of tensors": ("a.pt", ":x", collections.OrderedDict(x=torch.tensor(LABELS).short())),
    "big end first of torch": ("a.pt", ":x", {"x": LABELS.astype(">i2")}),
    "a part of an array": ("a.pt", ":x", {"x": np.stack([LABELS, LABELS])[1]}),
    "one beside texts": ("a.pt", "", {"labels": LABELS, "title": "human"}),
    "numbers as names": ("a.pt", ":1", {0: LABELS[::-1], 1: LABELS}),
    "a path with colons and braces": ("a:b {c}.npz", ":x", {"x": LABELS}),
    "a name with an ending": ("a.npz", ":x.npy", {"x.npy": LABELS}),
    "a folder with an ending": ("d.npz/a.npy", "", LABELS),
}


@pytest.mark.parametrize("file, name, content", GOOD.values(), ids=GOOD)
def test_plain_labels_are_read(folder, file, name, content):
    (folder / file).parent.mkdir(exist_ok=True)
    save(file, content)
    labels = read(f"{file}{name}")
    assert labels.dtype == np.int64 and labels.tolist() == LABELS.tolist()
    assert read(f"{folder}/{file}{name}").tolist() == LABELS.tolist()


def test_files_of_an_older_torch_and_of_numpy_1_are_read(folder):
    save("old.pt", {"x": LABELS}, _use_new_zipfile_serialization=False)
    assert read("old.pt:x").tolist() == LABELS.tolist()
    # under numpy 1 the module had no underscore, and CIFAR-10N's file was written then
    content = (folder / "old.pt").read_bytes()
    assert content.count(b"numpy._core.multiarray") == 1
    (folder / "older.pt").write_bytes(
        content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    )
    assert read("older.pt:x").tolist() == LABELS.tolist()


BAD = {
    "unknown name": ("a.npz", ":z", {"x": LABELS, "y": LABELS}, "no array 'z': the names are x, y"),
    "no name": ("a.npz", "", {"x": LABELS, "y": LABELS}, "name one as a.npz:NAME: x, y"),
    "unknown name of torch": ("a.pt", ":z", {"x": LABELS, "y": "z"}, "the names are x"),
    "name of an array": ("a.npy", ":x", LABELS, "one array without a name: leave out :x"),
    "name of a tensor": ("a.pt", ":x", torch.tensor(LABELS), "leave out :x"),
    "no array": ("a.pt", ":x", {"x": [1, 2]}, "no array or tensor"),
    "whole floats": ("a.npy", "", LABELS.astype(float), "integers (N,), one for each"),
    "floats": ("a.pt", ":x", {"x": torch.tensor([0.5])}, "not float32 of shape (1,)"),
    "truth values": ("a.npy", "", LABELS > 5, "not bool of shape (12,)"),
    "words": ("a.npy", "", LABELS.astype(str), "not <U21 of shape (12,)"),
    "one-hot": ("a.npy", "", np.eye(3, dtype=int), "not int64 of shape (3, 3)"),
    "nothing": ("a.npy", "", LABELS[:0], "not int64 of shape (0,)"),
    "one number": ("a.npy", "", np.array(5), "not int64 of shape ()"),
    "a network": ("a.pt", ":x", torch.nn.Linear(2, 2), "it holds pickled objects"),
    "brain floats": ("a.pt", "", torch.zeros(3, dtype=torch.bfloat16), "cannot be read as labels"),
    "sparse": ("a.pt", "", torch.tensor(LABELS).to_sparse(), "cannot be read as labels"),
}


@pytest.mark.parametrize("file, name, content, words", BAD.values(), ids=BAD)
def test_other_contents_are_refused_in_a_sentence(folder, file, name, content, words):
    save(file, content)
    with pytest.raises(UsageError) as caught:
        read(f"{file}{name}")
    assert words in str(caught.value) and one_sentence(caught.value)
    assert file in str(caught.value)


def test_damaged_and_missing_files_are_refused_in_a_sentence(folder):
    for file in ("a.npz", "a.npy", "a.pt"):
        save(file, {"x": LABELS} if file != "a.npy" else LABELS)
        whole = (folder / file).read_bytes()
        for damage in (b"", b"nothing", whole[: len(whole) // 2]):
            (folder / file).write_bytes(damage)
            with pytest.raises(UsageError, match="cannot be read as labels") as caught:
                read(file)
            assert one_sentence(caught.value) and str(folder / file) in str(caught.value)
    (folder / "folder.npy").mkdir()
    for name, words in (("no.npz:x", "No such file"), ("folder.npy", "Is a directory")):
        with pytest.raises(UsageError, match=f"cannot be read: {words}") as caught:
            read(name)
        assert one_sentence(caught.value)


def test_nothing_in_a_file_is_executed(folder):
    trap, evil = folder / "executed", Evil(folder / "executed")
    allowed = set(torch.serialization.get_safe_globals())  # torch lists them in any order
    objects = np.array([evil, 1], dtype=object)
    np.save("o.npy", objects, allow_pickle=True)
    np.savez("o.npz", x=LABELS, o=objects)
    torch.save({"x": evil}, "e.pt")
    torch.save({"x": objects}, "o.pt")
    torch.save({"x": LABELS, "more": evil}, "beside.pt")
    (folder / "p.pt").write_bytes(pickle.dumps({"x": evil}))
    (folder / "p.npy").write_bytes(pickle.dumps({"x": evil}))
    for name in ("o.npy", "o.npz:o", "e.pt:x", "o.pt:x", "beside.pt:x", "p.pt:x", "p.npy"):
        with pytest.raises(UsageError, match="nothing in it is executed") as caught:
            read(name)
        assert one_sentence(caught.value)
        assert "holds pickled objects" in str(caught.value) or name.startswith("p.")
        assert not trap.exists()
    assert read("o.npz:x").tolist() == LABELS.tolist()
    assert set(torch.serialization.get_safe_globals()) == allowed
    # the trap works
    pickle.loads(pickle.dumps(evil))
    assert trap.exists()


def test_numpy_s_own_classes_see_nothing_of_a_file_of_torch(folder, monkeypatch):
    """A state of theirs that is no array would be theirs to interpret."""

    class State:
        def __reduce__(self):
            return np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), self.state

    for state in (
        (1, (4,), np.dtype("O"), False, [1, 2, 3, 4]),
        (1, (4,), np.dtype([("a", "i4")]), False, b"0" * 16),
        (1, (2**40,), np.dtype("i8"), False, b"0" * 8),
        (1, (-1,), np.dtype("i8"), False, b"0" * 9),
        (1, (1,), "i8", False, b"0" * 8),
        (1, 2),
        "text",
    ):
        one = State()
        one.state = state
        torch.save({"x": one}, "odd.pt")
        with pytest.raises(UsageError, match="cannot be read as labels") as caught:
            read("odd.pt:x")
        assert one_sentence(caught.value)


def test_what_is_the_name_of_labels_and_where_they_lie(folder, monkeypatch):
    for name in (
        "pair",
        "noise.py",
        "labels.csv",
        "labels.npz:",
        ".npz",
        "npz",
        None,
        3,
        ["a.npz"],
    ):
        assert not label_files.is_label_file(name)
    (folder / "here.npz").touch()
    assert label_files.resolve("here.npz:x") == f"{folder}/here.npz:x"
    assert label_files.resolve("here.npz") == f"{folder}/here.npz"
    assert label_files.resolve("gone.pt:x") == f"{folder}/gone.pt:x"
    monkeypatch.setattr(label_files.files, "PROJECT", folder)
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert label_files.resolve("here.npz:x") == f"{folder}/here.npz:x"
    assert label_files.split("~/a.npz:x") == (Path.home() / "a.npz", "x")
