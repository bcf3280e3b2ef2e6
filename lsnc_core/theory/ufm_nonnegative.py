"""Non-negative features in the unconstrained feature model, as a ReLU makes them: its global
minimisers in closed form.

f and all symbols are those of `ufm`; here f is minimised over H >= 0. At a minimiser h_ki = h_k,
all ||h_k|| are equal and h_j^t h_k = 0: no two classes share a feature. The features form an
orthogonal frame instead of a simplex ETF, their mean h_G is not 0, and w_k is proportional to
h_k - h_G. NC1, NC2 and NC3 centre the features, so they are 0 here too and cannot tell the two
frames apart. In the formulas only eps changes, to

    eps_+ = eps sqrt(K/(K-1)).

The landscape is not benign as with features of any sign: h_k = 0 for one class, whose logit is
then its bias, can be a local minimum, and optimisers end there from some starts.

Derivation, ours; neither paper has it. Let w~_k = w_k - mean_j w_j, let hbar_k be the class means,
Hbar = [hbar_k] (not centred), and a_i the own logit of sample i minus the mean of its others. Then
mean_i a_i = sum_k w~_k.hbar_k / (K-1).
1. In one feature the entries of w~ sum to 0 over the classes. Let its positive ones sum to s: their
   squares sum to at most s^2, those of the at most K-1 negative ones to at least s^2/(K-1). So for
   h >= 0, w~.h <= ||w~_+|| ||h|| <= sqrt((K-1)/K) ||w~|| ||h||.
2. Summed over the features, (K-1) mean_i a_i <= sqrt((K-1)/K) ||W|| ||Hbar||, and the weight decay
   is at least eps ||W|| ||Hbar|| >= (K-1) eps_+ mean_i a_i. For features of any sign the root is
   missing, and with it the factor of eps.
3. A sample's loss is at least phi(a_i) (mse: phi with the best bias), so f is at least the least
   phi(a) + (K-1) eps_+ a. Beyond the threshold the bound with a smaller eps_+, that of the
   threshold, already gives phi(0). Equality needs each feature to belong to at most one class, and
   D >= K for every class to have one. For focal this is complete where (K-1) eps_+ <= 1: phi rises
   at least as fast as that towards negative a.
"""

from dataclasses import dataclass, replace

import numpy as np

from lsnc_core.errors import UsageError
from lsnc_core.theory import ufm
from lsnc_core.theory.arguments import check_kind
from lsnc_core.theory.ufm import FeatureModel, Loss


@dataclass(frozen=True, eq=False)
class Minimiser(ufm.Minimiser):
    """The properties that all global minimisers over H >= 0 share, float64 of the strength's shape.

    As `ufm.Minimiser`, but h_norm is ||h_k - h_G||, the feature norm that the papers measure, s_H
    belongs to the centred class means, and feature_norm is ||h_k|| = h_norm sqrt(K/(K-1)).
    """

    feature_norm: np.ndarray


def any_sign(model: FeatureModel) -> FeatureModel:
    """The model of features of any sign with the same margin, W, h_k - h_G and least value of f.

    Its lambda_H is K/(K-1) times the model's, and its eps is eps_+: the weight decay of an
    orthogonal frame counts ||h_k||^2 = K/(K-1) ||h_k - h_G||^2.
    Args: model, with D >= K and weight decays of W and H > 0. Returns: FeatureModel.
    Raises: UsageError.

    >>> model = FeatureModel(K=2, n=1, D=2, lambda_W=0.1, lambda_H=0.1)
    >>> round(model.eps, 4), round(any_sign(model).eps, 4)  # sqrt(2) times
    (0.1, 0.1414)
    """
    check_kind(model, FeatureModel, "model")
    K = model.K
    if model.D < K:
        raise UsageError(
            f"Non-negative features need a feature width D of at least K = {K}, one feature for "
            f"each class, not {model.D}."
        )
    ufm.check_closed_form(model)
    return replace(model, lambda_H=model.lambda_H * K / (K - 1))


def minimiser(model: FeatureModel, loss: Loss) -> Minimiser:
    """The global minimisers of f over H >= 0.

    Which features belong to which class is free, and so is the direction of h_k >= 0 within the
    features of its class. For ls and focal with lambda_b = 0, b is also free up to a multiple of 1.
    Formula: with eps_+ = eps sqrt(K/(K-1)), ls a = log(K/(delta + K eps_+) - K + 1), 0 where
    delta + K eps_+ >= 1, and log(K/delta - K + 1) as the weight decays vanish; focal a = argmin of
    phi(a) + (K-1) eps_+ a; mse a = max(0, M - K^2 eps_+/2). ||w_k||^2 = a (K-1)/K r and
    ||h_k||^2 = a/r with r = sqrt(n lambda_H K/(lambda_W (K-1))). value = phi(a) + (K-1) eps_+ a.
    Args: model, with D >= K and weight decays > 0; loss, of any strength's shape. Returns:
    Minimiser.
    Raises: UsageError, also for mse with lambda_b > 0, where the mean feature, which is there
    anyway, takes over a part of the bias.
    Source: derived in the docstring of this module.

    >>> code = FeatureModel(K=10, n=5000, D=512, lambda_W=1e-3, lambda_H=1e-6)
    >>> at = minimiser(code, Loss("ls", np.array([0, 0.05, 0.1])))
    >>> at.W_norm.round(4).tolist(), at.h_norm.round(4).tolist()
    ([3.5762, 3.2054, 3.0116], [1.5173, 1.36, 1.2777])
    >>> at.feature_norm.round(4).tolist()
    [1.5993, 1.4335, 1.3468]
    """
    check_kind(model, FeatureModel, "model")
    check_kind(loss, Loss, "loss")
    if loss.name == "mse" and model.lambda_b > 0:
        raise UsageError(
            "The closed form for mse and non-negative features needs lambda_b = 0, not "
            f"{model.lambda_b!r}."
        )
    at = ufm.minimiser(any_sign(model), loss)
    feature_norm = at.h_norm * np.sqrt(model.K / (model.K - 1))
    return Minimiser(**vars(at), feature_norm=feature_norm)
