"""Zhou et al. 2022 (arXiv 2210.02192): the claims about the unconstrained feature model, their
tables and verdicts.

Four losses: cross-entropy (CE), label smoothing (LS), focal (FL) and rescaled mean squared error
(MSE). The paper's full text was not at
hand: constants and wordings that could not be sourced are derived, and the claims say so.
"""

from dataclasses import dataclass

import numpy as np

from lsnc_core.errors import UsageError
from lsnc_core.papers import claims
from lsnc_core.papers.claims import FAILS, HOLDS, Case, Claim, Verdict
from lsnc_core.theory import ufm, ufm_dynamics, ufm_landscape, ufm_objective
from lsnc_core.theory.ufm import FeatureModel, Loss

PAPER = "Zhou et al. 2022"
MODEL = "The feature model"

# The claims' thresholds, fixed before the first run.
MARGIN_TOLERANCE, VALUE_TOLERANCE = 1e-6, 1e-10  # of a margin, absolute; of f, relative
CURVATURE_TOLERANCE, GAP_TOLERANCE = 1e-8, 1e-9

LOSSES = {
    "CE": Loss("ls", 0.0),
    "LS(0.1)": Loss("ls", 0.1),
    "FL(3)": Loss("focal", 3.0),
    "MSE(15)": Loss("mse", 15.0),
}
SPREADS = (0.01, 1.0, 4.0)  # standard deviations of the starts' entries, in turn

_CLAIMS = (
    (
        "Z-C6",
        "theorem on global optimality",
        "Under each loss all global minimisers are simplex frames with one margin; only the margin depends on the loss.",
        f"every start reaches the closed form's value to {VALUE_TOLERANCE:g} and its margin to {MARGIN_TOLERANCE:g}",
    ),
    (
        "Z-C7",
        "theorems on the landscape",
        "Every critical point that is no global minimiser is a strict saddle.",
        "least Hessian eigenvalue below 0 and at most the curvature of the constructed direction, at the origin the closed form; "
        "‖∇g‖ at most √(λ_W λ_H) at the global minimisers and at no other critical point (g: data loss, in the logits)",
    ),
    (
        "Z-C8",
        "theorem on focal loss; the paper's constant is not known to us",
        "Focal loss is convex in the logits where the target's softmax is large enough.",
        "convex exactly where it is at least p*(γ), whatever K; p* is at most 0.0585",
    ),
    (
        "Z-C9",
        "definition of the contrastive property",
        "CE, LS and FL are bounded below by a function of the sum of logit differences, with equality when the wrong logits are equal.",
        f"no gap below −{GAP_TOLERANCE:g} for random logits, none above {GAP_TOLERANCE:g} for equal ones",
    ),
)
CLAIMS = {
    name: Claim(name, PAPER, place, sentence, expected)
    for name, place, sentence, expected in _CLAIMS
}


@dataclass(frozen=True)
class LandscapeSize:
    """What the landscape notebook computes in one profile: random starts a loss, starts of each
    critical point's search, random logits.
    """

    starts: int
    searches: int
    draws: int


LANDSCAPE = {
    "smoke": LandscapeSize(starts=6, searches=2, draws=200),
    "quick": LandscapeSize(starts=50, searches=4, draws=3000),
    "gpu": LandscapeSize(starts=300, searches=20, draws=10000),
    "paper": LandscapeSize(starts=1000, searches=50, draws=50000),
}


def landscape_size(profile: str) -> LandscapeSize:
    """The sizes of a profile. Raises: UsageError, for an unknown profile."""
    if profile not in LANDSCAPE:
        raise UsageError(f"unknown profile {profile!r}; the profiles are {', '.join(LANDSCAPE)}.")
    return LANDSCAPE[profile]


def small_model() -> FeatureModel:
    """The model of the landscape: K = 4 classes of 2 samples, D = 6 (above K, as the theorem asks),
    decays 2e-3, none of the bias.
    """
    return FeatureModel(4, 2, 6, 2e-3, 2e-3)


def reached(profile: str):
    """Gap to the least value along L-BFGS from random starts of three spreads, every loss.

    Returns: pandas.DataFrame with loss, start, spread, iteration, gap ((f - min f)/min f, closed
    form's minimum).
    """
    import pandas as pd

    model, starts = small_model(), landscape_size(profile).starts
    spread = np.resize(SPREADS, starts)
    x = ufm_objective.random_starts(model, starts, 0) * spread[:, None]
    record_at, parts = np.unique(np.round(np.geomspace(1, 400, 26)).astype(int)), []
    for name, loss in LOSSES.items():
        run = ufm_dynamics.trajectories(model, loss, x, record_at, method="lbfgs")
        gap = run.loss / ufm.minimiser(model, loss).value - 1
        columns = {
            "loss": name,
            "start": np.tile(np.arange(starts), len(record_at)),
            "spread": np.tile(spread, len(record_at)),
        }
        parts.append(
            pd.DataFrame(columns | {"iteration": np.repeat(record_at, starts), "gap": gap.ravel()})
        )
    return pd.concat(parts, ignore_index=True)


def margins(profile: str):
    """Margin of each loss's minimiser against the decay: closed form, and found by L-BFGS (worst
    over starts).

    Returns: pandas.DataFrame with loss, decay (lambda of W and H), eps, starts, margin, found
    (mean), margin_error, value_error (relative, either sign).
    """
    import pandas as pd

    starts, parts = landscape_size(profile).starts, []
    for decay in (2e-4, 2e-3, 2e-2):
        model = FeatureModel(4, 2, 6, decay, decay)
        number = starts if decay == small_model().lambda_W else min(starts, 6)
        x = ufm_objective.random_starts(model, number, 0) * np.resize(SPREADS, number)[:, None]
        for name, loss in LOSSES.items():
            solved, expected = (
                ufm_dynamics.minimise(model, loss, x, tolerance=1e-12),
                ufm.minimiser(model, loss),
            )
            Z = ufm_objective.logits(model, solved.points)
            own = np.eye(model.K, dtype=bool)[np.arange(model.N) // model.n]  # (N, K)
            differences = Z[:, own][..., None] - Z[:, ~own].reshape(
                number, model.N, -1
            )  # (starts, N, K-1)
            row = {
                "loss": name,
                "decay": decay,
                "eps": model.eps,
                "starts": number,
                "margin": float(expected.margin),
            }
            row |= {
                "found": differences.mean(),
                "margin_error": np.abs(differences - expected.margin).max(),
            }
            parts.append(row | {"value_error": np.abs(solved.values / expected.value - 1).max()})
    return pd.DataFrame(parts)


def verdict_z6(table) -> Verdict:
    """Z-C6 from the table `margins`, a case for each loss."""
    parts = []
    for name in LOSSES:
        part = table[table.loss == name]
        margin, value = part.margin_error.max(), part.value_error.max()
        good = margin <= MARGIN_TOLERANCE and value <= VALUE_TOLERANCE
        said = f"{part.starts.sum()} starts at {len(part)} decays: worst error {margin:.1e} of a margin, {value:.1e} of the least value"
        parts.append(Case(f"loss {name}", said, HOLDS if good else FAILS))
    at = table[table.decay == small_model().lambda_W]
    margins_ = ", ".join(f"{row.margin:.4f} ({row.loss})" for row in at.itertuples())
    return claims.over_cases(
        CLAIMS["Z-C6"], MODEL, parts, f"margins at decay {small_model().lambda_W:g}: {margins_}"
    )


def saddles(profile: str):
    """Critical points of rank 0 to K - 1 of every loss, and of LS 0.5.

    Returns: pandas.DataFrame with loss, rank, value, gap (relative to the least value), gradient
    (largest entry), data_gradient (spectral norm), bound (what it is at most at a global
    minimiser), escape (curvature of the constructed direction), least (smallest
        eigenvalue), globally (whether the value is the least).
    """
    import pandas as pd

    model, rows = small_model(), []
    for name, loss in {**LOSSES, "LS(0.5)": Loss("ls", 0.5)}.items():
        least = ufm.minimiser(model, loss).value
        for rank in range(model.K):
            for point in ufm_landscape.critical_points(
                model, loss, rank, landscape_size(profile).searches
            ):
                found = {
                    "value": point.value,
                    "gap": point.value / least - 1,
                    "gradient": point.gradient,
                }
                found |= {
                    "data_gradient": point.data_gradient,
                    "bound": point.global_bound,
                    "escape": point.escape,
                    "least": point.least,
                }
                rows.append(
                    {"loss": name, "rank": rank}
                    | found
                    | {"globally": bool(point.value / least - 1 < VALUE_TOLERANCE)}
                )
    return pd.DataFrame(rows)


def verdict_z7(table) -> Verdict:
    """Z-C7 from the table `saddles`, a case for each loss; the origin against its closed form under
    CE and LS.

    Formula: a critical point is global if and only if ||grad g||_2 <= sqrt(lambda_W lambda_H), with
    equality at global ones (Zhou, theorem on the global landscape); whether it is global is told by
    its value alone.
    """
    parts = []
    for name, part in table.groupby("loss", sort=False):
        saddle = part[~part.globally]
        strict = (saddle.least < -CURVATURE_TOLERANCE).all() and (
            saddle.least <= saddle.escape + CURVATURE_TOLERANCE
        ).all()
        others = part[part.globally].least.min()
        said = f"{len(saddle)} points with f above the least, curvatures {saddle.least.min():.4f} to {saddle.least.max():.4f}"
        small, ratio = (
            part.data_gradient <= part.bound + CURVATURE_TOLERANCE,
            part.data_gradient / part.bound,
        )
        good = bool(
            strict
            and len(saddle)
            and others > -CURVATURE_TOLERANCE
            and (small == part.globally).all()
        )
        said += f"; ‖∇g‖/√(λ_W λ_H) {ratio[~part.globally].min():.4g} or more there, {ratio[part.globally].max():.6f} where f is least"
        if name in ("CE", "LS(0.1)", "LS(0.5)"):
            delta = 0.0 if name == "CE" else float(name[3:-1])
            formula = float(ufm_landscape.origin_spectrum(small_model(), delta)[-1].value)
            apart = abs(part[part["rank"] == 0].least.min() - formula)
            good, said = (
                good and apart <= CURVATURE_TOLERANCE,
                f"{said}; at the origin {formula:.5f} by formula, {apart:.0e} from computed",
            )
        parts.append(Case(f"loss {name}", said, HOLDS if good else FAILS))
    remark = "tried at the origin and at minimisers of narrower models; that no other kind exists is the theorem's part"
    return claims.over_cases(CLAIMS["Z-C7"], MODEL, parts, remark)


def focal_hessians(profile: str, seed: int = 0):
    """Least eigenvalue of the focal loss's Hessian in the logits at random points near the edge
    p*(gamma) and far from it.

    Returns: pandas.DataFrame with gamma, K, p (softmax of the target), edge (p*), least (smallest
    eigenvalue, direction 1 left out).
    """
    import pandas as pd

    draws, generator, parts = landscape_size(profile).draws, np.random.default_rng(seed), []
    for K in range(2, 9):
        count = -(-draws // 7)
        gamma = generator.choice([0.5, 1, 2, 3, 5], count)
        edge = ufm.focal_convex_from(gamma)
        near, far = (
            edge * (1 + 0.02 * generator.standard_normal(count)),
            np.exp(generator.uniform(np.log(edge / 10), np.log(0.9))),
        )
        p = np.where(np.arange(count) % 2, near, far)
        Z = generator.standard_normal((count, K))
        # the target's logit that gives it softmax p among the others
        Z[:, 0] = np.log(p / (1 - p)) + np.log(np.exp(Z[:, 1:]).sum(1))
        columns = np.eye(K)[:, None, None, :]  # (K, 1, 1, K)
        whole = ufm_objective.curvature_product(
            Loss("focal", gamma), Z[:, None], np.zeros(1, dtype=int), columns
        )  # (K, count, 1, K)
        inside = ufm.centred_basis(K)
        least = np.linalg.eigvalsh(inside.T @ whole[:, :, 0].swapaxes(0, 1) @ inside)[:, 0]
        parts.append(pd.DataFrame({"gamma": gamma, "K": K, "p": p, "edge": edge, "least": least}))
    return pd.concat(parts, ignore_index=True)


def verdict_z8(table) -> Verdict:
    """Z-C8 from the table `focal_hessians`: convex exactly from the edge on; the edge's greatest
    value.
    """
    scale = table.least.abs().clip(lower=1e-12)
    wrong = int(((table.least < 0) != (table.p < table.edge)).where(scale > 1e-9, False).sum())
    gammas = np.linspace(0.05, 20, 4000)
    edges = ufm.focal_convex_from(gammas)
    top = edges.argmax()
    measured = f"{wrong} of {len(table)} random Hessians disagree; p* is greatest at γ = {gammas[top]:.2f}: {edges[top]:.5f}"
    return Verdict(
        CLAIMS["Z-C8"],
        "Focal loss, random logits",
        measured,
        HOLDS if not wrong and edges[top] <= 0.0585 else FAILS,
    )


def verdict_z9(profile: str, seed: int = 0) -> Verdict:
    """Z-C9 on random logits of several K, and on logits whose wrong entries are equal."""
    draws, generator, parts = landscape_size(profile).draws, np.random.default_rng(seed), []
    for name, loss in {
        "CE": Loss("ls", 0.0),
        "LS(0.1)": Loss("ls", 0.1),
        "FL(1)": Loss("focal", 1.0),
        "FL(3)": Loss("focal", 3.0),
    }.items():
        least, most = np.inf, 0.0
        for K in (2, 3, 10, 100):
            own = generator.integers(0, K, draws)
            Z = 3 * generator.standard_normal((draws, K))
            least = min(least, ufm_landscape.contrastive_gap(loss, Z, own).min())
            Z[:] = Z[:, :1]
            Z[np.arange(draws), own] += 3 * generator.standard_normal(draws)
            most = max(most, np.abs(ufm_landscape.contrastive_gap(loss, Z, own)).max())
        good = least >= -GAP_TOLERANCE and most <= GAP_TOLERANCE
        parts.append(
            Case(
                f"loss {name}",
                f"least gap {least:.1e} over 4 × {draws} logits, largest at equality {most:.1e}",
                HOLDS if good else FAILS,
            )
        )
    tie = ufm_landscape.focal_tie(3, 100)
    remark = f"the bound's minimiser is unique but for one decay where 1/K < p*(γ): at K = 100, γ = 3 ε = {tie:.6f} has two"
    return claims.over_cases(CLAIMS["Z-C9"], "Random logits, K = 2, 3, 10, 100", parts, remark)
