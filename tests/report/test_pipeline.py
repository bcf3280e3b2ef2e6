"""Work that is shared out: `--shard` trains a part, `--plan` trains nothing."""

import pytest
from helpers import one_sentence

from lsnc_core import cli
from lsnc_core.runs import plan, preemptible
from lsnc_core.runs.__main__ import main

ASKED = ["--profile", "smoke", "--only", "guo_4_minimisers"]


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    """Runs the command in this process: exit status, what it printed, its errors."""
    monkeypatch.setenv("LSNC_OUTPUTS", str(tmp_path / "outputs"))

    def run(*arguments):
        code = cli.main([*ASKED, *map(str, arguments)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def stored(folder):
    return {path.name for path in (folder / "runs").glob("*.parquet")}


def test_shards_train_their_parts_run_no_notebook_and_are_joined(command, tmp_path, monkeypatch):
    parts = []
    for number in (1, 2):
        outputs = tmp_path / f"part {number}"
        code, printed, _ = command("--shard", f"{number}/2", "--outputs", outputs)
        assert code == 0 and f"shard {number}/2: " in printed and "merge DIR" in printed
        assert not (outputs / "smoke").exists()
        parts.append(stored(outputs))
    assert parts[0] and parts[1] and not parts[0] & parts[1]
    monkeypatch.setenv("LSNC_OUTPUTS", str(tmp_path / "outputs"))
    assert main(["merge", str(tmp_path / "part 1"), str(tmp_path / "part 2")]) == 0
    assert stored(tmp_path / "outputs") == parts[0] | parts[1]
    monkeypatch.setattr(preemptible, "train", None)
    code, printed, _ = command("--shard", "1/1", "--outputs", tmp_path / "outputs")
    assert code == 0 and f"0 trained, {len(parts[0] | parts[1])} from the store" in printed


def test_the_task_of_a_slurm_array_is_a_shard(command, monkeypatch):
    for name, value in (("ID", 7), ("COUNT", 400), ("MIN", 1), ("MAX", 400), ("STEP", 1)):
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
    code, printed, _ = command("--shard")
    # more shards than blocks: this one is done at once
    assert code == 0 and "shard 7/400: 0 of " in printed


def test_a_plan_trains_nothing(command, tmp_path, monkeypatch):
    monkeypatch.setattr(preemptible, "train", None)
    monkeypatch.setattr(plan, "seconds_per_image", lambda block, device: 1e-6)
    code, printed, _ = command("--plan")
    assert code == 0 and "a worker is one" in printed and "largest block" in printed
    assert not stored(tmp_path / "outputs")
    assert cli.main(["--only", "chen_1_theory", "--profile", "smoke", "--plan"]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--shard", "3/2"], "--shard takes I/N"),
        (["--shard"], "SLURM_ARRAY_TASK_ID is not set"),
        (["--shard", "1/2", "--record", "x"], "run no notebooks"),
        (["--plan", "--figure", "x"], "run no notebooks"),
    ],
)
def test_a_share_that_cannot_be_carried_out(command, monkeypatch, arguments, words):
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    code, _, errors = command(*arguments)
    assert code == 2 and words in errors and one_sentence(errors.strip())


def test_a_shard_and_a_plan_exclude_each_other(command, capsys):
    with pytest.raises(SystemExit) as caught:
        command("--plan", "--shard", "1/2")
    assert caught.value.code == 2 and "not allowed with" in capsys.readouterr().err


def test_a_store_that_is_no_folder_is_named_before_training(command, tmp_path, monkeypatch):
    monkeypatch.setattr(preemptible, "train", None)
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "runs").touch()
    code, _, errors = command()
    assert code == 2 and one_sentence(errors.strip())
    assert errors.startswith("run_all.sh: cannot write ") and "another folder with" in errors
