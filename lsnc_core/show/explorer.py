"""Charts with controls: one definition that works in JupyterLab without a network and in the report
without a kernel.

Vega-Lite draws them (Altair makes the specification); Vega, Vega-Lite and Vega-Embed come from
vl-convert-python as one script, which a notebook carries once and a report keeps once.
"""

import functools
import html
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsnc_core import files
from lsnc_core.errors import needs_companion
from lsnc_core.show import style
from lsnc_core.show.outputs import for_report

if TYPE_CHECKING:
    import altair

EXPLORER_TYPE = "application/vnd.lsnc.explorer+json"
ASSETS = Path(__file__).parent / "assets"
DIGITS = 6  # of a number in a table that a page carries
# The explorer that carries Vega in this kernel's notebook: the first one shown, also when its cell
# runs again, so that the saved notebook has Vega once.
_carrier: list[str] = []


@dataclass(frozen=True)
class Explorer:
    """A chart with controls.

    A parameter of the chart called `reading`, a text, is shown below the controls and read out by
    screen readers. Side-by-side panels stand under each other where the page is narrow.

    Attributes:
        name: its id on the page, e.g. "chen-landscape-explorer".
        title: what it shows.
        text: one sentence: what to move and what to see.
        alt: text alternative of the chart.
        chart: Altair chart; its parameters are bound to controls whose `name` is their label.
    """

    name: str
    title: str
    text: str
    alt: str
    chart: "altair.TopLevelMixin"

    @functools.cached_property
    def data(self) -> dict[str, Any]:
        """What the report reads: name, title, text, alt and spec, the Vega-Lite specification."""
        words = {"name": self.name, "title": self.title, "text": self.text, "alt": self.alt}
        return words | {"spec": specification(self.chart, self.alt)}

    def _repr_mimebundle_(
        self, include: Sequence[str] | None = None, exclude: Sequence[str] | None = None
    ) -> dict[str, Any]:
        if not _carrier:
            _carrier.append(self.name)
        scripts = [vega_script()] if self.name in _carrier else []
        scripts.append(asset("explorer.js"))
        parts = [explorer_html(self.data), f"<style>{asset('explorer.css')}</style>"]
        parts += [f"<script>{script}</script>" for script in scripts]
        shown = {"text/plain": self.alt, "text/html": "\n".join(parts)}
        return shown | ({EXPLORER_TYPE: self.data} if for_report() else {})


def specification(chart: "altair.TopLevelMixin", alt: str) -> dict[str, Any]:
    """The Vega-Lite specification of a chart under the common style, its tables rounded.

    Args:
        chart: Altair chart.
        alt: its text alternative.

    Raises:
        UsageError: without the extra `companion`.
    """
    needs_companion("an explorer", "altair", "vl_convert")
    import altair

    with altair.data_transformers.enable("default", max_rows=None):
        spec = chart.to_dict()
    spec["description"] = alt
    spec["config"] = style.chart_config()
    tables = {}
    for name, rows in spec.get("datasets", {}).items():
        tables[name] = list(map(_rounded, rows))
    return spec | ({"datasets": tables} if tables else {})


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    """A table's row with `DIGITS` digits of its numbers."""
    short = dict(row)
    for name, value in row.items():
        if isinstance(value, float):
            short[name] = float(f"{value:.{DIGITS}g}")
    return short


def of_row(expression: str, names: Collection[str]) -> str:
    """A Vega expression over parameters as one in which some of them are fields of a row; texts in
    it must not contain their names.

    >>> of_row("exp(p) + q", ["p"])
    'exp(datum.p) + q'
    """
    fields = "|".join(map(re.escape, names))
    return re.sub(rf"\b({fields})\b", r"datum.\1", expression)


def explorer_html(data: dict[str, Any]) -> str:
    """An explorer as HTML; `explorer.js` and Vega bring it to life.

    Args:
        data: as in `Explorer.data`.
    """
    title, text = html.escape(data["title"]), html.escape(data["text"])
    alt = html.escape(data["alt"], quote=True)
    # "</script" would end the script element early, "<!--<script" too late
    spec = json.dumps(data["spec"], separators=(",", ":")).replace("<", "\\u003c")
    label = html.escape(f"Chart: {data['title']}", quote=True)
    return (
        f'<figure class="lsnc-explorer" id="{html.escape(data["name"])}">'
        f"<figcaption><strong>{title}.</strong> {text}</figcaption>"
        '<div class="controls"></div><output></output>'
        f'<div class="chart" tabindex="0" role="region" aria-label="{label}"><p>{alt}</p></div>'
        f'<script type="application/json">{spec}</script></figure>'
    )


def asset(name: str) -> str:
    """The text of a file beside this module that pages need: explorer.js or explorer.css."""
    return (ASSETS / name).read_text(encoding="utf-8")


@functools.cache
def vega_script() -> str:
    """Vega, Vega-Lite and Vega-Embed as one classic script, which sets `window.vegaEmbed`.

    Bundling takes up to a minute, so the outputs folder keeps the script.

    Raises:
        UsageError: without the extra `companion`, or if the folder cannot be written.
    """
    needs_companion("an explorer", "altair", "vl_convert")
    version = metadata.version("vl-convert-python")
    kept = files.outputs_root() / "cache" / f"vega-bundle-{version}.js"
    if not kept.exists():
        import vl_convert

        # a scope of its own: the bundle's names would be global otherwise
        script = "(() => {\n" + vl_convert.javascript_bundle() + "\n})();\n"
        files.write_whole(kept, lambda path: path.write_text(script, encoding="utf-8"))
    return kept.read_text(encoding="utf-8")
