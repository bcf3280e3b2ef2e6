"""Where the networks of a profile differ from the papers': each paper's list against its facts."""

import dataclasses
import importlib
import json

import pytest
from helpers import a_spec

from lsnc_core.errors import UsageError
from lsnc_core.papers import page
from lsnc_core.papers.page import ANY, Setting, describe_values
from lsnc_core.profiles import PROFILES
from lsnc_core.runs.spec import RunSpec

PAPERS = ("chen", "guo", "zhou")
MODULES = {name: importlib.import_module(f"lsnc_core.papers.{name}.deviations") for name in PAPERS}
# settings that no field of a spec holds and that deviate in every profile
ALWAYS = {
    "chen": {"initialisation", "pixel statistics", "augmentation", "seeds"},
    "guo": {"last batch of an epoch", "seeds"},
    "zhou": {"image sets", "measuring of collapse", "choice of validation images", "seeds"},
}
F10 = "training for Theorem 1 (F10)"
# by hand, from the papers' tables of settings
EXPECTED = {
    ("chen", "paper"): {"channels and windows of the CNN"},
    ("chen", "gpu"): {
        "channels and windows of the CNN",
        "training images",
        "width of the ResNet-18",
        "clean rates a",
        "kept masses p",
        "precision",
    },
    ("chen", "quick"): {
        "image sets",
        "training images",
        "network",
        "test images",
        "pooling of pixels",
        "epochs",
        "batch",
        "learning rate",
        "clean rates a",
    },
    ("guo", "paper"): {"training images", "pixel statistics of Tiny ImageNet"},
    ("guo", "gpu"): {
        "image sets",
        "training images",
        "epochs",
        "schedule",
        "weight decay",
        "smoothing strengths",
        "precision",
        F10,
    },
    ("guo", "quick"): {
        "image sets",
        "training images",
        "test images",
        "pooling of pixels",
        "network",
        "initialisation",
        "epochs",
        "schedule",
        "batch",
        "weight decay",
        "pixel statistics",
        F10,
    },
    ("zhou", "paper"): {"test images of CIFAR-100"},
    ("zhou", "gpu"): {"network", "widths", "epochs", "precision"},
    ("zhou", "quick"): {
        "training images",
        "validation images",
        "test images",
        "pooling of pixels",
        "network",
        "widths",
        "epochs",
        "learning rate",
        "weight decay",
        "batch",
        "schedule",
        "augmentation",
        "pixel statistics",
        "checkpoint",
    },
}
# what a spec holds beside settings of training
MEASURING = {"evaluate_at", "keep_at", "seed", "order_seed"}
# not compared: a paper's other settings say them, or it has none
LEFT_OUT = {
    "chen": {"augment", "init", "pixel_mean", "pixel_std", "validation_size", "best_checkpoint"},
    "guo": {"validation_size", "best_checkpoint"},
    "zhou": set(),
}


@pytest.mark.parametrize("paper, profile", EXPECTED)
def test_what_differs_is_listed_and_nothing_else(paper, profile):
    listed = MODULES[paper].list_deviations(profile)
    names = [deviation.setting for deviation in listed]
    assert sorted(names) == sorted(EXPECTED[paper, profile] | ALWAYS[paper])
    for deviation in listed:
        assert deviation.profile == profile
        assert deviation.paper and deviation.here and deviation.reason
        assert json.loads(json.dumps(deviation.to_dict())) == dataclasses.asdict(deviation)


@pytest.mark.parametrize("paper", PAPERS)
def test_every_setting_of_a_network_is_compared(paper):
    settings = MODULES[paper].SETTINGS
    compared = set().union(*(setting.fields for setting in settings))
    fields = {field.name for field in dataclasses.fields(RunSpec)}
    assert compared == fields - MEASURING - LEFT_OUT[paper]
    names = [setting.name for setting in settings]
    assert len(set(names)) == len(names)
    for profile in PROFILES:
        assert len(MODULES[paper].list_deviations(profile)) >= len(ALWAYS[paper])
    with pytest.raises(UsageError, match="unknown profile 'fast'"):
        MODULES[paper].list_deviations("fast")


def make_specs(**by_data):
    """One spec for each image set, with these epochs."""
    specs = []
    for data, epochs in by_data.items():
        specs.append(a_spec(data=data, epochs=epochs, evaluate_at=(epochs,)))
    return specs


def test_a_setting_deviates_exactly_where_a_value_is_not_the_papers():
    epochs = Setting("epochs", "3 (mnist 5)", "time", ("epochs",), wanted={"": 3, "mnist": 5})
    assert epochs.compare("quick", make_specs(digits=3, mnist=5)) is None
    found = epochs.compare("quick", make_specs(digits=3, mnist=3))
    assert found.to_dict() == {
        "setting": "epochs",
        "paper": "3 (mnist 5)",
        "here": "3 (mnist)",
        "reason": "time",
        "profile": "quick",
    }
    assert epochs.compare("quick", make_specs(digits=4, mnist=4)).here == "4"
    open_one = dataclasses.replace(epochs, wanted={"": 3, "mnist": ANY})
    assert open_one.compare("quick", make_specs(digits=3, mnist=9)) is None
    # of a grid more is no deviation, less is one
    grid = Setting("p", "0.5 and 0.8", "time", ("p",), grid={"": (0.5, 0.8)})
    specs = [a_spec(p=p) for p in (0.5, 0.8, 0.9)]
    assert grid.compare("quick", specs) is None
    assert grid.compare("quick", specs[1:]).here == "0.8, 0.9"
    # what no field holds goes by the profile
    words = Setting("seeds", "one", "intervals", here={"gpu": "four"})
    assert words.compare("quick", specs) is None and words.compare("gpu", specs).here == "four"


def test_values_and_tables_are_in_words():
    assert describe_values([45000, 10000, 45000]) == "10,000, 45,000"
    rows = MODULES["guo"].list_deviations("paper")
    text = page.tabulate_deviations(rows)._repr_mimebundle_()["text/plain"].splitlines()
    assert text[0] == "setting | the paper | here | why" and len(text) == 1 + len(rows)
    assert text[1].startswith("training images | all: 50,000")
