"""What `measure` gives: a tidy table, and short views of it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from lsnc_core.errors import UsageError
from lsnc_core.metrics.calibration import SCORES
from lsnc_core.metrics.collapse import FORMULAS, PRESETS
from lsnc_core.metrics.intervals import MetricInterval, Samples, compare_intervals
from lsnc_core.metrics.statistics import describe

if TYPE_CHECKING:
    import pandas as pd


def _papers_names() -> dict[str, str]:
    """By metric, what the papers call it: "guo NC2, guo_code NC2"."""
    names: dict[str, list[str]] = {}
    for preset, metrics in PRESETS.items():
        for theirs, ours in metrics.items():
            names.setdefault(ours, []).append(f"{preset} {theirs}")
    return {metric: ", ".join(papers) for metric, papers in names.items()}


PAPERS_NAMES = _papers_names()
ALL_FORMULAS = FORMULAS | {name: formula for name, (_, formula) in SCORES.items()}
OF_INTERVALS = ("estimate", "low", "high", "remark")
COLUMNS = ("split", "layer", "metric", "part", "value", "papers", "formula", *OF_INTERVALS)
ALL_FORMULAS["nc1_trace_by_prediction"] = "tr(Σ_W Σ_B⁺), samples grouped by predicted class"


def tidy_rows(
    split: str,
    layer: str,
    values: Mapping[str, float],
    part: str = "all",
    intervals: Mapping[str, MetricInterval] | None = None,
) -> list[dict[str, Any]]:
    """Rows of the table: values by metric, of a part of a split's samples at a layer."""
    rows = []
    for name, value in values.items():
        row = {"split": split, "layer": layer, "metric": name, "part": part, "value": value}
        row |= {"papers": PAPERS_NAMES.get(name, ""), "formula": ALL_FORMULAS[name]}
        if intervals is not None:
            found = intervals.get(name, MetricInterval(value, math.nan, None, None))
            row |= {key: getattr(found, key) for key in OF_INTERVALS}
        rows.append(row)
    return rows


@dataclass(frozen=True, eq=False)
class Measurement:
    """Every metric of a model on some data.

    table: pandas.DataFrame with the columns split; layer, the classifier or the hidden layer whose
        features were measured, "" for the model as a whole; metric; part of the samples: "all",
        "correct", "wrong" or "class 3"; value; papers, the papers' names for it; formula; and, with
        intervals, estimate, low, high and remark, see `lsnc_core.metrics.MetricInterval`.
    remarks: what a reader of the numbers should know, in sentences.
    samples: with intervals, the classifier's outputs for each split, for `compare`.
    """

    table: "pd.DataFrame"
    remarks: tuple[str, ...] = ()
    samples: Mapping[str, Samples] = field(default_factory=dict)

    def summary(self, preset: str = "guo") -> "pd.DataFrame":
        """NC1 to NC3, accuracy and ECE (15 bins of equal width) of each split and layer.

        Args: preset, of `PRESETS`, whose NC1 to NC3 are meant.
        Raises: UsageError for another name.
        """
        chosen = self._named(preset, ("NC1", "NC2", "NC3"))
        return self._by_split(chosen | {"accuracy": "accuracy", "ECE": "ece_15"})

    def preset(self, name: str) -> "pd.DataFrame":
        """All metrics of a paper under its own names, of each split and layer.

        Args: name, of `PRESETS`: "guo", "guo_code" or "zhou". Raises: UsageError for another name.
        """
        return self._by_split(self._named(name, PRESETS.get(name, ())))

    @staticmethod
    def _named(preset: str, names: Iterable[str]) -> dict[str, str]:
        if preset not in PRESETS:
            raise UsageError(f"there is no preset {preset!r}: choose from {', '.join(PRESETS)}.")
        return {name: PRESETS[preset][name] for name in names}

    def _by_split(self, metrics: Mapping[str, str], column: str = "value") -> "pd.DataFrame":
        """A row per split and layer, a column per metric, under other names."""
        table = self.table[(self.table.part == "all") & self.table.metric.isin(metrics.values())]
        order = table[["split", "layer"]].drop_duplicates()
        wide = table.pivot(index=["split", "layer"], columns="metric", values=column)
        wide = wide.reindex(index=list(order.itertuples(index=False, name=None)))
        wide = wide.reindex(columns=list(metrics.values())).set_axis(list(metrics), axis=1)
        return wide.rename_axis(index=["split", "layer"], columns=None)

    def _shown(self) -> "pd.DataFrame":
        """The summary as text, with intervals where there are any."""
        shown = self.summary().map(lambda value: f"{value:.4g}" if value == value else "–")  # NaN
        if "low" not in self.table:
            return shown
        metrics = self._named("guo", ("NC1", "NC2", "NC3"))
        metrics |= {"accuracy": "accuracy", "ECE": "ece_15"}
        ends = {end: self._by_split(metrics, end) for end in ("low", "high")}
        for place in ends["low"].index:
            for name in metrics:
                low, high = ends["low"].loc[place, name], ends["high"].loc[place, name]
                if low == low:  # not NaN
                    shown.loc[place, name] += f" [{low:.4g}, {high:.4g}]"
        return shown

    def __str__(self) -> str:
        return "\n".join([self._shown().to_string(), *self.remarks])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        import html

        remarks = "".join(f"<p>{html.escape(remark)}</p>" for remark in self.remarks)
        return self._shown().to_html() + remarks


def compare(a: Measurement, b: Measurement, *, level: float = 0.95) -> "pd.DataFrame":
    """How much larger each metric is for one model than for another on the same samples.

    Args: a, b, from `measure` with intervals=True and a loader that gave both models the same
    samples in the same order; level, how often an interval shall hold the population's difference.
    Returns: pandas.DataFrame with the index split, metric and the columns a, b (values of these
    samples), and of the difference b - a estimate, low, high and remark, see
    `lsnc_core.metrics.MetricInterval`.
    Raises: UsageError for measurements without intervals, or of other splits or samples.
    """
    import pandas as pd

    for given in (a, b):
        if not isinstance(given, Measurement):
            raise UsageError(f"compare takes two results of measure, not {describe(given)}.")
    if not a.samples or not b.samples:
        raise UsageError(
            "compare needs measurements of a classifier with intervals: measure with "
            "intervals=True."
        )
    if set(a.samples) != set(b.samples):
        raise UsageError(
            f"the measurements are of the splits {', '.join(a.samples)} and "
            f"{', '.join(b.samples)}: measure both models on the same."
        )
    rows = []
    for split, samples in a.samples.items():
        found = compare_intervals(samples, b.samples[split], level=level)
        for name, interval in found.items():
            values = {key: _value(one, split, name) for key, one in (("a", a), ("b", b))}
            rows.append({"split": split, "metric": name} | values | asdict(interval))
    return pd.DataFrame(rows).drop(columns="value").set_index(["split", "metric"])


def _value(measured: Measurement, split: str, name: str) -> float:
    """A metric of the classifier on a split."""
    table = measured.table
    # the classifier's rows come first
    chosen = table[(table.split == split) & (table.metric == name) & (table.part == "all")]
    return float(chosen.value.iloc[0])
