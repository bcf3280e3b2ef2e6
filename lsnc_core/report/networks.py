"""The networks behind a report: their list, and where its numbers come from."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lsnc_core import provenance
from lsnc_core.data_sources import SOURCES
from lsnc_core.errors import UsageError
from lsnc_core.report import record, schedule, words

if TYPE_CHECKING:
    import pandas as pd


def add_earlier(runs: "pd.DataFrame", folder: Path, names: Sequence[str]) -> "pd.DataFrame":
    """Add the networks behind those pages that this run left as they were.

    Args:
        runs: the networks behind this run's notebooks.
        folder: the profile's outputs; its earlier report has the list of its networks.
        names: the notebooks that the report shows.
    """
    import pandas as pd

    earlier_list = folder / "report" / "files" / "runs.csv"
    try:
        earlier = pd.read_csv(earlier_list, dtype=str, keep_default_na=False)
        earlier = earlier.astype({"seconds": float, "seed": int})
    except (OSError, ValueError, KeyError):  # none, empty or damaged
        return runs
    behind = set()
    for name in names:
        state = schedule.remembered(folder / "notebooks" / f"{name}.json")
        behind |= set(state.get("runs", []))
    if len(runs):
        behind -= set(runs.run)
    earlier = earlier[earlier.run.isin(behind)]
    if not len(earlier):
        return runs
    return pd.concat([runs, earlier]) if len(runs) else earlier


def describe_cost(runs: "pd.DataFrame", names: Sequence[str]) -> str:
    """What training the networks of these names took, in a sentence; "" for none."""
    behind = runs[runs.run.isin(names)] if len(runs) else runs
    if not len(behind):
        return ""
    number = "Its network" if len(behind) == 1 else f"Its {len(behind):,} networks"
    minutes = max(1, round(behind.seconds.sum() / 60))
    return (
        f"{number} took {minutes:,} minute{'s' * (minutes > 1)} to train, summed over processes; "
        "those in the store are not trained again."
    )


def facts(runs: "pd.DataFrame") -> dict[str, str]:
    """The provenance table: this machine, the versions, and what was trained where."""
    here = provenance.describe()
    accelerator = here["accelerator"] or "no accelerator"
    machine = f"{here['processor']}, {here['cores']} cores, {accelerator}, {here['system']}"
    versions = [f"{name} {version}" for name, version in here["versions"].items()]
    rows = {"Made on": machine, "Commit": here["commit"], "Versions": ", ".join(versions)}
    if len(runs):
        seeds = ", ".join(map(str, sorted(runs.seed.unique())))
        seconds = f"{runs.seconds.sum():.0f} process-seconds"
        rows["Networks"] = f"{len(runs)}, trained in {seconds}; seeds {seeds}"
        rows["Trained on"] = "; ".join(sorted(set(runs.device + ": " + runs.hardware)))
        rows["Training commits"] = ", ".join(sorted(set(runs.commit)))
        rows["Data"] = "; ".join(_origin(name) for name in sorted(set(runs.data)))
    return rows


def _origin(data: str) -> str:
    """A data set and where it comes from."""
    if data in SOURCES:
        return f"{SOURCES[data].label}, {SOURCES[data].origin}"
    return f"your own file {data}"


def on_gpu(runs: "pd.DataFrame", recorded: Sequence[record.Recording]) -> list[str]:
    """What was trained on a GPU, a phrase each: of this report's networks, and of each recording.

    Args:
        runs: the networks of this report.
        recorded: the results kept with the project.

    Raises:
        UsageError: if a recording's list of networks cannot be read.
    """
    found = []
    for where, table in [("this report", runs), *_recorded_runs(recorded)]:
        there = table[table.device != "cpu"] if len(table) else table
        if len(there):
            hardware = ", ".join(sorted(set(there.hardware)))
            share = "all" if len(there) == len(table) else f"{len(there):,} of"
            found.append(f"{share} {len(table):,} networks of {where} ({hardware})")
    return found


def _recorded_runs(recorded: Sequence[record.Recording]) -> "list[tuple[str, pd.DataFrame]]":
    """The networks of the recordings that have some."""
    import pandas as pd

    tables = []
    for recording in recorded:
        path = recording.folder / "runs.csv"
        if not path.exists():
            continue
        try:
            columns = pd.read_csv(path, dtype=str, usecols=["device", "hardware"])
        except (OSError, ValueError) as error:
            raise UsageError(
                f"the list of networks {path} is damaged ({type(error).__name__}): restore it from "
                "git or delete the recording."
            ) from error
        run = words.name_of_run(recording.profile, recording.parameters)
        tables.append((f"profile {run}, recorded {recording.made}", columns))
    return tables
