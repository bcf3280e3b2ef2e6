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
    "Theory and measurement are said to look alike. The granularity is given as 0.01/0.1 for a and p, without saying of which panels. "
    "Both theory panels are equation 11 with M = 10, so (a) and (c) are one function.",
    "6": "predicted and measured test loss against p at two clean rates (which ones is not recorded; ours are in the titles). "
    "Said to agree in trend and in absolute value.",
    "7": "predicted and measured test loss against p where test labels are corrupted like the training labels, at a = 0.5 and 0.95, "
    "on MNIST and CIFAR-10. Said to agree.",
    "8": "MNIST: the p of lowest test loss and the p of highest test accuracy against the clean rate. Both rise with a but lie far "
    "apart; accuracy asks for the smaller p, stronger smoothing.",
    "9": "MNIST, over (a, p): test loss with each a's minimum (a), test accuracy with each a's maximum (b), and accuracy with early "
    "stopping at the best epoch (c), where the best p is scattered and so said not to matter.",
    "10": "MNIST: test error against p at several clean rates. For a up to 0.85 it has two minima, the lowest at a small p and a local "
    "one at p = 1, at the end of a wide plateau.",
    "11": "MNIST: accuracy with weak smoothing minus that without, against the clean rate. It helps only for a from about 0.9 on; "
    "with more noise it hurts, by up to 8 points.",
}
