"""Chen, Ziyin et al. 2020 (arXiv 2010.12648): the experiments by profile, their tables, and the claims.

a is the clean rate of the training labels, p the kept mass of the smoothed label, M the number of classes. Losses in nats.
"""

from dataclasses import dataclass

import numpy as np

from lsnc_core.data_sources import NAMES, SOURCES
from lsnc_core.errors import UsageError
from lsnc_core.papers import claims
from lsnc_core.papers.claims import Case, Claim, Verdict
from lsnc_core.runs.spec import RunSpec
from lsnc_core.theory import label_noise

PAPER = "Chen, Ziyin et al. 2020"

# Training loss above its floor, the entropy of the smoothed label, up to which a network counts as having memorised its labels.
MEMORISED = 0.05
# The claims' thresholds, fixed before the first run.
C1_TOLERANCE, C1_RANGE = 0.1, (0.5, 0.95)
C2_ERROR, C2_RANK, C2_RANGE = 0.15, 0.9, (0.2, 0.95)

PROTOCOLS = {"test_loss": "held-out images", "clean_train_loss": "training images, clean labels"}

_CLAIMS = (
    (
        "C1",
        "sections 3.1, 4.1 and 5.1",
        "With clean test labels the test loss is lowest when the kept mass p equals the clean rate a, for every number of classes.",
        f"lowest at a p within {C1_TOLERANCE} of a, for a in [{C1_RANGE[0]}, {C1_RANGE[1]}]",
    ),
    (
        "C2",
        "section 5.1, Figures 5 and 6",
        "The formula with clean test labels predicts the measured test loss in absolute value.",
        f"mean over p in [{C2_RANGE[0]}, {C2_RANGE[1]}] of |measured − predicted| / predicted below {C2_ERROR:.0%}, "
        f"rank correlation above {C2_RANK}",
    ),
    (
        "C4",
        "sections 3.2 and 4.2",
        "Noisy test labels call for at least as much smoothing as clean ones, p*(β) ≤ p*(α).",
        "p*(β) ≤ p*(α) for every clean rate; the paper states no condition, a ≥ 1/M is needed",
    ),
    (
        "C5",
        "section 4.2, Figure 3",
        "With noisy test labels the best kept mass tends to the squared clean rate as classes are added; beyond 100 no difference is seen.",
        "p*(β) − a² = (1−a)²/(M−1), at most 1/(M−1)",
    ),
    (
        "C6",
        "sections 3.3 and 4.3, Figures 2 and 4",
        "With Bayesian test labels p* stays at 1/M up to a critical clean rate and jumps there, a sharp first-order transition.",
        "a jump of p* for every M; derived: a jump for M ≥ 3, none at a = 3/4 for M = 2",
    ),
    (
        "C12",
        "section 6.2, equation 18",
        "The label-smoothing objective is never above the log-likelihood of forward correction.",
        "no violation: Jensen's inequality",
    ),
)
CLAIMS = {name: Claim(name, PAPER, place, sentence, expected) for name, place, sentence, expected in _CLAIMS}


@dataclass(frozen=True)
class LandscapeSize:
    """What the a-p landscape trains in one profile: seeds everywhere, and more seeds at some clean rates."""

    data: str
    train_size: int
    test_size: int
    pool: int
    widths: tuple[int, int, int]
    clean_rates: tuple[float, ...]
    kept: tuple[float, ...]
    seeds: int
    lr: float
    batch: int
    epochs: int
    evaluate_at: tuple[int, ...]
    repeated_rates: tuple[float, ...] = ()
    repeated_seeds: int = 0


_TENTHS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

LANDSCAPE = {
    "smoke": LandscapeSize(
        data="digits",
        train_size=200,
        test_size=500,
        pool=1,
        widths=(8, 16, 128),
        clean_rates=(0.5, 0.8),
        kept=(0.3, 0.8, 1.0),
        seeds=1,
        repeated_rates=(0.8,),
        repeated_seeds=4,
        lr=0.05,
        batch=64,
        epochs=30,
        evaluate_at=(1, 10, 30),
    ),
    "quick": LandscapeSize(
        data="mnist-subset",
        train_size=500,
        test_size=2000,
        pool=2,
        widths=(8, 16, 128),
        clean_rates=(0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0),
        kept=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0),
        seeds=4,
        lr=0.05,
        batch=64,
        epochs=250,
        evaluate_at=(1, 2, 4, 8, 16, 32, 64, 128, 250),
    ),
    # the paper's optimiser, batch and grid; fewer epochs and seeds; 151,226 parameters, enough to memorise random labels
    "gpu": LandscapeSize(
        data="mnist",
        train_size=60000,
        test_size=10000,
        pool=1,
        widths=(16, 32, 128),
        clean_rates=_TENTHS,
        kept=_TENTHS,
        seeds=1,
        repeated_rates=(0.5, 0.8),
        repeated_seeds=4,
        lr=0.01,
        batch=128,
        epochs=30,
        evaluate_at=(1, 2, 3, 5, 8, 12, 20, 30),
    ),
    "paper": LandscapeSize(
        data="mnist",
        train_size=60000,
        test_size=10000,
        pool=1,
        widths=(16, 32, 128),
        clean_rates=_TENTHS,
        kept=_TENTHS,
        seeds=4,
        lr=0.01,
        batch=128,
        epochs=100,
        evaluate_at=(1, 2, 3, 5, 8, 12, 20, 30, 50, 75, 100),
    ),
}


def landscape_runs(profile: str, data_set: str = "") -> list[RunSpec]:
    """The networks of the a-p landscape (Chen Figures 5 and 6) in one profile.

    Another image set than the profile's may be named; of a smaller one all images are used, and images too small to be pooled
    are taken as they are.

    Raises:
        UsageError: for an unknown profile or data set.
    """
    if profile not in LANDSCAPE:
        raise UsageError(f"unknown profile {profile!r}; the profiles are {', '.join(LANDSCAPE)}.")
    from lsnc_core import models

    size = LANDSCAPE[profile]
    if data_set and data_set not in NAMES:
        raise UsageError(f"unknown data set {data_set!r}; the data sets are {', '.join(NAMES)}.")
    source = SOURCES[data_set or size.data]
    train_size, test_size = (min(asked, there) for asked, there in zip((size.train_size, size.test_size), source.sizes, strict=True))
    pool = size.pool if min(source.shape[1:]) >= models.CNN_SIDE * size.pool else 1
    runs = []
    for seed in range(max(size.seeds, size.repeated_seeds)):
        rates = size.clean_rates if seed < size.seeds else size.repeated_rates
        runs += [
            RunSpec(
                data=source.name,
                train_size=train_size,
                test_size=test_size,
                pool=pool,
                model="cnn",
                widths=size.widths,
                a=a,
                p=p,
                lr=size.lr,
                momentum=0.9,
                weight_decay=0.0,
                batch=size.batch,
                epochs=size.epochs,
                evaluate_at=size.evaluate_at,
                seed=seed,
                order_seed=0,
            )
            for a in rates
            for p in size.kept
        ]
    return runs


def landscape_table(runs):
    """One row per trained network at its last epoch, with the formula beside the measurement.

    Args:
        runs: the table of `lsnc_core.runs.results`, of one data set.

    Returns:
        pandas.DataFrame with a, p, seed, kept (share of clean labels as drawn), `test_loss` and `clean_train_loss` in nats,
        `predicted` (eq. 11), `predicted_as_drawn` (eq. 11 at the share of clean labels as drawn), `excess` (training loss above
        its floor, nats), `memorised` (bool) and `run` (its file in the store).
    """
    table = runs[runs.epoch == runs.epochs].copy()
    M = SOURCES[table.data.iloc[0]].num_classes
    table["predicted"] = label_noise.loss("alpha", table.a.to_numpy(), table.p.to_numpy(), M)
    table["predicted_as_drawn"] = label_noise.loss("alpha", table.kept.to_numpy(), table.p.to_numpy(), M)
    table["excess"] = table.train_loss - label_noise.entropy_floor(table.p.to_numpy(), M)
    table["memorised"] = table.excess <= MEMORISED
    columns = [
        "data",
        "a",
        "p",
        "seed",
        "kept",
        "predicted",
        "predicted_as_drawn",
        *PROTOCOLS,
        "test_accuracy",
        "excess",
        "memorised",
        "run",
    ]
    return table[columns].sort_values(["a", "p", "seed"], ignore_index=True)


def minima(table, column: str):
    """Where each clean rate's curve is lowest: one row per a with the argmin over p, its 95 % interval where there are four seeds or more.

    Args:
        table: from `landscape_table`.
        column: which loss, one of `PROTOCOLS`.

    Returns:
        pandas.DataFrame with a, seeds, argmin (NaN without a finite cell), low, high (NaN without an
        interval) and memorised (all cells of the row).
    """
    import pandas as pd

    rows = []
    for a, part in table.groupby("a"):
        curves = part.pivot(index="seed", columns="p", values=column)
        # the loss is no parabola in p, least of all near p = 1 where it diverges; in log-odds it is smooth
        with np.errstate(divide="ignore"):
            odds = np.log(curves.columns) - np.log1p(-curves.columns)
        values = curves.to_numpy()
        if len(curves) >= claims.MIN_SEEDS and np.isfinite(values).all():
            found = claims.argmin_interval(odds, values)
        else:
            mean = values.mean(0)
            there = np.isfinite(mean)  # a cell where a network diverged is no minimum
            found = claims.parabola_argmin(odds[there], mean[there]) if there.any() else np.nan, np.nan, np.nan
        argmin, low, high = (1 / (1 + np.exp(-np.array(found)))).tolist()
        rows.append({"a": a, "seeds": len(curves), "argmin": argmin, "low": low, "high": high, "memorised": bool(part.memorised.all())})
    return pd.DataFrame(rows)


def agreement(table, column: str, predicted: str = "predicted"):
    """How close the formula comes at each clean rate and seed over p in [.2, .95]; `predicted` may be "predicted_as_drawn".

    Returns:
        pandas.DataFrame with a, seed, error (mean of |measured - predicted| / predicted), residual (mean of measured -
        predicted, nats), rank (Spearman's correlation over p; NaN where losses are not finite or all equal) and memorised.
    """
    import pandas as pd
    from scipy import stats

    rows = []
    inside = table[table.p.between(*C2_RANGE)]
    for (a, seed), part in inside.groupby(["a", "seed"]):
        residual = part[column] - part[predicted]
        # a formula that is symmetric in p (a = 1/2) has ties, which the last bits would break at random
        ranked = np.isfinite(part[column]).all() and part[column].nunique() > 1
        rows.append(
            {
                "a": a,
                "seed": seed,
                "error": (residual.abs() / part[predicted]).mean(skipna=False),
                "residual": residual.mean(skipna=False),
                "rank": stats.spearmanr(part[column], part[predicted].round(12)).statistic if ranked else np.nan,
                "memorised": bool(part.memorised.all()),
            }
        )
    return pd.DataFrame(rows)


def _where(table, column: str) -> str:
    return f"{PROTOCOLS[column][0].upper()}{PROTOCOLS[column][1:]} of {table.data.iloc[0]}"


def verdict_c1(table, column: str) -> Verdict:
    """C1 on trained networks: the argmin's interval against a - 0.1 ... a + 0.1 at each clean rate with four seeds or more."""
    found = minima(table, column)
    found = found[found.a.between(*C1_RANGE)]
    cases = []
    for row in found[found.seeds >= claims.MIN_SEEDS].itertuples():
        if np.isfinite(row.low):
            outcome = claims.decide(row.low, row.high, row.a - C1_TOLERANCE, row.a + C1_TOLERANCE)
            cases.append(_case(row.a, f"lowest at p = {row.argmin:.2f} [{row.low:.2f}, {row.high:.2f}]", outcome, row.memorised))
        else:
            cases.append(_case(row.a, "a loss is missing or not finite", claims.UNDECIDED))
    single = found[found.seeds < claims.MIN_SEEDS]
    near = int(((single.argmin - single.a).abs() <= C1_TOLERANCE).sum())
    remark = f"without an interval, {near} of {len(single)} other clean rates within {C1_TOLERANCE}" if len(single) else ""
    return claims.over_cases(CLAIMS["C1"], _where(table, column), cases, remark, _decider(table, cases))


def verdict_c2(table, column: str, predicted: str = "predicted") -> Verdict:
    """C2 on trained networks: relative error and rank correlation over p at each clean rate with four seeds or more."""
    cases = []
    for a, part in agreement(table, column, predicted).groupby("a"):
        if len(part) < claims.MIN_SEEDS:
            continue
        if not np.isfinite(part[["error", "rank"]]).all(axis=None):
            cases.append(_case(a, "losses that are not finite, or all equal", claims.UNDECIDED))
            continue
        error, rank, residual = (claims.t_interval(part[name]) for name in ("error", "rank", "residual"))
        rank = (rank[0], rank[1], min(rank[2], 1.0))  # a t-interval knows no upper end
        measured = (
            f"error {error[0]:.1%} [{error[1]:.1%}, {error[2]:.1%}], rank correlation {rank[0]:.2f} [{rank[1]:.2f}, {rank[2]:.2f}], "
            f"measured − predicted {residual[0]:+.3f} [{residual[1]:+.3f}, {residual[2]:+.3f}] nats"
        )
        both = claims.every([claims.decide(*error[1:], at_most=C2_ERROR), claims.decide(*rank[1:], at_least=C2_RANK)])
        cases.append(_case(a, measured, both, bool(part.memorised.all())))
    where = _where(table, column) + (", formula at the share of clean labels as drawn" if predicted != "predicted" else "")
    return claims.over_cases(CLAIMS["C2"], where, cases, decider=_decider(table, cases))


def _case(a: float, measured: str, outcome: str, memorised: bool = True) -> Case:
    """What was found at one clean rate; the theory presumes memorised labels, so without them nothing is decided."""
    return Case(f"a = {a:g}", measured + ("" if memorised else ", not memorised"), outcome if memorised else claims.UNDECIDED)


def _decider(table, cases: list[Case]) -> str:
    """What would decide an open claim about a landscape."""
    if not cases:
        return f"{claims.MIN_SEEDS} seeds at a clean rate"
    return "more seeds, or more training images" if table.memorised.all() else "more epochs, until the labels are memorised"


def seen(table) -> str:
    """What a landscape shows, in a sentence of numbers: how many networks, whether they memorised, the sign of the residual."""
    size = f"{len(table)} networks on {SOURCES[table.data.iloc[0]].title}"
    fitted = f"{int(table.memorised.sum())} of them have memorised their labels (training loss within {MEMORISED} nats of its floor)"
    low, high = C2_RANGE
    inside = table[table.p.between(low, high)]
    residuals = []
    for column, where in PROTOCOLS.items():
        by_rate = (inside[column] - inside.predicted).groupby(inside.a).mean()
        residuals.append(f"{where}: " + ", ".join(f"{residual:+.2f} at a = {a:g}" for a, residual in by_rate.items()))
    return f"{size}; {fitted}. Mean of measured minus predicted for p from {low} to {high} in nats; {'; '.join(residuals)}."


def nearest_theory(table):
    """Which assumption's best p lies closest to the measured minima, over the clean rates that have four seeds or more.

    Returns:
        pandas.DataFrame with rows alpha, beta, gamma (mean distance over clean rates and seeds) and "gamma - alpha" (its paired
        difference), columns mean, low, high (95 % t-interval over seeds) for each protocol, as a two-level index.
    """
    import pandas as pd

    M = SOURCES[table.data.iloc[0]].num_classes
    enough = table[table.groupby("a").seed.transform("nunique") >= claims.MIN_SEEDS]
    found = {}
    for column, where in PROTOCOLS.items():
        rows = {kind: [] for kind in label_noise.KINDS}
        for _, part in enough.groupby("seed"):
            lowest = minima(part, column)
            for kind, distances in rows.items():
                distances.append((lowest.argmin - label_noise.optimum(kind, lowest.a, M)).abs().mean())
        rows["gamma - alpha"] = np.subtract(rows["gamma"], rows["alpha"])
        found[where] = pd.DataFrame({name: claims.t_interval(values) for name, values in rows.items()}, index=["mean", "low", "high"]).T
    return pd.concat(found, axis=1)


def held_out(table) -> str:
    """Why held-out images differ from memorised ones, in numbers: how often the networks are right on them, by clean rate."""
    learned = table[table.p > 1 / SOURCES[table.data.iloc[0]].num_classes]
    rates = learned.groupby("a").test_accuracy.mean()
    said = ", ".join(f"{accuracy:.2f} at a = {a:g}" for a, accuracy in rates.items())
    return (
        "The formula takes every image for memorised: right with probability a, and the output exactly the smoothed label. "
        f"On held-out images the networks are right with frequency {said} (mean over p above 1/M and seeds)."
    )
