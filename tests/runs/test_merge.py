"""Merging stores: what is whole arrives once, what is not is left out by name, nothing is run."""

import contextlib
import json
import os
import pickle

import pyarrow.parquet as pq
import pytest
from helpers import a_spec, one_sentence

from lsnc_core.errors import UsageError
from lsnc_core.runs import execute, key, preemptible, shards, store
from lsnc_core.runs.__main__ import main
from lsnc_core.runs.merge import merge
from lsnc_core.runs.spec import RunSpec, digest

SPECS = [a_spec(seed=seed) for seed in range(4)]


@pytest.fixture
def two(tmp_path, own_outputs, monkeypatch):
    """Two outputs folders, each with a shard of `SPECS` trained."""
    monkeypatch.setattr(execute, "BLOCK", 1)
    for name, shard in zip("ab", shards.deal(SPECS, "cpu", 2), strict=True):
        execute.results(shard, "cpu", store.Store(tmp_path / name / "runs"))
    return [tmp_path / "a", tmp_path / "b"]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_shards_are_joined_and_nothing_is_trained_again(two, shelf, monkeypatch):
    merged = merge([two[0], two[1] / "runs"], shelf)
    assert (merged.added, merged.present, merged.older, merged.refused) == (4, 0, 0, [])
    together = contents(two[0] / "runs") | contents(two[1] / "runs")
    assert contents(shelf.folder) == together
    monkeypatch.setattr(preemptible, "train", None)
    assert list(execute.results(SPECS, "cpu", shelf).seed.unique()) == [0, 1, 2, 3]

    identities = [path.stat().st_mtime_ns for path in sorted(shelf.folder.iterdir())]
    again = merge(two, shelf)
    assert (again.added, again.present, again.refused) == (0, 4, [])
    assert [path.stat().st_mtime_ns for path in sorted(shelf.folder.iterdir())] == identities


def test_damage_and_foreign_files_are_left_out_by_name(two, shelf, monkeypatch, capsys):
    folder = two[0] / "runs"
    first, second = sorted(folder.iterdir())
    content = first.read_bytes()
    bad = {
        first: content[: len(content) // 2],
        second: second.read_bytes()[:300] + b"\0" + second.read_bytes()[301:],
        folder / "notes.txt": b"bought milk",
        folder / f"{'0' * 24}-{'1' * 16}-v{store.SCHEMA}.parquet": content,
        folder / f"{'0' * 24}-{'1' * 16}.parquet": content,
        folder / f"{'2' * 24}-{'1' * 16}-v{store.SCHEMA}.parquet": pickle.dumps(print),
        folder / f"{'3' * 24}-{'1' * 16}-v{store.SCHEMA}.parquet": b"",
    }
    for path, written in bad.items():
        path.write_bytes(written)
    os.mkfifo(folder / f"{'4' * 24}-{'1' * 16}-v{store.SCHEMA}.parquet")
    (folder / f"{'5' * 24}-{'1' * 16}-v{store.SCHEMA}.parquet").mkdir()
    # of interrupted work, of macOS's Finder, and of a file that was deleted while open on NFS
    for leftover in ("x.damaged", ".x.parquet.1.partial", ".DS_Store", ".nfs00000001"):
        (folder / leftover).touch()
    (folder / "unfinished").mkdir()
    monkeypatch.setenv("LSNC_OUTPUTS", str(shelf.folder.parent))
    capsys.readouterr()

    assert main(["merge", *map(str, two)]) == 1
    printed = capsys.readouterr()
    assert printed.out == f"{shelf.folder}: 2 added, 0 here before, 9 refused\n"
    lines = printed.err.splitlines()
    assert len(lines) == 9 and all(map(one_sentence, lines))
    said = {line.split(" is left out: ")[0]: line.split(" is left out: ")[1] for line in lines}
    assert set(said) == {
        str(path) for path in folder.iterdir() if path.suffix in (".parquet", ".txt")
    }
    assert "truncated or damaged" in said[str(first)] and "damaged" in said[str(second)]
    assert "not that of a stored network" in said[str(folder / "notes.txt")]
    reasons = [said[str(path)] for path in bad][3:]
    assert "another network than its name" in reasons[0] and "another format" in reasons[1]
    assert "damaged" in reasons[2] and "damaged" in reasons[3]
    assert contents(shelf.folder) == contents(two[1] / "runs")


def test_every_flipped_bit_is_left_out_or_harmless(two, shelf):
    path = next((two[0] / "runs").iterdir())
    content, whole = path.read_bytes(), store.Store.read_file(path)
    refused = 0
    for at in range(5, len(content), 197):
        path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        merged = merge([two[0]], shelf)
        refused += len(merged.refused)
        arrived = shelf.folder / path.name
        assert arrived.exists() != bool(merged.refused)
        assert merged.refused or store.Store.read_file(arrived) == whole
        arrived.unlink(missing_ok=True)
    assert refused > 50


def test_what_is_damaged_here_is_replaced_and_what_is_whole_here_stays(two, shelf):
    merge(two, shelf)
    damaged, kept = sorted(shelf.folder.iterdir())[:2]
    good = damaged.read_bytes()
    damaged.write_bytes(good[:-9])
    merged = merge(two, shelf)
    assert (merged.added, merged.present) == (1, 3) and damaged.read_bytes() == good
    # a damaged copy does not touch a whole one
    for folder in two:
        if (folder / "runs" / kept.name).exists():
            (folder / "runs" / kept.name).write_bytes(b"rubbish")
    assert len(merge(two, shelf).refused) == 1 and store.Store.read_file(kept) is not None


def test_networks_of_other_code_are_kept_as_older(two, shelf, monkeypatch):
    monkeypatch.setattr(key, "code_of", lambda spec: {"engine": "of another version"})
    merged = merge(two, shelf)
    assert (merged.added, merged.older) == (4, 4)
    assert str(merged) == (
        "4 added, 0 here before, 4 of them by other code than this version's, 0 refused"
    )


def forged(path, change):
    """A file as `path`, with right checksums, whose metadata were changed; its name fits."""
    table = pq.read_table(path)
    meta = json.loads(table.schema.metadata[b"lsnc"])
    change(meta)
    about = json.dumps(meta)
    numbers = table.select([name for name in table.column_names if ":" not in name])
    total = store._content_sum(numbers.to_pylist(), about)
    table = table.replace_schema_metadata({b"lsnc": about.encode(), b"lsnc-sha256": total})
    spec = meta.get("spec")
    with contextlib.suppress(UsageError, TypeError):
        spec = RunSpec.from_stored(spec).key()
    target = path.with_name(
        f"{digest(spec)[:24]}-{digest(meta.get('context'))[:16]}-v{store.SCHEMA}.parquet"
    )
    path.unlink()
    pq.write_table(table, target, write_page_checksum=True)
    return target


@pytest.mark.parametrize("setting", ["loss", "noise", "data"])
def test_a_file_that_a_run_names_is_not_run(two, shelf, tmp_path, setting):
    evil, marker = tmp_path / "evil.py", tmp_path / "marker"
    evil.write_text(f"open({str(marker)!r}, 'w').close()\n")
    path = next((two[0] / "runs").iterdir())
    forged(path, lambda meta: meta["spec"].update({setting: str(evil)}))
    merged = merge([two[0]], shelf)
    assert merged.added == 2 and merged.refused == [] and not marker.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda meta: meta["spec"].update(colour="red"), "knows no such network"),
        (lambda meta: meta["spec"].update(epochs=4, evaluate_at=[1, 4]), "another network"),
        (lambda meta: meta["spec"].update(widths=[[1]]), "knows no such network"),
        (lambda meta: meta.update(spec=[1, 2]), "not a stored network"),
        (lambda meta: meta.update(context=3), "not a stored network"),
        (lambda meta: meta.update(tensors=None), "damaged"),
        (lambda meta: meta.pop("spec"), "not a stored network"),
    ],
)
def test_forged_metadata_are_refused_in_a_sentence(two, shelf, change, words):
    path = forged(next((two[0] / "runs").iterdir()), change)
    merged = merge([two[0]], shelf)
    (sentence,) = merged.refused
    assert words in sentence and path.name in sentence and one_sentence(sentence)
    assert merged.added == 1


def test_a_request_that_cannot_be_merged(two, shelf, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LSNC_OUTPUTS", str(shelf.folder.parent))
    merge(two, shelf)
    for folder, words in ((tmp_path / "none", "there is no folder"), (shelf.folder, "holds the")):
        with pytest.raises(UsageError, match=words) as caught:
            merge([two[0], folder], shelf)
        assert one_sentence(caught.value)
        assert main(["merge", str(folder)]) == 2 and words in capsys.readouterr().err
    for arguments in (["merge"], ["verify", "somewhere"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
    (tmp_path / "empty").mkdir()  # a shard for which nothing was left
    assert main(["merge", str(tmp_path / "empty")]) == 0


def test_a_store_that_cannot_be_written_is_named(two, tmp_path):
    (tmp_path / "in the way").touch()
    target = store.Store(tmp_path / "in the way")
    with pytest.raises(UsageError, match=r"cannot write .*in the way") as caught:
        merge(two, target)
    assert one_sentence(caught.value)
