"""The ways to train that `benchmarks/fleet.py` compares, each timed.

Rates are replica-images per second, times are seconds.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from unittest import mock

import jax_peer
import torch
from cases import KINDS
from memory import peak_memory
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lsnc_core import data, files, labels, losses, models
from lsnc_core.images import standardise
from lsnc_core.runs import RunSpec, fleet, graphs, pool, prepare, products

_barrier = None  # of the fleet's processes on a CPU


def prepared(spec: RunSpec) -> tuple[torch.Tensor, torch.Tensor, models.Network]:
    """A spec's standardised training images (N, C, H, W), smoothed targets (N, K) and network."""
    chosen = data.load(spec.data).subset(spec.train_size, spec.test_size)
    images, _ = standardise(chosen, spec.pool)
    noisy = labels.corrupt(chosen.train_labels, labels.symmetric_noise(spec.a, 10), spec.seed)
    return (
        images,
        labels.soft_targets(noisy, spec.p, 10),
        prepare.build(spec, tuple(images.shape[1:]), 10),
    )


def half(spec: RunSpec, device: torch.device) -> torch.autocast:
    """The context in which a plain loop multiplies in the spec's precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=spec.precision == "bfloat16")


def timed(epoch, images_a_epoch: int, seconds: float) -> float:
    """Replica-images per second of a function that trains one epoch.

    After one epoch of warm-up, epochs are trained for at least `seconds`.
    """
    epoch()
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        epoch()
        done += images_a_epoch
    return done / (time.perf_counter() - start)


def plain(spec: RunSpec, seconds: float, loader: bool, device: torch.device) -> float:
    """One network at a time, eager, with a DataLoader or with tensors in memory."""
    images, targets, network = prepared(spec)
    layout = torch.channels_last if spec.precision == "bfloat16" else torch.preserve_format
    network.to(device, memory_format=layout)
    optimizer = torch.optim.SGD(network.parameters(), lr=spec.lr, momentum=spec.momentum)
    batches = DataLoader(TensorDataset(images, targets), batch_size=spec.batch, shuffle=True)
    if not loader:
        images, targets = images.to(device), targets.to(device)

    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        optimizer.zero_grad()
        with half(spec, device):
            logits = network(x.to(memory_format=layout))
        nn.functional.cross_entropy(logits.float(), y).backward()
        optimizer.step()

    def epoch() -> None:
        if loader:
            for x, y in batches:
                step(x.to(device), y.to(device))
        else:
            for rows in torch.randperm(len(images), device=device).split(spec.batch):
                step(images[rows], targets[rows])
        finish(device)

    return timed(epoch, len(images), seconds)


@contextlib.contextmanager
def cudnn(tf32: bool, autotune: bool) -> Iterator[None]:
    """Set cuDNN for a while: may float32 round to TF32, are algorithms timed first."""
    chosen = torch.backends.cudnn
    before = chosen.allow_tf32, chosen.benchmark
    chosen.allow_tf32, chosen.benchmark = tf32, autotune
    try:
        yield
    finally:
        chosen.allow_tf32, chosen.benchmark = before


def by_default(spec: RunSpec, seconds: float, device: torch.device) -> float:
    """The DataLoader loop with torch's default settings."""
    with cudnn(tf32=True, autotune=False):
        return plain(spec, seconds, True, device)


def finish(device: torch.device) -> None:
    """Wait until a GPU has nothing left to do."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def vmapped(spec: RunSpec, replicas: int, seconds: float, device: torch.device) -> float | None:
    """`replicas` networks through torch.func.

    None for networks that it refuses because of batch norm's running statistics.
    """
    images, targets, _ = prepared(spec)
    networks = [
        prepare.build(dataclasses.replace(spec, seed=seed), tuple(images.shape[1:]), 10)
        for seed in range(replicas)
    ]
    images, targets = images.to(device), targets.to(device)
    networks = [network.to(device) for network in networks]
    parameters, buffers = torch.func.stack_module_state(networks)
    if buffers:
        return None
    optimizer = torch.optim.SGD(parameters.values(), lr=spec.lr, momentum=spec.momentum)

    def loss(weights: dict, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with half(spec, device):
            logits = torch.func.functional_call(networks[0], weights, (x,))
        return losses.LOSSES["ce"](logits.float(), y).mean()

    together = torch.func.vmap(loss, in_dims=(0, None, None))

    def epoch() -> None:
        for rows in torch.randperm(len(images), device=device).split(spec.batch):
            optimizer.zero_grad()
            together(parameters, images[rows], targets[rows]).sum().backward()
            optimizer.step()
        finish(device)

    return timed(epoch, replicas * len(images), seconds)


def in_jax(spec: RunSpec, count: int, seconds: float) -> float | None:
    """`count` networks in JAX, see `jax_peer`; None for networks that are not written there."""
    images, targets, network = prepared(spec)
    if not jax_peer.written(network):
        return None
    epoch = jax_peer.epoch_of(spec, images.numpy(), targets.numpy(), count)
    return timed(epoch, count * len(images), seconds)


def routes_on(device: torch.device) -> products.Routes:
    """By which library the companion multiplies on a device."""
    if device.type == "cuda":
        return products.BY_DEFAULT
    return products.of_this_machine(files.outputs_root())


def fleet_rate(
    spec: RunSpec,
    count: int,
    seconds: float,
    device: torch.device,
    kind: str = "fleet",
    ready: Callable = lambda: None,
) -> float:
    """Replica-images per second of one process that trains `count` networks.

    `kind` is one of `KINDS`; `ready` is called before the clock starts.
    """
    # on a GPU the steps of each size run as they are at first: a last smaller batch once an epoch
    unmeasured = 1 + (graphs.WARM_UP if device.type == "cuda" else 0)
    epochs, start, rate = 0, 0.0, 0.0

    class Enough(Exception):
        """Ends a training that would never end."""

    def progress(_: int) -> None:
        nonlocal epochs, start, rate
        epochs += 1
        finish(device)
        if epochs == unmeasured:
            ready()
            start = time.perf_counter()
        elif epochs > unmeasured and time.perf_counter() - start >= seconds:
            images = (epochs - unmeasured) * count * spec.train_size
            rate = images / (time.perf_counter() - start)
            raise Enough

    endless = [
        dataclasses.replace(spec, seed=seed, epochs=10**9, evaluate_at=(10**9,))
        for seed in range(count)
    ]
    with contextlib.suppress(Enough), mock.patch.multiple(fleet, **KINDS[kind]):
        fleet.train(endless, data.load(spec.data), device, progress, routes=routes_on(device))
    return rate


def _join(barrier, threads: int) -> None:
    """Make this process one of the fleet's on a CPU."""
    global _barrier
    _barrier = barrier
    pool.keep_memory()
    torch.set_num_threads(threads)


def _member(spec: RunSpec, count: int, seconds: float, kind: str) -> tuple[float, float]:
    """The rate of one of the fleet's processes on a CPU, and its peak memory in MiB.

    Where one fails, the others do not wait for it.
    """
    try:
        rate = fleet_rate(spec, count, seconds, torch.device("cpu"), kind, _barrier.wait)
        _barrier.wait()  # pages are shared until all have looked
        memory = peak_memory(os.getpid())
        _barrier.wait()
    except BaseException:
        _barrier.abort()
        raise
    return rate, memory


def in_processes(
    spec: RunSpec, count: int, seconds: float, kind: str = "fleet", processes: int = 0
) -> tuple[float, float]:
    """Replica-images per second and peak memory in MiB of processes that share the CPU's cores.

    By default there is one process per core.
    """
    routes_on(torch.device("cpu"))  # chosen once, before all processes read the choice
    context = multiprocessing.get_context("spawn")
    cores = pool.cores()
    processes = processes or cores
    joining = (context.Barrier(processes), cores // processes)
    with ProcessPoolExecutor(processes, context, _join, joining) as workers:
        members = [workers.submit(_member, spec, count, seconds, kind) for _ in range(processes)]
    errors = [member.exception() for member in members if member.exception()]
    if errors:  # a broken barrier is a consequence of another's error
        causes = [each for each in errors if not isinstance(each, threading.BrokenBarrierError)]
        raise (causes or errors)[0]
    rates, memories = zip(*(member.result() for member in members), strict=True)
    return sum(rates), sum(memories)


def in_fleet(
    spec: RunSpec, count: int, seconds: float, device: torch.device, kind: str = "fleet"
) -> float | tuple[float, float]:
    """The whole machine: replica-images per second, on a CPU with the peak memory in MiB."""
    return (
        fleet_rate(spec, count, seconds, device, kind)
        if device.type == "cuda"
        else in_processes(spec, count, seconds, kind)
    )
