"""Collapse and calibration metrics of any model.

`measure(model, loader)` gives all of them as a table, on request with intervals, and `compare` the
differences between two models; `NeuralCollapse` accumulates those of collapse batch by batch.
"""

from lsnc_core.metrics.accumulator import NeuralCollapse
from lsnc_core.metrics.calibration import (
    Reliability,
    Temperature,
    adaptive_ece,
    brier,
    calibration_scores,
    classwise_ece,
    ece,
    fit_temperature,
    mce,
    nll,
    reliability,
)
from lsnc_core.metrics.collapse import (
    FORMULAS,
    PRESETS,
    Collapse,
    Values,
    collapse_values,
    nc1_by_correctness,
    neural_collapse,
)
from lsnc_core.metrics.intervals import MetricInterval
from lsnc_core.metrics.measurement import Measurement, compare
from lsnc_core.metrics.ood import energy, nearest_mean, ood_auroc
from lsnc_core.metrics.predictions import look_like_probabilities
from lsnc_core.metrics.probe import CollapseHistory, measure, predict
from lsnc_core.metrics.selective import augrc, aurc
from lsnc_core.metrics.statistics import Statistics

__all__ = [
    "FORMULAS",
    "PRESETS",
    "Collapse",
    "CollapseHistory",
    "Measurement",
    "MetricInterval",
    "NeuralCollapse",
    "Reliability",
    "Statistics",
    "Temperature",
    "Values",
    "adaptive_ece",
    "augrc",
    "aurc",
    "brier",
    "calibration_scores",
    "classwise_ece",
    "collapse_values",
    "compare",
    "ece",
    "energy",
    "fit_temperature",
    "look_like_probabilities",
    "mce",
    "measure",
    "nc1_by_correctness",
    "nearest_mean",
    "neural_collapse",
    "nll",
    "ood_auroc",
    "predict",
    "reliability",
]
