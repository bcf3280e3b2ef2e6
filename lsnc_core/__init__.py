"""A runnable companion to three papers on label smoothing and neural collapse.

Rooms: `labels` and `losses` (smoothing, noise), `models`, `data` (image sets), `custom` (your own
loss, noise or images), `metrics` (collapse and calibration of any model), `theory` (closed
forms), `runs` (what is trained, how, and where it is kept), `papers` (experiments, figures,
claims), `report` (notebooks to pages), `explore` and `frames` (sliders), `cli`.

Symbols, the same everywhere:

    N        samples
    K, M     classes; M in formulas and figures of Chen et al.
    D        feature width, the input of the classifier
    C, H, W  channels, height, width of an image
    R        replicas: networks that train together
    B        images of a batch
    delta    smoothing strength, y = (1 - delta) onehot + delta / K
    p        kept mass: what a smoothed label leaves on its class, the rest spread evenly (Chen eq. 1); p = 1 - delta (K-1)/K
    a        clean rate: the probability that a training label is left as it is (Chen section 2)
    S, T     smoothing and noise matrices, columns are distributions (Chen section 4)
    h, H     features: the input of the classifier; their class means mu_k, the mean of these mu_G
    W, b     the classifier, logits z = W h + b
    Sigma_W, Sigma_B   covariance within classes and between class means (Guo section 2, Zhou's evaluation)
    lambda_W, lambda_H, lambda_b   decays of the unconstrained feature model (Guo, Zhou)
"""
