"""Guo et al. 2025: cross-entropy against label smoothing, seen through neural collapse."""

from lsnc_core.papers.page import Equation, Paper

SMOOTHED = 0.05  # the paper's main comparison is this smoothing strength against 0

_NETWORKS = ("guo-f1", "guo-f12", "guo-f7", "guo-f2", "guo-f6")
_MODEL = ("guo-model-curves", "guo-nc2-at-nc1")

# The paper's full text was not available. Equation numbers are those that a re-implementation of
# its metrics cites, Theorem 1 is named by the released code, and Theorem 2 by us.
EQUATIONS = (
    Equation(
        number="Guo eq. 4",
        content="NC1 = tr(Σ_W Σ_B⁺)/K; the function leaves the division by K to its callers",
        function="metrics.collapse.nc1_trace",
        figures=(*_NETWORKS, "guo-f5"),
        claims=("G1", "G2", "G4", "G8", "G14"),
    ),
    Equation(
        number="Guo eq. 4",
        content="NC1 in the feature model",
        function="theory.ufm_dynamics.collapse",
        figures=("guo-nc1-rate", *_MODEL),
        claims=("G13", "G15"),
    ),
    Equation(
        number="Guo eq. 5",
        content="NC2, the distance of W Hbar to a simplex ETF, both at Frobenius norm 1",
        function="metrics.geometry.simplex_distance",
        figures=_NETWORKS,
        claims=("G1", "G3", "G4"),
    ),
    Equation(
        number="Guo eq. 5",
        content="NC2 in the feature model",
        function="theory.ufm_dynamics.collapse",
        figures=_MODEL,
        claims=("G15",),
    ),
    Equation(
        number="Guo eq. 6",
        content="NC3, the distance of classifier and centred class means, both at Frobenius norm 1",
        function="metrics.geometry.self_duality",
        figures=("guo-f1", "guo-f12", "guo-f7", "guo-f6"),
        claims=("G1", "G18"),
    ),
    Equation(
        number="Guo eq. 6",
        content="NC3 in the feature model",
        function="theory.ufm_dynamics.collapse",
        figures=("guo-model-curves",),
    ),
    Equation(
        number="Guo Theorem 1",
        content="global minimisers of the feature model: margin, norms, threshold",
        function="theory.ufm.minimiser",
        figures=("guo-theorem-1", "guo-threshold", "guo-f10"),
        claims=("G9", "G11"),
    ),
    Equation(
        number="Guo Theorem 1",
        content="the same for non-negative features, ours",
        function="theory.ufm_nonnegative.minimiser",
        figures=("guo-nonnegative",),
        claims=("G9", "G17"),
    ),
    Equation(
        number="Guo Theorem 2",
        content="spectrum of the Hessian at the minimiser",
        function="theory.ufm_spectra.spectrum",
        figures=("guo-spectra",),
        claims=("G12",),
    ),
    Equation(
        number="Guo Theorem 2",
        content="condition number, under four readings of the theorem",
        function="theory.ufm_spectra.condition_number",
        figures=("guo-condition-numbers",),
        claims=("G12",),
    ),
)

CLAIM_NAMES = {
    "G1": "LS converges faster in error, NC1, NC2, NC3",
    "G2": "LS ends with lower NC1",
    "G3": "LS ends with lower NC2",
    "G4": "LS reaches lower NC2 at equal NC1",
    "G5": "Norms shrink as the strength grows",
    "G6": "Best temperature falls with δ and crosses 1",
    "G7": "LS is better calibrated, until both are scaled",
    "G8": "Calibration worsens as CE collapses further",
    "G9": "Networks reach the norms of Theorem 1",
    "G10": "LS approaches its lowest loss faster",
    "G11": "Theorem 1: minimisers are simplex ETFs",
    "G12": "Theorem 2, definition D1: lower condition number",
    "G13": "NC1 contracts faster with LS (feature model)",
    "G14": "NC1 is lowest at a strength between the ends",
    "G15": "Lower NC2 at equal NC1 (feature model)",
    "G16": "Lowest loss approached faster (feature model)",
    "G17": "Minimisers with features after a ReLU",
    "G18": "LS ends with higher NC3",
    "G19": "LS ends with lower test error",
}

PAPER = Paper(
    name="Guo et al. 2025",
    short="Guo et al. 2025",
    arxiv="2402.03979",
    position=2,
    pages=(
        "guo_1_dynamics",
        "guo_2_strength",
        "guo_3_calibration",
        "guo_4_minimisers",
        "guo_5_conditioning",
        "guo_6_speed",
    ),
    equations=EQUATIONS,
    claim_names=CLAIM_NAMES,
    headline=("G4", "G1", "G7"),
    figure="guo-f2",
)
