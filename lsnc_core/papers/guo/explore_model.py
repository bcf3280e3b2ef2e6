"""The unconstrained feature model with controls: its minimiser, and the Hessian there.

The expressions are `lsnc_core.theory.ufm`, `ufm_nonnegative` and `ufm_spectra` in Vega's language;
a test compares the two. A name in them is a parameter of the chart, or a field of a row
(`lsnc_core.show.of_row`). The weight decays and n enter as powers of ten.
"""

from typing import TYPE_CHECKING

from lsnc_core.errors import needs_companion
from lsnc_core.show import Explorer, of_row, style

if TYPE_CHECKING:
    import altair

WIDTH, HEIGHT = 225, 230  # px of a panel
STRONGEST, STEP = 0.95, 0.005  # strengths of a curve
D = 512  # feature width, as in the authors' code; it enters the multiplicities alone
SIZES = {
    "n": "round(pow(10, log_n))",
    "lambda_W": "pow(10, log_W)",
    "lambda_H": "pow(10, log_H)",
}
# `ufm.minimiser` for label smoothing; features of one sign change lambda_H alone
MINIMISER = {
    "effective_H": "lambda_H*(one_sign ? K/(K-1) : 1)",
    "eps": "sqrt(n*lambda_W*effective_H)",
    "total": "delta + K*eps",
    "margin": "total < 1 ? log(K/total - K + 1) : 0",
    "ratio": "sqrt(n*effective_H/lambda_W)",
    "W_norm": "sqrt(margin*ratio*(K-1)/K)",
    "h_norm": "sqrt(margin/ratio*(K-1)/K)",
    "p_off": "1/(exp(margin) + K - 1)",
    "p_on": "1 - (K-1)*p_off",
}
# `ufm_spectra.condition_number` and `collapse_rate`, in units of lambda_H, below the zero solution
CONDITION = {
    "D1": "K > 2 ? K*p_on : 1",
    "D4": "1 + margin*p_off*p_on/eps",
    "D3": "K > 2 ? D4/(1 + margin*p_off/(K*eps)) : 1",
    "rate": "1 + margin*p_off/(K*eps)*(K > 2 ? 1 : 2*p_on)",
}
# `ufm_spectra.spectrum`, of W and in units of lambda_W: eigenvalue and multiplicity
GAIN = "p_off*margin/(ratio*K*lambda_W)"
EIGENSPACES = {
    "outside": ("1", f"K*({D} - K + 1)"),
    "left": ("1", "K - 1"),
    "antisymmetric": (f"1 + {GAIN}", "(K-1)*(K-2)/2"),
    "symmetric": (f"1 + {GAIN}", "max(K*(K-3)/2, 0)"),
    "diagonal": (f"1 + {GAIN}*(1 + (p_on - p_off)*(K-2))", "K > 2 ? K - 1 : 0"),
    "mean": (f"1 + {GAIN}*K*p_on", "1"),
}
CURVES = {"W_norm": "‖wₖ‖", "h_norm": "‖hₖ − h_G‖"}
DEFINITIONS = {
    "D1": "D1, data loss in W",
    "D3": "D3, in the span",
    "D4": "D4, all of W",
}
SETTING = (
    "'With n = ' + n + ' samples per class, λ_W = ' + format(lambda_W, '.1e') + ' and λ_H = '"
    " + format(lambda_H, '.1e') + ', δ + Kε = ' + format(total, '.3f')"
)
AT_ZERO = " ≥ 1: the minimiser is zero."
MINIMISER_READING = (
    f"{SETTING} + (total < 1 ? '. Margin ' + format(margin, '.3f') + ', norm of wₖ '"
    " + format(W_norm, '.3f') + ', of hₖ − h_G ' + format(h_norm, '.3f') + '; softmax of the"
    " true class ' + format(p_on, '.4f') + ', of each other ' + format(p_off, '.2e') + '.'"
    f" : '{AT_ZERO}')"
)
CONDITION_READING = (
    f"{SETTING} + (total < 1 ? '. Condition numbers: D1 ' + format(D1, '.2f') + ', D3 '"
    " + format(D3, '.2f') + ', D4 ' + format(D4, '.2f') + '. NC1 contracts at '"
    f" + format(rate, '.2f') + ' times λ_H.' : '{AT_ZERO}')"
)


def explore_minimiser() -> Explorer:
    """Margin, norms and softmax at the global minimiser against the smoothing strength.

    Raises: UsageError, without the extra `companion`.
    """
    needs_companion("an explorer", "altair")
    import altair as alt

    computed = SIZES | MINIMISER | {"reading": MINIMISER_READING}
    one_sign = alt.param(
        name="one_sign", value=False, bind=alt.binding_checkbox(name="non-negative features")
    )
    panels = [
        _curves({"margin": "margin"}, "margin a", log=False),
        _curves(CURVES, "norm", log=False),
        _softmax(),
    ]
    return Explorer(
        name="guo-4-explorer",
        title="The minimiser of the feature model",
        text=(
            "Move δ and the weight decays: margin and norms shrink until δ + Kε reaches 1; "
            "without weight decay the softmax would equal the smoothed label."
        ),
        alt=(
            "Against the smoothing strength: the margin of the logits, and the norms of classifier "
            "rows and of centred features, with the chosen strength as a line. Beside them, bars "
            "of the softmax and the smoothed label for the true class and each other class."
        ),
        chart=_assemble(panels, computed, [one_sign]),
    )


def explore_conditioning() -> Explorer:
    """Condition numbers, spectrum and rate of NC1 at the minimiser.

    Raises: UsageError, without the extra `companion`.
    """
    needs_companion("an explorer", "altair")
    import altair as alt

    computed = SIZES | MINIMISER | CONDITION | {"reading": CONDITION_READING}
    panels = [
        _curves(DEFINITIONS, "condition number", log=True),
        _curves({"rate": "rate of NC1"}, "rate of NC1 (λ_H)", log=True),
        _spectrum(),
    ]
    return Explorer(
        name="guo-5-explorer",
        title="The Hessian at the minimiser",
        text=(
            "Move δ and the weight decays: for more than two classes D1 always falls with δ (for "
            "two it is 1), D3 and D4 often rise first; NC1 contracts faster as the spectrum "
            "spreads."
        ),
        alt=(
            "Against the smoothing strength: condition numbers under three definitions, and the "
            "rate at which NC1 contracts, with the chosen strength as a line. Beside them, the "
            "eigenvalues of the Hessian in W, named by eigenspace, the larger the dot the higher "
            "the multiplicity."
        ),
        chart=_assemble(panels, computed, [alt.param(name="one_sign", value=False)]),
    )


def _assemble(
    panels: "list[altair.LayerChart]", computed: dict[str, str], extra: "list[altair.Parameter]"
) -> "altair.HConcatChart":
    """Panels beside each other with their controls; the start is the authors' released code."""
    import altair as alt

    ranges = {
        "delta": (0.1, 0, STRONGEST, 0.01, "strength δ"),
        "K": (10, 2, 100, 1, "classes K"),
        "log_n": (3.7, 0, 4, 0.1, "log₁₀ n"),
        "log_W": (-3, -5, -1, 0.1, "log₁₀ λ_W"),
        "log_H": (-6, -8, -2, 0.1, "log₁₀ λ_H"),
    }
    controls = []
    for name, (value, low, high, step, label) in ranges.items():
        bind = alt.binding_range(min=low, max=high, step=step, name=label)
        controls.append(alt.param(name=name, value=value, bind=bind))
    values = [alt.param(name=name, expr=expression) for name, expression in computed.items()]
    chart = alt.hconcat(*panels, spacing=25).resolve_scale(
        color="independent", strokeDash="independent"
    )
    return chart.add_params(*controls, *extra, *values)


def _curves(names: dict[str, str], title: str, log: bool) -> "altair.LayerChart":
    """Quantities of `MINIMISER` or `CONDITION` against the smoothing strength."""
    import altair as alt

    chart = alt.Chart(alt.sequence(0, STRONGEST + STEP / 2, STEP, as_="delta"))
    rows = ["delta"]
    # what does not depend on delta is a parameter already
    for name, expression in (MINIMISER | CONDITION).items():
        if name in ("effective_H", "eps", "ratio"):
            continue
        chart = chart.transform_calculate(**{name: of_row(expression, rows)})
        rows.append(name)
    chart = chart.transform_filter("datum.total < 1").transform_fold(
        list(names), as_=["key", "value"]
    )
    labels = "{" + ", ".join(f"{key}: '{label}'" for key, label in names.items()) + "}"
    chart = chart.transform_calculate(curve=f"{labels}[datum.key]")
    scale = alt.Scale(type="log", domainMin=1) if log else alt.Scale(domainMin=0)
    legend = alt.Legend(orient="top", title=None, columns=1) if len(names) > 1 else None
    looks = alt.Scale(domain=list(names.values()), range=[style.INK, style.SOFT, style.INK])
    dashes = alt.Scale(domain=list(names.values()), range=[[1, 0], [6, 3], [2, 2]])
    line = chart.mark_line().encode(
        alt.X("delta:Q", title="smoothing strength δ"),
        alt.Y("value:Q", title=title, scale=scale),
        alt.Color("curve:N", scale=looks, legend=legend),
        alt.StrokeDash("curve:N", scale=dashes, legend=legend),
    )
    here = alt.Chart(alt.sequence(0, 1, as_="one")).transform_calculate(delta="delta")
    rule = here.mark_rule(color=style.METHODS["LS"], strokeWidth=2).encode(x="delta:Q")
    return alt.layer(line, rule).properties(width=WIDTH, height=HEIGHT)


def _softmax() -> "altair.Chart":
    """The softmax beside the smoothed label."""
    import altair as alt

    own, other = "true class", "each other"
    label, softmax = "smoothed label", "softmax"
    heights = (
        f"datum.place == '{own}'"
        f" ? (datum.what == '{softmax}' ? p_on : 1 - delta + delta/K)"
        f" : (datum.what == '{softmax}' ? p_off : delta/K)"
    )
    rows = []
    for place in (own, other):
        rows += [{"place": place, "what": what} for what in (label, softmax)]
    colours = alt.Scale(domain=[label, softmax], range=[style.SOFT, style.METHODS["LS"]])
    chart = alt.Chart(alt.InlineData(values=rows)).transform_calculate(height=heights)
    chart = chart.mark_bar().encode(
        alt.X("place:N", title=None, sort=[own, other], axis=alt.Axis(labelAngle=0)),
        alt.XOffset("what:N", sort=[label, softmax]),
        alt.Y("height:Q", title="probability", scale=alt.Scale(domain=[0, 1])),
        alt.Color("what:N", scale=colours, legend=alt.Legend(orient="top", title=None)),
    )
    return chart.properties(width=WIDTH, height=HEIGHT)


def _spectrum() -> "altair.Chart":
    """The eigenvalues of the Hessian in W by eigenspace."""
    import altair as alt

    names = list(EIGENSPACES)
    choices = {}
    for number, kind in enumerate(("value", "count")):
        listed = ", ".join(spaces[number] for spaces in EIGENSPACES.values())
        choices[kind] = f"[{listed}][datum.number]"
    rows = [{"number": number, "space": name} for number, name in enumerate(names)]
    chart = alt.Chart(alt.InlineData(values=rows)).transform_calculate(**choices)
    chart = chart.transform_filter("total < 1 && datum.count > 0")
    size = alt.Size("count:Q", scale=alt.Scale(type="log", range=[40, 300]), legend=None)
    chart = chart.mark_point(filled=True, opacity=1, color=style.METHODS["LS"]).encode(
        alt.X(
            "value:Q",
            title="eigenvalue in W (λ_W)",
            scale=alt.Scale(type="log", domainMin=0.9),
            # or the numbers between two powers of ten run together
            axis=alt.Axis(labelOverlap="greedy", labelSeparation=6),
        ),
        alt.Y("space:N", title=None, sort=names, scale=alt.Scale(domain=names)),
        size,
    )
    return chart.properties(width=WIDTH - 60, height=HEIGHT)
