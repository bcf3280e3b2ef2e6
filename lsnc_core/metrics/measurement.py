"""What `measure` gives: a tidy table, and short views of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lsnc_core.errors import UsageError
from lsnc_core.metrics.calibration import SCORES
from lsnc_core.metrics.collapse import FORMULAS, PRESETS

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
ALL_FORMULAS["nc1_trace_by_prediction"] = "tr(Σ_W Σ_B⁺), samples grouped by predicted class"


def tidy_rows(
    split: str, layer: str, values: Mapping[str, float], part: str = "all"
) -> list[dict[str, Any]]:
    """Rows of the table: values by metric, of a part of a split's samples at a layer."""
    return [
        {
            "split": split,
            "layer": layer,
            "metric": name,
            "part": part,
            "value": value,
            "papers": PAPERS_NAMES.get(name, ""),
            "formula": ALL_FORMULAS[name],
        }
        for name, value in values.items()
    ]


@dataclass(frozen=True, eq=False)
class Measurement:
    """Every metric of a model on some data.

    table: pandas.DataFrame with the columns split; layer, the classifier or the hidden layer whose
        features were measured, "" for the model as a whole; metric; part of the samples: "all",
        "correct", "wrong" or "class 3"; value; papers, the papers' names for it; formula.
    remarks: what a reader of the numbers should know, in sentences.
    """

    table: "pd.DataFrame"
    remarks: tuple[str, ...] = ()

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

    def _by_split(self, metrics: Mapping[str, str]) -> "pd.DataFrame":
        """A row per split and layer, a column per metric, under other names."""
        table = self.table[(self.table.part == "all") & self.table.metric.isin(metrics.values())]
        order = table[["split", "layer"]].drop_duplicates()
        wide = table.pivot(index=["split", "layer"], columns="metric", values="value")
        wide = wide.reindex(index=list(order.itertuples(index=False, name=None)))
        wide = wide.reindex(columns=list(metrics.values())).set_axis(list(metrics), axis=1)
        return wide.rename_axis(index=["split", "layer"], columns=None)

    def __str__(self) -> str:
        return "\n".join([self.summary().to_string(float_format="{:.4g}".format), *self.remarks])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        remarks = "".join(f"<p>{remark}</p>" for remark in self.remarks)
        return self.summary().to_html(float_format="{:.4g}".format) + remarks
