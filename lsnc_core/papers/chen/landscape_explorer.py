"""Chen's closed-form losses with controls for a, p, M and the assumption about test labels.

`EXPRESSIONS` are `lsnc_core.theory.label_noise` in Vega's language; a test compares the two. A name
in them is a parameter of the chart, or a field of a row (`lsnc_core.show.of_row`).
"""

from typing import TYPE_CHECKING

from lsnc_core.papers.chen.drawing import CLEAN_RATE, KEPT, TOP
from lsnc_core.show import Explorer, of_row, style
from lsnc_core.theory import label_noise

if TYPE_CHECKING:
    import altair

SIDE, CELLS, STEPS = 270, 41, 200  # px of a panel; cells of the map a side; of a curve
NAMES = {
    "alpha": "α: clean test labels",
    "beta": "β: noisy test labels",
    "gamma": "γ: Bayesian test labels",
}


def _agreement(p: str) -> str:
    """`label_noise.agreement` at a kept mass."""
    return (
        "(kind == 'alpha' ? a : kind == 'beta' ? a*a + (1-a)*(1-a)/(M-1)"
        f" : a*{p} + (1-a)*(1-{p})/(M-1))"
    )


def _loss(q: str, p: str) -> str:
    """`label_noise.loss` where test and training label agree with probability q."""
    return f"(-({q} == 0 ? 0 : {q}*log({p})) - ({q} == 1 ? 0 : (1-{q})*(log(1-{p}) - log(M-1))))"


def _optimum() -> dict[str, str]:
    """`label_noise.optimum`, step by step.

    gamma's is the largest root u of F(u) = r u, F(u) = e^u - 1 + (M-1)(1 - e^-u), which Newton's
    method reaches from above because F is convex there, or p = 1/M where that is no worse. Without
    a root the steps end anywhere, which is worse than 1/M.
    """
    steps = {"r": "(a*M - 1)/(1 - a)", "u0": "2*log(r) + 10"}
    for number in range(3):  # u = log(1 + r u - ...), close to the root for large r
        u = f"u{number}"
        steps[f"u{number + 1}"] = f"log(1 + r*{u} - (M-1)*(1 - exp(-{u})))"
    for number in range(3, 15):
        u = f"u{number}"
        excess = f"(exp({u}) - 1 + (M-1)*(1 - exp(-{u})) - r*{u})"
        steps[f"u{number + 1}"] = f"{u} - {excess}/(exp({u}) + (M-1)*exp(-{u}) - r)"
    far = "1/(1 + (M-1)*exp(-u15))"
    steps["far"] = f"a < 1 && a*M > 1 ? {far} : 1/M"
    steps["far_q"] = "a*far + (1-a)*(1-far)/(M-1)"
    steps["best_gamma"] = f"a == 1 ? 1 : {_loss('far_q', 'far')} < log(M) - 1e-12 ? far : 1/M"
    # alpha and beta do not depend on p
    steps["best"] = f"kind == 'gamma' ? best_gamma : {_agreement('0')}"
    return steps


OPTIMUM = _optimum()
LOSS = {"q": _agreement("p"), "loss": _loss("q", "p")}
LEAST = {"best_q": _agreement("best"), "least": _loss("best_q", "best")}
EXPRESSIONS = OPTIMUM | LOSS | LEAST
READING = (
    "'At a = ' + format(a, '.2f') + ' and M = ' + M + ', p = ' + format(p, '.2f') + ' gives '"
    " + (isFinite(loss) ? format(loss, '.3f') + ' nats' : 'an infinite loss')"
    " + '. The best p is ' + format(best, '.3f') + ' with ' + format(least, '.3f') + ' nats.'"
    " + (isFinite(loss) ? ' This p costs ' + format(max(loss - least, 0), '.3f') + ' nats.' : '')"
)


def explore_landscape() -> Explorer:
    """The landscape of a loss over (a, p), and its slice at one a.

    Raises: UsageError, without the extra `companion`.
    """
    return Explorer(
        name="chen-landscape-explorer",
        title="The loss over clean rate and kept mass",
        text=(
            "Move a and p: the slice on the right shows what this p costs against the best one; "
            "choose γ and watch the best p jump as a grows."
        ),
        alt=(
            "Left, a heat map of the test loss over clean rate a and kept mass p with the best p "
            "of each a as a line and the chosen a and p as a point. Right, the loss against p at "
            "the chosen a, with the chosen and the best p marked."
        ),
        chart=_chart(),
    )


def _chart() -> "altair.HConcatChart":
    from lsnc_core.errors import needs_companion

    needs_companion("an explorer", "altair")
    import altair as alt

    kinds = alt.binding_select(
        options=list(label_noise.KINDS), labels=list(NAMES.values()), name="test labels"
    )
    controls = [
        alt.param(name="kind", value="alpha", bind=kinds),
        alt.param(name="a", value=0.8, bind=_range("clean rate a", 0, 1, 0.01)),
        alt.param(name="p", value=0.9, bind=_range("kept mass p", 0, 1, 0.01)),
        alt.param(name="M", value=10, bind=_range("classes M", 2, 100, 1)),
    ]
    computed = EXPRESSIONS | {"top": f"{TOP}*max(1, log(M)/log(10))", "reading": READING}
    values = [alt.param(name=name, expr=expression) for name, expression in computed.items()]
    return alt.hconcat(_map(), _slice(), spacing=30).add_params(*controls, *values)


def _range(label: str, low: float, high: float, step: float) -> "altair.BindRange":
    import altair as alt

    return alt.binding_range(min=low, max=high, step=step, name=label)


def _computed(chart: "altair.Chart", steps: dict[str, str], *rows: str) -> "altair.Chart":
    """A chart whose rows have these steps as fields; `rows` are fields that it has before."""
    for name, expression in steps.items():
        chart = chart.transform_calculate(**{name: of_row(expression, rows)})
        rows = (*rows, name)
    return chart


def _axis(field: str, title: str) -> dict[str, object]:
    import altair as alt

    return {"shorthand": f"{field}:Q", "title": title, "scale": alt.Scale(domain=[0, 1])}


def _map() -> "altair.LayerChart":
    import altair as alt

    cells = alt.Chart(alt.sequence(0, CELLS * CELLS, as_="i")).transform_calculate(
        a=f"(datum.i % {CELLS} + 0.5)/{CELLS}",
        p=f"(floor(datum.i/{CELLS}) + 0.5)/{CELLS}",
    )
    half = 0.5 / CELLS
    edges = {"a0": f"datum.a - {half}", "a1": f"datum.a + {half}"}
    edges |= {"p0": f"datum.p - {half}", "p1": f"datum.p + {half}"}
    scale = alt.Scale(scheme=style.LOSS_MAP, domainMin=0, domainMax=alt.ExprRef("top"), clamp=True)
    heat = _computed(cells, LOSS, "a", "p").transform_calculate(**edges).mark_rect()
    heat = heat.encode(
        alt.X(**_axis("a0", CLEAN_RATE)),
        alt.X2("a1:Q"),
        alt.Y(**_axis("p0", KEPT)),
        alt.Y2("p1:Q"),
        alt.Color("loss:Q", scale=scale, title="test loss (nats)", legend=alt.Legend(orient="top")),
    )
    rates = alt.Chart(alt.sequence(0, 1.0001, 1 / STEPS, as_="a"))
    best = _computed(rates, OPTIMUM, "a").mark_line(color=style.PAPER, strokeWidth=3)
    best = best.encode(x="a:Q", y="best:Q", order="a:Q")
    return alt.layer(heat, best, _rule("x", "a"), _point("a", "p", 110)).properties(
        width=SIDE, height=SIDE
    )


def _slice() -> "altair.LayerChart":
    import altair as alt

    masses = alt.Chart(alt.sequence(0.002, 0.999, 0.996 / STEPS, as_="p"))
    scale = alt.Scale(domainMin=0, domainMax=alt.ExprRef("top"))
    line = _computed(masses, LOSS, "p").mark_line(color=style.INK, clip=True)
    line = line.encode(
        alt.X(**_axis("p", KEPT)), alt.Y("loss:Q", title="test loss (nats)", scale=scale)
    )
    here = _point("p", "min(loss, top)", 110)
    least = _point("best", "least", 130, shape="diamond", color=style.INK)
    layers = alt.layer(line, _rule("x", "p"), least, here)
    return layers.properties(
        width=SIDE, height=SIDE, title="at this a: the chosen p (line), the best p (◆)"
    )


def _rule(axis: str, value: str) -> "altair.Chart":
    """A line through a parameter's value."""
    import altair as alt

    chart = alt.Chart(alt.sequence(0, 1, as_="one")).transform_calculate(at=value)
    return chart.mark_rule(color=style.METHODS["LS"], strokeWidth=1.5).encode(**{axis: "at:Q"})


def _point(x: str, y: str, size: int, shape: str = "circle", color: str = "") -> "altair.Chart":
    """A mark at the values of two parameters."""
    import altair as alt

    chart = alt.Chart(alt.sequence(0, 1, as_="one")).transform_calculate(x=x, y=y)
    look = {"size": size, "shape": shape, "filled": True, "opacity": 1.0, "stroke": style.PAPER}
    return chart.mark_point(color=color or style.METHODS["LS"], **look).encode(x="x:Q", y="y:Q")
