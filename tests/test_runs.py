"""Specs, the store and execution: what is refused, what survives on disk to the last bit, what is
trained and what is not.
"""

import ast
import contextlib
import dataclasses
import errno
import json
import math
import multiprocessing
import os
import pickle
import random
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from lsnc_core import data, files, profiles
from lsnc_core.errors import UsageError
from lsnc_core.runs import execute, fleet, prepare, store
from lsnc_core.runs.spec import RunSpec, digest

SPEC = RunSpec(
    data="digits",
    train_size=40,
    test_size=40,
    pool=1,
    model="mlp",
    widths=(8,),
    a=0.7,
    p=0.8,
    lr=0.05,
    momentum=0.9,
    weight_decay=0.0,
    batch=20,
    epochs=3,
    evaluate_at=(1, 3),
    seed=0,
    order_seed=0,
)
HISTORY = [
    {"epoch": 1, "kept": 0.1 + 0.2, "test_loss": math.pi, "train_loss": math.inf},
    {"epoch": 3, "kept": 5e-324, "test_loss": math.nan, "train_loss": -0.0},
]
TENSORS = [
    {"weight": np.arange(6, dtype=np.float32).reshape(2, 3) / 7},
    {
        "weight": np.full((2, 3), math.nan, dtype=np.float32),
        "counts": np.array([2**40, -1]),
        "logits": np.full((1, 1), 1 / 3),
    },
]
MADE = {"device": "cpu", "seconds": 1.5, "finished": "2026-01-01T00:00:00+00:00"}
PROVENANCE = ["seconds", "finished"]  # what may differ when the same thing is trained twice


def like(**changes):
    return dataclasses.replace(SPEC, **changes)


@pytest.fixture(scope="module", autouse=True)
def own_outputs(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSNC_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        data.load(
            "digits"
        )  # writes the cache, so that training processes need not parse the set again
        yield


@pytest.fixture
def shelf(tmp_path):
    return store.Store(tmp_path / "runs")


@pytest.fixture
def no_training(monkeypatch):
    def refuse(*arguments, **settings):
        raise AssertionError("something was trained")

    monkeypatch.setattr(fleet, "train", refuse)


def bits(history):
    """Names, and numbers to the last bit: NaN equals NaN, 0.0 is not -0.0, 1 is not 1.0."""
    return [
        {name: (type(value), struct.pack("<d", value)) for name, value in row.items()}
        for row in history
    ]


def one_sentence(error):
    return "\n" not in str(error) and str(error).endswith(".")


# specs


@pytest.mark.parametrize(
    "field, value",
    [
        ("data", 3), ("data", None), ("train_size", 40.0), ("train_size", 0), ("train_size", True), ("train_size", "40"),
        ("test_size", -1),
        ("pool", 0), ("pool", 1.5), ("model", "resnet"), ("model", 1), ("widths", [8]), ("widths", ()), ("widths", (8.0,)),
        ("widths", (0,)), ("widths", 8), ("a", 1.01), ("a", -0.01), ("a", math.nan), ("a", "0.5"), ("a", True), ("a", 10**400),

        ("p", 1.5), ("p", -1e-9), ("p", math.nan), ("p", None), ("lr", 0.0), ("lr", -0.1), ("lr", math.inf), ("lr", math.nan),
        ("lr", "fast"),
        ("momentum", 1.0), ("momentum", -0.1), ("momentum", math.nan), ("weight_decay", -1e-9), ("weight_decay", math.inf),
        ("weight_decay", math.nan), ("batch", 0), ("batch", 2.0), ("epochs", 0), ("epochs", False), ("evaluate_at", (3, 1)),
        ("evaluate_at", (1, 1, 3)), ("evaluate_at", (1, 2)), ("evaluate_at", (1, 4)), ("evaluate_at", ()), ("evaluate_at", [1, 3]),
        ("evaluate_at", (0, 3)), ("seed", -1), ("seed", 0.0), ("seed", True), ("order_seed", -3), ("order_seed", "a"),
        ("loss", "hinge"), ("loss", 1), ("precision", "float16"), ("precision", None),
        ("noise", "salt"), ("smoothing", "none"), ("schedule", "linear"), ("lr_steps", (2, 1)), ("lr_steps", (2,)), ("lr_steps", [2]),
        ("lr_factor", 0.0), ("lr_factor", math.nan), ("clip", -1.0), ("clip", math.inf), ("augment", "flip"), ("batch_norm", 1),
        ("feature_norm", "yes"), ("lambda_W", -1e-3), ("lambda_b", math.nan), ("lambda_H", math.inf), ("validation_size", -1),
        ("validation_size", 1.5), ("keep_at", (2,)), ("keep_at", (1, 4)), ("keep_at", [1]),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_refused_with_its_name_and_value(field, value):
    with pytest.raises(UsageError) as caught:
        like(**{field: value})
    assert one_sentence(caught.value)
    assert str(caught.value).startswith(f"{field} must be ") and str(caught.value).endswith(
        f"got {value!r}."
    )


def test_every_setting_has_a_test_of_its_refusal():
    marks = test_a_wrong_setting_is_refused_with_its_name_and_value.pytestmark
    assert {field for field, _ in marks[0].args[1]} == {
        field.name for field in dataclasses.fields(RunSpec)
    }


def test_a_cnn_needs_three_widths():
    with pytest.raises(UsageError, match=r"widths must be .* for the CNNs, got \(8,\)\."):
        like(model="cnn")
    assert like(model="cnn", widths=(1, 2, 3)).widths == (1, 2, 3)


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"smoothing": "posterior"}, "p must be 1 where the smoothing is the posterior, got 0.8."),
        ({"schedule": "steps"}, "lr_steps must be epochs for the schedule"),
        (
            {"model": "resnet18", "widths": (2,), "batch_norm": True},
            "batch_norm must be False but for the CNN and the MLP, got True.",
        ),
        (
            {"model": "resnet50"} | {"widths": (8, 9)},
            r"widths must be \(first width,\) for the ResNets, got \(8, 9\).",
        ),
        ({"loss": "my_loss.txt"}, "loss must be one of ce, focal"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, sentence):
    with pytest.raises(UsageError, match=sentence) as caught:
        like(**settings)
    assert one_sentence(caught.value)


LOSS_FILE = "def loss(logits, targets):\n    return (targets * (targets.clamp(min=1e-9).log() - logits.log_softmax(-1))).sum(-1)\n"
NOISE_FILE = "import numpy as np\n\ndef noise(a, K):\n    return a * np.eye(K) + (1 - a) * np.roll(np.eye(K), 2, 0)\n"
IMAGES_FILE = """import numpy as np

def images():
    draws = np.random.default_rng(0)
    labels = np.arange(80) % 3
    pictures = draws.integers(0, 99, (80, 1, 8, 8)) + 50 * labels[:, None, None, None]
    return pictures[:60], labels[:60], pictures[60:], labels[60:]
"""


def test_a_readers_own_loss_noise_and_images_train_and_enter_the_key(shelf, tmp_path):
    paths = {name: tmp_path / f"{name}.py" for name in ("loss", "noise", "data")}
    for path, text in zip(paths.values(), (LOSS_FILE, NOISE_FILE, IMAGES_FILE), strict=True):
        path.write_text(text)
    own = {name: str(path) for name, path in paths.items()}
    # the divergence from the targets is the cross-entropy less their entropy: the same gradient,
    # another number
    spec = like(loss=own["loss"], test_size=20)
    reference = like(test_size=20)
    table = execute.results([spec, reference], "cpu", shelf)
    ours, theirs = (table[table.loss == loss] for loss in (own["loss"], "ce"))
    entropy = -(0.8 * math.log(0.8) + 0.2 * math.log(0.2 / 9))
    assert ours.train_loss.tolist() == pytest.approx(
        (theirs.train_loss - entropy).tolist(), rel=1e-3, abs=1e-4
    )
    everything = like(**own, train_size=50, test_size=20)
    assert execute.results([everything], "cpu", shelf).train_accuracy.iloc[-1] > 0.3
    noisy = prepare.noisy_labels(like(noise=own["noise"], a=0.0), torch.tensor([0, 5, 9]), 10)
    assert noisy.tolist() == [2, 7, 1]
    before = shelf.path(spec)
    paths["loss"].write_text(LOSS_FILE + "# another byte\n")
    assert (
        shelf.path(spec) != before
        and shelf.why_missing(spec) == "loss changed since it was trained"
    )
    assert shelf.path(reference) == shelf.path(reference)


@pytest.mark.parametrize(
    "name, text, sentence",
    [
        ("loss", "x = 1\n", r"must define a function loss\(\.\.\.\)"),
        ("loss", "1 / 0\n", "fails with ZeroDivisionError: division by zero"),
        ("noise", "def noise(a, K):\n    return [[1.0]]\n", "must be a square matrix"),
        ("data", "def images():\n    return 1, 2\n", "must return train_images"),
        (
            "data",
            "import numpy as np\ndef images():\n    return (np.zeros((4, 8, 8)), [0, 1, 0, 1]) * 2\n",
            "wanted are uint8 images",
        ),
    ],
)
def test_a_readers_file_that_does_not_do_is_refused_in_a_sentence(
    shelf, tmp_path, name, text, sentence
):
    (tmp_path / "own.py").write_text(text)
    with pytest.raises(UsageError, match=sentence) as caught:
        execute.results([like(**{name: str(tmp_path / "own.py")})], "cpu", shelf)
    assert one_sentence(caught.value) and "own.py" in str(caught.value)
    with pytest.raises(UsageError, match=r"missing\.py cannot be read: No such file"):
        execute.results([like(**{name: str(tmp_path / "missing.py")})], "cpu", shelf)


def test_whole_numbers_are_taken_for_floats_and_equal_specs_are_one():
    spec = like(a=1, p=0, lr=1, momentum=0, weight_decay=-0.0)
    assert [type(getattr(spec, name)) for name in ("a", "p", "lr", "momentum", "weight_decay")] == [
        float
    ] * 5
    same = like(a=1.0, p=-0.0, lr=1.0, momentum=0.0)
    assert (
        spec == same
        and hash(spec) == hash(same)
        and digest(spec.to_dict()) == digest(same.to_dict())
    )
    assert spec != like(a=1, p=0, lr=1, momentum=0, seed=1) and len({spec, same, SPEC}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.a = 0.5


def test_a_spec_survives_json():
    spec = like(a=0.1 + 0.2, p=1 / 3, widths=(8, 9), seed=2**40)
    back = RunSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert back == spec and hash(back) == hash(spec) and back.to_dict() == spec.to_dict()
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_unknown_and_missing_settings_are_named():
    values = SPEC.to_dict()
    with pytest.raises(
        UsageError,
        match="unknown run setting learning_rate, wd; the settings are data, train_size,",
    ) as caught:
        RunSpec.from_dict(values | {"learning_rate": 0.1, "wd": 0})
    assert one_sentence(caught.value)
    del values["p"], values["lr"]
    with pytest.raises(UsageError, match="missing run setting lr, p;"):
        RunSpec.from_dict(values)


def test_company_sets_aside_what_may_differ_per_replica_only():
    assert (
        like(
            a=0.1, p=0.2, seed=7, lr=0.3, weight_decay=0.1, loss="mse", noise="pair", lambda_H=0.1
        ).company
        == SPEC.company
    )
    aside = {"a": 1.0, "p": 1.0, "seed": 0, "lr": 1.0, "weight_decay": 0.0, "loss": "ce"}
    assert SPEC.company.to_dict() == SPEC.to_dict() | aside
    others = [
        {"momentum": 0.1},
        {"order_seed": 1},
        {"epochs": 4, "evaluate_at": (4,)},
        {"train_size": 50},
        {"widths": (9,)},
        {"pool": 2},
        {"precision": "bfloat16"},
    ]
    assert all(like(**other).company != SPEC.company for other in others)


def test_digest_is_the_same_in_every_process_and_tells_every_setting_apart():
    code = "import json, sys; from lsnc_core.runs.spec import RunSpec, digest; "
    code += "print(digest(RunSpec.from_dict(json.load(sys.stdin)).to_dict()))"
    found = set()
    for hash_seed in ("0", "12345"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        text = json.dumps(SPEC.to_dict())
        found.add(
            subprocess.run(
                [sys.executable, "-c", code],
                input=text,
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
    assert found == {digest(SPEC.to_dict()) + "\n"}
    changed = {"data": "mnist", "train_size": 41, "test_size": 41, "pool": 2, "model": "cnn", "widths": (8, 9, 1), "a": 0.7 + 1e-16,
               "p": math.nextafter(0.8, 1), "lr": 0.06, "momentum": 0.8, "weight_decay": 1e-300, "batch": 21, "epochs": 4,
               "evaluate_at": (2, 3), "seed": 1, "order_seed": 1, "loss": "mse", "precision": "bfloat16",
               "noise": "pair", "smoothing": "posterior", "schedule": "steps", "lr_steps": (1,), "lr_factor": 0.2, "clip": 1.0,
               "augment": "crop-flip", "batch_norm": True, "feature_norm": True, "lambda_W": 0.1, "lambda_b": 0.1, "lambda_H": 0.1,
               "validation_size": 1, "keep_at": (1,)}  # fmt: skip
    assert changed.keys() == SPEC.to_dict().keys()
    assert (
        len(
            {digest(SPEC.to_dict() | {name: value}) for name, value in changed.items()}
            | {digest(SPEC.to_dict())}
        )
        == len(changed) + 1
    )
    with pytest.raises(ValueError):
        digest({"a": math.nan})


# the store


def test_what_is_stored_comes_back_to_the_last_bit(shelf):
    assert shelf.get(SPEC) is None
    shelf.put(SPEC, HISTORY, MADE)
    for reader in (shelf, store.Store(shelf.folder)):
        history, meta = reader.get(SPEC)
        assert bits(history) == bits(HISTORY)
        assert RunSpec.from_dict(meta["spec"]) == SPEC and meta["context"] == shelf.context(SPEC)
        assert {name: meta["provenance"][name] for name in MADE} == MADE
        assert meta["provenance"]["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert pq.read_table(shelf.path(SPEC)).column_names == [
        "epoch",
        "kept",
        "test_loss",
        "train_loss",
    ]  # any tool can read it
    assert [path.name for path in shelf.folder.iterdir()] == [shelf.path(SPEC).name]
    shelf.put(SPEC, HISTORY[:1], MADE)
    assert bits(shelf.get(SPEC)[0]) == bits(HISTORY[:1])
    assert shelf.get(like(seed=1)) is None


def arrays(rows):
    """Types, shapes and bits of arrays by name."""
    return [
        {name: (value.dtype.str, value.shape, value.tobytes()) for name, value in row.items()}
        for row in rows
    ]


def test_tensors_come_back_to_the_last_bit_and_stay_out_of_the_history(shelf):
    shelf.put(SPEC, HISTORY, MADE, TENSORS)
    assert arrays(shelf.tensors(SPEC)) == arrays(TENSORS) and bits(shelf.get(SPEC)[0]) == bits(
        HISTORY
    )
    assert shelf.tensors(like(seed=1)) is None
    shelf.put(SPEC, HISTORY, MADE)
    assert shelf.tensors(SPEC) == [{}, {}]


def test_a_damaged_tensor_is_set_aside_when_it_is_read_and_found_by_verify(shelf, capsys):
    shelf.put(SPEC, HISTORY, MADE, TENSORS)
    path = shelf.path(SPEC)
    content = path.read_bytes()
    third = struct.pack("<d", 1 / 3)
    assert content.count(third) >= 1
    path.write_bytes(content.replace(third, struct.pack("<d", 1 / 7)))
    assert bits(shelf.get(SPEC)[0]) == bits(HISTORY)  # the numbers are whole
    assert [state for _, state, _ in shelf.entries()] == [store.DAMAGED]
    assert shelf.tensors(SPEC) is None and "is damaged: it is set aside" in capsys.readouterr().err
    assert not path.exists() and path.with_suffix(".damaged").exists()


def test_tensors_are_trained_where_missing_and_again_where_damaged(shelf, monkeypatch):
    specs = [SPEC, like(seed=1)]
    first = execute.tensors(specs, "cpu", shelf)
    assert list(first) == specs
    for spec, rows in first.items():
        assert [
            set(row) >= {"weight", "bias", "train_means", "test_projected"} for row in rows
        ] == [True, True]
        assert "test_logits" not in rows[0] and rows[1]["test_logits"].shape == (spec.test_size, 10)
    content = shelf.path(SPEC).read_bytes()
    weight = first[SPEC][1]["weight"].tobytes()
    at = content.index(weight)
    shelf.path(SPEC).write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    again = execute.tensors(specs, "cpu", shelf)
    assert all(arrays(again[spec]) == arrays(first[spec]) for spec in specs)
    monkeypatch.setattr(fleet, "train", None)
    assert arrays(execute.tensors([SPEC], "cpu", shelf)[SPEC]) == arrays(first[SPEC])


def test_the_file_name_depends_on_the_spec_and_on_all_of_its_context(shelf, monkeypatch):
    name = shelf.path(SPEC).name
    assert store.Store(shelf.folder).path(like()).name == name
    assert shelf.path(like(p=math.nextafter(0.8, 1))).name.split("-")[0] != name.split("-")[0]
    context = shelf.context(SPEC)
    assert context == {
        "data": data.load("digits").checksum,
        "code": store.code_fingerprint(),
        "schema": store.SCHEMA,
    }
    names = {name}
    for part in context:
        monkeypatch.setattr(shelf, "context", lambda spec, part=part: context | {part: "other"})
        names.add(shelf.path(SPEC).name)
    assert len(names) == 4 and len({name.split("-")[0] for name in names}) == 1


def test_why_missing(shelf, monkeypatch):
    assert shelf.why_missing(SPEC) == "never trained"
    shelf.put(SPEC, HISTORY, MADE)
    shelf.put(like(seed=1), HISTORY, MADE)
    context = shelf.context(SPEC)
    for parts in (["code"], ["data"], ["schema"], ["data", "code"]):
        monkeypatch.setattr(
            shelf, "context", lambda spec, parts=parts: context | {part: "other" for part in parts}
        )
        assert shelf.get(SPEC) is None
        assert shelf.why_missing(SPEC) == f"{' and '.join(parts)} changed since it was trained"
        assert shelf.why_missing(like(seed=2)) == "never trained"
    for path in shelf.folder.iterdir():
        path.write_bytes(b"rubbish")
    assert shelf.why_missing(SPEC) == "never trained"


def damages(content):
    """Ways to damage a file, by name."""
    footer = (
        len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    )  # Parquet: data, footer, its length, PAR1
    column = content.index(b"test_loss", footer)
    value = content.index(struct.pack("<d", math.pi))

    def flipped(at, bit=1):
        return content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]

    return {
        "empty": b"",
        "one byte": content[:1],
        "half": content[: len(content) // 2],
        "without its last byte": content[:-1],
        "zeros": bytes(len(content)),
        "a number changed": flipped(value),
        "a column renamed": flipped(column),
        "metadata changed": flipped(content.index(b'"seconds": 1.5') + 11, 3),
        "length of the footer changed": flipped(len(content) - 8),
        "text": b'{"epoch": 1}',
    }


def test_a_damaged_file_is_set_aside_and_never_returned(shelf, capsys):
    shelf.put(SPEC, HISTORY, MADE)
    path = shelf.path(SPEC)
    content = path.read_bytes()
    for name, damaged in damages(content).items():
        path.write_bytes(damaged)
        capsys.readouterr()
        assert shelf.get(SPEC) is None, name
        assert (
            f"the stored run {path.name} is damaged: it is set aside as {path.stem}.damaged"
            in capsys.readouterr().err
        ), name
        assert not path.exists() and path.with_suffix(".damaged").read_bytes() == damaged, name
    shelf.put(SPEC, HISTORY, MADE)
    assert bits(shelf.get(SPEC)[0]) == bits(HISTORY)


def test_any_flipped_byte_is_noticed_or_harmless(shelf):
    shelf.put(SPEC, HISTORY, MADE)
    path = shelf.path(SPEC)
    content, (_, meta) = path.read_bytes(), shelf.get(SPEC)
    noticed = 0
    for at in range(0, len(content), 37):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :])
        found = shelf.get(SPEC)
        assert found is None or (bits(found[0]) == bits(HISTORY) and found[1] == meta), at
        noticed += found is None
    assert noticed > 20


def test_the_content_of_another_spec_is_not_taken_for_this_one(shelf, capsys):
    shelf.put(like(seed=1), HISTORY, MADE)
    shelf.path(like(seed=1)).rename(shelf.path(SPEC))
    assert shelf.get(SPEC) is None and "is damaged" in capsys.readouterr().err


def test_a_damaged_file_that_cannot_be_moved_is_named(shelf, monkeypatch):
    shelf.put(SPEC, HISTORY, MADE)
    shelf.path(SPEC).write_bytes(b"")

    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(
        UsageError, match="is damaged and cannot be set aside: Permission denied; delete it"
    ) as caught:
        shelf.get(SPEC)
    assert shelf.path(SPEC).name in str(caught.value) and one_sentence(caught.value)


def test_the_fingerprint_sees_code_but_not_comments_and_docstrings():
    source = 'def f(x, y=1):\n    """Add."""\n    return x + y\n\n\nclass A:\n    """A class."""\n\n    b = 1\n'
    same = '"""A module."""\n# a comment\n'
    same += 'def f(x, y = 1):\n    return (x +\n            y)  # sum\n\nclass A:\n    "Other words."\n    b = 0x1\n'
    base = store.fingerprint({"a.py": source, "b.py": "x = 1"})
    assert store.fingerprint({"a.py": same, "b.py": "x = 1  # one"}) == base
    others = [
        source.replace("x + y", "y + x"),
        source.replace("y=1", "y=2"),
        source.replace("b = 1", "b = 1.0"),
        source + "f(1)\n",
    ]
    found = {store.fingerprint({"a.py": other, "b.py": "x = 1"}) for other in others}
    found |= {
        store.fingerprint({"a.py": source, "b.py": "x = '1'"}),
        store.fingerprint({"b.py": source, "a.py": "x = 1"}),
        base,
    }
    assert len(found) == 7
    # the same on every version of Python, whose trees differ in what is empty
    source = "def f(x, *, y=None):\n    return {**x, 'a': f'{y!r:>3}'}\n\n\nclass A:\n    pass\n"
    assert store.fingerprint({"a.py": source}).startswith("603441abfd21b06b")


def test_the_code_fingerprint_is_of_the_files_that_train():
    package = files.PROJECT / "lsnc_core"
    sources = {name: (package / name).read_text(encoding="utf-8") for name in store.TRAINING_CODE}
    assert store.code_fingerprint() == store.fingerprint(sources)
    for name in store.TRAINING_CODE:
        assert (
            store.fingerprint(sources | {name: sources[name] + "\nx = 0\n"})
            != store.code_fingerprint()
        )


def test_every_module_of_ours_that_trains_is_in_the_fingerprint():
    package, seen, todo = files.PROJECT / "lsnc_core", set(), ["runs/fleet.py"]
    # what these do to a number is in the checksum of the data, or they do nothing to it
    others = {"errors.py", "files.py", "data_sources.py"}
    while todo:
        name = todo.pop()
        if name in seen | others:
            continue
        seen.add(name)
        for node in ast.walk(ast.parse((package / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lsnc_core"):
                stem = node.module.replace(".", "/").removeprefix("lsnc_core").removeprefix("/")
                candidates = [
                    f"{stem}.py",
                    *(f"{stem}/{alias.name}.py".removeprefix("/") for alias in node.names),
                ]
                todo += [candidate for candidate in candidates if (package / candidate).is_file()]
    assert seen == set(store.TRAINING_CODE)


# writing whole or not at all


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    files.write_whole(path, lambda place: place.write_text("old"))

    def half(error):
        def write(place):
            assert (
                place.parent == path.parent and place != path
            )  # on the same disk, so that the move is atomic
            place.write_text("ha")
            assert path.read_text() == "old"
            raise error

        return write

    for error in (RuntimeError("no"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            files.write_whole(path, half(error))
    with pytest.raises(
        UsageError, match=r"cannot write .*file\.txt: No space left on device; free some space"
    ) as caught:
        files.write_whole(path, half(OSError(28, "No space left on device")))
    assert one_sentence(caught.value)
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]
    files.write_whole(path, lambda place: place.write_text("new"))
    assert path.read_text() == "new" and list(path.parent.iterdir()) == [path]


def test_a_written_file_can_be_read_by_others_as_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_whole(tmp_path / "file", lambda place: place.write_text("x"))
        assert os.umask(0o027) == 0o027  # and the umask is as it was
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_a_full_disk_is_told_with_what_helps(tmp_path):
    def full(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(
        UsageError,
        match=r"^cannot write .*: No space left on device; free some space or choose another folder with --outputs\.$",
    ):
        files.write_whole(tmp_path / "file", full)
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path):
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(
        UsageError, match=r"cannot write .*runs.*; choose another folder with --outputs\."
    ) as caught:
        store.Store(tmp_path / "runs").put(SPEC, HISTORY, MADE)
    assert one_sentence(caught.value) and (tmp_path / "runs").read_text() == "in the way"


def test_the_outputs_folder_is_the_one_named(tmp_path, monkeypatch):
    monkeypatch.setenv("LSNC_OUTPUTS", str(tmp_path))
    monkeypatch.delenv("LSNC_DATA", raising=False)
    assert (
        files.outputs_root() == tmp_path
        and store.Store().folder == tmp_path / "runs"
        and files.data_root() == tmp_path / "data"
    )
    monkeypatch.setenv("LSNC_DATA", "~/images")
    assert files.data_root() == Path.home() / "images"
    monkeypatch.setenv("LSNC_OUTPUTS", "")
    assert files.outputs_root() == files.PROJECT / "outputs"


# execution in this process


def numbers(table):
    """The table without what may differ when the same is trained twice."""
    return table.drop(columns=PROVENANCE)


def test_results_trains_what_is_missing_and_nothing_twice(shelf, monkeypatch, capsys):
    asked = [like(seed=1), like(a=0.2), like(seed=1), SPEC]
    trained = []
    train = fleet.train
    monkeypatch.setattr(
        fleet, "train", lambda specs, *rest: trained.append(list(specs)) or train(specs, *rest)
    )
    first = execute.results(asked[:1], "cpu", shelf)
    assert (
        "training 1 networks on cpu (never trained); 0 are in the store" in capsys.readouterr().err
    )
    second = execute.results(asked, "cpu", shelf)
    assert (
        "training 2 networks on cpu (never trained); 1 are in the store" in capsys.readouterr().err
    )
    assert trained == [
        [like(seed=1)],
        [like(seed=1), like(a=0.2), SPEC],
    ]  # the block is cut from the request alone
    threads = torch.get_num_threads()
    third = execute.results(asked, "cpu", shelf)
    assert (
        len(trained) == 2 and torch.get_num_threads() == threads and capsys.readouterr().err == ""
    )
    pd.testing.assert_frame_equal(second, third)
    pd.testing.assert_frame_equal(
        second[second.seed == 1].reset_index(drop=True), first
    )  # what was stored was not written again
    assert (
        list(second.seed) == [1, 1, 0, 0, 0, 0]
        and list(second.a) == [0.7, 0.7, 0.2, 0.2, 0.7, 0.7]
        and list(second.epoch) == [1, 3] * 3
    )
    for row in second.to_dict("records"):
        spec = RunSpec.from_dict({name: row[name] for name in SPEC.to_dict()})
        history, meta = shelf.get(spec)
        assert {name: row[name] for name in history[0]} == next(
            entry for entry in history if entry["epoch"] == row["epoch"]
        )
        assert (
            row["run"] == shelf.path(spec).stem
            and row["device"] == "cpu"
            and row["seconds"] == meta["provenance"]["seconds"]
        )


def test_the_cut_into_blocks(monkeypatch):
    specs = [like(seed=seed, batch=batch) for seed in range(5) for batch in (10, 20)]
    cut = execute.blocks([*specs, specs[0], specs[3]], lambda spec: 2)
    assert [[(spec.batch, spec.seed) for spec in block] for block in cut] == [
        [(batch, seed) for seed in part] for batch in (10, 20) for part in ((0, 1), (2, 3), (4,))
    ]
    assert execute.blocks([], lambda spec: 2) == []
    deep = [like(seed=seed, model="resnet18", widths=(4,)) for seed in range(6)]
    cut = execute.blocks([*deep, *specs], lambda spec: execute.block_size(spec, "cuda"))
    assert [len(block) for block in cut] == [
        4,
        2,
        5,
        5,
    ]  # each network's activations are held at once
    monkeypatch.setattr(execute, "KEPT_BYTES", 2 * prepare.kept_bytes(deep[0].company))
    assert (
        execute.block_size(deep[0].company, "cuda") == 2
        and execute.block_size(deep[0].company, "cpu") == 1
    )
    monkeypatch.setattr(execute, "KEPT_BYTES", 1)
    assert execute.block_size(deep[0].company, "cuda") == 1


def test_what_a_network_keeps_for_the_backward_pass():
    """A linear layer keeps its input, a ReLU its output, which is the next one's input."""
    spec = like(widths=(8, 5), batch=20)
    assert prepare.kept_bytes(spec) == 20 * (64 + 8 + 5) * 4
    assert (
        prepare.kept_bytes(dataclasses.replace(spec, precision="bfloat16")) == 20 * (64 + 8 + 5) * 2
    )


def test_the_remaining_time_counts_what_this_start_has_done(capsys):
    from tqdm import tqdm

    clock = iter(range(1000))
    with tqdm(total=100, smoothing=0, mininterval=0, unit=" x") as bar:
        bar._time = lambda: 10.0 * next(clock)
        bar.start_t = bar.last_print_t = bar._time()
        execute._advance(bar, 10, 0)  # the first report: the clock starts
        execute._advance(bar, 30, 30)  # of an earlier start
        execute._advance(bar, 2, 0)  # in the seconds after
        spoken = bar.format_dict
    done = spoken["n"] - spoken["initial"]
    assert (spoken["n"], done) == (42, 2)
    assert bar.start_t == 10  # the clock's second look, not its first
    left = (100 - 42) * spoken["elapsed"] / done  # tqdm's own rule without smoothing
    assert f"<{tqdm.format_interval(left)}" in tqdm.format_meter(**spoken)


def test_a_resumed_request_gives_the_bits_of_an_undisturbed_one(tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "BLOCK", 3)
    monkeypatch.setattr(execute, "_train_in_processes", in_this_process)
    specs = [
        like(model="cnn", widths=(3, 4, 8), seed=seed, a=a)
        for seed in range(2)
        for a in (0.4, 0.7, 1.0, 0.9)
    ]
    undisturbed = execute.results(specs, "cpu", store.Store(tmp_path / "undisturbed"))
    broken = store.Store(tmp_path / "broken")
    execute.results(specs, "cpu", broken)
    kept = {spec: broken.path(spec).read_bytes() for spec in (specs[1], specs[3], specs[7])}
    for spec in set(specs) - set(kept):
        broken.path(spec).unlink()
    resumed = execute.results(specs, "cpu", broken)
    assert {spec: broken.path(spec).read_bytes() for spec in kept} == kept
    pd.testing.assert_frame_equal(numbers(resumed), numbers(undisturbed), check_exact=True)


def in_this_process(todo, missing, shelf, bar):
    for block in todo:
        execute._train_block(block, missing, "cpu", shelf, lambda done, before: bar.update(done))


def test_a_request_that_cannot_be_trained_ends_in_a_sentence_and_restores_the_threads(shelf):
    threads = torch.get_num_threads()
    with pytest.raises(UsageError, match="no subset of 1201 training images"):
        execute.results([like(train_size=1201)], "cpu", shelf)
    assert torch.get_num_threads() == threads and not shelf.folder.exists()
    with pytest.raises(UsageError, match="there is no image set 'digit': did you mean 'digits'"):
        execute.results([like(data="digit")], "cpu", shelf)


def test_choose_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert execute.choose_device() == execute.choose_device("cpu") == "cpu"
    with pytest.raises(
        UsageError,
        match=r"device cuda was asked for, but torch finds no CUDA device here; use --device cpu\.",
    ):
        execute.choose_device("cuda")
    with pytest.raises(UsageError, match=r"device must be auto, cpu or cuda, got 'gpu'\."):
        execute.choose_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (
        execute.choose_device() == execute.choose_device("cuda") == "cuda"
        and execute.choose_device("cpu") == "cpu"
    )


# execution in several processes: slow to start, so each test asks several things


def stored(folder):
    return len(list(folder.glob("*.parquet")))


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_a_killed_process_loses_only_what_was_under_way_and_processes_give_the_same_numbers(
    tmp_path, shelf, monkeypatch
):
    monkeypatch.setattr(execute, "BLOCK", 1)
    # one short run, so that something is stored soon, then runs that are still under way when a
    # process is killed
    specs = [SPEC, *(like(seed=seed, epochs=1500, evaluate_at=(1500,)) for seed in range(2))]
    if len(os.sched_getaffinity(0)) == 1:
        pytest.skip("one core trains in one process")

    def kill_one():
        wait_for(shelf.path(SPEC).exists)
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    with pytest.raises(
        UsageError,
        match=r"a training process was killed, .* what had finished is stored: close other programs",
    ) as caught:
        execute.results(specs, "cpu", shelf)
    killer.join()
    assert one_sentence(caught.value) and multiprocessing.active_children() == []
    assert shelf.get(SPEC) is not None and stored(shelf.folder) < len(specs)
    assert not list(shelf.folder.glob("*.damaged"))

    finished = execute.results(specs, "cpu", shelf)  # the rest, in two processes
    assert stored(shelf.folder) == len(specs) and multiprocessing.active_children() == []
    monkeypatch.setattr(execute, "_train_in_processes", in_this_process)
    alone = execute.results(specs, "cpu", store.Store(tmp_path / "alone"))
    pd.testing.assert_frame_equal(numbers(finished), numbers(alone), check_exact=True)


def session(leader):
    """The living processes of a session, from /proc."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] != "Z":
                found.append(int(entry.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes through /proc")
def test_training_processes_end_when_their_parent_is_killed(tmp_path):
    script = """
    import multiprocessing, time
    from concurrent.futures import ProcessPoolExecutor
    from lsnc_core.runs import execute

    if __name__ == "__main__":
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(2, mp_context=context, initializer=execute._start_worker, initargs=(context.Queue(),))
        futures = [pool.submit(time.sleep, 0.01) for _ in range(2)]
        [future.result() for future in futures]
        futures = [pool.submit(time.sleep, 60) for _ in range(2)]
        print("ready", flush=True)
        time.sleep(60)
    """
    (tmp_path / "parent.py").write_text(textwrap.dedent(script))
    command = [sys.executable, str(tmp_path / "parent.py")]
    process = subprocess.Popen(
        command,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=files.PROJECT,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        assert len(session(process.pid)) >= 3
        process.kill()
        process.wait()
        wait_for(lambda: not session(process.pid), 5)
    finally:
        for left in session(process.pid):
            os.kill(left, signal.SIGKILL)
        process.wait()
        process.stdout.close()


# profiles


def test_profiles_are_taken_by_name_and_unknown_ones_are_refused():
    for name in profiles.PROFILES:
        assert profiles.resolve(name) == (name, "asked for")
    with pytest.raises(
        UsageError,
        match=r"unknown profile 'quik': the profiles are auto, smoke, .*; did you mean 'quick'\?",
    ) as caught:
        profiles.resolve("quik")
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="unknown profile 'zzz'") as caught:
        profiles.resolve("zzz")
    assert "did you mean" not in str(caught.value)


def test_the_automatic_profile(monkeypatch):
    asked = []

    def there(name, offline):
        asked.append((name, offline))

    def absent(name, offline):
        raise UsageError("mnist is not there.")

    monkeypatch.setattr(data, "load", there)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert profiles.resolve("auto") == ("quick", "torch finds no CUDA device") and asked == []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert profiles.resolve("auto", "cpu") == ("quick", "the CPU was asked for") and asked == []
    assert (
        profiles.resolve("auto")[0] == profiles.resolve("auto", "cuda")[0] == "gpu"
        and asked == [("mnist", True), ("cifar10", True)] * 2
    )
    monkeypatch.setattr(data, "load", absent)
    assert profiles.resolve("auto") == ("quick", "there is a CUDA device, but mnist is not there.")


# looking after the store


def test_the_store_lists_verifies_and_cleans_itself(shelf, monkeypatch, capsys):
    from lsnc_core.runs.__main__ import main

    monkeypatch.setattr(execute, "_train_in_processes", in_this_process)
    specs = [like(seed=seed) for seed in range(4)]
    execute.results(specs, "cpu", shelf)
    monkeypatch.setenv("LSNC_OUTPUTS", str(shelf.folder.parent))
    monkeypatch.setattr(
        store.Store,
        "__init__",
        lambda self, folder=None: (vars(self).update(folder=shelf.folder, _checksums={}), None)[1],
    )
    assert main(["verify"]) == 0 and capsys.readouterr().out.endswith(
        "4 current, 0 outdated, 0 damaged\n"
    )

    damaged, outdated = shelf.path(specs[0]), shelf.path(specs[1])
    damaged.write_bytes(damaged.read_bytes()[:-20])
    outdated.rename(outdated.with_name(outdated.stem.split("-")[0] + "-0123456789abcdef.parquet"))
    (shelf.folder / "unfinished").mkdir()
    for name in ("unfinished/block.pt", "old.damaged", ".x.parquet.1.partial"):
        (shelf.folder / name).touch()
    assert main(["verify"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert (
        said[0] == f"{damaged.name}  damaged"
        and said[-1].endswith("2 current, 1 outdated, 1 damaged")
        and len(said) == 2
    )
    assert main(["list"]) == 0 and len(capsys.readouterr().out.splitlines()) == 5
    assert main(["clean"]) == 0 and capsys.readouterr().out.startswith("deleted 5 files")
    assert sorted(path.name for path in shelf.folder.rglob("*") if path.is_file()) == sorted(
        shelf.path(spec).name for spec in specs[2:]
    )
    with pytest.raises(SystemExit) as caught:
        main(["sweep"])
    assert caught.value.code == 2


# kill -9 at any moment


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_thirty_kills_at_random_moments_lose_nothing(tmp_path, monkeypatch):
    """Fleets are killed again and again, wherever they are; the tables in the end have the bits of
    an undisturbed run.
    """
    monkeypatch.setattr(execute, "BLOCK", 2)
    monkeypatch.setattr(execute, "_train_in_processes", in_this_process)
    monkeypatch.setattr(fleet, "CHECKPOINT_SECONDS", 0)
    specs = [like(seed=seed, epochs=60, evaluate_at=(20, 40, 60)) for seed in range(4)]
    start = time.monotonic()
    alone = store.Store(tmp_path / "undisturbed")
    undisturbed = numbers(execute.results(specs, "cpu", alone))
    usual = time.monotonic() - start
    moments, kills, fleets = random.Random(0), 0, 0
    context = multiprocessing.get_context("fork")  # everything is imported already

    def request(shelf):
        torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            execute.results(specs, "cpu", shelf)

    went_on = 0  # fleets that a later start found begun
    while kills < 30:
        shelf, begun = store.Store(tmp_path / f"fleet {fleets}"), False
        for _ in range(6):
            child = context.Process(target=request, args=(shelf,))
            child.start()
            child.join(moments.uniform(0, usual))
            if child.exitcode is None:
                child.kill()
                child.join()
                kills += 1
            else:
                assert child.exitcode == 0
                break
            begun |= bool(list(shelf.folder.glob("unfinished/*.pt"))) or stored(shelf.folder) > 0
            assert all(
                store.Store._read(path) is not None for path in shelf.folder.glob("*.parquet")
            )
        assert numbers(execute.results(specs, "cpu", shelf)).equals(undisturbed)
        for spec in specs:
            for kept, whole in zip(shelf.tensors(spec), alone.tensors(spec), strict=True):
                assert {name: value.tobytes() for name, value in kept.items()} == {
                    name: value.tobytes() for name, value in whole.items()
                }
        assert not list(shelf.folder.glob("*.damaged")) and not list(
            shelf.folder.glob("unfinished/*.pt")
        )
        fleets, went_on = fleets + 1, went_on + begun
    assert went_on > fleets / 2


def test_the_readmes_loss_trains(shelf, tmp_path):
    """A user's own loss as the README shows it."""
    readme = (files.PROJECT / "README.md").read_text(encoding="utf-8")
    (block,) = [block for block in readme.split("```python\n")[1:] if block.startswith("def loss(")]
    (tmp_path / "my_loss.py").write_text(block.split("```")[0])
    spec = like(loss=str(tmp_path / "my_loss.py"), a=1.0, p=1.0, epochs=30, evaluate_at=(1, 30))
    table = execute.results(
        [spec, like(a=1.0, p=1.0, epochs=30, evaluate_at=(1, 30))], "cpu", shelf
    )
    ours, plain = (table[table.loss == loss].set_index("epoch") for loss in (spec.loss, "ce"))
    assert ours.train_loss[30] < ours.train_loss[1] and ours.clean_train_accuracy[30] > 0.9
    assert (
        ours.clean_train_uniform_loss[30] < plain.clean_train_uniform_loss[30]
    )  # less certain than cross-entropy alone
