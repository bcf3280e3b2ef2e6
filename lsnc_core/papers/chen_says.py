"""Chen, Ziyin et al. 2020: what each figure of the paper plots and claims, in our words."""

FIGURES = {
    "1": "three heat maps of equations 7, 8 and 9, the two-class test losses, over clean rate a and kept mass p, "
    "dark where the loss is low. For clean rates above one half, which the paper treats, every loss diverges at p = 1 unless a = 1, "
    "so some smoothing always avoids the divergence; each a has one best p.",
    "2": "the best kept mass against the clean rate for two classes under the three assumptions about test labels. "
    "Cleaner labels need less smoothing under each; the three differ, and gamma stays at p = 1/2 up to a = 0.75.",
    "3": "the best kept mass for alpha and beta and several numbers of classes (which ones is not recorded; ours are in the legend). "
    "Alpha's is a for every M; beta's tends to a limit and no longer changes visibly beyond 100 classes.",
    "4": "the best kept mass for gamma and several numbers of classes: it sits at 1/M and jumps at a critical clean rate.",
    "5": "test-loss heat maps over (a, p) with clean test labels: theory and measurement on MNIST (a, b) and on CIFAR-10 (c, d). "
    "Theory and measurement are said to look alike. Both theory panels are equation 11 with M = 10, so (a) and (c) are one function.",
    "6": "predicted and measured test loss against p at two clean rates (which ones is not recorded; ours are in the titles). "
    "Said to agree in trend and in absolute value.",
}
