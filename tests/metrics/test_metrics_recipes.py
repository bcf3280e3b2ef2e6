"""The recipes of the README run as they stand, on models of the kinds they name."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lsnc_core.metrics import CollapseHistory, measure
from lsnc_core.metrics.measurement import Measurement

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = README.split("## Measure your own model")[1].split("\n## ")[0]
BLOCKS = re.findall(r"```python\n(.*?)```", SECTION, flags=re.DOTALL)
K = 3
DRAW = torch.Generator().manual_seed(0)


def draw(*shape):
    """Batches of 30 inputs with class means of their own, and labels."""
    batches = []
    for _ in range(4):
        y = torch.arange(30) % K
        x = torch.randn(30, *shape, generator=DRAW)
        batches.append((x + y.reshape(-1, *[1] * len(shape)), y))
    return batches


class Residual(nn.Module):
    """Layers with the names of a torchvision ResNet's."""

    def __init__(self):
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.layer2 = nn.Conv2d(4, 8, 3, stride=2)
        self.fc = nn.Linear(8, K)

    def forward(self, x):
        return self.fc(self.layer2(self.layer1(x)).mean((2, 3)))


class Distilled(nn.Module):
    """Two heads whose average the model returns, as timm's distilled transformers do."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(5, 8)
        self.head, self.head_dist = nn.Linear(8, K), nn.Linear(8, K)

    def forward(self, x):
        h = self.body(x).relu()
        return (self.head(h) + self.head_dist(h)) / 2


class Transformer(nn.Module):
    """Takes token numbers and a mask by name and returns an object with logits."""

    def __init__(self, per_token=False):
        super().__init__()
        self.embeddings = nn.Embedding(11, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.classifier, self.per_token = nn.Linear(8, K), per_token

    def forward(self, input_ids, attention_mask):
        hidden = self.embeddings(input_ids)
        h = self.block(hidden, src_key_padding_mask=attention_mask == 0)
        return SimpleNamespace(loss=None, logits=self.classifier(h if self.per_token else h[:, 0]))


def sentences():
    """Batches that are mappings, as of a tokenizer and a collator."""
    batches = []
    for _ in range(4):
        ids = torch.randint(11, (30, 6), generator=DRAW)
        batches.append(
            {
                "input_ids": ids,
                "attention_mask": torch.ones_like(ids),
                "labels": ids[:, 0] % K,
                "idx": torch.arange(30),
            }
        )
    return batches


class PerPixel(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.classifier = nn.Conv2d(3, 8, 1), nn.Conv2d(8, K, 1)

    def forward(self, x):
        return self.classifier(self.body(x).relu())


def pixels():
    return [(x, (x.sum(1) > 1).long() + (x.sum(1) > 4)) for x, _ in draw(3, 4, 4)]


# For each line of the README's list of calls: a model and a loader.
CASES = {
    "any nn.Module": lambda: (Residual(), draw(3, 8, 8)),
    "measure this one": lambda: (Distilled(), draw(5)),
    "batches are mappings": lambda: (Transformer(), sentences()),
    "hidden layers": lambda: (Residual(), draw(3, 8, 8)),
    "token or pixel": lambda: (PerPixel(), pixels()),
    "intervals": lambda: (Residual(), draw(3, 8, 8)),
}
CALLS = [line for line in BLOCKS[1].splitlines() if line.startswith("measure(")]


@pytest.mark.parametrize("line", CALLS)
def test_every_call_of_the_readme_works(line):
    (made,) = [make for words, make in CASES.items() if words in line]
    torch.manual_seed(0)
    model, loader = made()
    measured = eval(line.split("  #")[0], {"measure": measure, "model": model, "loader": loader})
    assert isinstance(measured, Measurement) and measured.summary().NC1.notna().all()
    assert len(CALLS) == len(CASES)


def test_the_readmes_blocks_run(capsys):
    torch.manual_seed(0)
    names = {"model": Residual(), "second_model": Residual(), "loader": draw(3, 8, 8)}
    names |= {"train_loader": draw(3, 8, 8), "test_loader": draw(3, 8, 8)}
    for block in (BLOCKS[0], BLOCKS[2]):
        exec(block, names)
    shown = capsys.readouterr().out
    header = re.findall(r"```\n( +NC1.*\nsplit layer)", SECTION)
    assert [line.split() for line in header[0].splitlines()] == [
        line.split() for line in shown.splitlines()[:2]
    ]
    assert "nc1_trace" in shown and "high" in shown


class Lightning(nn.Module):
    """A loop in the manner of Lightning: steps and hooks are methods, the trainer calls them."""

    def __init__(self, loader):
        super().__init__()
        self.network = Residual()
        self.history = CollapseHistory(self, {"val": loader}, progress=False)

    def forward(self, x):
        return self.network(x)

    def training_step(self, batch):
        x, y = batch
        return nn.functional.cross_entropy(self(x), y)

    def on_validation_epoch_end(self, epoch):
        self.history.record(epoch=epoch)


def test_a_history_records_in_a_hook():
    torch.manual_seed(0)
    loader = draw(3, 8, 8)
    module = Lightning(loader)
    for epoch in range(2):
        module.train()
        for batch in loader:
            module.zero_grad()
            module.training_step(batch).backward()
        module.on_validation_epoch_end(epoch)
        assert module.training
    table = module.history.table()
    assert set(table.epoch) == {0, 1} and set(table.layer) == {"network.fc"}
