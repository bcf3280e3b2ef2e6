"""Figures: a drawing beside the paper's statement of it, with its table and a text alternative."""

import base64
import functools
import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from lsnc_core.show import style
from lsnc_core.show.outputs import for_report, styled
from lsnc_core.show.tables import scroll_box, with_minus_signs

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib import figure as mpl

FIGURE_TYPE = "application/vnd.lsnc.figure+json"
DOWNLOADS = {"svg": "figure (SVG)", "pdf": "figure (PDF)", "csv": "table (CSV)"}


def lay_out(figure: "mpl.Figure") -> None:
    """Let a figure's layout engine place its parts as the SVG has them, for good. Otherwise every
    `savefig` draws the figure once more, to find their places.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    engine, canvas, dpi = figure.get_layout_engine(), figure.canvas, figure.dpi
    if engine is not None:
        FigureCanvasSVG(figure)  # with this canvas texts are measured as in an SVG
        engine.execute(figure)
        figure.set_canvas(canvas)
        figure.set_dpi(dpi)  # an SVG's is 72
        figure.set_layout_engine(None)


def svg_text(figure: "mpl.Figure") -> str:
    """A matplotlib figure as SVG text without a date: the same figure gives the same bytes."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "lsnc"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def pdf_bytes(figure: "mpl.Figure") -> bytes:
    """A matplotlib figure as PDF without a date: the same figure gives the same bytes."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"pdf.fonttype": 42}):  # letters that journals take
        figure.savefig(buffer, format="pdf", metadata={"CreationDate": None})
    return buffer.getvalue()


def size_of(svg: str) -> tuple[float, float] | None:
    """The width and the height of a picture in points, by its view box; None without one.

    >>> size_of('<svg viewBox="0 0 540 252.5">'), size_of("<svg>")
    ((540.0, 252.5), None)
    """
    box = re.search(r'viewBox="0 0 (\d+(?:\.\d+)?) (\d+(?:\.\d+)?)"', svg, re.ASCII)
    return (float(box[1]), float(box[2])) if box else None


def is_tall(size: tuple[float, float] | None) -> bool:
    """Whether a picture is at least as high as it is wide; not where its size is not known.

    >>> is_tall((540, 763)), is_tall((540, 252)), is_tall(None)
    (True, False, False)
    """
    return size is not None and size[1] >= size[0]


def svg_image(svg: str, alt: str, source: str = "") -> str:
    """An HTML image of an SVG: by its address if one is given, else carried inside the page."""
    size = size_of(svg)
    # for a style sheet: how many px wide it is with a px a point
    width = f";--points:{size[0]:g}px" if size else ""
    source = source or "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
    text = html.escape(alt, quote=True)
    return f'<img src="{source}" alt="{text}" style="max-width:100%;height:auto{width}">'


class Figure:
    """A drawing with its card, which displays itself and carries what the report needs.

    Attributes:
        drawing: matplotlib figure.
        table: pandas.DataFrame of every plotted value, offered for download.
        data: what the report reads: name, title, paper (the paper's statement), ours (the caption),
            alt, numbers (rows of text, the header first; none without `numbers`), svg, csv.
    """

    def __init__(
        self,
        drawing: "mpl.Figure",
        *,
        name: str,
        title: str,
        paper: str,
        ours: str,
        alt: str,
        table: "pd.DataFrame",
        numbers: "pd.DataFrame | None" = None,
    ):
        self.drawing, self.table = drawing, table
        self.data = {"name": name, "title": title, "paper": paper, "ours": ours, "alt": alt}
        self.data["numbers"] = [] if numbers is None else _rows(numbers)
        lay_out(drawing)
        self.data["svg"] = svg_text(drawing)
        self.data["csv"] = table.to_csv(index=False, float_format="%.9g")

    def carried(self) -> dict[str, Any]:
        """The data with `pdf`, the drawing as PDF in base 64, made only where it is asked for."""
        return self.data | {"pdf": base64.b64encode(pdf_bytes(self.drawing)).decode()}

    def _repr_mimebundle_(self, include=None, exclude=None):
        shown = {"text/plain": self.data["alt"], "text/html": styled(figure_html(self.data))}
        if for_report():
            shown[FIGURE_TYPE] = self.carried()
            del shown[FIGURE_TYPE]["svg"]  # it is in the HTML
        return shown


def carried_figure(bundle: Mapping[str, Any]) -> dict[str, Any] | None:
    """The data that a figure carries for the report, as `Figure.carried` has it; None where an
    output is no figure.

    Args:
        bundle: the output by type.

    Raises:
        ValueError: if its HTML shows no picture.
    """
    if FIGURE_TYPE not in bundle:
        return None
    data = bundle[FIGURE_TYPE]
    if "svg" in data:  # executed by an earlier version
        return data
    picture = re.search(r"data:image/svg\+xml;base64,([\w+/=]+)", bundle["text/html"], re.ASCII)
    if picture is None:
        raise ValueError("a figure without a picture")
    return data | {"svg": base64.b64decode(picture[1]).decode()}


def _rows(table: "pd.DataFrame") -> list[list[str]]:
    """A table as rows of text, its column names first; four digits of what is not whole."""
    rows = [[str(name) for name in table.columns]]
    for values in table.itertuples(index=False):
        rows.append([_cell(one) for one in values])
    return rows


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if value.is_integer() else f"{value:.4g}"


@dataclass(frozen=True)
class FigureCard:
    """What a figure shows, known before it is drawn.

    Attributes:
        name: file name without ending, e.g. "chen-figure-8".
        number: the paper's number, e.g. "Figure 8", or our id, e.g. "F1"; "" if it has neither.
        title: heading of the caption.
        paper: what the paper's figure plots and claims, in our words.
        alt: text alternative.
    """

    name: str
    number: str
    title: str
    paper: str
    alt: str


@dataclass(frozen=True)
class Drawing:
    """What a drawing function returns.

    Attributes:
        figure: matplotlib figure.
        caption: what to see in it, in one sentence; further sentences are folded away.
        table: pandas.DataFrame of every plotted value.
        title: replaces the card's title if this drawing needs another.
        numbers: pandas.DataFrame of the few numbers that belong to the caption, folded away under
            it.
    """

    figure: "mpl.Figure"
    caption: str
    table: "pd.DataFrame"
    title: str = ""
    numbers: "pd.DataFrame | None" = None


class DrawnFigure(Protocol):
    """A function that draws one figure, whose card it carries as `card`."""

    card: FigureCard

    def __call__(self, *arguments: Any, **settings: Any) -> Figure: ...


def figure(
    name: str, *, title: str, paper: str, alt: str, number: str = ""
) -> Callable[[Callable[..., Drawing]], DrawnFigure]:
    """Decorator: makes a function that returns a `Drawing` return the finished `Figure`.

    The function draws under the common style. Arguments: see `FigureCard`.
    """
    card = FigureCard(name, number, title, paper, alt)

    def bind(draw: Callable[..., Drawing]) -> DrawnFigure:
        @functools.wraps(draw)
        def drawn(*arguments: Any, **settings: Any) -> Figure:
            with style.common():
                drawing = draw(*arguments, **settings)
                style.finish(drawing.figure)
            from matplotlib import pyplot

            pyplot.close(drawing.figure)  # or notebooks show it a second time
            return Figure(
                drawing.figure,
                name=name,
                title=drawing.title or title,
                paper=paper,
                ours=drawing.caption,
                alt=alt,
                table=drawing.table,
                numbers=drawing.numbers,
            )

        drawn.card = card  # type: ignore[attr-defined]
        return drawn  # type: ignore[return-value]

    return bind


def cards_in(module: ModuleType) -> list[FigureCard]:
    """The cards of a module's figures, in the order of its functions."""
    cards = [getattr(value, "card", None) for value in vars(module).values()]
    return [card for card in cards if isinstance(card, FigureCard)]


def figure_html(data: dict, source: str = "", links: str = "") -> str:
    """A figure with its title and a sentence on the paper's and one on ours, as HTML; what else is
    to say is folded away.

    Args:
        data: as in `Figure.data`.
        source: the address of its SVG; without one, the picture is carried inside the page.
        links: HTML of download links.
    """
    image = svg_image(data["svg"], data["alt"], source)
    picture = scroll_box(image, f"Picture: {data['title']}", "picture")
    title = html.escape(data["title"])
    lines, folded = "", ""
    for who, text in (("The paper", data["paper"]), ("Here", data["ours"])):
        sentence, rest = split_sentence(with_minus_signs(text))
        lines += f"<span><em>{who}:</em> {html.escape(sentence)}</span> "
        if rest:
            folded += f"<p><em>{who}:</em> {html.escape(rest)}</p>"
    folded += _numbers_html(data)
    if folded:
        summary = "<summary>Numbers and details</summary>"
        lines += f'<details class="numbers">{summary}{folded}</details>'
    return (
        f'<figure class="lsnc-figure" id="{data["name"]}">{picture}'
        f"<figcaption><strong>{title}.</strong> {lines}{links}</figcaption></figure>"
    )


def split_sentence(text: str) -> tuple[str, str]:
    """The first sentence of a text, and the rest.

    >>> split_sentence("lower, e.g. at p = 0.5. 16 networks.")
    ('lower, e.g. at p = 0.5.', '16 networks.')
    """
    end = re.search(r"(?<!e\.g)(?<!i\.e)(?<!\beq)(?<!\bal)(?<!\bcf)\.\s+", text)
    return (text[: end.start() + 1], text[end.end() :]) if end else (text, "")


def _numbers_html(data: dict) -> str:
    """The numbers of a caption as a table; recordings of an earlier version have none."""
    rows = data.get("numbers", [])
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in rows[0])
    body = ""
    for row in rows[1:]:
        body += f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>"
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return scroll_box(table, f"Numbers: {data['title']}")


def downloads(address: str, endings: Sequence[str] = ("svg", "csv")) -> str:
    """Links to a figure's files; `address` is theirs without the ending."""
    links = ", ".join(
        f'<a href="{address}.{ending}" download>{DOWNLOADS[ending]}</a>' for ending in endings
    )
    return f'<span class="downloads">Download: {links}</span>'
