"""Guo et al. 2025: what the feature model's figures show, as sentences made of their tables'
numbers.
"""

import numpy as np

from lsnc_core.papers import guo
from lsnc_core.papers.guo_dynamics import METRICS, START
from lsnc_core.theory import ufm_spectra


def spectra(table) -> str:
    """Of the table `guo_theory.spectra`: how far computed is from predicted, and which eigenspaces
    rise with smoothing.
    """
    spaces = table.drop_duplicates(["delta", "block", "name"]).pivot(
        index=["block", "name"], columns="delta", values="predicted"
    )
    said = []
    for delta in spaces.columns[1:]:
        change = spaces[delta] - spaces[0.0]
        same = np.isclose(spaces[delta], spaces[0.0], rtol=1e-12, atol=0)
        rise, fall = (change[~same] > 0).sum(), (change[~same] < 0).sum()
        said.append(
            f"from δ = 0 to {delta:g} {rise} of {len(spaces)} eigenspaces rise, {fall} fall"
        )
    worst = np.abs(table.predicted - table.computed).max()
    return f"predicted and computed differ by {worst:.0e} at most; {'; '.join(said)}, the rest stay, set by decay alone."


def conditions(table) -> str:
    """Of the table `guo_theory.conditions`: where each condition number is lower than without
    smoothing.
    """
    said = []
    for K in (10, 100):
        parts = [
            f"{name} {_below_one(table[(table.K == K) & (table.definition == name)])}"
            for name in ufm_spectra.DEFINITIONS
        ]
        said.append(f"K = {K}: {', '.join(parts)}")
    at = table[
        (table.K == 10) & (table.definition == "D1") & np.isclose(table.delta, guo.SMOOTHED)
    ].ratio.item()
    said.append(f"at δ = {guo.SMOOTHED} and ten classes D1 changes by {at - 1:+.1%}")
    return f"lower with smoothing (below 1): {'; '.join(said)}."


def _below_one(line) -> str:
    """At which strengths of a line over delta, 0 left out, the ratio is below 1."""
    line = line[line.delta > 0].sort_values("delta")
    lower = (line.ratio < 1).to_numpy()
    if lower.all() or not lower.any():
        return "everywhere" if lower.all() else "nowhere"
    if (np.diff(lower.astype(int)) >= 0).all():
        return f"from δ = {line.delta[lower].min():.2g} on"
    return f"at {lower.sum()} of {len(lower)} strengths"


def rates(table) -> str:
    """Of the table `guo_dynamics.rates`: the factor that the paper's strength brings at each decay,
    and how far the formula is off.
    """
    by = table.set_index(["K", "eps", "delta"]).measured.unstack("delta")
    said = [
        f"{factor:.1f} (K = {K}, ε = {eps:.2g})"
        for (K, eps), factor in (by[guo.SMOOTHED] / by[0.0]).items()
    ]
    return f"measured at δ = {guo.SMOOTHED} by δ = 0: {', '.join(said)}; measured slopes are off by {table.error.max():.2%} at most."


def curves(runs, speeds) -> str:
    """Of `guo_dynamics.curves` and `speeds`: what the paper's strength reaches sooner and later,
    and when the training error is gone.
    """
    at, said = speeds[speeds.delta == guo.SMOOTHED], []
    groups = {
        "sooner": at.high < 1,
        "later": at.low > 1,
        "not told apart or not reached": ~((at.high < 1) | (at.low > 1)),
    }
    for word, chosen in groups.items():
        names = [
            f"{METRICS[row.metric]} below {row.level:g}"
            + (f" ({row.ratio:.2f} [{row.low:.2f}, {row.high:.2f}])" if row.ratio > 0 else "")
            for row in at[chosen].itertuples()
        ]
        if names:
            said.append(f"{word}: {', '.join(names)}")
    wrong = runs[(runs.spread == START) & (runs.error > 0)].groupby("delta").iteration.max()
    until = ", ".join(f"{iteration:g} (δ = {delta:g})" for delta, iteration in wrong.items())
    return f"at δ = {guo.SMOOTHED}, iterations by those without smoothing, {'; '.join(said)}. Last recorded training error above 0: {until}."


def nc2_at_nc1(table) -> str:
    """Of `guo_dynamics.nc2_at_nc1`: at which levels of NC1 smoothing has the lower and the higher
    NC2, by spread of the starts.
    """
    said = []
    for spread, part in table.groupby("spread"):
        found = {"lower": part.nc1[part.high < 0], "higher (grey)": part.nc1[part.low > 0]}
        words = [
            f"{word} at NC1 = {', '.join(f'{level:g}' for level in levels)}"
            for word, levels in found.items()
            if len(levels)
        ]
        said.append(
            f"starts of spread {spread:g}: NC2 with smoothing {' and '.join(words) or 'not told apart'}"
        )
    return f"{'; '.join(said)} (95 % over starts)."
