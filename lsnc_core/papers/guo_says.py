"""Guo et al. 2025: what each figure about deep networks plots and claims, in our words.

Known from the abstract, the first page and the authors' plotting scripts; F1 to F12 are ids of
ours, the paper's numbers are not known to us. No size of an effect is taken from those scripts, see
the first of the `PROBLEMS`.
"""

FIGURES = {
    "F1": "error rate, NC1, NC2, NC3 against the epoch for CIFAR-10, CIFAR-100, STL-10 and Tiny ImageNet, cross-entropy against label "
    "smoothing of 0.05. Smoothing is said to converge faster and to end more collapsed.",
    "F2": "NC1 against NC2, a point per logged epoch, coloured by test error: at equal NC1 the smoothed networks lie at smaller NC2. "
    "Ranges of axes and colours in the released script: CIFAR-10 test error 0.10 to 0.15, NC2 0 to 0.4, NC1 5e-5 to 1; CIFAR-100 0.36 to "
    "0.40, NC2 0.25 to 1.08; STL-10 0.39 to 0.45, NC2 0 to 1, NC1 0.01 to 100; Tiny ImageNet 0.40 to 0.45, NC2 0.5 to 1.25, NC1 0.025 to 5 "
    "(NC1 divided by K as in equation 4; the script's is not).",
    "F3": "ECE before and after temperature scaling against the strength, and beside it norms and optimal temperature, on CIFAR-10 and "
    "CIFAR-100. Norms and temperature fall with the strength.",
    "F4": "reliability diagrams of 20 bins with and without smoothing, before and after temperature scaling, and the share of images in "
    "each bin. How they look is not known to us.",
    "F5": "over training on CIFAR-10, with and without smoothing: loss and entropy of right and wrong predictions, NC1 of each, errors and "
    "ECE. What is read from it is not known to us; G8 is our reading.",
    "F6": "at the end of training against the strength: NC1, NC2 and NC3, norms of classifier and features, test error. Norms fall; the "
    "direction of the rest at large strengths is not known to us.",
    "F7": "training error, NC1, NC2, NC3 against the epoch for strengths from 0 to 0.9 on CIFAR-10 and CIFAR-100.",
    "F9": "training loss and the logarithm of its distance to the lowest: steeper with smoothing.",
    "F10": "norms of networks trained under Theorem 1's decays, relative to its closed form, against the epoch: they converge to it.",
    "F11": "training and test error with an inset of the first 30 epochs: with smoothing they drop faster.",
    "F12": "NC1, NC2 and NC3 of training and of test images on CIFAR-10.",
}

# What in the released material differs from the paper or from what it says of itself, and what is
# done here.
PROBLEMS = (
    (
        "Plotted values",
        "Several of the released plotting scripts draw adjusted values, and which scripts made the published figures is not known.",
        "No size of an effect is taken from them: directions are tested, and every plotted value comes from a stored run.",
    ),
    (
        "Labels of rows",
        "The row labels of some released plots and the names of the runs that they load do not agree.",
        "Each figure names the image set of the runs behind it, and the list of runs can be downloaded.",
    ),
    (
        "Validation collapse",
        "What the training script logs as collapse of validation images is computed from training features.",
        "Collapse of test images (F12, F5) is computed from the features of test images.",
    ),
    (
        "Temperature",
        "It is fitted on the test images, by the ECE that is then reported.",
        "Fitted by likelihood on validation images; beside it, labelled, as released (guo_3_calibration).",
    ),
    (
        "Schedule",
        "The released default has one milestone, epoch 150; the paper has 150 and 350 (Tiny ImageNet 100 and 200).",
        "The paper's.",
    ),
    (
        "Conventions",
        "The released NC1 lacks the 1/K of equation 4, the released NC3 is the square of equation 6.",
        "The equations'; lsnc_core.metrics has both by name (guo and guo_code).",
    ),
    (
        "Authors",
        "Early versions on arXiv name Yufeng Xu as a further author; the TMLR version does not.",
        "Cited as published.",
    ),
)
