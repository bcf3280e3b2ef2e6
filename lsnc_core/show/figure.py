"""Figures: a drawing beside the paper's statement of it, with its table and a text alternative."""

import base64
import functools
import html
import io
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from lsnc_core.show import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib import figure as mpl

FIGURE_TYPE = "application/vnd.lsnc.figure+json"


def svg_text(figure: "mpl.Figure") -> str:
    """A matplotlib figure as SVG text without a date: the same figure gives the same bytes."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "lsnc"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def svg_image(svg: str, alt: str, source: str = "") -> str:
    """An HTML image of an SVG: by its address if one is given, else carried inside the page."""
    source = source or "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
    text = html.escape(alt, quote=True)
    return f'<img src="{source}" alt="{text}" style="max-width:100%;height:auto">'


class Figure:
    """A drawing with its card, which displays itself and carries what the report needs.

    Attributes:
        drawing: matplotlib figure.
        table: pandas.DataFrame of every plotted value, offered for download.
        data: what the report reads: name, title, paper (the paper's statement), ours (the caption),
            alt, svg, csv.
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
    ):
        self.drawing, self.table = drawing, table
        self.data = {"name": name, "title": title, "paper": paper, "ours": ours, "alt": alt}
        self.data["svg"] = svg_text(drawing)
        self.data["csv"] = table.to_csv(index=False, float_format="%.9g")

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {
            "text/plain": self.data["alt"],
            "text/html": figure_html(self.data),
            FIGURE_TYPE: self.data,
        }


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
        caption: what to see in it.
        table: pandas.DataFrame of every plotted value.
        title: replaces the card's title if this drawing needs another.
    """

    figure: "mpl.Figure"
    caption: str
    table: "pd.DataFrame"
    title: str = ""


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
            )

        drawn.card = card  # type: ignore[attr-defined]
        return drawn  # type: ignore[return-value]

    return bind


def cards_in(module: ModuleType) -> list[FigureCard]:
    """The cards of a module's figures, in the order of its functions."""
    cards = [getattr(value, "card", None) for value in vars(module).values()]
    return [card for card in cards if isinstance(card, FigureCard)]


def figure_html(data: dict, source: str = "", links: str = "") -> str:
    """A figure with its title and both statements, as HTML.

    Args:
        data: as in `Figure.data`.
        source: the address of its SVG; without one, the picture is carried inside the page.
        links: HTML of download links.
    """
    picture = svg_image("" if source else data["svg"], data["alt"], source)
    title, paper, ours = (html.escape(data[name]) for name in ("title", "paper", "ours"))
    return (
        f'<figure class="lsnc-figure" id="{data["name"]}"><div class="picture">{picture}</div>'
        f"<figcaption><strong>{title}.</strong> "
        f"<span><em>The paper:</em> {paper}</span> <span><em>Here:</em> {ours}</span> {links}"
        "</figcaption></figure>"
    )


def downloads(address: str) -> str:
    """Links to a figure's files; `address` is theirs without the ending."""
    return (
        f'<span class="downloads">Download: <a href="{address}.svg" download>figure (SVG)</a>, '
        f'<a href="{address}.csv" download>table (CSV)</a></span>'
    )
