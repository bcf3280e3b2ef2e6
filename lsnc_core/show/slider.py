"""A slider over ready pictures, which works in a page without a kernel, by mouse, touch and
keyboard.
"""

import html
import json
from collections.abc import Sequence

from lsnc_core.errors import UsageError
from lsnc_core.show.figure import svg_image
from lsnc_core.show.tables import scroll_box

SLIDER_TYPE = "application/vnd.lsnc.slider+json"  # the arguments of `slider_html`
# Show frame number `value` of the enclosing slider and its label; plain DOM, nothing to load.
_MOVE = (
    "const box=this.closest('.lsnc-frames');"
    "box.querySelectorAll('.lsnc-frame').forEach((frame,i)=>{frame.hidden=i!=this.value});"
    "const label=JSON.parse(box.dataset.labels)[this.value];"
    "box.querySelector('output').textContent=label;this.setAttribute('aria-valuetext',label)"
)


def slider_html(title: str, labels: Sequence[str], svgs: Sequence[str], start: int = 0) -> str:
    """HTML of a range input over SVG frames.

    Args:
        title: what the slider changes, its accessible name.
        labels: one text per frame, shown with it.
        svgs: one SVG text per frame.
        start: the frame shown first.

    Raises:
        UsageError: if there are no frames, if labels and frames differ in number, or if start is
            not one of them.
    """
    if not svgs or len(labels) != len(svgs) or not 0 <= start < len(svgs):
        raise UsageError(
            "a slider needs as many labels as frames and a start among them, "
            f"got {len(labels)}, {len(svgs)} and {start}."
        )
    frames = ""
    for number, (label, svg) in enumerate(zip(labels, svgs, strict=True)):
        hidden = "" if number == start else " hidden"
        picture = scroll_box(svg_image(svg, f"{title}: {label}"), f"Picture: {label}", "picture")
        frames += f'<div class="lsnc-frame"{hidden}>{picture}</div>'
    listed = html.escape(json.dumps(list(labels)), quote=True)
    label = html.escape(labels[start], quote=True)
    control = (
        f'<input type="range" min="0" max="{len(svgs) - 1}" value="{start}" '
        f'aria-valuetext="{label}" oninput="{html.escape(_MOVE, quote=True)}">'
    )
    return (
        f'<div class="lsnc-frames" data-labels="{listed}">'
        f"<label>{html.escape(title)} {control}</label> <output>{label}</output>{frames}</div>"
    )
