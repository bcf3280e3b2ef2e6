"""Links in tables: for JupyterLab, and as the report's pages find them."""

import re

from lsnc_core.show import Link, Table


def test_a_link_stands_in_its_cell_and_leads_to_its_notebook():
    rows = [[Link("a <b>", "one.ipynb"), "x & y"], ["plain", Link("two", "two.ipynb")]]
    made = Table(["notebook", "what"], rows)._repr_mimebundle_()
    assert '<td><a href="one.ipynb">a &lt;b&gt;</a></td><td>x &amp; y</td>' in made["text/html"]
    # the report turns exactly this into links between its pages
    assert re.findall(r'<a href="(\w+)\.ipynb"[^>]*>', made["text/html"]) == ["one", "two"]
    assert made["text/plain"] == "notebook | what\na <b> | x & y\nplain | two"
