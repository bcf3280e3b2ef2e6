"""The style of what notebooks show.

It travels inside each output, for JupyterLab has no style sheet of ours; the report, which has one,
takes it out again.
"""

import functools
import re
from pathlib import Path

SHEET = Path(__file__).with_name("outputs.css")


@functools.cache
def _element() -> str:
    """The style sheet as an element without line breaks: it stands before every output."""
    sheet = re.sub(r"/\*.*?\*/", "", SHEET.read_text(encoding="utf-8"))
    return f"<style>{' '.join(sheet.split())}</style>"


def styled(html: str) -> str:
    """HTML of an output with its style, for JupyterLab in light and dark."""
    return _element() + html


def unstyled(html: str) -> str:
    """HTML of an output without the style that `styled` put before it."""
    return re.sub(r"\A<style>.*?</style>", "", html)
