"""The feature model: many starts and strengths at once against one at a time; the closed forms.

    .venv/bin/python benchmarks/ufm.py [--starts N] [--sample N] [--output FILE]

Minimisation, K = 10, n = 2, D = 12, six strengths, to a loss within 1e-6 of the least (relative;
the closed form gives it):

    batched   `ufm_dynamics.minimise`, all starts and strengths at once, all cores
    scipy     scipy's L-BFGS-B, one at a time, with the same objective and gradient
    torch     torch's L-BFGS with autograd, one at a time: what a user would write

One at a time the libraries have one thread: for problems this small their own threads only wait for
each other (scipy's loop was sixty times slower with two). A sample of the starts is run, and the
median time of a run (other work on the machine moves it less than the mean) is multiplied by their
number. Each row stops by its own gradient; the benchmark then checks the gap of every run. There
are two weight decays: that of Guo's code, and ten times less.

The sweep: minimiser, full spectrum and all condition numbers for 300 strengths, in closed form, as
behind a slider.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from lsnc_core import files, provenance
from lsnc_core.theory import ufm, ufm_dynamics, ufm_objective, ufm_spectra
from lsnc_core.theory.ufm import FeatureModel, Loss

STRENGTHS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)
GAP = 1e-6
MODELS = {
    "the code's decays": FeatureModel(10, 2, 12, 1e-3, 2.5e-3, 1e-2),
    "ten times less": FeatureModel(10, 2, 12, 1e-4, 2.5e-4, 1e-3),
}
TOLERANCES = {"the code's decays": 1e-6, "ten times less": 1e-7}  # of the largest gradient entry


def by_scipy(model: FeatureModel, start: np.ndarray, strength: float, tolerance: float) -> float:
    """The value that scipy's L-BFGS-B finds from one start."""
    from scipy import optimize

    options, loss = (
        {"gtol": tolerance, "ftol": 0, "maxiter": 5000, "maxfun": 10000},
        Loss("ls", strength),
    )
    return optimize.minimize(
        lambda p: ufm_objective.value_and_gradient(model, loss, p),
        start,
        jac=True,
        method="L-BFGS-B",
        options=options,
    ).fun


def by_torch(model: FeatureModel, start: np.ndarray, strength: float, tolerance: float) -> float:
    """The value that torch's L-BFGS finds from one start."""
    import torch

    torch.set_num_threads(1)
    labels = torch.arange(model.K).repeat_interleave(model.n)
    W, H, b = (
        torch.tensor(part.copy(), requires_grad=True) for part in ufm_objective.split(model, start)
    )
    optimizer = torch.optim.LBFGS(
        [W, H, b],
        max_iter=5000,
        max_eval=10000,
        tolerance_grad=tolerance,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(H @ W.T + b, labels, label_smoothing=strength)
        decays = (
            model.lambda_W * W.square().sum()
            + model.lambda_H * H.square().sum()
            + model.lambda_b * b.square().sum()
        )
        value = loss + decays / 2
        value.backward()
        return value

    optimizer.step(closure)
    return closure().item()


def each(
    solve, model: FeatureModel, x: np.ndarray, delta: np.ndarray, tolerance: float
) -> tuple[np.ndarray, float]:
    """Values found row after row, and the median seconds of a row."""
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    values, seconds = [], []
    with threadpool_limits(1):
        for start, strength in zip(x, delta.tolist(), strict=True):
            begin = time.perf_counter()
            values.append(solve(model, start, strength, tolerance))
            seconds.append(time.perf_counter() - begin)
    return np.array(values), float(np.median(seconds))


def sweep(strengths: int = 300) -> float:
    """Seconds for minimiser, full spectrum and every condition number at that many strengths."""
    model, delta = FeatureModel(10, 5000, 512, 1e-3, 1e-6, 1e-2), np.linspace(0, 0.95, strengths)
    start = time.perf_counter()
    ufm.minimiser(model, Loss("ls", delta))
    ufm_spectra.spectrum(model, delta)
    for definition in ufm_spectra.DEFINITIONS:
        ufm_spectra.condition_number(model, delta, definition)
    return time.perf_counter() - start


def main() -> None:
    """Measure, print a table, write it with the hardware and versions to a file."""
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument(
        "--starts",
        type=int,
        default=1000,
        help="starts of each strength in the batched run (default 1000)",
    )
    command.add_argument(
        "--sample", type=int, default=10, help="starts of each strength one at a time (default 10)"
    )
    command.add_argument(
        "--output",
        type=Path,
        default=files.outputs_root() / "benchmarks" / "ufm.json",
        help="where the table goes",
    )
    given = command.parse_args()
    rows = []
    for name, model in MODELS.items():
        seconds = {}
        print(f"\n{name}: {given.starts} starts x {len(STRENGTHS)} strengths")
        for way, solve, starts in (
            ("batched", None, given.starts),
            ("scipy", by_scipy, given.sample),
            ("torch", by_torch, given.sample),
        ):
            x = np.tile(ufm_objective.random_starts(model, starts, 0), (len(STRENGTHS), 1))
            delta = np.repeat(STRENGTHS, starts)
            if solve is None:
                begin = time.perf_counter()
                values = ufm_dynamics.minimise(
                    model, Loss("ls", delta), x, tolerance=TOLERANCES[name]
                ).values
                seconds[way] = time.perf_counter() - begin
            else:
                each(solve, model, x[:1], delta[:1], TOLERANCES[name])  # imports and first touches
                values, median = each(solve, model, x, delta, TOLERANCES[name])
                seconds[way] = median * given.starts * len(STRENGTHS)
            gap = float((values / ufm.minimiser(model, Loss("ls", delta)).value - 1).max())
            ratio = seconds[way] / seconds["batched"]
            reached = "within" if gap <= GAP else "MISSES"
            print(
                f"  {way:<8} {seconds[way]:>8.1f} s  {ratio:>6.1f} x  "
                f"{reached} the gap: {gap:.1e}, {starts} starts run",
                flush=True,
            )
            rows.append(
                {
                    "case": name,
                    "way": way,
                    "seconds": seconds[way],
                    "ratio": ratio,
                    "gap": gap,
                    "starts_run": starts,
                }
            )
    sweep()
    fastest = min(sweep() for _ in range(5))
    print(f"\nsweep of 300 strengths: {1e3 * fastest:.1f} ms")
    report = {
        "rows": rows,
        "starts": given.starts,
        "strengths": STRENGTHS,
        "gap": GAP,
        "sweep_seconds": fastest,
    }
    text = json.dumps(report | {"provenance": provenance.describe()}, indent=1)
    files.write_whole(given.output, lambda path: path.write_text(text))
    print(f"written to {given.output}")


if __name__ == "__main__":
    main()
