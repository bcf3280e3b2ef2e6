"""The cache key: what enters it, and what does not."""

import ast
import dataclasses
import functools
import itertools
import json
import math
import os
import subprocess
import sys
import time

import pytest
from helpers import a_spec

from lsnc_core import files, labels, losses, models
from lsnc_core.errors import UsageError
from lsnc_core.runs import key, spec, store
from lsnc_core.runs.spec import RunSpec, digest

SPEC = a_spec()
CHANGED = {
    "data": "mnist", "train_size": 41, "test_size": 41, "pool": 2, "model": "cnn",
    "widths": (8, 9, 1), "a": 0.7 + 1e-16, "p": math.nextafter(0.8, 1), "lr": 0.06,
    "momentum": 0.8, "weight_decay": 1e-300, "batch": 21, "epochs": 4, "evaluate_at": (2, 3),
    "seed": 1, "order_seed": 1, "loss": "mse", "precision": "bfloat16", "noise": "pair",
    "smoothing": "posterior", "schedule": "steps", "lr_steps": (1,), "lr_factor": 0.2, "clip": 1.0,
    "augment": "crop-flip", "batch_norm": True, "feature_norm": True, "lambda_W": 0.1,
    "lambda_b": 0.1, "lambda_H": 0.1, "validation_size": 1, "keep_at": (1,),
    "init": "torchvision", "pixel_mean": (0.5,), "pixel_std": (0.25,), "best_checkpoint": True,
}  # fmt: skip


# the spec's part


def test_digest_is_the_same_in_every_process_and_tells_every_setting_apart():
    code = "import json, sys; from lsnc_core.runs.spec import RunSpec, digest; "
    code += "print(digest(RunSpec.from_dict(json.load(sys.stdin)).key()))"
    digests = set()
    for hash_seed in ("0", "12345"):
        run = subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps(SPEC.to_dict()),
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(run.stdout)
    assert digests == {digest(SPEC.key()) + "\n"}
    assert CHANGED.keys() == SPEC.to_dict().keys()
    digests = {digest(SPEC.key() | {name: value}) for name, value in CHANGED.items()}
    assert len(digests | {digest(SPEC.key())}) == len(CHANGED) + 1
    with pytest.raises(ValueError):
        digest({"a": math.nan})


def test_settings_at_their_neutral_value_are_left_out_of_the_key():
    required = [
        field.name for field in dataclasses.fields(RunSpec) if field.default is dataclasses.MISSING
    ]
    assert list(SPEC.key()) == required
    steps = a_spec(schedule="steps", lr_steps=(2,), clip=1)
    assert steps.key() == SPEC.key() | {"schedule": "steps", "lr_steps": (2,), "clip": 1.0}


def test_neutral_values_are_frozen():
    """Never change one of these: it stands for what was trained before the setting existed."""
    neutral = {
        field.name: field.metadata["neutral"]
        for field in dataclasses.fields(RunSpec)
        if field.default is not dataclasses.MISSING
    }
    assert neutral == {
        "loss": "ce",
        "precision": "float32",
        "noise": "symmetric",
        "smoothing": "uniform",
        "schedule": "constant",
        "lr_steps": (),
        "lr_factor": 0.1,
        "clip": 0.0,
        "augment": "none",
        "batch_norm": False,
        "feature_norm": False,
        "lambda_W": 0.0,
        "lambda_b": 0.0,
        "lambda_H": 0.0,
        "validation_size": 0,
        "keep_at": (),
        "init": "torch",
        "pixel_mean": (),
        "pixel_std": (),
        "best_checkpoint": False,
    }


def changed_spec_class(before, after):
    """`RunSpec` as a changed source defines it."""
    source = key.read_module("runs/spec.py")
    assert source.count(before) == 1
    module = type(spec)("changed_spec")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    try:
        exec(compile(source.replace(before, after), "spec.py", "exec"), vars(module))
    finally:
        del sys.modules[module.__name__]
    return module.RunSpec


def test_a_changed_default_changes_the_key_of_every_spec_that_relies_on_it(shelf):
    line = "clip: float = _setting({}, neutral=0.0)"
    changed = changed_spec_class(line.format("0.0"), line.format("2.0"))
    settings = {name: SPEC.to_dict()[name] for name in SPEC.key()}
    assert changed(**settings).key() == SPEC.key() | {"clip": 2.0}
    # who states the value has the key of before
    assert changed(**settings, clip=0.0).key() == SPEC.key()
    assert changed(**settings).key() == a_spec(clip=2.0).key()
    # what was stored is read as it was trained
    assert changed.from_stored(settings).clip == 0.0
    # nor is a stored result taken for another spec's
    shelf.put(SPEC, [{"epoch": 3}], {})
    assert shelf.get(changed(**settings)) is None


def test_a_new_setting_with_a_neutral_value_retrains_nothing(shelf):
    last = "    best_checkpoint: bool = _setting(False, neutral=False)\n"
    changed = changed_spec_class(last, last + "    ema: float = _setting(0.5, neutral=0.0)\n")
    values = SPEC.to_dict()
    assert changed(**values, ema=0.0).key() == SPEC.key()
    assert changed(**values).key() == SPEC.key() | {"ema": 0.5}
    assert changed.from_stored(values) == changed(**values, ema=0.0)
    # the code of specs is no part of the engine
    shelf.put(SPEC, [{"epoch": 3}], {})
    assert shelf.path(changed(**values, ema=0.0)) == shelf.path(SPEC)
    assert shelf.path(changed(**values)) != shelf.path(SPEC)


# the code


def test_the_fingerprint_sees_code_but_not_comments_and_docstrings():
    source = 'def f(x, y=1):\n    """Add."""\n    return x + y\n\n\n'
    source += 'class A:\n    """A class."""\n\n    b = 1\n'
    same = '"""A module."""\n# a comment\n'
    same += "def f(x, y = 1):\n    return (x +\n            y)  # sum\n\n"
    same += 'class A:\n    "Other words."\n    b = 0x1\n'
    base = key.fingerprint({"a.py": source, "b.py": "x = 1"})
    assert key.fingerprint({"a.py": same, "b.py": "x = 1  # one"}) == base
    others = [
        source.replace("x + y", "y + x"),
        source.replace("y=1", "y=2"),
        source.replace("b = 1", "b = 1.0"),
        source + "f(1)\n",
    ]
    found = {key.fingerprint({"a.py": other, "b.py": "x = 1"}) for other in others}
    found |= {
        key.fingerprint({"a.py": source, "b.py": "x = '1'"}),
        key.fingerprint({"b.py": source, "a.py": "x = 1"}),
        base,
    }
    assert len(found) == 7
    # the same on every version of Python, whose trees differ in what is empty
    source = "def f(x, *, y=None):\n    return {**x, 'a': f'{y!r:>3}'}\n\n\nclass A:\n    pass\n"
    assert key.fingerprint({"a.py": source}).startswith("603441abfd21b06b")


def test_types_and_the_texts_of_errors_change_no_fingerprint():
    source = "def f(x):\n    y = 1\n    if x:\n        raise ValueError('no')\n    return y\n"
    same = (
        "def f(x: int) -> int:\n    y = 1\n    if x:\n        raise ValueError(f'not {x}')\n"
        "    return y\n"
    )
    base = key.fingerprint({"a.py": source})
    assert key.fingerprint({"a.py": same}) == base
    assert key.fingerprint({"a.py": source.replace("ValueError", "TypeError")}) != base
    assert key.fingerprint({"a.py": source.replace("raise", "print('raise'),")}) != base


ENTRIES = {
    "loss": losses.LOSSES,
    "noise": labels.NOISES,
    "smoothing": labels.SMOOTHINGS,
    "model": models.MODELS,
    "init": models.INITIALISATIONS,
}


@pytest.fixture(scope="module", autouse=True)
def parse_once():
    """A source is parsed once for all tests; each of them changes a module or two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key, "_Module", functools.cache(key._Module))
        yield


def digests(changes):
    """Engine and every entry, of the package with changed sources: module -> (before, after)."""

    def read(name):
        source = key.read_module(name)
        if source is not None and name in changes:
            before, after = changes[name]
            assert source.count(before) == 1, (name, before, source.count(before))
            source = source.replace(before, after)
        return source

    package = key.Package(read)
    entries = {}
    for setting, table in ENTRIES.items():
        for name in table:
            entries[name] = package.entry(setting, name)
    return {"engine": package.engine} | entries


def what_changes(**changes):
    """The parts of the key that a change of one module's source changes."""
    (module,) = changes
    before, after = digests({}), digests({f"{module}.py": changes[module]})
    return {name for name, value in before.items() if after[name] != value}


def test_every_entry_has_a_digest_of_its_own():
    found = digests({})
    assert set(found) == {"engine"}.union(*ENTRIES.values())
    assert len(set(found.values())) == len(found)


@pytest.mark.parametrize(
    "module, before, after",
    [
        (
            "losses",
            'LOSSES = {\n    "ce"',
            "def hinge(z, y):\n    return focal(z, y)\n\n\n"
            'LOSSES = {\n    "hinge": hinge,\n    "ce"',
        ),
        (
            "labels",
            'NOISES = {\n    "symmetric"',
            'def salt(a, K):\n    return 1\n\n\nNOISES = {\n    "salt": salt,\n    "symmetric"',
        ),
        ("labels", 'SMOOTHINGS = {"uniform"', 'SMOOTHINGS = {"none": block_noise, "uniform"'),
        ("models", 'MODELS = {"cnn"', 'def vit(x):\n    return x\n\n\nMODELS = {"vit": vit, "cnn"'),
    ],
    ids=["loss", "noise", "smoothing", "model"],
)
def test_a_new_loss_noise_smoothing_or_model_changes_no_key(module, before, after):
    assert what_changes(**{module: (before, after)}) == set()


@pytest.mark.parametrize(
    "module, before, after, changed",
    [
        # one entry changes its own key
        ("losses", "gamma: float = 3.0", "gamma: float = 2.0", {"focal"}),
        ("losses", "scale * targets).square()", "scale * targets).abs()", {"mse"}),
        ("labels", "np.roll(eye, 1, axis=0)", "np.roll(eye, 2, axis=0)", {"pair"}),
        ("labels", "np.random.default_rng(0)", "np.random.default_rng(1)", {"mixed"}),
        ("models", "nn.MaxPool2d(2),\n        nn.ReLU(),\n        nn.Flatten()",
         "nn.MaxPool2d(2),\n        nn.Tanh(),\n        nn.Flatten()", {"lenet"}),
        ("models", "(3, 4, 6, 3)", "(3, 4, 6, 4)", {"resnet50"}),
        ("models", "CNN_WIDTHS = (8,", "CNN_WIDTHS = (9,", {"cnn"}),
        ("losses", '"mse": mse', '"mse": focal', {"mse"}),
        # a helper changes the keys of all that call it, directly or not
        ("losses", "if logits.shape != targets.shape:", "if False:", set(losses.LOSSES)),
        ("models", "return [nn.BatchNorm1d(width)]", "return [nn.Identity()]", {"cnn", "mlp"}),
        ("models", "nn.AdaptiveAvgPool2d(1)", "nn.AdaptiveMaxPool2d(1)", {"resnet18", "resnet50"}),
        ("models", "self.classifier(self.features(images))", "self.features(images)",
         set(models.MODELS)),
        ("labels", "S = np.full((K, K), (1.0 - p)", "S = np.full((K, K), (2.0 - p)",
         {"symmetric", "block"}),
        ("labels", "reached = T.sum(1)", "reached = T.sum(0)", {"posterior"}),
        ("labels", "dtype=torch.float32", "dtype=torch.float64", {"uniform"}),
        # what every network is trained with changes all keys
        ("labels", "draws[:, 0] >=", "draws[:, 0] >", {"engine"}),
        ("losses", "back = torch.cat", "back = 1 * torch.cat", {"engine"}),
        ("models", "nn.init.uniform_", "nn.init.trunc_", {"torch", "torchvision"}),
        ("models", 'mode="fan_out"', 'mode="fan_in"', {"torchvision"}),
        ("models", "return MODELS[name](image", "return MODELS['mlp'](image", {"engine"}),
        ("labels", "COLUMN_SUM_TOLERANCE = 1e-9", "COLUMN_SUM_TOLERANCE = 1e-6",
         {"engine", "posterior"}),
        # words change none
        ("labels", "must be a square matrix of real numbers", "is no matrix", set()),
        ("losses", "Rescaled mean squared error", "MSE", set()),
    ],
)  # fmt: skip
def test_a_change_of_code_changes_the_keys_of_what_refers_to_it(module, before, after, changed):
    assert what_changes(**{module: (before, after)}) == changed


def test_a_loss_that_looks_others_up_depends_on_all_of_them():
    loop = (
        'def any_of_them(z, y):\n    return find("ce")(z, y)\n\n\n'
        'LOSSES = {\n    "any": any_of_them,\n    "ce"'
    )

    def entry(*more):
        def read(name):
            source = key.read_module(name)
            for before, after in [('LOSSES = {\n    "ce"', loop), *more]:
                source = source.replace(before, after) if name == "losses.py" else source
            return source

        return key.Package(read).entry("loss", "any")

    assert entry() == entry()
    assert entry() != entry(("gamma: float = 3.0", "gamma: float = 2.0"))


def test_a_name_that_the_source_does_not_have_is_refused_in_a_sentence():
    with pytest.raises(
        UsageError, match=r"^there is no loss 'mine' in the table LOSSES of lsnc_core/losses\.py"
    ):
        key.package().entry("loss", "mine")


def test_the_engine_is_all_of_the_modules_that_train():
    before = key.package().engine
    for module in key.ENGINE:

        def read(name, module=module):
            source = key.read_module(name)
            return source + "\nx = 0\n" if name == module else source

        assert key.Package(read).engine != before, module


def test_every_module_of_ours_that_trains_is_in_the_key():
    package, seen, todo = files.PROJECT / "lsnc_core", set(), ["runs/fleet.py"]
    while todo:
        name = todo.pop()
        if name in seen or name in key.LEFT_OUT:
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
    by_name = {choice.module for choice in key.CHOICES.values()}
    assert seen == set(key.ENGINE) | by_name


def test_two_processes_agree_on_the_code(shelf):
    code = "import json; from helpers import a_spec; from lsnc_core.runs import key\n"
    code += "print(json.dumps(key.code_of(a_spec())))"
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    environment["PYTHONPATH"] = f"{files.PROJECT}{os.pathsep}{files.PROJECT / 'tests'}"
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(answer.stdout) == key.code_of(SPEC)


@pytest.mark.usefixtures("own_outputs")
def test_the_keys_of_a_whole_paper_read_the_code_once(shelf):
    settings = itertools.product(range(4), range(10), range(10), ("ce", "focal", "mse", "logit"))
    specs = [a_spec(seed=seed, a=a / 10, p=p / 10, loss=loss) for seed, a, p, loss in settings]
    shelf.path(SPEC)  # reads the data and the code
    start = time.process_time()
    assert len({shelf.path(spec) for spec in specs}) == len(specs) == 1600
    assert time.process_time() - start < 5  # reading it once takes one, on any machine
    start = time.process_time()
    key.package.cache_clear()
    store.Store(shelf.folder).path(SPEC)
    assert time.process_time() - start < 5  # reading it once takes one, on any machine
