"""The store: what survives on disk to the last bit."""

import math
import os
import struct
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers import a_spec, one_sentence

from lsnc_core import data
from lsnc_core.errors import UsageError
from lsnc_core.runs import execute, key, preemptible, store
from lsnc_core.runs.__main__ import main
from lsnc_core.runs.spec import RunSpec

SPEC = a_spec()


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


def bits(history):
    """Names, and numbers to the last bit: NaN equals NaN, 0.0 is not -0.0, 1 is not 1.0."""
    found = []
    for row in history:
        found.append({name: (type(value), struct.pack("<d", value)) for name, value in row.items()})
    return found


def test_what_is_stored_comes_back_to_the_last_bit(shelf):
    assert shelf.get(SPEC) is None
    shelf.put(SPEC, HISTORY, MADE)
    for opened in (shelf, store.Store(shelf.folder)):
        history, meta = opened.get(SPEC)
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
    assert shelf.get(a_spec(seed=1)) is None


def arrays(rows):
    """Types, shapes and bits of arrays by name."""
    found = []
    for row in rows:
        found.append(
            {name: (value.dtype.str, value.shape, value.tobytes()) for name, value in row.items()}
        )
    return found


def test_tensors_come_back_to_the_last_bit_and_stay_out_of_the_history(shelf):
    shelf.put(SPEC, HISTORY, MADE, TENSORS)
    assert arrays(shelf.tensors(SPEC)) == arrays(TENSORS) and bits(shelf.get(SPEC)[0]) == bits(
        HISTORY
    )
    assert shelf.tensors(a_spec(seed=1)) is None
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
    specs = [SPEC, a_spec(seed=1)]
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
    monkeypatch.setattr(preemptible, "train", None)
    assert arrays(execute.tensors([SPEC], "cpu", shelf)[SPEC]) == arrays(first[SPEC])


def test_the_file_name_depends_on_the_spec_and_on_all_of_its_context(shelf, monkeypatch):
    name = shelf.path(SPEC).name
    assert store.Store(shelf.folder).path(a_spec()).name == name
    assert shelf.path(a_spec(p=math.nextafter(0.8, 1))).name.split("-")[0] != name.split("-")[0]
    context = shelf.context(SPEC)
    assert context == {
        "data": data.load("digits").checksum,
        "engine": key.package().engine,
        "loss": key.package().entry("loss", "ce"),
        "noise": key.package().entry("noise", "symmetric"),
        "smoothing": key.package().entry("smoothing", "uniform"),
        "model": key.package().entry("model", "mlp"),
        "init": key.package().entry("init", "torch"),
        "schema": store.SCHEMA,
    }
    names = {name}
    for part in context:
        monkeypatch.setattr(shelf, "context", lambda spec, part=part: context | {part: "other"})
        names.add(shelf.path(SPEC).name)
    assert len(names) == 9 and len({name.split("-")[0] for name in names}) == 1


def test_why_missing(shelf, monkeypatch):
    assert shelf.why_missing(SPEC) == "never trained"
    shelf.put(SPEC, HISTORY, MADE)
    shelf.put(a_spec(seed=1), HISTORY, MADE)
    context = shelf.context(SPEC)
    for parts in (["engine"], ["data"], ["schema"], ["data", "engine"]):
        monkeypatch.setattr(
            shelf, "context", lambda spec, parts=parts: context | {part: "other" for part in parts}
        )
        assert shelf.get(SPEC) is None
        assert shelf.why_missing(SPEC) == f"{' and '.join(parts)} changed since it was trained"
        assert shelf.why_missing(a_spec(seed=2)) == "never trained"
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
    shelf.put(a_spec(seed=1), HISTORY, MADE)
    shelf.path(a_spec(seed=1)).rename(shelf.path(SPEC))
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


def test_a_file_in_the_place_of_the_folder_is_reported(tmp_path):
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(
        UsageError, match=r"cannot write .*runs.*; choose another folder with --outputs\."
    ) as caught:
        store.Store(tmp_path / "runs").put(SPEC, HISTORY, MADE)
    assert one_sentence(caught.value) and (tmp_path / "runs").read_text() == "in the way"


# looking after the store


def test_what_killed_writers_left_goes_and_what_is_being_written_stays(shelf):
    names = (".a.parquet.1.partial", "unfinished/.a.pt.1.partial", "a.damaged")
    (shelf.folder / "unfinished").mkdir(parents=True)
    for age in (7200, 60):
        for name in names:
            path = shelf.folder / name.replace("a.", f"{age}.")
            path.touch()
            os.utime(path, (time.time() - age,) * 2)
    shelf.discard_leftovers()
    left = [path for path in shelf.folder.rglob("*") if path.is_file()]
    assert {path.name for path in left} == {
        ".60.parquet.1.partial",
        ".60.pt.1.partial",
        "60.damaged",
        "7200.damaged",
    }


def test_the_store_lists_verifies_and_cleans_itself(shelf, monkeypatch, capsys):
    specs = [a_spec(seed=seed) for seed in range(4)]
    execute.results(specs, "cpu", shelf)
    monkeypatch.setenv("LSNC_OUTPUTS", str(shelf.folder.parent))
    assert main(["verify"]) == 0 and capsys.readouterr().out.endswith(
        "4 current, 0 outdated, 0 damaged\n"
    )

    damaged, outdated = shelf.path(specs[0]), shelf.path(specs[1])
    damaged.write_bytes(damaged.read_bytes()[:-20])
    outdated.rename(
        outdated.with_name(outdated.stem.split("-")[0] + "-0123456789abcdef-v3.parquet")
    )
    (shelf.folder / "unfinished").mkdir()
    for name in ("unfinished/block.pt", "old.damaged", ".x.parquet.1.partial"):
        (shelf.folder / name).touch()
    assert main(["verify"]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert (
        printed[0] == f"{damaged.name}  damaged"
        and printed[-1].endswith("2 current, 1 outdated, 1 damaged")
        and len(printed) == 2
    )
    assert main(["list"]) == 0 and len(capsys.readouterr().out.splitlines()) == 5
    assert main(["clean"]) == 0 and capsys.readouterr().out.startswith("deleted 5 files")
    left = {path for path in shelf.folder.rglob("*") if path.is_file()}
    assert left == {shelf.path(spec) for spec in specs[2:]}
    with pytest.raises(SystemExit) as caught:
        main(["sweep"])
    assert caught.value.code == 2


@pytest.fixture
def earlier(shelf, monkeypatch):
    """A store with a new file and two of an earlier version, one of them in another format."""
    monkeypatch.setenv("LSNC_OUTPUTS", str(shelf.folder.parent))
    shelf.put(SPEC, HISTORY, MADE)
    good = shelf.path(SPEC).read_bytes()
    old = [shelf.folder / f"{'0' * 24}-{digit * 16}.parquet" for digit in "12"]
    old[0].write_bytes(good)
    old[1].write_bytes(b"of another format")
    return old


def test_runs_of_an_earlier_version_are_named_as_outdated(shelf, earlier, capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[:2]] == ["outdated", "outdated"]
    assert lines[-2] == (
        "2 stored runs are outdated: an earlier version of this package wrote to "
        f"{shelf.folder}; `python -m lsnc_core.runs clean` deletes what is not used any more."
    )
    assert lines[-1].endswith("1 current, 2 outdated, 0 damaged")
    assert main(["verify"]) == 0
    assert main(["clean"]) == 0
    assert list(shelf.folder.iterdir()) == [shelf.path(SPEC)]
    assert main(["list"]) == 0 and "earlier version" not in capsys.readouterr().out


def test_training_names_runs_of_an_earlier_version_once(shelf, earlier, capsys):
    execute.results([SPEC], "cpu", shelf)
    assert capsys.readouterr().err == ""  # nothing to train, nothing to tell
    execute.results([SPEC, a_spec(seed=1), a_spec(order_seed=2)], "cpu", shelf)
    notice = capsys.readouterr().err
    assert notice.count("2 stored runs are outdated") == 1
    assert notice.startswith("2 stored runs") and notice.splitlines()[0].endswith(".")
    assert all(path.exists() for path in earlier)
    earlier[0].unlink()
    assert shelf.describe_earlier_files().startswith("1 stored run is outdated")
