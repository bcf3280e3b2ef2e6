"""Chen, Ziyin et al. 2020, sections 4.1 and 6.2: noise that is not symmetric, forward correction,
logit smoothing (C11 to C15).

T_ij = P(clean class j becomes i), S* the posterior of the clean class given the noisy one, a the
clean rate, p the kept mass, h logits.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lsnc_core import custom, labels
from lsnc_core.data_sources import source_of
from lsnc_core.errors import UsageError
from lsnc_core.papers import chen, claims
from lsnc_core.papers.chen_claims import C11_TOLERANCE, C15_SHARE, CLAIMS, MEMORISED
from lsnc_core.papers.chen_landscape import PROTOCOLS, decider, where
from lsnc_core.papers.claims import Case, Verdict
from lsnc_core.runs.spec import RunSpec
from lsnc_core.theory import label_noise

# Clean rates of the comparisons, four seeds each; images, network and epochs are the landscape's.
RATES = {"smoke": (0.8,), "quick": (0.6, 0.8), "gpu": (0.6, 0.8), "paper": (0.6, 0.8)}
SEEDS = 4
# a float32 network knows its logits no better
ROUNDING = 1e-6
# What each way of training changes in a spec whose noise leaves labels as they are with frequency
# p; of the package's noises that is a. Under symmetric noise mean field and posterior are one.
WAYS = {
    "none": lambda p: {"p": 1.0},
    "mean field": lambda p: {"p": p},
    "posterior": lambda p: {"p": 1.0, "smoothing": "posterior"},
    "forward": lambda p: {"p": 1.0, "loss": "forward"},
    "logit": lambda p: {"p": p, "loss": "logit"},
}
# A reader's own noise is compared in the ways of the last.
TOGETHER = {
    "symmetric": ("none", "mean field", "forward", "logit"),
    "pair": ("none", "mean field", "posterior", "forward"),
    "block": ("none", "mean field", "posterior"),
    "mixed": ("none", "mean field", "posterior"),
}
# The ways whose targets under symmetric noise are the rows of one S, that with p = a. Without
# smoothing S is the identity.
SMOOTHED = {
    "mean field": "label smoothing",
    "forward": "forward correction",
    "logit": "logit smoothing",
}


def way_of(spec: RunSpec) -> str:
    """Which of `WAYS` a network was trained by."""
    if spec.loss != "ce":
        return spec.loss
    return "posterior" if spec.smoothing == "posterior" else "none" if spec.p == 1 else "mean field"


def noise_runs(
    profile: str, data_set: str = "", noise: Sequence[str] = tuple(TOGETHER)
) -> list[RunSpec]:
    """The networks trained under every noise in every way; those of symmetric noise without and
    with smoothing are the landscape's.

    Args:
        profile, data_set: as for `chen.landscape_runs`.
        noise: names of `labels.NOISES` or readers' files; the symmetric one, under which
            corrections are compared, is always among them.

    Raises:
        UsageError: as `chen.landscape_runs` and `labels.noise_matrix`; for files of one name, which
            could not be told apart; for a noise that moves no label.
    """
    first = chen.landscape_runs(profile, data_set)[0]
    if not all(isinstance(name, str) for name in noise) or len(
        {Path(name).name for name in noise}
    ) < len(set(noise)):
        raise UsageError(
            f"noise must name noises, files under different names, got {list(noise)!r}."
        )
    names = [custom.resolve(name) if custom.is_file(name) else name for name in noise]
    return [
        replace(
            first,
            a=a,
            noise=name,
            seed=seed,
            **WAYS[way](_kept(name, a, source_of(first.data).num_classes)),
        )
        for name in dict.fromkeys(("symmetric", *names))
        for way in TOGETHER.get(name, TOGETHER["mixed"])
        for a in RATES[profile]
        for seed in range(SEEDS)
    ]


def _kept(noise: str, a: float, M: int) -> float:
    """The mean field's kept mass Tr(T)/M, without rounding errors."""
    p = round(label_noise.mean_field_kept_alpha(labels.noise_matrix(noise, a, M)), 12)
    if p == 1:
        raise UsageError(
            f"the noise of {noise} moves no label at a = {a:g}, so there is nothing to compare."
        )
    return p


def ways_by_noise(table) -> dict[str, list[str]]:
    """The ways that a table has of each noise, both in the order of its rows."""
    return {noise: list(part.way.unique()) for noise, part in table.groupby("noise", sort=False)}


def smoothing_of(way: str, T: np.ndarray) -> np.ndarray:
    """The output of a network that has memorised the labels of a way, by noisy label: float64 (M,
    M), columns are distributions.
    """
    M = len(T)
    if way == "mean field":
        return labels.smoothing_matrix(label_noise.mean_field_kept_alpha(T), M)
    return label_noise.optimal_smoothing_alpha(T) if way == "posterior" else np.eye(M)


def floor(way: str, T: np.ndarray, noisy: np.ndarray) -> float:
    """The least training loss of a way on noisy labels, integers (N,), in nats: the mean entropy of
    what they are smoothed to, for forward correction the mean of -log of the best class's T_ij.
    """
    if way == "forward":
        return float(-np.log(T.max(1)[noisy]).mean())
    S = smoothing_of(way, T)
    return float(-np.log(np.where(S > 0, S, 1.0) ** S).sum(0)[noisy].mean())


def _cross_entropy(probabilities: np.ndarray, clean: np.ndarray) -> float:
    return float(-np.log(probabilities[np.arange(len(clean)), clean]).mean())


def _softmax(logits: np.ndarray) -> np.ndarray:
    from scipy.special import softmax

    return softmax(logits, axis=1)


def table(runs, found: dict):
    """One row per network of `noise_runs` after its last epoch.

    Args: runs, the table of `lsnc_core.runs.results`; found, from `lsnc_core.runs.tensors`, of the
    same networks.

    Returns:
        pandas.DataFrame with data, noise, way, a, p, seed, test_loss, clean_train_loss and
        test_accuracy as trained; `predicted` (of a network that has memorised its labels, on clean
        ones; inf for one-hot labels); `corrected_test` and `corrected_train`, the losses of the
        other output of forward correction, T f, and of logit smoothing, softmax(S h) (NaN for the
        other ways); `excess` (training loss above its floor) and `memorised`.
    """
    last = runs[runs.epoch == runs.epochs].reset_index(drop=True)
    columns = ["data", "noise", "a", "p", "seed", *PROTOCOLS, "test_accuracy"]
    rows = last[columns].copy()
    rows.insert(2, "way", [way_of(spec) for spec in found])
    more = [
        _beside(spec, epochs[-1], loss)
        for (spec, epochs), loss in zip(found.items(), last.train_loss, strict=True)
    ]
    for name in more[0]:
        rows[name] = [each[name] for each in more]
    return rows


def _beside(spec: RunSpec, tensors: dict, train_loss: float) -> dict:
    """What `table` adds to a network's measured losses."""
    from lsnc_core import data

    train, test = data.truth(spec.data, spec.train_size, spec.test_size)
    way, T = way_of(spec), labels.noise_matrix(spec.noise, spec.a, source_of(spec.data).num_classes)
    other = {}
    for part, clean in (("test", test), ("train", train)):
        logits = np.asarray(tensors[f"{part}_logits"], dtype=float)  # (N, K)
        loss = np.nan
        if way == "forward":
            loss = _cross_entropy(_softmax(logits) @ T.T, clean.numpy())
        elif way == "logit":
            loss = _cross_entropy(
                _softmax(logits @ labels.smoothing_matrix(spec.p, len(T)).T), clean.numpy()
            )
        other[f"corrected_{part}"] = loss
    excess = train_loss - floor(way, T, labels.corrupt(train, T, spec.seed).numpy())
    predicted = label_noise.alpha_loss(smoothing_of(way, T), T)
    return {
        "predicted": predicted,
        **other,
        "excess": excess,
        "memorised": bool(excess <= MEMORISED),
    }


def seen(table) -> str:
    """What the comparison of smoothings shows, in numbers: loss on held-out images by noise and way
    at the highest clean rate.
    """
    part = table[table.a == table.a.max()]
    means = part.groupby(["noise", "way"], sort=False).test_loss.mean()
    said = []
    for noise, ways in ways_by_noise(table).items():
        said.append(
            f"{Path(noise).name}: " + ", ".join(f"{means[noise, way]:.2f} ({way})" for way in ways)
        )
    return f"Held-out images, a = {part.a.iloc[0]:g}: {'; '.join(said)}; {int(table.memorised.sum())} of {len(table)} networks have memorised."


def seen_outputs(table) -> str:
    """The two outputs of forward correction and of logit smoothing under symmetric noise, in
    numbers.
    """
    said = []
    for a, part in table[table.noise == "symmetric"].groupby("a"):
        means = part.groupby("way")[
            ["test_loss", "corrected_test", "test_accuracy", "excess"]
        ].mean()
        forward, logit, smoothed = (means.loc[way] for way in ("forward", "logit", "mean field"))
        said.append(
            f"a = {a:g}: held-out loss {smoothed.test_loss:.2f} with label smoothing, {forward.test_loss:.2f} of f and "
            f"{forward.corrected_test:.2f} of T f with forward correction, {logit.test_loss:.2f} of softmax(h) and "
            f"{logit.corrected_test:.2f} of softmax(S h) with logit smoothing; accuracy {smoothed.test_accuracy:.2f}, "
            f"{forward.test_accuracy:.2f}, {logit.test_accuracy:.2f}; forward correction ends {forward.excess:.2f} nats above the loss of "
            "memorised labels"
        )
    return "; ".join(said) + "."


def jensen(found: dict):
    """The three objectives of eqs 18 and 19 on the noisy training labels of each network under
    symmetric noise, after its last epoch.

    Args: found, from `lsnc_core.runs.tensors`.

    Returns:
        pandas.DataFrame with way, a, seed, images; smoothing, forward, logit (means over images,
        nats: sum_j S log q, log sum_j S q, log softmax(S h), each at the noisy label, S symmetric
        with p = a); above_forward and above_logit (images with smoothing above forward, and forward
        above logit, by more than rounding).
    """
    import pandas as pd

    from lsnc_core import data

    rows = []
    for spec, epochs in found.items():
        if spec.noise != "symmetric":
            continue
        clean, _ = data.truth(spec.data, spec.train_size, spec.test_size)
        S = labels.symmetric_noise(spec.a, source_of(spec.data).num_classes)  # its own posterior
        noisy = labels.corrupt(clean, S, spec.seed).numpy()
        logits = np.asarray(epochs[-1]["train_logits"], dtype=float)  # (N, K)
        terms = objectives(S, logits, noisy)
        row = {"way": way_of(spec), "a": spec.a, "seed": spec.seed, "images": len(noisy)}
        row |= {name: float(values.mean()) for name, values in terms.items()}
        row["above_forward"] = int((terms["smoothing"] > terms["forward"] + ROUNDING).sum())
        row["above_logit"] = int((terms["forward"] > terms["logit"] + ROUNDING).sum())
        rows.append(row)
    return pd.DataFrame(rows)


def objectives(S: np.ndarray, logits: np.ndarray, noisy: np.ndarray) -> dict[str, np.ndarray]:
    """The log-likelihoods of eqs 18 and 19 at the noisy labels: sum_j S_yj log q_j, log sum_j S_yj
    q_j, log softmax(S h)_y.

    Args: S, float64 (M, M), symmetric; logits, float64 (N, M); noisy, integers (N,).
    Returns: smoothing, forward, logit, float64 (N,) each, <= 0, in nats.
    """
    from scipy.special import log_softmax, logsumexp

    log_q, rows = log_softmax(logits, axis=1), S[noisy]  # (N, M) each
    smoothed = log_softmax(logits @ S.T, axis=1)
    return {
        "smoothing": (rows * log_q).sum(1),
        "forward": logsumexp(log_q, axis=1, b=rows),
        "logit": smoothed[np.arange(len(noisy)), noisy],
    }


def jensen_gap(runs):
    """How far eq. 18 is from an equality while networks train under symmetric noise: log sum_j S q
    - sum_j S log q, S with p = a.

    Args: runs, the table of `lsnc_core.runs.results` for `noise_runs` with a column way.

    Returns:
        pandas.DataFrame with way (of `SMOOTHED`; without smoothing the gap is 0), a, seed, epoch;
        gap (mean over noisy training labels, nats, >= 0 but for rounding).
    """
    part = runs[(runs.noise == "symmetric") & runs.way.isin(SMOOTHED)]
    gap = part.train_smoothed_loss - part.train_forward_loss
    return part[["way", "a", "seed", "epoch"]].assign(gap=gap).reset_index(drop=True)


def seen_gap(gaps) -> str:
    """The gap of eq. 18 in numbers: mean over seeds after the first and the last epoch by way, and
    the least of all.
    """
    first, last = gaps.epoch.min(), gaps.epoch.max()
    said = []
    for a, part in gaps.groupby("a"):
        means = part.groupby(["way", "epoch"]).gap.mean()
        ends = (
            f"{means[way, first]:.3f} and {means[way, last]:.3f} ({name})"
            for way, name in SMOOTHED.items()
        )
        said.append(f"a = {a:g}: {', '.join(ends)}")
    least = f"the least of {len(gaps)} gaps, one a network and epoch, is {gaps.gap.min():.2g}"
    return f"After epochs {first} and {last}, nats: {'; '.join(said)}; {least}."


def _paired(table, noise: str, a: float, column: str):
    """The values of one column by seed (rows) and way (columns) at one noise and clean rate."""
    part = table[(table.noise == noise) & (table.a == a)]
    return part.pivot(index="seed", columns="way", values=column)


def _memorised(table, noise: str, a: float, ways: tuple[str, ...]) -> bool:
    part = table[(table.noise == noise) & (table.a == a) & table.way.isin(ways)]
    return bool(part.memorised.all())


def _case(name: str, values, memorised: bool, sign: str = "+", shown=float, **limits) -> Case:
    """A case from one value a seed: mean, interval, and the outcome against the limits; undecided
    where labels are not memorised.

    `shown` makes what is told of what is averaged, as np.exp does of logarithms of ratios.
    """
    if not np.isfinite(values).all():
        return Case(name, "a loss is not finite, or zero", claims.UNDECIDED)
    middle, low, high = claims.t_interval(values)
    said = f"{shown(middle):{sign}.3f} [{shown(low):{sign}.3f}, {shown(high):{sign}.3f}]" + (
        "" if memorised else ", not memorised"
    )
    return Case(name, said, claims.decide(low, high, **limits) if memorised else claims.UNDECIDED)


def verdict_c11(table) -> list[Verdict]:
    """C11 on the formulas, and on trained networks: ratio of T f's loss to that of label smoothing,
    paired by seed, on the log scale.
    """
    M, a = source_of(table.data.iloc[0]).num_classes, 0.8
    apart = {}
    for noise in table.noise.unique():
        T = labels.noise_matrix(noise, a, M)
        apart[Path(noise).name] = label_noise.alpha_loss(T, T) - label_noise.alpha_loss(
            label_noise.optimal_smoothing_alpha(T), T
        )
    said = ", ".join(f"{value:.2g} ({noise})" for noise, value in apart.items())
    exact = abs(apart["symmetric"]) < 1e-12
    found = [
        Verdict(
            CLAIMS["C11"],
            "The formulas",
            f"loss of T f minus that of S*, labels memorised, a = {a}, nats: {said}; the claim is for symmetric noise, "
            "elsewhere T f differs from the posterior unless T is symmetric",
            claims.HOLDS if exact else claims.FAILS,
        )
    ]
    for column, corrected in zip(PROTOCOLS, ("corrected_test", "corrected_train"), strict=True):
        cases = []
        for rate in sorted(set(table.a)):
            smoothed, other = (
                _paired(table, "symmetric", rate, name) for name in (column, corrected)
            )
            with np.errstate(divide="ignore", invalid="ignore"):
                values = np.log((other["forward"] / smoothed["mean field"]).to_numpy())
            memorised = _memorised(table, "symmetric", rate, ("mean field", "forward"))
            limits = {"at_least": np.log(1 - C11_TOLERANCE), "at_most": np.log(1 + C11_TOLERANCE)}
            cases.append(_case(f"a = {rate:g}", values, memorised, "", np.exp, **limits))
        remark = "ratios of T f's loss to label smoothing's"
        found.append(
            claims.over_cases(
                CLAIMS["C11"], where(table, PROTOCOLS[column]), cases, remark, decider(table, cases)
            )
        )
    return found


def verdict_c12(terms) -> Verdict:
    """C12 on trained networks, from `jensen`: counted over all noisy training labels."""
    total, wrong = int(terms.images.sum()), int(terms.above_forward.sum())
    gaps = ", ".join(
        f"{gap:.3f} ({way})"
        for way, gap in (terms.forward - terms.smoothing)
        .groupby(terms.way, sort=False)
        .mean()
        .items()
    )
    measured = f"{wrong} violations in {total:,} labels of {len(terms)} networks; mean gap by how they were trained, nats: {gaps}"
    return Verdict(
        CLAIMS["C12"],
        "Trained networks, symmetric noise",
        measured,
        claims.FAILS if wrong else claims.HOLDS,
    )


def verdict_c13(table, column: str) -> Verdict:
    """C13 on trained networks: loss with the posterior minus that with mean field and minus that
    without smoothing, paired by seed.
    """
    cases = []
    for noise, ways in ways_by_noise(table).items():
        if "posterior" not in ways:
            continue
        for a in sorted(set(table.a)):
            losses = _paired(table, noise, a, column)
            for other in ("mean field", "none"):
                memorised = _memorised(table, noise, a, ("posterior", other))
                name = f"{Path(noise).name}, posterior minus {other}, a = {a:g}"
                cases.append(
                    _case(
                        name,
                        (losses["posterior"] - losses[other]).to_numpy(),
                        memorised,
                        at_most=0.0,
                    )
                )
    if not cases:
        only = "tried under symmetric noise alone, where the posterior is the mean field"
        return Verdict(CLAIMS["C13"], where(table, PROTOCOLS[column]), only, claims.UNDECIDED)
    outcomes = {each: sum(case.outcome == each for case in cases) for each in claims.OUTCOMES}
    said = ", ".join(f"{outcome} in {count}" for outcome, count in outcomes.items() if count)
    outcome = claims.every([case.outcome for case in cases])
    remark = (
        f"; what would decide it: {decider(table, cases)}" if outcome == claims.UNDECIDED else ""
    )
    return Verdict(
        CLAIMS["C13"],
        where(table, PROTOCOLS[column]),
        f"of {len(cases)} comparisons {said}{remark}",
        outcome,
        tuple(cases),
    )


def verdict_c14(terms) -> Verdict:
    """C14 on trained networks, from `jensen`: the share of noisy training labels at which the
    second step of eq. 19 is violated.
    """
    wrong = terms.groupby("way", sort=False)[["above_logit", "images"]].sum()
    said = ", ".join(f"{row.above_logit / row.images:.1%} ({way})" for way, row in wrong.iterrows())
    outcome = claims.FAILS if wrong.above_logit.sum() else claims.HOLDS
    return Verdict(
        CLAIMS["C14"],
        "Trained networks, symmetric noise",
        f"violated by how they were trained: {said} of the labels",
        outcome,
    )


def verdict_c15(table) -> Verdict:
    """C15: gain of logit smoothing on no smoothing, of its two outputs the better one, minus half
    of label smoothing's; paired by seed.
    """
    cases = []
    for a in sorted(set(table.a)):
        losses, other = (
            _paired(table, "symmetric", a, column) for column in ("test_loss", "corrected_test")
        )
        logit = (losses["none"] - np.minimum(losses["logit"], other["logit"])).to_numpy()
        smoothed = (losses["none"] - losses["mean field"]).to_numpy()
        memorised = _memorised(table, "symmetric", a, ("none", "mean field", "logit"))
        case = _case(f"a = {a:g}", logit - C15_SHARE * smoothed, memorised, at_least=0.0)
        if np.isfinite(logit + smoothed).all():
            _, least, _ = claims.t_interval(smoothed)
            said = f"{case.measured}; gains {logit.mean():+.3f} of logits, {smoothed.mean():+.3f} of labels"
            # half of no gain is reached by doing nothing
            outcome = case.outcome if least > 0 else claims.UNDECIDED
            case = Case(
                case.name, said + ("" if least > 0 else ", which is none to compare with"), outcome
            )
        cases.append(case)
    remark = f"gain in test loss minus {C15_SHARE} of label smoothing's, nats"
    return claims.over_cases(
        CLAIMS["C15"], where(table, PROTOCOLS["test_loss"]), cases, remark, decider(table, cases)
    )


def verdicts(table, terms) -> list[Verdict]:
    """C11 to C15, from `table` and `jensen`."""
    c13 = [verdict_c13(table, column) for column in PROTOCOLS]
    return [*verdict_c11(table), verdict_c12(terms), *c13, verdict_c14(terms), verdict_c15(table)]
