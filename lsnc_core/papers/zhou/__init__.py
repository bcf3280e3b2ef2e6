"""Zhou et al. 2022: four losses, one geometry, equal accuracy.

The paper's full text was not at hand. Letters of theorems and numbers of figures are ours; NC1 to
NC4 are named as in its released code.
"""

from lsnc_core.papers.page import Equation, Paper

_NETWORKS = ("zhou-z1", "zhou-gram", "zhou-z2", "zhou-z3", "zhou-z4", "zhou-z5")
_ON_NETWORKS = ("Z-C1", "Z-C2", "Z-C10", "Z-C3", "Z-C4", "Z-C5")

CLAIM_NAMES = {
    "Z-C1": "Every loss reaches neural collapse",
    "Z-C2": "All losses lead to one geometry of class means",
    "Z-C3": "Test accuracies become equal with size, epochs",
    "Z-C4": "Small or briefly trained networks differ",
    "Z-C5": "Accuracy varies less as size and epochs both grow",
    "Z-C6": "Global minimisers are simplex ETFs",
    "Z-C7": "All other critical points are strict saddles",
    "Z-C8": "Focal loss is convex where pₖ is large",
    "Z-C9": "CE, LS and FL have the contrastive property",
    "Z-C10": "Class means are as far apart as they can be",
}

PAPER = Paper(
    name="Zhou et al. 2022",
    short="Zhou et al. 2022",
    arxiv="2210.02192",
    position=3,
    pages=("zhou_1_losses_collapse", "zhou_2_equal_accuracy", "zhou_3_landscape"),
    equations=(
        Equation(
            "Zhou LS",
            "cross-entropy with label smoothing, (1 − α)(−log p_k) + α mean_j(−log p_j); α = 0: CE",
            "losses.cross_entropy",
            _NETWORKS,
            _ON_NETWORKS,
        ),
        Equation(
            "Zhou FL",
            "focal loss, −(1 − p_k)^γ log p_k",
            "losses.focal",
            _NETWORKS,
            _ON_NETWORKS,
        ),
        Equation(
            "Zhou MSE",
            "mean over the classes of (z_j − M 1[j = k])², M = 15",
            "losses.mse",
            _NETWORKS,
            _ON_NETWORKS,
        ),
        Equation(
            "Zhou NC1",
            "tr(Σ_W Σ_B⁺)/K",
            "metrics.collapse.nc1_trace",
            ("zhou-z1",),
            ("Z-C1",),
        ),
        Equation(
            "Zhou NC2",
            "‖W Wᵀ/‖W Wᵀ‖ − P/√(K − 1)‖, W centred over classes",
            "metrics.geometry.simplex_distance",
            ("zhou-z1",),
            ("Z-C1",),
        ),
        Equation(
            "Zhou NC3",
            "‖W H̄/‖W H̄‖ − P/√(K − 1)‖, W centred over classes",
            "metrics.geometry.simplex_distance",
            ("zhou-z1",),
            ("Z-C1",),
        ),
        Equation(
            "Zhou NC4",
            "‖W μ_G + b‖, as plotted",
            "metrics.collapse.collapse_values",
            ("zhou-z1",),
        ),
        Equation(
            "Zhou objective",
            "f = (1/N) Σ L(W h_ki + b, k) + λ_W/2 ‖W‖² + λ_H/2 ‖H‖² + λ_b/2 ‖b‖²",
            "theory.ufm_objective.value_and_gradient",
            ("zhou-all-starts",),
            ("Z-C6",),
        ),
        Equation(
            "Zhou contrastive property",
            "L(z, k) ≥ φ(Σ_{j≠k}(z_j − z_k)), equal exactly where all wrong logits are equal",
            "theory.ufm_landscape.contrastive_gap",
            ("zhou-focal-region",),
            ("Z-C9",),
        ),
        Equation(
            "Zhou Theorem A",
            "global minimisers: simplex ETFs with margin argmin φ + (K − 1) ε a",
            "theory.ufm.minimiser",
            ("zhou-all-starts", "zhou-margins", "zhou-gram"),
            ("Z-C2", "Z-C6", "Z-C10"),
        ),
        Equation(
            "Zhou Theorem B",
            "a critical point that is not global is a strict saddle; derived here: it is global "
            "iff ‖∇g‖ ≤ √(λ_W λ_H)",
            "theory.ufm_landscape.critical_points",
            ("zhou-saddles",),
            ("Z-C7",),
        ),
        Equation(
            "Zhou Theorem C",
            "focal loss is convex in the logits around its minimisers; derived here: exactly where "
            "p_k ≥ p*(γ)",
            "theory.ufm.focal_convex_from",
            ("zhou-focal-region",),
            ("Z-C8",),
        ),
    ),
    claim_names=CLAIM_NAMES,
    headline=("Z-C2", "Z-C3", "Z-C1"),
    figure="zhou-z1",
)
