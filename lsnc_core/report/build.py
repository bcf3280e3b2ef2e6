"""From executed notebooks to the HTML report: a page each, and an index with the verdicts and the
provenance.

Everything a page needs lies beside it under relative addresses, so the folder opens from disk with
the network off.
"""

import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from lsnc_core import files, profiles, provenance
from lsnc_core.data_sources import SOURCES
from lsnc_core.papers.claims import OURS
from lsnc_core.report import record, schedule, show
from lsnc_core.report.catalog import Notebook

TEMPLATES = Path(__file__).parent / "templates"
WIDGET_TYPE = "application/vnd.jupyter.widget-view+json"


def build(
    folder: Path, profile: str, notebooks: Sequence[Notebook], failures: dict[str, str], runs
) -> Path:
    """Write the report of one profile.

    Args:
        folder: the profile's outputs; executed notebooks are read from `notebooks/` in it, the
            report goes to `report/`.
        profile: its name.
        notebooks: those to show, in order; one that has not been executed is left out.
        failures: one sentence for each notebook of this run that failed.
        runs: pandas.DataFrame of the networks behind this run's notebooks at their last epoch, with
            provenance columns; may be empty. Those behind pages of earlier runs are taken over from
            the report that is there.

    Returns:
        The path of the index page.

    Raises:
        UsageError: when the folder cannot be written, or an executed notebook or a recording cannot
            be read.
    """
    import jinja2

    report = folder / "report"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    navigation, bodies, verdicts = [], {}, []
    for notebook in notebooks:
        source = folder / "notebooks" / f"{notebook.name}.ipynb"
        if source.exists():
            page = f"{notebook.name}.html"
            bodies[notebook.name], figures, found = _convert(source, report)
            navigation.append(
                {
                    "name": notebook.name,
                    "page": page,
                    "title": notebook.title,
                    "paper": notebook.paper,
                    "shows": notebook.shows,
                    "figures": figures,
                }
            )
            verdicts += [row | {"page": page} for row in found]
    tallies = {"All": Counter(row["outcome"] for row in verdicts)}
    for row in _in_order(verdicts):
        tallies.setdefault(row["paper"], Counter())[row["outcome"]] += 1
    recorded = record.recordings()
    verdicts = _in_order(record.beside(verdicts, recorded, profile))
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    shared = {
        "profile": profile,
        "profile_text": profiles.PROFILES[profile],
        "navigation": navigation,
        "made": made,
        "provenance": provenance.describe(),
    }
    pages = [entry["page"] for entry in navigation]
    for entry in navigation:
        note = (
            f"This page is of an earlier run: {failures[entry['name']]}"
            if entry["name"] in failures
            else ""
        )
        parts = [
            part | {"html": _trusted(part["html"])}
            for part in record.page_parts(entry["name"], recorded, report)
        ]
        page = environment.get_template("page.html.j2").render(
            shared,
            page=entry["page"],
            title=entry["title"],
            note=note,
            body=_trusted(_link_pages(bodies[entry["name"]], pages)),
            recorded=parts,
        )
        _write(report / entry["page"], page)
    runs = _with_earlier(runs, folder, [entry["name"] for entry in navigation])
    index = environment.get_template("index.html.j2").render(
        shared,
        page="index.html",
        title="Report",
        note="",
        failures=[{"name": name, "sentence": sentence} for name, sentence in failures.items()],
        verdicts=_trusted(show.verdicts_html(verdicts)) if verdicts else "",
        tallies=tallies,
        signs=show.SIGNS,
        classes=show.CLASSES,
        recordings=recorded,
        facts=_facts(runs)
        | {part.where[0].upper() + part.where[1:]: part.versions for part in recorded},
    )
    _write(report / "index.html", index)
    _write(report / "files" / "runs.csv", runs.to_csv(index=False, float_format="%.9g"))
    _assets(report / "assets")
    return report / "index.html"


def _in_order(rows: Sequence[dict]) -> list[dict]:
    """Verdicts by paper, in the order of the notebooks, our own last, and by the number in the
    claim's id; those on one claim together, as they came.
    """
    papers, first = {}, {}
    for number, row in enumerate(rows):
        papers.setdefault(row["paper"], number)
        first.setdefault((row["id"], row["sentence"], row["expected"]), number)

    def place(row: dict) -> tuple:
        number = [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", row["id"])]
        return (
            row["paper"] == OURS,
            papers[row["paper"]],
            number,
            first[row["id"], row["sentence"], row["expected"]],
        )

    return sorted(rows, key=place)


def _trusted(text: str):
    """HTML that this package made, exempt from escaping in templates."""
    import markupsafe

    return markupsafe.Markup(text)


def _write(path: Path, text: str) -> None:
    files.write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def _convert(source: Path, report: Path) -> tuple[str, list[dict], list[dict]]:
    """An executed notebook's page body, its figures (also written as SVG and CSV files), and its
    verdicts.
    """
    from nbconvert import HTMLExporter

    notebook = show.read(source)
    figures, verdicts = show.carried(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            # progress is for those who wait; the executed notebook keeps it
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    for output in show.outputs(notebook):
        bundle = output.get("data", {})
        bundle.pop(show.VERDICTS_TYPE, None)
        if show.FIGURE_TYPE in bundle:
            data = bundle.pop(show.FIGURE_TYPE)
            for ending in ("svg", "csv"):
                _write(report / "files" / f"{data['name']}.{ending}", data[ending])
            address = f"files/{data['name']}"
            bundle["text/html"] = show.figure_html(data, f"{address}.svg", show.downloads(address))
        if WIDGET_TYPE in bundle and "text/html" in bundle:
            # a live widget is dead without a kernel; its own HTML stands in
            del bundle[WIDGET_TYPE]
    notebook.metadata.pop("widgets", None)
    exporter = HTMLExporter(
        template_name="notebook",
        extra_template_basedirs=[str(TEMPLATES)],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
        embed_images=True,
    )
    body, _ = exporter.from_notebook_node(notebook)
    return body, figures, verdicts


def _link_pages(body: str, pages: Sequence[str]) -> str:
    """Links between notebooks as links between pages; a notebook that this report has no page of is
    named without a link.
    """

    def link(match: re.Match) -> str:
        return f'<a href="{match[1]}.html">' if f"{match[1]}.html" in pages else "<a>"

    return re.sub(r'<a href="(\w+)\.ipynb"[^>]*>', link, body)


def _with_earlier(runs, folder: Path, shown: Sequence[str]):
    """`runs`, and those rows of the earlier report's list that stand behind a page which this run
    left as it was.
    """
    import pandas as pd

    try:
        earlier = pd.read_csv(
            folder / "report" / "files" / "runs.csv", dtype=str, keep_default_na=False
        )
        earlier = earlier.astype({"seconds": float, "seed": int})
    except (OSError, ValueError, KeyError):  # none, empty or damaged
        return runs
    behind = {
        run
        for name in shown
        for run in schedule.remembered(folder / "notebooks" / f"{name}.json").get("runs", [])
    }
    earlier = earlier[earlier.run.isin(behind - set(runs.run if len(runs) else []))]
    return pd.concat([part for part in (runs, earlier) if len(part)]) if len(earlier) else runs


def _facts(runs) -> dict[str, str]:
    """The provenance table: this machine, the versions, and what was trained where."""
    here = provenance.describe()
    facts = {
        "Made on": f"{here['processor']}, {here['cores']} cores, {here['accelerator'] or 'no accelerator'}, {here['system']}",
        "Commit": here["commit"],
        "Versions": ", ".join(f"{name} {version}" for name, version in here["versions"].items()),
    }
    if len(runs):
        facts["Networks"] = (
            f"{len(runs)}, trained in {runs.seconds.sum():.0f} process-seconds; seeds {', '.join(map(str, sorted(runs.seed.unique())))}"
        )
        facts["Trained on"] = "; ".join(sorted(set(runs.device + ": " + runs.hardware)))
        facts["Training commits"] = ", ".join(sorted(set(runs.commit)))
        facts["Data"] = "; ".join(
            f"{SOURCES[name].title}, {SOURCES[name].origin}"
            if name in SOURCES
            else f"a reader's own, {name}"
            for name in sorted(set(runs.data))
        )
    return facts


def _assets(folder: Path) -> None:
    """The style sheet, and MathJax from its package: one copy for all pages."""
    from pygments.formatters import HtmlFormatter

    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    _write(
        folder / "style.css", style + HtmlFormatter(style="default").get_style_defs(".highlight")
    )
    mathjax = resources.files("mathjax") / "static" / "mathjax" / "es5" / "tex-svg.js"
    _write(folder / "mathjax.js", mathjax.read_text(encoding="utf-8"))
