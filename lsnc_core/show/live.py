"""Widgets of JupyterLab that leave a readable page behind."""

from typing import TYPE_CHECKING, Any

from lsnc_core.errors import needs_companion

if TYPE_CHECKING:
    import ipywidgets

# JupyterLab writes "model not found" where a saved notebook is opened again and the widgets' kernel
# is gone: an output without elements. It is hidden then, and the page hides while widgets live.
STYLE = """<style>
.jp-OutputArea-output.jupyter-widgets:not(:has(*)) { display: none; }
.jp-OutputArea:has(.jupyter-widgets *) .lsnc-without-kernel { display: none; }
</style>"""


class Live:
    """Widgets, and a page in their place where no kernel runs.

    That is in the report, and in a notebook that was saved and opened again.

    Args:
        box: the widgets.
        page: HTML for readers without a kernel.
    """

    def __init__(self, box: "ipywidgets.Box", page: str):
        self.box, self.page = box, page

    def bundles(self) -> list[dict[str, Any]]:
        """The two outputs by type: the page, then the widgets, which the report drops."""
        page = f'{STYLE}<div class="lsnc-without-kernel">{self.page}</div>'
        widgets = self.box._repr_mimebundle_() | {"text/html": "", "text/plain": ""}
        return [{"text/html": page, "text/plain": ""}, widgets]

    def _ipython_display_(self) -> None:
        needs_companion("widgets", "IPython")
        from IPython.display import display

        for bundle in self.bundles():
            display(bundle, raw=True)
