"""The GPU's path: the logic of recorded steps everywhere, the rest where there is a CUDA device."""

import contextlib
import dataclasses
import gc
import weakref

import numpy as np
import pytest
import torch
from helpers import a_cnn_spec
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lsnc_core import data, losses
from lsnc_core.errors import UsageError
from lsnc_core.runs import fleet, graphs

pytestmark = pytest.mark.usefixtures("own_outputs")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SPEC = a_cnn_spec(epochs=6, evaluate_at=(1, 6))
SPECS = {
    "stacked": SPEC,
    # so small a network with batch norm soon tells the last bits of its start apart: small steps,
    # large batches
    "listed": dataclasses.replace(SPEC, model="resnet18", widths=(4,), lr=0.002, batch=30),
}


SHAPES = {
    "patches": {},
    "patches-norm": {"data": "mnist-subset", "pool": 2, "batch_norm": True},
    "lenet": {"data": "mnist-subset", "model": "lenet"},
    "mlp-norm": {"model": "mlp", "widths": (12, 8), "feature_norm": True},
    "resnet18": {"model": "resnet18", "widths": (4,)},
    "resnet50": {"model": "resnet50", "widths": (4,), "feature_norm": True},
    "augmented": {"augment": "crop-flip", "schedule": "cosine"},
    "black": {"augment": "crop-flip-black", "pixel_mean": (0.3,), "pixel_std": (0.4,)},
    "clipped": {"model": "resnet18", "widths": (4,), "clip": 1.0},
    "decayed": {"weight_decay": 1e-3, "lambda_H": 1e-3, "lambda_W": 1e-2, "lambda_b": 1e-2},
}
# What waits for the device to tell a number: nothing that a graph could record.
WAITING = (
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "equal",
    "_unique2",
    "repeat_interleave",
    "bincount",
)


class Watched(TorchDispatchMode):
    """Runs a step and keeps, for each number of rows, where every tensor lies that the step found
    rather than made.
    """

    def __init__(self, step, device):
        super().__init__()
        self.step, self.device, self.found = step, device, []

    def __call__(self, *inputs):
        self.made = {tensor.untyped_storage()._cdata for tensor in inputs}
        self.read = {}
        with self:
            self.step(*inputs)
        self.found.append((len(inputs[0]), self.read))

    @staticmethod
    def storages(tree):
        """The tensors in nested arguments, by where they lie."""
        leaves = [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
        return {leaf.untyped_storage()._cdata: leaf for leaf in leaves}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        assert not any(name in str(function) for name in WAITING), function
        read, written = self.storages((args, kwargs)), self.storages(made)
        devices = {leaf.device.type for leaf in (*read.values(), *written.values())}
        assert devices <= {self.device.type}, function
        for storage, leaf in read.items():
            if storage not in self.made:
                self.read[storage] = leaf  # held, so that nothing else comes to lie there
        self.made |= written.keys() - read.keys()
        return made


@pytest.fixture
def watched(monkeypatch):
    """Trains a fleet with its steps watched; gives the watch."""

    def train(specs, device):
        watches = []

        def recorded(step, device):
            watches.append(Watched(step, device))
            return watches[0]

        monkeypatch.setattr(fleet, "recorded", recorded)
        fleet.train(specs, data.load(specs[0].data), device)
        return watches[0]

    return train


def fleet_of(shape, epochs, **changes):
    """Networks of a shape with losses to mix, all of them once; 13 and 7 images a step."""
    spec = dataclasses.replace(
        SPEC,
        train_size=20,
        epochs=epochs,
        evaluate_at=(epochs,),
        keep_at=(epochs,),
        **SHAPES[shape],
        **changes,
    )
    names = ("ce", "focal", "mse", "forward", "logit") if shape == "patches" else ("ce", "mse")
    return [dataclasses.replace(spec, seed=seed, loss=loss) for seed, loss in enumerate(names)]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_could_be_recorded_it_waits_for_nothing_and_stays_on_the_device(
    monkeypatch, watched, shape
):
    """The meta device stands for a GPU: it computes shapes only, and refuses to mix with the CPU or
    to tell a number.
    """
    cpu = torch.Tensor.cpu
    monkeypatch.setattr(
        torch.Tensor,
        "cpu",
        lambda tensor: torch.zeros_like(tensor, device="cpu") if tensor.is_meta else cpu(tensor),
    )
    monkeypatch.setattr(
        torch, "autocast", lambda *arguments, **options: contextlib.nullcontext()
    )  # it knows no such device
    assert len(watched(fleet_of(shape, epochs=1), torch.device("meta")).found) == 2


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_could_be_recorded_it_finds_everything_where_it_was(watched, shape, precision):
    watch = watched(fleet_of(shape, epochs=2, precision=precision), CPU)
    for size in (13, 7):
        first, *later = (read.keys() for rows, read in watch.found if rows == size)
        assert later and all(found == first for found in later)


def test_a_step_that_could_not_be_recorded_is_noticed():
    kept = [torch.zeros(2)]

    def moves(rows):
        kept[0] = kept[0] + rows

    def waits(rows):
        rows[rows.sum().item()] = 1

    watch = Watched(moves, CPU)
    watch(torch.ones(2)), watch(torch.ones(2))
    assert watch.found[0][1].keys() != watch.found[1][1].keys()
    with pytest.raises(AssertionError, match="_local_scalar_dense"):
        Watched(waits, CPU)(torch.zeros(2, dtype=torch.int64))
    with pytest.raises(AssertionError, match="add"):
        Watched(moves, torch.device("meta"))(torch.ones(2))


class FakeGraph:
    """Records calls of the step while it is captured; `replay` makes them."""

    capturing = None

    def __init__(self):
        self.calls = []

    def replay(self):
        for effect, rows in self.calls:
            effect(rows)


class FakeStream:
    def wait_stream(self, other):
        pass


@contextlib.contextmanager
def fake_capture(graph, pool):
    assert pool == "pool"
    FakeGraph.capturing = graph
    try:
        yield
    except Exception as error:  # as torch does: ending a recording that failed fails
        raise RuntimeError(
            "CUDA error: operation failed due to a previous error during capture"
        ) from error
    finally:
        FakeGraph.capturing = None


@pytest.fixture
def fake_cuda(monkeypatch):
    for name, value in (
        ("Stream", FakeStream),
        ("current_stream", FakeStream),
        ("CUDAGraph", FakeGraph),
        ("graph", fake_capture),
    ):
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")


@pytest.mark.usefixtures("fake_cuda")
@pytest.mark.parametrize(
    "error, kind, message",
    (
        (
            UsageError("loss() of my_loss.py fails."),
            UsageError,
            r"\(loss\(\) of my_loss.py fails.\): a loss of your own must neither",
        ),
        (
            RuntimeError("operation not\npermitted"),
            UsageError,
            r"cannot be recorded on the GPU \(operation not permitted\)",
        ),
        (torch.OutOfMemoryError("Tried to allocate"), torch.OutOfMemoryError, "Tried to allocate"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ),
)
def test_a_step_that_cannot_be_recorded_ends_with_its_own_error(error, kind, message):
    def step(rows):
        if FakeGraph.capturing:
            raise error

    graphed = graphs.Graphed(step)
    for _ in range(graphs.WARM_UP):
        graphed(torch.zeros(2))
    with pytest.raises(kind, match=message) as caught:
        graphed(torch.zeros(2))
    assert "\n" not in str(caught.value) and not graphed.recorded


@pytest.mark.usefixtures("fake_cuda")
def test_a_recorded_step_is_taken_once_a_call_with_the_rows_of_that_call():
    taken = []

    def effect(rows):
        taken.append(rows.tolist())

    def step(rows):
        if FakeGraph.capturing is None:
            effect(rows)
        else:  # as on a GPU: what is captured does not run
            FakeGraph.capturing.calls.append((effect, rows))

    graphed = graphs.Graphed(step)
    batches = [
        torch.tensor(rows)
        for rows in ([1, 2], [3, 4], [9], [5, 6], [7, 8], [1, 3], [8], [2, 5], [4])
    ]
    for rows in batches:
        graphed(rows)
    assert taken == [rows.tolist() for rows in batches]
    assert set(graphed.recorded) == {2} and graphed.calls == {2: graphs.WARM_UP, 1: 3}
    assert batches[4].tolist() == [7, 8]  # the caller's rows are left alone


def test_nothing_is_collected_while_a_step_is_recorded():
    class Circle:
        """Two of them that hold each other are freed only by a collection."""

    def circle():
        one, other = Circle(), Circle()
        one.other, other.other = other, one
        return weakref.ref(one)

    threshold = gc.get_threshold()
    before = circle()
    try:
        with graphs.no_collection():
            gc.set_threshold(1, 1, 1)
            meanwhile = circle()
            _ = [[] for _ in range(1000)]
            assert before() is None and meanwhile() is not None
        _ = [[] for _ in range(1000)]
        assert meanwhile() is None and gc.isenabled()
    finally:
        gc.set_threshold(*threshold)


def test_a_fleet_is_freed_when_it_has_trained():
    gc.collect()
    gc.disable()
    try:
        held = fleet.Fleet([SPEC], data.load("digits"), CPU)
        held.train(lambda epochs: None)
        freed = weakref.ref(held)
        del held
        assert freed() is None
    finally:
        gc.enable()


def losses_of(row):
    """The losses of a measured epoch; accuracies of few images jump."""
    return {name: value for name, value in row.items() if name.endswith("loss")}


@needs_cuda
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_recorded_steps_give_what_eager_steps_give(monkeypatch, spec):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    specs = [spec, dataclasses.replace(spec, seed=4, p=0.5, lr=1.5 * spec.lr, loss="focal")]
    recorded = fleet.train(specs, data.load("digits"), CUDA)
    monkeypatch.setattr(fleet, "recorded", lambda step, device: step)
    eager = fleet.train(specs, data.load("digits"), CUDA)
    for one, other in zip(recorded, eager, strict=True):
        for row, expected in zip(one.history, other.history, strict=True):
            assert losses_of(row) == pytest.approx(losses_of(expected), rel=1e-2)


@needs_cuda
def test_graphs_that_are_garbage_spoil_no_recording():
    class Circle:
        pass

    threshold = gc.get_threshold()
    for _ in range(3):
        circle = Circle()
        circle.itself, circle.graph = circle, torch.cuda.CUDAGraph()
        x = torch.zeros(4, device=CUDA)
        with torch.cuda.graph(circle.graph):
            x += 1
        del circle
    try:
        gc.set_threshold(1, 1, 1)
        fleet.train([SPEC], data.load("digits"), CUDA)
    finally:
        gc.set_threshold(*threshold)


@needs_cuda
def test_a_loss_of_your_own_that_asks_for_a_number_is_refused_in_a_sentence(tmp_path):
    path = tmp_path / "my_loss.py"
    path.write_text(
        "def loss(logits, targets):\n"
        "    return -(targets * logits.log_softmax(-1)).sum(-1) * logits.new_ones(1).item()\n"
    )
    with pytest.raises(UsageError, match="cannot be recorded on the GPU"):
        fleet.train([dataclasses.replace(SPEC, loss=str(path))], data.load("digits"), CUDA)
    fleet.train([SPEC], data.load("digits"), CUDA)  # the device can still be used


@needs_cuda
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_gpu_trains_what_a_cpu_trains(monkeypatch, spec, precision):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    specs = [dataclasses.replace(spec, precision=precision, seed=seed) for seed in (3, 4)]
    tolerance = {"float32": 1e-2, "bfloat16": 0.2}[precision]
    both = (fleet.train(specs, data.load("digits"), device) for device in (CPU, CUDA))
    for here, there in zip(*both, strict=True):
        assert losses_of(there.history[0]) == pytest.approx(
            losses_of(here.history[0]), rel=tolerance
        )
        for row, expected in zip(there.tensors, here.tensors, strict=True):
            shapes = {name: value.shape for name, value in row.items()}
            assert shapes == {name: value.shape for name, value in expected.items()}
        np.testing.assert_array_equal(
            there.tensors[-1]["test_counts"], here.tensors[-1]["test_counts"]
        )


@needs_cuda
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_deterministic_training_repeats_to_the_last_bit(monkeypatch, spec):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    specs = [
        dataclasses.replace(spec, loss=loss, seed=seed) for seed, loss in enumerate(losses.LOSSES)
    ]
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (fleet.train(specs, data.load("digits"), CUDA) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert [one.history for one in first] == [other.history for other in second]
