"""The benchmark of the trainers runs: its rows, errors of those that fail, memory, whole grids."""

import dataclasses
import functools
import importlib
import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT

from lsnc_core import data, models
from lsnc_core.papers.chen import networks
from lsnc_core.runs import execute, fleet, prepare

sys.path.insert(0, str(ROOT / "benchmarks"))
benchmark, cases, grids, jax_peer, memory, ways = (
    importlib.import_module(name)
    for name in ("fleet", "cases", "grids", "jax_peer", "memory", "ways")
)

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(scope="module", autouse=True)
def outputs(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSNC_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        yield


@pytest.fixture
def tiny(monkeypatch):
    """The name of a small case like those for a GPU, in the benchmark while the test lasts."""
    spec = dataclasses.replace(
        cases.CASES["resnet18 width 20 bf16"], widths=(2,), train_size=40, batch=20
    )
    monkeypatch.setitem(cases.CASES, "tiny", spec)
    monkeypatch.setitem(cases.SIZES["cpu"], "tiny", (1,))
    monkeypatch.setattr(benchmark, "ALONGSIDE", 2)
    monkeypatch.setitem(benchmark.SIDES, "cpu", 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
    return "tiny"


def test_the_benchmark_writes_its_rows_and_the_errors_of_those_that_failed(
    tiny, monkeypatch, tmp_path, capsys
):
    def fails(*arguments):
        raise RuntimeError("no\nluck")

    monkeypatch.setattr(benchmark, "vmapped", fails)
    monkeypatch.setitem(cases.GPU_CASES, tiny, None)
    output, before = tmp_path / "table.json", torch.backends.cudnn.allow_tf32
    monkeypatch.setattr(
        sys, "argv", ["fleet.py", "--only", tiny, "--seconds", "0.05", "--output", str(output)]
    )
    benchmark.main()
    assert torch.backends.cudnn.allow_tf32 == before
    report, printed = json.loads(output.read_text()), capsys.readouterr().out
    rows = {row["row"]: row for row in report["rows"]}
    assert list(rows) == ["loader", "memory", "vmap 2", "fleet 1", "threads 2"]
    columns = [
        "case",
        "row",
        "as_used",
        "rate",
        "ratio",
        "peak_share",
        "cifar_grid_hours",
        "memory_mib",
    ]
    assert rows.pop("vmap 2") == dict.fromkeys(columns) | {
        **{"case": tiny, "row": "vmap 2", "as_used": False},
        "error": "RuntimeError: no luck",
    }
    assert "RuntimeError: no luck\n" in printed
    for name, row in rows.items():
        assert list(row) == columns
        assert (
            row["rate"] > 0
            and row["ratio"] > 0
            and row["peak_share"] > 0
            and f"{row['rate']:,.0f}" in printed
        )
        assert row["cifar_grid_hours"] == pytest.approx(100 * 100 * 50_000 / row["rate"] / 3600)
        assert row["as_used"] == (name == "fleet 1")  # ResNets train alone on a CPU
        assert (row["memory_mib"] is None) == (name in ("loader", "memory"))
    assert printed.count("as used\n") == 1
    assert report.keys() == {"rows", "unit", "seconds", "device", "specs", "provenance"}
    assert report["specs"] == {tiny: json.loads(json.dumps(cases.CASES[tiny].to_dict()))}


def run_row(kind, device):
    hold, step = fleet.hold, fleet.StackedStep
    rate = ways.fleet_rate(cases.CASES["tiny"], 2, 0.01, device, kind)
    assert rate > 0 and (fleet.hold, fleet.StackedStep) == (hold, step)


@pytest.mark.parametrize("kind", cases.KINDS)
def test_every_kind_of_row_runs(tiny, kind):
    run_row(kind, CPU)


def test_epochs_before_steps_are_recorded_are_not_measured(tiny, monkeypatch):
    clock, epochs = itertools.count(), []

    def train(specs, images, device, progress, routes):
        while True:
            epochs.append(progress(1))

    monkeypatch.setattr(ways.fleet, "train", train)
    monkeypatch.setattr(ways, "finish", lambda device: None)
    monkeypatch.setattr(ways.time, "perf_counter", lambda: float(next(clock)))
    rate = ways.fleet_rate(cases.CASES[tiny], 2, 5.5, CUDA)
    # the clock is read once when it starts, once an epoch, and once at the end: after 7 s
    assert rate == 6 * 2 * cases.CASES[tiny].train_size / 7
    assert len(epochs) == 1 + ways.graphs.WARM_UP + 5


def test_a_process_that_fails_ends_its_row_alone_and_by_its_own_error(tiny, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    with pytest.raises(KeyError, match="unknown"):
        ways.in_processes(cases.CASES[tiny], 1, 0.01, "unknown")


def test_memory_is_a_peak():
    code = "x = bytearray(300 << 20); x = 0; print('ready', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        child.stdout.readline()
        if not memory.peak_memory(os.getpid()):
            pytest.skip("this system has no smaps_rollup")
        assert child.pid in memory.family(os.getpid())
        assert 300 < memory.peak_memory(child.pid) < 350
        child.communicate(b"\n")
    assert memory.peak_memory(child.pid) == 0 and memory.family(child.pid) == [child.pid]


def out_of_memory(after=None):
    error = torch.OutOfMemoryError("no\nmore")
    error.__context__ = after
    raise error


def follows_from_want_of_memory():
    try:
        out_of_memory()
    except RuntimeError:
        raise RuntimeError("work of other streams is not joined") from None


@pytest.mark.parametrize(
    "fails, message, stops",
    [
        (out_of_memory, "OutOfMemoryError: no more", False),
        (
            functools.partial(out_of_memory, RuntimeError("not joined")),
            "OutOfMemoryError: no more",
            True,
        ),  # as `graphs` raises it
        (follows_from_want_of_memory, "OutOfMemoryError: no more", True),
        (lambda: {}["misaligned address"], "KeyError: 'misaligned address'", True),
    ],
)
def test_an_error_that_leaves_a_gpu_in_doubt_ends_the_case(
    tiny, monkeypatch, capsys, fails, message, stops
):
    for name in ("empty_cache", "reset_peak_memory_stats", "max_memory_reserved"):
        monkeypatch.setattr(torch.cuda, name, lambda: 2**21)
    monkeypatch.setattr(benchmark, "peak", lambda device, precision: 1e9)
    rows = {
        "loader": lambda: 10.0,
        "default": lambda: 20.0,
        "fleet 4": fails,
        "fleet 8": lambda: 60.0,
    }
    monkeypatch.setattr(benchmark, "rows_of", lambda case, seconds, device: rows)
    table = {row["row"]: row for row in benchmark.measure_case(tiny, 1, CUDA)}
    assert (
        list(table) == list(rows)
        and table["fleet 4"]["error"] == message
        and table["fleet 4"]["as_used"]
    )
    if stops:
        assert "'fleet 4'" in table["fleet 8"]["error"] and table["fleet 8"]["rate"] is None
    else:
        assert (
            table["fleet 8"]["ratio"],
            table["fleet 8"]["ratio_default"],
            table["fleet 8"]["memory_mib"],
        ) == (6, 3, 2)
    assert message in capsys.readouterr().out


def test_a_user_s_loop_has_torch_s_defaults(tiny, monkeypatch):
    seen = []
    monkeypatch.setattr(
        ways,
        "plain",
        lambda *given: seen.append(
            (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark)
        ),
    )
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    with ways.cudnn(tf32=False, autotune=True):
        ways.by_default(cases.CASES[tiny], 1, CUDA)
        assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark) == (False, True)
    assert seen == [(True, False)]
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark) == before


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_every_case_is_measured_as_it_is_used(device):
    for case, spec in cases.CASES.items():
        rows, used = benchmark.rows_of(case, 1, device), execute.block_size(spec, device.type)
        assert f"fleet {used}" in rows
        assert ("default" in rows) == (device is CUDA and spec.precision == "float32")
        if not spec.model.startswith("resnet"):
            assert {f"vmap {used}", "vmap 8"} <= set(rows)
        sizes = [int(name.split()[1]) for name in rows if name.startswith("fleet ")]
        assert sizes == sorted(sizes)
        long = [name for name, row in rows.items() if cases.LONG in row.args]
        assert long == ([f"fleet {used}"] if device is CUDA and case in cases.GPU_CASES else [])


def test_rows_on_a_gpu():
    rows = {case: list(benchmark.rows_of(case, 1, CUDA)) for case in cases.CASES}
    assert {"fleet 1", "fleet 100", "listed 8"} <= set(rows["wide cnn 28x28"])
    on_cpus = {"threads 8", f"autograd {execute.BLOCK}", f"jax {execute.BLOCK}"}
    assert not on_cpus & set(itertools.chain(*rows.values()))
    fleets = [
        f"fleet {size}" for size in sorted([*cases.DEFAULT_SIZES["cuda"], execute.BLOCK_CUDA])
    ]
    assert rows["mlp 8x8"] == [
        "loader",
        "default",
        "memory",
        "vmap 8",
        f"vmap {execute.BLOCK_CUDA}",
        *fleets,
        "listed 8",
    ]


def test_rows_on_a_cpu(monkeypatch):
    for there in (True, False):
        monkeypatch.setattr(benchmark.jax_peer, "installed", lambda there=there: there)
        rows, used = set(benchmark.rows_of("cnn 14x14", 1, CPU)), execute.BLOCK
        assert {"threads 8", "listed 8", f"autograd {used}"} <= rows
        assert {f"jax {used}", f"jax {2 * used}"} & rows == (
            {f"jax {used}", f"jax {2 * used}"} if there else set()
        )
        twice = set(benchmark.measured_twice(rows, used))
        assert twice == {"loader", f"fleet {used}", f"autograd {used}"} | (
            {f"jax {used}"} if there else set()
        )
    assert not {"listed 8", "autograd 1"} & set(benchmark.rows_of("resnet18 width 4", 1, CPU))


def test_jax_trains_the_same_network(tiny):
    pytest.importorskip("jax", reason="JAX is no dependency")
    spec = dataclasses.replace(cases.CASES["cnn 14x14"], train_size=100)
    images, _, network = ways.prepared(spec)
    parameters = jax_peer.arrays(network)
    found = np.asarray(jax_peer.apply_of(network)(parameters, images.numpy()))
    np.testing.assert_allclose(found, network(images).detach().numpy(), rtol=1e-4, atol=1e-5)
    assert ways.in_jax(spec, 2, 0.01) > 0


def test_networks_with_batch_norm_are_not_written_in_jax():
    network = models.cnn((1, 14, 14), 10, (4, 6, 11), batch_norm=True)
    assert not jax_peer.written(network)
    assert jax_peer.written(models.cnn((1, 14, 14), 10, (4, 6, 11)))


def test_the_paper_s_grids_are_ten_by_ten():
    for runs in (networks.plan_landscape("paper"), networks.plan_cifar("paper")):
        found = grids.ten_by_ten(runs)
        assert (
            len(found) == 100
            and {spec.epochs for spec in found} == {100}
            and len({spec.shared for spec in found}) == 1
        )
        assert any((spec.a, spec.p) == (0.5, 1.0) for spec in found)
    network = prepare.build(grids.ten_by_ten(networks.plan_landscape("paper"))[0], (1, 28, 28), 10)
    assert sum(weight.numel() for weight in network.parameters()) >= 140_000


def test_the_grid_reports_what_was_memorised(monkeypatch, tmp_path, capsys):
    changes = {
        "data": "digits",
        "train_size": 60,
        "test_size": 50,
        "widths": (4, 6, 16),
        "epochs": 40,
        "evaluate_at": (1, 40),
    }
    one = dataclasses.replace(cases.CASES["cnn 14x14"], pool=1, **changes)
    cells = itertools.product((0.8, 0.5), (0.3, 1.0))
    specs = [dataclasses.replace(one, a=a, p=p) for a, p in cells]
    found = grids.grid(specs, "cpu")
    alone = fleet.train(specs[-1:], data.load("digits"), CPU)[0].history[-1]
    assert found["train_error"] == pytest.approx(1 - alone["train_accuracy"])
    assert found["train_loss"] == pytest.approx(alone["train_loss"], rel=1e-3)
    assert found["networks"] == 4 and found["rate"] == pytest.approx(4 * 60 * 40 / found["seconds"])
    monkeypatch.setattr(
        grids, "grid", lambda specs, device: found | {"networks": len(specs), "device": device}
    )
    monkeypatch.setattr(
        sys, "argv", ["fleet.py", "--grid", "--output", str(tmp_path / "grid.json")]
    )
    benchmark.main()
    report = json.loads((tmp_path / "grid.json").read_text())
    assert (report["networks"], report["device"], report["train_error"]) == (
        100,
        "cpu",
        found["train_error"],
    )
    assert (
        "provenance" in report
        and f"training error {found['train_error']:.2%}" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "case, count", [("resnet18 width 64 bf16", 11_173_962), ("resnet18 width 20 bf16", 1_094_750)]
)
def test_parameters_of_the_cases_for_a_gpu(case, count):
    with torch.device("meta"):
        network = models.resnet18((3, 32, 32), 10, cases.CASES[case].widths)
    assert sum(weight.numel() for weight in network.parameters()) == count


# on a CUDA device


@needs_cuda
@pytest.mark.parametrize("kind", cases.KINDS)
def test_every_kind_of_row_runs_on_a_gpu(tiny, kind):
    run_row(kind, CUDA)


@needs_cuda
def test_memory_on_a_gpu_covers_recorded_steps():
    spec = dataclasses.replace(cases.CASES["cnn 28x28"], data="digits", train_size=1200)
    answer, good = benchmark.attempt(functools.partial(ways.in_fleet, spec, 16, 0.1, CUDA), CUDA)
    assert good and answer["memory_mib"] > torch.cuda.max_memory_allocated() / 2**20 > 0


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py")))
def test_every_benchmark_can_be_imported(name):
    """What it takes from the package is still there."""
    assert importlib.import_module(name).__doc__
