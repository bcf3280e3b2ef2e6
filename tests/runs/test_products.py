"""The choice of a library for matrix products: measured once, kept, and never inexact."""

import contextlib
import json

import pytest
import torch

from lsnc_core.errors import UsageError
from lsnc_core.runs import execute, products

ONEDNN = dict.fromkeys(products.KINDS, products.ONEDNN)


@pytest.fixture
def measured(monkeypatch):
    """Replaces timing: gains by kind of product, and how often each was asked for."""
    gains, asked = dict.fromkeys(products.KINDS, 1.0), []

    def as_in_training(kind, left, right):
        asked.append(kind)
        return kind

    # other tests measure once a process
    monkeypatch.setattr(products, "choose", products.choose.__wrapped__)
    monkeypatch.setattr(products, "_as_in_training", as_in_training)
    monkeypatch.setattr(products, "_gain", lambda kind: gains[kind])
    monkeypatch.setattr(products, "exact", lambda left, right: True)
    return gains, asked


def test_another_library_is_taken_only_where_it_is_a_tenth_faster(measured):
    gains, _ = measured
    gains |= {"output": 1.11, "input gradient": 1.09}
    assert products.choose() == {
        "output": products.ONEDNN,
        "input gradient": products.DEFAULT,
        "weight gradient": products.DEFAULT,
    }


def test_a_library_that_rounds_is_never_taken(measured, monkeypatch):
    gains, _ = measured
    gains |= dict.fromkeys(gains, 3.0)
    assert products.choose() == ONEDNN
    monkeypatch.setattr(products, "exact", lambda left, right: False)
    assert products.choose() == products.BY_DEFAULT


def test_products_in_bfloat16_are_not_exact(monkeypatch):
    draws = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 3, 50, 50, generator=draws)
    monkeypatch.setattr(products, "library", lambda name: contextlib.nullcontext())
    assert products.exact(left, right)
    monkeypatch.setattr(products, "library", lambda name: torch.autocast("cpu", torch.bfloat16))
    assert not products.exact(left, right)


@pytest.mark.parametrize("kind", products.KINDS)
def test_products_are_timed_as_layers_have_them(kind):
    R, out, into, columns = layer = 2, 3, 4, 5
    left, right = products._factors(kind, *layer)
    shape = {
        "output": (R, out, columns),
        "input gradient": (R, into, columns),
        "weight gradient": (R, out, into),
    }[kind]
    result = products._as_in_training(kind, left, right)()
    assert result.shape == shape
    torch.testing.assert_close(result, left @ right)
    assert products._gain(lambda: None) > 0


def test_the_choice_is_kept_and_made_once(tmp_path, measured):
    gains, asked = measured
    gains |= dict.fromkeys(gains, 2.0)
    assert products.of_this_machine(tmp_path) == ONEDNN
    count = len(asked)
    gains |= dict.fromkeys(gains, 1.0)
    assert products.of_this_machine(tmp_path) == ONEDNN and len(asked) == count > 0
    assert products.of_this_machine(tmp_path / "other") == products.BY_DEFAULT


def test_another_machine_chooses_for_itself_and_keeps_what_is_there(
    tmp_path, measured, monkeypatch
):
    products.of_this_machine(tmp_path)
    monkeypatch.setattr(products.provenance, "processor", lambda: "another")
    gains, _ = measured
    gains |= dict.fromkeys(gains, 2.0)
    assert products.of_this_machine(tmp_path) == ONEDNN
    kept = json.loads((tmp_path / products.FILE).read_text())
    assert list(kept.values()) == [products.BY_DEFAULT, ONEDNN]
    assert list(kept)[1] == f"another, torch {torch.__version__}"


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"x": 1}', b"\xff\xfe", "MACHINE", '{"MACHINE": {"output": "fast"}}'],
)
def test_a_damaged_file_is_written_anew(tmp_path, measured, content):
    machine = f"{products.provenance.processor()}, torch {torch.__version__}"
    path = tmp_path / products.FILE
    if isinstance(content, str):
        content = content.replace("MACHINE", machine).encode()
    path.write_bytes(content)
    assert products.of_this_machine(tmp_path) == products.BY_DEFAULT
    assert json.loads(path.read_text())[machine] == products.BY_DEFAULT


def test_a_folder_that_cannot_be_written_is_told_in_a_sentence(tmp_path, measured):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot write"):
        products.of_this_machine(tmp_path / "file")


def test_a_gpu_needs_no_choice(measured):
    _, asked = measured
    assert execute._routes("cuda") == products.BY_DEFAULT and not asked


def test_a_library_is_set_for_a_while_only():
    settings = torch.backends.mkldnn.matmul
    before = settings.fp32_precision
    with products.library(products.ONEDNN):
        assert settings.fp32_precision == "bf16"
        with products.library(products.DEFAULT):
            pass
    assert settings.fp32_precision == before
    with pytest.raises(ZeroDivisionError), products.library(products.ONEDNN):
        _ = 1 / 0
    assert settings.fp32_precision == before
