"""A slider over pictures made beforehand: works in a page without a kernel, by mouse, touch and
keyboard.
"""

import html
import json
from collections.abc import Sequence

from lsnc_core.errors import UsageError
from lsnc_core.show.figure import svg_image

# Shows frame number `value` of the enclosing slider and says its label; plain DOM, nothing to load.
_MOVE = (
    "const box=this.closest('.lsnc-frames');"
    "box.querySelectorAll('.lsnc-frame').forEach((frame,i)=>{frame.hidden=i!=this.value});"
    "const said=JSON.parse(box.dataset.labels)[this.value];"
    "box.querySelector('output').textContent=said;this.setAttribute('aria-valuetext',said)"
)


def slider_html(title: str, labels: Sequence[str], svgs: Sequence[str], start: int = 0) -> str:
    """HTML of a range input over SVG frames.

    Args:
        title: what the slider changes, its accessible name.
        labels: one text per frame, shown while that frame is.
        svgs: one SVG text per frame.
        start: the frame shown first.

    Raises:
        UsageError: when there are no frames, or labels and frames differ in number, or start is
            none of them.
    """
    if not svgs or len(labels) != len(svgs) or not 0 <= start < len(svgs):
        raise UsageError(
            f"a slider needs as many labels as frames and a start among them, got {len(labels)}, {len(svgs)} and {start}."
        )
    frames = "".join(
        f'<div class="lsnc-frame"{"" if number == start else " hidden"}>{svg_image(svg, f"{title}: {label}")}</div>'
        for number, (label, svg) in enumerate(zip(labels, svgs, strict=True))
    )
    said = html.escape(labels[start], quote=True)
    return (
        f'<div class="lsnc-frames" data-labels="{html.escape(json.dumps(list(labels)), quote=True)}"><label>{html.escape(title)} '
        f'<input type="range" min="0" max="{len(svgs) - 1}" value="{start}" aria-valuetext="{said}" '
        f'oninput="{html.escape(_MOVE, quote=True)}"></label> '
        f"<output>{said}</output>{frames}</div>"
    )
