"""The style of what notebooks show, and what they carry for the report.

The style travels inside each output, for JupyterLab has no style sheet of ours; the report, which
has one, takes it out again.
"""

import functools
import os
import re
from pathlib import Path

SHEET = Path(__file__).parent / "assets" / "outputs.css"
# Set for the kernels of the report. It alone reads tables, PDFs and specifications: a notebook that
# you save in JupyterLab holds each picture once, and nothing that it does not show.
FOR_REPORT = "LSNC_FOR_REPORT"


def for_report() -> bool:
    """Whether this is a kernel of the report."""
    return bool(os.environ.get(FOR_REPORT))


@functools.cache
def _element() -> str:
    """The style sheet as an element without line breaks: it stands before every output."""
    sheet = re.sub(r"/\*.*?\*/", "", SHEET.read_text(encoding="utf-8"))
    return f"<style>{' '.join(sheet.split())}</style>"


def styled(html: str) -> str:
    """HTML of an output with its style, for JupyterLab in light and dark."""
    return _element() + html


def unstyled(html: str) -> str:
    """HTML of an output without the styles that it and its parts bring along."""
    return re.sub(r"<style>.*?</style>\s*", "", html, flags=re.DOTALL)
