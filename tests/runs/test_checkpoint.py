"""Checkpoints: what is written comes back, and training goes on from it to the same bits."""

import dataclasses
import random

import pytest
import torch
from helpers import a_cnn_spec, a_resnet_spec

from lsnc_core.runs import checkpoint, fleet

CPU = torch.device("cpu")

SPEC = a_cnn_spec()


CONTENT = {
    "epoch": 3,
    "state": [torch.arange(6.0).view(2, 3), torch.zeros(0)],
    "measured": [{"means": {"x": torch.ones(2)}}],
}


# checkpoints


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    path = tmp_path / "folder" / "block.pt"
    assert checkpoint.read(path) is None
    checkpoint.write(path, CONTENT)
    found = checkpoint.read(path)
    assert found["epoch"] == 3 and torch.equal(found["measured"][0]["means"]["x"], torch.ones(2))
    assert all(
        torch.equal(one, other) for one, other in zip(found["state"], CONTENT["state"], strict=True)
    )


def test_any_flipped_bit_of_a_checkpoint_is_noticed(tmp_path, capsys):
    path, draws = tmp_path / "block.pt", random.Random(0)
    checkpoint.write(path, CONTENT)
    content = path.read_bytes()
    for _ in range(300):
        at, bit = draws.randrange(len(content)), 1 << draws.randrange(8)
        path.write_bytes(content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :])
        assert checkpoint.read(path) is None
        assert (
            capsys.readouterr().err
            == "the checkpoint block.pt is damaged: its networks are trained from the start\n"
        )


def train(*arguments, **named):
    """Histories alone: mappings that can be compared."""
    return [trained.history for trained in fleet.train(*arguments, **named)]


# going on from a checkpoint


@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        a_resnet_spec(epochs=5, evaluate_at=(1, 5)),
        dataclasses.replace(SPEC, validation_size=30, best_checkpoint=True),
    ],
    ids=["stacked", "listed", "best checkpoint"],
)
def test_a_checkpoint_goes_on_to_the_same_bits(digits, tmp_path, monkeypatch, spec):
    specs, checkpoint = (
        [spec, dataclasses.replace(spec, seed=9, p=0.5, lr=0.01)],
        tmp_path / "folder" / "block.pt",
    )
    undisturbed = train(specs, digits, CPU)
    monkeypatch.setattr(fleet, "CHECKPOINT_SECONDS", 0)

    def stop_after(epochs):
        def progress(done):
            nonlocal epochs
            epochs -= 1
            if epochs < 0:
                raise KeyboardInterrupt

        return progress

    for epochs in (
        2,
        1,
        2,
    ):  # stopped in the third epoch, again soon after the start that goes on, and again
        with pytest.raises(KeyboardInterrupt):
            train(specs, digits, CPU, stop_after(epochs), checkpoint)
    reports = []
    assert train(specs, digits, CPU, reports.append, checkpoint) == undisturbed
    assert reports[0] >= 4 and sum(reports) == 2 * spec.epochs  # it did go on


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", "truncated", "of other networks"])
def test_a_checkpoint_that_cannot_be_used_is_passed_over(digits, tmp_path, monkeypatch, content):
    monkeypatch.setattr(fleet, "CHECKPOINT_SECONDS", 0)
    checkpoint, undisturbed = tmp_path / "block.pt", train([SPEC], digits, CPU)
    train(
        [a_cnn_spec(widths=(4, 6, 15)) if content == "of other networks" else SPEC],
        digits,
        CPU,
        checkpoint=checkpoint,
    )
    if content == "truncated":
        checkpoint.write_bytes(checkpoint.read_bytes()[:-300])
    elif content != "of other networks":
        checkpoint.write_bytes(content)
    reports = []
    assert (
        train([SPEC], digits, CPU, reports.append, checkpoint) == undisturbed
        and reports == [1] * SPEC.epochs
    )
