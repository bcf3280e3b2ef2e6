"""Training runs: described by a `spec`, trained together in a `fleet`, kept in a `store`.

`results` and `tensors` return them, trained where they are missing.
"""

from lsnc_core.runs.execute import choose_device, results, tensors
from lsnc_core.runs.spec import RunSpec
from lsnc_core.runs.store import Store

__all__ = ["RunSpec", "Store", "choose_device", "results", "tensors"]
