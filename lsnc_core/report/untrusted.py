"""What comes out of files that others may have written, made harmless before a page shows it.

An executed notebook or a recording may come from elsewhere. Only HTML that this package makes
from checked data (`Own`) reaches a page as it is; of everything else the markup of texts and tables
stays, and what could run a script, load an address or cover the page is shown as text.
"""

import functools
import re
import secrets
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from lsnc_core.errors import UsageError

TAGS = [
    "a", "abbr", "b", "blockquote", "br", "caption", "code", "col", "colgroup", "dd", "del",
    "details", "div", "dl", "dt", "em", "figcaption", "figure", "h1", "h2", "h3", "h4", "h5",
    "h6", "hr", "i", "kbd", "li", "ol", "p", "pre", "s", "section", "small", "span", "strong",
    "sub", "summary", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "u", "ul",
]  # fmt: skip
OTHER_TAG = re.compile(rf"<(?!/?(?:{'|'.join(TAGS)})[\s/>])", re.I)
EVERYWHERE = ["class", "id", "title", "lang", "dir", "role", "tabindex", "style"]
EVERYWHERE += ["aria-label", "aria-hidden", "data-label", "data-mime-type"]
CELL = ["scope", "colspan", "rowspan", "align"]
ATTRIBUTES = {"*": EVERYWHERE, "a": ["href"], "th": CELL, "td": CELL, "ol": ["start"]}
STYLES = ["text-align", "font-weight", "font-style", "vertical-align", "white-space"]

# what matplotlib's SVG consists of, and the namespaces of what describes it
SVG = "http://www.w3.org/2000/svg"
SHAPES = {
    "svg", "g", "defs", "path", "use", "clipPath", "rect", "image", "text", "tspan", "style",
    "circle", "ellipse", "line", "polyline", "polygon", "linearGradient", "radialGradient",
    "stop", "metadata", "title", "desc", "marker", "pattern",
}  # fmt: skip
DESCRIBING = (
    "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "http://purl.org/dc/elements/1.1/",
    "http://creativecommons.org/ns#",
)
DECLARATION = re.compile(
    r"<\?xml\s+version=\"1\.0\"(\s+encoding=\"utf-8\")?(\s+standalone=\"(yes|no)\")?\s*\?>", re.I
)
NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
# under these names charts load data and pictures, link, or set how they are embedded
ADDRESSES = {"url", "href", "baseURL", "loader", "embedOptions"}
FIGURE_TEXTS = ("name", "title", "paper", "ours", "alt")


class Own:
    """HTML that this package made, kept aside while everything else on the page is cleaned."""

    def __init__(self) -> None:
        # no file can know it, so none can stand in for what is kept
        self._token = secrets.token_hex(16)
        self._kept: list[str] = []

    def keep(self, made: str) -> str:
        """What stands in for it until `put_back`."""
        self._kept.append(made)
        return self._place(len(self._kept) - 1)

    def _place(self, number: int) -> str:
        return f'<div id="{self._token}-{number}"></div>'

    def put_back(self, body: str) -> str:
        """A cleaned body with all that was kept in its place."""
        for number, made in enumerate(self._kept):
            body = body.replace(self._place(number), made)
        return body


@functools.cache
def _cleaner():
    from nbconvert.preprocessors.sanitize import SanitizeHTML

    return SanitizeHTML(tags=TAGS, attributes=ATTRIBUTES, styles=STYLES)


def clean(body: str) -> str:
    """HTML without anything that runs, loads or covers; what is not allowed is shown as text.

    >>> clean('<p onclick="x()">a <a href="javascript:x()">b</a> <script>x()</script></p>')
    '<p>a <a>b</a> &lt;script&gt;x()&lt;/script&gt;</p>'
    """
    # a tag after which HTML is read in another way (<style>, <!--) would take in all that follows
    return _cleaner().sanitize_html_tags(OTHER_TAG.sub("&lt;", body))


def check_svg(text: str, name: str) -> None:
    """Refuse a picture that is more than a drawing: a browser that opens its file runs its scripts.

    Args:
        text: SVG.
        name: of the figure, for the message.

    Raises:
        UsageError: for elements other than matplotlib's, handlers of events, addresses, entities,
            or text that is not XML.
    """
    head = DECLARATION.match(text)
    rest = text[head.end() :] if head else text
    if "<?" in rest or "<!ENTITY" in rest:
        raise _refuse(name, "instructions or entities")
    try:
        root = ElementTree.fromstring(rest)
    except (ElementTree.ParseError, ValueError) as error:
        raise _refuse(name, "text that is not XML") from error
    for element in root.iter():
        space, _, tag = element.tag.rpartition("}")
        if space[1:] not in DESCRIBING and (space[1:] != SVG or tag not in SHAPES):
            raise _refuse(name, f"the element <{tag}>")
        styles = element.text or "" if tag == "style" else ""
        for attribute, value in element.attrib.items():
            _check_attribute(attribute.rpartition("}")[2].lower(), value, name)
            styles += f" {value}"
        # a reference to a part of the drawing is url(#name); "\" would spell it otherwise
        if re.search(r"url\s*\(\s*[\"']?(?!#|[\"'\s])|@import|\\", styles, re.I):
            raise _refuse(name, "an address in a style")


def _check_attribute(attribute: str, value: str, name: str) -> None:
    if attribute.startswith("on"):
        raise _refuse(name, f"the attribute {attribute}")
    if attribute == "href" and not value.startswith(("#", "data:image/png;base64,")):
        raise _refuse(name, "an address")


def _refuse(name: str, what: str) -> UsageError:
    return UsageError(f"its figure {name!r} has {what}, which no drawing of this package has")


def check_figure(data: Mapping[str, Any]) -> None:
    """Refuse what is not as in `Figure.data`, with or without its files.

    Raises:
        UsageError: for a name that is no file's, texts that are none, or as `check_svg`.
    """
    for field in FIGURE_TEXTS:
        if not isinstance(data.get(field), str):
            raise UsageError(f"one of its figures has no text called {field!r}")
    name = data["name"]
    if not NAME.fullmatch(name):
        raise UsageError(f"{name[:80]!r} is no name of a figure")
    rows = data.get("numbers", [])
    if not all(isinstance(row, list) and all(map(_is_text, row)) for row in rows):
        raise UsageError(f"the numbers of its figure {name!r} are no rows of texts")
    for ending in ("svg", "csv", "pdf"):
        if not _is_text(data.get(ending, "")):
            raise UsageError(f"the {ending} of its figure {name!r} is no text")
    if "svg" in data:
        check_svg(data["svg"], name)


def check_explorer(data: Mapping[str, Any]) -> None:
    """Refuse what is not as in `Explorer.data`: a chart of its own tables, with no address in it.

    What a chart computes, Vega interprets in a language without access to the page.

    Raises:
        UsageError: for a name that is no file's, texts that are none, or a chart that loads or
            links to something.
    """
    for field in ("name", "title", "text", "alt"):
        if not isinstance(data.get(field), str):
            raise UsageError(f"one of its explorers has no text called {field!r}")
    name = data["name"]
    if not NAME.fullmatch(name) or not isinstance(data.get("spec"), dict):
        raise UsageError(f"{name[:80]!r} is no explorer")
    waiting: list[Any] = [data["spec"]]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            named = ADDRESSES.intersection(part)
            if named:
                raise UsageError(f"its explorer {name!r} has an address ({min(named)})")
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def _is_text(value: object) -> bool:
    return isinstance(value, str)
