"""What a reader sees: figures, tables, verdicts, explorers, in JupyterLab and in the report."""

from lsnc_core.show.explorer import EXPLORER_TYPE, Explorer, explorer_html, of_row
from lsnc_core.show.figure import (
    FIGURE_TYPE,
    Drawing,
    Figure,
    FigureCard,
    cards_in,
    downloads,
    figure,
    figure_html,
    svg_image,
    svg_text,
)
from lsnc_core.show.slider import SLIDER_TYPE, slider_html
from lsnc_core.show.tables import (
    CLASSES,
    SIGNS,
    VERDICTS_TYPE,
    Entries,
    Link,
    Table,
    Verdicts,
    badge,
    frame_html,
    scroll_box,
    verdicts_html,
)

__all__ = [
    "CLASSES",
    "EXPLORER_TYPE",
    "FIGURE_TYPE",
    "SIGNS",
    "SLIDER_TYPE",
    "VERDICTS_TYPE",
    "Drawing",
    "Entries",
    "Explorer",
    "Figure",
    "FigureCard",
    "Link",
    "Table",
    "Verdicts",
    "badge",
    "cards_in",
    "downloads",
    "explorer_html",
    "figure",
    "figure_html",
    "frame_html",
    "of_row",
    "scroll_box",
    "slider_html",
    "svg_image",
    "svg_text",
    "verdicts_html",
]
