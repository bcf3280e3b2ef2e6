"""Every public function with values that it does not expect: what is right, or one sentence.

A function is public here if its docstring promises a `UsageError`, or if its package exports it.
`CALLS` has arguments that it takes; a public function that is missing there fails the first test.
"""

import ast
import functools
import importlib
import inspect
import itertools
import math

import hostile
import numpy as np
import pytest
import torch
from conftest import ROOT
from helpers import one_sentence
from hypothesis import given, settings
from hypothesis import strategies as st

from lsnc_core import labels, losses, metrics
from lsnc_core.errors import UsageError
from lsnc_core.theory import label_noise, ufm

pytestmark = pytest.mark.filterwarnings("ignore")

ROOMS = ["metrics", "theory", "losses", "labels", "models", "claims", "runs", "data", "custom"]
ROOMS += ["label_files", "profiles", "notebook", "images", "data_sources"]
N, K, D = 6, 3, 4
FLAG = False  # what Python itself takes as true or false is not replaced


def features():
    return torch.randn(N, D, generator=torch.Generator().manual_seed(0))


def logits():
    return torch.randn(N, K, generator=torch.Generator().manual_seed(1))


def some_labels():
    return torch.arange(N) % K


def targets():
    return labels.soft_targets(some_labels(), 0.9, K)


def noise():
    return labels.symmetric_noise(0.8, K)


def a_model():
    return ufm.FeatureModel(3, 2, 4, 1e-3, 1e-3)


def a_loss():
    return ufm.Loss("ls", 0.1)


def scored():
    return {"logits": logits(), "labels": some_labels()}


def fitted():
    return {"logits": logits(), "targets": targets()}


def curves():
    rng = np.random.default_rng(0)
    return (np.linspace(0, 1, 7) - 0.4) ** 2 + 0.01 * rng.standard_normal((5, 7))


def point():
    return np.random.default_rng(0).standard_normal(a_model().size)


def taking(**arguments):
    """A function that makes arguments: those that are functions here are called for a value."""

    def make():
        return {name: value() if callable(value) else value for name, value in arguments.items()}

    return make


def statistics():
    from lsnc_core.metrics import NeuralCollapse

    accumulator = NeuralCollapse(K, D)
    accumulator.update(features(), some_labels())
    return accumulator.statistics()


def samples():
    from lsnc_core.metrics.intervals import Samples

    torch.manual_seed(0)
    H, y = torch.randn(60, D), torch.arange(60) % K
    W = torch.randn(K, D)
    return Samples(H, H @ W.T, y, W, torch.zeros(K))


def classifier():
    return torch.randn(K, D, generator=torch.Generator().manual_seed(2))


def a_network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(D, D), torch.nn.ReLU(), torch.nn.Linear(D, K))


def a_loader():
    return [(features(), some_labels())]


def a_loader_of_many():
    torch.manual_seed(0)
    return [(torch.randn(30, D), torch.arange(30) % K)]


@functools.cache
def measured():
    return metrics.measure(a_network(), a_loader_of_many(), intervals=True, progress=False)


scores = taking(logits=logits, labels=some_labels)
binned = taking(logits=logits, labels=some_labels, bins=5)
fit = taking(logits=logits, targets=targets)
matrices = taking(S=lambda: labels.smoothing_matrix(0.9, K), T=noise)
one_matrix = taking(T=noise)
rates = taking(a=0.8, K=K)
grid = taking(kind="beta", a=0.8, p=0.9, M=K)
ufm_only = taking(model=a_model)
ufm_strength = taking(model=a_model, delta=0.1)
ufm_loss = taking(model=a_model, loss=a_loss)
ufm_point = taking(model=a_model, loss=a_loss, x=point)
network = taking(image_shape=(1, 8, 8), classes=K, widths=(4,), batch_norm=False)

# by module below lsnc_core: arguments that a function takes; each is replaced in turn
CALLS = {
    "claims.intervals": {
        "t_interval": taking(values=[1.0, 2.0, 1.5, 1.2], level=0.95),
        "argmin_interval": taking(x=lambda: np.linspace(0, 1, 7), curves=curves, level=0.95),
        "rank_interval": taking(x=[1.0, 2.0, 3.0, 4.0], y=[1.0, 3.0, 2.0, 4.0], level=0.95),
        "variance_component": taking(values=curves),
        "component_ratio_interval": taking(first=curves, second=curves, level=0.95),
    },
    "custom": dict.fromkeys(("sources", "checksum", "images"), taking(path="/nonexistent/a.py"))
    | {"load": taking(path="/nonexistent/a.py", function="loss")},
    "data": {
        "load": taking(name="digits", root=None, offline=True),
        "truth": taking(name="digits", train_size=40, test_size=40),
        "given_labels": taking(name="/nonexistent/labels.npz", image_set="digits"),
    },
    "data_sources": {"source_of": taking(name="digits")},
    "images": {"scale_of": None, "standardise": None},
    "label_files": dict.fromkeys(
        ("content", "checksum", "read"), taking(name="/nonexistent/a.npz")
    ),
    "labels": {
        "check_classes": taking(K=K),
        "as_count": taking(x=3, name="x"),
        "check_unit": taking(x=0.5, name="x"),
        "strength_from_kept": taking(p=0.9, K=K),
        "kept_from_strength": taking(delta=0.1, K=K),
        "smoothing_matrix": taking(p=0.9, K=K),
        "symmetric_noise": rates,
        "pair_noise": rates,
        "block_noise": rates,
        "mixed_noise": rates,
        "noise_matrix": taking(name="pair", a=0.8, K=K),
        "posterior": one_matrix,
        "check_noise": taking(T=noise, K=K),
        "soft_targets": taking(labels=some_labels, p=0.9, K=K),
        "smoothed_targets": taking(name="uniform", labels=some_labels, p=0.9, T=noise),
        "posterior_targets": taking(labels=some_labels, p=0.9, T=noise),
        "generator": taking(seed=0, purpose="x"),
        "corrupt": taking(labels=some_labels, T=noise, seed=0),
    },
    "losses": {
        "cross_entropy": fit,
        "focal": taking(logits=logits, targets=targets, gamma=2.0),
        "mse": taking(logits=logits, targets=targets, scale=1.0),
        "forward_correction": fit,
        "logit_smoothing": fit,
        "find": taking(name="ce"),
    },
    "metrics": {
        "adaptive_ece": binned,
        "augrc": scores,
        "aurc": scores,
        "brier": scores,
        "calibration_scores": scores,
        "classwise_ece": binned,
        "collapse_values": taking(statistics=statistics, W=classifier, b=lambda: torch.zeros(K)),
        "compare": taking(a=measured, b=measured, level=0.95),
        "ece": binned,
        "energy": taking(logits=logits),
        "fit_temperature": taking(logits=logits, labels=some_labels, by="nll", bins=5),
        "look_like_probabilities": taking(logits=logits),
        "mce": binned,
        "measure": taking(
            model=a_network, loader=a_loader, layer=None, layers=(), inputs=None, progress=FLAG
        ),
        "nc1_by_correctness": taking(
            features=features, predictions=some_labels, labels=some_labels, K=K
        ),
        "nearest_mean": taking(features=features, class_means=classifier),
        "neural_collapse": taking(
            features=features, labels=some_labels, W=classifier, b=lambda: torch.zeros(K)
        ),
        "nll": scores,
        "ood_auroc": taking(
            in_distribution_scores=lambda: torch.rand(5),
            out_of_distribution_scores=lambda: torch.rand(5),
        ),
        "predict": taking(model=a_network, loader=a_loader, layer=None, progress=FLAG),
        "reliability": binned,
    },
    "metrics.intervals": {
        "metric_intervals": taking(samples=samples, level=0.95, seed=0, names=lambda: ["accuracy"]),
        "compare_intervals": taking(a=samples, b=samples, level=0.95, names=lambda: ["accuracy"]),
    },
    "models": {
        "cnn": taking(image_shape=(1, 8, 8), classes=K, widths=(2, 2, 4)),
        "lenet": taking(image_shape=(1, 28, 28), classes=K, widths=(2, 2, 4)),
        "mlp": network,
        "build": taking(name="mlp", image_shape=(1, 8, 8), classes=K, widths=(4,)),
        "initialise": None,
    },
    "notebook": {
        "start": taking(profile="smoke", device="cpu"),
        "injected_parameters": None,
        "convert": taking(given="true", default=FLAG, name="steps"),
    },
    "profiles": {"resolve": taking(profile="smoke", device="cpu")},
    "runs": {
        "choose_device": taking(device="cpu"),
        "results": taking(specs=list, device="cpu"),
        "tensors": taking(specs=list, device="cpu"),
    },
    "theory.label_noise": {
        "agreement": grid,
        "loss": grid,
        "entropy_floor": taking(p=0.9, M=K),
        "gamma_transition": taking(M=K),
        "gamma_spinodal": taking(M=K),
        "optimum": taking(kind="beta", a=0.8, M=K),
        "gamma_large_M": taking(a=0.8, p=0.9, M=K),
        "alpha_loss": matrices,
        "beta_loss": matrices,
        "optimal_smoothing_alpha": one_matrix,
        "optimal_smoothing_beta": one_matrix,
        "mean_field_kept_alpha": one_matrix,
        "mean_field_kept_beta": one_matrix,
    },
    "theory.label_noise_errata": {
        "printed_eq10": one_matrix,
        "printed_eq12_loss": matrices,
        "printed_eq13": one_matrix,
        "printed_text_before_eq13": one_matrix,
        "printed_eq16_loss": taking(p=0.9, T=noise),
        "printed_eq17": one_matrix,
        "printed_gamma_large_M": taking(a=0.8, p=0.9, M=K),
        "jensen_terms": taking(S=noise, h=lambda: logits().T.double().numpy(), labels=some_labels),
    },
    "theory.ufm": {
        "margin": taking(delta=0.1, eps=0.01, K=K),
        "focal_convex_from": taking(gamma=2.0),
        "check_closed_form": ufm_only,
        "minimiser": ufm_loss,
        "simplex_etf": taking(model=a_model, seed=0),
        "construct": taking(model=a_model, loss=a_loss, seed=0),
        "check_one_strength": taking(loss=a_loss),
    },
    "theory.ufm_dynamics": {
        "collapse": taking(model=a_model, x=lambda: point()[None]),
        "minimise": taking(model=a_model, loss=a_loss, x=point, tolerance=1e-3, iterations=50),
        "trajectories": taking(
            model=a_model, loss=a_loss, x=point, record_at=(0, 3), method="descent", step=0.1
        ),
    },
    "theory.ufm_landscape": {
        "contrastive_gap": taking(
            loss=a_loss, Z=lambda: logits().double().numpy(), own=lambda: np.arange(N) % K
        ),
        "focal_tie": taking(gamma=2.0, K=K),
        "focal_window": taking(gamma=2.0, K=K),
        "origin_spectrum": ufm_strength,
        "critical_points": taking(model=a_model, loss=a_loss, rank=1, starts=1, seed=0),
    },
    "theory.ufm_nonnegative": {"any_sign": ufm_only, "minimiser": ufm_loss},
    "theory.ufm_objective": {
        "split": taking(model=a_model, x=point),
        "check_point": taking(model=a_model, x=point),
        "random_starts": taking(model=a_model, count=2, seed=0, scale=1.0),
        "value_and_gradient": ufm_point,
        "gradient": ufm_point,
        "dense_hessian": taking(model=a_model, loss=a_loss, x=point),
        "hessian_product": taking(model=a_model, loss=a_loss, x=point, v=point),
    },
    "theory.ufm_spectra": {
        "at_minimiser": ufm_strength,
        "spectrum": taking(model=a_model, delta=0.1, of="all"),
        "condition_number": taking(model=a_model, delta=0.1, definition="D1"),
        "collapse_rate": ufm_strength,
    },
    "theory.ufm_vectors": {
        "operator": taking(model=a_model, loss=a_loss, x=point, of="all"),
        "eigenvector": taking(model=a_model, delta=0.1, name="own", of="W", seed=0),
    },
}

# What these do decides the cache key of every network, so their code stays as it is: for values
# of another kind they may raise what Python raises, but give no wrong number.
KEYED = ("labels", "losses", "models")
# Numbers of classes that no memory holds: Python says so.
TOO_MANY = {*itertools.product(("K", "M"), ("a huge int", "int64's end"))}
# NaN is what their docstrings promise for some arguments.
MAY_BE_NAN = {"theory.ufm_landscape.focal_tie", "theory.ufm_landscape.focal_window"}
# Modules whose functions get what others have checked.
INNER = """
    claims.claim metrics.batches metrics.heads metrics.passes metrics.predictions metrics.replicates
    metrics.statistics metrics.torchmetrics metrics.two_passes metrics.collapse metrics.measurement
    metrics.ood metrics.probe metrics.selective metrics.calibration runs.checkpoint runs.execute
    runs.cost runs.fleet runs.graphs runs.key runs.probe runs.products runs.replicas runs.store
    runs.cluster runs.merge runs.plan runs.preemptible runs.shards runs.task theory.arguments
"""
LISTED = []
for each_room, each_calls in CALLS.items():
    LISTED += [(each_room, each_name) for each_name, call in each_calls.items() if call]


def promises(function):
    """Whether a function's docstring promises one sentence."""
    text = (ast.get_docstring(function) or "").lower()
    return "usageerror" in text or "raises: as" in text


def public_functions():
    """Functions that promise a UsageError, by module and name, and what packages export."""
    for path in sorted((ROOT / "lsnc_core").rglob("*.py")):
        parts = path.relative_to(ROOT / "lsnc_core").with_suffix("").parts
        room = ".".join(parts)
        if parts[0] not in ROOMS or room in INNER.split():
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            is_public = isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
            if is_public and promises(node):
                yield room, node.name
    for room in ("metrics", "runs"):
        package = importlib.import_module(f"lsnc_core.{room}")
        for name in package.__all__:
            if inspect.isfunction(getattr(package, name)):
                yield room, name


def test_every_public_function_is_called():
    missing = [f"{room}.{name}" for room, name in public_functions() if name not in CALLS[room]]
    assert not missing, f"add arguments to CALLS for {', '.join(missing)}"
    for room, calls in CALLS.items():
        module = importlib.import_module(f"lsnc_core.{room}")
        assert not [name for name in calls if not hasattr(module, name)]


def excused(room, name, argument, value, found):
    """Whether a fault is one of those that the tables above allow."""
    by_python = found.split(":")[0].endswith("Error")
    if by_python and (room in KEYED or (argument, value) in TOO_MANY):
        return True
    return found == "NaN" and f"{room}.{name}" in MAY_BE_NAN


@pytest.mark.parametrize("room, name", LISTED, ids=[".".join(each) for each in LISTED])
def test_a_function_gives_what_is_right_or_one_sentence(own_outputs, monkeypatch, room, name):
    monkeypatch.setenv("LSNC_OFFLINE", "1")
    function = getattr(importlib.import_module(f"lsnc_core.{room}"), name)
    faults = []
    for argument, value, arguments in hostile.cases(CALLS[room][name]):
        found = hostile.fault(function, arguments)
        if found and not excused(room, name, argument, value, found):
            faults.append(f"{argument} = {value}: {found}")
    assert not faults, "\n".join(faults)


@pytest.mark.slow
@pytest.mark.parametrize("room, name", LISTED, ids=[".".join(each) for each in LISTED])
def test_several_at_once(own_outputs, monkeypatch, room, name):
    """400 calls of each function, each argument hostile or not by chance."""
    monkeypatch.setenv("LSNC_OFFLINE", "1")
    function = getattr(importlib.import_module(f"lsnc_core.{room}"), name)
    rng, faults = np.random.default_rng(0), []
    for _ in range(400):
        arguments, chosen = CALLS[room][name](), {}
        for argument, value in arguments.items():
            if value is not FLAG and rng.random() < 0.5:
                chosen[argument] = str(rng.choice(list(hostile.values())))
                arguments[argument] = hostile.values()[chosen[argument]]
        found = hostile.fault(function, arguments) if chosen else ""
        allowed = [excused(room, name, *each, found) for each in chosen.items()]
        if found and not any(allowed):
            faults.append(f"{chosen}: {found}")
    assert not faults, "\n".join(faults)


def test_thousands_of_cases_run():
    """What the issue asks for is 2,000."""
    arguments = sum(len(CALLS[room][name]()) for room, name in LISTED)
    assert arguments * hostile.COUNT > 10_000


# right where it is a number: hypothesis against closed forms

ANY = st.floats(allow_nan=True, allow_infinity=True, width=64)
WEIGHTS = (0.9, 0.05, 0.05)
MODERATE = st.floats(-700, 700)


@settings(max_examples=300, deadline=None)
@given(a=ANY, p=ANY, M=st.integers(-3, 50), kind=st.sampled_from(label_noise.KINDS))
def test_the_loss_under_noise_is_the_formula_or_a_sentence(a, p, M, kind):
    inside = 0 <= a <= 1 and 0 <= p <= 1 and M >= 2
    if not inside:
        with pytest.raises(UsageError) as raised:
            label_noise.loss(kind, a, p, M)
        assert one_sentence(raised.value)
        return
    same = {"alpha": a, "beta": a * a + (1 - a) ** 2 / (M - 1)}
    q = same.get(kind, a * p + (1 - a) * (1 - p) / (M - 1))
    expected = 0.0
    for mass, probability in ((q, p), (1 - q, (1 - p) / (M - 1))):
        if mass > 0:
            expected -= mass * (math.log(probability) if probability > 0 else -math.inf)
    assert label_noise.loss(kind, a, p, M) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(numbers=st.lists(st.lists(MODERATE, min_size=3, max_size=3), min_size=1, max_size=4))
def test_cross_entropy_of_any_logits_is_the_formula(numbers):
    z = torch.tensor(numbers, dtype=torch.float64)
    y = labels.soft_targets(torch.zeros(len(z), dtype=torch.int64), 0.9, 3).double()
    for row, loss in zip(numbers, losses.cross_entropy(z, y).tolist(), strict=True):
        top = max(row)
        total = top + math.log(math.fsum(math.exp(value - top) for value in row))
        right = math.fsum(w * (total - value) for w, value in zip(WEIGHTS, row, strict=True))
        assert loss == pytest.approx(right, rel=1e-6, abs=1e-6)


@settings(max_examples=200, deadline=None)
@given(
    sizes=st.tuples(*[st.integers(-1, 4) | st.floats() | st.booleans() | st.none()] * 3),
    decays=st.tuples(*[ANY | st.text(max_size=3)] * 3),
)
def test_a_feature_model_is_what_was_asked_for_or_a_sentence(sizes, decays):
    try:
        model = ufm.FeatureModel(*sizes, *decays)
    except UsageError as error:
        assert one_sentence(error)
        return
    assert (model.K, model.n, model.D) == sizes and model.K >= 2 and min(sizes) >= 1
    assert all(0 <= decay < math.inf for decay in decays)
