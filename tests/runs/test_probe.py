"""A loss of your own is tried before anything is trained with it."""

import pytest
import torch
from helpers import a_spec, one_sentence

from lsnc_core import custom
from lsnc_core.errors import UsageError
from lsnc_core.runs import execute, preemptible
from lsnc_core.runs.probe import probe_loss

GOOD = "-(y * z.log_softmax(-1)).sum(-1)"


def write(folder, body, before=""):
    file = folder / "my_loss.py"
    lines = f"import torch\nimport torch.nn.functional as F\n{before}\n\ndef loss(z, y):\n"
    file.write_text(f"{lines}    return {body}\n")
    return str(file)


@pytest.mark.parametrize("K", [2, 3, 4, 5, 10])
def test_a_good_loss_gives_its_values_and_gradients(tmp_path, K):
    values, gradients = probe_loss(write(tmp_path, GOOD), K)
    assert len({*values.shape, K}) == 3 and gradients.shape == (*values.shape, K)
    # cross-entropy: the gradient softmax(z) - y sums to 0 over classes
    assert values.min() > 0 and abs(gradients.sum(-1)).max() < 1e-6
    again = probe_loss(write(tmp_path, GOOD), K)
    assert (again[0] == values).all() and (again[1] == gradients).all()


@pytest.mark.parametrize(
    "body",
    [
        "F.mse_loss(z, 15 * y, reduction='none').mean(-1)",
        "-(torch.tensor([1.0] * 9 + [2.0]) * y * z.log_softmax(-1)).sum(-1)",  # ten classes
        "-(y * (z.clamp_(-9, 9)).log_softmax(-1)).sum(-1)",  # in place
        "(y * (y.log() - z.log_softmax(-1))).sum(-1)",
        "F.cross_entropy(z.flatten(0, 1), y.flatten(0, 1), reduction='none').view(z.shape[:2])",
        "-z.log_softmax(-1).gather(-1, y.argmax(-1, keepdim=True)).squeeze(-1)",
    ],
)
def test_losses_of_many_kinds_are_accepted(tmp_path, body):
    probe_loss(write(tmp_path, body), 10)


@pytest.mark.parametrize(
    "body, sentence",
    [
        # torch takes axis 1, the samples, for the classes
        (
            "F.cross_entropy(z, y, reduction='none')",
            r"one loss per sample, shape \(2, 3\) for logits of shape \(2, 3, 5\), "
            r"but it returns shape \(2, 5\)\.",
        ),
        (f"({GOOD}).mean()", r"but it returns shape \(\)\."),
        (f"({GOOD}).mean(0)", r"but it returns shape \(3,\)\."),
        ("z", r"but it returns shape \(2, 3, 5\)\."),
        (f"({GOOD}, 1)", "must return a tensor of one loss per sample, but it returns tuple"),
        ("0.5", "but it returns float"),
        ("(z.argmax(-1) != y.argmax(-1))", r"floating-point numbers, but it returns torch\.bool"),
        ("(z.argmax(-1) != y.argmax(-1)).float()", "has no gradient with respect to the logits"),
        (f"({GOOD}).detach()", "has no gradient with respect to the logits"),
        ("y.sum(-1).requires_grad_()", "has no gradient with respect to the logits"),
        ("z.log().sum(-1)", "or its gradient is not finite"),
        ("(z - z.detach()).abs().sqrt().sum(-1)", "or its gradient is not finite"),
        (f"({GOOD}) / ({GOOD}).sum()", "mixes samples"),
        ("-(y * z.log_softmax(1)).sum(-1)", "mixes samples"),
        (f"{GOOD} + 0 * z.sum(-1) + y.max()", "mixes samples"),
        (f"{GOOD} * torch.rand(())", "returns other values at every call"),
        ("z @ y", "fails with RuntimeError"),
    ],
)
def test_a_loss_that_does_not_do_is_refused_in_a_sentence_before_training(
    shelf, tmp_path, monkeypatch, body, sentence
):
    monkeypatch.setattr(preemptible, "train", None)
    path = write(tmp_path, body)
    with pytest.raises(UsageError, match=sentence) as caught:
        probe_loss(path, 5)
    assert one_sentence(caught.value) and path in str(caught.value)
    with pytest.raises(UsageError) as caught:
        execute.results([a_spec(loss=path)], "cpu", shelf)
    assert one_sentence(caught.value) and path in str(caught.value)


def test_probing_leaves_torch_as_it_was(tmp_path):
    before = torch.get_rng_state()
    with torch.no_grad():
        probe_loss(write(tmp_path, GOOD), 10)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loss_of_its_own_may_read_data_at_every_call(tmp_path):
    torch.save(torch.tensor([1.0, 2.0, 1.0]), tmp_path / "weights.pt")
    before = "from pathlib import Path\nhere = Path(__file__).parent"
    body = "-(torch.load(here / 'weights.pt') * y * z.log_softmax(-1)).sum(-1)"
    path = write(tmp_path, body, before)
    values, _ = probe_loss(path, 3)
    torch.save(torch.tensor([1.0, 3.0, 1.0]), tmp_path / "weights.pt")
    custom.forget()
    assert (probe_loss(path, 3)[0] != values).any()
