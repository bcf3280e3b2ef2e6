"""A runnable companion to three papers on label smoothing and neural collapse.

Papers

  Chen  Chen, Ziyin, Wang, Liang: An Investigation of how Label Smoothing
        Affects Generalization. arXiv 2010.12648, 2020.
  Guo   Guo, Andriopoulos, Zhao, Dong, Ling, Ross: Cross Entropy versus
        Label Smoothing: A Neural Collapse Perspective. arXiv 2402.03979,
        TMLR 2025.
  Zhou  Zhou, You, Li, Liu, Liu, Qu, Zhu: Are All Losses Created Equal: A
        Neural Collapse Perspective. arXiv 2210.02192, NeurIPS 2022.

Packages and modules

  labels, losses, models  smoothing, label noise, losses, networks
  data, images            image sets
  custom                  your own loss, noise model or images, from a file
  metrics                 collapse and calibration of any model
  theory                  closed forms of the three papers
  runs                    which networks to train, how, and the results
  claims, show            verdicts, intervals; figures, tables, widgets
  papers                  experiments, figures and claims of each paper
  notebook, report, cli   notebook start, report pages, command line

Conventions

  A label is a one-hot column y. A smoothed label is S y, the expected noisy
  label T y; columns of S and T sum to 1. Smoothing of strength delta
  spreads mass over all classes; smoothing with kept mass p spreads it over
  all but the label's. Classes are balanced in every closed form. Losses are
  in nats. Features are the input of the last linear layer. Matrix norms are
  Frobenius norms. A collapse metric names its convention; the presets "guo"
  and "zhou" give each paper's own.

Symbols

  symbol    name in code      meaning                        paper equation
  N, n      N, n              samples, samples per class
  K, M      K, M              classes (M in Chen's formulas) Chen eq. 1
  D         D                 feature width (d in Guo, Zhou)
  C, H, W   C, H, W           channels, height, width
  R         R                 replicas that train together
  B         batch             images per step
  p         p                 kept mass                      Chen eq. 1
  delta     delta             smoothing strength; p =
                              1 - delta (K-1)/K
  a         a                 clean-label rate               Chen section 2
  S         S                 smoothing matrix               Chen eq. 2
  T         T                 noise matrix                   Chen eq. 10
  H(p)      entropy_floor     entropy of a smoothed label    Chen eq. 3
  q         agreement         P(test = training label)
  l         loss              loss of memorised labels       Chen eq. 15
  p*        optimum           kept mass of least loss        after Chen eq. 11
  h         features          input of the classifier
  mu_k      means             class means
  mu_G      global_mean       their mean
  Hbar      centred_means     [mu_k - mu_G]                  Guo eq. 5
  W, b      W, b              classifier, logits W h + b
  Sigma_W   within            covariance within classes      Guo eq. 4
  Sigma_B   between_roots     covariance of class means      Guo eq. 4
  NC1       nc1_trace_over_K  tr(Sigma_W Sigma_B^+)/K        Guo eq. 4
  NC2       nc3_product       W Hbar against a simplex ETF   Guo eq. 5
  NC3       nc3_distance      W against Hbar^T               Guo eq. 6
  lambda_W  lambda_W          weight decay of W
  lambda_H  lambda_H          weight decay of the features
  lambda_b  lambda_b          weight decay of b
  eps       FeatureModel.eps  sqrt(n lambda_W lambda_H)      Guo Theorem 1
  eps_+     any_sign(m).eps   eps sqrt(K/(K-1)), for H >= 0
  a_delta   margin            target logit minus any other   Guo Theorem 1
  p_t, p_o  p_on, p_off       softmax of target, of others   Guo Theorem 1

  Rows without an equation follow Guo's and Zhou's setting or are ours.
  Guo's a_delta is a function of delta; Chen's a is the clean-label rate.

Glossary

  accuracy            share of samples whose largest logit is at their label
  alpha, beta, gamma  Chen's test labels: clean, equally noisy, smoothed
  cache key           digest of a run's spec and of the code that trains it
  calibration         agreement of confidence and accuracy
  case                a measured quantity beside the range a claim predicts
  claim               one checkable sentence of a paper, in our words
  class mean          mean feature of the samples of one class
  clean-label rate    a, probability that a training label stays as it is
  confidence          largest class probability of a sample
  ECE                 expected calibration error: mean gap of the bins
  focal loss          -(1 - p_k)^gamma log p_k, k the label
  forward correction  fits T softmax(z) to noisy labels
  Jensen gap          log-likelihoods: forward correction less smoothing
  kept mass           p, what a smoothed label keeps on its class
  label noise         random change of training labels before training
  label smoothing     mixing one-hot labels with a distribution over classes
  logit smoothing     fits softmax(S z) to noisy labels
  memorisation        fitting every noisy training label
  NC1                 features collapse to their class means
  NC2                 means and classifier form a simplex ETF; papers differ
  NC3                 classifier and centred class means align; papers differ
  NC4                 the classifier decides like the nearest class mean
  neural collapse     the geometry NC1 to NC4, approached late in training
  noise rate          1 - a, probability that a training label changes
  one-hot             1 at the label, 0 elsewhere
  premise             a condition under which a paper states a claim
  preset              metrics under the names and conventions of one paper
  profile             size of the whole companion, from smoke to paper
  replica             one of R networks that train together in one program
  replicate           one repetition of an experiment, with its own seed
  seed                draws weights and label noise; order_seed the batches, one order per seed
  self-duality        NC3: W is proportional to Hbar^T
  simplex ETF         K vectors of equal norm, pairwise cosines -1/(K-1)
  smoothing strength  delta, weight of the uniform distribution in a label
  spec                frozen, hashable description of one network to train
  strict saddle       critical point with a direction of negative curvature
  temperature         T of softmax(logits / T), fitted to calibrate
  unconstrained       model whose features are free parameters under weight
  feature model       decay; UFM in module names
  verdict             holds, does not hold, or not decidable here
  weight decay        lambda in lambda/2 times a squared norm
"""
