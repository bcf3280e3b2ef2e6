"""Specs: what is refused, and what one spec is."""

import dataclasses
import json
import math
import pickle

import pytest
import torch
from helpers import a_spec, one_sentence

from lsnc_core import data
from lsnc_core.errors import UsageError
from lsnc_core.runs import fleet
from lsnc_core.runs.spec import RunSpec, digest

CPU = torch.device("cpu")

SPEC = a_spec()


@pytest.mark.parametrize(
    "field, value",
    [
        ("data", 3), ("data", None), ("train_size", 40.0), ("train_size", 0), ("train_size", True),
        ("train_size", "40"), ("test_size", -1), ("pool", 0), ("pool", 1.5), ("model", "resnet"),
        ("model", 1), ("widths", [8]), ("widths", ()), ("widths", (8.0,)), ("widths", (0,)),
        ("widths", 8), ("a", 1.01), ("a", -0.01), ("a", math.nan), ("a", "0.5"), ("a", True),
        ("a", 10**400), ("p", 1.5), ("p", -1e-9), ("p", math.nan), ("p", None), ("lr", 0.0),
        ("lr", -0.1), ("lr", math.inf), ("lr", math.nan), ("lr", "fast"), ("momentum", 1.0),
        ("momentum", -0.1), ("momentum", math.nan), ("weight_decay", -1e-9),
        ("weight_decay", math.inf), ("weight_decay", math.nan), ("batch", 0), ("batch", 2.0),
        ("epochs", 0), ("epochs", False), ("evaluate_at", (3, 1)), ("evaluate_at", (1, 1, 3)),
        ("evaluate_at", (1, 2)), ("evaluate_at", (1, 4)), ("evaluate_at", ()),
        ("evaluate_at", [1, 3]), ("evaluate_at", (0, 3)), ("seed", -1), ("seed", 0.0),
        ("seed", True), ("order_seed", -3), ("order_seed", "a"), ("loss", "hinge"), ("loss", 1),
        ("precision", "float16"), ("precision", None), ("noise", "salt"), ("smoothing", "none"),
        ("schedule", "linear"), ("lr_steps", (2, 1)), ("lr_steps", (2,)), ("lr_steps", [2]),
        ("lr_factor", 0.0), ("lr_factor", math.nan), ("clip", -1.0), ("clip", math.inf),
        ("augment", "flip"), ("batch_norm", 1), ("feature_norm", "yes"), ("lambda_W", -1e-3),
        ("lambda_b", math.nan), ("lambda_H", math.inf), ("validation_size", -1),
        ("validation_size", 1.5), ("keep_at", (2,)), ("keep_at", (1, 4)), ("keep_at", [1]),
        ("init", "kaiming"), ("init", "torchvision"), ("pixel_mean", 0.5), ("pixel_mean", [0.5]),
        ("pixel_mean", (math.nan,)), ("pixel_std", (0.0,)), ("pixel_std", ("a",)),
        ("pixel_std", (0.2,)), ("best_checkpoint", 1), ("best_checkpoint", True),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_refused_with_its_name_and_value(field, value):
    with pytest.raises(UsageError) as caught:
        a_spec(**{field: value})
    assert one_sentence(caught.value)
    assert str(caught.value).startswith(f"{field} must be ") and str(caught.value).endswith(
        f"got {value!r}."
    )


def test_every_setting_has_a_test_of_its_refusal():
    marks = test_a_wrong_setting_is_refused_with_its_name_and_value.pytestmark
    tested = {field for field, _ in marks[0].args[1]}
    assert tested == {field.name for field in dataclasses.fields(RunSpec)}


def test_a_cnn_needs_three_widths():
    with pytest.raises(UsageError, match=r"widths must be .* for the CNNs, got \(8,\)\."):
        a_spec(model="cnn")
    assert a_spec(model="cnn", widths=(1, 2, 3)).widths == (1, 2, 3)


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
        (
            {"model": "lenet", "widths": (1, 2, 3), "feature_norm": True},
            "feature_norm must be False for the LeNet, got True.",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, sentence):
    with pytest.raises(UsageError, match=sentence) as caught:
        a_spec(**settings)
    assert one_sentence(caught.value)


def test_whole_numbers_are_taken_for_floats_and_equal_specs_are_one():
    spec = a_spec(a=1, p=0, lr=1, momentum=0, weight_decay=-0.0)
    assert [type(getattr(spec, name)) for name in ("a", "p", "lr", "momentum", "weight_decay")] == [
        float
    ] * 5
    pixels = a_spec(pixel_mean=(0, -0.0), pixel_std=(1, 0.5))
    assert pixels == a_spec(pixel_mean=(0.0, 0.0), pixel_std=(1.0, 0.5))
    assert [type(value) for value in pixels.pixel_mean] == [float] * 2
    assert RunSpec.from_dict(json.loads(json.dumps(pixels.to_dict()))) == pixels
    same = a_spec(a=1.0, p=-0.0, lr=1.0, momentum=0.0)
    assert (
        spec == same
        and hash(spec) == hash(same)
        and digest(spec.to_dict()) == digest(same.to_dict())
    )
    assert spec != a_spec(a=1, p=0, lr=1, momentum=0, seed=1) and len({spec, same, SPEC}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.a = 0.5


def test_a_spec_survives_json():
    spec = a_spec(a=0.1 + 0.2, p=1 / 3, widths=(8, 9), seed=2**40)
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


def test_shared_sets_aside_what_may_differ_per_replica_only():
    assert (
        a_spec(
            a=0.1, p=0.2, seed=7, lr=0.3, weight_decay=0.1, loss="mse", noise="pair", lambda_H=0.1
        ).shared
        == SPEC.shared
    )
    aside = {"a": 1.0, "p": 1.0, "seed": 0, "lr": 1.0, "weight_decay": 0.0, "loss": "ce"}
    assert SPEC.shared.to_dict() == SPEC.to_dict() | aside
    others = [
        {"momentum": 0.1},
        {"order_seed": 1},
        {"epochs": 4, "evaluate_at": (4,)},
        {"train_size": 50},
        {"widths": (9,)},
        {"pool": 2},
        {"precision": "bfloat16"},
    ]
    assert all(a_spec(**other).shared != SPEC.shared for other in others)


def test_a_batch_of_one_image_is_refused_where_there_is_batch_norm():
    for settings in (
        {"batch_norm": True},
        {"feature_norm": True},
        {"model": "resnet18", "widths": (4,)},
    ):
        with pytest.raises(
            UsageError,
            match=r"train_size must be such that no batch of 20 holds a single image, .* got 41",
        ) as caught:
            a_spec(train_size=41, **settings)
        assert one_sentence(caught.value)
        with pytest.raises(UsageError, match="no batch of 1 holds"):
            a_spec(batch=1, **settings)
        fleet.train(
            [a_spec(train_size=42, epochs=1, evaluate_at=(1,), **settings)],
            data.load("digits"),
            CPU,
        )
    dataclasses.replace(SPEC, train_size=41)  # nothing to normalise
