"""Which library multiplies the large matrices of a training step on this CPU.

torch multiplies float32 matrices by MKL, which on AMD's processors is not always the fastest. With
`torch.backends.mkldnn.matmul.fp32_precision = "bf16"` it hands them to oneDNN, which computes in
float32 all the same where the processor has no unit for bfloat16 matrices (AMX), and rounds to
bfloat16 where it has one. So both are timed and checked, once per machine: another library than the
default is taken only for a kind of product that it makes at least `GAIN` times as fast, as exactly.
"""

import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch

from lsnc_core import files, provenance

FILE = "products.json"
DEFAULT, ONEDNN = "default", "oneDNN"
# A layer's three products: its output, the gradient of its input, the gradient of its weight.
KINDS = ("output", "input gradient", "weight gradient")
# Smaller products, in floating-point operations, gain less than oneDNN's preparations cost.
LARGE = 2**24
GAIN = 1.1
# of a product relative to the product of the absolute values, in float64
EXACT = 1e-5
# Layers of the networks that the companion trains on a CPU, as (R, out, in, columns).
LAYERS = ((8, 128, 144, 64), (4, 16, 32, 4608), (4, 32, 64, 4608), (4, 128, 576, 128))
ROUNDS = 9

# By kind of product, the library.
Routes = Mapping[str, str]
BY_DEFAULT: Routes = dict.fromkeys(KINDS, DEFAULT)


@contextlib.contextmanager
def library(name: str) -> Iterator[None]:
    """Multiply by that library, `DEFAULT` or `ONEDNN`, meanwhile."""
    if name == DEFAULT:
        yield
        return
    settings = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = settings.fp32_precision
    settings.fp32_precision = "bf16"
    try:
        yield
    finally:
        settings.fp32_precision = before


def of_this_machine(folder: Path) -> Routes:
    """The libraries chosen for this machine's processor and torch, chosen now if they never were.

    The choice is kept in a file of the folder: later runs there multiply in the same way, so that
    they give the same bits. A file that cannot be read is written anew.

    Raises:
        UsageError: when the folder cannot be written.
    """
    path, machine = folder / FILE, f"{provenance.processor()}, torch {torch.__version__}"
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        routes = known.get(machine)
    except (OSError, ValueError, AttributeError):
        known, routes = {}, None
    if _understood(routes):
        return routes
    routes = choose()
    text = json.dumps(known | {machine: routes}, indent=1) + "\n"
    files.write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))
    return routes


def _understood(routes: object) -> bool:
    return (
        isinstance(routes, dict)
        and tuple(routes) == KINDS
        and all(library in (DEFAULT, ONEDNN) for library in routes.values())
    )


def choose() -> Routes:
    """Time and check the libraries on this machine, on one thread: for each kind, which to use."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {kind: ONEDNN if _wins(kind) else DEFAULT for kind in KINDS}
    finally:
        torch.set_num_threads(threads)


def _wins(kind: str) -> bool:
    """Whether oneDNN is exact, and over all `LAYERS` fast enough, for a kind of product."""
    gains = []
    for layer in LAYERS:
        left, right = _factors(kind, *layer)
        if not exact(left, right):
            return False
        gains.append(_gain(_as_in_training(kind, left, right)))
    return statistics.geometric_mean(gains) >= GAIN


def _factors(
    kind: str, R: int, out: int, into: int, columns: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random factors (R, ., .) of a layer's product, laid out as in training."""
    draws = torch.Generator().manual_seed(0)
    weight, hidden, gradient = (
        torch.randn(R, *shape, generator=draws)
        for shape in ((out, into), (into, columns), (out, columns))
    )
    return {
        "output": (weight, hidden),
        "input gradient": (weight.mT, gradient),
        "weight gradient": (gradient, hidden.mT),
    }[kind]


def _as_in_training(kind: str, left: torch.Tensor, right: torch.Tensor) -> Callable[[], object]:
    """The product with what training adds to it: the bias, or the velocity."""
    result = torch.zeros(len(left), left.shape[1], right.shape[2])
    bias = torch.zeros(len(left), left.shape[1], 1)
    return {
        "output": lambda: torch.baddbmm(bias, left, right, out=result),
        "input gradient": lambda: torch.bmm(left, right, out=result),
        "weight gradient": lambda: result.baddbmm_(left, right, beta=0.9),
    }[kind]


def exact(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Whether oneDNN multiplies these float32 factors as exactly as float32 can."""
    with library(ONEDNN):
        product = torch.bmm(left, right)
    left, right = left.double(), right.double()
    error = (product.double() - left @ right).abs()
    return bool((error <= EXACT * (left.abs() @ right.abs())).all())


def _gain(multiply: Callable[[], object]) -> float:
    """How many times as fast oneDNN is, by the fastest of interleaved rounds: noise only slows."""
    seconds: dict[str, list[float]] = {DEFAULT: [], ONEDNN: []}
    for _ in range(ROUNDS):
        for name, measured in seconds.items():
            with library(name):
                start = time.perf_counter()
                multiply()
                measured.append(time.perf_counter() - start)
    return min(seconds[DEFAULT]) / min(seconds[ONEDNN])
