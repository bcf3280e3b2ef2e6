"""Results kept in git, shown beside those of your own machine: written by `run_all.sh --record
DIR`, shown by every report.

A recording is a folder: `recording.json` with the profile, parameters, provenance, and for each
notebook the texts of its figures and its verdicts; an SVG and a CSV for each figure; `runs.csv`, a
row per network with its spec, where it was trained and its last measurements.
"""

import json
import re
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lsnc_core import files, provenance
from lsnc_core.errors import UsageError
from lsnc_core.report import executed, outcomes, untrusted, words
from lsnc_core.show import downloads, figure_html, verdicts_html

if TYPE_CHECKING:
    import pandas as pd

# Recordings of this checkout, which every report shows.
FOLDER = files.PROJECT / "outputs" / "recorded"
CONTENT = "recording.json"


@dataclass(frozen=True)
class Recording:
    """What a recording's `recording.json` holds; `notebooks` maps a name to its `figures` (texts
    only) and `verdicts`.
    """

    folder: Path
    profile: str
    parameters: tuple[str, ...]
    made: str
    trained: dict[str, list[str]]
    provenance: dict
    notebooks: dict[str, dict]

    @property
    def where(self) -> str:
        """The hardware that trained (without networks, that computed), the day and the profile."""
        hardware = ", ".join(self.trained["hardware"]) or self.provenance["processor"]
        run = words.name_of_run(self.profile, self.parameters)
        return f"recorded on {hardware}, {self.made}, profile {run}"

    @property
    def versions(self) -> str:
        """Commits and the versions that shape a result."""
        versions, commits = self.provenance["versions"], self.trained["commits"]
        networks = f"networks trained at commit {', '.join(commits)}, " if commits else ""
        return (
            f"{networks}recorded at commit {self.provenance['commit']}, "
            f"Python {versions['python']}, torch {versions['torch']}"
        )


def check_name(folder: Path) -> None:
    """Refuse a name that would not do in addresses. Raises: UsageError."""
    if not re.fullmatch(r"[\w.-]+", folder.name, re.ASCII):
        raise UsageError(
            "the folder of a recording needs a name of letters, digits, '.', '_' and '-', "
            f"got {folder.name!r}."
        )


def _without_folders(text: str) -> str:
    """The text with your own files by their names: where they lay is nobody's concern.

    >>> _without_folders('data_set=/home/me/my_own.py, 1/2')
    'data_set=my_own.py, 1/2'
    """
    return re.sub(r"""(?:~|\.{1,2})?/(?:[^/,"'\n]+/)*([^/,"'\n]+\.py)\b""", r"\1", text)


def write(
    target: Path,
    outputs: Path,
    profile: str,
    parameters: Sequence[str],
    names: Sequence[str],
    runs: "pd.DataFrame",
) -> None:
    """Record executed notebooks.

    Args:
        target: the recording's folder, see `check_name`; it replaces an earlier recording with its
            figures and tables.
        outputs: the profile's outputs; executed notebooks are read from `notebooks/` in it.
        profile, parameters: as requested; parameters as NAME=VALUE.
        names: the notebooks to record.
        runs: pandas.DataFrame of the networks behind them at their last epoch.

    Raises:
        UsageError: if the folder cannot be written or an executed notebook cannot be read.
    """
    texts, notebooks = {}, {}
    for name in names:
        notebook = executed.read(outputs / "notebooks" / f"{name}.ipynb")
        figures, verdicts = executed.carried(notebook)
        for figure in figures:
            figure.pop("pdf", None)  # `--figure` makes it again
            for ending in ("svg", "csv"):
                texts[f"{figure['name']}.{ending}"] = figure.pop(ending)
        notebooks[name] = {"figures": figures, "verdicts": verdicts}
    trained = {"hardware": [], "commits": []}
    if len(runs):
        texts["runs.csv"] = runs.to_csv(index=False, float_format="%.9g")
        trained["hardware"] = sorted(runs.hardware.unique())
        trained["commits"] = sorted(runs.commit.unique())
    content = {
        "profile": profile,
        "parameters": list(parameters),
        "made": datetime.now(UTC).strftime("%Y-%m-%d"),
        "trained": trained,
        "provenance": provenance.describe(),
        "notebooks": notebooks,
    }
    texts[CONTENT] = json.dumps(content, indent=1) + "\n"
    _replace(target, {name: _without_folders(text) for name, text in texts.items()})


def _replace(target: Path, texts: dict[str, str]) -> None:
    """Write the files of a recording and delete figures and tables of an earlier one."""
    if (target / CONTENT).exists():
        for path in [*target.glob("*.svg"), *target.glob("*.csv")]:
            if path.name not in texts:
                path.unlink()
    for name, text in texts.items():
        files.write_whole(
            target / name, lambda path, text=text: path.write_text(text, encoding="utf-8")
        )


def recordings(folder: Path | None = None) -> list[Recording]:
    """All recordings in a folder, by default this checkout's, in the order of their names.

    Raises:
        UsageError: for one that cannot be read.
    """
    paths = sorted((folder or FOLDER).glob(f"*/{CONTENT}"))
    return [_read(path) for path in paths]


def _read(path: Path) -> Recording:
    """Read a recording and check that pages can show it. Raises: UsageError."""
    check_name(path.parent)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["parameters"] = tuple(content["parameters"])
        recording = Recording(folder=path.parent, **content)
        recording.where, recording.versions  # noqa: B018 - what pages show of it must be there
        for notebook in recording.notebooks.values():
            executed.check_verdicts(notebook["verdicts"])
            for figure in notebook["figures"]:
                untrusted.check_figure(figure)
    except UsageError as error:
        reason = str(error).removesuffix(".")
        raise UsageError(
            f"the recording {path} is not shown: {reason}; restore it from git or delete it."
        ) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            f"the recording {path} is damaged or from an earlier version "
            f"({type(error).__name__}): restore it from git or delete it."
        ) from error
    return recording


def answers(recorded: Sequence[Recording], pages: Collection[str]) -> list[dict]:
    """The verdicts of recordings, each with `recorded`, where it was made, `profile`, `parameters`,
    those that were given, and `page`, the address of its notebook's page.

    Args:
        recorded: the recordings.
        pages: addresses of pages; verdicts of other notebooks are left out, and those that do
            not count, see `outcomes.counts`.
    """
    listed = []
    for recording in recorded:
        origin: dict = {"recorded": recording.where, "profile": recording.profile}
        origin["parameters"] = recording.parameters
        for name, content in recording.notebooks.items():
            place = origin | {"notebook": name, "page": f"{name}.html"}
            for verdict in content["verdicts"]:
                if outcomes.counts(verdict) and place["page"] in pages:
                    listed.append(verdict | place)
    return listed


def page_parts(name: str, recorded: Sequence[Recording], report: Path) -> list[dict]:
    """What a notebook's page shows of each recording that has it: `where`, `versions`, `folder`
    (its name), `runs` (the address of its list of networks) and `html`, its figures and verdicts.

    The pictures that it shows are copied into the report. The tables behind them stay in the
    project, or a tenth of the report would be tables that few open.
    """
    parts = []
    for recording in recorded:
        if name not in recording.notebooks:
            continue
        content, place = recording.notebooks[name], f"files/recorded/{recording.folder.name}"
        html = ""
        for figure in content["figures"]:
            picture = recording.folder / f"{figure['name']}.svg"
            _copy(picture, report / place)
            address = f"{place}/{figure['name']}"
            named = figure | {"name": f"{recording.folder.name}-{figure['name']}"}
            named["svg"] = picture.read_text(encoding="utf-8")
            html += figure_html(named, f"{address}.svg", downloads(address, ("svg",)))
        if content["verdicts"]:
            html += verdicts_html(content["verdicts"])
        runs = ""
        if (recording.folder / "runs.csv").exists():
            _copy(recording.folder / "runs.csv", report / place)
            runs = f"{place}/runs.csv"
        part = {"where": recording.where, "versions": recording.versions, "html": html}
        parts.append(part | {"folder": recording.folder.name, "runs": runs})
    return parts


def _copy(source: Path, folder: Path) -> None:
    if not source.exists():
        raise UsageError(
            f"the recording {source.parent} lacks {source.name}: restore it from git or delete it."
        )
    if source.suffix == ".svg":
        try:
            untrusted.check_svg(source.read_text(encoding="utf-8"), source.stem)
        except ValueError as error:  # a UsageError, or no UTF-8
            reason = error if isinstance(error, UsageError) else "it is no text"
            raise UsageError(
                f"{source} is not shown: {reason}; restore it from git or delete it."
            ) from error
    files.write_whole(folder / source.name, lambda path: shutil.copyfile(source, path))
