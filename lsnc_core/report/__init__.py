"""From executed notebooks to the report."""

import sys

# nbformat and altair import jsonschema, which imports this where JupyterLab has brought it along:
# it takes 1.3 s of CPU in every process, to check addresses (IRIs) that no schema here has.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
