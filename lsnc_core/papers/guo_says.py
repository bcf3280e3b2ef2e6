"""Guo et al. 2025: what each figure about deep networks plots and claims, in our words.

Known from the abstract, the first page and the authors' plotting scripts; F1 to F12 are ids of ours, the paper's numbers are not known to
us. Several of the released scripts draw adjusted values, so no size of an effect is taken from them.
"""

FIGURES = {
    "F1": "error rate, NC1, NC2, NC3 against the epoch for CIFAR-10, CIFAR-100, STL-10 and Tiny ImageNet, cross-entropy against label "
    "smoothing of 0.05. Smoothing is said to converge faster and to end more collapsed.",
    "F2": "NC1 against NC2, a point per logged epoch, coloured by test error: at equal NC1 the smoothed networks lie at smaller NC2.",
    "F3": "ECE before and after temperature scaling against the strength, and beside it norms and optimal temperature, on CIFAR-10 and "
    "CIFAR-100. Norms and temperature fall with the strength.",
    "F4": "reliability diagrams of 20 bins with and without smoothing, before and after temperature scaling, and the share of images in "
    "each bin. Cross-entropy is overconfident, smoothing less so.",
    "F5": "over training on CIFAR-10, with and without smoothing: loss and entropy of right and wrong predictions, NC1 of each, errors and "
    "ECE. Calibration is said to follow the collapse of wrongly predicted images too.",
    "F6": "at the end of training against the strength: NC1, NC2 and NC3, norms of classifier and features, test error. Norms fall; the "
    "direction of the rest at large strengths is not known to us.",
    "F7": "training error, NC1, NC2, NC3 against the epoch for strengths from 0 to 0.9 on CIFAR-10 and CIFAR-100.",
    "F9": "training loss and the logarithm of its distance to the lowest: steeper with smoothing.",
    "F10": "norms of networks trained under Theorem 1's decays, relative to its closed form, against the epoch: they converge to it.",
    "F11": "training and test error with an inset of the first 30 epochs: with smoothing they drop faster.",
    "F12": "NC1, NC2 and NC3 of training and of test images on CIFAR-10.",
}
